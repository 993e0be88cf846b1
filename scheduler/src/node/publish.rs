//! What a machine says of its units: the difference between what etcd holds under its name and what it should.

use std::collections::BTreeMap;

use kv::{Compare, KeyRange, Op, Transaction};

use super::{Node, Output, Phase, Who};
use crate::agent::LocalUnit;
use crate::keys::{Key, MachineId, UnitState};
use crate::picture::Job;

/// The shortest time between two states of a unit that runs: one that is restarted again and again does not keep etcd busy.
pub(super) const PAUSE: u64 = 2_000;
/// Pieces in a transaction: etcd takes 128 comparisons and 128 steps.
const MOST_PIECES: usize = 40;

/// A change with its conditions.
pub(super) struct Piece {
    /// A state of this unit is among it.
    state_of: Option<String>,
    compare: Vec<Compare>,
    op: Vec<Op>,
}

impl Node {
    pub(super) fn poll_publisher(&mut self, now: u64, out: &mut Vec<Output>) {
        if !self.publisher.is_free(now, self.picture.revision()) {
            return;
        }
        let pieces = match self.phase {
            Phase::Leaving { .. } => self.farewell_pieces(),
            _ if self.is_registered() => self.pieces(now),
            _ => return,
        };
        let most = if self.publisher.careful { 1 } else { MOST_PIECES };
        let mut transaction = Transaction::default();
        for piece in pieces.into_iter().take(most) {
            transaction.compare.extend(piece.compare);
            transaction.success.extend(piece.op);
            self.told.extend(piece.state_of.map(|unit| (unit, now)));
        }
        if transaction.success.is_empty() {
            self.told.retain(|_, at| at.saturating_add(PAUSE) > now);
            return;
        }
        self.publisher.busy = true;
        out.push(Output::Commit(Who::Agent, transaction));
    }

    fn state_of(&self, name: &str, unit: &LocalUnit) -> Option<UnitState> {
        let observed = unit.observed.as_ref()?;
        let problem = self.troubles.get(name).map(|trouble| trouble.text.clone()).unwrap_or_default();
        Some(UnitState {
            load_state: observed.load.clone(),
            active_state: observed.active.clone(),
            sub_state: observed.sub.clone(),
            machine_state: MachineId { id: self.settings.id.clone() },
            unit_hash: unit.hash.to_string(),
            problem,
        })
    }

    /// A unit that could not even be loaded.
    fn states_of_troubles(&self) -> BTreeMap<&str, UnitState> {
        let local = self.local.as_ref();
        let unloaded = self.troubles.iter().filter(|(name, _)| {
            self.wanted.contains_key(*name) && !local.is_some_and(|local| local.contains_key(*name))
        });
        let states = unloaded.map(|(name, trouble)| {
            let state = UnitState {
                load_state: "error".to_owned(),
                active_state: "inactive".to_owned(),
                sub_state: "dead".to_owned(),
                machine_state: MachineId { id: self.settings.id.clone() },
                unit_hash: self.wanted.get(name).map(|wanted| wanted.hash.to_string()).unwrap_or_default(),
                problem: trouble.text.clone(),
            };
            (name.as_str(), state)
        });
        states.collect()
    }

    fn pieces(&self, now: u64) -> Vec<Piece> {
        let (Some(lease), Some(local)) = (self.lease.id(), &self.local) else { return Vec::new() };
        let (keys, id) = (self.picture.keys(), self.settings.id.as_str());
        let troubled = self.states_of_troubles();
        let mut pieces = Vec::new();
        let here = local.keys().chain(self.troubles.keys());
        let own = here.filter_map(|name| self.picture.jobs().get_key_value(name));
        let concerned: BTreeMap<&String, &Job> = own.chain(self.picture.named_with(id)).collect();
        for (name, job) in concerned {
            if self.picture.is_garbled(name) {
                // What was said stays.
                continue;
            }
            let unit = local.get(name);
            let there = job.states.get(id);
            let claimed = job.launched_on.as_ref().is_some_and(|machine| machine.value == id);
            if unit.is_none() && there.is_none() && !claimed && !troubled.contains_key(name.as_str()) {
                continue;
            }
            let object = job.object.as_ref().filter(|_| job.file.is_some());
            let wanted = match (object, unit) {
                (Some(_), Some(unit)) => self.state_of(name, unit),
                (Some(_), None) => troubled.get(name.as_str()).cloned(),
                (None, _) => None,
            };
            // Not heard of since the last task: what was said stays until then.
            let unknown = object.is_some() && unit.is_some() && wanted.is_none();
            let rested = self.told.get(name).is_none_or(|at| now >= at.saturating_add(PAUSE));
            let mut piece = Piece { state_of: None, compare: Vec::new(), op: Vec::new() };
            let key = keys.of(&Key::State(name, id));
            match (there, &wanted, object) {
                (Some(there), Some(wanted), _) if there.value == *wanted && there.lease == lease => {}
                (_, Some(wanted), Some(_)) if rested || there.is_none() || !wanted.is_up() => {
                    piece.state_of = Some(name.clone());
                    let value = serde_json::to_vec(wanted).unwrap_or_default();
                    piece.op.push(Op::Put { key: key.into_bytes(), value, lease });
                }
                (Some(_), None, _) if !unknown => piece.op.push(Op::Delete(KeyRange::key(key))),
                _ => {}
            }
            self.launched_piece(name, unit, &mut piece);
            if let (false, Some(object)) = (piece.op.is_empty(), object) {
                piece.compare.push(Compare::unchanged(keys.of(&Key::Object(name)), object.revision));
            }
            if !piece.op.is_empty() {
                pieces.push(piece);
            }
        }
        pieces
    }

    /// `job-state`: it is launched here. Written before it is started, so that it never runs here without etcd's word that it is this
    /// machine's; and it stays until the unit is down.
    fn launched_piece(&self, name: &str, unit: Option<&LocalUnit>, piece: &mut Piece) {
        let (Some(lease), Some(job)) = (self.lease.id(), self.picture.jobs().get(name)) else { return };
        let (keys, id) = (self.picture.keys(), self.settings.id.as_str());
        let (key, target) = (keys.of(&Key::Launched(name)), keys.of(&Key::Target(name)));
        let is_ours = job.target.as_ref().is_some_and(|target| target.value == id);
        let starts = |unit: &LocalUnit| {
            self.wanted.get(name).is_some_and(|wanted| wanted.launched && wanted.hash == unit.hash)
        };
        let launched = unit.is_some_and(|unit| unit.launched || unit.stopping || starts(unit));
        match &job.launched_on {
            Some(there) if there.value == id && !launched => {
                piece.compare.push(Compare::holds(key.clone(), id));
                piece.op.push(Op::Delete(KeyRange::key(key)));
            }
            Some(there) if there.value == id && there.lease == lease => {}
            _ if is_ours && launched && job.object.is_some() => {
                piece.compare.push(Compare::holds(target, id));
                piece.op.push(Op::Put { key: key.into_bytes(), value: id.as_bytes().to_vec(), lease });
            }
            _ => {}
        }
    }

    /// Gives up what is down.
    pub(super) fn farewell_pieces(&self) -> Vec<Piece> {
        let (keys, id) = (self.picture.keys(), self.settings.id.as_str());
        let mut pieces = Vec::new();
        let is_local = |name: &str| self.local.as_ref().is_some_and(|local| local.contains_key(name));
        for (name, job) in self.picture.named_with(id).filter(|(name, _)| !is_local(name)) {
            let mut piece = Piece { state_of: None, compare: Vec::new(), op: Vec::new() };
            let (target, launched) = (keys.of(&Key::Target(name)), keys.of(&Key::Launched(name)));
            for (key, value) in [(target, &job.target), (launched, &job.launched_on)] {
                if value.as_ref().is_some_and(|value| value.value == id) {
                    piece.compare.push(Compare::holds(key.clone(), id));
                    piece.op.push(Op::Delete(KeyRange::key(key)));
                }
            }
            if job.states.contains_key(id) {
                piece.op.push(Op::Delete(KeyRange::key(keys.of(&Key::State(name, id)))));
            }
            if !piece.op.is_empty() {
                pieces.push(piece);
            }
        }
        pieces
    }
}
