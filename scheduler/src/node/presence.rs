//! How a machine comes and goes.

use std::collections::BTreeMap;

use kv::{Compare, KeyRange, LeaseId, Op, Revision, Transaction};

use super::lease::Lease;
use super::{Node, Output, Phase, Who};
use crate::keys::{Key, MachineObject};
use crate::picture::Stored;

/// The most that handing units over may take: as long as PID 1 gives a machine that goes down.
pub(super) const LONGEST_FAREWELL: u64 = 100_000;
/// The most that it takes after the units are down.
pub(super) const LONGEST_LAST_WORDS: u64 = 10_000;

/// Units that a machine speaks of when it makes itself known: etcd takes 128 comparisons and 128 steps.
const MOST_UNITS: usize = 120;

impl Node {
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
    pub(super) fn poll_presence(&mut self, now: u64, out: &mut Vec<Output>) {
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
            // Without an address of its own, that of its last boot is as good as any other: it waits for one, or for the lease's end.
            (Phase::Here, Some(_)) if self.settings.public_ip.is_empty() => return,
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
        let mut compare = vec![Compare::unchanged(key.clone(), seen)];
        let value = serde_json::to_vec(&self.own_object()).unwrap_or_default();
        let mut success = vec![Op::Put { key: key.into_bytes(), value, lease }];
        let units = self.local.iter().flatten().filter(|(_, unit)| unit.is_up());
        let jobs = units.filter_map(|(name, _)| self.picture.jobs().get_key_value(name));
        for (name, job) in jobs.filter(|(_, job)| !job.requirements().global).take(MOST_UNITS) {
            let is_own = |machine: &Stored<String>| machine.value == self.settings.id;
            // Nobody may have been given one of its units at this very moment, and nobody may be before it has said that they run.
            let given = job.target.as_ref().map_or(0, |target| target.revision);
            compare.push(Compare::unchanged(keys.of(&Key::Target(name)), given));
            if job.target.as_ref().is_some_and(is_own) && job.launched_on.as_ref().is_none_or(is_own) {
                let (key, value) = (keys.of(&Key::Launched(name)), self.settings.id.as_bytes().to_vec());
                success.push(Op::Put { key: key.into_bytes(), value, lease });
            }
        }
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
    pub(super) fn poll_farewell(&mut self, now: u64, out: &mut Vec<Output>) {
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
}
