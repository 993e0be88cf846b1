//! What goes into the state machine and what comes out of it.

use std::collections::BTreeMap;

use kv::watch::Update;
use kv::{LeaseId, Revision, Transaction};
use serde::{Deserialize, Serialize};

use crate::agent::{LocalTask, LocalUnit, Observed};
use crate::place::Unplaced;
use crate::unit_file::Hash;

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
    /// The machine has another address for others.
    Address(String),
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
