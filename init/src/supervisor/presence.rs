//! Units that are found rather than started: mounts, swaps and devices come and go without our doing.

use super::Supervisor;
use super::event::Effect;
use super::spec::{Monotonic, UnitId, UnitKind};
use super::state::{ServiceResult, SubState};

impl Supervisor {
    /// What the kernel says of a mount, swap or device.
    pub(super) fn presence(&mut self, now: Monotonic, id: UnitId, present: bool, out: &mut Vec<Effect>) {
        let Some(unit) = self.units.get_mut(id.index()) else { return };
        if !unit.spec.kind.is_found() || unit.spec.perpetual {
            return;
        }
        unit.present = present;
        let sub = unit.sub;
        match (unit.spec.kind, present) {
            (UnitKind::Device, true) => self.set_state(now, id, SubState::Active, out),
            (UnitKind::Device, false) => self.set_state(now, id, SubState::Dead, out),
            (_, true) if sub.active_state().is_down() => {
                unit.run.result = ServiceResult::Success;
                self.set_state(now, id, SubState::Active, out);
            }
            (_, false) if matches!(sub, SubState::Active | SubState::Reload) => {
                self.drop_control(id, out);
                self.enter_dead(now, id, ServiceResult::Success, out);
            }
            _ => {} // its command tells
        }
    }

    /// A mount or swap that could not be taken away.
    pub(super) fn is_still_there(&self, id: UnitId) -> bool {
        self.unit(id).is_some_and(|unit| unit.spec.kind.is_found() && unit.present)
    }

    /// It could not be taken away, so it is up as before.
    pub(super) fn stay_up(
        &mut self,
        now: Monotonic,
        id: UnitId,
        result: ServiceResult,
        out: &mut Vec<Effect>,
    ) {
        self.set_deadline(id, None);
        if let Some(unit) = self.units.get_mut(id.index()) {
            unit.run.command = None;
            unit.run.result = result;
        }
        self.set_state(now, id, SubState::Active, out);
    }
}
