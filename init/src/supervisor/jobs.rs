//! When a planned job may run, and what its end means for others.

use super::Supervisor;
use super::event::{ConditionOutcome, Effect, JobId, JobKind, JobResult, Level, PowerAction};
use super::spec::{Edge, Monotonic, UnitId, UnitKind};
use super::transaction::{Mode, RequestError, goes_down, merge_kinds};
use super::unit::{ActiveState, Job, ServiceResult, SubState};

/// Targets that end the machine's life when they are reached, systemd.special(7).
const POWER_TARGETS: [(&str, PowerAction); 3] = [
    ("poweroff.target", PowerAction::PowerOff),
    ("reboot.target", PowerAction::Reboot),
    ("halt.target", PowerAction::Halt),
];

impl Supervisor {
    /// Plans and installs the jobs for a wish; the caller runs the queue.
    pub(super) fn enqueue(
        &mut self,
        now: Monotonic,
        anchor: UnitId,
        kind: JobKind,
        mode: Mode,
        out: &mut Vec<Effect>,
    ) -> Result<JobId, RequestError> {
        let plan = self.plan(anchor, kind, mode)?;
        for note in plan.notes {
            self.log(out, anchor, Level::Warning, note);
        }
        let mut anchor_job = JobId(0);
        for (unit, kind) in plan.jobs {
            let id = self.install(now, unit, kind, mode == Mode::ReplaceIrreversibly, out);
            if let Some(job) = self.units.get_mut(unit.index()).and_then(|unit| unit.job.as_mut()) {
                job.unordered = plan.unordered.contains(&unit);
            }
            if unit == anchor {
                anchor_job = id;
            }
        }
        Ok(anchor_job)
    }

    fn install(
        &mut self,
        now: Monotonic,
        id: UnitId,
        kind: JobKind,
        irreversible: bool,
        out: &mut Vec<Effect>,
    ) -> JobId {
        let next = JobId(self.last_job.wrapping_add(1));
        let Some(unit) = self.units.get_mut(id.index()) else { return next };
        if let Some(job) = unit.job.as_mut() {
            // A stop and anything else exclude each other; among the rest the stronger wish wins.
            let merged = if job.kind == JobKind::Stop { kind } else { merge_kinds(job.kind, kind) };
            if merged == job.kind {
                job.irreversible |= irreversible;
                self.queue.insert(id);
                return job.id;
            }
            let dropped = unit.job.take();
            self.jobs = self.jobs.saturating_sub(1);
            if let Some(dropped) = dropped {
                out.push(Effect::JobFinished {
                    job: dropped.id,
                    unit: id,
                    kind: dropped.kind,
                    result: JobResult::Canceled,
                });
            }
        }
        self.last_job = next.0;
        self.jobs = self.jobs.saturating_add(1);
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.checking = false;
            unit.job =
                Some(Job { id: next, kind, running: false, irreversible, unordered: false, since: now });
            if goes_down(kind) {
                unit.run.stop_requested = true;
            }
        }
        self.queue.insert(id);
        next
    }

    /// Runs every job that can run, until nothing moves.
    pub(super) fn run_queue(&mut self, now: Monotonic, out: &mut Vec<Effect>) {
        while let Some(id) = self.queue.pop_first() {
            if self.is_runnable(id) {
                self.run_job(now, id, out);
            }
        }
    }

    /// Whether no other job has to go first. The rule is systemd's: downs go before ups, ups in the order of `After=`,
    /// downs in reverse.
    fn is_runnable(&self, id: UnitId) -> bool {
        let Some(unit) = self.unit(id) else { return false };
        let Some(job) = unit.job.as_ref().filter(|job| !job.running) else { return false };
        if job.unordered {
            return true;
        }
        let job_of =
            |other: UnitId| self.unit(other).and_then(|other| other.job.as_ref()).map(|job| job.kind);
        let held_by_earlier =
            !goes_down(job.kind) && unit.related(Edge::After).any(|other| job_of(other).is_some());
        let held_by_later = unit.related(Edge::Before).any(|other| job_of(other).is_some_and(goes_down));
        !held_by_earlier && !held_by_later
    }

    fn run_job(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let state = unit.active();
        let Some(job) = unit.job.as_mut() else { return };
        match job.kind {
            JobKind::Start | JobKind::VerifyActive => match state {
                ActiveState::Active | ActiveState::Reloading => self.finish_job(id, JobResult::Done, out),
                ActiveState::Deactivating => {} // tried again when it is down
                ActiveState::Activating if unit.sub != SubState::AutoRestart => job.running = true,
                _ if job.kind == JobKind::VerifyActive => self.finish_job(id, JobResult::Skipped, out),
                _ => {
                    job.running = true;
                    self.begin_start(now, id, out);
                }
            },
            JobKind::Restart if state.is_down() || unit.sub == SubState::AutoRestart => {
                job.kind = JobKind::Start;
                self.queue.insert(id);
            }
            JobKind::Stop if state.is_down() => self.finish_job(id, JobResult::Done, out),
            JobKind::Stop | JobKind::Restart => {
                job.running = true;
                if state != ActiveState::Deactivating {
                    self.begin_stop(now, id, out);
                }
            }
            JobKind::Reload if state == ActiveState::Active => {
                job.running = true;
                self.begin_reload(now, id, out);
            }
            JobKind::Reload if state == ActiveState::Activating => {} // tried again when it is up
            JobKind::Reload => self.finish_job(id, JobResult::Failed, out),
        }
    }

    /// First step of a start: the conditions, if there are any.
    fn begin_start(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.condition = None;
        if unit.spec.has_conditions {
            unit.checking = true;
            out.push(Effect::CheckConditions { unit: id });
        } else {
            self.activate(now, id, out);
        }
    }

    pub(super) fn conditions_checked(
        &mut self,
        now: Monotonic,
        id: UnitId,
        outcome: ConditionOutcome,
        out: &mut Vec<Effect>,
    ) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if !std::mem::take(&mut unit.checking) {
            return; // the job was replaced meanwhile
        }
        match outcome {
            ConditionOutcome::Met => self.activate(now, id, out),
            ConditionOutcome::Unmet(what) => {
                unit.condition = Some(what.clone());
                self.log(out, id, Level::Info, format!("skipped, condition not met: {what}"));
                self.finish_job(id, JobResult::Skipped, out);
            }
            ConditionOutcome::AssertFailed(what) => {
                unit.condition = Some(what.clone());
                self.log(out, id, Level::Error, format!("assertion failed: {what}"));
                self.finish_job(id, JobResult::Assert, out);
            }
        }
    }

    fn activate(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        unit.started_at = Some(now);
        match unit.spec.kind {
            UnitKind::Target | UnitKind::Slice => {
                self.set_state(now, id, SubState::Active, out);
                if let Some((_, action)) = POWER_TARGETS.iter().find(|(name, _)| self.name(id) == *name) {
                    out.push(Effect::Power(*action));
                }
            }
            UnitKind::Service => self.start_service(now, id, out),
            UnitKind::Unsupported => self.finish_job(id, JobResult::Unsupported, out),
        }
    }

    fn begin_stop(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        match unit.spec.kind {
            UnitKind::Service => self.stop_service(now, id, out),
            _ => self.set_state(now, id, SubState::Dead, out),
        }
    }

    /// Changes the unit's state and does what follows from it: for its job, for those who depend on it.
    pub(super) fn set_state(&mut self, now: Monotonic, id: UnitId, sub: SubState, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let (old, new) = (unit.active(), sub.active_state());
        if unit.sub != sub {
            unit.sub = sub;
            unit.changed_at = now;
            out.push(Effect::Changed { unit: id });
        }
        if new.is_up() && !old.is_up() {
            unit.active_since = Some(now);
        }
        if new.is_down() && !old.is_down() {
            unit.active_since = None;
        }
        if old == new {
            return;
        }
        let had_job = unit.job.is_some();
        self.advance_job(id, new, out);
        if new.is_down() && !old.is_down() {
            self.went_down(now, id, new, had_job, out);
        }
        self.queue.insert(id);
    }

    /// What the unit's new state means for the job that caused it.
    pub(super) fn advance_job(&mut self, id: UnitId, new: ActiveState, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let result = unit.run.result;
        let reload_failed = unit.run.reload_failed;
        let Some(job) = unit.job.as_mut() else { return };
        match job.kind {
            JobKind::Start | JobKind::VerifyActive => match new {
                ActiveState::Active | ActiveState::Reloading => self.finish_job(id, JobResult::Done, out),
                ActiveState::Failed if job.running => self.finish_job(id, JobResult::Failed, out),
                ActiveState::Inactive if job.running => {
                    let skipped = result == ServiceResult::ExecCondition;
                    self.finish_job(id, if skipped { JobResult::Skipped } else { JobResult::Done }, out);
                }
                _ => {}
            },
            JobKind::Stop if new.is_down() => self.finish_job(id, JobResult::Done, out),
            JobKind::Restart if new.is_down() => {
                job.kind = JobKind::Start;
                job.running = false;
                self.requeue_neighbours(id);
            }
            JobKind::Reload if job.running => match new {
                ActiveState::Active => {
                    self.finish_job(id, if reload_failed { JobResult::Failed } else { JobResult::Done }, out);
                }
                ActiveState::Inactive | ActiveState::Failed => self.finish_job(id, JobResult::Failed, out),
                _ => {}
            },
            _ => {}
        }
    }

    /// A unit that was up, or nearly, is down: `BindsTo=`, `OnFailure=`, `OnSuccess=`, `Upholds=`.
    fn went_down(
        &mut self,
        now: Monotonic,
        id: UnitId,
        new: ActiveState,
        had_job: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(unit) = self.unit(id) else { return };
        let restarts_soon = unit.job.as_ref().is_some_and(|job| job.kind == JobKind::Start);
        let mut wishes: Vec<(UnitId, JobKind)> = Vec::new();
        if !had_job && !restarts_soon {
            let up = |other: &UnitId| self.unit(*other).is_some_and(|other| !other.active().is_down());
            wishes.extend(unit.related(Edge::BoundBy).filter(up).map(|other| (other, JobKind::Stop)));
        }
        if new == ActiveState::Failed {
            wishes.extend(unit.related(Edge::OnFailure).map(|other| (other, JobKind::Start)));
        } else if !had_job && unit.run.result == ServiceResult::Success {
            wishes.extend(unit.related(Edge::OnSuccess).map(|other| (other, JobKind::Start)));
        }
        let upheld = unit
            .related(Edge::UpheldBy)
            .any(|other| self.unit(other).is_some_and(|other| other.active().is_up()));
        if upheld && !had_job && new == ActiveState::Inactive {
            wishes.push((id, JobKind::Start));
        }
        for (other, kind) in wishes {
            if let Err(error) = self.enqueue(now, other, kind, Mode::Replace, out) {
                self.log(
                    out,
                    id,
                    Level::Warning,
                    format!("cannot {} {}: {error}", kind.word(), self.name(other)),
                );
            }
        }
    }

    /// Ends the unit's job. A start that comes to nothing takes those along that require it.
    pub(super) fn finish_job(&mut self, id: UnitId, result: JobResult, out: &mut Vec<Effect>) {
        let mut work = vec![(id, result)];
        while let Some((id, result)) = work.pop() {
            let Some(unit) = self.units.get_mut(id.index()) else { continue };
            let Some(job) = unit.job.take() else { continue };
            unit.checking = false;
            self.jobs = self.jobs.saturating_sub(1);
            out.push(Effect::JobFinished { job: job.id, unit: id, kind: job.kind, result });
            if unit.sub == SubState::AutoRestart && unit.deadline.is_none() && result != JobResult::Done {
                // The restart that it waited for came to nothing; there will be no other.
                unit.sub = if result == JobResult::Skipped { SubState::Dead } else { SubState::Failed };
                out.push(Effect::Changed { unit: id });
            }
            self.requeue_neighbours(id);
            let Some(unit) = self.unit(id) else { continue };
            let came_up = match result {
                JobResult::Done => true,
                // An unmet condition is no reason for others not to start; an unmet `Requisite=` is.
                JobResult::Skipped => job.kind != JobKind::VerifyActive,
                _ => false,
            };
            if came_up || goes_down(job.kind) || job.kind == JobKind::Reload {
                continue;
            }
            for edge in [Edge::RequiredBy, Edge::BoundBy, Edge::RequisiteOf] {
                for other in unit.related(edge) {
                    let waits = self.unit(other).and_then(|other| other.job.as_ref()).is_some_and(|job| {
                        matches!(job.kind, JobKind::Start | JobKind::VerifyActive) && !job.running
                    });
                    if waits {
                        work.push((other, JobResult::Dependency));
                    }
                }
            }
        }
    }

    /// Jobs of units that are ordered with this one may be able to run now.
    fn requeue_neighbours(&mut self, id: UnitId) {
        self.queue.insert(id);
        let Some(unit) = self.units.get(id.index()) else { return };
        for (edge, other) in &unit.edges {
            let waiting = self
                .units
                .get(other.index())
                .and_then(|other| other.job.as_ref())
                .is_some_and(|job| !job.running);
            if waiting && matches!(edge, Edge::Before | Edge::After) {
                self.queue.insert(*other);
            }
        }
    }
}
