//! One machine's part in the cluster: a state machine without I/O. Inputs come in by [`Node::handle`]; [`Node::poll`] says what is
//! to be done. Times are milliseconds of a clock that does not go back and counts sleep of the machine.
//!
//! Everything that a machine writes rests on one lease: its presence, what it says of its units, and the leadership of the engine
//! if it has it. So a machine at rest costs etcd one renewal in half the lease's time, and nothing else.

mod engine;
mod lease;
mod local;
mod message;
mod presence;
mod publish;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::Revision;
use kv::backoff::Backoff;

use self::engine::Engine;
use self::lease::Lease;
pub(crate) use self::message::reason_of;
pub use self::message::{Input, Outcome, Output, Reason, Record, Settings, Who};
use self::presence::{LONGEST_FAREWELL, LONGEST_LAST_WORDS};
use crate::agent::{LocalUnit, Wanted};
use crate::keys::Keys;
use crate::metrics::Decisions;
use crate::picture::Picture;
use crate::unit_file::Hash;

/// Pauses after failures of etcd.
const PAUSES: Backoff = Backoff { first: 500, most: 5_000 };
/// Of a key in a message.
const LONGEST_KEY: usize = 200;

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
            Input::Address(address) => self.settings.public_ip = address,
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
