//! The model of etcd with leases and history, on which the scheduler's simulation rests, against the real etcd: the same transactions, the
//! same ends of leases, compactions, and watches that are resumed at any revision.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ferrite_tests::etcd::{Etcd, EtcdOptions};
use kv::model::{Chance, Refusal, Store};
use kv::watch::{Update, Watch};
use kv::{Client, Compare, Error, Event, KeyRange, LeaseId, Op, Revision, Transaction};

/// The longest wait for something that etcd does at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the test.
const LONG: i64 = 3600;
/// There is none of this number.
const NO_LEASE: LeaseId = 99;

/// The real one and the model, side by side.
struct Both<'a> {
    client: &'a Client,
    store: Store,
    begun: Revision,
    leases: Vec<LeaseId>,
    chance: Chance,
    watches: usize,
    compacted: Revision,
}

impl<'a> Both<'a> {
    fn new(client: &'a Client, seed: u64) -> Result<Self> {
        client.delete(&KeyRange::prefix(""))?;
        let begun = client.range(&KeyRange::key("x"))?.1;
        let (store, chance) = (Store::at(begun), Chance(seed));
        Ok(Self { client, store, begun, leases: Vec::new(), chance, watches: 0, compacted: begun })
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.chance.number() % limit
    }

    fn key(&mut self) -> Vec<u8> {
        format!("k/{}", self.below(5)).into_bytes()
    }

    /// One that there is, one that has ended, or none.
    fn lease(&mut self) -> LeaseId {
        let index = usize::try_from(self.below(6)).unwrap_or(0);
        self.leases.get(index).copied().unwrap_or(if index == 5 { NO_LEASE } else { 0 })
    }

    fn ops(&mut self) -> Vec<Op> {
        let count = self.below(4);
        (0..count)
            .map(|_| match self.below(6) {
                0 => Op::Delete(KeyRange::key(self.key())),
                1 => Op::Delete(KeyRange::prefix("k/")),
                _ => {
                    Op::Put { key: self.key(), value: vec![b'a' + self.below(3) as u8], lease: self.lease() }
                }
            })
            .collect()
    }

    fn transact(&mut self) -> Result<()> {
        let key = self.key();
        let seen =
            self.store.model().range(&KeyRange::key(key.clone())).pop().map_or(0, |kv| kv.mod_revision);
        let compare = match self.below(4) {
            0 => vec![Compare::absent(key)],
            1 => vec![Compare::unchanged(key, seen)],
            _ => Vec::new(),
        };
        let transaction = Transaction { compare, success: self.ops(), failure: self.ops() };
        let real = self.client.transact(&transaction);
        match (self.store.commit(&transaction), real) {
            (Ok(expected), Ok(result)) if expected == result => Ok(()),
            (Err(Refusal::Unsound), Err(Error::Refused { code: 3, .. })) => Ok(()),
            (Err(Refusal::NoLease), Err(Error::Refused { message, .. }))
                if message.contains("lease not found") =>
            {
                Ok(())
            }
            (expected, real) => bail!("{transaction:?}\netcd: {real:?}\nmodel: {expected:?}"),
        }
    }

    /// One thing that may happen.
    fn step(&mut self) -> Result<()> {
        match self.below(20) {
            0 | 1 if self.leases.len() < 5 => {
                let (lease, _) = self.client.grant(LONG)?;
                self.store.grant(lease);
                self.leases.push(lease);
            }
            2 if !self.leases.is_empty() => {
                let index = usize::try_from(self.below(self.leases.len() as u64)).unwrap_or(0);
                let lease = *self.leases.get(index).context("a lease")?;
                // It stays among those that are used: what rests on it is refused.
                self.client.revoke(lease)?;
                self.store.end(lease);
                ensure!(self.client.keep_alive(lease)? == 0 && !self.store.knows(lease));
            }
            3 if self.below(3) == 0 => {
                let now = self.store.model().revision();
                let revision = self.compacted + self.below((now - self.compacted + 1) as u64) as Revision;
                if revision > self.compacted {
                    self.client.compact(revision)?;
                    self.store.compact(revision);
                    self.compacted = revision;
                }
            }
            4 | 5 => self.resume()?,
            _ => self.transact()?,
        }
        let keys = self.client.range(&KeyRange::prefix(""))?;
        ensure!(
            keys == (self.store.model().range(&KeyRange::prefix("")), self.store.model().revision()),
            "the keys differ"
        );
        Ok(())
    }

    /// A watch from some revision on, as one that was cut off would be resumed.
    fn resume(&mut self) -> Result<()> {
        let now = self.store.model().revision();
        let from = self.begun + 1 + self.below((now - self.begun + 1) as u64) as Revision;
        if from > now {
            return Ok(());
        }
        let told = watch(self.client, from, now)?;
        let Some(expected) = self.store.since(from) else {
            // At the very revision of a compaction etcd may still know what happened.
            ensure!(told.snapshot || from == self.compacted, "etcd tells what is compacted, from {from}");
            return Ok(());
        };
        ensure!(!told.snapshot, "etcd has compacted what the model has not, from {from}");
        let expected: Vec<Event> = expected.iter().flat_map(|(_, events)| events.clone()).collect();
        ensure!(told.events == expected, "from {from}\netcd: {:#?}\nmodel: {expected:#?}", told.events);
        self.watches += 1;
        Ok(())
    }
}

#[derive(Default)]
struct Told {
    snapshot: bool,
    events: Vec<Event>,
}

/// What a watch of everything tells from a revision on, up to another one.
fn watch(client: &Client, from: Revision, to: Revision) -> Result<Told> {
    let (sender, news) = channel();
    let _watch =
        Watch::start_from(client, KeyRange::prefix(""), from, move |update| sender.send(update).is_ok())?;
    let (begun, mut told) = (Instant::now(), Told::default());
    loop {
        let left = PATIENCE.checked_sub(begun.elapsed()).context("the watch does not follow")?;
        let update = news.recv_timeout(left)?.map_err(anyhow::Error::msg)?;
        let revision = update.revision();
        match update {
            Update::Snapshot { .. } => told.snapshot = true,
            Update::Events { events, .. } => told.events.extend(events),
        }
        if revision >= to {
            return Ok(told);
        }
    }
}

#[test]
fn histories_with_leases_compactions_and_resumed_watches_are_etcds() -> Result<()> {
    let etcd = Etcd::start(EtcdOptions::default())?;
    let client = etcd.client()?;
    let (mut steps, mut watches) = (0, 0);
    for seed in 1..=15 {
        let mut both = Both::new(&client, seed * 77)?;
        for number in 0..120 {
            both.step().with_context(|| format!("seed {seed}, step {number}"))?;
            steps += 1;
        }
        watches += both.watches;
    }
    println!("{steps} steps, {watches} watches resumed with history, no difference");
    ensure!(watches > 60, "{watches} watches");
    Ok(())
}

/// The time of a lease is up: its keys go with one revision, as if somebody had ended it.
#[test]
fn a_lease_whose_time_is_up_ends_as_in_the_model() -> Result<()> {
    let etcd = Etcd::start(EtcdOptions::default())?;
    let client = etcd.client()?;
    let mut both = Both::new(&client, 5)?;
    let (lease, _) = client.grant(2)?;
    both.store.grant(lease);
    let put = |key: &str, lease| Op::Put { key: key.into(), value: b"x".to_vec(), lease };
    let success = vec![put("k/c", lease), put("k/a", lease), put("k/b", 0), put("k/d", lease)];
    let transaction = Transaction { success, ..Transaction::default() };
    ensure!(
        client.transact(&transaction)?
            == both.store.commit(&transaction).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?
    );
    // One that is put again without the lease outlives it.
    let again = Transaction { success: vec![put("k/d", 0)], ..Transaction::default() };
    ensure!(
        client.transact(&again)?
            == both.store.commit(&again).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?
    );
    both.store.end(lease);
    let to = both.store.model().revision();
    let told = watch(&client, both.begun + 1, to)?;
    let expected = both.store.since(both.begun + 1).context("history")?;
    let expected: Vec<Event> = expected.iter().flat_map(|(_, events)| events.clone()).collect();
    ensure!(told.events == expected, "etcd: {:#?}\nmodel: {expected:#?}", told.events);
    ensure!(client.range(&KeyRange::prefix(""))? == (both.store.model().range(&KeyRange::prefix("")), to));
    Ok(())
}
