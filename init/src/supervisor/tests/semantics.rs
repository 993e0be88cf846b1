//! Claims of systemd.service(5), systemd.kill(5) and systemd.unit(5), one a test.

use super::world::{Nature, World, service, target};
use crate::supervisor::*;

const OK: ExitStatus = ExitStatus::Code(0);
const BAD: ExitStatus = ExitStatus::Code(1);

fn commands(count: usize) -> Vec<CommandFlags> {
    vec![CommandFlags::default(); count]
}

fn result(world: &World, name: &str) -> ServiceResult {
    world.sup.unit(world.id(name)).unwrap().run.result
}

fn starts(world: &World, name: &str) -> usize {
    world.starts.get(&world.id(name)).map_or(0, Vec::len)
}

fn notify(world: &mut World, name: &str, text: &str) {
    let unit = world.id(name);
    let from = world.sup.unit(unit).unwrap().run.main.map(|main| main.id);
    world.event(Event::Notify { unit, from, message: Notification::parse(text.as_bytes()) });
}

#[test]
fn an_exec_condition_skips_below_255_and_fails_at_it() {
    let with_condition =
        |name: &str| service(name, &[], |spec| drop(spec.commands.insert(Phase::Condition, commands(1))));
    let mut world = World::new(vec![with_condition("a.service"), with_condition("b.service")]);
    for (name, code) in [("a.service", 254), ("b.service", 255)] {
        world.request(name, JobKind::Start).unwrap();
        world.exit_control(name, ExitStatus::Code(code));
    }
    assert_eq!(
        (world.sub("a.service"), result(&world, "a.service")),
        (SubState::Dead, ServiceResult::ExecCondition)
    );
    assert_eq!(
        (world.sub("b.service"), result(&world, "b.service")),
        (SubState::Failed, ServiceResult::ExitCode)
    );
    assert!(world.finished.contains(&("a.service".to_owned(), JobKind::Start, JobResult::Unmet)));
}

#[test]
fn a_command_without_a_process_fails_for_want_of_resources_whatever_its_prefix() {
    let ignoring = CommandFlags { ignore_failure: true };
    for phase in [Phase::StartPre, Phase::Start] {
        let mut world = World::new(vec![service("a.service", &[], |spec| {
            spec.kind = ServiceType::Oneshot;
            spec.commands.insert(phase, vec![ignoring]);
        })]);
        world.request("a.service", JobKind::Start).unwrap();
        let run = &world.sup.unit(world.id("a.service")).unwrap().run;
        let process = run.main.or(run.control).unwrap().id;
        world.alive.remove(&process);
        world.event(Event::SpawnFailed { process, code: None, reason: "no such file".to_owned() });
        world.tell_if_empty(world.id("a.service"));
        assert_eq!(
            (world.sub("a.service"), result(&world, "a.service")),
            (SubState::Failed, ServiceResult::Resources)
        );
        assert_eq!(world.sup.unit(world.id("a.service")).unwrap().run.main_status, None);
        assert_eq!(world.finished.last(), Some(&("a.service".to_owned(), JobKind::Start, JobResult::Failed)));
    }
}

#[test]
fn a_reload_of_what_does_not_exist_is_another_mistake_than_one_of_what_cannot_be_reloaded() {
    let mut world = World::new(vec![service("a.service", &[(Edge::Wants, "gone.service")], |_| {})]);
    let refused = |world: &mut World, name: &str| world.request(name, JobKind::Reload).unwrap_err();
    assert!(matches!(refused(&mut world, "a.service"), RequestError::NoReload(_)));
    assert!(matches!(refused(&mut world, "gone.service"), RequestError::NotFound(_)));
}

#[test]
fn a_restart_by_hand_is_one_as_well_for_what_is_kept_over_restarts() {
    let mut world = World::new(vec![service("a.service", &[], |_| {})]);
    for (kind, kept) in [(JobKind::Start, false), (JobKind::Restart, true), (JobKind::Stop, false)] {
        world.trace.clear();
        world.request("a.service", kind).unwrap();
        assert_eq!(world.trace.iter().any(|line| line == "release a.service for a restart"), kept);
        assert_eq!(world.trace.iter().any(|line| line == "release a.service"), kind == JobKind::Stop);
    }
}

#[test]
fn with_normal_restarts_others_see_every_failure() {
    let mut world = World::new(vec![
        service("a.service", &[(Edge::OnFailure, "b.service")], |spec| spec.restart = Restart::OnFailure),
        service("b.service", &[], |_| {}),
        service("c.service", &[(Edge::BindsTo, "a.service"), (Edge::After, "a.service")], |_| {}),
    ]);
    world.request("c.service", JobKind::Start).unwrap();
    world.exit_main("a.service", BAD);
    assert_eq!(world.sub("a.service"), SubState::AutoRestart);
    assert_eq!((world.sub("b.service"), world.sub("c.service")), (SubState::Running, SubState::Dead));
    assert!(world.sup.unit(world.id("a.service")).unwrap().times.inactive_enter.is_some());
}

#[test]
fn a_start_by_hand_waits_out_the_delay_of_a_restart_and_a_restart_by_hand_does_not() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.restart = Restart::Always;
        spec.restart_delay = Monotonic::seconds(60);
    })]);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_main("a.service", BAD);
    world.request("a.service", JobKind::Start).unwrap();
    assert_eq!(world.sub("a.service"), SubState::AutoRestart);
    world.request("a.service", JobKind::Restart).unwrap();
    assert_eq!((world.sub("a.service"), starts(&world, "a.service")), (SubState::Running, 2));
}

#[test]
fn delays_grow_by_the_same_factor_up_to_the_longest() {
    let spec = ServiceSpec {
        restart_delay: Monotonic::seconds(1),
        restart_steps: 4,
        restart_max_delay: Some(Monotonic::seconds(16)),
        ..ServiceSpec::default()
    };
    let delays: Vec<u64> = (1..8).map(|restart| spec.delay(restart).0 / 1_000_000).collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 16, 16]);
    assert_eq!(ServiceSpec { restart_steps: 0, ..spec }.delay(9), Monotonic::seconds(1));
}

#[test]
fn units_that_require_a_service_are_restarted_with_it_when_it_restarts_itself() {
    let mut world = World::new(vec![
        service("a.service", &[], |spec| {
            spec.restart = Restart::Always;
            spec.restart_direct = true;
        }),
        service("b.service", &[(Edge::Requires, "a.service"), (Edge::After, "a.service")], |_| {}),
    ]);
    world.request("b.service", JobKind::Start).unwrap();
    world.exit_main("a.service", BAD);
    world.advance(100_000);
    assert_eq!((starts(&world, "a.service"), starts(&world, "b.service")), (2, 2));
}

#[test]
fn time_outs_end_a_start_in_the_way_that_is_asked_for() {
    for (mode, signal) in [(TimeoutMode::Terminate, 15), (TimeoutMode::Abort, 6), (TimeoutMode::Kill, 9)] {
        let mut world = World::new(vec![service("a.service", &[], |spec| {
            spec.kind = ServiceType::Notify;
            spec.start_failure_mode = mode;
        })]);
        world.request("a.service", JobKind::Start).unwrap();
        world.advance(90_000_000);
        let status = world.sup.unit(world.id("a.service")).unwrap().run.main_status;
        assert_eq!(status, Some(ExitStatus::Signal { signal, core: false }), "{mode:?}");
        assert_eq!(result(&world, "a.service"), ServiceResult::Timeout);
    }
}

#[test]
fn a_runtime_limit_counts_from_the_moment_it_was_up_reloads_or_not() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.runtime_max = Some(Monotonic::seconds(10));
        spec.commands.insert(Phase::Reload, commands(1));
    })]);
    world.request("a.service", JobKind::Start).unwrap();
    world.advance(6_000_000);
    world.request("a.service", JobKind::Reload).unwrap();
    world.exit_control("a.service", OK);
    world.advance(3_000_000);
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.advance(2_000_000);
    assert_eq!(result(&world, "a.service"), ServiceResult::Timeout);
}

#[test]
fn chance_may_add_to_a_runtime_limit_and_never_takes_away() {
    let mut spans = std::collections::BTreeSet::new();
    for begin in 0..8 {
        let mut world = World::new(vec![service("a.service", &[], |spec| {
            spec.runtime_max = Some(Monotonic::seconds(10));
            spec.runtime_extra = Monotonic::seconds(10);
        })]);
        world.advance(begin * 777_777);
        world.request("a.service", JobKind::Start).unwrap();
        let unit = world.sup.unit(world.id("a.service")).unwrap();
        let (since, deadline) = (unit.times.active_enter.unwrap(), unit.deadline.unwrap());
        let span = deadline.0 - since.0;
        assert!((10_000_000..20_000_000).contains(&span), "{span}");
        spans.insert(span);
    }
    assert!(spans.len() > 4, "{spans:?}");
}

#[test]
fn notify_reload_is_done_when_the_service_says_so_about_this_reload() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.kind = ServiceType::NotifyReload;
        spec.notify_access = NotifyAccess::Main;
        spec.reload_signal = 1;
    })]);
    let unit = world.id("a.service");
    world.nature.insert(unit, Nature::Stubborn);
    world.request("a.service", JobKind::Start).unwrap();
    world.ready("a.service");
    world.request("a.service", JobKind::Reload).unwrap();
    assert_eq!(world.sub("a.service"), SubState::ReloadSignal);
    notify(&mut world, "a.service", "RELOADING=1\nMONOTONIC_USEC=1");
    assert_eq!(world.sub("a.service"), SubState::ReloadSignal); // an older one
    let text = format!("RELOADING=1\nMONOTONIC_USEC={}", world.now.0);
    notify(&mut world, "a.service", &text);
    assert_eq!(world.sub("a.service"), SubState::ReloadNotify);
    notify(&mut world, "a.service", "READY=1");
    assert_eq!(world.sub("a.service"), SubState::Running);
    assert!(world.finished.contains(&("a.service".to_owned(), JobKind::Reload, JobResult::Done)));
}

#[test]
fn a_second_reload_during_the_first_is_done_after_it() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.commands.insert(Phase::Reload, commands(1));
    })]);
    world.request("a.service", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Reload).unwrap();
    world.request("a.service", JobKind::Reload).unwrap();
    world.exit_control("a.service", OK);
    assert_eq!(world.sub("a.service"), SubState::Reload);
    world.exit_control("a.service", OK);
    assert_eq!(world.sub("a.service"), SubState::Running);
    let reloads = world.finished.iter().filter(|(_, kind, _)| *kind == JobKind::Reload).count();
    assert_eq!(reloads, 1);
}

#[test]
fn an_idle_service_holds_nobody_up_and_waits_for_all_others() {
    let mut world = World::new(vec![
        target("top.target", &[(Edge::Wants, "idle.service"), (Edge::Wants, "slow.service")]),
        service("idle.service", &[], |spec| spec.kind = ServiceType::Idle),
        service("slow.service", &[], |spec| spec.kind = ServiceType::Notify),
    ]);
    world.request("top.target", JobKind::Start).unwrap();
    assert_eq!(starts(&world, "idle.service"), 0);
    assert!(world.sup.unit(world.id("idle.service")).unwrap().active().is_up());
    world.ready("slow.service");
    assert_eq!((starts(&world, "idle.service"), world.sub("idle.service")), (1, SubState::Running));
}

#[test]
fn an_idle_service_does_not_wait_longer_than_five_seconds() {
    let mut world = World::new(vec![
        target("top.target", &[(Edge::Wants, "idle.service"), (Edge::Wants, "slow.service")]),
        service("idle.service", &[], |spec| spec.kind = ServiceType::Idle),
        service("slow.service", &[], |spec| spec.kind = ServiceType::Notify),
    ]);
    world.request("top.target", JobKind::Start).unwrap();
    world.advance(5_000_000);
    assert_eq!(world.sub("idle.service"), SubState::Running);
}

#[test]
fn exit_type_cgroup_lives_as_long_as_its_last_process() {
    let mut world = World::new(vec![service("a.service", &[], |spec| spec.exit_cgroup = true)]);
    let unit = world.id("a.service");
    world.strays.insert(unit, 1);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_main("a.service", OK);
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.strays.clear();
    world.tell_if_empty(unit);
    assert_eq!(world.sub("a.service"), SubState::Dead);
}

#[test]
fn want_of_memory_is_dealt_with_by_policy() {
    let cases = [
        (OomPolicy::Continue, SubState::Running),
        (OomPolicy::Stop, SubState::Failed),
        (OomPolicy::Kill, SubState::Failed),
    ];
    for (policy, want) in cases {
        let mut world = World::new(vec![service("a.service", &[], |spec| spec.oom_policy = policy)]);
        world.request("a.service", JobKind::Start).unwrap();
        let unit = world.id("a.service");
        world.event(Event::OutOfMemory { unit });
        assert_eq!(world.sub("a.service"), want, "{policy:?}");
        if want == SubState::Failed {
            assert_eq!(result(&world, "a.service"), ServiceResult::OomKill);
        }
    }
}

#[test]
fn actions_take_the_machine_down() {
    let mut failing = service("a.service", &[], |_| {});
    failing.failure_action = Action::Orderly(PowerAction::Reboot);
    let mut limited = service("b.service", &[], |_| {});
    limited.start_limit_burst = 1;
    limited.start_limit_action = Action::Force(PowerAction::PowerOff);
    let mut world = World::new(vec![failing, limited]);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_main("a.service", BAD);
    assert_eq!(world.acts, [Action::Orderly(PowerAction::Reboot)]);
    for _ in 0..2 {
        world.request("b.service", JobKind::Start).unwrap();
        if world.sub("b.service") == SubState::Running {
            world.exit_main("b.service", OK);
        }
    }
    assert_eq!(world.acts.last(), Some(&Action::Force(PowerAction::PowerOff)));
    // A unit that has failed already can hit its limit once more: the job must not be left hanging.
    world.request("b.service", JobKind::Start).unwrap();
    assert_eq!(world.sup.job_count(), 0);
}

#[test]
fn an_upheld_unit_comes_back_and_an_unneeded_one_goes() {
    let mut needless = service("c.service", &[], |_| {});
    needless.stop_when_unneeded = true;
    let mut world = World::new(vec![
        service("a.service", &[(Edge::Upholds, "b.service"), (Edge::Wants, "c.service")], |_| {}),
        service("b.service", &[], |_| {}),
        needless,
    ]);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_main("b.service", BAD);
    assert_eq!((world.sub("b.service"), starts(&world, "b.service")), (SubState::Running, 2));
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!((world.sub("b.service"), world.sub("c.service")), (SubState::Running, SubState::Dead));
}

#[test]
fn a_unit_that_its_upholder_cannot_keep_up_does_not_keep_the_machine_busy() {
    let mut hopeless = service("b.service", &[], |spec| spec.kind = ServiceType::Oneshot);
    hopeless.start_limit_interval = Monotonic(0);
    let mut world = World::new(vec![service("a.service", &[(Edge::Upholds, "b.service")], |_| {}), hopeless]);
    world.request("a.service", JobKind::Start).unwrap();
    while world.sub("b.service") == SubState::Start {
        world.exit_main("b.service", OK);
    }
    assert!(starts(&world, "b.service") <= 18, "{}", starts(&world, "b.service"));
    let before = starts(&world, "b.service");
    world.advance(10_000_000);
    assert!(starts(&world, "b.service") > before);
}

#[test]
fn job_modes_treat_other_jobs_as_their_names_say() {
    let specs = || {
        vec![
            service("a.service", &[], |spec| spec.kind = ServiceType::Notify),
            service("b.service", &[(Edge::Requires, "c.service"), (Edge::After, "a.service")], |_| {}),
            service("c.service", &[], |_| {}),
        ]
    };
    let mut world = World::new(specs());
    world.request("a.service", JobKind::Start).unwrap();
    let refused = world.request_mode("a.service", JobKind::Stop, Mode::Fail);
    assert_eq!(refused, Err(RequestError::Destructive("a.service".to_owned())));
    world.request_mode("b.service", JobKind::Start, Mode::IgnoreRequirements).unwrap();
    assert_eq!((world.sub("b.service"), world.sub("c.service")), (SubState::Dead, SubState::Dead));
    world.request_mode("c.service", JobKind::Start, Mode::Flush).unwrap();
    assert!(world.finished.contains(&("b.service".to_owned(), JobKind::Start, JobResult::Canceled)));
    assert!(world.finished.contains(&("a.service".to_owned(), JobKind::Start, JobResult::Canceled)));

    let mut world = World::new(specs());
    world.request("a.service", JobKind::Start).unwrap();
    world.request_mode("b.service", JobKind::Start, Mode::IgnoreDependencies).unwrap();
    assert_eq!((world.sub("b.service"), world.sub("c.service")), (SubState::Running, SubState::Dead));
}

#[test]
fn jobs_of_one_unit_merge_into_one_with_the_first_ones_number() {
    let mut world = World::new(vec![
        service("slow.service", &[], |spec| spec.kind = ServiceType::Notify),
        service("a.service", &[(Edge::After, "slow.service")], |spec| {
            spec.commands.insert(Phase::Reload, commands(1));
        }),
    ]);
    world.request("slow.service", JobKind::Start).unwrap();
    let first = world.request("a.service", JobKind::Start).unwrap();
    let second = world.request("a.service", JobKind::Restart).unwrap();
    assert_eq!(first, second);
    assert_eq!(world.sup.unit(world.id("a.service")).unwrap().job.as_ref().unwrap().kind, JobKind::Start);
    let stop = world.request("a.service", JobKind::Stop).unwrap();
    assert_ne!(stop, first);
    assert!(world.finished.contains(&("a.service".to_owned(), JobKind::Start, JobResult::Canceled)));
}

#[test]
fn what_is_only_to_be_tried_is_nothing_for_a_unit_that_is_down() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.commands.insert(Phase::Reload, commands(1));
    })]);
    for kind in [JobKind::TryRestart, JobKind::TryReload] {
        world.request("a.service", kind).unwrap();
        assert_eq!(world.sub("a.service"), SubState::Dead);
    }
    world.request("a.service", JobKind::ReloadOrStart).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.request("a.service", JobKind::ReloadOrStart).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Reload);
    world.exit_control("a.service", OK);
    world.request("a.service", JobKind::TryRestart).unwrap();
    assert_eq!(starts(&world, "a.service"), 2);
}

#[test]
fn a_job_that_takes_too_long_is_given_up() {
    let mut waiting = service("b.service", &[(Edge::After, "a.service")], |_| {});
    waiting.job_timeout = Some(Monotonic::seconds(5));
    waiting.job_timeout_action = Action::Orderly(PowerAction::Reboot);
    let mut world =
        World::new(vec![service("a.service", &[], |spec| spec.kind = ServiceType::Notify), waiting]);
    world.request("a.service", JobKind::Start).unwrap();
    world.request("b.service", JobKind::Start).unwrap();
    world.advance(5_000_000);
    assert!(world.finished.contains(&("b.service".to_owned(), JobKind::Start, JobResult::Timeout)));
    assert_eq!(world.acts, [Action::Orderly(PowerAction::Reboot)]);
}

#[test]
fn a_requisite_that_is_not_up_fails_the_start_even_if_it_is_started_along() {
    let mut world = World::new(vec![
        service("a.service", &[], |spec| spec.kind = ServiceType::Oneshot),
        service("b.service", &[(Edge::Requisite, "a.service"), (Edge::After, "a.service")], |_| {}),
        target("both.target", &[(Edge::Wants, "a.service"), (Edge::Wants, "b.service")]),
    ]);
    world.request("b.service", JobKind::Start).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Dead, SubState::Dead));
    world.request("both.target", JobKind::Start).unwrap();
    world.exit_main("a.service", OK);
    assert_eq!(world.sub("b.service"), SubState::Dead);
}

#[test]
fn reload_and_stop_travel_along_their_own_relations() {
    let mut world = World::new(vec![
        service(
            "a.service",
            &[(Edge::PropagatesReloadTo, "b.service"), (Edge::PropagatesStopTo, "c.service")],
            |spec| drop(spec.commands.insert(Phase::Reload, commands(1))),
        ),
        service("b.service", &[], |spec| drop(spec.commands.insert(Phase::Reload, commands(1)))),
        service("c.service", &[], |_| {}),
    ]);
    for name in ["a.service", "b.service", "c.service"] {
        world.request(name, JobKind::Start).unwrap();
    }
    world.request("a.service", JobKind::Reload).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Reload, SubState::Reload));
    world.exit_control("a.service", OK);
    world.exit_control("b.service", OK);
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!((world.sub("b.service"), world.sub("c.service")), (SubState::Running, SubState::Dead));
}
