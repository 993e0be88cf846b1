//! The life of a service up to the point where it runs, systemd.service(5). Sockets, mounts and swaps, whose commands are
//! run alike, share it.

use super::Supervisor;
use super::event::{CommandRef, Effect, KillTarget, Level, ProcessId};
use super::service_spec::{CommandFlags, ExitStatus, Phase, SIGCONT, ServiceSpec, ServiceType};
use super::spec::{Monotonic, UnitId, UnitKind};
use super::state::{ServiceResult, SubState};
use super::transaction::goes_down;
use super::unit::{NotifyState, Process, ServiceRun};

/// Types of services that are up as soon as there is a process.
const UP_AT_ONCE: [ServiceType; 2] = [ServiceType::Simple, ServiceType::Idle];
/// How long a process of `Type=idle` waits for other jobs at most: systemd's number.
const IDLE_PATIENCE: Monotonic = Monotonic::seconds(5);

impl Supervisor {
    /// Begins a start: the unit is down, its conditions are met.
    pub(super) fn start_service(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let restarts = if unit.run.flush_restarts { 0 } else { unit.run.restarts };
        unit.run = ServiceRun { restarts, populated: unit.run.populated, ..ServiceRun::default() };
        self.set_deadline(id, None);
        if self.is_socket_in_the_way(now, id, out) {
            return;
        }
        self.begin_phase(now, id, Phase::Condition, out);
    }

    /// Works through a list of commands; an empty one is done at once.
    pub(super) fn begin_phase(&mut self, now: Monotonic, id: UnitId, phase: Phase, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        let timeout = phase_timeout(service, phase);
        let (kind, is_service) = (service.kind, unit.spec.kind == UnitKind::Service);
        if service.commands.get(&phase).is_none_or(Vec::is_empty) {
            if phase == Phase::Start && is_service {
                self.set_state(now, id, SubState::Start, out); // for those who watch for it: nothing is up without it
            }
            self.phase_done(now, id, phase, out);
            return;
        }
        if phase == Phase::Start || phase == Phase::StartPost {
            self.arm_watchdog(now, id);
        }
        self.set_deadline(id, timeout.map(|span| now.after(span)));
        self.set_state(now, id, phase_state(phase), out);
        if phase == Phase::Start && kind == ServiceType::Idle && self.jobs > 0 {
            if let Some(unit) = self.units.get_mut(id.index()) {
                unit.run.idle_wait = true;
            }
            self.idle.insert(id);
            self.set_deadline(id, Some(now.after(IDLE_PATIENCE)));
            return;
        }
        self.spawn(id, CommandRef { phase, index: 0 }, out);
    }

    /// Lets the processes go that waited for other jobs, when there are none left.
    pub(super) fn release_idle(&mut self, now: Monotonic, out: &mut Vec<Effect>) {
        while self.jobs == 0
            && let Some(id) = self.idle.pop_first()
        {
            self.idle_over(now, id, out);
        }
    }

    /// The process of a service of `Type=idle` has waited enough.
    pub(super) fn idle_over(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if unit.job.as_ref().is_some_and(|job| goes_down(job.kind)) {
            // It is about to be stopped, so there is no point in starting; but that may be called off.
            return self.set_deadline(id, Some(now.after(IDLE_PATIENCE)));
        }
        let waits = std::mem::take(&mut unit.run.idle_wait) && unit.sub == SubState::Start;
        self.idle.remove(&id);
        if waits {
            self.set_deadline(id, None);
            self.spawn(id, CommandRef { phase: Phase::Start, index: 0 }, out);
        }
    }

    pub(super) fn next_process(&mut self, id: UnitId) -> ProcessId {
        let process = ProcessId(self.last_process.wrapping_add(1));
        self.last_process = process.0;
        self.processes.insert(process, id);
        process
    }

    pub(super) fn spawn(&mut self, id: UnitId, command: CommandRef, out: &mut Vec<Effect>) {
        let process = self.next_process(id);
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let is_main = command.phase == Phase::Start
            && unit.spec.kind == UnitKind::Service
            && unit.spec.service.as_ref().is_some_and(|service| service.kind != ServiceType::Forking);
        unit.run.populated = true;
        let main_pid = unit.run.main.and_then(|main| main.pid);
        let entry = Some(Process { id: process, pid: None });
        if is_main {
            unit.run.main = entry;
            unit.run.main_command = command.index;
        } else {
            unit.run.control = entry;
            unit.run.command = Some((command.phase, command.index));
        }
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
        // systemd reads the files before it makes a process, and a simple service is not up without them.
        if !self.service(id).is_some_and(|service| service.needs_files) {
            self.started_if(now, process, &UP_AT_ONCE, out);
        }
    }

    pub(super) fn executed(&mut self, now: Monotonic, process: ProcessId, out: &mut Vec<Effect>) {
        self.started_if(now, process, &UP_AT_ONCE, out);
        self.started_if(now, process, &[ServiceType::Exec], out);
    }

    /// The main process has come far enough for a service of one of these types to be up.
    fn started_if(
        &mut self,
        now: Monotonic,
        process: ProcessId,
        kinds: &[ServiceType],
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.unit_of(process) else { return };
        let Some(unit) = self.unit(id) else { return };
        let is_main = unit.run.main.is_some_and(|main| main.id == process);
        let is_kind = unit.spec.service.as_ref().is_some_and(|service| kinds.contains(&service.kind));
        if is_main && is_kind && unit.sub == SubState::Start {
            self.phase_done(now, id, Phase::Start, out);
        }
    }

    pub(super) fn spawn_failed(
        &mut self,
        now: Monotonic,
        process: ProcessId,
        code: Option<i32>,
        reason: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.unit_of(process) else { return };
        self.log(out, id, Level::Error, format!("cannot start a process: {reason}"));
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.run.reason = reason.to_owned();
        }
        match code {
            None => self.never_was(now, process, out),
            Some(code) => {
                // The files were there, so it was up before it failed at something else.
                self.started_if(now, process, &UP_AT_ONCE, out);
                self.exited(now, process, ExitStatus::Code(code), out);
            }
        }
    }

    /// All commands of a list have gone well.
    pub(super) fn phase_done(&mut self, now: Monotonic, id: UnitId, phase: Phase, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.command = None;
        let kind = unit.spec.kind;
        match phase {
            Phase::Condition => self.begin_phase(now, id, Phase::StartPre, out),
            Phase::StartPre if kind == UnitKind::Socket => self.open_socket(now, id, out),
            Phase::StartPre => self.begin_phase(now, id, Phase::Start, out),
            Phase::Start => self.begin_phase(now, id, Phase::StartPost, out),
            Phase::StartPost | Phase::Reload => self.enter_running(now, id, out),
            Phase::Stop => self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Success, out),
            Phase::StopPost => {
                self.enter_signal(now, id, SubState::FinalSigterm, ServiceResult::Success, out)
            }
        }
    }

    /// The unit is up, or would be if there were anything left of it.
    pub(super) fn enter_running(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        let run = &unit.run;
        // Nothing is known of the main process when there never was one to know of: then the cgroup tells.
        let main_unknown = run.main_status.is_none() && service.kind != ServiceType::Oneshot;
        let alive = run.main.is_some() || run.populated && (main_unknown || service.exit_cgroup);
        let (runtime_max, extra, remain) =
            (service.runtime_max, service.runtime_extra, service.remain_after_exit);
        if run.result != ServiceResult::Success {
            return self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Success, out);
        }
        match unit.spec.kind {
            UnitKind::Socket => return self.enter_listening(now, id, out),
            UnitKind::Mount | UnitKind::Swap => {
                self.set_deadline(id, None);
                return self.set_state(now, id, SubState::Active, out);
            }
            _ => {}
        }
        match run.notify_state {
            NotifyState::Reloading if alive => self.enter_reload_by_notify(now, id, out),
            NotifyState::Stopping if alive => self.enter_stop_by_notify(now, id, out),
            _ if alive => {
                self.arm_watchdog(now, id);
                self.set_deadline(id, None);
                self.set_state(now, id, SubState::Running, out);
                let since = self.unit(id).and_then(|unit| unit.times.active_enter).unwrap_or(now);
                let span = runtime_max.map(|span| span.after(by_chance(extra, since)));
                self.set_deadline(id, span.map(|span| since.after(span)));
            }
            _ if remain => {
                self.set_deadline(id, None);
                self.set_watchdog(id, None);
                self.set_state(now, id, SubState::Exited, out);
            }
            _ => self.enter_stop(now, id, ServiceResult::Success, out),
        }
    }

    pub(super) fn arm_watchdog(&mut self, now: Monotonic, id: UnitId) {
        let Some(unit) = self.unit(id) else { return };
        let own = unit.spec.service.as_ref().and_then(|service| service.watchdog);
        let span = unit.run.watchdog_limit.or(own).filter(|span| span.0 > 0);
        self.set_watchdog(id, span.map(|span| now.after(span)));
    }

    pub(super) fn begin_reload(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.reload_failed = false;
        unit.run.reload_began = now;
        let Some(service) = &unit.spec.service else { return };
        let (signal, timeout) = (service.reload_signal, service.timeout_start);
        let commands = service.commands.get(&Phase::Reload).is_some_and(|list| !list.is_empty());
        let told = unit.run.main.filter(|_| service.kind == ServiceType::NotifyReload);
        if let Some(main) = told {
            let target = KillTarget::Process(main.id);
            out.extend([signal, SIGCONT].map(|signal| Effect::Kill { unit: id, target, signal }));
        }
        if commands {
            self.begin_phase(now, id, Phase::Reload, out);
        } else if told.is_some() {
            self.set_deadline(id, timeout.map(|span| now.after(span)));
            self.set_state(now, id, SubState::ReloadSignal, out);
        } else {
            self.enter_running(now, id, out);
        }
    }

    pub(super) fn main_found(&mut self, now: Monotonic, id: UnitId, pid: Option<u32>, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(service) = &unit.spec.service else { return };
        let phase = match unit.sub {
            SubState::Start => Phase::Start,
            SubState::StartPost => Phase::StartPost,
            _ => return,
        };
        if service.kind != ServiceType::Forking || unit.run.control.is_some() {
            return;
        }
        match pid {
            Some(pid) => {
                self.adopt(id, pid, out);
                self.phase_done(now, id, phase, out);
            }
            None if service.has_pid_file => {
                self.explain(id, "no usable PID file".to_owned());
                self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Protocol, out);
            }
            None => self.phase_done(now, id, phase, out),
        }
    }

    pub(super) fn adopt(&mut self, id: UnitId, pid: u32, out: &mut Vec<Effect>) {
        let process = self.next_process(id);
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.main = Some(Process { id: process, pid: Some(pid) });
        unit.run.populated = true;
        out.push(Effect::Adopt { unit: id, process, pid });
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

/// How long one command of a list may take. A simple service is up before its process has done anything.
fn phase_timeout(service: &ServiceSpec, phase: Phase) -> Option<Monotonic> {
    match phase {
        Phase::Stop | Phase::StopPost => service.timeout_stop,
        Phase::Start if UP_AT_ONCE.contains(&service.kind) && !service.needs_files => None,
        _ => service.timeout_start,
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

pub(super) fn command(service: &ServiceSpec, phase: Phase, index: usize) -> Option<CommandFlags> {
    service.commands.get(&phase)?.get(index).copied()
}

/// A part of a span. The microsecond of the start is all the chance there is: services that start together are to end apart,
/// and nobody is to be kept from guessing.
fn by_chance(most: Monotonic, start: Monotonic) -> Monotonic {
    // The finalizer of SplitMix64.
    let mut mixed = start.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let part = (u128::from(most.0) * u128::from(mixed)) >> 64;
    Monotonic(u64::try_from(part).unwrap_or(most.0))
}
