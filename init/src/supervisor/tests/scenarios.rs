//! One claim a test.

use super::world::{Nature, World, service, target};
use crate::supervisor::*;

const OK: ExitStatus = ExitStatus::Code(0);
const BAD: ExitStatus = ExitStatus::Code(1);

fn commands(count: usize) -> Vec<CommandFlags> {
    vec![CommandFlags::default(); count]
}

#[test]
fn a_simple_service_is_up_when_its_process_exists() {
    let mut world = World::new(vec![service("a.service", &[], |_| {})]);
    world.request("a.service", JobKind::Start).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Running);
    assert_eq!(world.finished, [("a.service".to_owned(), JobKind::Start, JobResult::Done)]);
}

#[test]
fn a_notify_service_is_up_when_it_says_so() {
    let mut world = World::new(vec![
        service("a.service", &[], |spec| spec.kind = ServiceType::Notify),
        service("b.service", &[(Edge::Requires, "a.service"), (Edge::After, "a.service")], |_| {}),
    ]);
    world.request("b.service", JobKind::Start).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Start, SubState::Dead));
    world.ready("a.service");
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Running, SubState::Running));
}

#[test]
fn a_notify_service_that_ends_without_a_word_fails_and_takes_its_dependants_along() {
    let mut world = World::new(vec![
        service("a.service", &[], |spec| spec.kind = ServiceType::Notify),
        service("b.service", &[(Edge::Requires, "a.service"), (Edge::After, "a.service")], |_| {}),
    ]);
    world.request("b.service", JobKind::Start).unwrap();
    world.exit_main("a.service", OK);
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Failed, SubState::Dead));
    assert!(world.finished.contains(&("b.service".to_owned(), JobKind::Start, JobResult::Dependency)));
}

#[test]
fn oneshot_commands_run_one_after_the_other_and_the_unit_stays_if_told_to() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.kind = ServiceType::Oneshot;
        spec.remain_after_exit = true;
        spec.commands.insert(Phase::StartPre, commands(1));
        spec.commands.insert(Phase::Start, commands(2));
    })]);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_control("a.service", OK);
    world.exit_main("a.service", OK);
    assert_eq!(world.sub("a.service"), SubState::Start);
    world.exit_main("a.service", OK);
    assert_eq!(world.sub("a.service"), SubState::Exited);
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Dead);
}

#[test]
fn a_oneshot_that_went_well_counts_as_started_although_it_is_dead_again() {
    let mut world = World::new(vec![
        service("a.service", &[], |spec| spec.kind = ServiceType::Oneshot),
        service("b.service", &[(Edge::Requires, "a.service"), (Edge::After, "a.service")], |_| {}),
    ]);
    world.request("b.service", JobKind::Start).unwrap();
    world.exit_main("a.service", OK);
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Dead, SubState::Running));
}

#[test]
fn a_crash_leads_to_a_restart_after_the_delay_and_to_failure_at_the_limit() {
    let mut world = World::new(vec![service("a.service", &[], |spec| spec.restart = Restart::OnFailure)]);
    world.request("a.service", JobKind::Start).unwrap();
    for _ in 0..5 {
        assert_eq!(world.sub("a.service"), SubState::Running);
        world.exit_main("a.service", BAD);
        assert_eq!(world.sub("a.service"), SubState::AutoRestart);
        world.advance(100_000);
    }
    assert_eq!(world.sub("a.service"), SubState::Failed);
    assert_eq!(world.starts[&world.id("a.service")].len(), 5);
}

#[test]
fn a_service_that_was_stopped_by_hand_does_not_come_back() {
    let mut world = World::new(vec![service("a.service", &[], |spec| spec.restart = Restart::Always)]);
    world.request("a.service", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Stop).unwrap();
    world.settle();
    assert_eq!(world.sub("a.service"), SubState::Dead);
}

#[test]
fn etcds_policy_on_abnormal_ignores_exit_codes() {
    let mut world = World::new(vec![service("a.service", &[], |spec| spec.restart = Restart::OnAbnormal)]);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_main("a.service", BAD);
    assert_eq!(world.sub("a.service"), SubState::Failed);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_main("a.service", ExitStatus::Signal { signal: 9, core: false });
    assert_eq!(world.sub("a.service"), SubState::AutoRestart);
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_in_the_end() {
    let mut world = World::new(vec![service("a.service", &[], |_| {})]);
    let unit = world.id("a.service");
    world.nature.insert(unit, Nature::Stubborn);
    world.strays.insert(unit, 3);
    world.request("a.service", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!(world.sub("a.service"), SubState::StopSigterm);
    world.advance(90_000_000);
    assert_eq!(world.sub("a.service"), SubState::Failed);
    assert!(world.alive.is_empty() && world.strays.is_empty());
}

#[test]
fn kill_mode_process_leaves_the_other_processes_alone() {
    let mut world = World::new(vec![service("ssh.service", &[], |spec| spec.kill_mode = KillMode::Process)]);
    let unit = world.id("ssh.service");
    world.strays.insert(unit, 2);
    world.request("ssh.service", JobKind::Start).unwrap();
    world.request("ssh.service", JobKind::Stop).unwrap();
    assert_eq!(world.sub("ssh.service"), SubState::Dead);
    assert_eq!(world.strays[&unit], 2);
}

#[test]
fn stop_order_is_the_reverse_of_start_order() {
    let mut world = World::new(vec![
        service("a.service", &[], |_| {}),
        service("b.service", &[(Edge::After, "a.service"), (Edge::Requires, "a.service")], |_| {}),
    ]);
    let second = world.id("b.service");
    world.nature.insert(second, Nature::Stubborn);
    world.request("b.service", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Running, SubState::StopSigterm));
    world.exit_main("b.service", OK);
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Dead, SubState::Dead));
}

#[test]
fn an_unmet_condition_skips_the_unit_and_holds_nobody_up() {
    let mut first = service("a.service", &[], |_| {});
    first.has_conditions = true;
    let mut world = World::new(vec![
        first,
        service("b.service", &[(Edge::After, "a.service"), (Edge::Requires, "a.service")], |_| {}),
    ]);
    let unit = world.id("a.service");
    world.unmet.push(unit);
    world.request("b.service", JobKind::Start).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Dead, SubState::Running));
    assert!(world.finished.contains(&("a.service".to_owned(), JobKind::Start, JobResult::Unmet)));
}

#[test]
fn a_cycle_of_requirements_is_refused_by_name() {
    let mut world = World::new(vec![
        service("a.service", &[(Edge::Requires, "b.service"), (Edge::After, "b.service")], |_| {}),
        service("b.service", &[(Edge::After, "a.service")], |_| {}),
    ]);
    let error = world.request("a.service", JobKind::Start).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("a.service -> b.service") || text.contains("b.service -> a.service"), "{text}");
}

#[test]
fn a_cycle_is_broken_at_a_unit_that_is_merely_wanted() {
    let mut world = World::new(vec![
        target("top.target", &[(Edge::Wants, "a.service"), (Edge::Wants, "b.service")]),
        service("a.service", &[(Edge::After, "b.service")], |_| {}),
        service("b.service", &[(Edge::After, "a.service")], |_| {}),
    ]);
    world.request("top.target", JobKind::Start).unwrap();
    let up = ["a.service", "b.service"].iter().filter(|name| world.sub(name) == SubState::Running).count();
    assert_eq!((world.sub("top.target"), up), (SubState::Active, 1));
}

#[test]
fn what_is_wanted_and_missing_is_left_out_and_what_is_required_and_missing_is_an_error() {
    let mut world = World::new(vec![
        target("top.target", &[(Edge::Wants, "gone.service"), (Edge::Wants, "needy.service")]),
        service("needy.service", &[(Edge::Requires, "gone.service")], |_| {}),
    ]);
    world.request("top.target", JobKind::Start).unwrap();
    assert_eq!((world.sub("top.target"), world.sub("needy.service")), (SubState::Active, SubState::Dead));
    let error = world.request("needy.service", JobKind::Start).unwrap_err();
    assert_eq!(error, RequestError::NotFound("gone.service".to_owned()));
}

#[test]
fn a_target_waits_for_what_it_wants() {
    let mut specs = vec![
        target("top.target", &[(Edge::Wants, "a.service")]),
        service("a.service", &[], |spec| spec.kind = ServiceType::Notify),
    ];
    specs[1].default_dependencies = true;
    specs.push(target("sysinit.target", &[]));
    specs.push(target("basic.target", &[]));
    let mut world = World::new(specs);
    world.request("top.target", JobKind::Start).unwrap();
    assert_eq!(world.sub("top.target"), SubState::Dead);
    world.ready("a.service");
    assert_eq!(world.sub("top.target"), SubState::Active);
}

#[test]
fn bound_units_go_down_together() {
    let mut world = World::new(vec![
        service("a.service", &[], |_| {}),
        service("b.service", &[(Edge::BindsTo, "a.service"), (Edge::After, "a.service")], |_| {}),
        service("c.service", &[(Edge::Requires, "a.service"), (Edge::After, "a.service")], |_| {}),
    ]);
    world.request("b.service", JobKind::Start).unwrap();
    world.request("c.service", JobKind::Start).unwrap();
    world.exit_main("a.service", OK);
    assert_eq!((world.sub("b.service"), world.sub("c.service")), (SubState::Dead, SubState::Running));
}

#[test]
fn restart_reaches_those_that_require_the_unit() {
    let mut world = World::new(vec![
        service("a.service", &[], |_| {}),
        service("b.service", &[(Edge::Requires, "a.service"), (Edge::After, "a.service")], |_| {}),
    ]);
    world.request("b.service", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Restart).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Running, SubState::Running));
    let starts = |name: &str| world.starts[&world.id(name)].len();
    assert_eq!((starts("a.service"), starts("b.service")), (2, 2));
}

#[test]
fn conflicting_units_replace_each_other() {
    let mut world = World::new(vec![
        service("a.service", &[], |_| {}),
        service("b.service", &[(Edge::Conflicts, "a.service")], |_| {}),
    ]);
    world.request("a.service", JobKind::Start).unwrap();
    world.request("b.service", JobKind::Start).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("b.service")), (SubState::Dead, SubState::Running));
}

#[test]
fn poweroff_stops_everything_first_and_nothing_can_be_started_any_more() {
    let relations = [(Edge::Requires, "shutdown.target"), (Edge::After, "shutdown.target")];
    let mut off = target("poweroff.target", &relations);
    off.default_dependencies = false;
    let mut down = target("shutdown.target", &[]);
    down.default_dependencies = false;
    let mut specs = vec![off, down, target("sysinit.target", &[]), target("basic.target", &[])];
    let mut slow = service("a.service", &[], |spec| spec.restart = Restart::Always);
    slow.default_dependencies = true;
    specs.push(slow);
    let mut world = World::new(specs);
    let unit = world.id("a.service");
    world.nature.insert(unit, Nature::Stubborn);
    world.request("a.service", JobKind::Start).unwrap();
    world.request_mode("poweroff.target", JobKind::Start, Mode::ReplaceIrreversibly).unwrap();
    assert_eq!((world.sub("a.service"), world.power), (SubState::StopSigterm, None));
    assert!(matches!(world.request("a.service", JobKind::Start), Err(RequestError::Irreversible(_))));
    world.advance(90_000_000);
    assert_eq!(world.power, Some(PowerAction::PowerOff));
    world.settle();
    assert_eq!(world.starts[&unit].len(), 1);
}

#[test]
fn a_failed_reload_leaves_the_service_running() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.commands.insert(Phase::Reload, commands(2));
    })]);
    world.request("a.service", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Reload).unwrap();
    world.exit_control("a.service", BAD);
    assert_eq!(world.sub("a.service"), SubState::Running);
    assert!(world.finished.contains(&("a.service".to_owned(), JobKind::Reload, JobResult::Failed)));
}

#[test]
fn a_start_that_takes_too_long_is_ended_and_fails() {
    let mut world = World::new(vec![service("a.service", &[], |spec| spec.kind = ServiceType::Notify)]);
    world.request("a.service", JobKind::Start).unwrap();
    world.advance(90_000_000);
    assert_eq!(world.sub("a.service"), SubState::Failed);
    assert_eq!(world.sup.unit(world.id("a.service")).unwrap().run.result, ServiceResult::Timeout);
}

#[test]
fn extend_timeout_buys_time() {
    let mut world = World::new(vec![service("a.service", &[], |spec| spec.kind = ServiceType::Notify)]);
    world.request("a.service", JobKind::Start).unwrap();
    world.advance(80_000_000);
    let unit = world.id("a.service");
    let from = world.sup.unit(unit).unwrap().run.main.map(|main| main.id);
    let message = Notification::parse(b"EXTEND_TIMEOUT_USEC=60000000\nSTATUS=busy");
    world.event(Event::Notify { unit, from, message });
    world.advance(20_000_000);
    assert_eq!(world.sub("a.service"), SubState::Start);
    world.ready("a.service");
    assert_eq!(world.sup.unit(unit).unwrap().run.status_text, "busy");
}

#[test]
fn a_silent_watchdog_service_is_aborted() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.kind = ServiceType::Notify;
        spec.watchdog = Some(Monotonic::seconds(5));
        spec.restart = Restart::OnWatchdog;
    })]);
    world.request("a.service", JobKind::Start).unwrap();
    world.ready("a.service");
    world.advance(4_000_000);
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.advance(1_000_000);
    assert_eq!(world.sub("a.service"), SubState::AutoRestart);
}

#[test]
fn a_forking_service_is_up_when_its_daemon_is_found() {
    let mut world = World::new(vec![service("a.service", &[], |spec| {
        spec.kind = ServiceType::Forking;
        spec.has_pid_file = true;
    })]);
    world.request("a.service", JobKind::Start).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Start);
    world.exit_control("a.service", OK);
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.exit_main("a.service", OK);
    assert_eq!(world.sub("a.service"), SubState::Dead);
}

#[test]
fn with_direct_restarts_on_failure_comes_once_they_are_used_up() {
    let mut world = World::new(vec![
        service("a.service", &[(Edge::OnFailure, "b.service")], |spec| {
            spec.restart = Restart::OnFailure;
            spec.restart_direct = true;
        }),
        service("b.service", &[], |_| {}),
    ]);
    world.request("a.service", JobKind::Start).unwrap();
    for _ in 0..5 {
        assert_eq!(world.sub("b.service"), SubState::Dead);
        world.exit_main("a.service", BAD);
        world.advance(100_000);
    }
    assert_eq!(world.sub("b.service"), SubState::Running);
}

#[test]
fn isolate_stops_what_the_target_does_not_need() {
    let mut world = World::new(vec![
        target("rescue.target", &[(Edge::Requires, "shell.service")]),
        service("shell.service", &[], |_| {}),
        service("a.service", &[], |_| {}),
    ]);
    world.request("a.service", JobKind::Start).unwrap();
    world.request_mode("rescue.target", JobKind::Start, Mode::Isolate).unwrap();
    assert_eq!((world.sub("a.service"), world.sub("shell.service")), (SubState::Dead, SubState::Running));
}

#[test]
fn a_reload_of_the_files_keeps_running_services_running() {
    let specs = vec![service("a.service", &[], |_| {})];
    let mut world = World::new(specs.clone());
    world.request("a.service", JobKind::Start).unwrap();
    world.sup.forget_files();
    world.sup.add(specs);
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Dead);
}

#[test]
fn a_service_whose_file_is_gone_can_still_be_stopped() {
    let mut world = World::new(vec![service("a.service", &[], |_| {})]);
    world.request("a.service", JobKind::Start).unwrap();
    world.sup.forget_files();
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Dead);
}
