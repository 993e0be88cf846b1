//! What a service says on the notify socket, and the watchdog that hears when it says nothing: sd_notify(3).

use super::Supervisor;
use super::event::{Effect, JobKind, Level, ProcessId};
use super::notification::Notification;
use super::service_spec::{NotifyAccess, Phase};
use super::spec::{Edge, Monotonic, UnitId};
use super::state::{ServiceResult, SubState};
use super::transaction::Mode;
use super::unit::NotifyState;

impl Supervisor {
    /// Whether a message of this process counts: `NotifyAccess=`. Nothing is heard of a unit that is down.
    pub fn hears(&self, id: UnitId, from: Option<ProcessId>) -> bool {
        let Some(unit) = self.unit(id) else { return false };
        let Some(service) = &unit.spec.service else { return false };
        let from_main = from.is_some() && from == unit.run.main.map(|main| main.id);
        let from_control = from.is_some() && from == unit.run.control.map(|control| control.id);
        let heard = match unit.run.notify_access.unwrap_or(service.notify_access) {
            NotifyAccess::None => false,
            NotifyAccess::Main => from_main,
            NotifyAccess::Exec => from_main || from_control,
            NotifyAccess::All => true,
        };
        heard && !unit.active().is_down() && !unit.sub.is_auto_restart()
    }

    pub(super) fn notified(
        &mut self,
        now: Monotonic,
        id: UnitId,
        from: Option<ProcessId>,
        message: &Notification,
        out: &mut Vec<Effect>,
    ) {
        if !self.hears(id, from) {
            return;
        }
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if let Some(text) = &message.status {
            unit.run.status_text.clone_from(text);
        }
        if let Some(text) = &message.bus_error {
            unit.run.bus_error.clone_from(text);
        }
        unit.run.errno = message.errno.or(unit.run.errno);
        unit.run.notify_access = message.access.or(unit.run.notify_access);
        let stays_adopted =
            message.main_pid.is_none_or(|pid| unit.run.main.and_then(|main| main.pid) == Some(pid));
        if let Some(pid) = message.main_pid.filter(|_| !stays_adopted) {
            self.adopt(id, pid, out);
        }
        if let (Some(span), Some(deadline)) =
            (message.extend_timeout, self.unit(id).and_then(|unit| unit.deadline))
        {
            self.set_deadline(id, Some(deadline.max(now.after(Monotonic(span)))));
        }
        if let Some(limit) = message.watchdog_limit
            && let Some(unit) = self.units.get_mut(id.index())
        {
            unit.run.watchdog_limit = Some(Monotonic(limit));
            if matches!(unit.sub, SubState::Running | SubState::Start | SubState::StartPost) {
                self.arm_watchdog(now, id);
            }
        }
        self.told_of_state(now, id, message, out);
        let watched = self.unit(id).is_some_and(|unit| unit.watchdog.is_some());
        if message.watchdog_trigger {
            self.watchdog_expired(now, id, out);
        } else if message.watchdog && watched {
            self.arm_watchdog(now, id);
        }
    }

    /// `STOPPING=`, `READY=` and `RELOADING=`, of which the first that is there counts most.
    fn told_of_state(&mut self, now: Monotonic, id: UnitId, message: &Notification, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let Some(service) = &unit.spec.service else { return };
        let (notify, sub, began) = (service.kind.is_notify(), unit.sub, unit.run.reload_began);
        // Only a reload that began after we asked for it is the one that we asked for.
        let answers = message.monotonic.is_some_and(|when| when >= began.0);
        if message.stopping {
            unit.run.notify_state = NotifyState::Stopping;
            if matches!(sub, SubState::Running | SubState::ReloadSignal | SubState::ReloadNotify) {
                self.enter_stop_by_notify(now, id, out);
            }
        } else if message.ready {
            unit.run.notify_state = NotifyState::Ready;
            if sub == SubState::Start && notify {
                self.phase_done(now, id, Phase::Start, out);
            } else if sub == SubState::ReloadNotify
                || sub == SubState::ReloadSignal && message.reloading && answers
            {
                self.enter_running(now, id, out);
            } else if sub == SubState::Running && message.reloading {
                self.propagate_reload(now, id, out);
            }
        } else if message.reloading {
            unit.run.notify_state = NotifyState::Reloading;
            if sub == SubState::ReloadSignal && answers {
                self.set_state(now, id, SubState::ReloadNotify, out);
            } else if sub == SubState::Running {
                self.enter_reload_by_notify(now, id, out);
            }
        }
    }

    /// The service reloads of its own accord.
    pub(super) fn enter_reload_by_notify(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let timeout = self.service(id).and_then(|service| service.timeout_start);
        self.set_deadline(id, timeout.map(|span| now.after(span)));
        self.set_state(now, id, SubState::ReloadNotify, out);
        self.propagate_reload(now, id, out);
    }

    fn propagate_reload(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let others: Vec<UnitId> =
            unit.related(Edge::PropagatesReloadTo).filter(|other| self.can_reload(*other)).collect();
        for other in others {
            if let Err(error) = self.enqueue(now, other, JobKind::TryReload, Mode::Fail, out) {
                let text = format!("cannot reload {}: {error}", self.name(other));
                self.log(out, id, Level::Warning, text);
            }
        }
    }

    /// The service stops of its own accord: as if it had got its SIGTERM.
    pub(super) fn enter_stop_by_notify(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let timeout = self.service(id).and_then(|service| service.timeout_stop);
        self.set_watchdog(id, None);
        self.set_deadline(id, timeout.map(|span| now.after(span)));
        self.set_state(now, id, SubState::StopSigterm, out);
    }

    pub(super) fn watchdog_expired(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let sub = unit.sub;
        let watched = matches!(sub, SubState::Start | SubState::StartPost | SubState::Running);
        if watched || sub.is_reloading() {
            self.log(out, id, Level::Error, "watchdog timeout".to_owned());
            self.explain(id, "watchdog timeout".to_owned());
            self.enter_signal(now, id, SubState::StopWatchdog, ServiceResult::Watchdog, out);
        }
    }
}
