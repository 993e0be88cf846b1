use super::*;
use crate::channel::release::tests::release;
use crate::engine::reboot::REBOOT_BUSY;
use crate::testing::Utc;
use proptest::prelude::*;

fn at(seconds: u64) -> Now {
    Now { unix: 1_795_676_400 + seconds, since_boot: 100 + seconds, random: CHECK_FUZZ }
}

fn config(text: &str) -> Config {
    Config::from_files(&[("update.conf".to_owned(), format!("SERVER=http://a,http://b\n{text}"))], &Utc)
}

fn machine(text: &str) -> Machine {
    let mut machine = Machine::new(Saved::default(), config(text), at(0));
    machine.handle(at(0), Event::Started { pending: None });
    machine
}

fn found(version: &str, root: u8) -> Event {
    let mut release = release(version);
    release.root_hash = [root; 32];
    Event::Checked(Ok(Some(Box::new(release))))
}

fn staged(version: &str, root: u8) -> Staged {
    Staged {
        version: version.to_owned(),
        root_hash: hex(&[root; 32]),
        slot_bytes: 4096,
        applied: false,
        boot: None,
    }
}

fn failure(trouble: Trouble) -> Failure {
    Failure { trouble, kind: "test", message: "it broke".to_owned() }
}

fn job(effects: &[Effect]) -> Option<&Job> {
    effects.iter().find_map(|effect| match effect {
        Effect::Begin(job) => Some(job),
        _ => None,
    })
}

/// By hand, all the way to the reboot.
fn update(machine: &mut Machine) {
    let effects = machine.command(at(1), Command::Update { goal: Goal::Apply }).unwrap();
    assert_eq!(job(&effects), Some(&Job::Check { server: 0, waits_its_turn: false }));
    assert_eq!(machine.phase().name(), "UPDATE_STATUS_CHECKING_FOR_UPDATE");
    let effects = machine.handle(at(2), found("1.1.0", 1));
    assert!(matches!(job(&effects), Some(Job::Download { server: 0, .. })));
    assert_eq!(machine.phase().name(), "UPDATE_STATUS_DOWNLOADING");
    machine.handle(at(3), Event::Verifying);
    assert_eq!(machine.phase().name(), "UPDATE_STATUS_VERIFYING");
    let effects = machine.handle(at(4), Event::Downloaded(Ok(staged("1.1.0", 1))));
    assert_eq!((job(&effects), machine.phase()), (Some(&Job::Apply), Phase::Finalizing));
    machine.handle(at(5), Event::Applied(Ok(staged("1.1.0", 1))));
    assert_eq!(machine.phase().name(), "UPDATE_STATUS_UPDATED_NEED_REBOOT");
}

#[test]
fn an_update_passes_the_states_of_container_linux() {
    let mut machine = machine("REBOOT_STRATEGY=off");
    update(&mut machine);
    assert_eq!(machine.reboot_at(), None);
    let history: Vec<_> = machine.saved().history.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(history, ["download", "apply"]);
    // A new engine after a crash finds it in the table.
    let mut again = Machine::new(machine.saved().clone(), config(""), at(9));
    again.handle(at(9), Event::Started { pending: Some(Staged { applied: true, ..staged("1.1.0", 1) }) });
    assert_eq!(again.phase(), Phase::NeedReboot);
    // After the reboot nothing is pending any more.
    let mut rebooted = Machine::new(again.saved().clone(), config(""), at(0));
    rebooted.handle(at(0), Event::Started { pending: None });
    assert_eq!((rebooted.phase(), &rebooted.saved().staged), (Phase::Idle, &None));
}

#[test]
fn the_strategy_and_its_window_decide_about_the_reboot() {
    // Now is 07:00, the reboot is due five minutes after the update is staged.
    let cases = [
        ("REBOOT_STRATEGY=reboot", Some(300)),
        ("", Some(300)),
        ("REBOOT_STRATEGY=off", None),
        ("LOCKSMITHD_REBOOT_WINDOW_START=8:00\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1h", Some(3600 - 5)),
    ];
    for (text, wait) in cases {
        let mut machine = machine(text);
        update(&mut machine);
        assert_eq!(machine.reboot_at().map(|at| at - 105), wait, "{text}");
        if let Some(wait) = wait {
            // A check that is due goes on beside it, and holds the reboot up while it runs.
            let before = machine.handle(at(5 + wait - 1), Event::Tick);
            assert!(!before.contains(&Effect::Reboot), "{text}");
            if job(&before).is_some() {
                assert!(machine.handle(at(5 + wait), Event::Tick).is_empty(), "{text}");
                machine.handle(at(5 + wait), Event::Checked(Ok(None)));
            }
            let due = machine.reboot_at().map_or(0, |at| at - 100);
            assert!(due <= 5 + wait + REBOOT_BUSY);
            assert!(machine.handle(at(due), Event::Tick).contains(&Effect::Reboot), "{text}");
        }
    }
}

#[test]
fn with_a_lock_the_machine_reboots_when_it_has_it_and_the_window_is_still_open() {
    for strategy in ["etcd-lock", "best-effort"] {
        // Now is 07:00.
        let window = "REBOOT_WINDOW_START=7:00\nREBOOT_WINDOW_LENGTH=1h";
        let mut machine = machine(&format!("REBOOT_STRATEGY={strategy}\n{window}"));
        update(&mut machine);
        let asked = machine.handle(at(305), Event::Tick);
        assert!(asked.contains(&Effect::TakeLock) && !asked.contains(&Effect::Reboot), "{asked:?}");
        let waits = || Event::Lock(LockNews::Waits("others have it".to_owned()));
        assert_eq!(machine.handle(at(310), waits()), [Effect::Say("others have it".to_owned())]);
        assert!(machine.handle(at(320), waits()).is_empty(), "told once");
        assert_eq!(machine.lock(), &LockState::Asked(Some("others have it".to_owned())));

        // It comes in time.
        let mut lucky =
            Machine { saved: machine.saved.clone(), config: machine.config.clone(), ..self::machine("") };
        (lucky.phase, lucky.lock) = (Phase::NeedReboot, LockState::Asked(None));
        assert_eq!(lucky.handle(at(3590), Event::Lock(LockNews::Won)), [Effect::Drain]);
        assert!(lucky.lock().waits_for().unwrap().contains("moving units"));
        let mut slow =
            Machine { saved: lucky.saved.clone(), config: lucky.config.clone(), ..self::machine("") };
        (slow.phase, slow.lock) = (Phase::NeedReboot, LockState::Drains);
        assert_eq!(lucky.handle(at(3595), Event::Lock(LockNews::Drained)), [Effect::TakeLock]);
        let mut robbed =
            Machine { saved: lucky.saved.clone(), config: lucky.config.clone(), ..self::machine("") };
        (robbed.phase, robbed.lock) = (Phase::NeedReboot, LockState::Confirms);
        assert_eq!(robbed.handle(at(3596), waits()), [Effect::Undrain, Effect::LeaveLock]);
        assert!(lucky.handle(at(3600), Event::Lock(LockNews::Won)).contains(&Effect::Reboot));
        // The window closes while units move: they may come back, and nothing is left of it.
        assert_eq!(
            slow.handle(at(3601), Event::Lock(LockNews::Drained)),
            [Effect::Undrain, Effect::LeaveLock]
        );
        assert_eq!((slow.lock(), slow.reboot_at()), (&LockState::Rest, Some(100 + 86_400)));
        assert!(slow.handle(at(3602), Event::Lock(LockNews::Drained)).is_empty());

        // It comes too late: it is given back, and asked for again tomorrow.
        let late = machine.handle(at(3601), Event::Lock(LockNews::Won));
        assert!(late.contains(&Effect::LeaveLock) && !late.contains(&Effect::Reboot), "{late:?}");
        let again = machine.reboot_at().unwrap() - 100;
        assert_eq!(again, 86_400);
        assert!(machine.handle(at(again), Event::Tick).contains(&Effect::TakeLock));
    }
}

#[test]
fn a_lock_that_is_of_no_use_any_more_is_left() {
    let asked = || {
        let mut machine =
            machine("REBOOT_STRATEGY=etcd-lock\nREBOOT_WINDOW_START=7:00\nREBOOT_WINDOW_LENGTH=1h");
        update(&mut machine);
        assert!(machine.handle(at(305), Event::Tick).contains(&Effect::TakeLock));
        machine
    };
    // A check of the channel in between changes nothing; a lock that comes during it is left, and asked for again.
    let mut machine = asked();
    let checks = machine.handle(at(2710), Event::Tick);
    assert!(job(&checks).is_some() && !checks.contains(&Effect::LeaveLock), "{checks:?}");
    assert!(machine.handle(at(2711), Event::Lock(LockNews::Won)).contains(&Effect::LeaveLock));
    assert_eq!(machine.reboot_at(), Some(100 + 2741));
    machine.handle(at(2712), Event::Checked(Ok(None)));
    assert!(machine.handle(at(2741), Event::Tick).contains(&Effect::TakeLock));
    // The window closes while others have it.
    let mut machine = asked();
    assert!(machine.handle(at(3601), Event::Tick).contains(&Effect::LeaveLock));
    assert_eq!((machine.lock(), machine.reboot_at()), (&LockState::Rest, Some(100 + 86_400)));
    // The owner changes his mind.
    for command in [Command::Pause, Command::Reset] {
        let mut machine = asked();
        assert!(machine.command(at(400), command).unwrap().contains(&Effect::LeaveLock));
        let won = machine.handle(at(401), Event::Lock(LockNews::Won));
        assert_eq!(won, [Effect::LeaveLock], "it was on its way");
    }
    // There is a newer release.
    let mut machine = asked();
    machine.command(at(400), Command::Update { goal: Goal::Apply }).unwrap();
    assert!(machine.handle(at(401), found("1.2.0", 2)).contains(&Effect::LeaveLock));
    let mut machine = asked();
    let changed = machine.handle(at(400), Event::Configured(Box::new(config("REBOOT_STRATEGY=off"))));
    assert_eq!((changed, machine.reboot_at()), (vec![Effect::LeaveLock], None));
    let mut machine = asked();
    let hold = Advice { hold: true, reason: None, ask_again_seconds: None };
    assert!(machine.handle(at(400), Event::Advised(hold)).contains(&Effect::LeaveLock));
}

#[test]
fn a_stopped_locksmithd_reboots_nothing() {
    let mut machine = machine("");
    update(&mut machine);
    let stopped = Config { stopped: true, ..config("") };
    machine.handle(at(6), Event::Configured(Box::new(stopped)));
    assert_eq!(machine.reboot_at(), None);
    machine.handle(at(7), Event::Configured(Box::new(config(""))));
    assert_eq!(machine.reboot_at(), Some(107 + 300));
}

#[test]
fn a_pause_stops_what_goes_by_itself_and_not_what_is_asked_for() {
    let mut machine = machine("");
    update(&mut machine);
    assert!(machine.reboot_at().is_some());
    machine.command(at(6), Command::Pause).unwrap();
    assert_eq!(machine.reboot_at(), None);
    assert!(machine.handle(at(100_000), Event::Tick).is_empty(), "no check either");
    machine.command(at(100_001), Command::Resume).unwrap();
    assert!(machine.reboot_at().is_some());
    let mut paused = self::machine("");
    paused.command(at(1), Command::Pause).unwrap();
    update(&mut paused);
}

#[test]
fn a_line_that_fails_is_tried_again_then_the_other_mirror_then_it_rests() {
    let mut machine = machine("");
    machine.command(at(1), Command::Update { goal: Goal::Apply }).unwrap();
    machine.handle(at(2), found("1.1.0", 1));
    let mut servers = Vec::new();
    let mut now = 3;
    for _ in 0..MOST_FAILURES - 1 {
        machine.handle(at(now), Event::Downloaded(Err(failure(Trouble::Transport))));
        assert_eq!(machine.phase(), Phase::Downloading);
        let due = machine.retry_at.unwrap() - 100;
        assert!(due > now && due - now <= 2 * RETRY_MOST);
        let effects = machine.handle(at(due), Event::Tick);
        let Some(Job::Download { server, .. }) = job(&effects) else { panic!("no new try") };
        servers.push(*server);
        now = due + 1;
    }
    assert_eq!(servers, [0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]);
    machine.handle(at(now), Event::Downloaded(Err(failure(Trouble::Transport))));
    assert_eq!(machine.phase(), Phase::Idle);
    assert_eq!(machine.saved().last_error.as_ref().map(|error| error.message.as_str()), Some("it broke"));
    // Bytes that come in count as a line that works.
    machine.command(at(now), Command::Update { goal: Goal::Apply }).unwrap();
    machine.handle(at(now), found("1.1.0", 1));
    machine.handle(at(now), Event::Progress(Progress { fetched: 5, ..Progress::default() }));
    assert_eq!(machine.failures, 0);
}

#[test]
fn a_mirror_that_lies_is_left_at_once() {
    let mut machine = machine("");
    machine.command(at(1), Command::Update { goal: Goal::Apply }).unwrap();
    machine.handle(at(2), found("1.1.0", 1));
    machine.handle(at(3), Event::Downloaded(Err(failure(Trouble::Mirror))));
    let due = machine.retry_at.unwrap() - 100;
    assert!(matches!(job(&machine.handle(at(due), Event::Tick)), Some(Job::Download { server: 1, .. })));
}

#[test]
fn a_newer_release_replaces_a_staged_one_and_the_same_is_not_fetched_again() {
    let mut machine = machine("REBOOT_STRATEGY=off");
    update(&mut machine);
    machine.command(at(10), Command::Update { goal: Goal::Apply }).unwrap();
    let effects = machine.handle(at(11), found("1.1.0", 1));
    assert_eq!((job(&effects), machine.phase()), (None, Phase::NeedReboot));
    machine.command(at(12), Command::Update { goal: Goal::Apply }).unwrap();
    let effects = machine.handle(at(13), found("1.2.0", 2));
    assert!(
        matches!(job(&effects), Some(Job::Download { release, .. }) if release.version.as_str() == "1.2.0")
    );
    assert_eq!(machine.saved().staged, None, "from the first write on the old one is gone");
}

#[test]
fn a_download_without_reboot_waits_for_apply() {
    let mut machine = machine("");
    assert_eq!(machine.command(at(0), Command::ApplyStaged), Err(Refused::NothingStaged));
    machine.command(at(1), Command::Update { goal: Goal::Download }).unwrap();
    machine.handle(at(2), found("1.1.0", 1));
    let effects = machine.handle(at(3), Event::Downloaded(Ok(staged("1.1.0", 1))));
    assert_eq!((job(&effects), machine.phase(), machine.reboot_at()), (None, Phase::Available, None));
    let effects = machine.command(at(4), Command::ApplyStaged).unwrap();
    assert_eq!(job(&effects), Some(&Job::Apply));
    assert!(matches!(machine.command(at(4), Command::Rollback), Err(Refused::Busy(_))));
}

#[test]
fn a_check_only_looks() {
    let mut machine = machine("");
    machine.command(at(1), Command::Update { goal: Goal::Check }).unwrap();
    let effects = machine.handle(at(2), found("1.1.0", 1));
    assert_eq!((job(&effects), machine.phase()), (None, Phase::Available));
    assert_eq!(machine.candidate().map(|release| release.version.as_str()), Some("1.1.0"));
    assert_eq!(machine.saved().last_checked, at(2).unix);
}

#[test]
fn a_reset_takes_the_staged_release_back() {
    let mut machine = machine("");
    update(&mut machine);
    let effects = machine.command(at(6), Command::Reset).unwrap();
    assert_eq!((job(&effects), machine.reboot_at()), (Some(&Job::Withdraw), None));
    machine.handle(at(7), Event::Withdrawn(Ok(())));
    assert_eq!(machine.phase(), Phase::Idle);
}

#[test]
fn what_nobody_can_help_is_left_until_the_next_check() {
    let mut machine = machine("");
    machine.command(at(1), Command::Update { goal: Goal::Apply }).unwrap();
    machine.handle(at(2), found("1.1.0", 1));
    let effects = machine.handle(at(3), Event::Downloaded(Err(failure(Trouble::Final))));
    assert!(effects.contains(&Effect::Report) && machine.retry_at.is_none());
    assert_eq!(machine.phase(), Phase::Idle);
    assert_eq!(machine.saved().history.last().unwrap().version.as_deref(), Some("1.1.0"));
}

#[test]
fn checks_come_by_themselves_and_wait_their_turn() {
    let mut machine = machine("");
    let due = machine.next_tick() - 100;
    assert_eq!(due, FIRST_CHECK);
    let effects = machine.handle(at(due), Event::Tick);
    assert_eq!(job(&effects), Some(&Job::Check { server: 0, waits_its_turn: true }));
    machine.handle(at(due), Event::Checked(Ok(None)));
    assert_eq!(machine.next_tick() - 100, due + CHECK_EVERY);
    let mut held = self::machine("");
    held.handle(at(1), Event::Advised(Advice { hold: true, reason: None, ask_again_seconds: None }));
    assert!(held.handle(at(due), Event::Tick).is_empty());
    let mut off = Machine::new(Saved::default(), Config::from_files(&[], &Utc), at(0));
    assert!(off.handle(at(due), Event::Tick).is_empty());
    assert_eq!(off.command(at(1), Command::Update { goal: Goal::Check }), Err(Refused::NoServer));
}

/// Found by the histories below: a machine whose units were on their way asked once more, and forgot them.
#[test]
fn a_reboot_that_is_planned_again_does_not_begin_anew() {
    let mut machine = machine("REBOOT_STRATEGY=etcd-lock");
    update(&mut machine);
    let due = machine.reboot_at().unwrap();
    assert!(machine.handle(at(due), Event::Tick).contains(&Effect::TakeLock));
    // Meanwhile the channel is looked at in vain, and the release applied once more by hand.
    machine.command(at(due + 1), Command::Update { goal: Goal::Check }).unwrap();
    machine.handle(at(due + 2), Event::Checked(Err(failure(Trouble::Transport))));
    machine.command(at(due + 3), Command::ApplyStaged).unwrap();
    machine.handle(at(due + 4), Event::Applied(Ok(staged("1.1.0", 1))));
    assert_eq!(machine.handle(at(due + 5), Event::Lock(LockNews::Won)), [Effect::Drain]);
    let again = machine.reboot_at().unwrap();
    assert!(!machine.handle(at(again), Event::Tick).contains(&Effect::TakeLock));
    assert_eq!(machine.lock(), &LockState::Drains);
}

proptest! {
    /// Whatever happens in whatever order: one job at a time, a tick that is due does something or moves, a drain ends with the reboot
    /// or is taken back, no panic.
    #[test]
    fn random_histories_keep_the_invariants(locks: bool, steps in prop::collection::vec((0_u8..20, 0_u64..5000), 1..60)) {
        let mut machine = machine(if locks { "REBOOT_STRATEGY=etcd-lock" } else { "" });
        let (mut running, mut clock, mut drains) = (None::<Job>, 10, false);
        for (step, pause) in steps {
            clock += pause;
            let now = Now { random: pause, ..at(clock) };
            let trouble = [Trouble::Transport, Trouble::Mirror, Trouble::Final, Trouble::Stopped][usize::from(step % 4)];
            let ended = |running: &Option<Job>| match running {
                Some(Job::Check { .. }) if step == 8 => Event::Checked(Err(failure(trouble))),
                Some(Job::Check { .. }) if step == 9 => Event::Checked(Ok(None)),
                Some(Job::Check { .. }) => found("1.1.0", step % 3),
                Some(Job::Download { .. }) if step < 10 => Event::Downloaded(Err(failure(trouble))),
                Some(Job::Download { .. }) => Event::Downloaded(Ok(staged("1.1.0", step % 3))),
                Some(Job::Withdraw) => Event::Withdrawn(Ok(())),
                Some(_) if step == 8 => Event::Applied(Err(failure(Trouble::Final))),
                Some(_) => Event::Applied(Ok(staged("1.1.0", step % 3))),
                None => Event::Tick,
            };
            let effects = match step {
                0 => machine.command(now, Command::Update { goal: Goal::Apply }).unwrap_or_default(),
                1 => machine.command(now, Command::Rollback).unwrap_or_default(),
                2 => machine.command(now, Command::Reset).unwrap_or_default(),
                3 => machine.command(now, Command::Pause).unwrap_or_default(),
                4 => machine.command(now, Command::Resume).unwrap_or_default(),
                5 => machine.command(now, Command::ApplyStaged).unwrap_or_default(),
                6 | 7 => machine.handle(now, Event::Tick),
                16 => machine.handle(now, Event::Lock(LockNews::Won)),
                17 => machine.handle(now, Event::Lock(LockNews::Drained)),
                18 => machine.handle(now, Event::Lock(LockNews::Waits("others".to_owned()))),
                19 => machine.handle(now, Event::Lock(LockNews::NotNeeded)),
                _ => {
                    let event = ended(&running);
                    if running.take().is_some() || event == Event::Tick { machine.handle(now, event) } else { Vec::new() }
                }
            };
            for effect in effects {
                match effect {
                    Effect::Begin(job) => {
                        prop_assert!(running.is_none(), "{job:?} beside {running:?}");
                        running = Some(job);
                    }
                    Effect::Reboot => {
                        prop_assert!(running.is_none() && machine.phase() == Phase::NeedReboot);
                        drains = false;
                    }
                    Effect::Drain => prop_assert!(!std::mem::replace(&mut drains, true)),
                    Effect::Undrain => prop_assert!(std::mem::take(&mut drains)),
                    _ => {}
                }
            }
            prop_assert_eq!(&machine.running, &running);
            prop_assert_eq!(matches!(machine.lock(), LockState::Drains | LockState::Confirms), drains);
        }
    }
}
