//! A machine's dealings with the lock over time: a state machine without I/O.
//!
//! The shell asks [`Agent::next`] what to do, does it, and tells [`Agent::seen`] and [`Agent::committed`] how it went. Times are
//! milliseconds of a clock that does not go back.

use std::collections::BTreeMap;

use kv::backoff::Backoff;
use kv::{Revision, Transaction};

use super::plan::{Keys, Plan, Record, View, Wish, plan};
use super::semaphore::SemaphoreError;

/// Pauses while somebody else has the lock, or etcd does not answer: locksmith's. A change of the semaphore ends them early.
pub const PAUSES: Backoff = Backoff { first: 5_000, most: 300_000 };
/// All who wait hear of a change at once: each comes back at some moment within this.
const SPREAD: u64 = 2_000;
/// After a change by somebody else came in between.
const AGAIN: u64 = 300;

/// What a machine wants of the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Nothing.
    Rest,
    /// To hold it, with this record.
    Take(Record),
    /// To be rid of it.
    Release {
        /// Whether also of one that was taken in this boot: `locksmithctl lock` may have been meant to last.
        of_this_boot: bool,
    },
    /// If it holds it, to keep it and say why.
    Keep(Record),
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing before a new goal.
    Rest,
    /// Nothing for so many milliseconds.
    Wait(u64),
    /// Read [`Keys::read`].
    Read,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It happened.
    Yes,
    /// Its conditions did not hold.
    No,
    /// It may have happened, or may still happen.
    Unknown,
}

/// A holder, as it is seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub id: String,
    /// What it says, if it says anything.
    pub record: Option<Record>,
}

/// For the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It holds the lock: etcd has just said so.
    Won,
    /// It does not hold it.
    Released,
    /// It holds it, and keeps it.
    Kept,
    /// Others have it.
    Waits {
        /// How many may.
        max: i64,
        /// Who does.
        holders: Vec<Holder>,
    },
    /// Something is wrong; the next attempt comes by itself.
    Trouble(String),
}

/// A machine's dealings with the lock.
#[derive(Debug, Clone)]
pub struct Agent {
    keys: Keys,
    id: String,
    boot: String,
    /// Milliseconds after which a holder that has not moved is taken for dead; `None`: never.
    take_over_after: Option<u64>,
    goal: Goal,
    failures: u32,
    due: u64,
    /// A transaction may still be on its way.
    uncertain: bool,
    /// Records of others, and since when they have been seen unchanged.
    watched: BTreeMap<String, (Revision, u64)>,
}

impl Agent {
    /// A machine with its id, in a boot with an id.
    #[must_use]
    pub const fn new(keys: Keys, id: String, boot: String, take_over_after: Option<u64>) -> Self {
        Self {
            keys,
            id,
            boot,
            take_over_after,
            goal: Goal::Rest,
            failures: 0,
            due: 0,
            uncertain: false,
            watched: BTreeMap::new(),
        }
    }

    /// Wants something else from now on.
    pub fn want(&mut self, now: u64, goal: Goal) {
        // Time does not count while nobody looks.
        self.watched.clear();
        self.goal = goal;
        self.failures = 0;
        self.due = now;
    }

    /// Another patience with holders that do not move, in milliseconds.
    pub const fn take_over_after(&mut self, patience: Option<u64>) {
        self.take_over_after = patience;
    }

    /// A transaction of an earlier process or boot may still be on its way.
    pub const fn distrust(&mut self) {
        self.uncertain = true;
    }

    /// What it wants.
    #[must_use]
    pub const fn goal(&self) -> &Goal {
        &self.goal
    }

    /// Somebody has changed the semaphore.
    pub fn changed(&mut self, now: u64, random: u64) {
        if matches!(self.goal, Goal::Take(_)) {
            self.due = self.due.min(now.saturating_add(random % SPREAD));
            self.failures = self.failures.min(1);
        }
    }

    /// What to do.
    #[must_use]
    pub fn next(&self, now: u64) -> Next {
        match self.goal {
            Goal::Rest => Next::Rest,
            _ if self.due > now => Next::Wait(self.due - now),
            _ => Next::Read,
        }
    }

    /// What is in etcd, or why it is not known. A transaction that this returns is to be sent, and its outcome told.
    pub fn seen(
        &mut self,
        now: u64,
        random: u64,
        view: Result<View, String>,
    ) -> (Option<Transaction>, Option<News>) {
        let view = match view {
            Ok(view) => view,
            Err(trouble) => {
                self.later(now, random);
                return (None, Some(News::Trouble(trouble)));
            }
        };
        let held = view.semaphore.is_held_by(&self.id);
        let of_this_boot = view.records.get(&self.id).is_some_and(|(record, _)| record.boot == self.boot);
        let wish = match &self.goal {
            Goal::Rest => return (None, None),
            Goal::Release { of_this_boot: false } if held && of_this_boot => {
                return self.done(News::Kept);
            }
            Goal::Release { .. } => Wish::Release { id: &self.id, fence: self.uncertain },
            Goal::Keep(_) if !held => return self.done(News::Released),
            Goal::Take(record) | Goal::Keep(record) => Wish::Take { id: &self.id, record },
        };
        match plan(&self.keys, &view, &wish) {
            Ok(Plan::Commit(transaction)) => (Some(transaction), None),
            Ok(Plan::Nothing) => self.done(News::Released),
            Err(SemaphoreError::Full(_)) => self.waits(now, random, &view),
            Err(error) => {
                self.later(now, random);
                (None, Some(News::Trouble(error.to_string())))
            }
        }
    }

    /// Others have the lock.
    fn waits(&mut self, now: u64, random: u64, view: &View) -> (Option<Transaction>, Option<News>) {
        self.watched.retain(|id, (seen, _)| view.records.get(id).is_some_and(|(_, now)| now == seen));
        for (id, (_, revision)) in &view.records {
            self.watched.entry(id.clone()).or_insert((*revision, now));
        }
        if let (Some(dead), Goal::Take(record)) = (self.dead(now, view), &self.goal) {
            let (from, seen) = dead;
            let wish = Wish::TakeOver { id: &self.id, record, from: &from, seen };
            if let Ok(Plan::Commit(transaction)) = plan(&self.keys, view, &wish) {
                let text =
                    format!("taking the reboot lock over from {from}, which has not moved for too long");
                return (Some(transaction), Some(News::Trouble(text)));
            }
        }
        self.later(now, random);
        let holders = view.semaphore.holders().iter().map(|id| {
            let record = view.records.get(id).map(|(record, _)| record.clone());
            Holder { id: id.clone(), record }
        });
        (None, Some(News::Waits { max: view.semaphore.max(), holders: holders.collect() }))
    }

    /// The holder that has been seen unchanged for longest, if that is long enough. One without a record says nothing about
    /// itself, and one that failed is there on purpose: neither is taken for dead.
    fn dead(&self, now: u64, view: &View) -> Option<(String, Revision)> {
        let patience = self.take_over_after?;
        // A machine does not count on the word of a semaphore that is over its maximum: somebody has lowered it.
        if view.semaphore.available() < 0 {
            return None;
        }
        let candidates = view.semaphore.holders().iter().filter_map(|id| {
            let (record, _) = view.records.get(id)?;
            let (revision, since) = self.watched.get(id)?;
            let old = now.saturating_sub(*since) >= patience;
            (old && record.failed.is_none() && *id != self.id).then_some((*since, id, *revision))
        });
        candidates.min().map(|(_, id, revision)| (id.clone(), revision))
    }

    /// The transaction's outcome.
    pub fn committed(&mut self, now: u64, random: u64, outcome: Committed) -> Option<News> {
        match outcome {
            Committed::Yes => {
                // It has compared the semaphore's revision: whatever was on its way before can come no more.
                self.uncertain = false;
                let news = match self.goal {
                    Goal::Rest => return None,
                    Goal::Take(_) => News::Won,
                    Goal::Release { .. } => News::Released,
                    Goal::Keep(_) => News::Kept,
                };
                self.done(news).1
            }
            Committed::No => {
                self.due = now.saturating_add(1 + random % AGAIN);
                None
            }
            Committed::Unknown => {
                self.uncertain = true;
                self.failures = self.failures.saturating_add(1);
                self.due = now.saturating_add(1 + random % (AGAIN * 10));
                Some(News::Trouble("etcd did not say what became of a change of the reboot lock".to_owned()))
            }
        }
    }

    fn done(&mut self, news: News) -> (Option<Transaction>, Option<News>) {
        self.goal = Goal::Rest;
        self.failures = 0;
        (None, Some(news))
    }

    fn later(&mut self, now: u64, random: u64) {
        self.failures = self.failures.saturating_add(1);
        self.due = now.saturating_add(PAUSES.pause(self.failures, random));
    }
}
