//! Which keys are understood, and into which field each goes. A key more is a line more in one of the tables. The
//! sections of socket, timer and other units have theirs beside their types.

use super::common::{CollectMode, Common, Install, JobMode, StartLimitAction};
use super::exec::ExecContext;
use super::exec_keys::preserve;
use super::name::UnitName;
use super::reader::{Directive, Section};
use super::resources::ResourceControl;
use super::service::{
    ExitType, KillContext, KillMode, NotifyAccess, OomPolicy, Restart, RestartMode, Service, ServiceType,
    TimeoutFailureMode,
};
use super::value::{self, TimeSpan, boolean};

/// `[Unit]`; `Condition...=` and `Assert...=` are apart.
pub(super) const COMMON: &[Directive<Common>] = &[
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
    ("OnFailureJobMode", |unit, it| it.choice(&mut unit.on_failure_job_mode, JOB_MODES)),
    ("OnFailureIsolate", |unit, it| {
        let mut isolate = false;
        it.plain(&mut isolate, boolean)?;
        unit.on_failure_job_mode = if isolate { JobMode::Isolate } else { JobMode::Replace };
        Ok(())
    }),
    ("OnSuccessJobMode", |unit, it| it.choice(&mut unit.on_success_job_mode, JOB_MODES)),
    ("PropagatesReloadTo", |unit, it| it.units(&mut unit.propagates_reload_to)),
    ("PropagateReloadTo", |unit, it| it.units(&mut unit.propagates_reload_to)),
    ("ReloadPropagatedFrom", |unit, it| it.units(&mut unit.reload_propagated_from)),
    ("PropagateReloadFrom", |unit, it| it.units(&mut unit.reload_propagated_from)),
    ("PropagatesStopTo", |unit, it| it.units(&mut unit.propagates_stop_to)),
    ("StopPropagatedFrom", |unit, it| it.units(&mut unit.stop_propagated_from)),
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
    ("JobTimeoutRebootArgument", |unit, it| it.optional_text(&mut unit.job_timeout_reboot_argument)),
    ("RebootArgument", |unit, it| it.optional_text(&mut unit.reboot_argument)),
    ("FailureActionExitStatus", |unit, it| it.optional(&mut unit.failure_action_exit_status, exit_status)),
    ("SuccessActionExitStatus", |unit, it| it.optional(&mut unit.success_action_exit_status, exit_status)),
    ("CollectMode", |unit, it| it.choice(&mut unit.collect_mode, COLLECT_MODES)),
    ("JoinsNamespaceOf", |unit, it| it.units(&mut unit.joins_namespace_of)),
    ("SurviveFinalKillSignal", |unit, it| it.plain(&mut unit.survive_final_kill_signal, boolean)),
    ("SourcePath", |unit, it| it.path(&mut unit.source_path)),
    ("JobTimeoutSec", |unit, it| it.limit_span(&mut unit.job_timeout)),
    ("JobRunningTimeoutSec", |unit, it| it.optional(&mut unit.job_running_timeout, limit_span)),
    ("JobTimeoutAction", |unit, it| it.choice(&mut unit.job_timeout_action, ACTIONS)),
];

/// Keys of `[Unit]` that systemd still takes in `[Service]`, where they once lived.
pub(super) const MOVED_TO_UNIT: &[&str] =
    &["StartLimitInterval", "StartLimitBurst", "StartLimitAction", "FailureAction", "RebootArgument"];

pub(super) const INSTALL: &[Directive<Install>] = &[
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
    ("RuntimeRandomizedExtraSec", |service, it| {
        it.plain(&mut service.runtime_randomized_extra, value::time_span)
    }),
    ("FileDescriptorStoreMax", |service, it| it.plain(&mut service.fd_store_max, value::unsigned)),
    ("FileDescriptorStorePreserve", |service, it| it.plain(&mut service.fd_store_preserve, preserve)),
    ("OpenFile", |service, it| it.open_file(&mut service.open_files)),
    ("RestartSteps", |service, it| it.plain(&mut service.restart_steps, value::unsigned)),
    ("RestartMaxDelaySec", |service, it| it.plain(&mut service.restart_max_delay, value::time_span)),
    ("RestartMode", |service, it| it.choice(&mut service.restart_mode, RESTART_MODES)),
    ("TimeoutAbortSec", |service, it| it.optional(&mut service.timeout_abort, limit_span)),
    ("TimeoutStartFailureMode", |service, it| {
        it.choice(&mut service.timeout_start_failure_mode, TIMEOUT_MODES)
    }),
    ("TimeoutStopFailureMode", |service, it| {
        it.choice(&mut service.timeout_stop_failure_mode, TIMEOUT_MODES)
    }),
    ("ExitType", |service, it| {
        it.choice(&mut service.exit_type, &[("main", ExitType::Main), ("cgroup", ExitType::Cgroup)])
    }),
    ("OOMPolicy", |service, it| it.choice(&mut service.oom_policy, OOM_POLICIES)),
    ("Sockets", |service, it| it.units(&mut service.sockets)),
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

pub(super) const KILL: &[Directive<KillContext>] = &[
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
    ("WatchdogSignal", |kill, it| it.signal(&mut kill.watchdog_signal)),
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

const RESTART_MODES: &[(&str, RestartMode)] =
    &[("normal", RestartMode::Normal), ("direct", RestartMode::Direct), ("debug", RestartMode::Debug)];

const TIMEOUT_MODES: &[(&str, TimeoutFailureMode)] = &[
    ("terminate", TimeoutFailureMode::Terminate),
    ("abort", TimeoutFailureMode::Abort),
    ("kill", TimeoutFailureMode::Kill),
];

const OOM_POLICIES: &[(&str, OomPolicy)] =
    &[("continue", OomPolicy::Continue), ("stop", OomPolicy::Stop), ("kill", OomPolicy::Kill)];

const JOB_MODES: &[(&str, JobMode)] = &[
    ("fail", JobMode::Fail),
    ("replace", JobMode::Replace),
    ("replace-irreversibly", JobMode::ReplaceIrreversibly),
    ("isolate", JobMode::Isolate),
    ("flush", JobMode::Flush),
    ("ignore-dependencies", JobMode::IgnoreDependencies),
    ("ignore-requirements", JobMode::IgnoreRequirements),
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

const COLLECT_MODES: &[(&str, CollectMode)] =
    &[("inactive", CollectMode::Inactive), ("inactive-or-failed", CollectMode::InactiveOrFailed)];

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
    // No other kernel is ever loaded for kexec, and user space is never restarted alone: both are a reboot, as systemd does it
    // too when there is nothing to execute.
    ("kexec", StartLimitAction::Reboot),
    ("kexec-force", StartLimitAction::RebootForce),
    ("soft-reboot", StartLimitAction::Reboot),
    ("soft-reboot-force", StartLimitAction::RebootForce),
    ("exit", StartLimitAction::Exit),
    ("exit-force", StartLimitAction::ExitForce),
];

fn exit_status(text: &str) -> Result<u8, value::ValueError> {
    text.parse().or_else(|_| value::refuse(text, "an exit status from 0 to 255"))
}

fn limit_span(text: &str) -> Result<TimeSpan, value::ValueError> {
    value::time_span(text).map(TimeSpan::zero_is_infinity)
}

fn is_absolute(text: &str) -> bool {
    value::absolute_path(text).is_ok()
}

impl Section for Service {
    const OWN: &'static [Directive<Self>] = SERVICE;

    fn exec(&mut self) -> Option<&mut ExecContext> {
        Some(&mut self.exec)
    }

    fn kill(&mut self) -> Option<&mut KillContext> {
        Some(&mut self.kill)
    }

    fn resources(&mut self) -> Option<&mut ResourceControl> {
        Some(&mut self.resources)
    }

    fn problem(&self, _own: &UnitName) -> Option<&'static str> {
        Service::problem(self)
    }
}

/// The word that stands for a value in a table.
fn word_of<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

impl ServiceType {
    /// As it is written.
    pub fn word(self) -> &'static str {
        word_of(TYPES, &self)
    }
}

impl Restart {
    /// As it is written.
    pub fn word(self) -> &'static str {
        word_of(RESTARTS, &self)
    }
}

impl KillMode {
    /// As it is written.
    pub fn word(self) -> &'static str {
        word_of(KILL_MODES, &self)
    }
}

impl StartLimitAction {
    /// As it is written.
    pub fn word(self) -> &'static str {
        word_of(ACTIONS, &self)
    }
}
