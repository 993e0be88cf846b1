//! What follows when a process of a unit ends.

use super::Supervisor;
use super::event::{CommandRef, Effect, Level, ProcessId};
use super::service::command;
use super::service_spec::{
    ExitStatus, OomPolicy, Phase, SIGHUP, SIGINT, SIGPIPE, SIGTERM, ServiceSpec, ServiceType,
};
use super::spec::{Monotonic, UnitId, UnitKind};
use super::state::{ServiceResult, SubState};
use super::unit::NotifyState;

impl Supervisor {
    /// A process has ended.
    pub(super) fn exited(
        &mut self,
        now: Monotonic,
        process: ProcessId,
        status: ExitStatus,
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.processes.remove(&process) else { return };
        self.garbage.insert(id);
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if unit.run.main.is_some_and(|main| main.id == process) {
            unit.run.main = None;
            unit.run.main_status = Some(status);
            self.main_exited(now, id, status, out);
        } else if unit.run.control.is_some_and(|control| control.id == process) {
            unit.run.control = None;
            self.control_exited(now, id, status, out);
        }
    }

    fn main_exited(&mut self, now: Monotonic, id: UnitId, status: ExitStatus, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        let index = unit.run.main_command;
        let ignored = command(service, Phase::Start, index).is_some_and(|flags| flags.ignore_failure);
        let daemon = service.kind != ServiceType::Oneshot;
        let result = if ignored { ServiceResult::Success } else { judge(status, daemon, service) };
        let next = index.saturating_add(1);
        let more = command(service, Phase::Start, next).is_some() && service.kind == ServiceType::Oneshot;
        let lives_on = service.exit_cgroup && unit.run.populated;
        let (kind, sub, control) = (service.kind, unit.sub, unit.run.control);
        if result.is_failure() {
            self.log(out, id, Level::Notice, format!("main process ended: {status}"));
            self.explain(id, format!("main process: {status}"));
        }
        self.worsen(id, result);
        if lives_on && matches!(sub, SubState::Start | SubState::Running) && kind != ServiceType::Oneshot {
            // ExitType=cgroup: what it left behind is the service; when that ends is told by the cgroup.
            if sub == SubState::Start && !kind.is_notify() {
                self.phase_done(now, id, Phase::Start, out);
            }
            return;
        }
        match sub {
            SubState::Start if kind == ServiceType::Oneshot && result == ServiceResult::Success => {
                if more {
                    self.spawn(id, CommandRef { phase: Phase::Start, index: next }, out);
                } else {
                    self.phase_done(now, id, Phase::Start, out);
                }
            }
            SubState::Start if kind.is_notify() && result == ServiceResult::Success => {
                // It went away without a word.
                self.explain(id, "ended before it was ready".to_owned());
                self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Protocol, out);
            }
            SubState::Start if kind == ServiceType::Exec && result == ServiceResult::Success => {
                self.phase_done(now, id, Phase::Start, out);
            }
            SubState::Start => self.enter_signal(now, id, SubState::StopSigterm, result, out),
            SubState::Running => self.enter_running(now, id, out),
            SubState::StartPost | SubState::Reload | SubState::ReloadSignal | SubState::ReloadNotify
                if control.is_none() =>
            {
                self.enter_stop(now, id, result, out);
            }
            SubState::StopSigterm | SubState::StopSigkill | SubState::StopWatchdog if control.is_none() => {
                self.enter_stop_post(now, id, result, out);
            }
            SubState::StopPost if control.is_none() => {
                self.enter_signal(now, id, SubState::FinalSigterm, result, out);
            }
            SubState::FinalWatchdog | SubState::FinalSigterm | SubState::FinalSigkill
                if control.is_none() =>
            {
                self.after_final(now, id, out);
            }
            _ => {}
        }
    }

    fn control_exited(&mut self, now: Monotonic, id: UnitId, status: ExitStatus, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        let (sub, main) = (unit.sub, unit.run.main);
        let Some((phase, index)) = unit.run.command else {
            // Its list was given up on; all that is left is to wait for its end.
            if main.is_none() {
                self.group_step(now, id, out);
            }
            return;
        };
        let ignored = command(service, phase, index).is_some_and(|flags| flags.ignore_failure);
        let daemon = phase == Phase::Start;
        let mut result = if ignored { ServiceResult::Success } else { judge(status, daemon, service) };
        if phase == Phase::Condition && result == ServiceResult::ExitCode && status != ExitStatus::Code(255) {
            result = ServiceResult::ExecCondition;
        }
        let next = index.saturating_add(1);
        let more = command(service, phase, next).is_some();
        let has_start_post = command(service, Phase::StartPost, 0).is_some();
        let finds_main = service.kind == ServiceType::Forking
            && unit.spec.kind == UnitKind::Service
            && match phase {
                Phase::Start => sub == SubState::Start && !(service.has_pid_file && has_start_post),
                Phase::StartPost => service.has_pid_file && main.is_none(),
                _ => false,
            };
        if result == ServiceResult::Success {
            if more {
                self.spawn(id, CommandRef { phase, index: next }, out);
            } else if finds_main {
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.command = None;
                }
                out.push(Effect::FindMain { unit: id });
            } else if phase == Phase::Reload && unit.run.notify_state == NotifyState::Reloading {
                self.set_state(now, id, SubState::ReloadNotify, out);
            } else {
                self.phase_done(now, id, phase, out);
            }
            return;
        }
        if result.is_failure() {
            self.log(out, id, Level::Notice, format!("{} ended: {status}", phase.key()));
            if phase != Phase::Reload {
                self.explain(id, format!("{}: {status}", phase.key()));
            }
        }
        self.control_failed(now, id, phase, result, out);
    }

    /// There was no process to be had for a command, or nothing to run it with: no prefix of the command makes that good,
    /// and no exit status comes of it.
    pub(super) fn never_was(&mut self, now: Monotonic, process: ProcessId, out: &mut Vec<Effect>) {
        let Some(id) = self.processes.remove(&process) else { return };
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let result = ServiceResult::Resources;
        if unit.run.main.is_some_and(|main| main.id == process) {
            unit.run.main = None;
            // Type=simple counts as up from the moment that there is a process.
            if unit.sub.is_starting() || unit.sub == SubState::Running {
                self.enter_signal(now, id, SubState::StopSigterm, result, out);
            } else if unit.run.control.is_none() {
                self.worsen(id, result);
                self.group_step(now, id, out);
            }
        } else if unit.run.control.is_some_and(|control| control.id == process) {
            unit.run.control = None;
            match unit.run.command {
                Some((phase, _)) => self.control_failed(now, id, phase, result, out),
                None if unit.run.main.is_none() => self.group_step(now, id, out),
                None => {}
            }
        }
    }

    /// A command of a list has failed: the list is not worked through any further.
    fn control_failed(
        &mut self,
        now: Monotonic,
        id: UnitId,
        phase: Phase,
        result: ServiceResult,
        out: &mut Vec<Effect>,
    ) {
        match phase {
            Phase::Reload => {
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.reload_failed = true;
                }
                self.phase_done(now, id, phase, out);
            }
            Phase::StopPost => self.enter_signal(now, id, SubState::FinalSigterm, result, out),
            Phase::Stop if self.is_still_there(id) => self.stay_up(now, id, result, out),
            _ => self.enter_signal(now, id, SubState::StopSigterm, result, out),
        }
    }

    /// The last process of the cgroup is gone.
    pub(super) fn group_empty(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.populated = false;
        if unit.run.main.is_none() && unit.run.control.is_none() {
            self.group_step(now, id, out);
        }
    }

    /// Neither main nor control process is left: go on from a state that waited for that.
    pub(super) fn group_step(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        if unit.spec.kind != UnitKind::Service && unit.sub == SubState::Running {
            return; // a socket
        }
        match unit.sub {
            SubState::Running if !unit.run.populated => self.enter_running(now, id, out),
            SubState::Start if !unit.run.populated && self.has_ended_unheard(id) => {
                self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Protocol, out);
            }
            SubState::StopSigterm | SubState::StopSigkill | SubState::StopWatchdog if !unit.run.populated => {
                self.enter_stop_post(now, id, ServiceResult::Success, out);
            }
            SubState::FinalWatchdog | SubState::FinalSigterm | SubState::FinalSigkill => {
                self.after_final(now, id, out);
            }
            _ => {}
        }
    }

    /// A service with `ExitType=cgroup` that was to say when it is ready, and of which nothing is left.
    fn has_ended_unheard(&self, id: UnitId) -> bool {
        self.unit(id).is_some_and(|unit| {
            let notify = unit.spec.service.as_ref().is_some_and(|service| service.kind.is_notify());
            notify && unit.run.main_status.is_some()
        })
    }

    /// `OOMPolicy=`: the kernel has killed one of the unit's processes.
    pub(super) fn out_of_memory(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        let (policy, sub) = (service.oom_policy, unit.sub);
        self.log(out, id, Level::Warning, "a process was killed for want of memory".to_owned());
        let result = ServiceResult::OomKill;
        if policy == OomPolicy::Continue || sub.active_state().is_down() || sub.is_auto_restart() {
            return;
        }
        self.explain(id, "out of memory".to_owned());
        match sub {
            SubState::StopWatchdog | SubState::StopSigterm => {
                self.enter_signal(now, id, SubState::StopSigkill, result, out);
            }
            SubState::StopSigkill | SubState::FinalSigkill => self.worsen(id, result),
            SubState::StopPost | SubState::FinalSigterm | SubState::FinalWatchdog => {
                self.enter_signal(now, id, SubState::FinalSigkill, result, out);
            }
            _ if policy == OomPolicy::Kill => {
                self.enter_signal(now, id, SubState::StopSigkill, result, out);
            }
            SubState::Running | SubState::Exited => self.enter_stop(now, id, result, out),
            _ => self.enter_signal(now, id, SubState::StopSigterm, result, out),
        }
    }
}

/// Whether an end was a good one: 0, the unit's own list and, for daemons, the signals one stops them with.
fn judge(status: ExitStatus, daemon: bool, service: &ServiceSpec) -> ServiceResult {
    if service.success.contains(status) {
        return ServiceResult::Success;
    }
    match status {
        ExitStatus::Code(0) | ExitStatus::Unknown => ServiceResult::Success,
        ExitStatus::Code(_) => ServiceResult::ExitCode,
        ExitStatus::Signal { signal: SIGHUP | SIGINT | SIGTERM | SIGPIPE, .. } if daemon => {
            ServiceResult::Success
        }
        ExitStatus::Signal { core: true, .. } => ServiceResult::CoreDump,
        ExitStatus::Signal { core: false, .. } => ServiceResult::Signal,
    }
}
