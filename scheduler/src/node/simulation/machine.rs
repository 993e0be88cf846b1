//! A machine of the simulation: its daemon, its PID 1 and what outlives both.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv::model::Store;
use kv::watch::Update;
use kv::{KeyRange, Revision};

use super::Options;
use crate::agent::{LocalTask, LocalUnit, Observed};
use crate::keys::Keys;
use crate::node::{Input, Node, Record, Settings};
use crate::unit_file::UnitFile;

/// A unit, as a machine's PID 1 has it.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub file: Arc<UnitFile>,
    pub active: &'static str,
    /// What it becomes, and when.
    pub next: Option<(u64, &'static str)>,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub id: String,
    pub node: Option<Node>,
    pub pid1: BTreeMap<String, Process>,
    pub record: Record,
    pub inbox: Vec<(u64, Input)>,
    /// The revision up to which its watch has told; `None`: it begins with a snapshot.
    pub told: Option<Revision>,
    pub cut: bool,
    /// It is off until then.
    pub off_until: Option<u64>,
    /// The daemon is down until then.
    pub down_until: Option<u64>,
    pub looks_at: u64,
    pub up_since: u64,
    pub wakes_at: u64,
    /// Stops that it has carried out, and starts.
    pub stops: Vec<String>,
    pub starts: Vec<String>,
}

pub(super) fn is_up(process: &Process) -> bool {
    process.observed().is_up()
}

impl Process {
    pub fn observed(&self) -> Observed {
        Observed {
            load: "loaded".to_owned(),
            active: self.active.to_owned(),
            sub: "sub".to_owned(),
            has_job: false,
        }
    }
}

impl Machine {
    /// One whose daemon is about to start.
    pub fn new(id: String) -> Self {
        Self {
            id,
            node: None,
            pid1: BTreeMap::new(),
            record: Record::default(),
            inbox: Vec::new(),
            told: None,
            cut: false,
            off_until: None,
            down_until: Some(0),
            looks_at: 0,
            up_since: 0,
            wakes_at: 0,
            stops: Vec::new(),
            starts: Vec::new(),
        }
    }

    pub fn lose_daemon(&mut self, until: u64) {
        self.node = None;
        self.inbox.clear();
        self.down_until = Some(until);
    }

    pub fn start_daemon(&mut self, now: u64, random: u64, options: &Options, number: usize) {
        let settings = Settings {
            id: self.id.clone(),
            public_ip: format!("10.0.0.{number}"),
            metadata: BTreeMap::from([("rack".to_owned(), (number % 2).to_string())]),
            version: "1".to_owned(),
            ttl: options.ttl,
            grace: options.grace,
            engine: true,
        };
        let mut node = Node::new(settings, Keys::default(), self.record.clone());
        let units = self.pid1.iter().map(|(name, process)| {
            let launched = self.record.launched.get(name) == Some(&process.file.hash());
            let unit = LocalUnit::of(name, &process.file, launched);
            (name.clone(), unit)
        });
        node.handle(now, random, Input::Inventory(units.collect()));
        self.node = Some(node);
        self.told = None;
        self.down_until = None;
        (self.wakes_at, self.looks_at, self.up_since) = (0, 0, now);
    }

    /// Takes in what has arrived; `false`: nothing has.
    pub fn read_inbox(&mut self, now: u64, random: u64) -> bool {
        let mut due: Vec<(u64, Input)> = Vec::new();
        self.inbox.retain(|(at, input)| {
            let is_due = *at <= now;
            if is_due {
                due.push((*at, input.clone()));
            }
            !is_due
        });
        due.sort_by_key(|(at, _)| *at);
        let something = !due.is_empty();
        for (_, input) in due {
            if let Some(node) = &mut self.node {
                node.handle(now, random, input);
            }
        }
        something
    }

    /// Asks its PID 1 if it is time to; `false`: there is nothing new.
    pub fn look(&mut self, now: u64, random: u64) -> bool {
        if self.looks_at > now {
            return false;
        }
        self.looks_at = now + 500;
        let observed: BTreeMap<String, Observed> =
            self.pid1.iter().map(|(name, process)| (name.clone(), process.observed())).collect();
        let Some(node) = &mut self.node else { return false };
        let known = |(name, unit): (&String, &LocalUnit)| unit.observed.as_ref() == observed.get(name);
        let something = !node.local().is_some_and(|local| local.iter().all(known));
        node.handle(now, random, Input::Observed(observed));
        something
    }

    /// The watch tells a part of what has happened since.
    pub fn hear(&mut self, now: u64, random: u64, most: usize, etcd: &Store) {
        let Some(node) = &mut self.node else { return };
        let Some(news) = self.told.and_then(|told| etcd.since(told + 1)) else {
            let revision = etcd.model().revision();
            let kvs = etcd.model().range(&KeyRange::prefix(""));
            node.handle(now, random, Input::News(Update::Snapshot { kvs, revision }));
            self.told = Some(revision);
            return;
        };
        let count = 1 + usize::try_from(random >> 8).unwrap_or(0) % most;
        for (revision, events) in news.iter().take(count) {
            let update = Update::Events { events: events.clone(), revision: *revision };
            node.handle(now, random, Input::News(update));
            self.told = Some(*revision);
        }
    }

    pub fn run_pid1(&mut self, now: u64) {
        for process in self.pid1.values_mut() {
            if let Some((at, next)) = process.next
                && at <= now
            {
                (process.active, process.next) = (next, None);
            }
        }
    }

    pub fn work(&mut self, now: u64, random: u64, task: &LocalTask) -> Result<(), String> {
        match task {
            LocalTask::Load(name, file) => {
                let process = Process { file: Arc::clone(file), active: "inactive", next: None };
                if self.pid1.insert(name.clone(), process).is_some_and(|old| is_up(&old)) {
                    return Err(format!("{name} was up"));
                }
            }
            LocalTask::Remove(name) => {
                if self.pid1.remove(name).is_some_and(|old| is_up(&old)) {
                    return Err(format!("{name} was up"));
                }
            }
            LocalTask::Start(name) => {
                self.starts.push(name.clone());
                let process = self.pid1.get_mut(name).ok_or("not loaded")?;
                if process.active != "active" {
                    (process.active, process.next) = ("activating", Some((now + random % 2_000, "active")));
                }
            }
            LocalTask::Stop(name) => {
                self.stops.push(name.clone());
                let process = self.pid1.get_mut(name).ok_or("not loaded")?;
                (process.active, process.next) = ("deactivating", Some((now + random % 3_000, "inactive")));
            }
        }
        Ok(())
    }
}
