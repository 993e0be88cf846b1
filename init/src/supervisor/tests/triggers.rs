//! Sockets, timers, paths, mounts and devices in the simulated world.

use super::world::{World, service, socket, unit};
use crate::supervisor::*;

const OK: ExitStatus = ExitStatus::Code(0);
const BAD: ExitStatus = ExitStatus::Code(1);

fn traffic(world: &mut World, name: &str) {
    let unit = world.id(name);
    if world.sockets.get(&unit) == Some(&true) {
        world.event(Event::Traffic { unit });
    }
}

fn state(world: &World, name: &str) -> (SubState, ServiceResult) {
    (world.sub(name), world.sup.unit(world.id(name)).unwrap().run.result)
}

#[test]
fn traffic_starts_the_service_and_its_end_makes_the_socket_listen_again() {
    let mut world = World::new(vec![socket("a.socket", "a.service"), service("a.service", &[], |_| {})]);
    world.request("a.socket", JobKind::Start).unwrap();
    assert_eq!((world.sub("a.socket"), world.sub("a.service")), (SubState::Listening, SubState::Dead));
    traffic(&mut world, "a.socket");
    assert_eq!((world.sub("a.socket"), world.sub("a.service")), (SubState::Running, SubState::Running));
    world.exit_main("a.service", OK);
    assert_eq!((world.sub("a.socket"), world.sub("a.service")), (SubState::Listening, SubState::Dead));
    world.request("a.socket", JobKind::Stop).unwrap();
    assert_eq!(world.sub("a.socket"), SubState::Dead);
    assert!(world.sockets.is_empty());
}

#[test]
fn a_unit_knows_the_timer_or_path_that_started_it_until_it_is_down() {
    let mut world = World::new(vec![
        unit("a.path", &[(Edge::Triggers, "a.service"), (Edge::Before, "a.service")], TriggerSpec::default()),
        unit(
            "b.timer",
            &[(Edge::Triggers, "a.service"), (Edge::Before, "a.service")],
            TriggerSpec::default(),
        ),
        service("a.service", &[], |_| {}),
    ]);
    let by = |world: &World| world.sup.unit(world.id("a.service")).unwrap().activated_by;
    let (path, timer) = (world.id("a.path"), world.id("b.timer"));
    world.request("a.service", JobKind::Start).unwrap();
    assert_eq!(by(&world), None);
    world.request("a.path", JobKind::Start).unwrap();
    world.event(Event::PathChanged { unit: path });
    assert_eq!(by(&world), None, "it was up already");
    world.exit_main("a.service", OK);
    world.event(Event::PathChanged { unit: path });
    assert_eq!((world.sub("a.service"), by(&world)), (SubState::Running, Some(path)));
    world.exit_main("a.service", OK);
    assert_eq!(by(&world), None);
    world.intervals.insert(timer, Monotonic(1000));
    world.request("b.timer", JobKind::Start).unwrap();
    world.advance(2000);
    assert_eq!((world.sub("a.service"), by(&world)), (SubState::Running, Some(timer)));
}

#[test]
fn a_socket_is_not_watched_while_its_service_runs_and_cannot_be_opened_then() {
    let mut world = World::new(vec![socket("a.socket", "a.service"), service("a.service", &[], |_| {})]);
    world.request("a.socket", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Start).unwrap();
    assert_eq!((world.sub("a.socket"), world.sockets[&world.id("a.socket")]), (SubState::Running, false));
    world.request("a.socket", JobKind::Stop).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.request("a.socket", JobKind::Start).unwrap();
    assert_eq!(world.sub("a.socket"), SubState::Dead);
    assert_eq!(world.finished.last(), Some(&("a.socket".to_owned(), JobKind::Start, JobResult::Failed)));
}

#[test]
fn a_socket_gives_up_when_it_or_its_service_is_started_too_often() {
    let mut world = World::new(vec![socket("a.socket", "a.service"), service("a.service", &[], |_| {})]);
    world.request("a.socket", JobKind::Start).unwrap();
    for _ in 0..6 {
        traffic(&mut world, "a.socket");
        if world.sub("a.service") == SubState::Running {
            world.exit_main("a.service", BAD);
        }
    }
    assert_eq!(state(&world, "a.socket"), (SubState::Failed, ServiceResult::ServiceStartLimitHit));

    let mut endless = service("a.service", &[], |_| {});
    endless.start_limit_interval = Monotonic(0);
    let mut world = World::new(vec![socket("a.socket", "a.service"), endless]);
    world.request("a.socket", JobKind::Start).unwrap();
    for _ in 0..21 {
        traffic(&mut world, "a.socket");
        if world.sub("a.service") == SubState::Running {
            world.exit_main("a.service", OK);
        }
    }
    assert_eq!(state(&world, "a.socket"), (SubState::Failed, ServiceResult::TriggerLimitHit));
}

#[test]
fn a_service_whose_requirement_fails_leaves_its_socket_listening() {
    let mut world = World::new(vec![
        socket("a.socket", "a.service"),
        service("a.service", &[(Edge::Requires, "b.service"), (Edge::After, "b.service")], |_| {}),
        service("b.service", &[], |spec| spec.kind = ServiceType::Oneshot),
    ]);
    world.request("a.socket", JobKind::Start).unwrap();
    traffic(&mut world, "a.socket");
    assert_eq!(world.sub("a.socket"), SubState::Running);
    world.exit_main("b.service", BAD);
    assert_eq!((world.sub("a.socket"), world.sub("a.service")), (SubState::Listening, SubState::Dead));
}

#[test]
fn connections_get_instances_up_to_the_limit_and_those_are_forgotten() {
    let mut accepting = socket("a.socket", "a@.service");
    accepting.relations.clear();
    accepting.trigger = Some(TriggerSpec { accept: true, max_connections: 2, ..TriggerSpec::default() });
    let mut specs = vec![accepting];
    specs.extend((1..=3).map(|number| service(&format!("a@{number}.service"), &[], |_| {})));
    let mut world = World::new(specs);
    world.request("a.socket", JobKind::Start).unwrap();
    for number in 1..=3 {
        let service = world.id(&format!("a@{number}.service"));
        world.connections.insert(service);
        let unit = world.id("a.socket");
        world.event(Event::Connection { unit, service });
    }
    assert_eq!(world.sub("a.socket"), SubState::Listening);
    assert_eq!((world.sub("a@2.service"), world.sub("a@3.service")), (SubState::Running, SubState::Dead));
    assert!(world.connections.is_empty());
    let first = world.id("a@1.service");
    assert!(!world.sup.collect(|_| false).contains(&first));
    world.exit_main("a@1.service", OK);
    assert_eq!(world.sup.collect(|_| false), [first]);
    assert_eq!(world.sup.lookup("a@1.service"), None);
    assert!(world.sup.ids().all(|id| id != first));
    world.sup.add(vec![service("new.service", &[], |_| {})]);
    assert_eq!(world.id("new.service"), first);
    world.request("new.service", JobKind::Start).unwrap();
    assert_eq!(world.sub("new.service"), SubState::Running);
}

#[test]
fn a_timer_starts_its_unit_each_time_and_waits_for_its_end() {
    let mut world = World::new(vec![
        unit("t.timer", &[(Edge::Triggers, "t.service")], TriggerSpec::default()),
        service("t.service", &[], |spec| spec.kind = ServiceType::Oneshot),
    ]);
    let timer = world.id("t.timer");
    world.intervals.insert(timer, Monotonic::seconds(60));
    world.request("t.timer", JobKind::Start).unwrap();
    assert_eq!(world.sub("t.timer"), SubState::Waiting);
    world.advance(60_000_000);
    assert_eq!((world.sub("t.timer"), world.sub("t.service")), (SubState::Running, SubState::Start));
    world.advance(60_000_000);
    world.exit_main("t.service", OK);
    assert_eq!(world.sub("t.timer"), SubState::Waiting);
    world.advance(60_000_000);
    assert_eq!(world.starts[&world.id("t.service")].len(), 2);
    world.request("t.timer", JobKind::Stop).unwrap();
    world.exit_main("t.service", OK);
    world.advance(600_000_000);
    assert_eq!(world.starts[&world.id("t.service")].len(), 2);
}

#[test]
fn a_timer_that_never_elapses_again_stays_or_goes() {
    let gone = TriggerSpec { remain_after_elapse: false, ..TriggerSpec::default() };
    let mut world = World::new(vec![
        unit("a.timer", &[(Edge::Triggers, "t.service")], TriggerSpec::default()),
        unit("b.timer", &[(Edge::Triggers, "t.service")], gone),
        service("t.service", &[], |_| {}),
    ]);
    world.request("a.timer", JobKind::Start).unwrap();
    world.request("b.timer", JobKind::Start).unwrap();
    assert_eq!((world.sub("a.timer"), world.sub("b.timer")), (SubState::Elapsed, SubState::Dead));
    let timer = world.id("a.timer");
    world.intervals.insert(timer, Monotonic::seconds(1));
    world.event(Event::ClockChanged);
    assert_eq!(world.sub("a.timer"), SubState::Waiting);
}

#[test]
fn a_path_unit_starts_its_unit_and_watches_again_when_that_is_done() {
    let mut world = World::new(vec![
        unit("p.path", &[(Edge::Triggers, "p.service")], TriggerSpec::default()),
        service("p.service", &[], |spec| spec.kind = ServiceType::Oneshot),
    ]);
    world.request("p.path", JobKind::Start).unwrap();
    let path = world.id("p.path");
    world.event(Event::PathChanged { unit: path });
    assert_eq!((world.sub("p.path"), world.sub("p.service")), (SubState::Running, SubState::Start));
    world.exit_main("p.service", OK);
    assert_eq!(world.sub("p.path"), SubState::Waiting);
    for _ in 0..6 {
        world.event(Event::PathChanged { unit: path });
        if world.sub("p.service") == SubState::Start {
            world.exit_main("p.service", BAD);
        }
    }
    assert_eq!(state(&world, "p.path"), (SubState::Failed, ServiceResult::UnitStartLimitHit));
}

fn mount(name: &str, relations: &[(Edge, &str)]) -> UnitSpec {
    let mut spec = service(name, relations, |spec| {
        spec.kind = ServiceType::Oneshot;
        spec.commands.insert(Phase::Stop, vec![CommandFlags::default()]);
    });
    spec.kind = UnitKind::Mount;
    spec
}

#[test]
fn a_mount_waits_for_its_device_and_stays_when_it_is_busy() {
    let device = UnitSpec { default_dependencies: false, ..UnitSpec::new("dev-x.device") };
    let mut world = World::new(vec![
        mount("x.mount", &[(Edge::BindsTo, "dev-x.device"), (Edge::After, "dev-x.device")]),
        device,
    ]);
    world.request("x.mount", JobKind::Start).unwrap();
    assert_eq!(world.sub("x.mount"), SubState::Dead);
    let device = world.id("dev-x.device");
    world.event(Event::Presence { unit: device, present: true });
    assert_eq!(world.sup.unit(world.id("x.mount")).unwrap().sub_word(), "mounting");
    world.exit_control("x.mount", OK);
    let unit = world.id("x.mount");
    world.event(Event::Presence { unit, present: true });
    assert_eq!(world.sup.unit(unit).unwrap().sub_word(), "mounted");
    world.request("x.mount", JobKind::Stop).unwrap();
    world.exit_control("x.mount", BAD);
    assert_eq!(world.sub("x.mount"), SubState::Active);
    assert_eq!(world.finished.last(), Some(&("x.mount".to_owned(), JobKind::Stop, JobResult::Failed)));
    world.request("x.mount", JobKind::Stop).unwrap();
    world.exit_control("x.mount", OK);
    assert_eq!(world.sub("x.mount"), SubState::Dead);
}

#[test]
fn what_somebody_else_mounts_is_up_and_what_depends_on_a_device_goes_with_it() {
    let device = UnitSpec { default_dependencies: false, ..UnitSpec::new("dev-x.device") };
    let mut world = World::new(vec![
        mount("y.mount", &[]),
        device,
        service("d.service", &[(Edge::BindsTo, "dev-x.device"), (Edge::After, "dev-x.device")], |_| {}),
    ]);
    let unit = world.id("y.mount");
    world.event(Event::Presence { unit, present: true });
    assert_eq!(world.sub("y.mount"), SubState::Active);
    world.event(Event::Presence { unit, present: false });
    assert_eq!(world.sub("y.mount"), SubState::Dead);
    let device = world.id("dev-x.device");
    world.event(Event::Presence { unit: device, present: true });
    world.request("d.service", JobKind::Start).unwrap();
    world.event(Event::Presence { unit: device, present: false });
    assert_eq!(world.sub("d.service"), SubState::Dead);
    world.request("dev-x.device", JobKind::Stop).unwrap();
    assert_eq!(world.sup.job_count(), 0);
}

#[test]
fn everything_goes_on_after_the_state_was_carried_over() {
    let specs = || {
        vec![
            socket("a.socket", "a.service"),
            service("a.service", &[], |spec| spec.restart = Restart::Always),
            service("slow.service", &[], |spec| spec.kind = ServiceType::Notify),
            service("later.service", &[(Edge::After, "slow.service")], |_| {}),
        ]
    };
    let mut world = World::new(specs());
    world.request("a.socket", JobKind::Start).unwrap();
    traffic(&mut world, "a.socket");
    world.request("slow.service", JobKind::Start).unwrap();
    world.request("later.service", JobKind::Start).unwrap();
    let text = serde_json::to_string(&world.sup.snapshot()).unwrap();
    let mut next = Supervisor::new();
    next.add(specs());
    next.restore(serde_json::from_str(&text).unwrap());
    world.sup = next;
    assert_eq!((world.sub("a.socket"), world.sub("a.service")), (SubState::Running, SubState::Running));
    assert_eq!(world.sup.job_count(), 2);
    world.ready("slow.service");
    assert_eq!((world.sub("later.service"), world.sup.job_count()), (SubState::Running, 0));
    world.exit_main("a.service", BAD);
    assert_eq!(world.sub("a.service"), SubState::AutoRestart);
    world.advance(100_000);
    assert_eq!((world.sub("a.service"), world.starts[&world.id("a.service")].len()), (SubState::Running, 2));
}
