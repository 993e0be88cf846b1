//! Many machines against the model of etcd, in one thread and by one seed: messages are lost or late, leases end, daemons crash,
//! machines die, are cut off and come back, people make and destroy units. What must never happen is checked after every step.

mod etcd;
mod machine;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use kv::model::{Chance, Store};
use kv::watch::Update;
use kv::{LeaseId, Op, Transaction};

use self::machine::Machine;
use super::{Input, Node, Outcome, Output, Record};
use crate::agent::LocalTask;
use crate::api::http::{Request, Response};
use crate::api::{self, Reply};
use crate::change;
use crate::keys::{Key, Keys};
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

/// Units that people play with: so many of each kind.
const KINDS: [&str; 6] = ["plain", "spread", "follow", "strict", "global", "rack"];
const NUMBERS: u64 = 3;

/// All of it.
#[derive(Debug)]
pub struct World {
    options: Options,
    now: u64,
    dice: Chance,
    etcd: Store,
    leases: BTreeMap<LeaseId, (u64, u64)>,
    last_lease: LeaseId,
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
            etcd: Store::default(),
            leases: BTreeMap::new(),
            last_lease: 100,
            truth: Picture::new(Keys::default()),
            machines: Vec::new(),
            late: Vec::new(),
            outage: false,
            operations: 0,
            trace: Vec::new(),
        };
        // What has happened until now is nothing.
        let revision = world.etcd.model().revision();
        world.truth.apply(Update::Snapshot { kvs: Vec::new(), revision });
        for number in 0..options.machines {
            world.machines.push(Machine::new(id_of(number)));
        }
        world
    }

    fn random(&mut self) -> u64 {
        self.dice.number()
    }

    fn chance(&mut self, of_1000: u64) -> bool {
        self.random() % 1000 < of_1000
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
        let kind = KINDS.get(usize::try_from(self.random() % 6).unwrap_or(0)).copied().unwrap_or("plain");
        let name = format!("{kind}@{}.service", self.random() % NUMBERS);
        // Units that keep others away have to be understood for that.
        if kind != "spread" && self.chance(60) {
            let key = if self.chance(500) { Key::Object(&name) } else { Key::Wanted(&name) };
            let put = Op::put(self.truth.keys().of(&key), "{");
            self.change(|_| Transaction { success: vec![put.clone()], ..Transaction::default() });
            return;
        }
        match self.random() % 10 {
            0..6 => self.start(&name, TargetState::Launched),
            6 => self.start(&name, TargetState::Loaded),
            7 => self.start(&name, TargetState::Inactive),
            _ if self.truth.unit(&name).is_some() || self.truth.is_garbled(&name) => {
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
        if rough && self.chance(5) {
            // Watches that are behind begin anew.
            self.etcd.compact(self.etcd.model().revision());
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
        let mut something = machine.read_inbox(now, random);
        if reaches
            && machine.told.is_none_or(|told| told < self.etcd.model().revision())
            && random % 100 < if rough { 30 } else { 80 }
        {
            something = true;
            machine.hear(now, random, if rough { 4 } else { 256 }, &self.etcd);
        }
        something |= machine.look(now, random);
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

    fn work(&mut self, index: usize, tasks: Vec<LocalTask>, lossy: bool) {
        let now = self.now;
        for (place, task) in (0_u64..).zip(tasks) {
            let fails = lossy && self.chance(20);
            let long = self.random();
            if let Some(machine) = self.machines.get_mut(index) {
                let result = if fails { Err("it fails".to_owned()) } else { machine.work(now, long, &task) };
                machine.inbox.push((now + place + 1, Input::Done(task, result)));
                machine.looks_at = now + place + 2;
            }
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
                self.work(index, tasks, lossy);
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
        for kind in KINDS {
            for number in 0..NUMBERS {
                let name = format!("{kind}@{number}.service");
                if self.truth.is_garbled(&name) {
                    self.start(&name, TargetState::Launched);
                }
            }
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
                        if node(self).is_some_and(|revision| revision >= self.etcd.model().revision())
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
