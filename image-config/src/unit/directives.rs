//! Which keys are understood, and into which field each goes. A key more is a line more in one of the tables.

use super::common::{Common, ConditionKind, Install, StartLimitAction};
use super::exec_keys::{ACCEPTED, EXEC};
use super::file::{Unit, UnitFile, UnitKind, Warning};
use super::known;
use super::name::{UnitName, UnitType};
use super::resource_keys::RESOURCES;
use super::sandbox_keys::SANDBOX;
use super::service::{KillContext, KillMode, NotifyAccess, Restart, Service, ServiceType};
use super::setting::{Ignored, Setting};
use super::specifier::System;
use super::value::{self, TimeSpan, boolean};
use crate::diagnostic::did_you_mean;

/// How a value reaches `T`.
pub(super) type Assign<T> = fn(&mut T, &mut Setting<'_>) -> Result<(), Ignored>;

/// A key and how its value reaches `T`.
pub(super) type Directive<T> = (&'static str, Assign<T>);

/// `[Unit]`; `Condition...=` and `Assert...=` are apart.
const COMMON: &[Directive<Common>] = &[
    ("Description", |unit, it| it.text(&mut unit.description)),
    ("Documentation", |unit, it| it.list(&mut unit.documentation, |_| true)),
    ("Requires", |unit, it| it.units(&mut unit.requires)),
    ("Requisite", |unit, it| it.units(&mut unit.requisite)),
    ("Wants", |unit, it| it.units(&mut unit.wants)),
    ("BindsTo", |unit, it| it.units(&mut unit.binds_to)),
    ("BindTo", |unit, it| it.units(&mut unit.binds_to)),
    ("PartOf", |unit, it| it.units(&mut unit.part_of)),
    ("Upholds", |unit, it| it.units(&mut unit.upholds)),
    ("Conflicts", |unit, it| it.units(&mut unit.conflicts)),
    ("Before", |unit, it| it.units(&mut unit.before)),
    ("After", |unit, it| it.units(&mut unit.after)),
    ("OnFailure", |unit, it| it.units(&mut unit.on_failure)),
    ("OnSuccess", |unit, it| it.units(&mut unit.on_success)),
    ("RequiresMountsFor", |unit, it| it.list(&mut unit.requires_mounts_for, is_absolute)),
    ("WantsMountsFor", |unit, it| it.list(&mut unit.wants_mounts_for, is_absolute)),
    ("DefaultDependencies", |unit, it| it.plain(&mut unit.default_dependencies, boolean)),
    ("RefuseManualStart", |unit, it| it.plain(&mut unit.refuse_manual_start, boolean)),
    ("RefuseManualStop", |unit, it| it.plain(&mut unit.refuse_manual_stop, boolean)),
    ("AllowIsolate", |unit, it| it.plain(&mut unit.allow_isolate, boolean)),
    ("IgnoreOnIsolate", |unit, it| it.plain(&mut unit.ignore_on_isolate, boolean)),
    ("StopWhenUnneeded", |unit, it| it.plain(&mut unit.stop_when_unneeded, boolean)),
    ("StartLimitIntervalSec", |unit, it| it.plain(&mut unit.start_limit_interval, value::time_span)),
    ("StartLimitInterval", |unit, it| it.plain(&mut unit.start_limit_interval, value::time_span)),
    ("StartLimitBurst", |unit, it| it.plain(&mut unit.start_limit_burst, value::unsigned)),
    ("StartLimitAction", |unit, it| it.choice(&mut unit.start_limit_action, ACTIONS)),
    ("FailureAction", |unit, it| it.choice(&mut unit.failure_action, ACTIONS)),
    ("SuccessAction", |unit, it| it.choice(&mut unit.success_action, ACTIONS)),
    ("JobTimeoutSec", |unit, it| it.limit_span(&mut unit.job_timeout)),
];

/// Keys of `[Unit]` that systemd still takes in `[Service]`, where they once lived.
const MOVED_TO_UNIT: &[&str] =
    &["StartLimitInterval", "StartLimitBurst", "StartLimitAction", "FailureAction"];

const INSTALL: &[Directive<Install>] = &[
    ("WantedBy", |install, it| it.install_units(&mut install.wanted_by)),
    ("RequiredBy", |install, it| it.install_units(&mut install.required_by)),
    ("UpheldBy", |install, it| it.install_units(&mut install.upheld_by)),
    ("Alias", |install, it| it.install_units(&mut install.alias)),
    ("Also", |install, it| it.install_units(&mut install.also)),
    ("DefaultInstance", |install, it| it.optional_text(&mut install.default_instance)),
];

const SERVICE: &[Directive<Service>] = &[
    ("Type", |service, it| it.optional(&mut service.written_type, |text| value::choice(text, TYPES))),
    ("ExecCondition", |service, it| it.commands(&mut service.exec_condition)),
    ("ExecStartPre", |service, it| it.commands(&mut service.exec_start_pre)),
    ("ExecStart", |service, it| it.commands(&mut service.exec_start)),
    ("ExecStartPost", |service, it| it.commands(&mut service.exec_start_post)),
    ("ExecReload", |service, it| it.commands(&mut service.exec_reload)),
    ("ExecStop", |service, it| it.commands(&mut service.exec_stop)),
    ("ExecStopPost", |service, it| it.commands(&mut service.exec_stop_post)),
    ("Restart", |service, it| it.choice(&mut service.restart, RESTARTS)),
    ("RestartSec", |service, it| it.plain(&mut service.restart_sec, value::time_span)),
    ("TimeoutStartSec", |service, it| it.optional(&mut service.written_timeout_start, limit_span)),
    ("TimeoutStopSec", |service, it| it.limit_span(&mut service.timeout_stop)),
    ("TimeoutSec", |service, it| {
        it.limit_span(&mut service.timeout_stop)?;
        it.optional(&mut service.written_timeout_start, limit_span)
    }),
    ("RuntimeMaxSec", |service, it| it.limit_span(&mut service.runtime_max)),
    ("WatchdogSec", |service, it| {
        let mut span = TimeSpan::Infinity;
        it.limit_span(&mut span)?;
        service.watchdog = span.finite();
        Ok(())
    }),
    ("RemainAfterExit", |service, it| it.plain(&mut service.remain_after_exit, boolean)),
    ("GuessMainPID", |service, it| it.optional(&mut service.guess_main_pid, boolean)),
    ("PIDFile", |service, it| {
        let mut path = None;
        it.optional_text(&mut path)?;
        let from_run = |path: String| if path.starts_with('/') { path } else { format!("/run/{path}") };
        service.pid_file = path.map(from_run);
        Ok(())
    }),
    ("NotifyAccess", |service, it| {
        it.optional(&mut service.written_notify_access, |text| value::choice(text, NOTIFY_ACCESS))
    }),
    ("SuccessExitStatus", |service, it| it.exit_status(&mut service.success_exit_status)),
    ("RestartPreventExitStatus", |service, it| it.exit_status(&mut service.restart_prevent_exit_status)),
    ("RestartForceExitStatus", |service, it| it.exit_status(&mut service.restart_force_exit_status)),
    ("PermissionsStartOnly", |service, it| it.plain(&mut service.permissions_start_only, boolean)),
];

const KILL: &[Directive<KillContext>] = &[
    ("KillMode", |kill, it| it.choice(&mut kill.mode, KILL_MODES)),
    ("KillSignal", |kill, it| it.signal(&mut kill.signal)),
    ("RestartKillSignal", |kill, it| {
        let mut signal = kill.signal;
        it.signal(&mut signal)?;
        kill.restart_signal = Some(signal);
        Ok(())
    }),
    ("FinalKillSignal", |kill, it| it.signal(&mut kill.final_signal)),
    ("SendSIGKILL", |kill, it| it.plain(&mut kill.send_sigkill, boolean)),
    ("SendSIGHUP", |kill, it| it.plain(&mut kill.send_sighup, boolean)),
    ("ReloadSignal", |kill, it| it.signal(&mut kill.reload_signal)),
];

const TYPES: &[(&str, ServiceType)] = &[
    ("simple", ServiceType::Simple),
    ("exec", ServiceType::Exec),
    ("forking", ServiceType::Forking),
    ("oneshot", ServiceType::Oneshot),
    ("notify", ServiceType::Notify),
    ("notify-reload", ServiceType::NotifyReload),
    ("idle", ServiceType::Idle),
    ("dbus", ServiceType::Dbus),
];

const RESTARTS: &[(&str, Restart)] = &[
    ("no", Restart::No),
    ("on-success", Restart::OnSuccess),
    ("on-failure", Restart::OnFailure),
    ("on-abnormal", Restart::OnAbnormal),
    ("on-watchdog", Restart::OnWatchdog),
    ("on-abort", Restart::OnAbort),
    ("always", Restart::Always),
];

const NOTIFY_ACCESS: &[(&str, NotifyAccess)] = &[
    ("none", NotifyAccess::None),
    ("main", NotifyAccess::Main),
    ("exec", NotifyAccess::Exec),
    ("all", NotifyAccess::All),
];

const KILL_MODES: &[(&str, KillMode)] = &[
    ("control-group", KillMode::ControlGroup),
    ("mixed", KillMode::Mixed),
    ("process", KillMode::Process),
    ("none", KillMode::None),
];

const ACTIONS: &[(&str, StartLimitAction)] = &[
    ("none", StartLimitAction::None),
    ("reboot", StartLimitAction::Reboot),
    ("reboot-force", StartLimitAction::RebootForce),
    ("reboot-immediate", StartLimitAction::RebootImmediate),
    ("poweroff", StartLimitAction::Poweroff),
    ("poweroff-force", StartLimitAction::PoweroffForce),
    ("poweroff-immediate", StartLimitAction::PoweroffImmediate),
    ("halt", StartLimitAction::Halt),
    ("halt-force", StartLimitAction::HaltForce),
    ("halt-immediate", StartLimitAction::HaltImmediate),
    ("exit", StartLimitAction::Exit),
    ("exit-force", StartLimitAction::ExitForce),
];

fn limit_span(text: &str) -> Result<TimeSpan, value::ValueError> {
    value::time_span(text).map(TimeSpan::zero_is_infinity)
}

fn is_absolute(text: &str) -> bool {
    value::absolute_path(text).is_ok()
}

/// Reads all assignments of a unit into their fields.
pub(super) fn apply(file: &UnitFile, system: &System) -> (Unit, Vec<Warning>) {
    let mut reader = Reader {
        name: file.name(),
        common: Common::default(),
        install: Install::default(),
        service: (file.name().kind() == UnitType::Service).then(Box::<Service>::default),
    };
    let fragment = file.paths().first().map_or("", String::as_str);
    let mut warnings = Vec::new();
    let mut told: Vec<(usize, &str)> = Vec::new();
    for assignment in file.assignments() {
        let place = (file.paths().get(assignment.file).map_or("", String::as_str), assignment.line);
        if !reader.has_section(&assignment.section) {
            let section = assignment.section.as_str();
            // One warning a section, not one a line; sections of other programs are their own business.
            if !section.starts_with("X-") && !told.contains(&(assignment.file, section)) {
                told.push((assignment.file, section));
                let message = format!("unknown section [{section}]");
                warnings.push(Warning { path: place.0.to_owned(), line: place.1, message });
            }
            continue;
        }
        let mut setting = Setting {
            key: &assignment.key,
            value: &assignment.value,
            unit: file.name(),
            fragment,
            system,
            place,
            warnings: &mut warnings,
        };
        if let Err(message) = reader.assign(&assignment.section, &mut setting) {
            setting.warn(message);
        }
    }
    let kind = match (file.name().kind(), reader.service) {
        (_, Some(service)) => UnitKind::Service(service),
        (UnitType::Target, None) => UnitKind::Target,
        (other, None) => UnitKind::Other(other),
    };
    if let UnitKind::Service(service) = &kind
        && let Some(problem) = service.problem()
    {
        warnings.push(Warning { path: fragment.to_owned(), line: 0, message: problem.to_owned() });
    }
    let paths = file.paths().to_vec();
    let unit =
        Unit { name: file.name().clone(), paths, common: reader.common, install: reader.install, kind };
    (unit, warnings)
}

struct Reader<'a> {
    name: &'a UnitName,
    common: Common,
    install: Install,
    service: Option<Box<Service>>,
}

impl Reader<'_> {
    fn has_section(&self, section: &str) -> bool {
        matches!(section, "Unit" | "Install") || self.own_section().is_some_and(|own| own == section)
    }

    /// The section that this type of unit has to itself.
    fn own_section(&self) -> Option<&'static str> {
        match self.name.kind() {
            UnitType::Service => Some("Service"),
            UnitType::Socket => Some("Socket"),
            UnitType::Timer => Some("Timer"),
            UnitType::Path => Some("Path"),
            UnitType::Mount => Some("Mount"),
            UnitType::Automount => Some("Automount"),
            UnitType::Swap => Some("Swap"),
            UnitType::Slice => Some("Slice"),
            UnitType::Scope => Some("Scope"),
            UnitType::Target | UnitType::Device => None,
        }
    }

    fn assign(&mut self, section: &str, setting: &mut Setting<'_>) -> Result<(), Ignored> {
        let key = setting.key;
        if key.starts_with("X-") {
            return Ok(());
        }
        match (section, &mut self.service) {
            ("Unit", _) => {
                if let Some(kind) = key.strip_prefix("Condition").and_then(ConditionKind::from_name) {
                    return setting.condition(&mut self.common.conditions, kind);
                }
                if let Some(kind) = key.strip_prefix("Assert").and_then(ConditionKind::from_name) {
                    return setting.condition(&mut self.common.asserts, kind);
                }
                find(COMMON, key).map_or_else(
                    || Err(unknown(section, key, names(COMMON).collect(), known::UNIT)),
                    |assign| assign(&mut self.common, setting),
                )
            }
            ("Install", _) => find(INSTALL, key).map_or_else(
                || Err(unknown(section, key, names(INSTALL).collect(), &[])),
                |assign| assign(&mut self.install, setting),
            ),
            ("Service", Some(service)) => {
                if MOVED_TO_UNIT.contains(&key)
                    && let Some(assign) = find(COMMON, key)
                {
                    return assign(&mut self.common, setting);
                }
                if let Some(assign) = find(SERVICE, key) {
                    return assign(service, setting);
                }
                if let Some(assign) = find(EXEC, key) {
                    return assign(&mut service.exec, setting);
                }
                if let Some(assign) = find(SANDBOX, key) {
                    return assign(&mut service.exec.sandbox, setting);
                }
                if let Some(assign) = find(RESOURCES, key) {
                    return assign(&mut service.resources, setting);
                }
                if let Some(assign) = find(KILL, key) {
                    return assign(&mut service.kill, setting);
                }
                if ACCEPTED.contains(&key) {
                    return Ok(());
                }
                let understood = names(SERVICE)
                    .chain(names(EXEC))
                    .chain(names(SANDBOX))
                    .chain(names(RESOURCES))
                    .chain(names(KILL))
                    .chain(ACCEPTED.iter().copied())
                    .collect();
                Err(unknown(section, key, understood, known::SERVICE))
            }
            // The own section of a type that is not understood yet: whoever loads the unit says so once.
            _ => Ok(()),
        }
    }
}

fn find<T>(table: &[Directive<T>], key: &str) -> Option<Assign<T>> {
    table.iter().find(|(name, _)| *name == key).map(|(_, assign)| *assign)
}

fn names<T>(table: &'static [Directive<T>]) -> impl Iterator<Item = &'static str> {
    table.iter().map(|(name, _)| *name)
}

/// The message about a key that is in no table: systemd's but not ours, or nobody's.
fn unknown(section: &str, key: &str, understood: Vec<&'static str>, known: &[&'static str]) -> Ignored {
    if known.contains(&key) {
        return format!("`{key}=` is not supported and has no effect");
    }
    match did_you_mean(key, understood.into_iter().chain(known.iter().copied())) {
        Some(near) => format!("unknown key `{key}=` in [{section}]: did you mean `{near}=`?"),
        None => format!("unknown key `{key}=` in [{section}]"),
    }
}

/// Every key that is understood, for tests that try them all.
#[cfg(test)]
pub(super) fn understood() -> impl Iterator<Item = &'static str> {
    let own = names(COMMON).chain(names(INSTALL)).chain(names(SERVICE)).chain(names(KILL));
    own.chain(names(EXEC)).chain(names(SANDBOX)).chain(names(RESOURCES))
}
