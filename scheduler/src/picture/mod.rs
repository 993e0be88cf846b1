//! What etcd holds below fleet's prefix, kept up to date by one watch: nothing is ever read twice.
//!
//! Keys that mean nothing are skipped: other names, and the markers by which `etcdctl mkdir` keeps directories, which end in a slash.
//! What has one of fleet's names and cannot be understood is *garbage*: it is told once and left alone, the engine decides nothing about
//! its unit, and machines leave that unit as it is, until somebody writes something better.

mod news;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv::{LeaseId, Revision};

pub use self::news::{Changes, Units};
use crate::keys::{Key, Keys, Leader, MachineObject, UnitState};
use crate::requirements::Requirements;
use crate::snapshot::{Machine, Snapshot, TargetState, Unit};
use crate::unit_file::{Hash, UnitFile};

/// A value with where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// The key's mod revision.
    pub revision: Revision,
    /// The lease that it rests on; 0 for none.
    pub lease: LeaseId,
}

/// What is known of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineEntry {
    /// `None`: it is not there.
    pub object: Option<Stored<MachineObject>>,
    /// Metadata set from outside.
    pub metadata: BTreeMap<String, String>,
    /// Why it drains.
    pub drain: Option<String>,
}

impl MachineEntry {
    /// Its metadata: what was set from outside wins, and an empty value removes.
    #[must_use]
    pub fn merged(&self) -> BTreeMap<String, String> {
        let own = self.object.iter().flat_map(|object| &object.value.metadata);
        let all = own.chain(&self.metadata).map(|(key, value)| (key.clone(), value.clone()));
        let mut merged: BTreeMap<String, String> = all.collect();
        merged.retain(|key, _| self.metadata.get(key).is_none_or(|value| !value.is_empty()));
        merged
    }

    fn is_empty(&self) -> bool {
        self.object.is_none() && self.metadata.is_empty() && self.drain.is_none()
    }

    fn machine(&self) -> Machine {
        Machine { metadata: self.merged(), drains: self.drain.is_some() }
    }
}

/// What is known of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// `None`: the unit is destroyed, or about to be made.
    pub object: Option<Stored<Hash>>,
    /// What is wanted of it.
    pub wanted: Option<Stored<TargetState>>,
    /// The machine that it is given to.
    pub target: Option<Stored<String>>,
    /// The machine that has launched it.
    pub launched_on: Option<Stored<String>>,
    /// By machine.
    pub states: BTreeMap<String, Stored<UnitState>>,
    /// Its file, once that is known.
    pub file: Option<Arc<UnitFile>>,
    requirements: Arc<Requirements>,
}

impl Job {
    /// What it asks for.
    #[must_use]
    pub fn requirements(&self) -> &Arc<Requirements> {
        &self.requirements
    }

    /// What is wanted of it.
    #[must_use]
    pub fn wanted(&self) -> TargetState {
        self.wanted.as_ref().map_or(TargetState::Inactive, |wanted| wanted.value)
    }

    /// What it has come to; `None` for a global unit, which is in many states.
    #[must_use]
    pub fn current(&self) -> Option<TargetState> {
        if self.requirements.global {
            return None;
        }
        let Some(target) = &self.target else { return Some(TargetState::Inactive) };
        let launched = self.launched_on.as_ref().is_some_and(|machine| machine.value == target.value);
        Some(match self.states.contains_key(&target.value) {
            false => TargetState::Inactive,
            true if launched => TargetState::Launched,
            true => TargetState::Loaded,
        })
    }

    fn is_empty(&self) -> bool {
        self.object.is_none()
            && self.wanted.is_none()
            && self.target.is_none()
            && self.launched_on.is_none()
            && self.states.is_empty()
    }
}

/// A key that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Garbage {
    revision: Revision,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    keys: Keys,
    /// The revision that it is of; 0: nothing was read yet.
    revision: Revision,
    machines: BTreeMap<String, MachineEntry>,
    files: BTreeMap<Hash, Stored<Arc<UnitFile>>>,
    jobs: BTreeMap<String, Job>,
    /// For each machine the units that it is, or was, named with: the only ones that it has something to say of.
    named: BTreeMap<String, BTreeSet<String>>,
    leader: Option<Stored<Leader>>,
    engine_version: Option<u64>,
    /// By key.
    garbage: BTreeMap<String, Garbage>,
    /// Units whose file has changed or is missing.
    unresolved: BTreeSet<String>,
}

impl Picture {
    /// An empty one.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Where the keys are.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The revision that it is of; 0 before the first update.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Machines, by id; some are not there.
    #[must_use]
    pub const fn machines(&self) -> &BTreeMap<String, MachineEntry> {
        &self.machines
    }

    /// A machine that is there.
    #[must_use]
    pub fn machine(&self, id: &str) -> Option<&Stored<MachineObject>> {
        self.machines.get(id)?.object.as_ref()
    }

    /// Units, by name.
    pub fn units(&self) -> impl Iterator<Item = (&String, &Job)> {
        self.jobs.iter().filter(|(_, job)| job.object.is_some() && job.file.is_some())
    }

    /// A unit.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<&Job> {
        self.jobs.get(name).filter(|job| job.object.is_some() && job.file.is_some())
    }

    /// Everything that is kept under names of units, also what is left of destroyed ones.
    #[must_use]
    pub const fn jobs(&self) -> &BTreeMap<String, Job> {
        &self.jobs
    }

    /// Units that are given to a machine, or that it says something of; maybe some more.
    pub fn named_with<'a>(&'a self, machine: &str) -> impl Iterator<Item = (&'a String, &'a Job)> {
        self.named.get(machine).into_iter().flatten().filter_map(|name| self.jobs.get_key_value(name))
    }

    /// Unit files.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<Hash, Stored<Arc<UnitFile>>> {
        &self.files
    }

    /// Who decides.
    #[must_use]
    pub const fn leader(&self) -> Option<&Stored<Leader>> {
        self.leader.as_ref()
    }

    /// The version of the cluster's rules.
    #[must_use]
    pub const fn engine_version(&self) -> Option<u64> {
        self.engine_version
    }

    /// When a key was last written whose value is not known: 0 if it is not there, else it is garbage.
    #[must_use]
    pub fn revision_of(&self, key: &Key<'_>) -> Revision {
        if self.garbage.is_empty() {
            return 0;
        }
        self.garbage.get(&self.keys.of(key)).map_or(0, |garbage| garbage.revision)
    }

    /// Whether something of a unit that decides about it cannot be understood.
    #[must_use]
    pub fn is_garbled(&self, unit: &str) -> bool {
        let file =
            self.jobs.get(unit).and_then(|job| job.object.as_ref()).map(|object| Key::File(object.value));
        let keys = [Key::Object(unit), Key::Wanted(unit)];
        keys.iter().chain(&file).any(|key| self.revision_of(key) > 0)
    }

    /// The cluster as decisions see it. `awaited`: machines that are gone, but whose units stay theirs for now. A unit that is garbled
    /// stands where it is, without wishes of its own, so that those that follow it stay as well.
    #[must_use]
    pub fn snapshot<'a>(&self, awaited: impl Iterator<Item = (&'a String, &'a Machine)>) -> Snapshot {
        let present = self.machines.iter().filter(|(_, entry)| entry.object.is_some());
        let machines: BTreeMap<String, Machine> =
            present.map(|(id, entry)| (id.clone(), entry.machine())).collect();
        let awaited = awaited.filter(|(id, _)| !machines.contains_key(*id));
        let awaited: BTreeMap<String, Machine> =
            awaited.map(|(id, machine)| (id.clone(), machine.clone())).collect();
        let units = self.units().filter(|(name, _)| !self.is_garbled(name));
        let mut units: BTreeMap<String, Unit> =
            units.filter_map(|(name, job)| Some((name.clone(), unit_of(job, &machines)?))).collect();
        if !self.garbage.is_empty() {
            let stays =
                |id: &String| machines.get(id).or_else(|| awaited.get(id)).is_some_and(|it| !it.drains);
            let garbled = self.jobs.iter().filter(|(name, _)| self.is_garbled(name));
            units.extend(garbled.filter_map(|(name, job)| {
                let target = job.target.as_ref().map(|target| target.value.clone()).filter(stays)?;
                Some((
                    name.clone(),
                    Unit { wanted: TargetState::Launched, target: Some(target), ..Unit::default() },
                ))
            }));
        }
        Snapshot { units, machines, awaited }
    }

    /// One machine, if it is there, with the units that are given to it and the global ones.
    #[must_use]
    pub fn snapshot_of(&self, machine: &str) -> Snapshot {
        let entry = self.machines.get_key_value(machine).filter(|(_, entry)| entry.object.is_some());
        let machines = entry.into_iter().map(|(id, entry)| (id.clone(), entry.machine())).collect();
        let is_here = |job: &Job| {
            job.requirements.global || job.target.as_ref().is_some_and(|target| target.value == machine)
        };
        let units = self.units().filter(|(name, job)| is_here(job) && !self.is_garbled(name));
        let units = units.filter_map(|(name, job)| Some((name.clone(), unit_of(job, &machines)?))).collect();
        Snapshot { units, machines, awaited: BTreeMap::new() }
    }
}

fn unit_of(job: &Job, machines: &BTreeMap<String, Machine>) -> Option<Unit> {
    let launched_on = job.launched_on.as_ref().map(|machine| &machine.value);
    Some(Unit {
        hash: job.object.as_ref()?.value,
        requirements: Arc::clone(&job.requirements),
        wanted: job.wanted(),
        target: job.target.as_ref().map(|target| target.value.clone()),
        launched_on: runs_on(job, machines).or(launched_on).cloned(),
    })
}

/// The machine that still runs a unit although it is not, or no more, that unit's target.
fn runs_on<'a>(job: &'a Job, machines: &BTreeMap<String, Machine>) -> Option<&'a String> {
    let told = job.launched_on.iter().map(|machine| &machine.value);
    let up = job.states.iter().filter(|(_, state)| state.value.is_up()).map(|(machine, _)| machine);
    let mut all = told.chain(up.filter(|_| !job.requirements.global));
    let target = job.target.as_ref().map(|target| &target.value);
    all.find(|machine| machines.contains_key(*machine) && target != Some(machine))
}
