//! What must hold at every moment, and what is wanted in the end.

use std::collections::{BTreeMap, BTreeSet};

use kv::LeaseId;

use super::World;
use super::machine::is_up;
use crate::node::Node;
use crate::snapshot::TargetState;

impl World {
    /// Units that are fenced are down when the lease ends under which they ran.
    pub(super) fn check_strict(&self, lease: LeaseId) -> Result<(), String> {
        let machine = self.machines.iter().find(|machine| {
            let held = machine.node.as_ref().and_then(|node| node.lease.id());
            // A daemon that was just started, or whose PID 1 refuses, can do nothing about it.
            let able = machine.up_since + self.options.ttl / 2 < self.now
                && machine.node.as_ref().is_some_and(|node| node.troubles.is_empty() && node.working == 0);
            machine.off_until.is_none() && held == Some(lease) && able
        });
        let Some(machine) = machine else { return Ok(()) };
        let up = machine.pid1.iter().find(|(name, process)| name.starts_with("strict") && is_up(process));
        match up {
            Some((name, process)) => Err(format!(
                "{name} ({process:?}) runs on {} when its lease ends at {}: {:?}, {:?}, {:?}, cut {}",
                machine.id,
                self.now,
                machine.node.as_ref().map(|node| (&node.lease, node.local.as_ref(), node.phase)),
                machine.wakes_at,
                machine.looks_at,
                machine.cut
            )),
            None => Ok(()),
        }
    }

    /// What must hold at every moment.
    pub(super) fn check(&self) -> Result<(), String> {
        let snapshot = self.truth.snapshot([].into_iter());
        // No two units that do not bear each other are given to one machine.
        let mut spread: BTreeSet<&str> = BTreeSet::new();
        for (name, unit) in
            snapshot.units.iter().filter(|(name, unit)| name.starts_with("spread") && unit.is_to_place())
        {
            let present = unit.target.as_ref().filter(|id| snapshot.machines.contains_key(*id));
            if let Some(machine) = present
                && !spread.insert(machine)
            {
                return Err(format!("{name} is on {machine}, where there is one that it conflicts with"));
            }
        }
        // No unit runs on two machines that the cluster knows.
        let mut runs: BTreeMap<&str, &str> = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| machine.off_until.is_none()) {
            if !snapshot.machines.contains_key(&machine.id) {
                continue;
            }
            for (name, _) in machine.pid1.iter().filter(|(_, process)| is_up(process)) {
                if name.starts_with("global") {
                    continue;
                }
                if let Some(other) = runs.insert(name, &machine.id) {
                    return Err(format!("{name} runs on {other} and on {}", machine.id));
                }
            }
        }
        Ok(())
    }

    /// Whether everything is as it is wanted, or cannot be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let snapshot = self.truth.snapshot([].into_iter());
        let decisions = crate::place::place(&snapshot);
        let all_here = self.machines.iter().all(|machine| {
            machine.node.as_ref().is_some_and(Node::is_registered)
                && snapshot.machines.contains_key(&machine.id)
        });
        all_here
            && self.late.is_empty()
            && decisions.tasks.is_empty()
            && self.machines.iter().all(|machine| {
                let residents = crate::place::residents(&snapshot, &machine.id);
                let launched = machine.node.as_ref().and_then(Node::local);
                let same = machine.pid1.keys().map(String::as_str).eq(residents.keys().copied());
                same && residents.iter().all(|(name, unit)| {
                    let wanted = unit.wanted == TargetState::Launched;
                    let told = unit.requirements.global
                        || (unit.launched_on.as_deref() == Some(&machine.id)) == wanted;
                    let state = self.truth.jobs().get(*name).and_then(|job| job.states.get(&machine.id));
                    let process = machine.pid1.get(*name).map(|process| process.active);
                    told && state.is_some_and(|state| Some(state.value.active_state.as_str()) == process)
                        && launched
                            .and_then(|local| local.get(*name))
                            .is_some_and(|unit| unit.launched == wanted && !unit.stopping)
                })
            })
    }
}
