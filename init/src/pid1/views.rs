//! What `systemctl` gets to see.

use super::shell::{Shell, Stage};
use crate::control::{JobView, UnitView};
use crate::supervisor::{ActiveState, ExitStatus, LoadState, UnitId};

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
        properties: Vec::new(),
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
