//! From one wish to the set of jobs that it takes, or the reason why it cannot be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Supervisor;
use super::event::JobKind;
use super::spec::{Edge, LoadState, UnitId, UnitKind};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no such unit.
    #[error("Unit {0} not found.")]
    NotFound(String),
    /// The unit is a link to `/dev/null`.
    #[error("Unit {0} is masked.")]
    Masked(String),
    /// The unit's file cannot be used.
    #[error("Unit {name} has a bad setting: {problem}")]
    Bad {
        /// The unit.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The supervisor cannot run this kind of unit.
    #[error("Unit {0} is of a type that is not supported.")]
    Unsupported(String),
    /// `RefuseManualStart=` or `RefuseManualStop=`.
    #[error("Unit {0} may be requested by other units only.")]
    Manual(String),
    /// A stop of a unit that is always up.
    #[error("Unit {0} is always active and cannot be stopped.")]
    Perpetual(String),
    /// `isolate` without `AllowIsolate=`.
    #[error("Unit {0} may not be isolated.")]
    NoIsolate(String),
    /// `reload` of a unit that has nothing to reload with.
    #[error("Unit {0} does not support reload.")]
    NoReload(String),
    /// The order of what is required goes round in a circle.
    #[error("Ordering cycle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// Two of the required units cannot be up together.
    #[error("Unit {0} would have to be started and stopped at once.")]
    Contradiction(String),
    /// The machine is going down, and this would hinder it.
    #[error("Transaction is destructive: a job for {0} cannot be cancelled, the system is going down.")]
    Irreversible(String),
    /// `--job-mode=fail`, and a job is there that contradicts this one.
    #[error("Transaction is destructive: {0} has another job queued.")]
    Destructive(String),
}

/// How a request treats the jobs and units that it does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Replaces jobs that are in the way.
    #[default]
    Replace,
    /// The same, and nothing later may replace the new ones.
    ReplaceIrreversibly,
    /// Refused when a job that contradicts it is there.
    Fail,
    /// Stops everything that the unit does not need, and cancels all other jobs.
    Isolate,
    /// Cancels all other jobs.
    Flush,
    /// The unit alone, without waiting for its turn.
    IgnoreDependencies,
    /// The unit alone, in order.
    IgnoreRequirements,
    /// A start that restarts what depends on the unit: that of `Restart=`.
    RestartDependencies,
}

/// Jobs that belong together.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub jobs: BTreeMap<UnitId, JobKind>,
    /// Stops that do not wait for their turn, because their turn would never come.
    pub unordered: BTreeSet<UnitId>,
    /// What was left out to break a cycle or a contradiction, for the log.
    pub notes: Vec<String>,
}

#[derive(Default)]
struct Draft {
    /// Wanted jobs; true when the request fails without it.
    jobs: BTreeMap<(UnitId, JobKind), bool>,
    /// Jobs that would fail without that other one.
    needed_by: Vec<((UnitId, JobKind), (UnitId, JobKind))>,
}

type Wanted = (UnitId, JobKind);

impl Supervisor {
    /// Works out the jobs for `anchor`. Leaves out wishes that cannot be fulfilled; fails when a requirement cannot.
    pub(super) fn plan(&self, anchor: UnitId, kind: JobKind, mode: Mode) -> Result<Plan, RequestError> {
        let mut excluded: BTreeSet<Wanted> = BTreeSet::new();
        let mut notes = Vec::new();
        let mut unordered: BTreeSet<UnitId> = BTreeSet::new();
        loop {
            // Every turn excludes at least one job or its order more, of finitely many: it ends.
            let draft = self.expand(anchor, kind, mode, &excluded)?;
            if let Some((victim, missing)) = self.hopeless(&draft, &excluded, (anchor, kind))? {
                notes.push(format!(
                    "{}: not started, it requires {}",
                    self.name(victim.0),
                    self.name(missing)
                ));
                excluded.insert(victim);
                continue;
            }
            if let Some(victim) = self.contradiction(&draft, (anchor, kind))? {
                notes.push(format!(
                    "{}: {} job left out, it contradicts another one",
                    self.name(victim.0),
                    victim.1.word()
                ));
                excluded.insert(victim);
                continue;
            }
            let mut jobs = self.merge(&draft);
            self.drop_redundant(&mut jobs, anchor);
            if let Some(cycle) = self.cycle(&jobs, &unordered) {
                if let Some(unit) = cycle.iter().find(|unit| jobs.get(*unit) == Some(&JobKind::Stop)) {
                    notes.push(format!("ordering cycle: {} is stopped out of order", self.name(*unit)));
                    unordered.insert(*unit);
                    continue;
                }
                let mut names: Vec<String> = cycle.iter().map(|unit| self.name(*unit).to_owned()).collect();
                names.extend(names.first().cloned());
                let victim = cycle.iter().rev().find_map(|unit| {
                    let kind = *jobs.get(unit)?;
                    let (key, required) = draft.jobs.iter().find(|((id, _), _)| id == unit)?;
                    (!*required && *unit != anchor && !excluded.contains(key)).then_some((*unit, kind))
                });
                let Some(victim) = victim else { return Err(RequestError::Cycle(names)) };
                notes.push(format!(
                    "ordering cycle {}: {} job of {} left out",
                    names.join(" -> "),
                    victim.1.word(),
                    self.name(victim.0)
                ));
                for key in draft.jobs.keys().filter(|(unit, _)| *unit == victim.0) {
                    excluded.insert(*key);
                }
                continue;
            }
            self.check_installed(&jobs, mode)?;
            return Ok(Plan { jobs, unordered, notes });
        }
    }

    /// Follows the relations from the anchor. Errors of units that are merely wanted leave those out.
    fn expand(
        &self,
        anchor: UnitId,
        kind: JobKind,
        mode: Mode,
        excluded: &BTreeSet<Wanted>,
    ) -> Result<Draft, RequestError> {
        let mut draft = Draft::default();
        let mut work: VecDeque<(Wanted, Option<Wanted>, bool)> =
            VecDeque::from([((anchor, kind), None, true)]);
        while let Some((job, parent, required)) = work.pop_front() {
            if let (Some(parent), true) = (parent, required_edge(job, required)) {
                draft.needed_by.push((job, parent));
            }
            // The request as a whole depends on this job only if the whole chain up to the anchor is of requirements.
            let parent_matters =
                parent.is_none_or(|parent| draft.jobs.get(&parent).copied().unwrap_or(false));
            let matters = required && parent_matters;
            if excluded.contains(&job) {
                continue;
            }
            match draft.jobs.get_mut(&job) {
                Some(known) if *known || !matters => continue,
                Some(known) => *known = true,
                None => {
                    if let Err(error) = self.usable(job) {
                        if parent.is_none() {
                            return Err(error);
                        }
                        if matters {
                            return Err(error);
                        }
                        continue; // a requirement of something that is merely wanted is found by `hopeless`
                    }
                    draft.jobs.insert(job, matters);
                }
            }
            if !matches!(mode, Mode::IgnoreDependencies | Mode::IgnoreRequirements) {
                self.pull(job, mode == Mode::RestartDependencies && job == (anchor, kind), &mut work);
            }
        }
        if mode == Mode::Isolate {
            self.isolate(&mut draft);
        }
        Ok(draft)
    }

    /// Puts the jobs that `job` brings along on the list.
    fn pull(&self, job: Wanted, restarts: bool, work: &mut VecDeque<(Wanted, Option<Wanted>, bool)>) {
        let Some(unit) = self.unit(job.0) else { return };
        let mut add = |edges: &[Edge], kind: JobKind, required: bool| {
            for other in edges.iter().flat_map(|edge| unit.related(*edge)) {
                let kind = self.collapse(other, kind);
                if kind != JobKind::Nop {
                    work.push_back(((other, kind), Some(job), required));
                }
            }
        };
        let dependants = [Edge::RequiredBy, Edge::BoundBy, Edge::RequisiteOf, Edge::ConsistsOf];
        match job.1 {
            JobKind::Start | JobKind::Restart => {
                add(&[Edge::Requires, Edge::BindsTo], JobKind::Start, true);
                add(&[Edge::Requisite], JobKind::VerifyActive, true);
                add(&[Edge::Wants, Edge::Upholds], JobKind::Start, false);
                add(&[Edge::Conflicts], JobKind::Stop, true);
                add(&[Edge::ConflictedBy], JobKind::Stop, false);
                if restarts || job.1 == JobKind::Restart {
                    add(&dependants, JobKind::TryRestart, false);
                }
            }
            JobKind::Stop => {
                add(&dependants, JobKind::Stop, true);
                add(&[Edge::PropagatesStopTo], JobKind::Stop, true);
            }
            JobKind::Reload => {
                let others: Vec<UnitId> = unit.related(Edge::PropagatesReloadTo).collect();
                for other in others.into_iter().filter(|other| self.can_reload(*other)) {
                    let kind = self.collapse(other, JobKind::TryReload);
                    if kind != JobKind::Nop {
                        work.push_back(((other, kind), Some(job), false));
                    }
                }
            }
            _ => {}
        }
    }

    fn isolate(&self, draft: &mut Draft) {
        let kept: BTreeSet<UnitId> = draft.jobs.keys().map(|(unit, _)| *unit).collect();
        for id in self.ids() {
            let Some(unit) = self.unit(id) else { continue };
            let idle = unit.active().is_down() && unit.job.is_none() || unit.spec.perpetual;
            // What is found rather than started stays: nobody wants a file system to go for it.
            let idle = idle || unit.spec.kind == UnitKind::Device;
            if !idle
                && !unit.spec.ignore_on_isolate
                && !kept.contains(&id)
                && unit.spec.kind != UnitKind::Slice
            {
                draft.jobs.insert((id, JobKind::Stop), false);
            }
        }
    }

    /// Whether this kind of job can be done on this unit at all.
    fn usable(&self, job: Wanted) -> Result<(), RequestError> {
        let Some(unit) = self.unit(job.0) else { return Err(RequestError::NotFound("?".to_owned())) };
        let name = || unit.spec.name.clone();
        if job.1 == JobKind::Stop {
            return Ok(()); // whatever is running can be stopped, its file notwithstanding
        }
        match &unit.spec.load {
            LoadState::NotFound => return Err(RequestError::NotFound(name())),
            LoadState::Masked => return Err(RequestError::Masked(name())),
            LoadState::Bad(problem) => {
                return Err(RequestError::Bad { name: name(), problem: problem.clone() });
            }
            LoadState::Loaded => {}
        }
        if unit.spec.kind == UnitKind::Unsupported {
            return Err(RequestError::Unsupported(name()));
        }
        Ok(())
    }

    /// A job whose requirement is not in the draft: it cannot come to anything.
    fn hopeless(
        &self,
        draft: &Draft,
        excluded: &BTreeSet<Wanted>,
        anchor: Wanted,
    ) -> Result<Option<(Wanted, UnitId)>, RequestError> {
        for (needed, by) in &draft.needed_by {
            if needed.1 == JobKind::Stop || draft.jobs.contains_key(needed) || !draft.jobs.contains_key(by) {
                continue;
            }
            if *by == anchor {
                self.usable(*needed)?;
                return Err(RequestError::Contradiction(self.name(needed.0).to_owned()));
            }
            if !excluded.contains(by) {
                return Ok(Some((*by, needed.0)));
            }
        }
        Ok(None)
    }

    /// A unit that is to be both started and stopped: the job that matters less.
    fn contradiction(&self, draft: &Draft, anchor: Wanted) -> Result<Option<Wanted>, RequestError> {
        for ((unit, kind), stop_matters) in &draft.jobs {
            if *kind != JobKind::Stop {
                continue;
            }
            for up in [JobKind::Start, JobKind::Restart, JobKind::Reload, JobKind::VerifyActive] {
                let Some(up_matters) = draft.jobs.get(&(*unit, up)) else { continue };
                return match (*up_matters, *stop_matters) {
                    (true, true) => Err(RequestError::Contradiction(self.name(*unit).to_owned())),
                    (_, false) if (*unit, JobKind::Stop) != anchor => Ok(Some((*unit, JobKind::Stop))),
                    _ => Ok(Some((*unit, up))),
                };
            }
        }
        Ok(None)
    }

    /// One job a unit: the strongest of those that are wanted.
    fn merge(&self, draft: &Draft) -> BTreeMap<UnitId, JobKind> {
        let mut jobs: BTreeMap<UnitId, JobKind> = BTreeMap::new();
        for (unit, kind) in draft.jobs.keys() {
            let merged = |known: JobKind| self.collapse(*unit, merge_kinds(known, *kind));
            jobs.entry(*unit).and_modify(|known| *known = merged(*known)).or_insert(*kind);
        }
        jobs
    }

    /// Leaves out what is the case already, the anchor aside.
    fn drop_redundant(&self, jobs: &mut BTreeMap<UnitId, JobKind>, anchor: UnitId) {
        jobs.retain(|id, kind| {
            let Some(unit) = self.unit(*id) else { return false };
            if *id == anchor || unit.job.is_some() {
                return true;
            }
            match kind {
                JobKind::Start | JobKind::VerifyActive => !unit.active().is_up(),
                JobKind::Stop => !unit.active().is_down(),
                _ => true,
            }
        });
    }

    /// Jobs that wait for each other in a circle, following "waits for" among the new jobs and those installed.
    fn cycle(&self, jobs: &BTreeMap<UnitId, JobKind>, unordered: &BTreeSet<UnitId>) -> Option<Vec<UnitId>> {
        let kind_of =
            |id: UnitId| jobs.get(&id).copied().or_else(|| self.unit(id)?.job.as_ref().map(|job| job.kind));
        let mut finished: BTreeSet<UnitId> = unordered.clone();
        for root in jobs.keys() {
            if finished.contains(root) {
                continue;
            }
            let mut path: Vec<UnitId> = vec![*root];
            let mut open: Vec<Vec<UnitId>> = vec![self.waits_for(*root, &kind_of)];
            while let Some(next) = open.last_mut().map(Vec::pop) {
                match next {
                    None => {
                        open.pop();
                        finished.extend(path.pop());
                    }
                    Some(unit) if finished.contains(&unit) => {}
                    Some(unit) => {
                        if let Some(begin) = path.iter().position(|seen| *seen == unit) {
                            return Some(path.split_off(begin));
                        }
                        path.push(unit);
                        open.push(self.waits_for(unit, &kind_of));
                    }
                }
            }
        }
        None
    }

    /// Units whose jobs go before the job of `id`.
    fn waits_for(&self, id: UnitId, kind_of: &dyn Fn(UnitId) -> Option<JobKind>) -> Vec<UnitId> {
        let (Some(unit), Some(kind)) = (self.unit(id), kind_of(id)) else { return Vec::new() };
        let mut others = Vec::new();
        for other in unit.related(Edge::After) {
            if kind_of(other).is_some() && !goes_down(kind) {
                others.push(other);
            }
        }
        for other in unit.related(Edge::Before) {
            if kind_of(other).is_some_and(goes_down) {
                others.push(other);
            }
        }
        others
    }

    fn check_installed(&self, jobs: &BTreeMap<UnitId, JobKind>, mode: Mode) -> Result<(), RequestError> {
        for (id, kind) in jobs {
            let Some(installed) = self.unit(*id).and_then(|unit| unit.job.as_ref()) else { continue };
            if !contradict(installed.kind, *kind) {
                continue;
            }
            if installed.irreversible {
                return Err(RequestError::Irreversible(self.name(*id).to_owned()));
            }
            if mode == Mode::Fail {
                return Err(RequestError::Destructive(self.name(*id).to_owned()));
            }
        }
        Ok(())
    }
}

fn required_edge(job: Wanted, required: bool) -> bool {
    required && job.1 != JobKind::Stop
}

/// A restart is a stop until it has stopped.
pub(super) fn goes_down(kind: JobKind) -> bool {
    matches!(kind, JobKind::Stop | JobKind::Restart)
}

/// Whether the two exclude each other: a stop and anything else.
pub(super) fn contradict(first: JobKind, second: JobKind) -> bool {
    (first == JobKind::Stop) != (second == JobKind::Stop)
}

/// What to do when both are asked of one unit and do not [contradict] each other. What it is may depend on the unit's
/// state: the caller collapses it.
pub(super) fn merge_kinds(first: JobKind, second: JobKind) -> JobKind {
    use JobKind::*;
    match (first, second) {
        (Stop, _) | (_, Stop) => Stop,
        (Restart, _) | (_, Restart) => Restart,
        (Start, Reload) | (Reload, Start) | (ReloadOrStart, _) | (_, ReloadOrStart) => ReloadOrStart,
        (Start, _) | (_, Start) => Start,
        (Reload, _) | (_, Reload) => Reload,
        (TryRestart, _) | (_, TryRestart) => TryRestart,
        (TryReload, _) | (_, TryReload) => TryReload,
        (VerifyActive, _) | (_, VerifyActive) => VerifyActive,
        (Nop, Nop) => Nop,
    }
}
