//! What a unit's new state means: for its job, for those who depend on it, for the machine.

use super::Supervisor;
use super::event::{Effect, JobKind, JobResult, Level};
use super::spec::{Edge, LoadState, Monotonic, UnitId};
use super::state::{ActiveState, ServiceResult, SubState};
use super::transaction::Mode;

/// Most starts of a unit by those who uphold it, and most stops of one that is not needed, within [`REVIEW_SPAN`]:
/// systemd's numbers.
const REVIEW_BURST: u32 = 16;
/// See [`REVIEW_BURST`].
const REVIEW_SPAN: Monotonic = Monotonic::seconds(10);

/// What others are to do because of a unit's new state.
struct Wish {
    unit: UnitId,
    kind: JobKind,
    mode: Mode,
}

impl Supervisor {
    /// Changes the unit's state and does what follows from it.
    pub(super) fn set_state(&mut self, now: Monotonic, id: UnitId, sub: SubState, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        let (old, new) = (unit.active(), unit.active_in(sub));
        if unit.sub != sub {
            unit.sub = sub;
            unit.changed_at = now;
            out.push(Effect::Changed { unit: id });
        }
        let starting = |state: ActiveState| state.is_up() || state == ActiveState::Activating;
        if old.is_down() && !new.is_down() {
            unit.times.inactive_exit = Some(now);
        }
        if !old.is_down() && new.is_down() {
            unit.times.inactive_enter = Some(now);
            unit.active_since = None;
            unit.activated_by = None;
        }
        if !old.is_up() && new.is_up() {
            unit.times.active_enter = Some(now);
            unit.active_since = Some(now);
        }
        if old.is_up() && !new.is_up() {
            unit.times.active_exit = Some(now);
        }
        let mut unexpected = unit.job.is_none();
        if old != new {
            unexpected |= self.advance_job(id, new, out);
            if unexpected && old.is_down() && starting(new) {
                self.came_up_by_itself(now, id, out);
            }
            if unexpected && starting(old) && !starting(new) {
                let edges = [Edge::BoundBy, Edge::PropagatesStopTo];
                let wishes = self.wish_for(id, &edges, JobKind::Stop, Mode::Replace, false);
                self.grant(now, id, wishes, out);
            }
            self.termination(now, id, old, new, out);
        }
        self.tell_triggers(now, id, out);
        if new.is_down() {
            self.garbage.insert(id);
            self.review.insert(id);
            let edges =
                [Edge::Requires, Edge::Wants, Edge::BindsTo, Edge::Requisite, Edge::Upholds, Edge::BoundBy];
            self.review_related(id, &edges);
        } else if new.is_up() {
            self.review.insert(id);
            self.review_related(id, &[Edge::Upholds]);
        }
        self.queue.insert(id);
    }

    fn review_related(&mut self, id: UnitId, edges: &[Edge]) {
        let Some(unit) = self.units.get(id.index()) else { return };
        self.review
            .extend(unit.edges.iter().filter(|(edge, _)| edges.contains(edge)).map(|(_, other)| *other));
    }

    /// What the unit's new state means for the job that caused it. True when it was not the job's doing.
    fn advance_job(&mut self, id: UnitId, new: ActiveState, out: &mut Vec<Effect>) -> bool {
        let Some(unit) = self.units.get_mut(id.index()) else { return false };
        let (result, reload_failed) = (unit.run.result, unit.run.reload_failed);
        let Some(job) = unit.job.as_mut() else { return true };
        match job.kind {
            JobKind::Start | JobKind::VerifyActive => match new {
                ActiveState::Active | ActiveState::Reloading => self.finish_job(id, JobResult::Done, out),
                ActiveState::Failed if job.running => self.finish_job(id, JobResult::Failed, out),
                ActiveState::Inactive if job.running => {
                    let skipped = result == ServiceResult::ExecCondition;
                    self.finish_job(id, if skipped { JobResult::Unmet } else { JobResult::Done }, out);
                }
                ActiveState::Deactivating if job.running => return true,
                _ => {}
            },
            JobKind::Stop if new.is_down() => self.finish_job(id, JobResult::Done, out),
            JobKind::Restart if new.is_down() => {
                job.kind = JobKind::Start;
                job.running = false;
                self.requeue_neighbours(id);
            }
            // It was to go down, and is up again: a mount that is busy.
            JobKind::Stop | JobKind::Restart if job.running && new != ActiveState::Deactivating => {
                self.finish_job(id, JobResult::Failed, out);
                return true;
            }
            JobKind::Reload if job.running => match new {
                ActiveState::Active if reload_failed => self.finish_job(id, JobResult::Failed, out),
                ActiveState::Active => self.finish_job(id, JobResult::Done, out),
                ActiveState::Inactive | ActiveState::Failed => self.finish_job(id, JobResult::Failed, out),
                ActiveState::Deactivating => return true,
                _ => {}
            },
            _ => {}
        }
        false
    }

    /// Nobody asked for it, yet it is up: what it needs is brought up after the fact.
    fn came_up_by_itself(&mut self, now: Monotonic, id: UnitId, out: &mut Vec<Effect>) {
        let Some(unit) = self.unit(id) else { return };
        let unordered = |other: &UnitId| !unit.is_related(Edge::After, *other);
        let needed = [Edge::Requires, Edge::BindsTo]
            .into_iter()
            .flat_map(|edge| unit.related(edge))
            .filter(unordered)
            .map(|unit| Wish { unit, kind: JobKind::Start, mode: Mode::Replace });
        let wanted = unit.related(Edge::Wants).filter(unordered).map(|unit| Wish {
            unit,
            kind: JobKind::Start,
            mode: Mode::Fail,
        });
        let down = |wish: &Wish| self.unit(wish.unit).is_some_and(|unit| unit.active().is_down());
        let mut wishes: Vec<Wish> = needed.chain(wanted).filter(down).collect();
        wishes.extend(self.wish_for(
            id,
            &[Edge::Conflicts, Edge::ConflictedBy],
            JobKind::Stop,
            Mode::Replace,
            false,
        ));
        self.grant(now, id, wishes, out);
    }

    /// `OnFailure=`, `OnSuccess=` and the actions of the same names.
    fn termination(
        &mut self,
        now: Monotonic,
        id: UnitId,
        old: ActiveState,
        new: ActiveState,
        out: &mut Vec<Effect>,
    ) {
        let Some(unit) = self.unit(id) else { return };
        let (edge, mode, action, how) = match new {
            ActiveState::Failed => {
                (Edge::OnFailure, unit.spec.on_failure_mode, unit.spec.failure_action, "failed")
            }
            ActiveState::Inactive if !old.is_down() => {
                (Edge::OnSuccess, unit.spec.on_success_mode, unit.spec.success_action, "ended well")
            }
            _ => return,
        };
        let reason = format!("unit {} {how}", unit.spec.name);
        let wishes = self.wish_for(id, &[edge], JobKind::Start, mode, true);
        self.grant(now, id, wishes, out);
        self.act(action, reason, out);
    }

    /// The same job for all that stand in one of the relations; for those that are up, unless `all`.
    fn wish_for(&self, id: UnitId, edges: &[Edge], kind: JobKind, mode: Mode, all: bool) -> Vec<Wish> {
        let Some(unit) = self.unit(id) else { return Vec::new() };
        let related = edges.iter().flat_map(|edge| unit.related(*edge));
        let counts = |other: &UnitId| all || self.unit(*other).is_some_and(|other| !other.active().is_down());
        related.filter(counts).map(|unit| Wish { unit, kind, mode }).collect()
    }

    fn grant(&mut self, now: Monotonic, id: UnitId, wishes: Vec<Wish>, out: &mut Vec<Effect>) {
        for Wish { unit, kind, mode } in wishes {
            if let Err(error) = self.enqueue(now, unit, kind, mode, out) {
                let text = format!("cannot {} {}: {error}", kind.word(), self.name(unit));
                self.log(out, id, Level::Warning, text);
            }
        }
    }

    /// Looks at the units whose surroundings have changed: whether one is to be upheld, is bound to something that is
    /// gone, or is not needed any more.
    pub(super) fn review_units(&mut self, now: Monotonic, out: &mut Vec<Effect>) {
        while let Some(id) = self.review.pop_first() {
            self.tell_triggers(now, id, out);
            let Some(unit) = self.unit(id) else { continue };
            if unit.job.is_some() || unit.spec.load != LoadState::Loaded {
                continue;
            }
            let state = unit.active();
            let (kind, mode, why) = if !state.is_up() && self.is_upheld(id) {
                (JobKind::Start, Mode::Fail, "another unit upholds it")
            } else if state.is_up() && self.is_bound_to_the_dead(id) {
                (JobKind::Stop, Mode::Replace, "it is bound to a unit that is not up")
            } else if state.is_up() && unit.spec.stop_when_unneeded && !self.is_needed(id) {
                (JobKind::Stop, Mode::Fail, "nobody needs it any more")
            } else {
                continue;
            };
            let Some(unit) = self.units.get_mut(id.index()) else { continue };
            if !unit.uphold_limit.admit(now, REVIEW_SPAN, REVIEW_BURST) {
                let again = unit.uphold_limit.began().unwrap_or(now).after(REVIEW_SPAN);
                self.set_uphold(id, Some(again));
                continue;
            }
            self.log(out, id, Level::Debug, format!("{}: {why}", kind.word()));
            self.grant(now, id, vec![Wish { unit: id, kind, mode }], out);
        }
    }

    fn is_upheld(&self, id: UnitId) -> bool {
        let by = |other: UnitId| {
            self.unit(other).is_some_and(|other| other.job.is_none() && other.active().is_up())
        };
        self.unit(id).is_some_and(|unit| unit.related(Edge::UpheldBy).any(by))
    }

    fn is_bound_to_the_dead(&self, id: UnitId) -> bool {
        let dead = |other: UnitId| {
            self.unit(other).is_some_and(|other| other.job.is_none() && other.active().is_down())
        };
        self.unit(id).is_some_and(|unit| unit.related(Edge::BindsTo).any(dead))
    }

    fn is_needed(&self, id: UnitId) -> bool {
        let needs = |other: UnitId| {
            self.unit(other).is_some_and(|other| other.job.is_some() || !other.active().is_down())
        };
        let edges = [Edge::RequiredBy, Edge::RequisiteOf, Edge::WantedBy, Edge::BoundBy, Edge::UpheldBy];
        self.unit(id).is_some_and(|unit| edges.into_iter().any(|edge| unit.related(edge).any(needs)))
    }
}
