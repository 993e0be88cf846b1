//! Many machines against the model of etcd, in one thread and by one seed: messages are lost or late, leases end, daemons crash,
//! machines die, are cut off and come back, people make and destroy units. What must never happen is checked after every step.

use std::collections::{BTreeMap, BTreeSet};

use kv::model::{Chance, Model};
use kv::watch::Update;
use kv::{KeyRange, LeaseId, Op, Revision, Transaction};

use super::{Input, Node, Outcome, Output, Record, Settings, Who};
use crate::agent::{LocalTask, LocalUnit, Observed};
use crate::api::http::{Request, Response};
use crate::api::{self, Reply};
use crate::change;
use crate::keys::Keys;
use crate::picture::Picture;
use crate::snapshot::TargetState;
use crate::unit_file::UnitFile;

/// How it goes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many machines.
    pub machines: usize,
    /// Steps in which things go wrong.
    pub rough_steps: usize,
    /// In a thousand steps of a machine.
    pub faults: u64,
    /// People make, stop and destroy units meanwhile.
    pub people: bool,
    /// Milliseconds of a lease.
    pub ttl: u64,
    /// Milliseconds.
    pub grace: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { machines: 4, rough_steps: 0, faults: 0, people: false, ttl: 30_000, grace: 10_000 }
    }
}

/// A unit, as a machine's PID 1 has it.
#[derive(Debug, Clone)]
struct Process {
    file: std::sync::Arc<UnitFile>,
    active: &'static str,
    /// What it becomes, and when.
    next: Option<(u64, &'static str)>,
}

/// A machine.
#[derive(Debug)]
struct Machine {
    id: String,
    node: Option<Node>,
    pid1: BTreeMap<String, Process>,
    record: Record,
    inbox: Vec<(u64, Input)>,
    /// How much of the log its watch has told; `None`: it begins with a snapshot.
    told: Option<usize>,
    cut: bool,
    /// It is off until then.
    off_until: Option<u64>,
    /// The daemon is down until then.
    down_until: Option<u64>,
    looks_at: u64,
    up_since: u64,
    wakes_at: u64,
    /// Stops that it has carried out, and starts.
    stops: Vec<String>,
    starts: Vec<String>,
}

/// All of it.
#[derive(Debug)]
pub struct World {
    options: Options,
    now: u64,
    dice: Chance,
    model: Model,
    leases: BTreeMap<LeaseId, (u64, u64)>,
    last_lease: LeaseId,
    log: Vec<Update>,
    truth: Picture,
    machines: Vec<Machine>,
    late: Vec<Transaction>,
    /// Nobody reaches etcd.
    outage: bool,
    /// Requests that reached etcd.
    operations: u64,
    trace: Vec<String>,
}

fn id_of(number: usize) -> String {
    format!("{number:08x}{number:024x}")
}

/// The units that people play with: what each asks for depends on its name alone.
fn section(name: &str) -> &'static str {
    match name.split('@').next().unwrap_or_default() {
        "spread" => "Conflicts=spread@*",
        "follow" => "MachineOf=plain@%i.service",
        "strict" => "Fence=strict",
        "global" => "Global=true",
        "rack" => "MachineMetadata=rack=1",
        _ => "",
    }
}

impl World {
    /// A cluster whose daemons begin to start.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        let mut world = Self {
            options,
            now: 1_000_000,
            dice: Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            model: Model::default(),
            leases: BTreeMap::new(),
            last_lease: 100,
            log: Vec::new(),
            truth: Picture::new(Keys::default()),
            machines: Vec::new(),
            late: Vec::new(),
            outage: false,
            operations: 0,
            trace: Vec::new(),
        };
        for number in 0..options.machines {
            world.add_machine(number);
        }
        world
    }

    fn add_machine(&mut self, number: usize) {
        self.machines.push(Machine {
            id: id_of(number),
            node: None,
            pid1: BTreeMap::new(),
            record: Record::default(),
            inbox: Vec::new(),
            told: None,
            cut: false,
            off_until: None,
            down_until: Some(0),
            looks_at: 0,
            up_since: 0,
            wakes_at: 0,
            stops: Vec::new(),
            starts: Vec::new(),
        });
    }

    fn random(&mut self) -> u64 {
        self.dice.number()
    }

    fn chance(&mut self, of_1000: u64) -> bool {
        self.random() % 1000 < of_1000
    }

    /// Carries out a transaction and writes it to the log of watches.
    fn apply(&mut self, transaction: &Transaction) -> Option<(bool, Revision)> {
        self.operations += 1;
        let (result, events) = self.model.change(transaction)?;
        let revision = self.model.revision();
        if !events.is_empty() {
            let update = Update::Events { events, revision };
            self.truth.apply(update.clone());
            self.log.push(update);
        }
        Some((result.succeeded, revision))
    }

    fn end_leases(&mut self) -> Result<(), String> {
        let ended: Vec<LeaseId> =
            self.leases.iter().filter(|(_, (_, ends))| *ends <= self.now).map(|(id, _)| *id).collect();
        for lease in ended {
            self.check_strict(lease)?;
            self.end_lease(lease);
        }
        Ok(())
    }

    fn end_lease(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        let keys = self.model.range(&KeyRange::prefix("")).into_iter().filter(|kv| kv.lease == lease);
        let success: Vec<Op> = keys.map(|kv| Op::Delete(KeyRange::key(kv.key))).collect();
        if !success.is_empty() {
            self.apply(&Transaction { success, ..Transaction::default() });
            self.operations -= 1;
        }
    }

    /// Units that are fenced are down when the lease ends under which they ran.
    fn check_strict(&self, lease: LeaseId) -> Result<(), String> {
        let machine = self.machines.iter().find(|machine| {
            let held = machine.node.as_ref().and_then(|node| node.lease.id());
            // A daemon that was just started, or whose PID 1 refuses, can do nothing about it.
            let able = machine.up_since + self.options.ttl / 2 < self.now
                && machine.node.as_ref().is_some_and(|node| node.troubles.is_empty() && node.working == 0);
            machine.off_until.is_none() && held == Some(lease) && able
        });
        let Some(machine) = machine else { return Ok(()) };
        let up = machine.pid1.iter().find(|(name, process)| name.starts_with("strict") && is_up(process));
        match up {
            Some((name, process)) => Err(format!(
                "{name} ({process:?}) runs on {} when its lease ends at {}: {:?}, {:?}, {:?}, cut {}",
                machine.id,
                self.now,
                machine.node.as_ref().map(|node| (&node.lease, node.local.as_ref(), node.phase)),
                machine.wakes_at,
                machine.looks_at,
                machine.cut
            )),
            None => Ok(()),
        }
    }

    /// Somebody's change, decided on by what is true now.
    pub fn change(&mut self, make: impl Fn(&Picture) -> Transaction) -> bool {
        let transaction = make(&self.truth);
        self.apply(&transaction).is_some_and(|(succeeded, _)| succeeded)
    }

    /// Makes a unit, as far as its name says what it is.
    pub fn start(&mut self, name: &str, wanted: TargetState) {
        let text = format!("[Service]\nExecStart=/bin/{name}\n[X-Fleet]\n{}\n", section(name));
        // The text is a unit file.
        let file = UnitFile::parse(&text).unwrap_or_default();
        self.change(|picture| change::put_unit(picture, name, &file, Some(wanted)));
    }

    fn people(&mut self) {
        let kinds = ["plain", "spread", "follow", "strict", "global", "rack"];
        let kind = kinds.get(usize::try_from(self.random() % 6).unwrap_or(0)).copied().unwrap_or("plain");
        let name = format!("{kind}@{}.service", self.random() % 3);
        match self.random() % 10 {
            0..6 => self.start(&name, TargetState::Launched),
            6 => self.start(&name, TargetState::Loaded),
            7 => self.start(&name, TargetState::Inactive),
            _ if self.truth.unit(&name).is_some() => {
                self.change(|picture| change::destroy(picture, &name));
                if self.chance(500) {
                    self.start(&name, TargetState::Launched);
                }
            }
            _ => {}
        }
    }

    /// Lets time pass, and every machine do what it has to.
    ///
    /// # Errors
    /// What must not happen has happened.
    pub fn step(&mut self, rough: bool) -> Result<(), String> {
        self.now += 1 + self.random() % if rough { 400 } else { 120 };
        self.end_leases()?;
        if !self.late.is_empty() && self.chance(30) {
            let index = usize::try_from(self.random()).unwrap_or(0) % self.late.len();
            let late = self.late.swap_remove(index);
            self.apply(&late);
        }
        if rough && self.options.people && self.chance(30) {
            self.people();
        }
        for index in 0..self.machines.len() {
            if rough && self.options.faults > 0 {
                let faults = self.options.faults;
                if self.chance(faults) {
                    self.fault(index);
                }
            }
            self.machine_step(index, rough);
        }
        // A look at a large cluster takes longer than all the rest.
        if self.machines.len() > 50 && !self.now.is_multiple_of(64) { Ok(()) } else { self.check() }
    }

    fn fault(&mut self, index: usize) {
        let (dice, long) = (self.random() % 10, self.random() % 120_000);
        let now = self.now;
        let Some(machine) = self.machines.get_mut(index) else { return };
        match dice {
            // Cut off, or back.
            0..3 => machine.cut = !machine.cut,
            3 | 4 => {
                // The daemon crashes, and PID 1 starts it again.
                machine.lose_daemon(now + long % 40_000);
            }
            5 => {
                machine.lose_daemon(now);
                machine.off_until = Some(now + 5_000 + long);
                machine.pid1.clear();
                machine.record = Record::default();
            }
            6 => {
                if let Some(node) = &mut machine.node {
                    node.handle(now, long, Input::Leave { hand_over: long % 2 == 0 });
                    machine.wakes_at = 0;
                }
            }
            7 => machine.told = None,
            _ => {
                // What was started has failed.
                if let Some(process) = machine.pid1.values_mut().find(|process| process.active == "active") {
                    process.active = "failed";
                }
            }
        }
    }

    fn machine_step(&mut self, index: usize, rough: bool) {
        let (now, random) = (self.now, self.random());
        let Some(machine) = self.machines.get_mut(index) else { return };
        if machine.off_until.is_some_and(|until| now < until) {
            return;
        }
        if machine.off_until.take().is_some() {
            machine.down_until = Some(now);
        }
        machine.run_pid1(now);
        if machine.node.is_none() {
            if machine.down_until.is_none_or(|until| now < until) {
                return;
            }
            machine.start_daemon(now, random, &self.options, index);
        }
        let reaches = !machine.cut && !self.outage;
        let mut due: Vec<(u64, Input)> = Vec::new();
        machine.inbox.retain(|(at, input)| {
            let is_due = *at <= now;
            if is_due {
                due.push((*at, input.clone()));
            }
            !is_due
        });
        due.sort_by_key(|(at, _)| *at);
        let mut something = !due.is_empty();
        for (_, input) in due {
            if let Some(node) = &mut machine.node {
                node.handle(now, random, input);
            }
        }
        if reaches
            && (machine.told.is_none_or(|told| told < self.log.len()))
            && random % 100 < if rough { 30 } else { 80 }
        {
            something = true;
            machine.hear(now, random, if rough { 4 } else { 256 }, &self.log, &self.model);
        }
        if machine.looks_at <= now {
            machine.looks_at = now + 500;
            let observed: BTreeMap<String, Observed> =
                machine.pid1.iter().map(|(name, process)| (name.clone(), process.observed())).collect();
            if let Some(node) = &mut machine.node {
                let known =
                    |(name, unit): (&String, &LocalUnit)| unit.observed.as_ref() == observed.get(name);
                something |= !node.local().is_some_and(|local| local.iter().all(known));
                node.handle(now, random, Input::Observed(observed));
            }
        }
        if !something && machine.wakes_at > now {
            return;
        }
        let Some(node) = &mut machine.node else { return };
        let outputs = node.poll(now);
        machine.wakes_at = machine.node.as_ref().map_or(u64::MAX, |node| node.wake(now));
        for output in outputs {
            self.carry_out(index, output, rough);
        }
    }

    fn carry_out(&mut self, index: usize, output: Output, rough: bool) {
        let (now, dice) = (self.now, self.random());
        let delay = 2 + dice % if rough { 300 } else { 20 };
        let reaches = self.machines.get(index).is_some_and(|machine| !machine.cut) && !self.outage;
        let lossy = rough && self.options.faults > 0;
        // Of 100: requests that do not arrive, and answers that do not.
        let (lost, unheard, late) =
            (lossy && dice % 100 < 3, lossy && dice % 100 >= 97, lossy && dice % 100 == 50);
        let arrives = reaches && !lost;
        let later = if arrives && !unheard { delay } else { 3_000 };
        let input = match output {
            Output::Grant(ttl) => {
                let answer = arrives.then(|| self.grant(ttl)).filter(|_| !unheard);
                Some(Input::Granted { sent: now, answer })
            }
            Output::Renew(lease) => {
                let answer = arrives.then(|| self.renew(lease)).filter(|_| !unheard);
                Some(Input::Renewed { lease, sent: now, answer })
            }
            Output::Revoke(lease) => {
                if arrives {
                    self.operations += 1;
                    self.end_lease(lease);
                }
                None
            }
            Output::Commit(who, transaction) if late && arrives => {
                self.late.push(transaction);
                Some(Input::Committed(who, Outcome::Unknown))
            }
            Output::Commit(who, transaction) => {
                let result = if arrives { self.commit(index, who, &transaction) } else { None };
                let outcome = match result {
                    Some((true, revision)) if !unheard => Outcome::Done(revision),
                    Some((false, revision)) if !unheard => Outcome::Refused(revision),
                    _ => Outcome::Unknown,
                };
                Some(Input::Committed(who, outcome))
            }
            Output::Work(tasks) => {
                for (place, task) in (0_u64..).zip(tasks) {
                    let fails = lossy && self.chance(20);
                    let long = self.random();
                    if let Some(machine) = self.machines.get_mut(index) {
                        let result =
                            if fails { Err("it fails".to_owned()) } else { machine.work(now, long, &task) };
                        machine.inbox.push((now + place + 1, Input::Done(task, result)));
                        machine.looks_at = now + place + 2;
                    }
                }
                None
            }
            Output::Record(record) => {
                if let Some(machine) = self.machines.get_mut(index) {
                    machine.record = record;
                }
                None
            }
            Output::Say(text) => {
                self.trace.push(format!("{now} {index}: {text}"));
                None
            }
            Output::Gone => {
                if let Some(machine) = self.machines.get_mut(index) {
                    machine.lose_daemon(now + 10_000);
                }
                None
            }
        };
        if let (Some(input), Some(machine)) = (input, self.machines.get_mut(index)) {
            machine.inbox.push((now + later, input));
        }
    }

    fn grant(&mut self, ttl: u64) -> (LeaseId, u64) {
        self.operations += 1;
        self.last_lease += 1;
        self.leases.insert(self.last_lease, (ttl, self.now + ttl));
        (self.last_lease, ttl)
    }

    fn renew(&mut self, lease: LeaseId) -> u64 {
        self.operations += 1;
        let now = self.now;
        self.leases.get_mut(&lease).map_or(0, |(ttl, ends)| {
            *ends = now + *ttl;
            *ttl
        })
    }

    fn commit(&mut self, index: usize, who: Who, transaction: &Transaction) -> Option<(bool, Revision)> {
        // A lease that is gone carries nothing: etcd refuses the transaction.
        let known = |op: &Op| match op {
            Op::Put { lease, .. } => *lease == 0 || self.leases.contains_key(lease),
            _ => true,
        };
        if !transaction.success.iter().all(known) {
            self.operations += 1;
            return None;
        }
        assert!(transaction.compare.len() <= 128 && transaction.success.len() <= 128, "etcd takes 128");
        let leader = self.truth.leader().map(|leader| leader.value.machine.clone());
        let result = self.apply(transaction);
        let own = self.machines.get(index).map(|machine| machine.id.clone());
        let elected = transaction
            .success
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if key.ends_with(b"engine-leader")));
        assert!(
            who != Who::Engine || elected || leader == own || !matches!(result, Some((true, _))),
            "one who does not lead has decided"
        );
        result
    }

    /// What must hold at every moment.
    fn check(&self) -> Result<(), String> {
        let snapshot = self.truth.snapshot([].into_iter());
        // No two units that do not bear each other are given to one machine.
        let mut spread: BTreeSet<&str> = BTreeSet::new();
        for (name, unit) in
            snapshot.units.iter().filter(|(name, unit)| name.starts_with("spread") && unit.is_to_place())
        {
            let present = unit.target.as_ref().filter(|id| snapshot.machines.contains_key(*id));
            if let Some(machine) = present
                && !spread.insert(machine)
            {
                return Err(format!("{name} is on {machine}, where there is one that it conflicts with"));
            }
        }
        // No unit runs on two machines that the cluster knows.
        let mut runs: BTreeMap<&str, &str> = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| machine.off_until.is_none()) {
            if !snapshot.machines.contains_key(&machine.id) {
                continue;
            }
            for (name, _) in machine.pid1.iter().filter(|(_, process)| is_up(process)) {
                if name.starts_with("global") {
                    continue;
                }
                if let Some(other) = runs.insert(name, &machine.id) {
                    return Err(format!("{name} runs on {other} and on {}", machine.id));
                }
            }
        }
        Ok(())
    }

    /// Whether everything is as it is wanted, or cannot be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let snapshot = self.truth.snapshot([].into_iter());
        let decisions = crate::place::place(&snapshot);
        let all_here = self.machines.iter().all(|machine| {
            machine.node.as_ref().is_some_and(Node::is_registered)
                && snapshot.machines.contains_key(&machine.id)
        });
        all_here
            && self.late.is_empty()
            && decisions.tasks.is_empty()
            && self.machines.iter().all(|machine| {
                let residents = crate::place::residents(&snapshot, &machine.id);
                let launched = machine.node.as_ref().and_then(Node::local);
                let same = machine.pid1.keys().map(String::as_str).eq(residents.keys().copied());
                same && residents.iter().all(|(name, unit)| {
                    let wanted = unit.wanted == TargetState::Launched;
                    let told = unit.requirements.global
                        || (unit.launched_on.as_deref() == Some(&machine.id)) == wanted;
                    let state = self.truth.jobs().get(*name).and_then(|job| job.states.get(&machine.id));
                    let process = machine.pid1.get(*name).map(|process| process.active);
                    told && state.is_some_and(|state| Some(state.value.active_state.as_str()) == process)
                        && launched
                            .and_then(|local| local.get(*name))
                            .is_some_and(|unit| unit.launched == wanted && !unit.stopping)
                })
            })
    }

    /// Rough steps, then calm ones until everything is settled.
    ///
    /// # Errors
    /// What must not happen has happened, or it does not settle.
    pub fn run(&mut self) -> Result<(), String> {
        let tail = |world: &Self| {
            let from = world.trace.len().saturating_sub(30);
            world.trace.get(from..).unwrap_or_default().join("\n")
        };
        for _ in 0..self.options.rough_steps {
            self.step(true).map_err(|problem| format!("{problem}\n{}", tail(self)))?;
        }
        for machine in &mut self.machines {
            machine.cut = false;
        }
        self.outage = false;
        self.settle().map_err(|problem| format!("{problem}\n{}", tail(self)))
    }

    /// Calm steps until everything is settled.
    ///
    /// # Errors
    /// What must not happen has happened, or it does not settle.
    pub fn settle(&mut self) -> Result<(), String> {
        let begun = self.now;
        while !self.is_settled() {
            for _ in 0..if self.machines.len() > 50 { 100 } else { 10 } {
                self.step(false)?;
            }
            if self.now - begun > 600_000 {
                let snapshot = self.truth.snapshot([].into_iter());
                let machines: Vec<_> = self
                    .machines
                    .iter()
                    .map(|it| {
                        format!(
                            "{} {:?} {:?} {:?}",
                            it.id,
                            it.down_until,
                            it.node.as_ref().map(Node::is_registered),
                            it.pid1
                        )
                    })
                    .collect();
                return Err(format!(
                    "it does not settle: {:#?}\n{:#?}\n{}",
                    crate::place::place(&snapshot),
                    snapshot
                        .units
                        .iter()
                        .map(|(name, it)| (name, it.wanted, &it.target, &it.launched_on))
                        .collect::<Vec<_>>(),
                    machines.join("\n")
                ));
            }
        }
        Ok(())
    }

    /// Answers a request at the first machine's socket.
    pub fn ask(&mut self, request: &Request) -> Response {
        let node = |world: &Self| {
            world
                .machines
                .first()
                .and_then(|machine| machine.node.as_ref())
                .map(Node::picture)
                .map(Picture::revision)
        };
        for _ in 0..8 {
            let Some(own) = self.machines.first().and_then(|machine| machine.node.as_ref()) else { break };
            match api::answer(own, self.now, 100, request) {
                Reply::Done(response) => return response,
                Reply::Commit(transaction, response) => {
                    let made = self.apply(&transaction).is_some_and(|(succeeded, _)| succeeded);
                    for _ in 0..200 {
                        if node(self).is_some_and(|revision| revision >= self.model.revision())
                            || self.step(false).is_err()
                        {
                            break;
                        }
                    }
                    if made {
                        return response;
                    }
                }
            }
        }
        api::unavailable()
    }

    /// Calm steps for so long.
    ///
    /// # Errors
    /// What must not happen has happened.
    pub fn pass(&mut self, milliseconds: u64) -> Result<(), String> {
        let until = self.now + milliseconds;
        while self.now < until {
            self.step(false)?;
        }
        Ok(())
    }
}

fn is_up(process: &Process) -> bool {
    process.observed().is_up()
}

impl Process {
    fn observed(&self) -> Observed {
        Observed {
            load: "loaded".to_owned(),
            active: self.active.to_owned(),
            sub: "sub".to_owned(),
            has_job: false,
        }
    }
}

impl Machine {
    fn lose_daemon(&mut self, until: u64) {
        self.node = None;
        self.inbox.clear();
        self.down_until = Some(until);
    }

    fn start_daemon(&mut self, now: u64, random: u64, options: &Options, number: usize) {
        let settings = Settings {
            id: self.id.clone(),
            public_ip: format!("10.0.0.{number}"),
            metadata: BTreeMap::from([("rack".to_owned(), (number % 2).to_string())]),
            version: "1".to_owned(),
            ttl: options.ttl,
            grace: options.grace,
            engine: true,
        };
        let mut node = Node::new(settings, Keys::default(), self.record.clone());
        let units = self.pid1.iter().map(|(name, process)| {
            let launched = self.record.launched.get(name) == Some(&process.file.hash());
            let unit = LocalUnit::of(name, &process.file, launched);
            (name.clone(), unit)
        });
        node.handle(now, random, Input::Inventory(units.collect()));
        self.node = Some(node);
        self.told = None;
        self.down_until = None;
        (self.wakes_at, self.looks_at, self.up_since) = (0, 0, now);
    }

    /// The watch tells a part of what has happened since.
    fn hear(&mut self, now: u64, random: u64, most: usize, log: &[Update], model: &Model) {
        let Some(node) = &mut self.node else { return };
        let Some(told) = self.told else {
            let update =
                Update::Snapshot { kvs: model.range(&KeyRange::prefix("")), revision: model.revision() };
            node.handle(now, random, Input::News(update));
            self.told = Some(log.len());
            return;
        };
        let count = 1 + usize::try_from(random >> 8).unwrap_or(0) % most;
        for update in log.iter().skip(told).take(count) {
            node.handle(now, random, Input::News(update.clone()));
        }
        self.told = Some((told + count).min(log.len()));
    }

    fn run_pid1(&mut self, now: u64) {
        for process in self.pid1.values_mut() {
            if let Some((at, next)) = process.next
                && at <= now
            {
                (process.active, process.next) = (next, None);
            }
        }
    }

    fn work(&mut self, now: u64, random: u64, task: &LocalTask) -> Result<(), String> {
        match task {
            LocalTask::Load(name, file) => {
                let process = Process { file: std::sync::Arc::clone(file), active: "inactive", next: None };
                if self.pid1.insert(name.clone(), process).is_some_and(|old| is_up(&old)) {
                    return Err(format!("{name} was up"));
                }
            }
            LocalTask::Remove(name) => {
                if self.pid1.remove(name).is_some_and(|old| is_up(&old)) {
                    return Err(format!("{name} was up"));
                }
            }
            LocalTask::Start(name) => {
                self.starts.push(name.clone());
                let process = self.pid1.get_mut(name).ok_or("not loaded")?;
                if process.active != "active" {
                    (process.active, process.next) = ("activating", Some((now + random % 2_000, "active")));
                }
            }
            LocalTask::Stop(name) => {
                self.stops.push(name.clone());
                let process = self.pid1.get_mut(name).ok_or("not loaded")?;
                (process.active, process.next) = ("deactivating", Some((now + random % 3_000, "inactive")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
