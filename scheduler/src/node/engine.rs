//! The engine: which machine decides, and its decisions as transactions. Every one of them holds only while the leadership is
//! what it was, so that one who has been deposed changes nothing.

use std::collections::BTreeMap;

use kv::{Compare, KeyRange, LeaseId, Op, Revision, Transaction};

use super::{Line, Node, Outcome, Output, Phase, Who};
use crate::keys::{ENGINE_VERSION, Key, Leader};
use crate::metrics::{Decisions, Tasks};
use crate::picture::{Changes, Picture};
use crate::place::{self, Departure, Task};
use crate::snapshot::Machine;

/// Tasks in a transaction: five comparisons each at most, and one for all; etcd takes 128.
const MOST_TASKS: usize = 25;
/// Between two looks at the whole cluster that have come to nothing.
const BREATH: u64 = 100;
/// If more machines are away than are there, it is rather the network than the machines: they are waited for so many times longer.
const PATIENCE: u64 = 4;
/// When a leader is missing, the machines try one after the other, so far apart.
const STEP: u64 = 150;
/// But nobody waits longer than this.
const LONGEST_WAIT: u64 = 1_500;

#[derive(Debug, Default)]
pub(super) struct Engine {
    pub line: Line,
    /// Something that decisions depend on has changed.
    dirty: bool,
    /// Since when machines are gone, and what they were.
    lost: BTreeMap<String, (u64, Machine)>,
    /// When this machine tries to become the leader.
    stands_at: Option<u64>,
    /// The leadership that was last acted under.
    led: Option<Revision>,
    /// The leadership of a transaction of which nothing was heard: it may still be on its way.
    stray: Option<Revision>,
    /// How many machines are there.
    present: usize,
    /// What it has done since the daemon began.
    pub figures: Decisions,
    /// The tasks that are on their way.
    pub sent: Tasks,
}

impl Engine {
    pub fn heard(&mut self, now: u64, changes: Changes, picture: &Picture) {
        self.dirty |= changes.decisive;
        for (id, machine) in changes.gone {
            self.lost.entry(id).or_insert((now, machine));
        }
        if !changes.decisive {
            return;
        }
        self.present = picture.machines().values().filter(|entry| entry.object.is_some()).count();
        self.lost.retain(|id, _| picture.machine(id).is_none());
        // Also those that were gone before anybody looked.
        let targets = picture.jobs().values().filter_map(|job| job.target.as_ref());
        for target in targets.filter(|target| picture.machine(&target.value).is_none()) {
            self.lost.entry(target.value.clone()).or_insert_with(|| (now, Machine::default()));
        }
    }

    /// How long machines are waited for.
    fn patience(&self, grace: u64) -> u64 {
        if self.lost.len() > self.present { grace.saturating_mul(PATIENCE) } else { grace }
    }

    /// Machines that are waited for.
    pub fn awaited(&self, now: u64, grace: u64) -> impl Iterator<Item = (&String, &Machine)> {
        let grace = self.patience(grace);
        let waits = move |since: u64| now < since.saturating_add(grace);
        self.lost.iter().filter(move |(_, (since, _))| waits(*since)).map(|(id, (_, machine))| (id, machine))
    }

    /// Machines that are not waited for any more.
    fn given_up(&self, now: u64, grace: u64) -> Vec<String> {
        let grace = self.patience(grace);
        let over = self.lost.iter().filter(|(_, (since, _))| now >= since.saturating_add(grace));
        over.map(|(id, _)| id.clone()).collect()
    }

    /// Counts what a look has come to.
    fn count(&mut self, decisions: &place::Decisions) {
        let figures = &mut self.figures;
        figures.looks += 1;
        figures.unplaced += u64::try_from(decisions.unplaced.len()).unwrap_or(0);
        for task in &decisions.tasks {
            match task {
                Task::Schedule { from: Some((_, why)), .. } | Task::Unschedule { why, .. } => match why {
                    Departure::MachineLost => figures.machine_away += 1,
                    Departure::Refused(_) => figures.unsuited += 1,
                    _ => {}
                },
                Task::Schedule { from: None, .. } => {}
            }
        }
    }

    /// What became of the tasks that were on their way.
    pub fn answered(&mut self, outcome: Outcome) {
        let sent = std::mem::take(&mut self.sent);
        if !matches!(outcome, Outcome::Done(_)) {
            self.figures.failed.add(sent);
        }
        if matches!(outcome, Outcome::Unknown) {
            self.stray = self.led;
        }
    }

    pub fn is_anybody_away(&self) -> bool {
        !self.lost.is_empty()
    }

    pub fn time_left(&self, id: &str, now: u64, grace: u64) -> Option<u64> {
        let grace = self.patience(grace);
        self.lost.get(id).map(|(since, _)| since.saturating_add(grace).saturating_sub(now))
    }

    pub fn wake(&self, now: u64, grace: u64) -> impl Iterator<Item = u64> {
        let grace = self.patience(grace);
        let ends = self.lost.values().map(move |(since, _)| since.saturating_add(grace));
        ends.filter(move |at| *at > now).min().into_iter().chain(self.stands_at)
    }
}

impl Node {
    pub(super) fn poll_engine(&mut self, now: u64, out: &mut Vec<Output>) {
        let sits_out = self.picture.engine_version().is_some_and(|version| version > ENGINE_VERSION);
        if self.phase != Phase::Here || !self.settings.engine || sits_out || !self.is_registered() {
            self.engine.stands_at = None;
            return;
        }
        if !self.is_leader() {
            self.engine.stray = None;
            self.stand(now, out);
            return;
        }
        self.engine.stands_at = None;
        let Some(leader) = self.picture.leader() else { return };
        let leadership = leader.revision;
        let renewed = self.engine.stray.take_if(|stray| *stray != leadership).is_some();
        if self.engine.led != Some(leadership) {
            self.engine.led = Some(leadership);
            self.engine.dirty = true;
            if !renewed {
                self.engine.figures.leads_since = Some(now);
                self.said.push("this machine decides for the cluster now".to_owned());
            }
        }
        let grace = self.settings.grace;
        // Machines whose time is over are given up: from then on they are simply not there.
        let over = self.engine.given_up(now, grace);
        let has_units = |id: &String| {
            self.picture
                .jobs()
                .values()
                .any(|job| job.target.as_ref().is_some_and(|target| target.value == *id))
        };
        if over.iter().any(has_units) {
            self.engine.dirty = true;
        }
        if !self.engine.dirty || !self.engine.line.is_free(now, self.picture.revision()) {
            return;
        }
        if self.engine.stray.is_some() {
            // Before anything new is decided, what is on its way must not count any more.
            let renewal = self.lead(leadership, leader.lease);
            self.engine.line.busy = true;
            out.push(Output::Commit(Who::Engine, renewal));
            return;
        }
        match self.decide(now, leadership) {
            Some(transaction) => {
                self.engine.line.busy = true;
                out.push(Output::Commit(Who::Engine, transaction));
            }
            None => {
                self.engine.dirty = false;
                // Changes that come in a row are looked at together.
                self.engine.line.not_before = now.saturating_add(BREATH);
                self.engine.lost.retain(|id, _| !over.contains(id));
            }
        }
    }

    /// A look at the whole cluster, and what comes of it.
    fn decide(&mut self, now: u64, leadership: Revision) -> Option<Transaction> {
        let snapshot = self.picture.snapshot(self.engine.awaited(now, self.settings.grace));
        let mut decisions = place::place(&snapshot);
        decisions.tasks.retain(|task| !self.picture.is_garbled(task.unit()));
        self.engine.count(&decisions);
        let most = if self.engine.line.careful { 1 } else { MOST_TASKS };
        if decisions.tasks.is_empty() {
            return self.collect(leadership, most);
        }
        for task in decisions.tasks.iter().take(most) {
            self.said.push(say(task));
            self.engine.sent.add(kind(task));
        }
        self.engine.figures.tasks.add(self.engine.sent);
        Some(self.carry_out(decisions.tasks.iter().take(most), leadership))
    }

    /// There is no leader: the first of the machines tries at once, each further one a little later.
    fn stand(&mut self, now: u64, out: &mut Vec<Output>) {
        let seen = match self.picture.leader() {
            None => self.picture.revision_of(&Key::Leader),
            // Its own, of a lease that is lost.
            Some(leader) if leader.value.machine == self.settings.id => leader.revision,
            Some(_) => {
                self.engine.stands_at = None;
                return;
            }
        };
        let Some(at) = self.engine.stands_at else {
            let decides = |entry: &crate::picture::MachineEntry| {
                let object = entry.object.as_ref();
                object.is_some_and(|it| it.value.capabilities.get("DISABLE_ENGINE") != Some(&true))
            };
            let before = self
                .picture
                .machines()
                .iter()
                .filter(|(id, entry)| **id < self.settings.id && decides(entry));
            let rank = u64::try_from(before.count()).unwrap_or(u64::MAX);
            self.engine.stands_at = Some(now.saturating_add(rank.saturating_mul(STEP).min(LONGEST_WAIT)));
            return;
        };
        let Some(lease) = self.lease.id() else { return };
        if now < at || !self.engine.line.is_free(now, self.picture.revision()) {
            return;
        }
        let version = self.picture.keys().of(&Key::EngineVersion);
        let mut transaction = self.lead(seen, lease);
        match self.picture.engine_version() {
            Some(ENGINE_VERSION) => {
                transaction.compare.push(Compare::holds(version, ENGINE_VERSION.to_string()))
            }
            Some(_) => transaction.success.push(Op::put(version, ENGINE_VERSION.to_string())),
            None => {
                let seen = self.picture.revision_of(&Key::EngineVersion);
                transaction.compare.push(Compare::unchanged(version.clone(), seen));
                transaction.success.push(Op::put(version, ENGINE_VERSION.to_string()));
            }
        }
        self.engine.line.busy = true;
        out.push(Output::Commit(Who::Engine, transaction));
    }

    /// Takes the leadership, or takes it anew.
    fn lead(&self, seen: Revision, lease: LeaseId) -> Transaction {
        let leader = Leader { machine: self.settings.id.clone(), version: ENGINE_VERSION };
        let value = serde_json::to_vec(&leader).unwrap_or_default();
        let key = self.picture.keys().of(&Key::Leader).into_bytes();
        Transaction { success: vec![Op::Put { key, value, lease }], ..self.fenced(seen) }
    }

    fn fenced(&self, leadership: Revision) -> Transaction {
        let compare = vec![Compare::unchanged(self.picture.keys().of(&Key::Leader), leadership)];
        Transaction { compare, ..Transaction::default() }
    }

    fn carry_out<'a>(&self, tasks: impl Iterator<Item = &'a Task>, leadership: Revision) -> Transaction {
        let keys = self.picture.keys();
        let mut transaction = self.fenced(leadership);
        for task in tasks {
            let unit = task.unit();
            let Some(job) = self.picture.jobs().get(unit) else { continue };
            let target = keys.of(&Key::Target(unit));
            let seen = |stored: Option<Revision>| stored.unwrap_or(0);
            let object = seen(job.object.as_ref().map(|object| object.revision));
            let wanted = seen(job.wanted.as_ref().map(|wanted| wanted.revision));
            let given = seen(job.target.as_ref().map(|target| target.revision));
            let launched = seen(job.launched_on.as_ref().map(|machine| machine.revision));
            transaction.compare.push(Compare::unchanged(target.clone(), given));
            // A machine that has just come back keeps what it has.
            let lost = match task {
                Task::Schedule { from: Some((machine, Departure::MachineLost)), .. }
                | Task::Unschedule { machine, why: Departure::MachineLost, .. } => Some(machine),
                _ => None,
            };
            transaction.compare.extend(lost.map(|machine| Compare::absent(keys.of(&Key::Machine(machine)))));
            match task {
                Task::Schedule { machine, .. } => {
                    transaction.compare.push(Compare::unchanged(keys.of(&Key::Object(unit)), object));
                    transaction.compare.push(Compare::unchanged(keys.of(&Key::Wanted(unit)), wanted));
                    // The machine that has it so far may be about to start it: then it is that machine's until it is down.
                    transaction.compare.push(Compare::unchanged(keys.of(&Key::Launched(unit)), launched));
                    transaction.success.push(Op::put(target, machine.as_str()));
                }
                Task::Unschedule { .. } => transaction.success.push(Op::Delete(KeyRange::key(target))),
            }
        }
        transaction
    }

    /// Garbage: unit files that no unit has, and what is left of destroyed units. `None`: there is none.
    fn collect(&self, leadership: Revision, most: usize) -> Option<Transaction> {
        let keys = self.picture.keys();
        let mut transaction = self.fenced(leadership);
        let used: std::collections::BTreeSet<_> = self
            .picture
            .jobs()
            .values()
            .filter_map(|job| job.object.as_ref())
            .map(|object| object.value)
            .collect();
        let files = self.picture.files().iter().filter(|(hash, _)| !used.contains(*hash)).take(most);
        for (hash, file) in files {
            let key = keys.of(&Key::File(*hash));
            // Whoever makes a unit writes its file anew: then this one has another revision.
            transaction.compare.push(Compare::unchanged(key.clone(), file.revision));
            transaction.success.push(Op::Delete(KeyRange::key(key)));
        }
        let orphans = self
            .picture
            .jobs()
            .iter()
            .filter(|(_, job)| job.object.is_none() && (job.wanted.is_some() || job.target.is_some()))
            .filter(|(unit, _)| !self.picture.is_garbled(unit));
        for (unit, _) in orphans.take(most) {
            transaction.compare.push(Compare::absent(keys.of(&Key::Object(unit))));
            for key in [Key::Wanted(unit), Key::Target(unit)] {
                transaction.success.push(Op::Delete(KeyRange::key(keys.of(&key))));
            }
        }
        (!transaction.success.is_empty()).then_some(transaction)
    }
}

fn say(task: &Task) -> String {
    match task {
        Task::Schedule { unit, machine, from: None } => format!("{unit} goes to {machine}"),
        Task::Schedule { unit, machine, from: Some((from, why)) } => {
            format!("{unit} goes from {from} to {machine}: {why}")
        }
        Task::Unschedule { unit, machine, why } => format!("{unit} leaves {machine}: {why}"),
    }
}

const fn kind(task: &Task) -> Tasks {
    match task {
        Task::Schedule { .. } => Tasks { schedule: 1, unschedule: 0 },
        Task::Unschedule { .. } => Tasks { schedule: 0, unschedule: 1 },
    }
}
