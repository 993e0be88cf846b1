//! Forgetting units that nobody needs, with what the shell has of them.

use std::collections::BTreeSet;

use super::shell::Shell;
use super::watches::Source;
use crate::supervisor::UnitId;

impl Shell {
    /// Lets the supervisor forget units; the next one who mentions such a unit finds it as its files are then. Must not be
    /// called with events waiting: they may be about one of them.
    pub(super) fn collect_garbage(&mut self) {
        if self.sup.candidates().next().is_none() {
            return;
        }
        if let Some(cgroups) = &mut self.cgroups {
            // What a unit left behind (KillMode=process) may have ended by now.
            self.sup
                .candidates()
                .filter(|id| self.sup.unit(*id).is_some_and(|unit| unit.active().is_down()))
                .for_each(|id| cgroups.release(id));
        }
        let talking: BTreeSet<UnitId> = self
            .watches
            .iter()
            .filter_map(|(_, source)| match source {
                Source::Output { unit, .. } => Some(*unit),
                _ => None,
            })
            .collect();
        let (cgroups, sockets) = (&self.cgroups, &self.sockets);
        let gone = self.sup.collect(|id| {
            talking.contains(&id)
                || sockets.has_connection(id)
                || cgroups.as_ref().is_some_and(|cgroups| cgroups.path(id).is_some())
        });
        for id in gone {
            // Descriptors that are kept over a stop live as long as the unit is loaded, as systemd.service(5) has it.
            self.forget_stored(id, |_| true);
            self.units.remove(&id);
            self.hooks.remove(&id);
            self.runs.remove(&id);
        }
    }
}
