//! What is forgotten, and what is kept.

use super::world::{World, service, socket, target, unit};
use crate::supervisor::*;

const BAD: ExitStatus = ExitStatus::Code(1);
const OK: ExitStatus = ExitStatus::Code(0);

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.sup.ids().map(|id| world.sup.name(id).to_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_down_and_not_named_by_what_stays_is_forgotten() {
    let mut world = World::new(vec![
        target("top.target", &[(Edge::Wants, "wanted.service")]),
        service("wanted.service", &[(Edge::After, "ordered.service")], |_| {}),
        service("ordered.service", &[], |_| {}),
        service("alone.service", &[(Edge::Requires, "missing.service")], |_| {}),
    ]);
    world.request("top.target", JobKind::Start).unwrap();
    world.exit_main("wanted.service", OK);
    world.collect();
    let kept = ["ordered.service", "shutdown.target", "top.target", "wanted.service"];
    assert_eq!(names(&world), kept);
    world.request("top.target", JobKind::Stop).unwrap();
    world.collect();
    assert!(names(&world).is_empty());
}

#[test]
fn units_that_name_each_other_in_a_circle_go_together() {
    let mut world = World::new(vec![
        service("a.service", &[(Edge::Wants, "b.service")], |_| {}),
        service("b.service", &[(Edge::Wants, "c.service")], |_| {}),
        service("c.service", &[(Edge::Before, "a.service")], |_| {}),
    ]);
    world.request("c.service", JobKind::Start).unwrap();
    world.collect();
    assert_eq!(names(&world), ["a.service", "b.service", "c.service"]);
    world.request("c.service", JobKind::Stop).unwrap();
    world.collect();
    assert!(names(&world).is_empty());
}

#[test]
fn what_has_failed_is_kept_until_it_is_reset_unless_it_says_otherwise() {
    let oneshot = |spec: &mut ServiceSpec| spec.kind = ServiceType::Oneshot;
    let mut specs = vec![service("a.service", &[], oneshot), service("b.service", &[], oneshot)];
    specs[1].collect_failed = true;
    let mut world = World::new(specs);
    for name in ["a.service", "b.service"] {
        world.request(name, JobKind::Start).unwrap();
        world.exit_main(name, BAD);
        assert_eq!(world.sub(name), SubState::Failed);
    }
    world.collect();
    assert_eq!(names(&world), ["a.service"]);
    let id = world.id("a.service");
    world.sup.reset_failed(world.now, id, &mut Vec::new());
    world.collect();
    assert!(names(&world).is_empty());
}

#[test]
fn a_unit_whose_process_is_left_behind_is_kept_until_that_ends() {
    let mut world = World::new(vec![service("a.service", &[], |spec| spec.kill_mode = KillMode::None)]);
    world.request("a.service", JobKind::Start).unwrap();
    world.request("a.service", JobKind::Stop).unwrap();
    assert_eq!(world.sub("a.service"), SubState::Dead);
    world.collect();
    assert_eq!(names(&world), ["a.service"]);
    let process = *world.alive.keys().next().unwrap();
    world.end(process, OK);
    world.collect();
    assert!(names(&world).is_empty());
}

#[test]
fn an_alias_goes_with_its_unit_and_with_the_files() {
    let aliased = || UnitSpec { aliases: vec!["b.service".to_owned()], ..service("a.service", &[], |_| {}) };
    let mut world = World::new(vec![aliased()]);
    assert_eq!(world.id("b.service"), world.id("a.service"));
    world.sup.forget_files();
    world.sup.add(vec![service("a.service", &[], |_| {}), service("b.service", &[], |_| {})]);
    assert_ne!(world.id("b.service"), world.id("a.service"));
    world.collect();
    world.sup.add(vec![aliased()]);
    world.collect();
    assert_eq!((world.sup.lookup("a.service"), world.sup.lookup("b.service")), (None, None));
}

#[test]
fn what_is_always_up_cannot_be_stopped() {
    let slice = UnitSpec { perpetual: true, default_dependencies: false, ..UnitSpec::new("system.slice") };
    let mut world =
        World::new(vec![slice, service("a.service", &[(Edge::Requires, "system.slice")], |_| {})]);
    world.request("a.service", JobKind::Start).unwrap();
    let refused = world.request("system.slice", JobKind::Stop).unwrap_err();
    assert_eq!(refused, RequestError::Perpetual("system.slice".to_owned()));
    assert_eq!(world.sub("a.service"), SubState::Running);
    world.request("a.service", JobKind::Stop).unwrap();
    world.collect();
    assert_eq!(names(&world), ["system.slice"]);
}

#[test]
fn what_starts_a_unit_that_is_not_there_is_refused() {
    let mut world = World::new(vec![
        socket("a.socket", "gone.service"),
        unit("a.timer", &[(Edge::Triggers, "gone.service")], TriggerSpec::default()),
        unit("a.path", &[(Edge::Triggers, "gone.service")], TriggerSpec::default()),
    ]);
    for name in ["a.socket", "a.timer", "a.path"] {
        world.request(name, JobKind::Start).unwrap();
        assert_eq!(world.finished.pop(), Some((name.to_owned(), JobKind::Start, JobResult::Failed)));
        assert_eq!(world.sub(name), SubState::Dead);
    }
}

#[test]
fn a_start_too_many_keeps_the_result_of_what_went_wrong_before() {
    let mut specs = vec![service("a.service", &[], |spec| spec.restart = Restart::Always)];
    specs[0].start_limit_burst = 2;
    let mut world = World::new(specs);
    world.request("a.service", JobKind::Start).unwrap();
    world.exit_main("a.service", BAD);
    world.advance(200_000);
    world.exit_main("a.service", BAD);
    world.advance(200_000);
    let id = world.id("a.service");
    let unit = world.sup.unit(id).unwrap();
    assert_eq!((unit.sub, unit.run.result), (SubState::Failed, ServiceResult::ExitCode));
}
