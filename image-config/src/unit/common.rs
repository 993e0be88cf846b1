//! `[Unit]` and `[Install]`: what every type of unit has.

use std::time::Duration;

use super::condition::Condition;
use super::name::UnitName;
use super::value::TimeSpan;

/// Settings of the `[Unit]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// `Description=`; empty when there is none (the unit's name is then shown).
    pub description: String,
    /// `Documentation=`.
    pub documentation: Vec<String>,
    /// `Requires=`: started along; when one fails to start and is also in `after`, so does this unit.
    pub requires: Vec<UnitName>,
    /// `Requisite=`: must be active already.
    pub requisite: Vec<UnitName>,
    /// `Wants=`: started along, their failure does not matter.
    pub wants: Vec<UnitName>,
    /// `BindsTo=`: as `requires`, and this unit stops when one stops for whatever reason.
    pub binds_to: Vec<UnitName>,
    /// `PartOf=`: this unit is stopped and restarted with these.
    pub part_of: Vec<UnitName>,
    /// `Upholds=`: kept running as long as this unit runs.
    pub upholds: Vec<UnitName>,
    /// `Conflicts=`: stopped when this unit starts, and the reverse.
    pub conflicts: Vec<UnitName>,
    /// `Before=`.
    pub before: Vec<UnitName>,
    /// `After=`.
    pub after: Vec<UnitName>,
    /// `OnFailure=`.
    pub on_failure: Vec<UnitName>,
    /// `OnSuccess=`.
    pub on_success: Vec<UnitName>,
    /// `OnFailureJobMode=` (and the older `OnFailureIsolate=`).
    pub on_failure_job_mode: JobMode,
    /// `OnSuccessJobMode=`.
    pub on_success_job_mode: JobMode,
    /// `PropagatesReloadTo=`: reloaded along.
    pub propagates_reload_to: Vec<UnitName>,
    /// `ReloadPropagatedFrom=`: reloaded along with these.
    pub reload_propagated_from: Vec<UnitName>,
    /// `PropagatesStopTo=`: stopped along.
    pub propagates_stop_to: Vec<UnitName>,
    /// `StopPropagatedFrom=`: stopped along with these.
    pub stop_propagated_from: Vec<UnitName>,
    /// `RequiresMountsFor=`: absolute paths.
    pub requires_mounts_for: Vec<String>,
    /// `WantsMountsFor=`: absolute paths.
    pub wants_mounts_for: Vec<String>,
    /// `DefaultDependencies=`.
    pub default_dependencies: bool,
    /// `RefuseManualStart=`.
    pub refuse_manual_start: bool,
    /// `RefuseManualStop=`.
    pub refuse_manual_stop: bool,
    /// `AllowIsolate=`.
    pub allow_isolate: bool,
    /// `IgnoreOnIsolate=`.
    pub ignore_on_isolate: bool,
    /// `StopWhenUnneeded=`.
    pub stop_when_unneeded: bool,
    /// `StartLimitIntervalSec=`: 10 s unless written; zero switches the limit off.
    pub start_limit_interval: TimeSpan,
    /// `StartLimitBurst=`: starts allowed within the interval, 5 unless written; zero switches the limit off.
    pub start_limit_burst: u32,
    /// `StartLimitAction=`: what happens when the limit is hit.
    pub start_limit_action: StartLimitAction,
    /// `FailureAction=`: what happens when the unit fails.
    pub failure_action: StartLimitAction,
    /// `SuccessAction=`: what happens when the unit ends well.
    pub success_action: StartLimitAction,
    /// `JobTimeoutSec=`: longest that a job of this unit may wait and run.
    pub job_timeout: TimeSpan,
    /// `JobRunningTimeoutSec=`: longest that a job of this unit may run; `None` when not written.
    pub job_running_timeout: Option<TimeSpan>,
    /// `JobTimeoutAction=`: what happens when a job takes too long.
    pub job_timeout_action: StartLimitAction,
    /// `JobTimeoutRebootArgument=`: passed on to the kernel when that action is a reboot.
    pub job_timeout_reboot_argument: Option<String>,
    /// `RebootArgument=`: passed on to the kernel when one of the other actions is a reboot.
    pub reboot_argument: Option<String>,
    /// `FailureActionExitStatus=`: what the service manager ends with when the action is its end.
    pub failure_action_exit_status: Option<u8>,
    /// `SuccessActionExitStatus=`.
    pub success_action_exit_status: Option<u8>,
    /// `CollectMode=`: which states a unit that nobody needs is forgotten in.
    pub collect_mode: CollectMode,
    /// `JoinsNamespaceOf=`: units whose private `/tmp` and network this one shares.
    pub joins_namespace_of: Vec<UnitName>,
    /// `SurviveFinalKillSignal=`: processes outlive the last signals of a shutdown.
    pub survive_final_kill_signal: bool,
    /// `SourcePath=`: the file that this one was generated from.
    pub source_path: Option<String>,
    /// `Condition...=`, in order. See [`Common::conditions_hold`].
    pub conditions: Vec<Condition>,
    /// `Assert...=`, in order; evaluated as conditions, but not holding is a failure.
    pub asserts: Vec<Condition>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            description: String::new(),
            documentation: Vec::new(),
            requires: Vec::new(),
            requisite: Vec::new(),
            wants: Vec::new(),
            binds_to: Vec::new(),
            part_of: Vec::new(),
            upholds: Vec::new(),
            conflicts: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            on_failure: Vec::new(),
            on_success: Vec::new(),
            on_failure_job_mode: JobMode::Replace,
            on_success_job_mode: JobMode::Fail,
            propagates_reload_to: Vec::new(),
            reload_propagated_from: Vec::new(),
            propagates_stop_to: Vec::new(),
            stop_propagated_from: Vec::new(),
            requires_mounts_for: Vec::new(),
            wants_mounts_for: Vec::new(),
            default_dependencies: true,
            refuse_manual_start: false,
            refuse_manual_stop: false,
            allow_isolate: false,
            ignore_on_isolate: false,
            stop_when_unneeded: false,
            start_limit_interval: TimeSpan::Finite(Duration::from_secs(10)),
            start_limit_burst: 5,
            start_limit_action: StartLimitAction::None,
            failure_action: StartLimitAction::None,
            success_action: StartLimitAction::None,
            job_timeout: TimeSpan::Infinity,
            job_running_timeout: None,
            job_timeout_action: StartLimitAction::None,
            job_timeout_reboot_argument: None,
            reboot_argument: None,
            failure_action_exit_status: None,
            success_action_exit_status: None,
            collect_mode: CollectMode::Inactive,
            joins_namespace_of: Vec::new(),
            survive_final_kill_signal: false,
            source_path: None,
            conditions: Vec::new(),
            asserts: Vec::new(),
        }
    }
}

impl Common {
    /// Whether a list of conditions holds as a whole: every plain one must hold, and if there are triggering ones
    /// (`|`), at least one of them.
    ///
    /// `holds` judges the bare condition; negation is applied here.
    pub fn conditions_hold(conditions: &[Condition], mut holds: impl FnMut(&Condition) -> bool) -> bool {
        let mut triggered = None;
        for condition in conditions {
            let result = holds(condition) != condition.negate;
            if condition.trigger {
                triggered = Some(triggered.unwrap_or(false) || result);
            } else if !result {
                return false;
            }
        }
        triggered.unwrap_or(true)
    }
}

/// What the machine does when a unit hits its start limit, fails or ends (`StartLimitAction=` and its kin).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartLimitAction {
    /// Nothing.
    #[default]
    None,
    /// Orderly reboot.
    Reboot,
    /// Reboot without stopping units in order.
    RebootForce,
    /// Reboot at once.
    RebootImmediate,
    /// Orderly power-off.
    Poweroff,
    /// Power-off without stopping units in order.
    PoweroffForce,
    /// Power-off at once.
    PoweroffImmediate,
    /// Orderly halt.
    Halt,
    /// Halt without stopping units in order.
    HaltForce,
    /// Halt at once.
    HaltImmediate,
    /// End of the service manager.
    Exit,
    /// End of the service manager without stopping units in order.
    ExitForce,
}

/// `CollectMode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CollectMode {
    /// When it is inactive; a failed one stays until somebody has looked.
    #[default]
    Inactive,
    /// When it has failed, too.
    InactiveOrFailed,
}

/// How a request treats the jobs that are there already: systemctl(1), `--job-mode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JobMode {
    /// Refused when a job that contradicts it is there.
    Fail,
    /// Replaces jobs that are in the way.
    #[default]
    Replace,
    /// The same, and nothing later replaces the new ones.
    ReplaceIrreversibly,
    /// Stops every other unit.
    Isolate,
    /// All other jobs are cancelled.
    Flush,
    /// This unit alone, at once.
    IgnoreDependencies,
    /// This unit alone, in order.
    IgnoreRequirements,
}

/// Settings of the `[Install]` section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Install {
    /// `WantedBy=`.
    pub wanted_by: Vec<UnitName>,
    /// `RequiredBy=`.
    pub required_by: Vec<UnitName>,
    /// `UpheldBy=`.
    pub upheld_by: Vec<UnitName>,
    /// `Alias=`.
    pub alias: Vec<UnitName>,
    /// `Also=`: enabled along.
    pub also: Vec<UnitName>,
    /// `DefaultInstance=`: which instance enabling a template means.
    pub default_instance: Option<String>,
}

impl Install {
    /// Whether there is anything to enable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { default_instance: self.default_instance.clone(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::ConditionKind;

    #[test]
    fn plain_conditions_all_hold_and_one_of_the_triggering_ones() {
        let condition = |trigger, negate, argument: &str| Condition {
            kind: ConditionKind::PathExists,
            trigger,
            negate,
            argument: argument.to_owned(),
        };
        let holds = |condition: &Condition| condition.argument == "yes";
        type Written<'a> = (bool, bool, &'a str);
        let cases: &[(&[Written<'_>], bool)] = &[
            (&[], true),
            (&[(false, false, "yes")], true),
            (&[(false, false, "no")], false),
            (&[(false, true, "no")], true),
            (&[(true, false, "no"), (true, false, "yes")], true),
            (&[(true, false, "no")], false),
            (&[(true, false, "yes"), (false, false, "no")], false),
            (&[(true, false, "no"), (false, false, "yes")], false),
        ];
        for (list, want) in cases {
            let list: Vec<_> =
                list.iter().map(|(trigger, negate, text)| condition(*trigger, *negate, text)).collect();
            assert_eq!(Common::conditions_hold(&list, holds), *want, "{list:?}");
        }
    }
}
