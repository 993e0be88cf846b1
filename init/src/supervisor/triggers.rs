//! Units that start others: systemd.socket(5), systemd.timer(5), systemd.path(5).

use super::Supervisor;
use super::event::{Effect, JobKind, JobResult, Level};
use super::service_spec::Phase;
use super::spec::{Edge, LoadState, Monotonic, TriggerSpec, UnitId, UnitKind};
use super::state::{ServiceResult, SubState};
use super::transaction::Mode;

impl Supervisor {
    fn trigger_spec(&self, id: UnitId) -> TriggerSpec {
        self.unit(id).and_then(|unit| unit.spec.trigger.clone()).unwrap_or_default()
    }

    /// A unit that starts another is of no use without that. True when the start was refused for it.
    fn lacks_unit(&mut self, id: UnitId, out: &mut Vec<Effect>) -> bool {
        let other = self.unit(id).and_then(super::unit::Unit::triggered);
        let loaded = |other| self.unit(other).is_some_and(|other| other.spec.load == LoadState::Loaded);
        if other.is_some_and(loaded) {
            return false;
        }
        let name = other.map_or("its unit", |other| self.name(other));
        let text = format!("{name} is not loaded, refusing");
        self.log(out, id, Level::Error, text);
        self.finish_job(id, JobResult::Failed, out);
        true
    }

    /// A socket cannot be opened while its service runs: that has its own. True when the start was refused for it.
    pub(super) fn is_socket_in_the_way(
        &mut self,
        _now: Monotonic,
        id: UnitId,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(unit) = self.unit(id) else { return false };
        if unit.spec.kind != UnitKind::Socket || self.trigger_spec(id).accept {
            return false;
        }
        if self.lacks_unit(id, out) {
            return true;
        }
        let Some(unit) = self.unit(id) else { return false };
        let runs = |other: UnitId| {
            self.unit(other).is_some_and(|other| !other.active().is_down() && !other.sub.is_auto_restart())
        };
        let Some(service) = unit.related(Edge::Triggers).find(|other| runs(*other)) else { return false };
        let text = format!("its service {} is already active, refusing", self.name(service));
        self.log(out, id, Level::Error, text);
        self.finish_job(id, JobResult::Failed, out);
        true
    }

    /// `ExecStartPre=` of a socket is done.
    pub(super) fn open_socket(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        self.set_state(now, id, SubState::Start, out);
        out.push(Effect::Listen { unit: id });
    }

    pub(super) fn listening(
        &mut self,
        now: Monotonic,
        id: UnitId,
        error: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        let waits = self
            .unit(id)
            .is_some_and(|unit| unit.spec.kind == UnitKind::Socket && unit.sub == SubState::Start);
        match error {
            _ if !waits => {}
            None => self.begin_phase(now, id, Phase::StartPost, out),
            Some(error) => {
                self.log(out, id, Level::Error, format!("cannot listen: {error}"));
                self.explain(id, error);
                self.enter_stop(now, id, ServiceResult::Resources, out);
            }
        }
    }

    pub(super) fn enter_listening(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        self.set_deadline(id, None);
        out.push(Effect::WatchSocket { unit: id, watch: true });
        self.set_state(now, id, SubState::Listening, out);
    }

    /// Something came in on a socket, or a path is as wanted.
    pub(super) fn trigger(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let spec = self.trigger_spec(id);
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let awaits = match unit.spec.kind {
            UnitKind::Socket => unit.sub == SubState::Listening,
            UnitKind::Path => matches!(unit.sub, SubState::Waiting | SubState::Running),
            _ => false,
        };
        if !awaits || unit.has_job(JobKind::Stop) {
            return;
        }
        if !unit.trigger_limit.admit(now, spec.limit.interval, spec.limit.burst) {
            self.log(out, id, Level::Error, "trigger limit hit, refusing further activation".to_owned());
            return self.fail_trigger(now, id, ServiceResult::TriggerLimitHit, out);
        }
        if self.start_triggered(now, id, out) {
            if self.unit(id).is_some_and(|unit| unit.spec.kind == UnitKind::Socket) {
                out.push(Effect::WatchSocket { unit: id, watch: false });
            }
            self.set_state(now, id, SubState::Running, out);
        } else {
            self.fail_trigger(now, id, ServiceResult::Resources, out);
        }
    }

    /// Starts the unit that `id` is there to start, unless that is up or about to be. False when it cannot be started.
    fn start_triggered(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) -> bool {
        let Some(other) = self.unit(id).and_then(super::unit::Unit::triggered) else { return false };
        let pending = self.unit(other).is_some_and(|other| {
            let up = other.sub != SubState::AutoRestart
                && other.sub.active_state() != super::ActiveState::Deactivating
                && !other.active().is_down();
            let starts = other.job.as_ref().is_some_and(|job| job.kind != JobKind::Stop);
            up && other.job.is_none() || starts
        });
        if pending {
            return true;
        }
        match self.enqueue(now, other, JobKind::Start, Mode::Replace, out) {
            Ok(_) => {
                self.note_activation(other, id);
                true
            }
            Err(error) => {
                let text = format!("cannot start {}: {error}", self.name(other));
                self.log(out, id, Level::Error, text.clone());
                self.explain(id, text);
                false
            }
        }
    }

    /// A start of `id` was asked for by a timer or path unit, for its environment. Who was first stays, as with systemd; a
    /// socket is told by what it hands over.
    fn note_activation(&mut self, id: UnitId, by: UnitId) {
        let is_told = self
            .unit(by)
            .is_some_and(|trigger| matches!(trigger.spec.kind, UnitKind::Timer | UnitKind::Path));
        if let Some(unit) = self.units.get_mut(id.index())
            && is_told
            && unit.active().is_down()
        {
            unit.activated_by.get_or_insert(by);
        }
    }

    fn fail_trigger(&mut self, now: Monotonic, id: UnitId, result: ServiceResult, out: &mut Vec<Effect>) {
        self.worsen(id, result);
        if self.unit(id).is_some_and(|unit| unit.spec.kind == UnitKind::Socket) {
            out.push(Effect::WatchSocket { unit: id, watch: false });
            self.enter_stop(now, id, result, out);
        } else {
            self.stop_trigger(now, id, SubState::Failed, out);
        }
    }

    /// A connection for a socket with `Accept=yes`; the shell has made sure that the instance is loaded.
    pub(super) fn connection(&mut self, now: Monotonic, id: UnitId, service: UnitId, out: &mut Vec<Effect>) {
        let spec = self.trigger_spec(id);
        self.relate_connection(id, service);
        let Some(unit) = self.unit(id) else { return };
        let alive = |other: &UnitId| {
            self.unit(*other).is_some_and(|other| !other.active().is_down() || other.job.is_some())
        };
        let connections = unit.related(Edge::Triggers).filter(alive).count();
        let listens = unit.sub == SubState::Listening && !unit.has_job(JobKind::Stop);
        let full = u32::try_from(connections).map_or(true, |count| count >= spec.max_connections);
        if !listens || full {
            if listens {
                let text = format!("too many connections ({connections}), dropping one");
                self.log(out, id, Level::Warning, text);
            }
            out.push(Effect::DropConnection { service });
            return;
        }
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if !unit.trigger_limit.admit(now, spec.limit.interval, spec.limit.burst) {
            self.log(out, id, Level::Error, "trigger limit hit, refusing further activation".to_owned());
            out.push(Effect::DropConnection { service });
            return self.fail_trigger(now, id, ServiceResult::TriggerLimitHit, out);
        }
        unit.accepted = unit.accepted.saturating_add(1);
        if let Err(error) = self.enqueue(now, service, JobKind::Start, Mode::Replace, out) {
            let text = format!("cannot start {}: {error}", self.name(service));
            self.log(out, id, Level::Error, text);
            out.push(Effect::DropConnection { service });
        }
    }

    /// Relates an instance to the socket whose connection it has.
    pub fn relate_connection(&mut self, socket: UnitId, service: UnitId) {
        self.add_edge(service, Edge::After, socket);
        self.add_edge(service, Edge::TriggeredBy, socket);
    }

    pub(super) fn start_timer(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        if self.lacks_unit(id, out) {
            return;
        }
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.run.result = ServiceResult::Success;
        unit.run.reason.clear();
        unit.last_trigger = None;
        unit.next_elapse = None;
        self.set_state(now, id, SubState::Waiting, out);
        out.push(Effect::ArmTimer { unit: id });
    }

    pub(super) fn timer_armed(
        &mut self,
        now: Monotonic,
        id: UnitId,
        next: Option<Monotonic>,
        may_return: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if unit.spec.kind != UnitKind::Timer || !matches!(unit.sub, SubState::Waiting | SubState::Elapsed) {
            return;
        }
        unit.next_elapse = next;
        self.set_deadline(id, next);
        let remains = may_return || self.trigger_spec(id).remain_after_elapse;
        let sub = match next {
            Some(_) => SubState::Waiting,
            None if remains => SubState::Elapsed,
            None => SubState::Dead,
        };
        self.set_state(now, id, sub, out);
    }

    /// A timer's time has come.
    pub(super) fn elapsed(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if unit.sub != SubState::Waiting || unit.has_job(JobKind::Stop) {
            return;
        }
        unit.last_trigger = Some(now);
        unit.next_elapse = None;
        let Some(other) = unit.triggered() else { return };
        match self.enqueue(now, other, JobKind::Start, Mode::Replace, out) {
            Ok(_) => {
                self.note_activation(other, id);
                out.push(Effect::TimerElapsed { unit: id });
                self.set_state(now, id, SubState::Running, out);
                self.review.insert(other);
            }
            Err(error) => {
                let text = format!("cannot start {}: {error}", self.name(other));
                self.log(out, id, Level::Error, text);
                self.fail_trigger(now, id, ServiceResult::Resources, out);
            }
        }
    }

    /// Somebody has set the clock.
    pub(super) fn clock_changed(&mut self, out: &mut Vec<Effect>) {
        for id in self.ids() {
            let Some(unit) = self.unit(id) else { continue };
            if unit.spec.kind == UnitKind::Timer && matches!(unit.sub, SubState::Waiting | SubState::Elapsed)
            {
                out.push(Effect::ArmTimer { unit: id });
            }
        }
    }

    pub(super) fn start_path(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        if self.lacks_unit(id, out) {
            return;
        }
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.run.result = ServiceResult::Success;
            unit.run.reason.clear();
        }
        // Before the job is said to be done: whoever waited for it may write at once. And before what the change leads to, which may be
        // the unit's end.
        out.push(Effect::WatchPath { unit: id, first: true });
        self.set_state(now, id, SubState::Waiting, out);
    }

    /// Ends a timer or path unit.
    pub(super) fn stop_trigger(&mut self, now: Monotonic, id: UnitId, sub: SubState, out: &mut Vec<Effect>) {
        self.set_deadline(id, None);
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.next_elapse = None;
        if unit.spec.kind == UnitKind::Path {
            out.push(Effect::UnwatchPath { unit: id });
        }
        self.set_state(now, id, sub, out);
    }

    /// Tells the units that start `id` what has become of it.
    pub(super) fn tell_triggers(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let triggers: Vec<UnitId> = unit.related(Edge::TriggeredBy).collect();
        if triggers.is_empty() {
            return;
        }
        let (sub, has_job) = (unit.sub, unit.job.is_some());
        let down = unit.active().is_down();
        let limit_hit = sub == SubState::Failed && unit.limit_hit;
        for other in triggers {
            let Some(trigger) = self.unit(other) else { continue };
            let state = trigger.sub;
            match (trigger.spec.kind, state) {
                (UnitKind::Socket, _) if self.trigger_spec(other).accept && down && !has_job => {
                    out.push(Effect::DropConnection { service: id });
                }
                (UnitKind::Socket, _) if self.trigger_spec(other).accept => {}
                (UnitKind::Socket, SubState::Listening | SubState::Running) => {
                    if limit_hit {
                        self.fail_trigger(now, other, ServiceResult::ServiceStartLimitHit, out);
                    } else if !has_job && (down || sub.is_auto_restart()) && state == SubState::Running {
                        self.enter_listening(now, other, out);
                    } else if sub == SubState::Running && state == SubState::Listening {
                        out.push(Effect::WatchSocket { unit: other, watch: false });
                        self.set_state(now, other, SubState::Running, out);
                    }
                }
                (UnitKind::Path, SubState::Waiting | SubState::Running) if limit_hit => {
                    self.fail_trigger(now, other, ServiceResult::UnitStartLimitHit, out);
                }
                (UnitKind::Path, SubState::Running) if down && !has_job => {
                    out.push(Effect::WatchPath { unit: other, first: false });
                    self.set_state(now, other, SubState::Waiting, out);
                }
                (UnitKind::Timer, SubState::Running) if down && !has_job => {
                    self.set_state(now, other, SubState::Waiting, out);
                    out.push(Effect::ArmTimer { unit: other });
                }
                (UnitKind::Timer, SubState::Waiting | SubState::Elapsed) => {
                    out.push(Effect::ArmTimer { unit: other });
                }
                _ => {}
            }
        }
    }
}
