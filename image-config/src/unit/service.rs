//! `[Service]`: systemd.service(5) and systemd.kill(5).

use std::collections::BTreeSet;
use std::time::Duration;

use super::environment::{self, Lookup};
use super::exec::{DirectoryPreserve, ExecContext};
use super::name::UnitName;
use super::open_file::OpenFile;
use super::resources::ResourceControl;
use super::signal::Signal;
use super::value::{DEFAULT_TIMEOUT, TimeSpan};

/// Settings of the `[Service]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `Type=`; `None` when not written: see [`Service::kind`].
    pub written_type: Option<ServiceType>,
    /// `ExecCondition=`.
    pub exec_condition: Vec<ExecCommand>,
    /// `ExecStartPre=`.
    pub exec_start_pre: Vec<ExecCommand>,
    /// `ExecStart=`: exactly one, but any number for `oneshot`.
    pub exec_start: Vec<ExecCommand>,
    /// `ExecStartPost=`.
    pub exec_start_post: Vec<ExecCommand>,
    /// `ExecReload=`.
    pub exec_reload: Vec<ExecCommand>,
    /// `ExecStop=`.
    pub exec_stop: Vec<ExecCommand>,
    /// `ExecStopPost=`.
    pub exec_stop_post: Vec<ExecCommand>,
    /// `Restart=`.
    pub restart: Restart,
    /// `RestartSec=`; 100 ms unless written.
    pub restart_sec: TimeSpan,
    /// `TimeoutStartSec=`; `None` when not written: see [`Service::timeout_start`].
    pub written_timeout_start: Option<TimeSpan>,
    /// `TimeoutStopSec=`; 90 s unless written.
    pub timeout_stop: TimeSpan,
    /// `RuntimeMaxSec=`.
    pub runtime_max: TimeSpan,
    /// `RuntimeRandomizedExtraSec=`: upper bound of what chance adds to `runtime_max`.
    pub runtime_randomized_extra: TimeSpan,
    /// `FileDescriptorStoreMax=`: most descriptors that are kept for the service; 0 unless written.
    pub fd_store_max: u32,
    /// `FileDescriptorStorePreserve=`: how long they are kept; over restarts unless written.
    pub fd_store_preserve: DirectoryPreserve,
    /// `OpenFile=`: what is opened for the main process, in order.
    pub open_files: Vec<OpenFile>,
    /// `RestartSteps=`: restarts over which the delay grows to `restart_max_delay`; 0 is none.
    pub restart_steps: u32,
    /// `RestartMaxDelaySec=`.
    pub restart_max_delay: TimeSpan,
    /// `RestartMode=`.
    pub restart_mode: RestartMode,
    /// `TimeoutAbortSec=`; `None`: as `timeout_stop`.
    pub timeout_abort: Option<TimeSpan>,
    /// `TimeoutStartFailureMode=`.
    pub timeout_start_failure_mode: TimeoutFailureMode,
    /// `TimeoutStopFailureMode=`.
    pub timeout_stop_failure_mode: TimeoutFailureMode,
    /// `ExitType=`: what counts as the service's end.
    pub exit_type: ExitType,
    /// `OOMPolicy=`.
    pub oom_policy: OomPolicy,
    /// `Sockets=`: socket units whose descriptors the service gets besides that of its own name.
    pub sockets: Vec<UnitName>,
    /// `WatchdogSec=`; `None` is off, and so is a written 0 or infinity.
    pub watchdog: Option<Duration>,
    /// `RemainAfterExit=`.
    pub remain_after_exit: bool,
    /// `GuessMainPID=`; `None` is yes.
    pub guess_main_pid: Option<bool>,
    /// `PIDFile=`: absolute (relative ones start from `/run`).
    pub pid_file: Option<String>,
    /// `NotifyAccess=`; `None` when not written: see [`Service::notify_access`].
    pub written_notify_access: Option<NotifyAccess>,
    /// `SuccessExitStatus=`: counts as clean besides 0, SIGHUP, SIGINT, SIGTERM and SIGPIPE.
    pub success_exit_status: ExitStatusSet,
    /// `RestartPreventExitStatus=`.
    pub restart_prevent_exit_status: ExitStatusSet,
    /// `RestartForceExitStatus=`.
    pub restart_force_exit_status: ExitStatusSet,
    /// `PermissionsStartOnly=`: identity and sandbox hold for `ExecStart=` alone.
    pub permissions_start_only: bool,
    /// How processes run.
    pub exec: ExecContext,
    /// What processes may use up.
    pub resources: ResourceControl,
    /// How processes are ended.
    pub kill: KillContext,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            written_type: None,
            exec_condition: Vec::new(),
            exec_start_pre: Vec::new(),
            exec_start: Vec::new(),
            exec_start_post: Vec::new(),
            exec_reload: Vec::new(),
            exec_stop: Vec::new(),
            exec_stop_post: Vec::new(),
            restart: Restart::No,
            restart_sec: TimeSpan::Finite(Duration::from_millis(100)),
            written_timeout_start: None,
            timeout_stop: DEFAULT_TIMEOUT,
            runtime_max: TimeSpan::Infinity,
            runtime_randomized_extra: TimeSpan::Finite(Duration::ZERO),
            fd_store_max: 0,
            fd_store_preserve: DirectoryPreserve::Restart,
            open_files: Vec::new(),
            restart_steps: 0,
            restart_max_delay: TimeSpan::Infinity,
            restart_mode: RestartMode::default(),
            timeout_abort: None,
            timeout_start_failure_mode: TimeoutFailureMode::default(),
            timeout_stop_failure_mode: TimeoutFailureMode::default(),
            exit_type: ExitType::default(),
            oom_policy: OomPolicy::default(),
            sockets: Vec::new(),
            watchdog: None,
            remain_after_exit: false,
            guess_main_pid: None,
            pid_file: None,
            written_notify_access: None,
            success_exit_status: ExitStatusSet::default(),
            restart_prevent_exit_status: ExitStatusSet::default(),
            restart_force_exit_status: ExitStatusSet::default(),
            permissions_start_only: false,
            exec: ExecContext::default(),
            resources: ResourceControl::default(),
            kill: KillContext::default(),
        }
    }
}

impl Service {
    /// The type in force: as written; without `ExecStart=` `oneshot`, else `simple` (`BusName=` is not supported).
    #[must_use]
    pub fn kind(&self) -> ServiceType {
        match self.written_type {
            Some(kind) => kind,
            None if self.exec_start.is_empty() => ServiceType::Oneshot,
            None => ServiceType::Simple,
        }
    }

    /// How long a start may take: as written; never-ending for `oneshot`, else 90 s. Zero was read as infinity.
    #[must_use]
    pub fn timeout_start(&self) -> TimeSpan {
        match (self.written_timeout_start, self.kind()) {
            (Some(written), _) => written,
            (None, ServiceType::Oneshot) => TimeSpan::Infinity,
            (None, _) => DEFAULT_TIMEOUT,
        }
    }

    /// Whose notifications count: as written; `main` for types that need them and for watchdogs, else `none`.
    #[must_use]
    pub fn notify_access(&self) -> NotifyAccess {
        let needed =
            matches!(self.kind(), ServiceType::Notify | ServiceType::NotifyReload) || self.watchdog.is_some();
        match self.written_notify_access {
            Some(NotifyAccess::None) if needed => NotifyAccess::Main,
            Some(written) => written,
            None if needed => NotifyAccess::Main,
            None => NotifyAccess::None,
        }
    }

    /// What makes the service unfit to be loaded, as systemd's own check (`service_verify`) has it.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let kind = self.kind();
        if self.exec_start.is_empty() && kind != ServiceType::Oneshot {
            return Some("the service has no ExecStart= line");
        }
        if self.exec_start.is_empty() && self.exec_stop.is_empty() && !self.remain_after_exit {
            return Some("the service has neither ExecStart= nor ExecStop= nor RemainAfterExit=yes");
        }
        self.problem_but_for_commands()
    }

    /// The same for a service that needs no commands.
    pub(super) fn problem_but_for_commands(&self) -> Option<&'static str> {
        let kind = self.kind();
        if self.exec_start.len() > 1 && kind != ServiceType::Oneshot {
            return Some("the service has more than one ExecStart= line, which only Type=oneshot may");
        }
        if kind == ServiceType::Oneshot && matches!(self.restart, Restart::Always | Restart::OnSuccess) {
            return Some("Type=oneshot goes with neither Restart=always nor Restart=on-success");
        }
        if kind == ServiceType::Dbus {
            return Some("Type=dbus needs a D-Bus, which this system does not have");
        }
        None
    }
}

/// `Type=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// Started as soon as the process is forked.
    Simple,
    /// Started as soon as the program runs.
    Exec,
    /// Started when the process that was started ends; its child is the service.
    Forking,
    /// Started when the processes have ended.
    Oneshot,
    /// Started when `READY=1` arrives.
    Notify,
    /// As `Notify`; reloaded by a signal.
    NotifyReload,
    /// As `Simple`, once other jobs are done.
    Idle,
    /// Not supported: there is no bus.
    Dbus,
}

/// `Restart=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// After a clean end.
    OnSuccess,
    /// After an unclean exit status, signal, timeout or watchdog.
    OnFailure,
    /// After an unclean signal, timeout or watchdog.
    OnAbnormal,
    /// After the watchdog alone.
    OnWatchdog,
    /// After an unclean signal alone.
    OnAbort,
    /// After whatever but a stop that was asked for.
    Always,
}

/// `RestartMode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartMode {
    /// The unit is failed or inactive for a moment, which others see.
    #[default]
    Normal,
    /// It goes straight to its next start.
    Direct,
    /// As `Normal`, with more logging.
    Debug,
}

/// `TimeoutStartFailureMode=` and `TimeoutStopFailureMode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutFailureMode {
    /// `KillSignal=` first, `FinalKillSignal=` later.
    #[default]
    Terminate,
    /// `WatchdogSignal=` first.
    Abort,
    /// `FinalKillSignal=` at once.
    Kill,
}

/// `ExitType=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExitType {
    /// The end of the main process.
    #[default]
    Main,
    /// The end of the last process of the control group.
    Cgroup,
}

/// `OOMPolicy=`: what follows when the kernel kills a process of the unit for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OomPolicy {
    /// Nothing.
    Continue,
    /// The service is stopped in order.
    #[default]
    Stop,
    /// All of its processes are killed.
    Kill,
}

/// `NotifyAccess=`: whose notifications count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyAccess {
    /// Nobody's.
    None,
    /// The main process's.
    Main,
    /// The main and control processes'.
    Exec,
    /// Every process's of the unit.
    All,
}

/// How the processes of a unit are ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillContext {
    /// `KillMode=`.
    pub mode: KillMode,
    /// `KillSignal=`; SIGTERM unless written.
    pub signal: Signal,
    /// `RestartKillSignal=`; `None`: as `signal`.
    pub restart_signal: Option<Signal>,
    /// `FinalKillSignal=`; SIGKILL unless written.
    pub final_signal: Signal,
    /// `SendSIGKILL=`: whether the final signal is sent at all.
    pub send_sigkill: bool,
    /// `SendSIGHUP=`: SIGHUP after the first signal, for shells.
    pub send_sighup: bool,
    /// `WatchdogSignal=`; SIGABRT unless written.
    pub watchdog_signal: Signal,
    /// `ReloadSignal=` of `notify-reload`.
    pub reload_signal: Signal,
}

impl Default for KillContext {
    fn default() -> Self {
        Self {
            mode: KillMode::ControlGroup,
            signal: Signal::TERM,
            restart_signal: None,
            final_signal: Signal::KILL,
            send_sigkill: true,
            send_sighup: false,
            watchdog_signal: Signal::ABRT,
            reload_signal: Signal::HUP,
        }
    }
}

/// `KillMode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KillMode {
    /// All processes of the unit's control group.
    #[default]
    ControlGroup,
    /// The main process gets the signal, the rest of the group the final one.
    Mixed,
    /// The main process alone.
    Process,
    /// None: only the stop commands run.
    None,
}

/// One command of an `Exec...=` line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecCommand {
    /// The program: an absolute path, or a bare name that is looked up in [`super::value::SEARCH_PATH`].
    pub program: String,
    /// `argv[0]`, when `@` sets it apart from the program.
    pub argv0: Option<String>,
    /// Arguments, specifiers expanded, variables not yet: see [`ExecCommand::arguments`].
    pub raw_arguments: Vec<String>,
    /// `-`: failure counts as success.
    pub ignore_failure: bool,
    /// `:`: no variables in this line.
    pub literal: bool,
    /// `+`: identity and sandbox do not hold.
    pub full_privileges: bool,
    /// `!`: the identity does not hold, the rest of the sandbox does. (`!!` is the same as nothing on Linux since 4.3,
    /// whose ambient capabilities it stands in for.)
    pub no_setuid: bool,
}

impl ExecCommand {
    /// The whole argument vector, `argv[0]` first, with variables taken from `lookup`.
    #[must_use]
    pub fn arguments(&self, lookup: Lookup<'_>) -> Vec<String> {
        let mut out = vec![self.argv0.clone().unwrap_or_else(|| self.program.clone())];
        if self.literal {
            out.extend(self.raw_arguments.iter().cloned());
        } else {
            out.extend(environment::expand_variables(&self.raw_arguments, lookup));
        }
        out
    }
}

/// A set of exit codes and signals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExitStatusSet {
    /// Exit codes.
    pub codes: BTreeSet<u8>,
    /// Signals.
    pub signals: BTreeSet<Signal>,
}
