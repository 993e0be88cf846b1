//! When a planned job may run, how it is begun, and what its end means for other jobs.

use super::Supervisor;
use super::event::{ConditionOutcome, Effect, JobId, JobKind, JobResult, Level, PowerAction};
use super::spec::{Action, Edge, Monotonic, UnitId, UnitKind};
use super::state::{ActiveState, ServiceResult, SubState};
use super::transaction::{Mode, RequestError, contradict, goes_down, merge_kinds};
use super::unit::Job;

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
        let kind = self.collapse(anchor, kind);
        if kind == JobKind::Nop {
            let job = self.next_job();
            out.push(Effect::JobFinished { job, unit: anchor, kind, result: JobResult::Done });
            return Ok(job);
        }
        let plan = self.plan(anchor, kind, mode)?;
        for note in plan.notes {
            self.log(out, anchor, Level::Warning, note);
        }
        if matches!(mode, Mode::Flush | Mode::Isolate) {
            let others = self.ids().filter(|id| {
                let job = self.unit(*id).and_then(|unit| unit.job.as_ref());
                job.is_some_and(|job| !job.irreversible) && !plan.jobs.contains_key(id)
            });
            for other in others.collect::<Vec<_>>() {
                self.cancel(other, out);
            }
        }
        let mut anchor_job = JobId(0);
        for (unit, kind) in plan.jobs {
            let id = self.install(now, unit, kind, mode == Mode::ReplaceIrreversibly, out);
            if let Some(job) = self.units.get_mut(unit.index()).and_then(|unit| unit.job.as_mut()) {
                job.unordered = mode == Mode::IgnoreDependencies || plan.unordered.contains(&unit);
            }
            if unit == anchor {
                anchor_job = id;
            }
        }
        Ok(anchor_job)
    }

    fn next_job(&mut self) -> JobId {
        self.last_job = self.last_job.wrapping_add(1);
        JobId(self.last_job)
    }

    /// What the kinds that depend on the unit's state come to in the state that it is in.
    pub(super) fn collapse(&self, id: UnitId, kind: JobKind) -> JobKind {
        let up = self.unit(id).is_some_and(|unit| {
            let state = unit.active();
            !state.is_down() && state != ActiveState::Deactivating
        });
        match (kind, up) {
            (JobKind::TryRestart, true) => JobKind::Restart,
            (JobKind::TryReload | JobKind::ReloadOrStart, true) => JobKind::Reload,
            (JobKind::ReloadOrStart, false) => JobKind::Start,
            (JobKind::TryRestart | JobKind::TryReload, false) => JobKind::Nop,
            (other, _) => other,
        }
    }

    fn install(
        &mut self,
        now: Monotonic,
        id: UnitId,
        kind: JobKind,
        irreversible: bool,
        out: &mut Vec<Effect>,
    ) -> JobId {
        let installed = self.unit(id).and_then(|unit| unit.job.as_ref()).map(|job| job.kind);
        match installed {
            Some(other) if contradict(other, kind) => self.cancel(id, out),
            Some(other) => {
                let merged = self.collapse(id, merge_kinds(other, kind));
                self.queue.insert(id);
                let Some(unit) = self.units.get_mut(id.index()) else { return JobId(0) };
                let Some(job) = unit.job.as_mut() else { return JobId(0) };
                // A reload that is asked for during a reload is a second one: the first may have read old files.
                if merged != other || kind == JobKind::Reload {
                    job.running = false;
                    unit.checking = false;
                }
                job.starts = merged == JobKind::Reload && (job.starts || other == JobKind::Start);
                job.kind = merged;
                job.irreversible |= irreversible;
                if goes_down(merged) {
                    unit.run.stop_requested = true;
                }
                return job.id;
            }
            None => {}
        }
        let next = self.next_job();
        self.jobs = self.jobs.saturating_add(1);
        if let Some(unit) = self.units.get_mut(id.index()) {
            let deadline = unit.spec.job_timeout.map(|span| now.after(span));
            unit.checking = false;
            unit.job = Some(Job {
                id: next,
                kind,
                running: false,
                irreversible,
                unordered: false,
                starts: false,
                since: now,
                deadline: None,
            });
            if goes_down(kind) {
                unit.run.stop_requested = true;
            }
            self.set_job_deadline(id, deadline);
        }
        self.queue.insert(id);
        next
    }

    /// Takes a job away without any consequence for others.
    pub(super) fn cancel(&mut self, id: UnitId, out: &mut Vec<Effect>) {
        if let Some(job) = self.take_job(id) {
            out.push(Effect::JobFinished {
                job: job.id,
                unit: id,
                kind: job.kind,
                result: JobResult::Canceled,
            });
            self.give_up_restart(id, JobResult::Canceled, out);
            self.requeue_neighbours(id);
        }
    }

    fn take_job(&mut self, id: UnitId) -> Option<Job> {
        self.set_job_deadline(id, None);
        let unit = self.units.get_mut(id.index())?;
        let job = unit.job.take()?;
        unit.checking = false;
        self.garbage.insert(id);
        self.jobs = self.jobs.saturating_sub(1);
        Some(job)
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
        // One that does not wait for its turn is waited for all the same: a shutdown must not overtake a stop.
        let job_of =
            |other: UnitId| self.unit(other).and_then(|other| other.job.as_ref()).map(|job| job.kind);
        let held_by_earlier =
            !goes_down(job.kind) && unit.related(Edge::After).any(|other| job_of(other).is_some());
        let held_by_later = unit.related(Edge::Before).any(|other| job_of(other).is_some_and(goes_down));
        !held_by_earlier && !held_by_later
    }

    fn run_job(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let (state, sub) = (unit.active(), unit.sub);
        let Some(job) = unit.job.as_mut() else { return };
        match job.kind {
            JobKind::Start => match state {
                ActiveState::Active | ActiveState::Reloading => self.finish_job(id, JobResult::Done, out),
                ActiveState::Deactivating => {} // tried again when it is down
                _ if sub == SubState::AutoRestart => {} // tried again when the delay is over
                _ if sub.is_starting() => self.job_runs(now, id),
                _ => {
                    self.job_runs(now, id);
                    self.begin_start(now, id, out);
                }
            },
            JobKind::VerifyActive => match state {
                ActiveState::Active | ActiveState::Reloading => self.finish_job(id, JobResult::Done, out),
                ActiveState::Activating => {}
                _ => self.finish_job(id, JobResult::Skipped, out),
            },
            JobKind::Restart if state.is_down() => {
                job.kind = JobKind::Start;
                self.requeue_neighbours(id);
            }
            JobKind::Stop if state.is_down() => self.finish_job(id, JobResult::Done, out),
            JobKind::Stop | JobKind::Restart => {
                self.job_runs(now, id);
                if state != ActiveState::Deactivating {
                    self.begin_stop(now, id, out);
                }
            }
            // One of Type=idle counts as up while it starts.
            JobKind::Reload if sub.is_starting() => {}
            JobKind::Reload if state == ActiveState::Active => {
                self.job_runs(now, id);
                self.begin_reload(now, id, out);
            }
            // Tried again when it is up, or when the reload that is under way is done.
            JobKind::Reload if matches!(state, ActiveState::Activating | ActiveState::Reloading) => {}
            _ if job.starts && unit.run.result == ServiceResult::ExecCondition => {
                self.finish_job(id, JobResult::Unmet, out);
            }
            _ if job.starts => self.finish_job(id, JobResult::Failed, out),
            _ => self.finish_job(id, JobResult::Invalid, out),
        }
    }

    /// The job is begun; from now on `JobRunningTimeoutSec=` counts.
    fn job_runs(&mut self, now: Monotonic, id: UnitId) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let limit = unit.spec.job_running_timeout.map(|span| now.after(span));
        let Some(job) = unit.job.as_mut() else { return };
        job.running = true;
        let deadline = [job.deadline, limit].into_iter().flatten().min();
        self.set_job_deadline(id, deadline);
    }

    pub(super) fn job_expired(&mut self, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let Some(job) = &unit.job else { return };
        let action = unit.spec.job_timeout_action;
        let text = format!("job {}/{} timed out", unit.spec.name, job.kind.word());
        self.log(out, id, Level::Warning, text.clone());
        self.finish_job(id, JobResult::Timeout, out);
        self.act(action, text, out);
    }

    pub(super) fn act(&mut self, action: Action, reason: String, out: &mut Vec<Effect>) {
        if action != Action::Nothing {
            out.push(Effect::Act { action, reason });
        }
    }

    /// First steps of a start: has it been started too often, and are its conditions met?
    fn begin_start(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let (interval, burst) = (unit.spec.start_limit_interval, unit.spec.start_limit_burst);
        unit.limit_hit = unit.spec.kind.has_start_limit() && !unit.limit.admit(now, interval, burst);
        if unit.limit_hit {
            self.start_limit_hit(now, id, out);
            return;
        }
        unit.condition = None;
        if unit.spec.has_conditions && unit.sub != SubState::AutoRestartQueued {
            unit.checking = true;
            out.push(Effect::CheckConditions { unit: id });
        } else {
            self.activate(now, id, out);
        }
    }

    fn start_limit_hit(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if unit.run.result == ServiceResult::Success {
            unit.run.result = ServiceResult::StartLimitHit; // else what was wrong before is what is to be told
        }
        unit.run.reason = "started too often".to_owned();
        unit.run.flush_restarts = true;
        let (action, name) = (unit.spec.start_limit_action, unit.spec.name.clone());
        self.set_deadline(id, None);
        self.log(out, id, Level::Error, "start request repeated too quickly".to_owned());
        self.set_state(now, id, SubState::Failed, out);
        self.finish_job(id, JobResult::Failed, out); // unless the change of state has done that
        self.tell_triggers(now, id, out);
        self.act(action, format!("unit {name} was started too often"), out);
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
                self.finish_job(id, JobResult::Unmet, out);
            }
            ConditionOutcome::AssertFailed(what) => {
                unit.condition = Some(what.clone());
                self.log(out, id, Level::Error, format!("assertion failed: {what}"));
                self.finish_job(id, JobResult::Assert, out);
            }
        }
        self.tell_triggers(now, id, out);
    }

    fn activate(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        match unit.spec.kind {
            UnitKind::Target | UnitKind::Slice => {
                self.set_state(now, id, SubState::Active, out);
                if let Some((_, action)) = POWER_TARGETS.iter().find(|(name, _)| self.name(id) == *name) {
                    out.push(Effect::Power(*action));
                }
            }
            UnitKind::Device | UnitKind::Mount | UnitKind::Swap if unit.present => {
                self.set_state(now, id, SubState::Active, out);
            }
            UnitKind::Service | UnitKind::Socket | UnitKind::Mount | UnitKind::Swap => {
                self.start_service(now, id, out);
            }
            UnitKind::Timer => self.start_timer(now, id, out),
            UnitKind::Path => self.start_path(now, id, out),
            UnitKind::Device => {} // the job waits until it is plugged
            UnitKind::Unsupported => self.finish_job(id, JobResult::Unsupported, out),
        }
    }

    fn begin_stop(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        match unit.spec.kind {
            _ if unit.spec.perpetual => self.finish_job(id, JobResult::Skipped, out),
            UnitKind::Device => self.finish_job(id, JobResult::Skipped, out),
            kind if kind.has_processes() => self.stop_service(now, id, out),
            UnitKind::Timer | UnitKind::Path => self.stop_trigger(now, id, SubState::Dead, out),
            _ => self.set_state(now, id, SubState::Dead, out),
        }
    }

    /// Ends the unit's job. A start that comes to nothing takes those along that require it.
    pub(super) fn finish_job(&mut self, id: UnitId, result: JobResult, out: &mut Vec<Effect>) {
        let mut work = vec![(id, result)];
        while let Some((id, result)) = work.pop() {
            let Some(job) = self.take_job(id) else { continue };
            out.push(Effect::JobFinished { job: job.id, unit: id, kind: job.kind, result });
            self.give_up_restart(id, result, out);
            self.requeue_neighbours(id);
            self.review.insert(id);
            let Some(unit) = self.units.get_mut(id.index()) else { continue };
            if unit.active().is_down() {
                unit.activated_by = None; // it came to nothing
            }
            let Some(unit) = self.unit(id) else { continue };
            // A reload that failed leaves the unit up, which is what a start is for.
            let starts = job.starts() && !(job.starts && unit.active().is_up());
            let edges: &[Edge] = match result {
                // It went well, or had nothing to do: enough for all but those who want it to be up.
                JobResult::Done | JobResult::Unmet if starts && !unit.active().is_up() => {
                    &[Edge::RequisiteOf]
                }
                JobResult::Done | JobResult::Unmet => &[],
                _ if starts => &[Edge::RequiredBy, Edge::BoundBy, Edge::RequisiteOf],
                _ if job.kind == JobKind::Stop => &[Edge::ConflictedBy],
                _ => &[],
            };
            for edge in edges {
                for other in unit.related(*edge) {
                    // The restart of a unit that is down is a start.
                    let waits = self.unit(other).is_some_and(|other| {
                        let restarts = |job: &Job| job.kind == JobKind::Restart && other.active().is_down();
                        other.job.as_ref().is_some_and(|job| job.starts() || restarts(job))
                    });
                    if waits {
                        work.push((other, JobResult::Dependency));
                    }
                }
            }
        }
    }

    /// The job of a restart came to nothing before the restart was begun: there will be no other.
    fn give_up_restart(&mut self, id: UnitId, result: JobResult, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if unit.sub == SubState::AutoRestartQueued && !matches!(result, JobResult::Done) {
            let quiet = matches!(result, JobResult::Unmet | JobResult::Canceled);
            unit.sub = if quiet { SubState::Dead } else { SubState::Failed };
            unit.run.flush_restarts = true;
            out.push(Effect::Changed { unit: id });
        }
    }

    /// Jobs of units that are ordered with this one may be able to run now.
    pub(super) fn requeue_neighbours(&mut self, id: UnitId) {
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
