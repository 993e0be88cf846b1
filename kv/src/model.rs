//! A model of etcd's store for tests. [`Model`]: keys, revisions, transactions. [`Store`]: the same with leases, and with the history that
//! watches are resumed from. Both are themselves checked against the real etcd with the same histories
//! (`tests/tests/interop/reboot_lock.rs` and `etcd_model.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::message::{
    Compare, Event, EventKind, KeyRange, KeyValue, LeaseId, Op, OpResult, Revision, Transaction,
    TransactionResult, Wanted,
};

/// Chance that a seed decides, for simulations: xorshift64* (Vigna, 2016). The seed is not 0.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// 48 bits.
    pub const fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    keys: BTreeMap<Vec<u8>, KeyValue>,
    revision: Revision,
}

impl Default for Model {
    fn default() -> Self {
        Self::at(1)
    }
}

impl Model {
    /// An empty store at a revision; a new etcd is at 1.
    #[must_use]
    pub const fn at(revision: Revision) -> Self {
        Self { keys: BTreeMap::new(), revision }
    }

    /// The store's revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// What a range holds.
    #[must_use]
    pub fn range(&self, range: &KeyRange) -> Vec<KeyValue> {
        let found = self.keys.values().filter(|kv| range.contains(&kv.key)).cloned();
        match range.most() {
            0 => found.collect(),
            most => found.take(most).collect(),
        }
    }

    /// Carries out a transaction; `None` if etcd would refuse it, because a key is put twice or put and deleted.
    pub fn transact(&mut self, transaction: &Transaction) -> Option<TransactionResult> {
        self.change(transaction).map(|(result, _)| result)
    }

    /// The same, with what watches are told of it: all of one revision.
    pub fn change(&mut self, transaction: &Transaction) -> Option<(TransactionResult, Vec<Event>)> {
        if !is_sound(&transaction.success) || !is_sound(&transaction.failure) {
            return None;
        }
        let succeeded = transaction.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &transaction.success } else { &transaction.failure };
        // All changes of a transaction have one revision; one that changes nothing has none.
        let revision = self.revision + 1;
        let (mut results, mut events) = (Vec::new(), Vec::new());
        for op in ops {
            results.push(match op {
                Op::Range(range) => OpResult::Range(self.range(range)),
                Op::Put { key, value, lease } => {
                    let kv = self.keys.entry(key.clone()).or_insert_with(|| KeyValue {
                        key: key.clone(),
                        create_revision: revision,
                        ..KeyValue::default()
                    });
                    kv.value.clone_from(value);
                    kv.mod_revision = revision;
                    kv.version += 1;
                    kv.lease = *lease;
                    events.push(Event { kind: EventKind::Put, kv: kv.clone() });
                    OpResult::Put
                }
                Op::Delete(range) => {
                    let gone: Vec<Vec<u8>> =
                        self.keys.keys().filter(|key| range.contains(key)).cloned().collect();
                    let deleted = i64::try_from(gone.len()).unwrap_or(i64::MAX);
                    for key in gone {
                        self.keys.remove(&key);
                        let kv = KeyValue { key, mod_revision: revision, ..KeyValue::default() };
                        events.push(Event { kind: EventKind::Delete, kv });
                    }
                    OpResult::Delete(deleted)
                }
            });
        }
        if !events.is_empty() {
            self.revision = revision;
        }
        Some((TransactionResult { succeeded, revision: self.revision, results }, events))
    }

    fn holds(&self, compare: &Compare) -> bool {
        let (key, wanted) = compare.parts();
        let found = self.keys.get(key);
        match wanted {
            Wanted::ModRevision(revision) => found.map_or(0, |kv| kv.mod_revision) == *revision,
            // A comparison of values with a key that is not there fails.
            Wanted::Value(value) => found.is_some_and(|kv| kv.value == *value),
            Wanted::NoneNewer(range, revision) => {
                let mut all = self.keys.values();
                all.all(|kv| kv.mod_revision <= *revision || !range.contains(&kv.key))
            }
        }
    }
}

/// Why etcd carries out nothing of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A key is put twice, or put and deleted.
    Unsound,
    /// A step that would be taken puts a key on a lease that there is not.
    NoLease,
}

/// The model with leases, whose time is the caller's affair, and with history.
#[derive(Debug, Clone, Default)]
pub struct Store {
    model: Model,
    leases: BTreeSet<LeaseId>,
    /// What has happened, by revision.
    history: Vec<(Revision, Vec<Event>)>,
    /// Of revisions up to this one there is no history any more.
    compacted: Revision,
}

impl Store {
    /// An empty store at a revision.
    #[must_use]
    pub fn at(revision: Revision) -> Self {
        Self { model: Model::at(revision), compacted: revision, ..Self::default() }
    }

    /// What it holds.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// A lease of this number begins.
    pub fn grant(&mut self, lease: LeaseId) {
        self.leases.insert(lease);
    }

    /// Whether there is such a lease.
    #[must_use]
    pub fn knows(&self, lease: LeaseId) -> bool {
        self.leases.contains(&lease)
    }

    /// A lease ends, by itself or because somebody wants it; its keys go with it, all of them with one revision.
    pub fn end(&mut self, lease: LeaseId) {
        if !self.leases.remove(&lease) {
            return;
        }
        let keys = self.model.keys.values().filter(|kv| kv.lease == lease);
        let success = keys.map(|kv| Op::Delete(KeyRange::key(kv.key.clone()))).collect();
        // Deletions are always sound.
        self.record(&Transaction { success, ..Transaction::default() });
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<TransactionResult, Refusal> {
        if !is_sound(&transaction.success) || !is_sound(&transaction.failure) {
            return Err(Refusal::Unsound);
        }
        let holds = transaction.compare.iter().all(|compare| self.model.holds(compare));
        let ops = if holds { &transaction.success } else { &transaction.failure };
        let known = |op: &Op| !matches!(op, Op::Put { lease, .. } if *lease != 0 && !self.knows(*lease));
        if !ops.iter().all(known) {
            return Err(Refusal::NoLease);
        }
        self.record(transaction).ok_or(Refusal::Unsound)
    }

    fn record(&mut self, transaction: &Transaction) -> Option<TransactionResult> {
        let (result, events) = self.model.change(transaction)?;
        if !events.is_empty() {
            self.history.push((result.revision, events));
        }
        Some(result)
    }

    /// Throws away what was up to a revision.
    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
        self.history.retain(|(at, _)| *at > revision);
    }

    /// What a watch from a revision on is told first, by revision; `None`: some of it was compacted.
    #[must_use]
    pub fn since(&self, revision: Revision) -> Option<&[(Revision, Vec<Event>)]> {
        if revision <= self.compacted {
            return None;
        }
        let from = self.history.partition_point(|(at, _)| *at < revision);
        self.history.get(from..)
    }
}

fn is_sound(ops: &[Op]) -> bool {
    let mut puts = Vec::new();
    for op in ops {
        if let Op::Put { key, .. } = op {
            if puts.contains(&key) {
                return false;
            }
            puts.push(key);
        }
    }
    let mut deletes = ops.iter().filter_map(|op| match op {
        Op::Delete(range) => Some(range),
        _ => None,
    });
    !deletes.any(|range| puts.iter().any(|key| range.contains(key)))
}
