//! A world of simulated processes around a supervisor. It checks what must hold at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::supervisor::*;

/// What a simulated process does with signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Dies of any signal.
    Polite,
    /// Dies of SIGKILL only.
    Stubborn,
}

#[derive(Debug)]
pub struct World {
    pub sup: Supervisor,
    pub now: Monotonic,
    /// Living processes that the supervisor asked for.
    pub alive: BTreeMap<ProcessId, (UnitId, CommandRef)>,
    /// Further processes in the unit's group.
    pub strays: BTreeMap<UnitId, u32>,
    pub nature: BTreeMap<UnitId, Nature>,
    /// Conditions of these are not met.
    pub unmet: Vec<UnitId>,
    /// Start times of main processes (first command) by unit.
    pub starts: BTreeMap<UnitId, Vec<Monotonic>>,
    pub finished: Vec<(String, JobKind, JobResult)>,
    pub trace: Vec<String>,
    pub power: Option<PowerAction>,
    /// Deeds for the whole machine that were asked for.
    pub acts: Vec<Action>,
    /// Sockets that are open, and whether what comes in is told.
    pub sockets: BTreeMap<UnitId, bool>,
    /// Path units whose paths are watched.
    pub watched: BTreeSet<UnitId>,
    /// Timers elapse this long after they were last armed; those that are not here never do.
    pub intervals: BTreeMap<UnitId, Monotonic>,
    /// Connections that wait for their instance's process.
    pub connections: BTreeSet<UnitId>,
    /// When a unit was last seen up, or its start counted as done.
    last_up: BTreeMap<UnitId, Monotonic>,
    up: BTreeSet<UnitId>,
    /// Somebody has asked for a job without what it requires.
    lax: bool,
    /// When a unit's conditions were last looked at, which is when its start was begun.
    checked: BTreeMap<UnitId, Monotonic>,
    next_pid: u32,
}

impl World {
    pub fn new(specs: Vec<UnitSpec>) -> World {
        let mut sup = Supervisor::new();
        sup.add(specs);
        World {
            sup,
            now: Monotonic::seconds(1),
            alive: BTreeMap::new(),
            strays: BTreeMap::new(),
            nature: BTreeMap::new(),
            unmet: Vec::new(),
            starts: BTreeMap::new(),
            finished: Vec::new(),
            trace: Vec::new(),
            power: None,
            acts: Vec::new(),
            sockets: BTreeMap::new(),
            watched: BTreeSet::new(),
            intervals: BTreeMap::new(),
            connections: BTreeSet::new(),
            last_up: BTreeMap::new(),
            up: BTreeSet::new(),
            checked: BTreeMap::new(),
            lax: false,
            next_pid: 100,
        }
    }

    pub fn id(&self, name: &str) -> UnitId {
        self.sup.lookup(name).unwrap()
    }

    pub fn sub(&self, name: &str) -> SubState {
        self.sup.unit(self.id(name)).unwrap().sub
    }

    pub fn request(&mut self, name: &str, kind: JobKind) -> Result<JobId, RequestError> {
        self.request_mode(name, kind, Mode::Replace)
    }

    pub fn request_mode(&mut self, name: &str, kind: JobKind, mode: Mode) -> Result<JobId, RequestError> {
        let id = self.id(name);
        self.lax |= matches!(mode, Mode::IgnoreRequirements | Mode::IgnoreDependencies | Mode::Flush);
        self.tick();
        let mut out = Vec::new();
        let answer = self.sup.request(self.now, id, kind, mode, &mut out);
        self.carry_out(out);
        answer
    }

    pub fn event(&mut self, event: Event) {
        self.tick();
        let mut out = Vec::new();
        self.sup.handle(self.now, event, &mut out);
        self.carry_out(out);
    }

    pub fn advance(&mut self, micros: u64) {
        self.now = self.now.after(Monotonic(micros));
        self.event(Event::Timer);
    }

    /// The unit's main process ends.
    pub fn exit_main(&mut self, name: &str, status: ExitStatus) {
        let main = self
            .sup
            .unit(self.id(name))
            .unwrap()
            .run
            .main
            .unwrap_or_else(|| panic!("{name} has no main process"));
        self.end(main.id, status);
    }

    pub fn exit_control(&mut self, name: &str, status: ExitStatus) {
        let control = self.sup.unit(self.id(name)).unwrap().run.control.unwrap();
        self.end(control.id, status);
    }

    pub fn end(&mut self, process: ProcessId, status: ExitStatus) {
        let Some((unit, _)) = self.alive.remove(&process) else { return };
        self.event(Event::Exited { process, status });
        self.tell_if_empty(unit);
    }

    pub fn ready(&mut self, name: &str) {
        let unit = self.id(name);
        let from = self.sup.unit(unit).unwrap().run.main.map(|main| main.id);
        self.event(Event::Notify { unit, from, message: Notification::parse(b"READY=1") });
    }

    fn is_group_empty(&self, unit: UnitId) -> bool {
        !self.alive.values().any(|(owner, _)| *owner == unit)
            && self.strays.get(&unit).copied().unwrap_or(0) == 0
    }

    pub fn tell_if_empty(&mut self, unit: UnitId) {
        if self.is_group_empty(unit) {
            self.event(Event::GroupEmpty { unit });
        }
    }

    /// Forgets units that nobody needs, with all that the world knows of them.
    pub fn collect(&mut self) {
        let busy: BTreeSet<UnitId> = self.sup.ids().filter(|id| !self.is_group_empty(*id)).collect();
        let before: BTreeMap<UnitId, Unit> =
            self.sup.ids().filter_map(|id| Some((id, self.sup.unit(id)?.clone()))).collect();
        let gone: BTreeSet<UnitId> = self.sup.collect(|id| busy.contains(&id)).into_iter().collect();
        for (id, unit) in &before {
            let stayed = self.sup.lookup(&unit.spec.name) == Some(*id);
            assert_eq!(stayed, !gone.contains(id), "{}", unit.spec.name);
            assert!(stayed || unit.job.is_none() && unit.active().is_down(), "{} is needed", unit.spec.name);
            if stayed {
                for (_, other) in &unit.spec.relations {
                    assert!(self.sup.lookup(other).is_some(), "{} names {other}", unit.spec.name);
                }
                assert!(unit.edges.iter().all(|(_, other)| before.contains_key(other)));
            }
        }
        let stays = |id: &UnitId| !gone.contains(id);
        self.starts.retain(|id, _| stays(id));
        self.checked.retain(|id, _| stays(id));
        self.last_up.retain(|id, _| stays(id));
        self.intervals.retain(|id, _| stays(id));
        self.nature.retain(|id, _| stays(id));
        self.up.retain(stays);
        self.unmet.retain(stays);
        assert!(self.sockets.keys().chain(&self.watched).all(stays));
    }

    /// Carries out all effects of one event before the next event, as the real shell does.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut queue: VecDeque<Effect> = effects.into();
        let mut events: VecDeque<Event> = VecDeque::new();
        loop {
            while let Some(effect) = queue.pop_front() {
                events.extend(self.answer(effect));
            }
            let Some(event) = events.pop_front() else { break };
            self.tick();
            let mut more = Vec::new();
            self.sup.handle(self.now, event, &mut more);
            queue.extend(more);
        }
        self.check();
    }

    /// No two events happen at the same time.
    fn tick(&mut self) {
        self.now = self.now.after(Monotonic(1));
    }

    fn answer(&mut self, effect: Effect) -> Vec<Event> {
        match effect {
            Effect::CheckConditions { unit } if self.unmet.contains(&unit) => {
                vec![Event::Conditions { unit, outcome: ConditionOutcome::Unmet("test".to_owned()) }]
            }
            Effect::CheckConditions { unit } => {
                self.checked.insert(unit, self.now);
                vec![Event::Conditions { unit, outcome: ConditionOutcome::Met }]
            }
            Effect::Spawn { unit, process, command, .. } => self.spawn(unit, process, command),
            Effect::Kill { unit, target, signal } => self.kill(unit, target, signal),
            Effect::KillGroup { unit } => self.kill(unit, KillTarget::Group, 9),
            Effect::Adopt { unit, process, .. } => {
                self.alive.insert(process, (unit, CommandRef { phase: Phase::Start, index: 0 }));
                Vec::new()
            }
            Effect::FindMain { unit } => vec![Event::MainFound { unit, pid: Some(4000) }],
            Effect::Release { unit, restarting, automatically } => {
                let why = if restarting { " for a restart" } else { "" };
                self.trace.push(format!("release {}{why}", self.sup.name(unit)));
                assert!(restarting || !automatically);
                Vec::new()
            }
            Effect::Changed { unit } => {
                let state = self.sup.unit(unit).unwrap().sub.word();
                self.trace.push(format!("{} {state}", self.sup.name(unit)));
                let is_up = self.sup.unit(unit).unwrap().active().is_up();
                if is_up || self.up.contains(&unit) {
                    self.last_up.insert(unit, self.now);
                }
                if is_up {
                    self.up.insert(unit)
                } else {
                    self.up.remove(&unit)
                };
                Vec::new()
            }
            Effect::JobFinished { unit, kind, result, .. } => {
                if result == JobResult::Done && matches!(kind, JobKind::Start | JobKind::Restart) {
                    self.last_up.insert(unit, self.now); // a clean end before it was up counts as done, as with systemd
                }
                self.finished.push((self.sup.name(unit).to_owned(), kind, result));
                Vec::new()
            }
            Effect::Log { .. } => Vec::new(),
            Effect::Power(action) => {
                self.power = Some(action);
                Vec::new()
            }
            Effect::Act { action, .. } => {
                self.acts.push(action);
                Vec::new()
            }
            Effect::Listen { unit } => {
                self.sockets.entry(unit).or_insert(false);
                vec![Event::Listening { unit, error: None }]
            }
            Effect::WatchSocket { unit, watch } => {
                let open = self.sockets.contains_key(&unit);
                assert!(open || !watch, "{} is watched but not open", self.sup.name(unit));
                self.sockets.entry(unit).and_modify(|watched| *watched = watch);
                Vec::new()
            }
            Effect::CloseSocket { unit } => {
                self.sockets.remove(&unit);
                Vec::new()
            }
            Effect::DropConnection { service } => {
                self.connections.remove(&service);
                Vec::new()
            }
            Effect::ArmTimer { unit } => {
                let next = self.intervals.get(&unit).map(|span| self.now.after(*span));
                vec![Event::TimerArmed { unit, next, may_return: false }]
            }
            Effect::TimerElapsed { unit } => {
                self.trace.push(format!("{} elapsed", self.sup.name(unit)));
                Vec::new()
            }
            Effect::WatchPath { unit, .. } => {
                self.watched.insert(unit);
                Vec::new()
            }
            Effect::UnwatchPath { unit } => {
                self.watched.remove(&unit);
                Vec::new()
            }
        }
    }

    fn spawn(&mut self, unit: UnitId, process: ProcessId, command: CommandRef) -> Vec<Event> {
        let name = self.sup.name(unit).to_owned();
        self.trace.push(format!("{name} spawn {}[{}]", command.phase.key(), command.index));
        let twice = self.alive.values().any(|(owner, other)| *owner == unit && other.phase == Phase::Start);
        let spec = self.sup.unit(unit).unwrap().spec.service.as_ref().unwrap();
        let twice = twice && spec.kill_mode != KillMode::None; // which leaves processes behind on purpose
        assert!(!(twice && command.phase == Phase::Start), "{name} runs twice: {:#?}", self.trace);
        if command.phase == Phase::Start && command.index == 0 {
            self.starts.entry(unit).or_default().push(self.now);
        }
        let commands = &self.sup.unit(unit).unwrap().spec.service.as_ref().unwrap().commands;
        if commands.keys().next() == Some(&command.phase) && command.index == 0 {
            self.check_order(unit);
        }
        self.next_pid += 1;
        self.connections.remove(&unit);
        self.alive.insert(process, (unit, command));
        vec![Event::Spawned { process, pid: self.next_pid }, Event::Executed { process }]
    }

    /// When a unit starts, nothing that goes before it still has something to do.
    fn check_order(&self, unit: UnitId) {
        let found = self.sup.unit(unit).unwrap();
        if found.job.as_ref().is_some_and(|job| job.unordered) {
            return; // asked for with --job-mode=ignore-dependencies
        }
        if found.spec.service.as_ref().is_some_and(|service| service.kind == ServiceType::Idle) {
            return; // it was begun before its process was
        }
        for earlier in found.related(Edge::After) {
            let other = self.sup.unit(earlier).unwrap();
            // A start begins when its conditions are asked for: a job that came later came too late to be waited for.
            let begun = self.checked.get(&unit).copied().unwrap_or(self.now);
            let too_late = other.job.as_ref().is_some_and(|job| job.since >= begun);
            assert!(
                too_late || other.job.as_ref().is_none_or(|job| job.unordered), // nobody waits for one without order
                "{} starts before {} is done with {:?}",
                found.spec.name,
                other.spec.name,
                other.job
            );
        }
        for needed in found.related(Edge::Requires) {
            let other = self.sup.unit(needed).unwrap();
            let ordered = found.related(Edge::After).any(|after| after == needed);
            let fine = other.active().is_up()
                || other.condition.as_ref().is_some_and(|condition| !condition.is_empty())
                || other.run.result == ServiceResult::ExecCondition
                || is_transient(other);
            // One that was up and went down again while the job waited holds nobody up: that is BindsTo='s business.
            let Some(since) = found.job.as_ref().map(|job| job.since) else { return };
            let was_up = self.last_up.get(&needed).is_some_and(|when| *when >= since);
            assert!(
                !ordered || fine || was_up || self.lax,
                "{} starts without {}",
                found.spec.name,
                other.spec.name
            );
        }
    }

    fn kill(&mut self, unit: UnitId, target: KillTarget, signal: i32) -> Vec<Event> {
        let dies = signal == 9
            || matches!(signal, 15 | 6)
                && self.nature.get(&unit).copied().unwrap_or(Nature::Polite) == Nature::Polite;
        let mut events = Vec::new();
        if dies {
            let victims: Vec<ProcessId> = match target {
                KillTarget::Process(process) => vec![process],
                KillTarget::Group => {
                    self.strays.remove(&unit);
                    self.alive
                        .iter()
                        .filter(|(_, (owner, _))| *owner == unit)
                        .map(|(process, _)| *process)
                        .collect()
                }
            };
            for process in victims {
                if self.alive.remove(&process).is_some() {
                    events
                        .push(Event::Exited { process, status: ExitStatus::Signal { signal, core: false } });
                }
            }
        }
        if self.is_group_empty(unit) {
            events.push(Event::GroupEmpty { unit });
        }
        events
    }

    /// What holds between events.
    fn check(&self) {
        for id in self.sup.ids() {
            let unit = self.sup.unit(id).unwrap();
            let name = &unit.spec.name;
            if matches!(unit.sub, SubState::Dead | SubState::Failed) || unit.sub.is_auto_restart() {
                assert!(
                    unit.run.main.is_none() && unit.run.control.is_none(),
                    "{name} is down and has processes"
                );
            }
            if unit.spec.kind == UnitKind::Socket {
                let open = self.sockets.contains_key(&id);
                let listens = self.sockets.get(&id) == Some(&true);
                assert!(!unit.active().is_down() || !open, "{name} is down and has descriptors");
                assert!(unit.sub != SubState::Listening || listens, "{name} listens to nothing");
            }
            if unit.spec.kind == UnitKind::Path {
                let watched = self.watched.contains(&id);
                assert_eq!(unit.active().is_up(), watched, "{name} is {} and watches", unit.sub.word());
            }
            if unit.sub.is_auto_restart() {
                let waits = unit.job.is_some() || self.sup.next_deadline().is_some();
                assert!(waits, "{name} waits for a restart that nobody will do");
            }
        }
    }

    /// Lets time pass until nothing is left to do, processes staying as they are.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some(next) = self.sup.next_deadline() else { return };
            if self.power.is_some() {
                return; // what a unit that has ended may start now (OnSuccess=) is not started any more
            }
            self.now = self.now.max(next);
            self.event(Event::Timer);
        }
        panic!("never settles: {:#?}", &self.trace[self.trace.len().saturating_sub(50)..]);
    }
}

fn is_transient(unit: &Unit) -> bool {
    unit.spec
        .service
        .as_ref()
        .is_some_and(|service| service.kind == ServiceType::Oneshot && !service.remain_after_exit)
}

/// A service with one start command and no default dependencies.
pub fn service(name: &str, relations: &[(Edge, &str)], change: impl FnOnce(&mut ServiceSpec)) -> UnitSpec {
    let mut spec = ServiceSpec::default();
    spec.commands.insert(Phase::Start, vec![CommandFlags::default()]);
    change(&mut spec);
    if spec.kind == ServiceType::Notify && spec.notify_access == NotifyAccess::None {
        spec.notify_access = NotifyAccess::Main;
    }
    let relations = relations.iter().map(|(edge, other)| (*edge, (*other).to_owned())).collect();
    UnitSpec { service: Some(spec), relations, default_dependencies: false, ..UnitSpec::new(name) }
}

/// A target with default dependencies.
pub fn target(name: &str, relations: &[(Edge, &str)]) -> UnitSpec {
    let relations = relations.iter().map(|(edge, other)| (*edge, (*other).to_owned())).collect();
    UnitSpec { relations, allow_isolate: true, ..UnitSpec::new(name) }
}

/// A socket that starts `service`.
pub fn socket(name: &str, other: &str) -> UnitSpec {
    let mut spec = unit(name, &[(Edge::Triggers, other), (Edge::Before, other)], TriggerSpec::default());
    spec.service = Some(ServiceSpec { kind: ServiceType::Oneshot, ..ServiceSpec::default() });
    spec
}

/// A timer or path unit.
pub fn unit(name: &str, relations: &[(Edge, &str)], trigger: TriggerSpec) -> UnitSpec {
    let relations = relations.iter().map(|(edge, other)| (*edge, (*other).to_owned())).collect();
    UnitSpec { relations, trigger: Some(trigger), default_dependencies: false, ..UnitSpec::new(name) }
}
