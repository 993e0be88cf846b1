//! The machine's own units.

use std::collections::BTreeMap;

use super::{Node, Output, Phase, Trouble};
use crate::agent::{LocalTask, LocalUnit, Observed, Wanted, plan};
use crate::picture::{Changes, Job, Units};
use crate::place::residents;
use crate::snapshot::TargetState;
use kv::backoff::Backoff;

/// Pauses after a task that failed.
const PAUSES: Backoff = Backoff { first: 1_000, most: 60_000 };

impl Node {
    /// PID 1's word.
    pub(super) fn observed(&mut self, observed: &BTreeMap<String, Observed>) {
        if self.working > 0 {
            // It may be older than what was just done.
            return;
        }
        for (name, unit) in self.local.iter_mut().flatten() {
            let now = observed.get(name).cloned().unwrap_or_default();
            if unit.stopping && !now.is_up() {
                unit.stopping = false;
            }
            unit.observed = Some(now);
        }
    }

    pub(super) fn done(&mut self, now: u64, random: u64, task: &LocalTask, result: Result<(), String>) {
        self.working = self.working.saturating_sub(1);
        let Some(local) = &mut self.local else { return };
        let name = task.unit().to_owned();
        if let Err(text) = result {
            let trouble = self.troubles.entry(name.clone()).or_default();
            let failures = trouble.failures.saturating_add(1);
            if trouble.text != text {
                self.said.push(format!("{name}: {text}"));
            }
            let not_before = now.saturating_add(PAUSES.pause(failures, random));
            *trouble = Trouble { failures, not_before, text };
            return;
        }
        self.troubles.remove(&name);
        match task {
            LocalTask::Remove(_) => {
                local.remove(&name);
                self.told.remove(&name);
            }
            LocalTask::Load(_, file) => {
                let unit = LocalUnit::of(&name, file, false);
                local.insert(name, unit);
            }
            LocalTask::Stop(_) => {
                if let Some(unit) = local.get_mut(&name) {
                    (unit.launched, unit.stopping, unit.observed) = (false, true, None);
                }
            }
            LocalTask::Start(_) => {
                if let Some(unit) = local.get_mut(&name) {
                    (unit.launched, unit.observed) = (true, None);
                }
                // Somebody waits for what comes of it.
                self.told.remove(&name);
            }
        }
    }

    pub(super) fn poll_local(&mut self, now: u64, out: &mut Vec<Output>) {
        if self.working > 0 {
            return;
        }
        self.look_at_wanted();
        let fenced = self.is_fenced(now);
        let Some(local) = &self.local else { return };
        let mut wanted = self.wanted.clone();
        for (name, unit) in &mut wanted {
            unit.launched &= !(fenced && local.get(name).is_some_and(|local| local.strict));
        }
        let mut tasks = plan(&wanted, local);
        if fenced {
            // Also one that the last daemon has started and not lived to note it.
            let runs = |unit: &LocalUnit| unit.strict && !unit.launched && !unit.stopping && unit.is_up();
            let more: Vec<LocalTask> = local
                .iter()
                .filter(|(name, unit)| runs(unit) && !tasks.iter().any(|task| task.unit() == *name))
                .map(|(name, _)| LocalTask::Stop(name.clone()))
                .collect();
            tasks.extend(more);
        }
        let waits = |unit: &str| self.troubles.get(unit).is_some_and(|trouble| trouble.not_before > now);
        tasks.retain(|task| !waits(task.unit()));
        // What PID 1 has not been heard of since the last task is left alone for a moment.
        let is_known = |unit: &str| local.get(unit).is_none_or(|unit| unit.observed.is_some());
        tasks.retain(|task| !matches!(task, LocalTask::Stop(unit) if !is_known(unit)));
        tasks.retain(|task| !matches!(task, LocalTask::Start(unit) if !self.may_start(unit)));
        if !tasks.is_empty() {
            self.working = tasks.len();
            out.push(Output::Work(tasks));
        }
    }

    /// etcd has said that the unit is this machine's, and others know that it may run here.
    fn may_start(&self, name: &str) -> bool {
        self.picture.unit(name).is_some_and(|job| {
            let claimed = |it: &crate::picture::Stored<String>| {
                it.value == self.settings.id && Some(it.lease) == self.lease.id()
            };
            job.requirements().global || job.launched_on.as_ref().is_some_and(claimed)
        })
    }

    /// Whether changes in etcd may change what this machine should do.
    pub(super) fn concerns(&self, changes: &Changes) -> bool {
        let id = &self.settings.id;
        let is_own = |unit: &String| {
            let job = self.picture.jobs().get(unit);
            let given = |job: &Job| {
                job.requirements().global || job.target.as_ref().is_some_and(|target| target.value == *id)
            };
            self.wanted.contains_key(unit) || job.is_some_and(given)
        };
        changes.machines.contains(id)
            || match &changes.units {
                Units::All => true,
                Units::Some(units) => units.iter().any(is_own),
            }
    }

    fn look_at_wanted(&mut self) {
        let registered = self.is_registered();
        if registered && self.wanted_is_given {
            return;
        }
        self.wanted_is_given = registered;
        self.wanted = match self.phase {
            Phase::Leaving { .. } => BTreeMap::new(),
            _ if registered => self.given(),
            _ => self.as_it_is(),
        };
        let Self { wanted, local, troubles, .. } = self;
        troubles.retain(|name, _| wanted.contains_key(name) || local.iter().any(|it| it.contains_key(name)));
    }

    /// What the cluster has given to it.
    fn given(&self) -> BTreeMap<String, Wanted> {
        let snapshot = self.picture.snapshot_of(&self.settings.id);
        let residents = residents(&snapshot, &self.settings.id);
        let all = residents.into_iter().filter_map(|(name, unit)| {
            let (hash, file) = self.file_of(name)?;
            Some((name.to_owned(), Wanted { hash, file, launched: unit.wanted == TargetState::Launched }))
        });
        let local = self.local.iter().flatten();
        let garbled = local.filter(|(name, _)| self.picture.is_garbled(name) && self.is_given(name));
        all.chain(garbled.map(|(name, unit)| (name.clone(), self.kept(name, unit)))).collect()
    }

    /// Whether the cluster has given a unit to this machine, alone or among all.
    pub(super) fn is_given(&self, name: &str) -> bool {
        let is_known = self.picture.unit(name).is_some() || self.picture.is_garbled(name);
        let job = self.picture.jobs().get(name).filter(|_| is_known);
        job.is_some_and(|job| {
            job.requirements().global || job.target.as_ref().is_some_and(|it| it.value == self.settings.id)
        })
    }

    /// While the cluster does not know it, it changes nothing, but for units that are not, or no more, given to it.
    fn as_it_is(&self) -> BTreeMap<String, Wanted> {
        let known = self.picture.revision() > 0;
        let local = self.local.iter().flatten().filter(|(name, _)| !known || self.is_given(name));
        local.map(|(name, unit)| (name.clone(), self.kept(name, unit))).collect()
    }

    /// A unit as it is.
    fn kept(&self, name: &str, unit: &LocalUnit) -> Wanted {
        let file = self.file_of(name).map(|(_, file)| file).unwrap_or_default();
        Wanted { hash: unit.hash, file, launched: unit.launched }
    }
}
