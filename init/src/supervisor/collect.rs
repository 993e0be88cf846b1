//! Forgetting units that nobody needs, systemd.unit(5), "Unit Garbage Collection" and `CollectMode=`.

use std::collections::BTreeSet;

use super::spec::{Edge, LoadState, UnitId, UnitSpec};
use super::state::SubState;
use super::unit::Unit;
use super::{Clock, Supervisor, graph};

impl Supervisor {
    /// Forgets the units that are down, have no job, and are not named by a unit that stays; their start limits and results
    /// with them. `in_use` says of a unit whether the caller still needs it; such a one is looked at again the next time.
    /// Answers with the places that are free now.
    pub fn collect(&mut self, in_use: impl Fn(UnitId) -> bool) -> Vec<UnitId> {
        let mut gone = Vec::new();
        let mut later = BTreeSet::new();
        while let Some(id) = self.garbage.pop_first() {
            match self.unneeded(id, &in_use) {
                Ok(group) => {
                    for id in group {
                        self.forget(id);
                        gone.push(id);
                    }
                }
                Err(Some(busy)) => drop(later.insert(busy)),
                Err(None) => {}
            }
        }
        self.garbage = later;
        self.give_back();
        gone
    }

    /// Free places at the end take no memory.
    fn give_back(&mut self) {
        while let Some(last) = self.units.len().checked_sub(1)
            && let Ok(last) = u32::try_from(last)
            && self.free.remove(&UnitId(last))
        {
            self.units.pop();
        }
        if self.units.len() < self.units.capacity() / 4 {
            self.units.shrink_to(self.units.len().saturating_mul(2));
        }
    }

    /// Units that may have become useless since the last [collection](Supervisor::collect).
    pub fn candidates(&self) -> impl Iterator<Item = UnitId> + '_ {
        self.garbage.iter().copied()
    }

    /// All units that lead to `id`, when none of them stays. Otherwise the one that is in use, if that is the reason.
    fn unneeded(
        &self,
        id: UnitId,
        in_use: &dyn Fn(UnitId) -> bool,
    ) -> Result<BTreeSet<UnitId>, Option<UnitId>> {
        let mut group = BTreeSet::new();
        let mut work = vec![id];
        while let Some(id) = work.pop() {
            if self.free.contains(&id) || !group.insert(id) {
                continue;
            }
            let Some(unit) = self.unit(id) else { continue };
            if stays(unit) {
                return Err(None);
            }
            if self.processes.values().any(|owner| *owner == id) || in_use(id) {
                return Err(Some(id));
            }
            for (edge, other) in &unit.edges {
                if group.contains(other) || !self.names_it(unit, *edge, *other) {
                    continue;
                }
                // Many name shutdown.target: the first of them that stays is enough.
                if self.unit(*other).is_some_and(stays) {
                    return Err(None);
                }
                work.push(*other);
            }
        }
        Ok(group)
    }

    /// Whether the relation was written by the other unit, so that `unit` must be there as long as that is.
    fn names_it(&self, unit: &Unit, edge: Edge, other: UnitId) -> bool {
        // The instance that has a connection of this socket.
        if edge == Edge::Triggers && unit.spec.trigger.as_ref().is_some_and(|trigger| trigger.accept) {
            return true;
        }
        let Some(other) = self.unit(other) else { return false };
        let is_it =
            |name: &str| unit.spec.name == name || unit.spec.aliases.iter().any(|alias| alias == name);
        other.spec.relations.iter().any(|(_, name)| is_it(name))
            || implies_relations(&other.spec)
                && graph::default_relations(&other.spec).iter().any(|(_, name)| is_it(name))
    }

    fn forget(&mut self, id: UnitId) {
        for clock in [Clock::State, Clock::Watchdog, Clock::Uphold] {
            self.set_clock(id, clock, None);
        }
        let empty = Unit::new(UnitSpec::not_found(""));
        let Some(unit) = self.units.get_mut(id.index()).map(|unit| std::mem::replace(unit, empty)) else {
            return;
        };
        for (edge, other) in unit.edges {
            if let Some(other) = self.units.get_mut(other.index())
                && let Ok(place) = other.edges.binary_search(&(edge.inverse(), id))
            {
                other.edges.remove(place);
            }
            self.garbage.insert(other); // it may have been there for this one alone
        }
        for name in std::iter::once(&unit.spec.name).chain(&unit.spec.aliases) {
            if self.names.get(name) == Some(&id) {
                self.names.remove(name);
            }
        }
        self.queue.remove(&id);
        self.review.remove(&id);
        self.garbage.remove(&id);
        self.devices.remove(&id);
        self.free.insert(id);
    }
}

/// Whether the unit is there for its own sake.
fn stays(unit: &Unit) -> bool {
    let down = match unit.sub {
        SubState::Dead => true,
        SubState::Failed => unit.spec.collect_failed,
        _ => false,
    };
    !down || unit.job.is_some() || unit.checking || unit.present || unit.spec.perpetual
}

/// Whether it has the relations that nobody writes down.
pub(super) fn implies_relations(spec: &UnitSpec) -> bool {
    spec.load == LoadState::Loaded && spec.default_dependencies
}
