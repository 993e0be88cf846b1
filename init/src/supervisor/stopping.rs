//! How a service goes down, systemd.kill(5), and whether it comes back.

use super::Supervisor;
use super::event::{Effect, JobKind, KillTarget, Level};
use super::service_spec::{KillMode, Phase, Restart, SIGCONT, SIGHUP, SIGKILL, ServiceSpec};
use super::spec::{Monotonic, UnitId, UnitKind};
use super::state::{ServiceResult, SubState};
use super::unit::{Process, Unit};

impl Supervisor {
    /// Begins a stop, from whatever state the service is in.
    pub(super) fn stop_service(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.stop_requested = true;
        if unit.sub == SubState::Active {
            unit.run.result = ServiceResult::Success; // whatever an earlier attempt to take it away came to
        }
        match unit.sub {
            SubState::AutoRestart | SubState::AutoRestartQueued => {
                unit.run.flush_restarts = true;
                self.set_deadline(id, None);
                self.set_state(now, id, SubState::Dead, out);
            }
            SubState::Condition | SubState::StartPre | SubState::Start | SubState::StartPost => {
                self.enter_signal(now, id, SubState::StopSigterm, ServiceResult::Success, out);
            }
            SubState::Reload | SubState::ReloadSignal | SubState::ReloadNotify => {
                self.drop_control(id, out);
                self.enter_stop(now, id, ServiceResult::Success, out);
            }
            SubState::Running | SubState::Exited | SubState::Active | SubState::Listening => {
                self.enter_stop(now, id, ServiceResult::Success, out);
            }
            _ => {}
        }
    }

    pub(super) fn enter_stop(
        &mut self,
        now: Monotonic,
        id: UnitId,
        result: ServiceResult,
        out: &mut Vec<Effect>,
    ) {
        self.worsen(id, result);
        self.set_watchdog(id, None);
        self.begin_phase(now, id, Phase::Stop, out);
    }

    /// Sends the signals of a state and waits in it as long as there is something to wait for.
    pub(super) fn enter_signal(
        &mut self,
        now: Monotonic,
        id: UnitId,
        state: SubState,
        result: ServiceResult,
        out: &mut Vec<Effect>,
    ) {
        self.worsen(id, result);
        self.set_watchdog(id, None);
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let Some(service) = &unit.spec.service else { return };
        unit.run.command = None;
        unit.run.idle_wait = false;
        let kills = matches!(state, SubState::StopSigkill | SubState::FinalSigkill);
        let aborts = matches!(state, SubState::StopWatchdog | SubState::FinalWatchdog);
        let whole_group = match service.kill_mode {
            KillMode::ControlGroup => true,
            KillMode::Mixed => kills,
            KillMode::Process | KillMode::None => false,
        };
        let single = service.kill_mode != KillMode::None && !whole_group;
        let processes: Vec<Process> = [unit.run.main, unit.run.control].into_iter().flatten().collect();
        let waits =
            whole_group && unit.run.populated || service.kill_mode != KillMode::None && !processes.is_empty();
        let send_sigkill = service.send_sigkill;
        if !waits {
            return match state {
                SubState::StopSigterm | SubState::StopWatchdog if send_sigkill => {
                    self.enter_signal(now, id, SubState::StopSigkill, ServiceResult::Success, out);
                }
                SubState::StopSigterm | SubState::StopWatchdog | SubState::StopSigkill => {
                    self.enter_stop_post(now, id, ServiceResult::Success, out);
                }
                SubState::FinalSigterm | SubState::FinalWatchdog if send_sigkill => {
                    self.enter_signal(now, id, SubState::FinalSigkill, ServiceResult::Success, out);
                }
                _ => self.enter_dead(now, id, ServiceResult::Success, out),
            };
        }
        let restarting = unit.job.as_ref().is_some_and(|job| job.kind == JobKind::Restart);
        let signal = match state {
            _ if kills => service.final_kill_signal,
            _ if aborts => service.watchdog_signal,
            SubState::StopSigterm if restarting => service.restart_kill_signal,
            _ => service.kill_signal,
        };
        let hangup = service.send_sighup && !kills && !aborts && signal != SIGHUP;
        let timeout = if aborts { service.timeout_abort } else { service.timeout_stop };
        if signal == SIGKILL && whole_group {
            out.push(Effect::KillGroup { unit: id });
        } else {
            // KillMode=mixed: the main process gets the signal, the rest only the last one.
            let targets: Vec<KillTarget> = if single {
                processes.iter().map(|process| KillTarget::Process(process.id)).collect()
            } else {
                vec![KillTarget::Group]
            };
            let mut signals = vec![signal];
            signals.extend(hangup.then_some(SIGHUP));
            if signal != SIGKILL {
                signals.push(SIGCONT); // a stopped process must be able to die
            }
            for target in targets {
                out.extend(signals.iter().map(|signal| Effect::Kill { unit: id, target, signal: *signal }));
            }
        }
        self.set_deadline(id, timeout.map(|span| now.after(span)));
        self.set_state(now, id, state, out);
    }

    pub(super) fn enter_stop_post(
        &mut self,
        now: Monotonic,
        id: UnitId,
        result: ServiceResult,
        out: &mut Vec<Effect>,
    ) {
        self.worsen(id, result);
        if self.unit(id).is_some_and(|unit| unit.spec.kind == UnitKind::Socket) {
            out.push(Effect::CloseSocket { unit: id });
        }
        self.begin_phase(now, id, Phase::StopPost, out);
    }

    /// The end of a life; maybe the next one is arranged for.
    pub(super) fn enter_dead(
        &mut self,
        now: Monotonic,
        id: UnitId,
        result: ServiceResult,
        out: &mut Vec<Effect>,
    ) {
        self.worsen(id, result);
        self.set_deadline(id, None);
        self.set_watchdog(id, None);
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.main = None;
        unit.run.control = None;
        unit.run.command = None;
        unit.run.idle_wait = false;
        let result = unit.run.result;
        let next = unit.run.restarts.saturating_add(1);
        let is_socket = unit.spec.kind == UnitKind::Socket;
        let restart =
            unit.spec.service.as_ref().filter(|_| unit.spec.kind == UnitKind::Service).and_then(|service| {
                let stopping =
                    unit.run.stop_requested || unit.job.as_ref().is_some_and(|job| job.kind == JobKind::Stop);
                let restart = !stopping && shall_restart(service, unit);
                restart.then(|| (now.after(service.delay(next)), service.restart_direct))
            });
        self.idle.remove(&id);
        if result.is_failure() {
            let reason =
                self.unit(id).map(|unit| unit.run.reason.clone()).filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            self.log(out, id, Level::Error, format!("failed with result '{result}'{reason}"));
        }
        if is_socket {
            out.push(Effect::CloseSocket { unit: id });
        }
        let automatically = restart.is_some();
        let restarting = automatically || self.unit(id).is_some_and(|unit| unit.has_job(JobKind::Restart));
        out.push(Effect::Release { unit: id, restarting, automatically });
        let failed = result.is_failure();
        match restart {
            None => {
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.flush_restarts = true;
                }
                self.set_state(now, id, if failed { SubState::Failed } else { SubState::Dead }, out);
            }
            Some((when, direct)) => {
                if !direct {
                    // Others see the end, and whoever waits for this start learns that it came to nothing.
                    let moment = if failed {
                        SubState::FailedBeforeAutoRestart
                    } else {
                        SubState::DeadBeforeAutoRestart
                    };
                    self.set_state(now, id, moment, out);
                }
                self.set_state(now, id, SubState::AutoRestart, out);
                self.set_deadline(id, Some(when));
            }
        }
    }

    /// In a final state with no process of ours left: the rest of the group may still be dying.
    pub(super) fn after_final(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let waits = self.unit(id).is_some_and(|unit| {
            let mode = unit.spec.service.as_ref().map(|service| service.kill_mode);
            let kills = unit.sub == SubState::FinalSigkill;
            unit.run.populated
                && (mode == Some(KillMode::ControlGroup) || kills && mode == Some(KillMode::Mixed))
        });
        if !waits {
            self.enter_dead(now, id, ServiceResult::Success, out);
        }
    }

    /// Processes that do not even die of SIGKILL are left to the kernel.
    pub(super) fn abandon(&mut self, id: UnitId) {
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.run.main = None;
            unit.run.control = None;
        }
    }

    pub(super) fn drop_control(&mut self, id: UnitId, out: &mut Vec<Effect>) {
        if let Some(unit) = self.units.get_mut(id.index())
            && let Some(control) = unit.run.control.take()
        {
            unit.run.command = None;
            out.push(Effect::Kill { unit: id, target: KillTarget::Process(control.id), signal: 9 });
        }
    }
}

/// The table of `Restart=` in systemd.service(5).
fn shall_restart(service: &ServiceSpec, unit: &Unit) -> bool {
    let result = unit.run.result;
    if let Some(status) = unit.run.main_status {
        if service.restart_prevent.contains(status) {
            return false;
        }
        if service.restart_force.contains(status) {
            return true;
        }
    }
    use ServiceResult as R;
    match service.restart {
        Restart::No => false,
        Restart::Always => result != R::ExecCondition,
        Restart::OnSuccess => result == R::Success,
        Restart::OnFailure => !matches!(result, R::Success | R::ExecCondition),
        Restart::OnAbnormal => !matches!(result, R::Success | R::ExitCode | R::ExecCondition),
        Restart::OnWatchdog => result == R::Watchdog,
        Restart::OnAbort => matches!(result, R::Signal | R::CoreDump),
    }
}
