//! News of etcd, taken into the picture.

use std::collections::BTreeSet;
use std::sync::Arc;

use kv::watch::Update;
use kv::{EventKind, KeyValue};

use super::{Garbage, Job, MachineEntry, Picture, Stored};
use crate::keys::{FileObject, JobObject, Key, Leader};
use crate::name;
use crate::requirements::Requirements;
use crate::snapshot::Machine;
use crate::unit_file::UnitFile;

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
    /// Keys that cannot be understood, and could before or were not there; and why.
    pub garbage: Vec<(String, String)>,
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

/// A value that is JSON.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn stored<T>(kv: &KeyValue, value: T) -> Stored<T> {
    Stored { value, revision: kv.mod_revision, lease: kv.lease }
}

/// What a machine says of itself or of its units goes with its lease; without one it would stay for ever, whoever wrote it.
const fn leased(kv: &KeyValue) -> Result<(), &'static str> {
    if kv.lease == 0 { Err("no lease vouches for it") } else { Ok(()) }
}

impl Picture {
    /// Takes news in.
    pub fn apply(&mut self, update: Update) -> Changes {
        let mut changes = Changes::default();
        self.revision = update.revision();
        match update {
            Update::Snapshot { kvs, .. } => {
                let before = std::mem::replace(self, Self::new(self.keys.clone()));
                self.revision = before.revision;
                for kv in kvs {
                    self.put(&kv, &mut changes);
                }
                changes.decisive = true;
                changes.units = Units::All;
                let gone = before
                    .machines
                    .into_iter()
                    .filter(|(id, entry)| entry.object.is_some() && self.machine(id).is_none());
                changes.gone = gone.map(|(id, entry)| (id, entry.machine())).collect();
                changes.garbage.retain(|(key, _)| !before.garbage.contains_key(key));
            }
            Update::Events { events, .. } => {
                for event in events {
                    match event.kind {
                        EventKind::Put => self.put(&event.kv, &mut changes),
                        EventKind::Delete => self.delete(&event.kv.key, &mut changes),
                    }
                }
                changes.gone.retain(|(id, _)| self.machine(id).is_none());
            }
        }
        self.resolve(&mut changes);
        changes
    }

    fn put(&mut self, kv: &KeyValue, changes: &mut Changes) {
        let Some(key) = self.keys.parse(&kv.key) else { return };
        changes.note(&key);
        // A key that was taken apart is text.
        let name = String::from_utf8_lossy(&kv.key);
        match self.take(&key, kv) {
            Ok(()) => drop(self.garbage.remove(name.as_ref())),
            Err(why) => {
                self.forget(&key, changes);
                if !self.garbage.contains_key(name.as_ref()) {
                    changes.garbage.push((name.clone().into_owned(), why));
                }
                self.garbage.insert(name.into_owned(), Garbage { revision: kv.mod_revision });
            }
        }
    }

    /// A key and what it holds; an error says why that means nothing.
    fn take(&mut self, key: &Key<'_>, kv: &KeyValue) -> Result<(), String> {
        let text = std::str::from_utf8(&kv.value).map_err(|_| "it is no text")?;
        if let Some(unit) = key.unit() {
            name::check(unit).map_err(|error| error.to_string())?;
        }
        match *key {
            Key::Machine(id) => {
                let object = stored(kv, json(text)?);
                leased(kv)?;
                self.machines.entry(id.to_owned()).or_default().object = Some(object);
            }
            Key::Metadata(id, key) => {
                let metadata = &mut self.machines.entry(id.to_owned()).or_default().metadata;
                metadata.insert(key.to_owned(), text.to_owned());
            }
            Key::Drain(id) => self.machines.entry(id.to_owned()).or_default().drain = Some(text.to_owned()),
            Key::File(hash) => {
                let object: FileObject = json(text)?;
                let file = UnitFile::parse(&object.raw).map_err(|error| error.to_string())?;
                self.files.insert(hash, stored(kv, Arc::new(file)));
            }
            Key::Object(unit) => {
                let object: JobObject = json(text)?;
                self.job(unit).object = Some(stored(kv, object.hash));
                self.unresolved.insert(unit.to_owned());
            }
            Key::Wanted(unit) => {
                let wanted = text.parse().map_err(|error: crate::snapshot::NoState| error.to_string())?;
                self.job(unit).wanted = Some(stored(kv, wanted));
            }
            Key::Target(unit) => {
                self.job(unit).target = Some(stored(kv, text.to_owned()));
                self.name(text, unit);
            }
            Key::Launched(unit) => {
                leased(kv)?;
                self.job(unit).launched_on = Some(stored(kv, text.to_owned()));
                self.name(text, unit);
            }
            Key::State(unit, machine) => {
                let state = stored(kv, json(text)?);
                leased(kv)?;
                self.job(unit).states.insert(machine.to_owned(), state);
                self.name(machine, unit);
            }
            Key::Leader => {
                leased(kv)?;
                // Anything else is the name of a machine, with the first rules.
                let leader = json(text).unwrap_or_else(|_| Leader { machine: text.to_owned(), version: 0 });
                self.leader = Some(stored(kv, leader));
            }
            Key::EngineVersion => {
                self.engine_version = Some(text.trim().parse().map_err(|_| "it is no number")?);
            }
        }
        Ok(())
    }

    fn name(&mut self, machine: &str, unit: &str) {
        self.named.entry(machine.to_owned()).or_default().insert(unit.to_owned());
    }

    fn delete(&mut self, key: &[u8], changes: &mut Changes) {
        let Some(parsed) = self.keys.parse(key) else { return };
        changes.note(&parsed);
        self.garbage.remove(String::from_utf8_lossy(key).as_ref());
        self.forget(&parsed, changes);
    }

    fn forget(&mut self, key: &Key<'_>, changes: &mut Changes) {
        match *key {
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
        self.tidy(key);
    }

    /// Removes what is empty now.
    fn tidy(&mut self, key: &Key<'_>) {
        match *key {
            Key::Machine(id) | Key::Metadata(id, _) | Key::Drain(id) => {
                if self.machines.get(id).is_some_and(MachineEntry::is_empty) {
                    self.machines.remove(id);
                }
            }
            _ => {
                let Some(unit) = key.unit() else { return };
                if self.jobs.get(unit).is_some_and(Job::is_empty) {
                    self.jobs.remove(unit);
                    for units in self.named.values_mut() {
                        units.remove(unit);
                    }
                    self.named.retain(|_, units| !units.is_empty());
                }
            }
        }
    }

    fn job(&mut self, unit: &str) -> &mut Job {
        self.jobs.entry(unit.to_owned()).or_default()
    }

    /// Units and their files may come in any order.
    fn resolve(&mut self, changes: &mut Changes) {
        let Self { unresolved, jobs, files, .. } = self;
        unresolved.retain(|unit| {
            // Names that are none never get here.
            let (Some(job), Ok(name)) = (jobs.get_mut(unit), name::check(unit)) else { return false };
            let file = job.object.as_ref().and_then(|object| files.get(&object.value));
            job.file = file.map(|file| Arc::clone(&file.value));
            let Some(file) = &job.file else {
                // It may still come.
                return job.object.is_some();
            };
            changes.note(&Key::Object(unit));
            job.requirements = Arc::new(Requirements::of(&name, file).0);
            false
        });
    }
}
