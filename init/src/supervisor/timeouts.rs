//! A state that lasts too long, systemd.service(5): `TimeoutStartSec=` and its kin.

use super::Supervisor;
use super::event::{Effect, JobKind, Level};
use super::service_spec::TimeoutMode;
use super::spec::{Monotonic, UnitId, UnitKind};
use super::state::{ServiceResult, SubState};
use super::transaction::Mode;

impl Supervisor {
    /// The current state has lasted too long.
    pub(super) fn deadline_expired(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let (sub, kind) = (unit.sub, unit.spec.kind);
        match (kind, sub) {
            (UnitKind::Timer, _) => return self.elapsed(now, id, out),
            (_, SubState::AutoRestart) => return self.restart_due(now, id, out),
            (_, SubState::Start) if unit.run.idle_wait => return self.idle_over(now, id, out),
            _ => {}
        }
        let word = unit.sub_word();
        let Some(service) = &unit.spec.service else { return };
        let (send_sigkill, start_mode, stop_mode) =
            (service.send_sigkill, service.start_failure_mode, service.stop_failure_mode);
        let text = if sub == SubState::Running {
            "runtime limit reached".to_owned()
        } else {
            format!("timed out in state {word}")
        };
        self.log(out, id, Level::Warning, text.clone());
        if !sub.is_reloading() {
            self.explain(id, text);
        }
        let late = ServiceResult::Timeout;
        let aborts = stop_mode == TimeoutMode::Abort;
        match sub {
            SubState::Condition | SubState::StartPre | SubState::Start | SubState::StartPost => {
                self.give_up(now, id, start_mode, send_sigkill, out);
            }
            SubState::Stop => self.give_up(now, id, stop_mode, send_sigkill, out),
            SubState::Running => self.enter_stop(now, id, late, out),
            SubState::Reload | SubState::ReloadSignal | SubState::ReloadNotify => {
                self.drop_control(id, out);
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.reload_failed = true;
                    unit.run.notify_state = super::unit::NotifyState::Unknown;
                }
                self.enter_running(now, id, out);
            }
            SubState::StopSigterm if aborts => self.enter_signal(now, id, SubState::StopWatchdog, late, out),
            SubState::StopSigterm | SubState::StopWatchdog if send_sigkill => {
                self.enter_signal(now, id, SubState::StopSigkill, late, out);
            }
            SubState::StopSigterm | SubState::StopWatchdog | SubState::StopSigkill => {
                self.abandon(id);
                self.enter_stop_post(now, id, late, out);
            }
            SubState::StopPost => {
                let next = match stop_mode {
                    TimeoutMode::Terminate => SubState::FinalSigterm,
                    TimeoutMode::Abort => SubState::FinalWatchdog,
                    TimeoutMode::Kill if send_sigkill => SubState::FinalSigkill,
                    TimeoutMode::Kill => return self.enter_dead(now, id, late, out),
                };
                self.enter_signal(now, id, next, late, out);
            }
            SubState::FinalSigterm if aborts => {
                self.enter_signal(now, id, SubState::FinalWatchdog, late, out);
            }
            SubState::FinalSigterm | SubState::FinalWatchdog if send_sigkill => {
                self.enter_signal(now, id, SubState::FinalSigkill, late, out)
            }
            SubState::FinalSigterm | SubState::FinalWatchdog | SubState::FinalSigkill => {
                self.enter_dead(now, id, late, out);
            }
            _ => {}
        }
    }

    /// A start or a stop command takes too long.
    fn give_up(
        &mut self,
        now: Monotonic,
        id: UnitId,
        mode: TimeoutMode,
        send_sigkill: bool,
        out: &mut Vec<Effect>,
    ) {
        let late = ServiceResult::Timeout;
        match mode {
            TimeoutMode::Terminate => self.enter_signal(now, id, SubState::StopSigterm, late, out),
            TimeoutMode::Abort => self.enter_signal(now, id, SubState::StopWatchdog, late, out),
            TimeoutMode::Kill if send_sigkill => {
                self.enter_signal(now, id, SubState::StopSigkill, late, out);
            }
            TimeoutMode::Kill => {
                self.abandon(id);
                self.enter_stop_post(now, id, late, out);
            }
        }
    }

    /// The delay before a restart is over.
    fn restart_due(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        if self.unit(id).is_some_and(|unit| unit.has_job(JobKind::Stop)) {
            return; // its turn comes
        }
        match self.enqueue(now, id, JobKind::Start, Mode::RestartDependencies, out) {
            Ok(_) => {
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.restarts = unit.run.restarts.saturating_add(1);
                    unit.run.flush_restarts = false;
                    if let Some(job) = &mut unit.job {
                        job.running = false; // a job that has lasted through the failed attempts begins the next one
                    }
                }
                self.set_state(now, id, SubState::AutoRestartQueued, out);
            }
            Err(error) => {
                self.log(out, id, Level::Error, format!("cannot restart: {error}"));
                if let Some(unit) = self.units.get_mut(id.index()) {
                    unit.run.result = ServiceResult::Resources;
                    unit.run.flush_restarts = true;
                }
                self.set_state(now, id, SubState::Failed, out);
            }
        }
    }
}
