//! How far the boot has come: what it waits for, what it is not good for, when it is over.

use std::path::Path;

use super::shell::{Shell, Stage, now};
use super::views;
use crate::early::VOLATILE_FLAG;
use crate::supervisor::{ActiveState, Level};
use crate::systemctl::HEALTH_MEMBERS;

impl Shell {
    /// Whether every job of the boot is over.
    pub(super) fn notice_startup(&mut self) {
        if self.stage == Stage::Starting && self.sup.job_count() == 0 {
            self.stage = Stage::Up;
            if let Some(cgroups) = &mut self.cgroups {
                cgroups.end_startup();
            }
            self.update_slices();
            let state = views::state(self);
            let seconds = now().0 as f64 / 1e6;
            self.console.good(format_args!("Startup finished, {state}, {seconds:.2} s after the kernel"));
            self.say(Level::Info, &format!("startup finished, {state}"));
        }
    }

    /// What keeps the boot from being a good one, a line each.
    pub(super) fn missing_members(&self) -> Vec<String> {
        let units =
            HEALTH_MEMBERS.iter().filter_map(|name| self.sup.lookup(name).and_then(|id| self.sup.unit(id)));
        // Down without a job and not failed: this boot was not meant to start it.
        let missing = units.filter(|unit| {
            let tried = matches!(unit.active(), ActiveState::Failed | ActiveState::Activating);
            !unit.active().is_up() && (unit.job.is_some() || tried)
        });
        let mut lines: Vec<String> = missing
            .map(|unit| {
                let state = unit.sub.word();
                format!("{} is not up: {state} {}", unit.spec.name, unit.run.reason).trim_end().to_owned()
            })
            .collect();
        if Path::new(VOLATILE_FLAG).exists() {
            lines.push("STATE is not usable, /var is volatile".to_owned());
        }
        lines
    }

    /// Marks that this boot will set, for the line of boot times.
    pub fn expected_marks(&self) -> Vec<&'static str> {
        let wanted = |name: &str| {
            self.sup.lookup(name).and_then(|id| self.sup.unit(id)).is_some_and(|unit| unit.job.is_some())
        };
        let marks = [
            ("ferrite-network.service", "network"),
            ("etcd.service", "etcd"),
            ("boot-complete.target", "complete"),
        ];
        let mut expected: Vec<&'static str> =
            marks.into_iter().filter(|(unit, _)| wanted(unit)).map(|(_, mark)| mark).collect();
        let mut names = self.sup.ids().map(|id| self.sup.name(id));
        if names.any(|name| name.starts_with("serial-getty@") || name.starts_with("getty@")) {
            expected.push("login");
        }
        expected
    }
}
