//! What etcd holds below fleet's prefix, kept up to date by one watch: nothing is ever read twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv::watch::Update;
use kv::{EventKind, KeyValue, LeaseId, Revision};

use crate::keys::{FileObject, JobObject, Key, Keys, Leader, MachineObject, UnitState};
use crate::name;
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

/// What an update has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Something that decisions depend on.
    pub decisive: bool,
    /// Machines that are not there any more, as they were.
    pub gone: Vec<(String, Machine)>,
    /// Units of which more than a state has changed; all of them, if everything was read anew.
    pub units: Units,
    /// Machines that have changed.
    pub machines: BTreeSet<String>,
}

/// Which units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Units {
    /// All.
    All,
    /// These.
    Some(BTreeSet<String>),
}

impl Default for Units {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Changes {
    fn note(&mut self, key: &Key<'_>) {
        match key {
            Key::Machine(id) | Key::Metadata(id, _) | Key::Drain(id) => {
                self.decisive = true;
                self.machines.insert((*id).to_owned());
            }
            Key::Object(unit) | Key::Wanted(unit) | Key::Target(unit) | Key::Launched(unit) => {
                self.decisive = true;
                if let Units::Some(units) = &mut self.units {
                    units.insert((*unit).to_owned());
                }
            }
            Key::File(_) | Key::State(..) | Key::Leader | Key::EngineVersion => {}
        }
    }
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

    /// Takes news in.
    pub fn apply(&mut self, update: Update) -> Changes {
        let mut changes = Changes::default();
        self.revision = update.revision();
        match update {
            Update::Snapshot { kvs, .. } => {
                let before = std::mem::replace(self, Self::new(self.keys.clone()));
                self.revision = before.revision;
                for kv in kvs {
                    self.put(kv, &mut changes);
                }
                changes.decisive = true;
                changes.units = Units::All;
                let gone = before
                    .machines
                    .into_iter()
                    .filter(|(id, entry)| entry.object.is_some() && self.machine(id).is_none());
                changes.gone = gone.map(|(id, entry)| (id, entry.machine())).collect();
            }
            Update::Events { events, .. } => {
                for event in events {
                    match event.kind {
                        EventKind::Put => self.put(event.kv, &mut changes),
                        EventKind::Delete => self.delete(&event.kv.key, &mut changes),
                    }
                }
                changes.gone.retain(|(id, _)| self.machine(id).is_none());
            }
        }
        self.resolve(&mut changes);
        changes
    }

    fn put(&mut self, kv: KeyValue, changes: &mut Changes) {
        let Some(key) = self.keys.parse(&kv.key) else { return };
        let text = String::from_utf8_lossy(&kv.value).into_owned();
        let (revision, lease) = (kv.mod_revision, kv.lease);
        changes.note(&key);
        let with = match key {
            Key::Target(unit) | Key::Launched(unit) => Some((unit, text.as_str())),
            Key::State(unit, machine) => Some((unit, machine)),
            _ => None,
        };
        if let Some((unit, machine)) = with {
            self.named.entry(machine.to_owned()).or_default().insert(unit.to_owned());
        }
        match key {
            Key::Machine(id) => {
                // A machine that cannot be understood is not there.
                let object = serde_json::from_str(&text).ok();
                self.machines.entry(id.to_owned()).or_default().object =
                    object.map(|value| Stored { value, revision, lease });
            }
            Key::Metadata(id, key) => {
                self.machines.entry(id.to_owned()).or_default().metadata.insert(key.to_owned(), text);
            }
            Key::Drain(id) => self.machines.entry(id.to_owned()).or_default().drain = Some(text),
            Key::File(hash) => {
                let file = serde_json::from_str::<FileObject>(&text).ok();
                let file = file.and_then(|object| UnitFile::parse(&object.raw).ok());
                if let Some(file) = file {
                    let value = Arc::new(file);
                    self.files.insert(hash, Stored { value, revision, lease });
                }
            }
            Key::Object(unit) => {
                let object = serde_json::from_str::<JobObject>(&text).ok();
                let object = object.map(|object| Stored { value: object.hash, revision, lease });
                self.job(unit).object = object;
                self.unresolved.insert(unit.to_owned());
            }
            Key::Wanted(unit) => {
                self.job(unit).wanted = text.parse().ok().map(|value| Stored { value, revision, lease });
            }
            Key::Target(unit) => self.job(unit).target = Some(Stored { value: text, revision, lease }),
            Key::Launched(unit) => self.job(unit).launched_on = Some(Stored { value: text, revision, lease }),
            Key::State(unit, machine) => {
                if let Ok(value) = serde_json::from_str(&text) {
                    self.job(unit).states.insert(machine.to_owned(), Stored { value, revision, lease });
                }
            }
            Key::Leader => {
                // Anything else is the name of a machine, with the first rules.
                let leader = serde_json::from_str(&text).unwrap_or(Leader { machine: text, version: 0 });
                self.leader = Some(Stored { value: leader, revision, lease });
            }
            Key::EngineVersion => self.engine_version = text.trim().parse().ok(),
        }
    }

    fn delete(&mut self, key: &[u8], changes: &mut Changes) {
        let Some(key) = self.keys.parse(key) else { return };
        changes.note(&key);
        match key {
            Key::Machine(id) => {
                if let Some(entry) = self.machines.get_mut(id)
                    && entry.object.is_some()
                {
                    changes.gone.push((id.to_owned(), entry.machine()));
                    entry.object = None;
                }
            }
            Key::Metadata(id, key) => {
                if let Some(entry) = self.machines.get_mut(id) {
                    entry.metadata.remove(key);
                }
            }
            Key::Drain(id) => {
                if let Some(entry) = self.machines.get_mut(id) {
                    entry.drain = None;
                }
            }
            Key::File(hash) => drop(self.files.remove(&hash)),
            Key::Object(unit) => {
                self.job(unit).object = None;
                self.unresolved.insert(unit.to_owned());
            }
            Key::Wanted(unit) => self.job(unit).wanted = None,
            Key::Target(unit) => self.job(unit).target = None,
            Key::Launched(unit) => self.job(unit).launched_on = None,
            Key::State(unit, machine) => drop(self.job(unit).states.remove(machine)),
            Key::Leader => self.leader = None,
            Key::EngineVersion => self.engine_version = None,
        }
        match key {
            Key::Machine(id) | Key::Metadata(id, _) | Key::Drain(id) => {
                if self.machines.get(id).is_some_and(MachineEntry::is_empty) {
                    self.machines.remove(id);
                }
            }
            Key::Object(unit)
            | Key::Wanted(unit)
            | Key::Target(unit)
            | Key::Launched(unit)
            | Key::State(unit, _) => {
                if self.jobs.get(unit).is_some_and(Job::is_empty) {
                    self.jobs.remove(unit);
                    for units in self.named.values_mut() {
                        units.remove(unit);
                    }
                    self.named.retain(|_, units| !units.is_empty());
                }
            }
            Key::File(_) | Key::Leader | Key::EngineVersion => {}
        }
    }

    fn job(&mut self, unit: &str) -> &mut Job {
        self.jobs.entry(unit.to_owned()).or_default()
    }

    /// Units and their files may come in any order.
    fn resolve(&mut self, changes: &mut Changes) {
        let Self { unresolved, jobs, files, .. } = self;
        unresolved.retain(|unit| {
            let Some(job) = jobs.get_mut(unit) else { return false };
            let file = job.object.as_ref().and_then(|object| files.get(&object.value));
            job.file = file.map(|file| Arc::clone(&file.value));
            match (&job.file, name::check(unit)) {
                (Some(file), Ok(name)) => {
                    changes.note(&Key::Object(unit));
                    job.requirements = Arc::new(Requirements::of(&name, file).0);
                    false
                }
                // A file may still come; a name that is none stays what it is.
                (None, Ok(_)) => job.object.is_some(),
                (_, Err(_)) => {
                    job.file = None;
                    false
                }
            }
        });
    }

    /// The cluster as decisions see it. `awaited`: machines that are gone, but whose units stay theirs for now.
    #[must_use]
    pub fn snapshot<'a>(&self, awaited: impl Iterator<Item = (&'a String, &'a Machine)>) -> Snapshot {
        let present = self.machines.iter().filter(|(_, entry)| entry.object.is_some());
        let machines: BTreeMap<String, Machine> =
            present.map(|(id, entry)| (id.clone(), entry.machine())).collect();
        let units = self.units().filter_map(|(name, job)| Some((name.clone(), unit_of(job, &machines)?)));
        let units = units.collect();
        let awaited = awaited.filter(|(id, _)| !machines.contains_key(*id));
        let awaited = awaited.map(|(id, machine)| (id.clone(), machine.clone())).collect();
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
        let units = self.units().filter(|(_, job)| is_here(job));
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

#[cfg(test)]
mod tests {
    use super::*;
    use kv::Event;
    use proptest::prelude::*;

    fn kv_of(key: &str, value: &str, revision: Revision) -> KeyValue {
        KeyValue {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
            mod_revision: revision,
            ..KeyValue::default()
        }
    }

    fn events(list: &[(&Key<'_>, Option<&str>)], revision: Revision) -> Update {
        let keys = Keys::default();
        let events = list.iter().map(|(key, value)| Event {
            kind: if value.is_some() { EventKind::Put } else { EventKind::Delete },
            kv: kv_of(&keys.of(key), value.unwrap_or_default(), revision),
        });
        Update::Events { events: events.collect(), revision }
    }

    fn file(text: &str) -> (Hash, String) {
        let file = UnitFile::parse(text).unwrap();
        (file.hash(), serde_json::to_string(&FileObject { raw: file.to_string() }).unwrap())
    }

    #[test]
    fn units_and_their_files_come_in_any_order() {
        let mut picture = Picture::new(Keys::default());
        let (hash, raw) = file("[X-Fleet]\nGlobal=true\n");
        let object = serde_json::to_string(&JobObject { name: "a.service".to_owned(), hash }).unwrap();
        picture.apply(events(&[(&Key::Object("a.service"), Some(&object))], 5));
        assert!(picture.unit("a.service").is_none());
        let changes = picture.apply(events(&[(&Key::File(hash), Some(&raw))], 6));
        assert!(changes.decisive && picture.unit("a.service").unwrap().requirements().global);
        assert_eq!(picture.unit("a.service").unwrap().wanted(), TargetState::Inactive);
        let changes = picture.apply(events(&[(&Key::State("a.service", "m"), Some("{}"))], 7));
        assert!(!changes.decisive);
        picture.apply(events(&[(&Key::Object("a.service"), None), (&Key::State("a.service", "m"), None)], 8));
        assert!(picture.jobs().is_empty() && picture.revision() == 8);
    }

    /// Reference 1.4: what is set from outside wins, and an empty value hides.
    #[test]
    fn metadata_from_outside_wins() {
        let mut picture = Picture::new(Keys::default());
        let object =
            r#"{"ID":"m","PublicIP":"","Metadata":{"a":"1","b":"2"},"Capabilities":null,"Version":""}"#;
        picture.apply(events(
            &[
                (&Key::Machine("m"), Some(object)),
                (&Key::Metadata("m", "a"), Some("9")),
                (&Key::Metadata("m", "b"), Some("")),
                (&Key::Metadata("m", "c"), Some("3")),
            ],
            4,
        ));
        let merged = picture.machines()["m"].merged();
        assert_eq!(
            merged,
            BTreeMap::from([("a".to_owned(), "9".to_owned()), ("c".to_owned(), "3".to_owned())])
        );
        let changes = picture.apply(events(&[(&Key::Machine("m"), None)], 5));
        assert_eq!(changes.gone.len(), 1);
        // What was set from outside outlives the machine.
        assert!(picture.machine("m").is_none() && picture.machines().contains_key("m"));
    }

    #[test]
    fn the_current_state_is_worked_out() {
        let mut picture = Picture::new(Keys::default());
        let (hash, raw) = file("[Service]\nExecStart=/bin/true\n");
        let object = serde_json::to_string(&JobObject { name: "a.service".to_owned(), hash }).unwrap();
        let unit = "a.service";
        let current = |picture: &Picture| picture.unit(unit).unwrap().current();
        picture.apply(events(&[(&Key::File(hash), Some(&raw)), (&Key::Object(unit), Some(&object))], 2));
        assert_eq!(current(&picture), Some(TargetState::Inactive));
        picture.apply(events(&[(&Key::Target(unit), Some("m"))], 3));
        assert_eq!(current(&picture), Some(TargetState::Inactive));
        picture.apply(events(&[(&Key::State(unit, "m"), Some("{}"))], 4));
        assert_eq!(current(&picture), Some(TargetState::Loaded));
        picture.apply(events(&[(&Key::Launched(unit), Some("other"))], 5));
        assert_eq!(current(&picture), Some(TargetState::Loaded));
        picture.apply(events(&[(&Key::Launched(unit), Some("m"))], 6));
        assert_eq!(current(&picture), Some(TargetState::Launched));
    }

    proptest! {
        #[test]
        fn any_values_are_taken_in_without_panic(
            values in proptest::collection::vec((0_usize..8, proptest::option::of("[\\PC]{0,12}")), 0..30),
        ) {
            let mut picture = Picture::new(Keys::default());
            let (hash, raw) = file("[A]\nb=c\n");
            let object = serde_json::to_string(&JobObject { name: "a.service".to_owned(), hash }).unwrap();
            picture.apply(events(&[(&Key::File(hash), Some(&raw)), (&Key::Object("a.service"), Some(&object))], 1));
            let keys = [
                Key::Machine("m"), Key::Metadata("m", "k"), Key::File(hash), Key::Object("a.service"), Key::Wanted("a.service"),
                Key::Target("a.service"), Key::State("a.service", "m"), Key::Leader,
            ];
            for (revision, (which, value)) in (2..).zip(values) {
                picture.apply(events(&[(&keys[which], value.as_deref())], revision));
                let _ = picture.snapshot([].into_iter());
            }
        }
    }
}
