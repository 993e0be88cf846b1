//! The supervisor: units, jobs and services as a state machine without I/O.
//!
//! Everything that happens comes in as an [`Event`] with the time at which it happened, or as a request; everything that
//! is to be done comes out as a list of [`Effect`]s, which the caller carries out in order. The machine never blocks, has
//! no clock and no panic path, and nothing that a service does makes it fail.
//!
//! Where to start: [`Supervisor::request`] plans (`transaction`), `jobs` decides when a planned job may run, `service` is
//! the life of one service. The behaviour is that of systemd.unit(5), systemd.service(5) and systemd.kill(5).

mod collect;
mod ended;
mod event;
mod graph;
mod jobs;
mod notification;
mod notified;
mod presence;
mod reactions;
mod service;
mod service_spec;
mod snapshot;
mod spec;
mod state;
mod stopping;
#[cfg(test)]
mod tests;
mod timeouts;
mod transaction;
mod triggers;
mod unit;

pub use event::{
    CommandRef, ConditionOutcome, Effect, Event, JobId, JobKind, JobResult, KillTarget, Level, PowerAction,
    ProcessId,
};
pub use notification::Notification;
pub use service_spec::{
    CommandFlags, DEFAULT_TIMEOUT, ExitSet, ExitStatus, KillMode, NotifyAccess, OomPolicy, Phase, Restart,
    ServiceSpec, ServiceType, TimeoutMode,
};
pub use snapshot::{Snapshot, UnitSnapshot};
pub use spec::{Action, Edge, LoadState, Monotonic, TriggerLimit, TriggerSpec, UnitId, UnitKind, UnitSpec};
pub use state::{ActiveState, ServiceResult, SubState};
pub use transaction::{Mode, RequestError};
pub use unit::{Job, NotifyState, Process, RateLimit, ServiceRun, Times, Unit};

use std::collections::{BTreeMap, BTreeSet};

/// What is to be done at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Clock {
    /// The unit's state ends.
    State,
    /// The watchdog bites.
    Watchdog,
    /// The job has taken too long.
    Job,
    /// Whether the unit is to be upheld is looked at again.
    Uphold,
}

/// The state machine.
#[derive(Debug, Default)]
pub struct Supervisor {
    units: Vec<Unit>,
    names: BTreeMap<String, UnitId>,
    processes: BTreeMap<ProcessId, UnitId>,
    /// Points at which something is to be done, by time.
    timers: BTreeSet<(Monotonic, UnitId, Clock)>,
    /// Units whose job may be able to run.
    queue: BTreeSet<UnitId>,
    /// Units whose surroundings have changed.
    review: BTreeSet<UnitId>,
    /// Units that may not be needed any more.
    garbage: BTreeSet<UnitId>,
    /// Places of units that were forgotten, to be used again.
    free: BTreeSet<UnitId>,
    /// All device units: there are few, and they are looked at often.
    devices: BTreeSet<UnitId>,
    /// Services of `Type=idle` whose process waits for the other jobs.
    idle: BTreeSet<UnitId>,
    last_process: u64,
    last_job: u32,
    jobs: u32,
}

impl Supervisor {
    /// A supervisor without units.
    pub fn new() -> Supervisor {
        Supervisor::default()
    }

    /// Adds units that belong together, or replaces those of the same name (their state stays). Units which these name
    /// and which are in neither set count as not found.
    pub fn add(&mut self, specs: Vec<UnitSpec>) {
        let mut fresh = Vec::with_capacity(specs.len());
        for mut spec in specs {
            let id = self.lookup_or_insert(&spec.name);
            for alias in &spec.aliases {
                self.names.insert(alias.clone(), id);
            }
            if let Some(unit) = self.units.get_mut(id.index()) {
                let known = std::mem::take(&mut unit.spec.aliases);
                spec.aliases.extend(
                    known.into_iter().filter(|alias| !spec.aliases.contains(alias)).collect::<Vec<_>>(),
                );
                unit.spec = spec;
                if unit.spec.perpetual {
                    unit.sub = SubState::Active;
                }
            }
            self.garbage.insert(id);
            fresh.push(id);
        }
        for id in fresh {
            self.connect(id);
        }
        self.order_targets();
    }

    /// Every name and alias.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Forgets every relation, alias and specification, keeps names and states: the first half of `daemon-reload`. Units that
    /// are not added again afterwards count as not found.
    pub fn forget_files(&mut self) {
        let accepting: BTreeSet<UnitId> = self
            .ids()
            .filter(|id| {
                let trigger = self.unit(*id).and_then(|unit| unit.spec.trigger.as_ref());
                trigger.is_some_and(|trigger| trigger.accept)
            })
            .collect();
        self.garbage.extend(self.ids());
        // What was an alias may be a unit of its own by now.
        self.names.retain(|name, id| self.units.get(id.index()).is_some_and(|unit| unit.spec.name == *name));
        for (index, unit) in self.units.iter_mut().enumerate() {
            let (service, trigger) = (unit.spec.service.take(), unit.spec.trigger.take());
            unit.spec = UnitSpec { service, trigger, ..UnitSpec::not_found(&unit.spec.name) };
            // Which connection belongs to which socket is in no file.
            let accepts = u32::try_from(index).is_ok_and(|index| accepting.contains(&UnitId(index)));
            unit.edges.retain(|(edge, other)| match edge {
                Edge::Triggers => accepts,
                Edge::TriggeredBy => accepting.contains(other),
                _ => false,
            });
        }
    }

    /// The unit with this name or alias.
    pub fn lookup(&self, name: &str) -> Option<UnitId> {
        self.names.get(name).copied()
    }

    /// The unit itself.
    pub fn unit(&self, id: UnitId) -> Option<&Unit> {
        self.units.get(id.index())
    }

    /// Every unit that is loaded or named by one that is.
    pub fn ids(&self) -> impl Iterator<Item = UnitId> + use<> {
        let free = self.free.clone();
        let all = (0..u32::try_from(self.units.len()).unwrap_or(u32::MAX)).map(UnitId);
        all.filter(move |id| !free.contains(id))
    }

    /// Every device unit among them.
    pub fn devices(&self) -> impl Iterator<Item = UnitId> + '_ {
        self.devices.iter().copied()
    }

    /// The unit's name, for messages.
    pub fn name(&self, id: UnitId) -> &str {
        self.unit(id).map_or("?", |unit| unit.spec.name.as_str())
    }

    /// How many jobs are waiting or running.
    pub fn job_count(&self) -> u32 {
        self.jobs
    }

    /// The unit that a process was started for, until its end is reported.
    pub fn unit_of(&self, process: ProcessId) -> Option<UnitId> {
        self.processes.get(&process).copied()
    }

    /// When [`Event::Timer`] is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.first().map(|(when, ..)| *when)
    }

    /// Takes in one event. Events about units and processes that are not known (any more) are ignored.
    pub fn handle(&mut self, now: Monotonic, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Conditions { unit, outcome } => self.conditions_checked(now, unit, outcome, out),
            Event::Spawned { process, pid } => self.spawned(now, process, pid, out),
            Event::Executed { process } => self.executed(now, process, out),
            Event::SpawnFailed { process, code, reason } => {
                self.spawn_failed(now, process, code, &reason, out)
            }
            Event::Exited { process, status } => self.exited(now, process, status, out),
            Event::Notify { unit, from, message } => self.notified(now, unit, from, &message, out),
            Event::GroupEmpty { unit } => self.group_empty(now, unit, out),
            Event::MainFound { unit, pid } => self.main_found(now, unit, pid, out),
            Event::OutOfMemory { unit } => self.out_of_memory(now, unit, out),
            Event::Listening { unit, error } => self.listening(now, unit, error, out),
            Event::Traffic { unit } => self.trigger(now, unit, out),
            Event::Connection { unit, service } => self.connection(now, unit, service, out),
            Event::TimerArmed { unit, next, may_return } => {
                self.timer_armed(now, unit, next, may_return, out);
            }
            Event::PathChanged { unit } => self.trigger(now, unit, out),
            Event::ClockChanged => self.clock_changed(out),
            Event::Presence { unit, present } => self.presence(now, unit, present, out),
            Event::Timer => {}
        }
        self.expire(now, out);
        self.settle(now, out);
    }

    /// Runs what can run until nothing moves.
    fn settle(&mut self, now: Monotonic, out: &mut Vec<Effect>) {
        loop {
            self.run_queue(now, out);
            self.review_units(now, out);
            if self.queue.is_empty() {
                break;
            }
        }
        self.release_idle(now, out);
    }

    /// Asks for a job on a unit, and for all that it takes. Answers with the job's number.
    ///
    /// # Errors
    /// When the unit cannot be used, something that it requires cannot, or a shutdown is under way.
    pub fn request(
        &mut self,
        now: Monotonic,
        unit: UnitId,
        kind: JobKind,
        mode: Mode,
        out: &mut Vec<Effect>,
    ) -> Result<JobId, RequestError> {
        let found = self.unit(unit).ok_or_else(|| RequestError::NotFound("?".to_owned()))?;
        if mode == Mode::Isolate && !found.spec.allow_isolate {
            return Err(RequestError::NoIsolate(found.spec.name.clone()));
        }
        if kind == JobKind::Reload && found.spec.load == LoadState::NotFound {
            return Err(RequestError::NotFound(found.spec.name.clone()));
        }
        if found.spec.perpetual && matches!(kind, JobKind::Stop | JobKind::Restart) {
            // Not even tried: all that requires it would have to go down.
            return Err(RequestError::Perpetual(found.spec.name.clone()));
        }
        if kind == JobKind::Reload && !self.can_reload(unit) {
            return Err(RequestError::NoReload(found.spec.name.clone()));
        }
        let job = self.enqueue(now, unit, kind, mode, out)?;
        self.settle(now, out);
        Ok(job)
    }

    /// Whether there is anything to reload the unit with.
    pub fn can_reload(&self, unit: UnitId) -> bool {
        self.service(unit).is_some_and(|service| {
            service.kind == ServiceType::NotifyReload
                || service.commands.get(&Phase::Reload).is_some_and(|list| !list.is_empty())
        })
    }

    /// Takes a job away (`systemctl cancel`); false when there is none of this number.
    pub fn cancel_job(&mut self, now: Monotonic, job: JobId, out: &mut Vec<Effect>) -> bool {
        let holder = self
            .ids()
            .find(|id| self.unit(*id).and_then(|unit| unit.job.as_ref()).is_some_and(|it| it.id == job));
        let Some(holder) = holder else { return false };
        self.finish_job(holder, JobResult::Canceled, out);
        self.settle(now, out);
        true
    }

    /// Like [`Supervisor::request`], but for a person, whom `RefuseManualStart=` and its like concern. Starts by hand also
    /// begin a new count of restarts.
    ///
    /// # Errors
    /// Those of `request`, and the refusals.
    pub fn request_by_hand(
        &mut self,
        now: Monotonic,
        unit: UnitId,
        kind: JobKind,
        mode: Mode,
        out: &mut Vec<Effect>,
    ) -> Result<JobId, RequestError> {
        if let Some(found) = self.units.get(unit.index()) {
            let restarts = matches!(kind, JobKind::Restart | JobKind::TryRestart);
            let starts = restarts || matches!(kind, JobKind::Start | JobKind::ReloadOrStart);
            let stops = restarts || kind == JobKind::Stop;
            if starts && found.spec.refuse_manual_start || stops && found.spec.refuse_manual_stop {
                return Err(RequestError::Manual(found.spec.name.clone()));
            }
        }
        self.request(now, unit, kind, mode, out)
    }

    /// `systemctl reset-failed`: a failed unit is merely inactive, and its starts are forgotten.
    pub fn reset_failed(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.limit.reset();
        unit.trigger_limit.reset();
        unit.uphold_limit.reset();
        unit.run.restarts = 0;
        if unit.sub == SubState::Failed {
            unit.run.result = ServiceResult::Success;
            self.set_state(now, id, SubState::Dead, out);
        }
        self.settle(now, out);
    }

    pub(super) fn lookup_or_insert(&mut self, name: &str) -> UnitId {
        if let Some(id) = self.lookup(name) {
            return id;
        }
        let fresh = Unit::new(UnitSpec::not_found(name));
        let is_device = fresh.spec.kind == UnitKind::Device;
        let id = match self.free.pop_first() {
            Some(id) => id,
            None => UnitId(u32::try_from(self.units.len()).unwrap_or(u32::MAX)),
        };
        match self.units.get_mut(id.index()) {
            Some(unit) => *unit = fresh,
            None => self.units.push(fresh),
        }
        self.names.insert(name.to_owned(), id);
        self.devices.extend(is_device.then_some(id));
        self.garbage.insert(id);
        id
    }

    pub(super) fn log(&self, out: &mut Vec<Effect>, unit: UnitId, level: Level, text: String) {
        out.push(Effect::Log { unit: Some(unit), level, text });
    }

    /// Sets the point at which the unit's current state has lasted too long.
    pub(super) fn set_deadline(&mut self, id: UnitId, when: Option<Monotonic>) {
        self.set_clock(id, Clock::State, when);
    }

    /// Sets the point at which the unit's watchdog bites.
    pub(super) fn set_watchdog(&mut self, id: UnitId, when: Option<Monotonic>) {
        self.set_clock(id, Clock::Watchdog, when);
    }

    pub(super) fn set_job_deadline(&mut self, id: UnitId, when: Option<Monotonic>) {
        self.set_clock(id, Clock::Job, when);
    }

    pub(super) fn set_uphold(&mut self, id: UnitId, when: Option<Monotonic>) {
        self.set_clock(id, Clock::Uphold, when);
    }

    fn set_clock(&mut self, id: UnitId, clock: Clock, when: Option<Monotonic>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let slot = match clock {
            Clock::State => &mut unit.deadline,
            Clock::Watchdog => &mut unit.watchdog,
            Clock::Uphold => &mut unit.uphold_at,
            Clock::Job => match &mut unit.job {
                Some(job) => &mut job.deadline,
                None => return,
            },
        };
        if let Some(old) = std::mem::replace(slot, when) {
            self.timers.remove(&(old, id, clock));
        }
        self.timers.extend(when.map(|when| (when, id, clock)));
    }

    fn expire(&mut self, now: Monotonic, out: &mut Vec<Effect>) {
        while let Some((when, id, clock)) = self.timers.first().copied()
            && when <= now
        {
            self.timers.remove(&(when, id, clock));
            self.set_clock(id, clock, None);
            match clock {
                Clock::State => self.deadline_expired(now, id, out),
                Clock::Watchdog => self.watchdog_expired(now, id, out),
                Clock::Job => self.job_expired(id, out),
                Clock::Uphold => drop(self.review.insert(id)),
            }
        }
    }
}
