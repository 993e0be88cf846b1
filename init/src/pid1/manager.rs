//! The manager as a whole, as `systemctl` sees and changes it: its properties, its environment, units that are frozen.

use std::collections::BTreeMap;

use image_config::unit::is_variable_name;
use serde::{Deserialize, Serialize};

use super::process;
use super::server::not_loaded;
use super::shell::{Shell, Stage, now};
use super::timer_units::Moment;
use super::views;
use crate::control::{Answer, Refusal};
use crate::supervisor::{ActiveState, UnitId};

/// The version of systemd whose behaviour this one follows, for programs that ask.
const FOLLOWS: &str = "257";
/// Longest value of a variable: PID 1's memory is copied into every process.
const LONGEST_VALUE: usize = 64 << 10;
/// Most variables that are set so.
const MOST_VARIABLES: usize = 1024;

/// What `systemctl set-environment` and `unset-environment` have changed of what every service sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerEnvironment {
    /// Values; `None` hides a variable that the machine would set.
    changes: BTreeMap<String, Option<String>>,
}

impl ManagerEnvironment {
    /// Changes an environment.
    pub fn apply(&self, all: &mut BTreeMap<String, String>) {
        for (name, value) in &self.changes {
            match value {
                Some(value) => drop(all.insert(name.clone(), value.clone())),
                None => drop(all.remove(name)),
            }
        }
    }

    /// Takes in assignments, and takes out names or, with a value, assignments that are just so.
    ///
    /// # Errors
    /// A text that names what is no assignment; nothing is changed then.
    fn change(
        &mut self,
        set: &[String],
        unset: &[String],
        machine: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let mut next = self.clone();
        for entry in unset {
            let (name, value) =
                entry.split_once('=').map_or((entry.as_str(), None), |(name, value)| (name, Some(value)));
            if !is_variable_name(name) {
                return Err(format!("Invalid environment variable name: {entry}"));
            }
            let mut all = machine.clone();
            next.apply(&mut all);
            if value.is_none_or(|value| all.get(name).is_some_and(|found| found == value)) {
                next.changes.insert(name.to_owned(), None);
            }
        }
        for entry in set {
            let pair = entry.split_once('=').filter(|(name, value)| {
                is_variable_name(name) && value.len() <= LONGEST_VALUE && !value.contains('\0')
            });
            let Some((name, value)) = pair else {
                return Err(format!("Invalid environment assignment: {entry}"));
            };
            next.changes.insert(name.to_owned(), Some(value.to_owned()));
        }
        // What hides nothing need not be remembered.
        next.changes.retain(|name, value| value.is_some() || machine.contains_key(name));
        if next.changes.len() > MOST_VARIABLES {
            return Err("There are too many environment variables.".to_owned());
        }
        *self = next;
        Ok(())
    }
}

impl Shell {
    /// What every service sees before its unit's own settings.
    fn common_environment(&self) -> BTreeMap<String, String> {
        let mut all = process::machine_environment(&self.locale);
        self.environment.apply(&mut all);
        all
    }

    /// `show-environment` and what changes it.
    pub(super) fn change_environment(&mut self, set: &[String], unset: &[String]) -> Result<Answer, Refusal> {
        let machine = process::machine_environment(&self.locale);
        self.environment.change(set, unset, &machine)?;
        Ok(Answer { properties: self.common_environment().into_iter().collect(), ..Answer::default() })
    }

    /// `freeze` and `thaw`.
    pub(super) fn freeze(&mut self, name: &str, freeze: bool) -> Result<Answer, Refusal> {
        let id = self.sup.lookup(name).ok_or_else(|| not_loaded(name))?;
        let is_up = self.sup.unit(id).is_some_and(|unit| !unit.active().is_down());
        let group = self.cgroups.as_mut().filter(|cgroups| cgroups.path(id).is_some());
        let Some(cgroups) = group.filter(|_| is_up) else {
            return Err(format!("Unit {name} is not active, or has no processes.").into());
        };
        match cgroups.freeze(id, freeze) {
            Ok(()) => Ok(Answer { result: Some("done".to_owned()), ..Answer::default() }),
            Err(error) => Err(format!("the kernel refuses: {error}").into()),
        }
    }

    /// A unit that is to do something must be able to: what happens to it thaws it.
    pub(super) fn thaw(&mut self, unit: UnitId) {
        if let Some(cgroups) = self.cgroups.as_mut().filter(|cgroups| cgroups.is_frozen(unit)) {
            // A group that cannot be thawed is killed in the end.
            let _refused = cgroups.freeze(unit, false);
        }
    }

    /// `systemctl show` without a unit: org.freedesktop.systemd1(5), "Properties" of the manager, as far as they are known.
    pub(super) fn manager_properties(&self) -> Vec<(String, String)> {
        let failed =
            |id: &UnitId| self.sup.unit(*id).is_some_and(|unit| unit.active() == ActiveState::Failed);
        let names = self.sup.names().count();
        let jobs = self.sup.job_count();
        let environment: Vec<String> =
            self.common_environment().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let progress = if self.stage == Stage::Starting { "0" } else { "1" };
        let moment = Moment::now();
        let zone = image_config::unit::time::TimeZone::utc();
        let userspace = self.started;
        let list = [
            ("Version", format!("{FOLLOWS} (Ferrite {})", env!("CARGO_PKG_VERSION"))),
            ("Architecture", architecture()),
            ("UserspaceTimestamp", moment.wall(userspace).show(&zone)),
            ("UserspaceTimestampMonotonic", userspace.0.to_string()),
            ("NNames", names.to_string()),
            ("NFailedUnits", self.sup.ids().filter(failed).count().to_string()),
            ("NJobs", jobs.to_string()),
            ("Progress", progress.to_owned()),
            ("Environment", environment.join(" ")),
            ("UnitPath", self.loader.unit_path().join(" ")),
            ("DefaultStandardOutput", "journal".to_owned()),
            ("DefaultStandardError", "inherit".to_owned()),
            ("DefaultTimeoutStartUSec", "1min 30s".to_owned()),
            ("DefaultTimeoutStopUSec", "1min 30s".to_owned()),
            ("DefaultRestartUSec", "100ms".to_owned()),
            ("DefaultStartLimitIntervalUSec", "10s".to_owned()),
            ("DefaultStartLimitBurst", "5".to_owned()),
            ("ControlGroup", String::new()),
            ("SystemState", views::state(self).to_owned()),
            ("ExitCode", "0".to_owned()),
            ("CurrentMonotonic", now().0.to_string()),
        ];
        list.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}

/// systemd's word for the machine's processor.
fn architecture() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn variables_are_set_hidden_and_forgotten() {
        let machine = BTreeMap::from([("PATH".to_owned(), "/usr/bin".to_owned())]);
        let mut environment = ManagerEnvironment::default();
        let seen = |environment: &ManagerEnvironment| {
            let mut all = machine.clone();
            environment.apply(&mut all);
            all.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        environment.change(&words(&["A=1", "B=x=y"]), &[], &machine).unwrap();
        assert_eq!(seen(&environment), ["A=1", "B=x=y", "PATH=/usr/bin"]);
        environment.change(&[], &words(&["A=2", "B", "PATH=/usr/bin"]), &machine).unwrap();
        assert_eq!(seen(&environment), ["A=1"]);
        environment.change(&words(&["PATH=/opt"]), &words(&["A"]), &machine).unwrap();
        assert_eq!(seen(&environment), ["PATH=/opt"]);
        let before = environment.clone();
        for bad in ["A", "1A=x", "=x", "A-B=x"] {
            let error = environment.change(&words(&["GOOD=1", bad]), &[], &machine).unwrap_err();
            assert!(error.ends_with(bad), "{error}");
        }
        assert!(environment.change(&[], &words(&["1A"]), &machine).is_err());
        assert_eq!(environment, before);
    }
}
