//! One machine's part in the cluster: a state machine without I/O. Inputs come in by [`Node::handle`]; [`Node::poll`] says what is
//! to be done. Times are milliseconds of a clock that does not go back and counts sleep of the machine.
//!
//! Everything that a machine writes rests on one lease: its presence, what it says of its units, and the leadership of the engine
//! if it has it. So a machine at rest costs etcd one renewal in half the lease's time, and nothing else.

mod engine;
mod lease;
mod local;
mod publish;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::backoff::Backoff;
use kv::watch::Update;
use kv::{Compare, KeyRange, LeaseId, Op, Revision, Transaction};
use serde::{Deserialize, Serialize};

use self::engine::Engine;
use self::lease::Lease;
use crate::agent::{LocalTask, LocalUnit, Observed, Wanted};
use crate::keys::{Key, Keys, MachineObject};
use crate::metrics::Decisions;
use crate::picture::Picture;
use crate::place::Unplaced;
use crate::unit_file::Hash;

/// Pauses after failures of etcd.
const PAUSES: Backoff = Backoff { first: 500, most: 5_000 };
/// The most that handing units over may take: as long as PID 1 gives a machine that goes down.
const LONGEST_FAREWELL: u64 = 100_000;
/// Of a key in a message.
const LONGEST_KEY: usize = 200;
/// The most that it takes after the units are down.
const LONGEST_LAST_WORDS: u64 = 10_000;

/// What a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `/etc/machine-id`
    pub id: String,
    /// Its address for others.
    pub public_ip: String,
    /// Of its configuration.
    pub metadata: BTreeMap<String, String>,
    /// Of the daemon.
    pub version: String,
    /// Of its lease.
    pub ttl: u64,
    /// How long a machine may be gone after the end of its lease before its units are started elsewhere.
    pub grace: u64,
    /// Whether it takes part in deciding.
    pub engine: bool,
}

/// What outlives the daemon, but not the boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The lease; 0 for none.
    pub lease: LeaseId,
    /// When it ends, by the clock of this boot.
    pub ends: u64,
    /// Units that were started, with their files.
    pub launched: BTreeMap<String, Hash>,
}

/// Why a unit is not where it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// In words.
    pub text: String,
    /// It does not pass by itself.
    pub is_final: bool,
}

pub(crate) fn reason_of(why: &Unplaced) -> Reason {
    let passes = matches!(why, Unplaced::Stops(_) | Unplaced::Follows(_));
    Reason { text: why.to_string(), is_final: !passes }
}

/// Whose transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The machine comes, changes, or goes.
    Presence,
    /// What it says of its units.
    Agent,
    /// Decisions.
    Engine,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It happened; the store's revision.
    Done(Revision),
    /// Its conditions did not hold; the store's revision.
    Refused(Revision),
    /// It may have happened, or may still happen, or could not be sent.
    Unknown,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// News of the watch.
    News(Update),
    /// The answer to [`Output::Grant`]: lease and milliseconds.
    Granted {
        /// When it was asked for.
        sent: u64,
        /// `None`: no answer.
        answer: Option<(LeaseId, u64)>,
    },
    /// The answer to [`Output::Renew`].
    Renewed {
        /// Which.
        lease: LeaseId,
        /// When it was asked for.
        sent: u64,
        /// Milliseconds, 0 if there is no such lease; `None`: no answer.
        answer: Option<u64>,
    },
    /// The answer to [`Output::Commit`].
    Committed(Who, Outcome),
    /// The units whose files the machine has: once, at the beginning.
    Inventory(BTreeMap<String, LocalUnit>),
    /// PID 1's word of [`Node::local`], asked for after the last [`Input::Done`].
    Observed(BTreeMap<String, Observed>),
    /// A task is done, or why not.
    Done(LocalTask, Result<(), String>),
    /// The daemon is to end: with its units handed over to other machines, or left to its successor.
    Leave {
        /// Which.
        hand_over: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask for a lease of so many milliseconds.
    Grant(u64),
    /// Renew it.
    Renew(LeaseId),
    /// End it, without waiting for an answer.
    Revoke(LeaseId),
    /// Send a transaction.
    Commit(Who, Transaction),
    /// Tasks, in their order; each is answered by itself.
    Work(Vec<LocalTask>),
    /// Keep this.
    Record(Record),
    /// Tell people.
    Say(String),
    /// It is over.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Here,
    /// Since when it has nothing to do but to say good-bye, if it has.
    Leaving {
        deadline: u64,
        idle_since: Option<u64>,
    },
    Quits,
    Gone,
}

/// One kind of transactions: never two on their way at once, and the next one is thought about when the picture shows the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Line {
    busy: bool,
    /// The picture must be of this revision.
    after: Revision,
    not_before: u64,
    failures: u32,
    /// The last one was refused: smaller ones get further.
    careful: bool,
}

impl Line {
    const fn is_free(&self, now: u64, revision: Revision) -> bool {
        !self.busy && revision >= self.after && now >= self.not_before
    }

    fn answered(&mut self, now: u64, random: u64, outcome: Outcome) {
        self.busy = false;
        match outcome {
            Outcome::Done(revision) => (self.after, self.failures, self.careful) = (revision, 0, false),
            Outcome::Refused(revision) => {
                (self.after, self.careful) = (revision, true);
                self.not_before = now.saturating_add(random % 200);
            }
            Outcome::Unknown => {
                self.failures = self.failures.saturating_add(1);
                self.not_before = now.saturating_add(PAUSES.pause(self.failures, random));
            }
        }
    }
}

/// What went wrong with a unit here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trouble {
    failures: u32,
    not_before: u64,
    text: String,
}

/// The machine.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    phase: Phase,
    picture: Picture,
    lease: Lease,
    presence: Line,
    publisher: Line,
    engine: Engine,
    /// `None`: not known yet.
    local: Option<BTreeMap<String, LocalUnit>>,
    wanted: BTreeMap<String, Wanted>,
    /// Whether [`Self::wanted`] is what the cluster has given to it, as it is now.
    wanted_is_given: bool,
    /// Tasks on their way.
    working: usize,
    troubles: BTreeMap<String, Trouble>,
    /// When each state was last written.
    told: BTreeMap<String, u64>,
    recorded: Record,
    /// The address of a machine that has the same id.
    double: Option<String>,
    said: Vec<String>,
}

impl Node {
    /// A machine, as its last daemon has left it.
    #[must_use]
    pub fn new(settings: Settings, keys: Keys, record: Record) -> Self {
        let lease = Lease::resumed(&record, settings.ttl);
        Self {
            phase: Phase::Here,
            picture: Picture::new(keys),
            lease,
            presence: Line::default(),
            publisher: Line::default(),
            engine: Engine::default(),
            local: None,
            wanted: BTreeMap::new(),
            wanted_is_given: false,
            working: 0,
            troubles: BTreeMap::new(),
            told: BTreeMap::new(),
            recorded: record,
            double: None,
            said: Vec::new(),
            settings,
        }
    }

    /// What it is.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it knows of the cluster.
    #[must_use]
    pub const fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Whether the cluster knows it: only then its API answers.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        let Some(lease) = self.lease.id() else { return false };
        self.phase == Phase::Here
            && self.picture.machine(&self.settings.id).is_some_and(|own| own.lease == lease)
    }

    /// Whether it decides.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        let own = |leader: &crate::picture::Stored<crate::keys::Leader>| {
            Some(leader.lease) == self.lease.id() && leader.value.machine == self.settings.id
        };
        self.is_registered() && self.picture.leader().is_some_and(own)
    }

    /// The units that it has files of.
    #[must_use]
    pub fn local(&self) -> Option<&BTreeMap<String, LocalUnit>> {
        self.local.as_ref()
    }

    /// Why units are on no machine, or on one that is away.
    #[must_use]
    pub fn reasons(&self, now: u64) -> BTreeMap<String, Reason> {
        let awaited = self.engine.awaited(now, self.settings.grace);
        let snapshot = self.picture.snapshot(awaited);
        let unplaced = crate::place::place(&snapshot).unplaced.into_iter();
        let mut reasons: BTreeMap<String, Reason> =
            unplaced.map(|(unit, why)| (unit, reason_of(&why))).collect();
        for (name, unit) in &snapshot.units {
            let away = unit.target.as_ref().filter(|id| snapshot.awaited.contains_key(*id));
            if let Some(id) = away
                && let Some(left) = self.engine.time_left(id, now, self.settings.grace)
            {
                let (id, seconds) = (crate::place::short(id), left.div_ceil(1000));
                let text = format!("{id} is away; the unit is started elsewhere in {seconds} s");
                reasons.insert(name.clone(), Reason { text, is_final: false });
            }
        }
        reasons
    }

    /// Whether a machine is gone that may come back.
    #[must_use]
    pub fn is_anybody_away(&self) -> bool {
        self.engine.is_anybody_away()
    }

    /// What its engine has done.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        let figures = self.engine.figures;
        Decisions { leads_since: figures.leads_since.filter(|_| self.is_leader()), ..figures }
    }

    /// Takes an event in.
    pub fn handle(&mut self, now: u64, random: u64, input: Input) {
        match input {
            Input::News(update) => {
                // etcd can be reached.
                self.lease.retry(now);
                let mut changes = self.picture.apply(update);
                for (key, why) in std::mem::take(&mut changes.garbage) {
                    self.said.push(format!("{} in etcd is left alone: {why}", shown(&key)));
                }
                if self.concerns(&changes) {
                    self.wanted_is_given = false;
                }
                self.engine.heard(now, changes, &self.picture);
            }
            Input::Granted { sent, answer } => self.lease.granted(now, random, sent, answer),
            Input::Renewed { lease, sent, answer } => self.lease.renewed(now, random, lease, sent, answer),
            Input::Committed(who, outcome) => {
                let line = match who {
                    Who::Presence => &mut self.presence,
                    Who::Agent => &mut self.publisher,
                    Who::Engine => &mut self.engine.line,
                };
                line.answered(now, random, outcome);
                if who == Who::Engine {
                    self.engine.answered(outcome);
                }
            }
            Input::Inventory(units) => self.local = Some(units),
            Input::Observed(observed) => self.observed(&observed),
            Input::Done(task, result) => self.done(now, random, &task, result),
            Input::Leave { hand_over: true } if matches!(self.phase, Phase::Here) => {
                self.phase =
                    Phase::Leaving { deadline: now.saturating_add(LONGEST_FAREWELL), idle_since: None };
                self.presence.not_before = now;
                self.publisher.not_before = now;
            }
            Input::Leave { hand_over: true } => {}
            Input::Leave { hand_over: false } => self.phase = Phase::Quits,
        }
    }

    /// What is to be done now.
    pub fn poll(&mut self, now: u64) -> Vec<Output> {
        let mut out = Vec::new();
        match self.phase {
            Phase::Gone => return out,
            Phase::Quits => {
                self.record(&mut out);
                self.phase = Phase::Gone;
                out.push(Output::Gone);
                return out;
            }
            Phase::Here | Phase::Leaving { .. } => {}
        }
        let wants_lease = self.phase == Phase::Here;
        self.lease.poll(now, self.settings.ttl, wants_lease, &mut out);
        if self.local.is_some() {
            let sees = self.picture.revision() > 0;
            if sees {
                self.poll_presence(now, &mut out);
            }
            // Also without etcd: what must not run on a machine that is cut off is stopped.
            self.poll_local(now, &mut out);
            if sees {
                self.poll_publisher(now, &mut out);
                self.poll_engine(now, &mut out);
            }
            self.poll_farewell(now, &mut out);
            self.record(&mut out);
        }
        out.extend(std::mem::take(&mut self.said).into_iter().map(Output::Say));
        out
    }

    /// When [`Self::poll`] has something to do although nothing happens.
    #[must_use]
    pub fn wake(&self, now: u64) -> u64 {
        let lines = [&self.presence, &self.publisher, &self.engine.line];
        let lines = lines.into_iter().filter(|line| !line.busy).map(|line| line.not_before);
        let troubles = self.troubles.values().map(|trouble| trouble.not_before);
        let throttled = self.told.values().map(|at| at.saturating_add(publish::PAUSE));
        let farewell = match self.phase {
            Phase::Leaving { deadline, idle_since } => {
                Some(idle_since.map_or(deadline, |since| since.saturating_add(LONGEST_LAST_WORDS)))
            }
            _ => None,
        };
        let fence = self.fence_at();
        let all = lines.chain(troubles).chain(throttled).chain(farewell).chain(fence);
        let all = all.chain(self.engine.wake(now, self.settings.grace)).filter(|at| *at > now);
        all.chain([self.lease.wake(now)]).min().unwrap_or(u64::MAX)
    }

    /// When strict units are stopped: a third of the lease's time before it ends.
    fn fence_at(&self) -> Option<u64> {
        self.lease.ends().map(|ends| ends.saturating_sub(self.settings.ttl / 3))
    }

    fn is_fenced(&self, now: u64) -> bool {
        self.fence_at().is_none_or(|at| now >= at)
    }

    fn own_object(&self) -> MachineObject {
        let capabilities = [("DISABLE_ENGINE", !self.settings.engine), ("GRPC", false)];
        MachineObject {
            id: self.settings.id.clone(),
            public_ip: self.settings.public_ip.clone(),
            metadata: self.settings.metadata.clone(),
            capabilities: capabilities.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            version: self.settings.version.clone(),
        }
    }

    /// Makes itself known, or says good-bye.
    fn poll_presence(&mut self, now: u64, out: &mut Vec<Output>) {
        if !self.presence.is_free(now, self.picture.revision()) {
            return;
        }
        let Some(lease) = self.lease.id() else { return };
        let key = self.picture.keys().of(&Key::Machine(&self.settings.id));
        let known = self.picture.machine(&self.settings.id);
        let transaction = match (self.phase, known) {
            (Phase::Leaving { .. }, Some(known)) if known.lease == lease => {
                self.farewell(key, known.revision)
            }
            (Phase::Here, Some(known)) if known.lease == lease && known.value == self.own_object() => {
                self.double = None;
                return;
            }
            (Phase::Here, Some(known)) if known.lease == lease => self.arrival(key, known.revision, lease),
            // Its last boot, most likely: a machine that only has the same id has another address.
            (Phase::Here, Some(known)) if known.value.public_ip == self.settings.public_ip => {
                if !self.may_register() {
                    return;
                }
                self.arrival(key, known.revision, lease)
            }
            (Phase::Here, Some(known)) => {
                let other = known.value.public_ip.clone();
                if self.double.as_ref() != Some(&other) {
                    self.said.push(format!(
                        "another machine ({other}) has this machine's id {}: one of the two needs another /etc/machine-id",
                        self.settings.id
                    ));
                    self.double = Some(other);
                }
                return;
            }
            (Phase::Here, None) if self.may_register() => {
                let seen = self.picture.revision_of(&Key::Machine(&self.settings.id));
                self.arrival(key, seen, lease)
            }
            _ => return,
        };
        self.presence.busy = true;
        out.push(Output::Commit(Who::Presence, transaction));
    }

    fn arrival(&self, key: String, seen: Revision, lease: LeaseId) -> Transaction {
        let keys = self.picture.keys();
        // Nobody may have been given one of its units at this very moment.
        let units = self.local.iter().flatten().filter(|(_, unit)| unit.is_up());
        let targets = units.filter_map(|(name, _)| {
            let job = self.picture.jobs().get(name).filter(|job| !job.requirements().global)?;
            let revision = job.target.as_ref().map_or(0, |target| target.revision);
            Some(Compare::unchanged(keys.of(&Key::Target(name)), revision))
        });
        let mut compare = vec![Compare::unchanged(key.clone(), seen)];
        compare.extend(targets.take(publish::MOST_PIECES));
        let value = serde_json::to_vec(&self.own_object()).unwrap_or_default();
        let success = vec![Op::Put { key: key.into_bytes(), value, lease }];
        Transaction { compare, success, failure: Vec::new() }
    }

    fn farewell(&self, key: String, seen: Revision) -> Transaction {
        let compare = vec![Compare::unchanged(key.clone(), seen)];
        let mut success = vec![Op::Delete(KeyRange::key(key))];
        if self.picture.leader().is_some_and(|leader| Some(leader.lease) == self.lease.id()) {
            success.push(Op::Delete(KeyRange::key(self.picture.keys().of(&Key::Leader))));
        }
        Transaction { compare, success, failure: Vec::new() }
    }

    /// Units that the cluster has not given to it are down: a copy that is left from before stops first.
    fn may_register(&self) -> bool {
        !self.local.iter().flatten().any(|(name, unit)| unit.is_up() && !self.is_given(name))
    }

    /// After everything is handed over, or cannot be.
    fn poll_farewell(&mut self, now: u64, out: &mut Vec<Output>) {
        let Phase::Leaving { deadline, idle_since } = self.phase else { return };
        let empty = self.local.as_ref().is_none_or(BTreeMap::is_empty) && self.working == 0;
        let idle_since = if empty { Some(idle_since.unwrap_or(now)) } else { None };
        self.phase = Phase::Leaving { deadline, idle_since };
        let said = self.picture.revision() > 0
            && self.picture.machine(&self.settings.id).is_none()
            && !self.presence.busy
            && !self.publisher.busy
            && self.farewell_pieces().is_empty();
        let patience = idle_since.is_some_and(|since| now >= since.saturating_add(LONGEST_LAST_WORDS));
        if (empty && (said || self.lease.id().is_none())) || patience || now >= deadline {
            if let Some(lease) = self.lease.id() {
                out.push(Output::Revoke(lease));
            }
            self.lease = Lease::given_up();
            self.record(out);
            self.phase = Phase::Gone;
            out.push(Output::Gone);
        }
    }

    fn record(&mut self, out: &mut Vec<Output>) {
        let launched = self.local.iter().flatten().filter(|(_, unit)| unit.launched);
        let record = Record {
            lease: self.lease.id().unwrap_or(0),
            ends: self.lease.ends().unwrap_or(0),
            launched: launched.map(|(name, unit)| (name.clone(), unit.hash)).collect(),
        };
        if record != self.recorded {
            self.recorded = record.clone();
            out.push(Output::Record(record));
        }
    }

    fn file_of(&self, unit: &str) -> Option<(Hash, Arc<crate::unit_file::UnitFile>)> {
        let file = self.picture.unit(unit)?.file.as_ref()?;
        // What the file is when it is written here, whatever it is kept under.
        Some((file.hash(), Arc::clone(file)))
    }
}

/// A key for people: those that are garbage may be long.
pub(crate) fn shown(key: &str) -> String {
    if key.chars().count() <= LONGEST_KEY {
        key.to_owned()
    } else {
        key.chars().take(LONGEST_KEY).chain("...".chars()).collect()
    }
}
