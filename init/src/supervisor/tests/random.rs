//! Random graphs, random histories.

use proptest::prelude::*;

use super::world::{Nature, World, service, socket, target};
use crate::supervisor::*;

const UNITS: usize = 6;

#[derive(Debug, Clone)]
struct Shape {
    kind: u8,
    restart: u8,
    kill_mode: u8,
    phases: u8,
    remain: bool,
    stubborn: bool,
    strays: u32,
    conditions: bool,
    /// What starts the unit: nothing, a socket, a timer, a path unit.
    trigger: u8,
    unneeded: bool,
    direct: bool,
    relations: Vec<(u8, usize)>,
}

#[derive(Debug, Clone)]
enum Step {
    Request(usize, u8),
    EndSome(usize, u8),
    Ready(usize),
    Stopping(usize),
    Trigger(usize),
    Pass(u64),
    Reset(usize),
    /// Asks for the unit that starts the unit.
    Activator(usize, u8),
    /// Something comes in, or a path changes.
    Happens(usize),
    ClockChange,
    OutOfMemory(usize),
    Plug(bool),
    /// Carries the state over to another supervisor.
    Reexec,
    Reload,
    /// Forgets what nobody needs; the next mention loads it anew.
    Collect,
    Mode(usize, u8, u8),
}

fn shape() -> impl Strategy<Value = Shape> {
    let relation = (0u8..13, 0..UNITS + 1);
    (
        0u8..7,
        0u8..7,
        0u8..4,
        any::<u8>(),
        any::<bool>(),
        any::<bool>(),
        0u32..3,
        any::<bool>(),
        (0u8..4, any::<bool>(), any::<bool>()),
        prop::collection::vec(relation, 0..4),
    )
        .prop_map(
            |(kind, restart, kill_mode, phases, remain, stubborn, strays, conditions, more, relations)| {
                Shape {
                    trigger: more.0,
                    unneeded: more.1,
                    direct: more.2,
                    kind,
                    restart,
                    kill_mode,
                    phases,
                    remain,
                    stubborn,
                    strays,
                    conditions,
                    relations,
                }
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..UNITS, 0u8..4).prop_map(|(unit, kind)| Step::Activator(unit, kind)),
        3 => (0..UNITS).prop_map(Step::Happens),
        1 => Just(Step::ClockChange),
        1 => (0..UNITS).prop_map(Step::OutOfMemory),
        1 => any::<bool>().prop_map(Step::Plug),
        1 => Just(Step::Reexec),
        1 => Just(Step::Reload),
        2 => Just(Step::Collect),
        1 => (0..UNITS, 0u8..5, 0u8..6).prop_map(|(unit, kind, mode)| Step::Mode(unit, kind, mode)),
        4 => (0..UNITS, 0u8..5).prop_map(|(unit, kind)| Step::Request(unit, kind)),
        5 => (any::<usize>(), any::<u8>()).prop_map(|(which, status)| Step::EndSome(which, status)),
        3 => (0..UNITS).prop_map(Step::Ready),
        1 => (0..UNITS).prop_map(Step::Stopping),
        1 => (0..UNITS).prop_map(Step::Trigger),
        3 => (0u64..20_000_000).prop_map(Step::Pass),
        1 => (0..UNITS).prop_map(Step::Reset),
    ]
}

/// The last one is a device.
fn name(index: usize) -> String {
    if index == UNITS { "dev-x.device".to_owned() } else { format!("u{index}.service") }
}

/// A job does not wait for it for ever.
fn device() -> UnitSpec {
    let job_running_timeout = Some(Monotonic::seconds(90));
    UnitSpec { default_dependencies: false, job_running_timeout, ..UnitSpec::new("dev-x.device") }
}

fn trigger_name(index: usize, trigger: u8) -> Option<String> {
    match trigger {
        1 => Some(format!("u{index}.socket")),
        2 => Some(format!("u{index}.timer")),
        3 => Some(format!("u{index}.path")),
        _ => None,
    }
}

fn build(shapes: &[Shape]) -> World {
    let mut world = World::new(specs(shapes));
    describe(&mut world, shapes);
    for (index, shape) in shapes.iter().enumerate().filter(|(_, shape)| shape.strays > 0) {
        let id = world.id(&name(index));
        world.strays.insert(id, shape.strays);
    }
    world
}

/// What the world must know of the units.
fn describe(world: &mut World, shapes: &[Shape]) {
    for (index, shape) in shapes.iter().enumerate() {
        let id = world.id(&name(index));
        world.nature.insert(id, if shape.stubborn { Nature::Stubborn } else { Nature::Polite });
        if shape.trigger == 2 {
            let timer = world.id(&format!("u{index}.timer"));
            world.intervals.insert(timer, Monotonic::seconds(1 + u64::from(shape.phases) / 16));
        }
    }
}

fn specs(shapes: &[Shape]) -> Vec<UnitSpec> {
    let mut specs = vec![
        device(),
        target("shutdown.target", &[]),
        target("sysinit.target", &[]),
        target("basic.target", &[]),
    ];
    let relations = [(Edge::Requires, "shutdown.target"), (Edge::After, "shutdown.target")];
    specs.push(UnitSpec { default_dependencies: false, ..target("poweroff.target", &relations) });
    specs[1].default_dependencies = false;
    for (index, shape) in shapes.iter().enumerate() {
        let mut unit = service(&name(index), &[], |spec| {
            spec.kind = [
                ServiceType::Simple,
                ServiceType::Exec,
                ServiceType::Oneshot,
                ServiceType::Notify,
                ServiceType::Forking,
                ServiceType::Idle,
                ServiceType::NotifyReload,
            ][usize::from(shape.kind)];
            use Restart::*;
            spec.restart = [No, Always, OnSuccess, OnFailure, OnAbnormal, OnAbort, OnWatchdog]
                [usize::from(shape.restart)];
            spec.kill_mode = [KillMode::ControlGroup, KillMode::Mixed, KillMode::Process, KillMode::None]
                [usize::from(shape.kill_mode)];
            spec.remain_after_exit = shape.remain;
            spec.restart_direct = shape.direct;
            spec.exit_cgroup = shape.direct && shape.remain;
            spec.watchdog = (shape.phases & 1 != 0).then_some(Monotonic::seconds(30));
            for (bit, phase) in Phase::ALL.into_iter().enumerate().filter(|(_, phase)| *phase != Phase::Start)
            {
                if shape.phases & (1 << bit) != 0 {
                    spec.commands
                        .insert(phase, vec![CommandFlags { ignore_failure: shape.remain }; 1 + bit % 2]);
                }
            }
        });
        use Edge::*;
        let edges = [
            Requires,
            Wants,
            BindsTo,
            PartOf,
            Conflicts,
            After,
            Before,
            Upholds,
            OnFailure,
            OnSuccess,
            Requisite,
            PropagatesReloadTo,
            PropagatesStopTo,
        ];
        unit.relations =
            shape.relations.iter().map(|(edge, other)| (edges[usize::from(*edge)], name(*other))).collect();
        unit.default_dependencies = true;
        unit.has_conditions = shape.conditions;
        unit.stop_when_unneeded = shape.unneeded;
        specs.push(unit);
        if let Some(trigger) = trigger_name(index, shape.trigger) {
            let mut spec = if shape.trigger == 1 {
                socket(&trigger, &name(index))
            } else {
                super::world::unit(
                    &trigger,
                    &[(Triggers, &name(index)), (Before, &name(index))],
                    TriggerSpec::default(),
                )
            };
            spec.default_dependencies = true;
            specs.push(spec);
        }
    }
    specs
}

fn take(world: &mut World, shapes: &[Shape], step: &Step) {
    let notify = |world: &mut World, unit: usize, text: &[u8]| {
        let unit = world.id(&name(unit));
        let from = world.sup.unit(unit).unwrap().run.main.map(|main| main.id);
        world.event(Event::Notify { unit, from, message: Notification::parse(text) });
    };
    match step {
        Step::Request(unit, kind) => {
            use JobKind::*;
            let kind = [Start, Start, Stop, Restart, Reload][usize::from(*kind)];
            let _refused_is_fine = world.request(&name(*unit), kind);
        }
        Step::EndSome(which, status) => {
            let Some(process) = world.alive.keys().nth(which % world.alive.len().max(1)).copied() else {
                return;
            };
            let status = match status {
                0..120 => ExitStatus::Code(0),
                120..200 => ExitStatus::Code(1),
                200..230 => ExitStatus::Signal { signal: 11, core: true },
                _ => ExitStatus::Signal { signal: 15, core: false },
            };
            world.end(process, status);
        }
        Step::Ready(unit) => notify(world, *unit, b"READY=1\nSTATUS=up"),
        Step::Stopping(unit) => notify(world, *unit, b"STOPPING=1"),
        Step::Trigger(unit) => notify(world, *unit, b"WATCHDOG=trigger"),
        Step::Pass(micros) => world.advance(*micros),
        Step::Activator(unit, kind) => {
            if let Some(trigger) = trigger_name(*unit, shapes[*unit].trigger) {
                let kind =
                    [JobKind::Start, JobKind::Start, JobKind::Stop, JobKind::Restart][usize::from(*kind)];
                let _refused_is_fine = world.request(&trigger, kind);
            }
        }
        Step::Happens(unit) => {
            let Some(trigger) = trigger_name(*unit, shapes[*unit].trigger) else { return };
            let id = world.id(&trigger);
            if world.sockets.get(&id) == Some(&true) {
                world.event(Event::Traffic { unit: id });
            } else if world.watched.contains(&id) {
                world.event(Event::PathChanged { unit: id });
            }
        }
        Step::ClockChange => world.event(Event::ClockChanged),
        Step::OutOfMemory(unit) => {
            let unit = world.id(&name(*unit));
            world.event(Event::OutOfMemory { unit });
        }
        Step::Plug(present) => {
            let unit = world.id("dev-x.device");
            world.event(Event::Presence { unit, present: *present });
        }
        Step::Reexec => {
            let text = serde_json::to_string(&world.sup.snapshot()).unwrap();
            let mut next = Supervisor::new();
            next.add(specs(shapes));
            next.restore(serde_json::from_str(&text).unwrap());
            world.sup = next;
            world.event(Event::Timer);
        }
        Step::Collect => {
            world.collect();
            let missing = specs(shapes).into_iter().filter(|spec| world.sup.lookup(&spec.name).is_none());
            let missing: Vec<UnitSpec> = missing.collect();
            world.sup.add(missing);
            describe(world, shapes);
        }
        Step::Reload => {
            world.sup.forget_files();
            world.sup.add(specs(shapes));
        }
        Step::Mode(unit, kind, mode) => {
            let kind = [
                JobKind::Start,
                JobKind::Stop,
                JobKind::TryRestart,
                JobKind::ReloadOrStart,
                JobKind::TryReload,
            ][usize::from(*kind)];
            let modes = [
                Mode::Fail,
                Mode::Flush,
                Mode::Isolate,
                Mode::IgnoreDependencies,
                Mode::IgnoreRequirements,
                Mode::RestartDependencies,
            ];
            let _refused_is_fine = world.request_mode(&name(*unit), kind, modes[usize::from(*mode)]);
        }
        Step::Reset(unit) => {
            let id = world.id(&name(*unit));
            let mut out = Vec::new();
            world.sup.reset_failed(world.now, id, &mut out);
        }
    }
}

/// Starts in any interval of the limit's length: at most those of two windows.
fn check_limits(world: &World, resets: bool) {
    for (unit, starts) in &world.starts {
        let interval = world.sup.unit(*unit).unwrap().spec.start_limit_interval;
        for (index, first) in starts.iter().enumerate() {
            let within = starts[index..].iter().filter(|when| **when < first.after(interval)).count();
            assert!(
                resets || within <= 10,
                "{} started {within} times in {interval:?}",
                world.sup.name(*unit)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// The world's own checks (nothing runs twice, order holds, down means no processes) are made at every step.
    #[test]
    fn any_history_keeps_the_invariants_and_every_stop_ends(
        shapes in prop::collection::vec(shape(), UNITS),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = build(&shapes);
        let resets = steps.iter().any(|step| matches!(step, Step::Reset(_) | Step::Collect));
        for step in &steps {
            take(&mut world, &shapes, step);
        }
        check_limits(&world, resets);

        world.request_mode("poweroff.target", JobKind::Start, Mode::ReplaceIrreversibly).unwrap();
        world.settle();
        for id in world.sup.ids() {
            let unit = world.sup.unit(id).unwrap();
            // A device is nothing that a shutdown ends: a unit's end may even have asked for one (OnSuccess=).
            if unit.spec.kind != UnitKind::Device {
                prop_assert!(unit.job.is_none(), "{} still has {:?}", unit.spec.name, unit.job);
            }
            if unit.spec.kind == UnitKind::Service || unit.spec.trigger.is_some() {
                prop_assert!(unit.active().is_down(), "{} is {}", unit.spec.name, unit.sub.word());
            }
        }
        prop_assert_eq!(world.power, Some(PowerAction::PowerOff));
        for (unit, command) in world.alive.values() {
            let mode = world.sup.unit(*unit).unwrap().spec.service.as_ref().unwrap().kill_mode;
            prop_assert!(mode == KillMode::None || mode == KillMode::Process, "{command:?} outlived its unit");
        }
    }
}
