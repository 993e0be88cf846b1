//! The life of one service, systemd.service(5) and systemd.kill(5).

use super::Supervisor;
use super::event::{CommandRef, Effect, JobKind, Level, Notification, ProcessId};
use super::spec::{
    CommandFlags, ExitStatus, Monotonic, NotifyAccess, Phase, SIGHUP, SIGINT, SIGPIPE, SIGTERM, ServiceSpec,
    ServiceType, UnitId,
};
use super::transaction::Mode;
use super::unit::{Process, ServiceResult, ServiceRun, SubState};

impl Supervisor {
    /// Begins a start: the unit is down, its conditions are met.
    pub(super) fn start_service(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let (interval, burst) = (unit.spec.start_limit_interval, unit.spec.start_limit_burst);
        let admitted = unit.limit.admit(now, interval, burst);
        unit.run = ServiceRun {
            restarts: unit.run.restarts,
            populated: unit.run.populated,
            ..ServiceRun::default()
        };
        self.set_deadline(id, None);
        if !admitted {
            if let Some(unit) = self.units.get_mut(id.index()) {
                unit.run.result = ServiceResult::StartLimitHit;
                unit.run.reason = "started too often".to_owned();
            }
            self.log(out, id, Level::Error, "start request repeated too quickly".to_owned());
            self.set_state(now, id, SubState::Failed, out);
            return;
        }
        self.begin_phase(now, id, Phase::Condition, out);
    }

    /// Works through a list of commands; an empty one is done at once.
    pub(super) fn begin_phase(&mut self, now: Monotonic, id: UnitId, phase: Phase, out: &mut Vec<Effect>) {
        let Some(service) = self.service(id) else { return };
        let timeout = match phase {
            Phase::Stop | Phase::StopPost => service.timeout_stop,
            _ => service.timeout_start,
        };
        if service.commands.get(&phase).is_none_or(Vec::is_empty) {
            self.phase_done(now, id, phase, out);
            return;
        }
        if phase == Phase::Start || phase == Phase::StartPost {
            self.arm_watchdog(now, id);
        }
        self.set_deadline(id, timeout.map(|span| now.after(span)));
        self.set_state(now, id, phase_state(phase), out);
        self.spawn(id, CommandRef { phase, index: 0 }, out);
    }

    pub(super) fn spawn(&mut self, id: UnitId, command: CommandRef, out: &mut Vec<Effect>) {
        let process = ProcessId(self.last_process.wrapping_add(1));
        self.last_process = process.0;
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let forks = unit.spec.service.as_ref().is_some_and(|service| service.kind == ServiceType::Forking);
        unit.run.command = Some((command.phase, command.index));
        unit.run.populated = true;
        let main_pid = unit.run.main.and_then(|main| main.pid);
        let entry = Some(Process { id: process, pid: None });
        if command.phase == Phase::Start && !forks {
            unit.run.main = entry;
        } else {
            unit.run.control = entry;
        }
        self.processes.insert(process, id);
        out.push(Effect::Spawn { unit: id, process, command, main_pid });
    }

    pub(super) fn spawned(&mut self, now: Monotonic, process: ProcessId, pid: u32, out: &mut Vec<Effect>) {
        let Some(id) = self.unit_of(process) else { return };
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        for entry in [&mut unit.run.main, &mut unit.run.control].into_iter().flatten() {
            if entry.id == process {
                entry.pid = Some(pid);
            }
        }
        self.started_if(now, process, ServiceType::Simple, out);
    }

    pub(super) fn executed(&mut self, now: Monotonic, process: ProcessId, out: &mut Vec<Effect>) {
        self.started_if(now, process, ServiceType::Exec, out);
    }

    /// The main process has come far enough for a service of this type to be up.
    fn started_if(&mut self, now: Monotonic, process: ProcessId, kind: ServiceType, out: &mut Vec<Effect>) {
        let Some(id) = self.unit_of(process) else { return };
        let Some(unit) = self.unit(id) else { return };
        let is_main = unit.run.main.is_some_and(|main| main.id == process);
        let is_kind = unit.spec.service.as_ref().is_some_and(|service| service.kind == kind);
        if is_main && is_kind && unit.sub == SubState::Start {
            self.phase_done(now, id, Phase::Start, out);
        }
    }

    pub(super) fn spawn_failed(
        &mut self,
        now: Monotonic,
        process: ProcessId,
        code: i32,
        reason: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.unit_of(process) else { return };
        self.log(out, id, Level::Error, format!("cannot start a process: {reason}"));
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.run.reason = reason.to_owned();
        }
        self.exited(now, process, ExitStatus::Code(code), out);
    }

    /// All commands of a list have gone well.
    fn phase_done(&mut self, now: Monotonic, id: UnitId, phase: Phase, out: &mut Vec<Effect>) {
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.run.command = None;
        }
        match phase {
            Phase::Condition => self.begin_phase(now, id, Phase::StartPre, out),
            Phase::StartPre => self.begin_phase(now, id, Phase::Start, out),
            Phase::Start => self.begin_phase(now, id, Phase::StartPost, out),
            Phase::StartPost | Phase::Reload => self.enter_running(now, id, out),
            Phase::Stop => self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Success, out),
            Phase::StopPost => {
                self.enter_signal(now, id, SubState::FinalSigterm, ServiceResult::Success, out)
            }
        }
    }

    /// The service is up, or would be if there were anything left of it.
    pub(super) fn enter_running(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        let alive = match unit.run.main {
            Some(_) => true,
            None => {
                unit.run.main_status.is_none() && service.kind != ServiceType::Oneshot && unit.run.populated
            }
        };
        let runtime_max = service.runtime_max;
        if unit.run.result != ServiceResult::Success {
            self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Success, out);
        } else if alive {
            self.set_deadline(id, runtime_max.map(|span| now.after(span)));
            self.arm_watchdog(now, id);
            self.set_state(now, id, SubState::Running, out);
        } else if service.remain_after_exit {
            self.set_deadline(id, None);
            self.set_watchdog(id, None);
            self.set_state(now, id, SubState::Exited, out);
        } else {
            self.enter_stop(now, id, ServiceResult::Success, out);
        }
    }

    fn arm_watchdog(&mut self, now: Monotonic, id: UnitId) {
        let span = self.service(id).and_then(|service| service.watchdog);
        self.set_watchdog(id, span.map(|span| now.after(span)));
    }

    pub(super) fn begin_reload(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.run.reload_failed = false;
        }
        self.begin_phase(now, id, Phase::Reload, out);
    }

    /// A process has ended.
    pub(super) fn exited(
        &mut self,
        now: Monotonic,
        process: ProcessId,
        status: ExitStatus,
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.processes.remove(&process) else { return };
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
        let index = match unit.run.command {
            Some((Phase::Start, index)) => index,
            _ => 0,
        };
        let ignored = command(service, Phase::Start, index).is_some_and(|flags| flags.ignore_failure);
        let daemon = service.kind != ServiceType::Oneshot;
        let mut result = if ignored { ServiceResult::Success } else { judge(status, daemon, service) };
        let more = command(service, Phase::Start, index.saturating_add(1)).is_some();
        let (kind, sub, control) = (service.kind, unit.sub, unit.run.control);
        if result.is_failure() {
            self.log(out, id, Level::Notice, format!("main process ended: {status}"));
            self.explain(id, format!("main process: {status}"));
        }
        self.worsen(id, result);
        match sub {
            SubState::Start if kind == ServiceType::Oneshot && result == ServiceResult::Success => {
                if more {
                    self.spawn(id, CommandRef { phase: Phase::Start, index: index.saturating_add(1) }, out);
                } else {
                    self.phase_done(now, id, Phase::Start, out);
                }
            }
            SubState::Start => {
                if kind == ServiceType::Notify && result == ServiceResult::Success {
                    result = ServiceResult::Protocol; // it went away without a word
                    self.explain(id, "ended before it was ready".to_owned());
                }
                if kind == ServiceType::Exec && result == ServiceResult::Success {
                    self.phase_done(now, id, Phase::Start, out);
                } else {
                    self.enter_signal(now, id, SubState::StopSigterm, result, out);
                }
            }
            SubState::Running => self.enter_running(now, id, out),
            SubState::StartPost | SubState::Reload if control.is_none() => {
                self.enter_stop(now, id, result, out)
            }
            SubState::Stop if control.is_none() => {
                self.enter_signal(now, id, SubState::StopSigterm, result, out);
            }
            SubState::StopSigterm | SubState::StopSigkill | SubState::StopWatchdog if control.is_none() => {
                self.enter_stop_post(now, id, result, out);
            }
            SubState::FinalSigterm | SubState::FinalSigkill if control.is_none() => {
                self.after_final(now, id, out)
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
        let mut result = if ignored { ServiceResult::Success } else { judge(status, false, service) };
        if phase == Phase::Condition && matches!(status, ExitStatus::Code(1..=254)) && !ignored {
            result = ServiceResult::ExecCondition;
        }
        if result == ServiceResult::Success {
            let next = index.saturating_add(1);
            if command(service, phase, next).is_some() {
                self.spawn(id, CommandRef { phase, index: next }, out);
            } else if phase == Phase::Start && sub == SubState::Start {
                out.push(Effect::FindMain { unit: id }); // Type=forking
            } else {
                self.phase_done(now, id, phase, out);
            }
            return;
        }
        if result.is_failure() {
            self.log(out, id, Level::Notice, format!("{} ended: {status}", phase.key()));
            self.explain(id, format!("{}: {status}", phase.key()));
        }
        match phase {
            Phase::Reload => {
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.reload_failed = true;
                }
                self.phase_done(now, id, phase, out);
            }
            Phase::StopPost => self.enter_signal(now, id, SubState::FinalSigterm, result, out),
            _ => self.enter_signal(now, id, SubState::StopSigterm, result, out),
        }
    }

    pub(super) fn main_found(&mut self, now: Monotonic, id: UnitId, pid: Option<u32>, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        if service.kind != ServiceType::Forking || unit.sub != SubState::Start || unit.run.control.is_some() {
            return;
        }
        match pid {
            Some(pid) => {
                self.adopt(id, pid, out);
                self.phase_done(now, id, Phase::Start, out);
            }
            None if service.has_pid_file => {
                self.explain(id, "no usable PID file".to_owned());
                self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Protocol, out);
            }
            None => self.phase_done(now, id, Phase::Start, out),
        }
    }

    fn adopt(&mut self, id: UnitId, pid: u32, out: &mut Vec<Effect>) {
        let process = ProcessId(self.last_process.wrapping_add(1));
        self.last_process = process.0;
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.main = Some(Process { id: process, pid: Some(pid) });
        unit.run.populated = true;
        self.processes.insert(process, id);
        out.push(Effect::Adopt { unit: id, process, pid });
    }

    pub(super) fn notified(
        &mut self,
        now: Monotonic,
        id: UnitId,
        from: Option<ProcessId>,
        message: &Notification,
        out: &mut Vec<Effect>,
    ) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let Some(service) = &unit.spec.service else { return };
        let from_main = from.is_some() && from == unit.run.main.map(|main| main.id);
        let from_control = from.is_some() && from == unit.run.control.map(|control| control.id);
        let heard = match service.notify_access {
            NotifyAccess::None => false,
            NotifyAccess::Main => from_main,
            NotifyAccess::Exec => from_main || from_control,
            NotifyAccess::All => true,
        };
        if !heard || unit.active().is_down() {
            return;
        }
        let (kind, has_watchdog) = (service.kind, unit.watchdog.is_some());
        if let Some(text) = &message.status {
            unit.run.status_text.clone_from(text);
        }
        if let Some(pid) = message.main_pid
            && unit.run.main.and_then(|main| main.pid) != Some(pid)
        {
            self.adopt(id, pid, out);
        }
        if let (Some(span), Some(deadline)) =
            (message.extend_timeout, self.unit(id).and_then(|unit| unit.deadline))
        {
            self.set_deadline(id, Some(deadline.max(now.after(Monotonic(span)))));
        }
        let sub = self.unit(id).map(|unit| unit.sub);
        if message.ready {
            if let Some(unit) = self.units.get_mut(id.index()) {
                unit.run.ready = true;
            }
            if kind == ServiceType::Notify && sub == Some(SubState::Start) {
                self.phase_done(now, id, Phase::Start, out);
            }
        }
        if message.stopping && self.unit(id).is_some_and(|unit| unit.sub == SubState::Running) {
            let timeout = self.service(id).and_then(|service| service.timeout_stop);
            self.set_watchdog(id, None);
            self.set_deadline(id, timeout.map(|span| now.after(span)));
            self.set_state(now, id, SubState::StopSigterm, out);
            return;
        }
        if message.watchdog_trigger {
            self.watchdog_expired(now, id, out);
        } else if message.watchdog && has_watchdog {
            self.arm_watchdog(now, id);
        }
    }

    pub(super) fn watchdog_expired(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        if matches!(unit.sub, SubState::Start | SubState::StartPost | SubState::Running | SubState::Reload) {
            self.log(out, id, Level::Error, "watchdog timeout".to_owned());
            self.explain(id, "watchdog timeout".to_owned());
            self.enter_signal(now, id, SubState::StopWatchdog, ServiceResult::Watchdog, out);
        }
    }

    /// The current state has lasted too long.
    pub(super) fn deadline_expired(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let sub = unit.sub;
        let send_sigkill = unit.spec.service.as_ref().is_some_and(|service| service.send_sigkill);
        if sub != SubState::AutoRestart {
            self.log(out, id, Level::Warning, format!("timed out in state {}", sub.word()));
            self.explain(id, format!("timed out in state {}", sub.word()));
        }
        let late = ServiceResult::Timeout;
        match sub {
            SubState::Condition
            | SubState::StartPre
            | SubState::Start
            | SubState::StartPost
            | SubState::Stop => {
                self.enter_signal(now, id, SubState::StopSigterm, late, out);
            }
            SubState::Running => self.enter_stop(now, id, late, out),
            SubState::Reload => {
                self.drop_control(id, out);
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.reload_failed = true;
                }
                self.enter_running(now, id, out);
            }
            SubState::StopSigterm | SubState::StopWatchdog if send_sigkill => {
                self.enter_signal(now, id, SubState::StopSigkill, late, out);
            }
            SubState::StopSigterm | SubState::StopWatchdog | SubState::StopSigkill => {
                self.abandon(id);
                self.enter_stop_post(now, id, late, out);
            }
            SubState::StopPost => self.enter_signal(now, id, SubState::FinalSigterm, late, out),
            SubState::FinalSigterm if send_sigkill => {
                self.enter_signal(now, id, SubState::FinalSigkill, late, out)
            }
            SubState::FinalSigterm | SubState::FinalSigkill => self.enter_dead(now, id, late, out),
            SubState::AutoRestart => {
                if let Err(error) = self.enqueue(now, id, JobKind::Start, Mode::Replace, out) {
                    self.log(out, id, Level::Error, format!("cannot restart: {error}"));
                    self.set_state(now, id, SubState::Failed, out);
                }
            }
            SubState::Exited | SubState::Dead | SubState::Failed | SubState::Active => {}
        }
    }

    /// The first thing that goes wrong names the result.
    pub(super) fn worsen(&mut self, id: UnitId, result: ServiceResult) {
        if let Some(unit) = self.units.get_mut(id.index())
            && unit.run.result == ServiceResult::Success
        {
            unit.run.result = result;
        }
    }

    pub(super) fn explain(&mut self, id: UnitId, reason: String) {
        if let Some(unit) = self.units.get_mut(id.index())
            && unit.run.reason.is_empty()
        {
            unit.run.reason = reason;
        }
    }

    pub(super) fn service(&self, id: UnitId) -> Option<&ServiceSpec> {
        self.unit(id)?.spec.service.as_ref()
    }
}

fn phase_state(phase: Phase) -> SubState {
    match phase {
        Phase::Condition => SubState::Condition,
        Phase::StartPre => SubState::StartPre,
        Phase::Start => SubState::Start,
        Phase::StartPost => SubState::StartPost,
        Phase::Reload => SubState::Reload,
        Phase::Stop => SubState::Stop,
        Phase::StopPost => SubState::StopPost,
    }
}

fn command(service: &ServiceSpec, phase: Phase, index: usize) -> Option<CommandFlags> {
    service.commands.get(&phase)?.get(index).copied()
}

/// Whether an end was a good one: 0, the service's own list and, for daemons, the signals one stops them with.
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
