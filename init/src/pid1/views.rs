//! What `systemctl` gets to see.

use image_config::unit::UnitKind;
use rustix::time::{ClockId, clock_gettime};

use super::shell::{Shell, Stage};
use crate::control::{JobView, SocketView, TimerView, UnitView};
use crate::supervisor::{ActiveState, Edge, ExitStatus, LoadState, Monotonic, UnitId};

/// Every unit that is loaded or wanted by one that is.
pub fn all(shell: &Shell) -> Vec<UnitView> {
    shell.sup.ids().map(|id| one(shell, id)).collect()
}

/// One unit.
pub fn one(shell: &Shell, id: UnitId) -> UnitView {
    let Some(unit) = shell.sup.unit(id) else { return UnitView::default() };
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
        name: unit.spec.name.clone(),
        description: unit.spec.description.clone(),
        load: unit.spec.load.word().to_owned(),
        load_error: match &unit.spec.load {
            LoadState::Bad(problem) => problem.clone(),
            _ => String::new(),
        },
        active: unit.active().word().to_owned(),
        sub: unit.sub_word().to_owned(),
        result: unit.run.result.word().to_owned(),
        reason: unit.run.reason.clone(),
        status_text: unit.run.status_text.clone(),
        paths: file.map(|file| file.paths.clone()).unwrap_or_default(),
        documentation: file.map(|file| file.common.documentation.clone()).unwrap_or_default(),
        main_pid: unit.run.main.and_then(|main| main.pid).unwrap_or(0),
        pids,
        main_exit,
        memory: shell.cgroups.as_ref().and_then(|cgroups| cgroups.memory(id)),
        restarts: unit.run.restarts,
        condition: unit.condition.clone(),
        job: unit.job.as_ref().map(|job| job.kind.word().to_owned()),
        changed_at: unit.changed_at.0,
        active_since: unit.active_since.map(|when| when.0),
        times: [
            unit.times.inactive_exit,
            unit.times.active_enter,
            unit.times.active_exit,
            unit.times.inactive_enter,
        ]
        .map(|when| when.map_or(0, |when| when.0)),
        properties: Vec::new(),
    }
}

/// One unit with its relations.
pub fn detailed(shell: &Shell, id: UnitId) -> UnitView {
    let mut view = one(shell, id);
    let Some(unit) = shell.sup.unit(id) else { return view };
    let name = |id: UnitId| shell.sup.unit(id).map(|unit| unit.spec.name.clone());
    for (property, edge) in RELATIONS {
        let names: Vec<String> = unit.related(edge).filter_map(name).collect();
        view.properties.push((property.to_owned(), names.join(" ")));
    }
    let names: Vec<&str> =
        std::iter::once(&unit.spec.name).chain(&unit.spec.aliases).map(String::as_str).collect();
    view.properties.push(("Names".to_owned(), names.join(" ")));
    view
}

/// Relations under the names that systemd's properties have.
const RELATIONS: [(&str, Edge); 21] = [
    ("Requires", Edge::Requires),
    ("Requisite", Edge::Requisite),
    ("Wants", Edge::Wants),
    ("BindsTo", Edge::BindsTo),
    ("PartOf", Edge::PartOf),
    ("Upholds", Edge::Upholds),
    ("RequiredBy", Edge::RequiredBy),
    ("RequisiteOf", Edge::RequisiteOf),
    ("WantedBy", Edge::WantedBy),
    ("BoundBy", Edge::BoundBy),
    ("UpheldBy", Edge::UpheldBy),
    ("ConsistsOf", Edge::ConsistsOf),
    ("Conflicts", Edge::Conflicts),
    ("ConflictedBy", Edge::ConflictedBy),
    ("Before", Edge::Before),
    ("After", Edge::After),
    ("OnFailure", Edge::OnFailure),
    ("OnSuccess", Edge::OnSuccess),
    ("Triggers", Edge::Triggers),
    ("TriggeredBy", Edge::TriggeredBy),
    ("PropagatesReloadTo", Edge::PropagatesReloadTo),
];

/// Timers that are loaded.
pub fn timers(shell: &Shell) -> Vec<TimerView> {
    let micros = |clock: ClockId| {
        let time = clock_gettime(clock);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1000
    };
    let offset = micros(ClockId::Realtime) - micros(ClockId::Monotonic);
    let realtime = |when: Option<Monotonic>| {
        let when = i64::try_from(when?.0).ok()?;
        when.checked_add(offset)
    };
    let timer = |(id, file): (&UnitId, &image_config::unit::Unit)| {
        matches!(file.kind, UnitKind::Timer(_)).then_some(())?;
        let unit = shell.sup.unit(*id)?;
        Some(TimerView {
            unit: unit.spec.name.clone(),
            activates: triggered(shell, *id),
            next: realtime(unit.next_elapse),
            last: realtime(unit.last_trigger),
        })
    };
    shell.units.iter().map(|(id, file)| (id, file)).filter_map(timer).collect()
}

/// What the sockets that are loaded listen at.
pub fn sockets(shell: &Shell) -> Vec<SocketView> {
    let addresses = |(id, file): (&UnitId, &image_config::unit::Unit)| -> Vec<SocketView> {
        let UnitKind::Socket(socket) = &file.kind else { return Vec::new() };
        let view = |listen: &image_config::unit::Listen| SocketView {
            unit: file.name.as_str().to_owned(),
            listen: listen.to_string(),
            kind: listen.kind_name().to_owned(),
            activates: triggered(shell, *id),
        };
        socket.listen.iter().map(view).collect()
    };
    shell.units.iter().flat_map(|(id, file)| addresses((id, file))).collect()
}

fn triggered(shell: &Shell, id: UnitId) -> String {
    let other = shell.sup.unit(id).and_then(|unit| unit.triggered());
    other.and_then(|other| shell.sup.unit(other)).map_or_else(String::new, |unit| unit.spec.name.clone())
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
