//! What `systemctl` gets to see.

use image_config::unit::time::{TimeZone, Timestamp};
use image_config::unit::{TimerTrigger, UnitKind as FileKind};

use super::properties;
use super::shell::{Shell, Stage};
use super::timer_units::Moment;
use crate::control::{JobView, SocketView, TimerView, UnitView};
use crate::supervisor::{ActiveState, Edge, ExitStatus, LoadState, Monotonic, UnitId, UnitKind};

/// Every unit that is loaded or wanted by one that is.
pub fn all(shell: &Shell) -> Vec<UnitView> {
    shell.sup.ids().map(|id| one(shell, id)).collect()
}

/// One unit, as far as the supervisor knows it by heart.
pub fn brief(shell: &Shell, id: UnitId) -> Option<UnitView> {
    let unit = shell.sup.unit(id)?;
    Some(UnitView {
        name: unit.spec.name.clone(),
        load: unit.spec.load.word().to_owned(),
        load_error: match &unit.spec.load {
            LoadState::Bad(problem) => problem.clone(),
            _ => String::new(),
        },
        active: unit.active().word().to_owned(),
        sub: match unit.sub_word() {
            // systemd's word for a service that is down, with something that is kept for it.
            "dead" if shell.stored.contains_key(&id) => "dead-resources-pinned",
            word => word,
        }
        .to_owned(),
        result: unit.run.result.word().to_owned(),
        reason: unit.run.reason.clone(),
        condition: unit.condition.clone(),
        job: unit.job.as_ref().map(|job| job.kind.word().to_owned()),
        ..UnitView::default()
    })
}

/// One unit.
pub fn one(shell: &Shell, id: UnitId) -> UnitView {
    let (Some(unit), Some(brief)) = (shell.sup.unit(id), brief(shell, id)) else {
        return UnitView::default();
    };
    let file = shell.units.get(&id);
    let mut pids = shell.cgroups.as_ref().map(|cgroups| cgroups.processes(id)).unwrap_or_default();
    if pids.is_empty() {
        pids = shell.processes.values().filter(|entry| entry.unit == id).map(|entry| entry.pid).collect();
    }
    let main_exit = unit.run.main_status.map(|status| match status {
        ExitStatus::Code(code) => ("exited".to_owned(), code),
        ExitStatus::Signal { signal, core } => (if core { "dumped" } else { "killed" }.to_owned(), signal),
        ExitStatus::Unknown => ("unknown".to_owned(), 0),
    });
    UnitView {
        description: unit.spec.description.clone(),
        status_text: unit.run.status_text.clone(),
        paths: file.map(|file| file.paths.clone()).unwrap_or_default(),
        documentation: file.map(|file| file.common.documentation.clone()).unwrap_or_default(),
        main_pid: unit.run.main.and_then(|main| main.pid).unwrap_or(0),
        pids,
        main_exit,
        memory: shell.cgroups.as_ref().and_then(|cgroups| cgroups.memory(id)),
        restarts: unit.run.restarts,
        changed_at: unit.changed_at.0,
        active_since: unit.active_since.map(|when| when.0),
        times: [
            unit.times.inactive_exit,
            unit.times.active_enter,
            unit.times.active_exit,
            unit.times.inactive_enter,
        ]
        .map(|when| when.map_or(0, |when| when.0)),
        ..brief
    }
}

/// Waiting and running jobs.
pub fn jobs(shell: &Shell) -> Vec<JobView> {
    let jobs = shell.sup.ids().filter_map(|id| {
        let unit = shell.sup.unit(id)?;
        let job = unit.job.as_ref()?;
        Some(JobView {
            id: job.id.0,
            unit: unit.spec.name.clone(),
            kind: job.kind.word().to_owned(),
            state: if job.running { "running" } else { "waiting" }.to_owned(),
        })
    });
    jobs.collect()
}

/// systemd's word for the state of the machine, systemctl(1), "is-system-running".
pub fn state(shell: &Shell) -> &'static str {
    let failed = |id: UnitId| shell.sup.unit(id).is_some_and(|unit| unit.active() == ActiveState::Failed);
    let rescue = ["rescue.target", "emergency.target"];
    let is_up = |name: &&str| {
        shell.sup.lookup(name).and_then(|id| shell.sup.unit(id)).is_some_and(|unit| unit.active().is_up())
    };
    match shell.stage {
        Stage::Starting => "starting",
        Stage::Stopping => "stopping",
        Stage::Up if rescue.iter().any(is_up) => "maintenance",
        Stage::Up if shell.sup.ids().any(failed) => "degraded",
        Stage::Up => "running",
    }
}

/// Microseconds since the epoch of a point of the monotonic clock.
fn wall(point: Monotonic) -> i64 {
    Moment::now().wall(point).0
}

fn triggered(shell: &Shell, id: UnitId) -> String {
    let other = shell.sup.unit(id).and_then(|unit| unit.triggered());
    other.map(|other| shell.sup.name(other).to_owned()).unwrap_or_default()
}

/// Timers that are not dead.
pub fn timers(shell: &Shell) -> Vec<TimerView> {
    let timers = shell.sup.ids().filter_map(|id| {
        let unit = shell.sup.unit(id)?;
        let shown = unit.spec.kind == UnitKind::Timer && !unit.active().is_down();
        shown.then(|| TimerView {
            unit: unit.spec.name.clone(),
            activates: triggered(shell, id),
            next: unit.next_elapse.map(wall),
            last: unit.last_trigger.map(wall),
            active: unit.active().word().to_owned(),
        })
    });
    timers.collect()
}

/// What loaded socket units listen on, a line each.
pub fn sockets(shell: &Shell) -> Vec<SocketView> {
    let mut list = Vec::new();
    for id in shell.sup.ids() {
        let (Some(unit), Some(file)) = (shell.sup.unit(id), shell.units.get(&id)) else { continue };
        let FileKind::Socket(socket) = &file.kind else { continue };
        let activates = match triggered(shell, id) {
            name if name.is_empty() => {
                socket.service(&file.name).map(|name| name.as_str().to_owned()).unwrap_or_default()
            }
            name => name,
        };
        list.extend(socket.listen.iter().map(|listen| SocketView {
            unit: unit.spec.name.clone(),
            activates: activates.clone(),
            listen: listen.to_string(),
            kind: listen.kind_name().to_owned(),
            active: unit.active().word().to_owned(),
        }));
    }
    list
}

/// One unit with the properties that `systemctl show` and `list-dependencies` ask for, under systemd's names.
pub fn detailed(shell: &Shell, id: UnitId) -> UnitView {
    let mut view = one(shell, id);
    let Some(unit) = shell.sup.unit(id) else { return view };
    let mut list: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| list.push((name.to_owned(), value));
    for (edge, name) in RELATIONS {
        let names: Vec<&str> = unit.related(edge).map(|other| shell.sup.name(other)).collect();
        if !names.is_empty() {
            add(name, names.join(" "));
        }
    }
    let names: Vec<&str> =
        std::iter::once(&unit.spec.name).chain(&unit.spec.aliases).map(String::as_str).collect();
    add("Names", names.join(" "));
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    add("CanReload", yes_no(shell.sup.can_reload(id)));
    add("RefuseManualStart", yes_no(unit.spec.refuse_manual_start));
    add("RefuseManualStop", yes_no(unit.spec.refuse_manual_stop));
    add("AllowIsolate", yes_no(unit.spec.allow_isolate));
    add("DefaultDependencies", yes_no(unit.spec.default_dependencies));
    add("StopWhenUnneeded", yes_no(unit.spec.stop_when_unneeded));
    let times = [
        ("InactiveExitTimestampMonotonic", unit.times.inactive_exit),
        ("ActiveEnterTimestampMonotonic", unit.times.active_enter),
        ("ActiveExitTimestampMonotonic", unit.times.active_exit),
        ("InactiveEnterTimestampMonotonic", unit.times.inactive_enter),
        ("StateChangeTimestampMonotonic", Some(unit.changed_at)),
    ];
    for (name, time) in times {
        add(name, time.unwrap_or_default().0.to_string());
    }
    match unit.spec.kind {
        UnitKind::Service => {
            add("NFileDescriptorStore", shell.stored.get(&id).map_or(0, Vec::len).to_string());
            add("StatusErrno", unit.run.errno.unwrap_or(0).to_string());
            add("StatusBusError", unit.run.bus_error.clone());
            add("ControlPID", unit.run.control.and_then(|control| control.pid).unwrap_or(0).to_string());
        }
        UnitKind::Timer => {
            let point = |point: Option<Monotonic>| point.map_or(0, |point| point.0).to_string();
            add("NextElapseUSecMonotonic", point(unit.next_elapse));
            // Timers without a calendar have no such moment; that of the others is rounded, for it comes from another clock.
            let moment =
                |next| Timestamp(wall(next).saturating_add(500) / 1000 * 1000).show(&TimeZone::utc());
            let next = unit.next_elapse.filter(|_| has_calendar(shell, id)).map(moment);
            add("NextElapseUSecRealtime", next.unwrap_or_default());
            add("LastTriggerUSecMonotonic", point(unit.last_trigger));
        }
        UnitKind::Socket => {
            let connections = unit
                .related(Edge::Triggers)
                .filter(|other| shell.sup.unit(*other).is_some_and(|other| !other.active().is_down()));
            add("NConnections", connections.count().to_string());
            add("NAccepted", unit.accepted.to_string());
        }
        _ => {}
    }
    view.properties.extend(list);
    view.properties.extend(properties::of_file(shell, id));
    view
}

fn has_calendar(shell: &Shell, id: UnitId) -> bool {
    let Some(FileKind::Timer(timer)) = shell.units.get(&id).map(|file| &file.kind) else { return false };
    timer.triggers.iter().any(|trigger| matches!(trigger, TimerTrigger::Calendar(_)))
}

/// Relations under systemd's names.
const RELATIONS: [(Edge, &str); 25] = [
    (Edge::Requires, "Requires"),
    (Edge::RequiredBy, "RequiredBy"),
    (Edge::Requisite, "Requisite"),
    (Edge::RequisiteOf, "RequisiteOf"),
    (Edge::Wants, "Wants"),
    (Edge::WantedBy, "WantedBy"),
    (Edge::BindsTo, "BindsTo"),
    (Edge::BoundBy, "BoundBy"),
    (Edge::PartOf, "PartOf"),
    (Edge::ConsistsOf, "ConsistsOf"),
    (Edge::Upholds, "Upholds"),
    (Edge::UpheldBy, "UpheldBy"),
    (Edge::Conflicts, "Conflicts"),
    (Edge::ConflictedBy, "ConflictedBy"),
    (Edge::Before, "Before"),
    (Edge::After, "After"),
    (Edge::OnFailure, "OnFailure"),
    (Edge::OnFailureOf, "OnFailureOf"),
    (Edge::OnSuccess, "OnSuccess"),
    (Edge::OnSuccessOf, "OnSuccessOf"),
    (Edge::PropagatesReloadTo, "PropagatesReloadTo"),
    (Edge::ReloadPropagatedFrom, "ReloadPropagatedFrom"),
    (Edge::PropagatesStopTo, "PropagatesStopTo"),
    (Edge::Triggers, "Triggers"),
    (Edge::TriggeredBy, "TriggeredBy"),
];
