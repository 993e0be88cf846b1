//! Threads that do what takes time: leases, transactions, PID 1.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kv::{Error, LeaseId, Op, Transaction};

use super::pid1::Pid1;
use super::registry::Registry;
use super::{Ears, STACK, clock};
use crate::agent::{LocalTask, Observed};
use crate::node::{Input, Outcome, Output, Who};

/// How often PID 1 is asked for the states of units.
const CALM: Duration = Duration::from_millis(1_000);
/// While something changes.
const BUSY: Duration = Duration::from_millis(250);
/// How long after a task that is.
const AFTER_WORK: Duration = Duration::from_secs(10);

enum LeaseOrder {
    Grant(u64, u64),
    Renew(LeaseId, u64),
    Revoke(LeaseId),
}

/// The threads. They end with this value.
pub(super) struct Workers {
    leases: Sender<LeaseOrder>,
    /// Decisions do not keep a machine from saying what it does, nor the other way round.
    decisions: Sender<(Who, Transaction)>,
    words: Sender<(Who, Transaction)>,
    tasks: Sender<Vec<LocalTask>>,
    lease_thread: JoinHandle<()>,
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    builder.spawn(work).context("the system has no thread left")
}

impl Workers {
    /// Starts them. `known`: the units that the machine has.
    pub fn start(registry: &Arc<Registry>, pid1: Pid1, known: BTreeSet<String>, ears: &Ears) -> Result<Self> {
        let (leases, lease_orders) = channel();
        let (decisions, decision_orders) = channel();
        let (words, word_orders) = channel();
        let (tasks, task_orders) = channel();
        let (own, tell) = (Arc::clone(registry), ears.clone());
        let lease_thread = spawn("leases", move || lease_thread(&own, &lease_orders, &tell))?;
        for (name, orders) in [("decisions", decision_orders), ("words", word_orders)] {
            let (own, tell) = (Arc::clone(registry), ears.clone());
            spawn(name, move || commit_thread(&own, &orders, &tell))?;
        }
        let tell = ears.clone();
        spawn("pid1", move || Watcher { pid1, known, told: BTreeMap::new() }.serve(&task_orders, &tell))?;
        Ok(Self { leases, decisions, words, tasks, lease_thread })
    }

    /// Hands an output to its thread.
    pub fn carry_out(&self, output: Output, now: u64) -> Result<()> {
        let sent = match output {
            Output::Grant(ttl) => self.leases.send(LeaseOrder::Grant(ttl, now)).is_ok(),
            Output::Renew(lease) => self.leases.send(LeaseOrder::Renew(lease, now)).is_ok(),
            Output::Revoke(lease) => self.leases.send(LeaseOrder::Revoke(lease)).is_ok(),
            Output::Commit(Who::Engine, transaction) => {
                self.decisions.send((Who::Engine, transaction)).is_ok()
            }
            Output::Commit(who, transaction) => self.words.send((who, transaction)).is_ok(),
            Output::Work(tasks) => self.tasks.send(tasks).is_ok(),
            // The caller's.
            Output::Record(_) | Output::Say(_) | Output::Gone => true,
        };
        if sent { Ok(()) } else { Err(anyhow::anyhow!("a thread has ended")) }
    }

    /// Waits until what was asked for of leases is done; each has a limit.
    pub fn finish(self) {
        drop(self.leases);
        // A thread that panicked has said so.
        let _panicked = self.lease_thread.join();
    }
}

fn lease_thread(registry: &Registry, orders: &Receiver<LeaseOrder>, tell: &Ears) {
    for order in orders {
        let input = match order {
            LeaseOrder::Grant(ttl, sent) => {
                let seconds = i64::try_from(ttl.div_ceil(1000)).unwrap_or(i64::MAX);
                let answer = registry.ask(|client| client.grant(seconds)).ok();
                Input::Granted { sent, answer: answer.map(|(lease, seconds)| (lease, milliseconds(seconds))) }
            }
            LeaseOrder::Renew(lease, sent) => {
                let answer = registry.ask(|client| client.keep_alive(lease)).ok();
                Input::Renewed { lease, sent, answer: answer.map(milliseconds) }
            }
            LeaseOrder::Revoke(lease) => {
                if registry.ask(|client| client.revoke(lease)).is_err() {
                    eprintln!("the lease could not be given back, it ends by itself");
                }
                continue;
            }
        };
        if !tell.tell(input) {
            return;
        }
    }
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

fn commit_thread(registry: &Registry, orders: &Receiver<(Who, Transaction)>, tell: &Ears) {
    for (who, transaction) in orders {
        let outcome = match registry.ask(|client| client.transact(&transaction)) {
            Ok(result) if result.succeeded => Outcome::Done(result.revision),
            Ok(result) => Outcome::Refused(result.revision),
            Err(error) => {
                // A lease that has ended is noticed here first.
                if let (Error::Refused { message, .. }, Some(lease)) = (&error, lease_of(&transaction))
                    && message.contains("lease not found")
                {
                    let gone = Input::Renewed { lease, sent: clock(), answer: Some(0) };
                    if !tell.tell(gone) {
                        return;
                    }
                }
                Outcome::Unknown
            }
        };
        if !tell.tell(Input::Committed(who, outcome)) {
            return;
        }
    }
}

fn lease_of(transaction: &Transaction) -> Option<LeaseId> {
    transaction.success.iter().find_map(|op| match op {
        Op::Put { lease, .. } if *lease != 0 => Some(*lease),
        _ => None,
    })
}

/// The thread that carries out tasks and looks at what has become of them.
struct Watcher {
    pid1: Pid1,
    known: BTreeSet<String>,
    told: BTreeMap<String, Observed>,
}

impl Watcher {
    fn serve(&mut self, orders: &Receiver<Vec<LocalTask>>, tell: &Ears) {
        let mut worked = Some(Instant::now());
        let mut complained = false;
        loop {
            let changes = self.told.values().any(|unit| {
                unit.has_job || matches!(unit.active.as_str(), "activating" | "deactivating" | "reloading")
            });
            let busy = changes || worked.is_some_and(|at| at.elapsed() < AFTER_WORK);
            let mut fresh = false;
            match orders.recv_timeout(if busy { BUSY } else { CALM }) {
                Ok(tasks) => {
                    worked = Some(Instant::now());
                    fresh = true;
                    for (task, result) in self.pid1.carry_out(tasks) {
                        match (&task, &result) {
                            (LocalTask::Load(name, _), Ok(())) => drop(self.known.insert(name.clone())),
                            (LocalTask::Remove(name), Ok(())) => drop(self.known.remove(name)),
                            _ => {}
                        }
                        if !tell.tell(Input::Done(task, result)) {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.known.is_empty() && !fresh {
                continue;
            }
            match self.pid1.observe(self.known.iter()) {
                Ok(observed) => {
                    complained = false;
                    if fresh || observed != self.told {
                        self.told.clone_from(&observed);
                        if !tell.tell(Input::Observed(observed)) {
                            return;
                        }
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        eprintln!("{error}");
                    }
                }
            }
        }
    }
}
