//! etcd of the simulation: the model and the time of its leases.

use kv::watch::Update;
use kv::{LeaseId, Op, Revision, Transaction};

use super::World;
use crate::node::Who;

impl World {
    /// Carries out a transaction and writes it to the log of watches.
    pub(super) fn apply(&mut self, transaction: &Transaction) -> Option<(bool, Revision)> {
        self.operations += 1;
        // A lease that is gone carries nothing.
        let result = self.etcd.commit(transaction).ok()?;
        self.tell_truth();
        Some((result.succeeded, result.revision))
    }

    pub(super) fn end_leases(&mut self) -> Result<(), String> {
        let ended: Vec<LeaseId> =
            self.leases.iter().filter(|(_, (_, ends))| *ends <= self.now).map(|(id, _)| *id).collect();
        for lease in ended {
            self.check_strict(lease)?;
            self.end_lease(lease);
        }
        Ok(())
    }

    pub(super) fn end_lease(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        self.etcd.end(lease);
        self.tell_truth();
    }

    fn tell_truth(&mut self) {
        let news = self.etcd.since(self.truth.revision() + 1).unwrap_or_default();
        for (revision, events) in news {
            self.truth.apply(Update::Events { events: events.clone(), revision: *revision });
        }
    }

    pub(super) fn grant(&mut self, ttl: u64) -> (LeaseId, u64) {
        self.operations += 1;
        self.last_lease += 1;
        self.leases.insert(self.last_lease, (ttl, self.now + ttl));
        self.etcd.grant(self.last_lease);
        (self.last_lease, ttl)
    }

    pub(super) fn renew(&mut self, lease: LeaseId) -> u64 {
        self.operations += 1;
        let now = self.now;
        self.leases.get_mut(&lease).map_or(0, |(ttl, ends)| {
            *ends = now + *ttl;
            *ttl
        })
    }

    pub(super) fn commit(
        &mut self,
        index: usize,
        who: Who,
        transaction: &Transaction,
    ) -> Option<(bool, Revision)> {
        assert!(transaction.compare.len() <= 128 && transaction.success.len() <= 128, "etcd takes 128");
        let leader = self.truth.leader().map(|leader| leader.value.machine.clone());
        let result = self.apply(transaction);
        let own = self.machines.get(index).map(|machine| machine.id.clone());
        let elected = transaction
            .success
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if key.ends_with(b"engine-leader")));
        assert!(
            who != Who::Engine || elected || leader == own || !matches!(result, Some((true, _))),
            "one who does not lead has decided"
        );
        result
    }
}
