//! What the state machine knows of a unit's processes: commands, time limits, signals, restarts.
//!
//! Services have them, and so have sockets, mounts and swaps, whose commands are run alike.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::spec::Monotonic;

/// `Type=` of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// Up as soon as the process exists.
    Simple,
    /// Up as soon as the program runs in it.
    Exec,
    /// Up when the commands have ended.
    Oneshot,
    /// Up when the program says so (`READY=1`).
    Notify,
    /// The same; reloaded by a signal and the program's word that it is done.
    NotifyReload,
    /// As simple, but its process waits until nothing else is to be done.
    Idle,
    /// Up when the first process has ended and left a daemon behind.
    Forking,
}

impl ServiceType {
    /// Whether `READY=1` makes it started.
    pub fn is_notify(self) -> bool {
        matches!(self, ServiceType::Notify | ServiceType::NotifyReload)
    }
}

/// `Restart=` of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of systemd.service(5)")]
pub enum Restart {
    No,
    Always,
    OnSuccess,
    OnFailure,
    OnAbnormal,
    OnAbort,
    OnWatchdog,
}

/// `KillMode=` of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of systemd.kill(5)")]
pub enum KillMode {
    ControlGroup,
    Mixed,
    Process,
    None,
}

/// `TimeoutStartFailureMode=` and `TimeoutStopFailureMode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of systemd.service(5)")]
pub enum TimeoutMode {
    #[default]
    Terminate,
    Abort,
    Kill,
}

/// `OOMPolicy=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of systemd.service(5)")]
pub enum OomPolicy {
    Continue,
    #[default]
    Stop,
    Kill,
}

/// `NotifyAccess=`: whose messages count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of systemd.service(5)")]
pub enum NotifyAccess {
    None,
    Main,
    Exec,
    All,
}

/// The lists of commands of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of systemd.service(5)")]
pub enum Phase {
    Condition,
    StartPre,
    Start,
    StartPost,
    Reload,
    Stop,
    StopPost,
}

impl Phase {
    /// Every phase, in the order of a service's life.
    pub const ALL: [Phase; 7] = [
        Phase::Condition,
        Phase::StartPre,
        Phase::Start,
        Phase::StartPost,
        Phase::Reload,
        Phase::Stop,
        Phase::StopPost,
    ];

    /// The key that lists the phase's commands.
    pub fn key(self) -> &'static str {
        match self {
            Phase::Condition => "ExecCondition",
            Phase::StartPre => "ExecStartPre",
            Phase::Start => "ExecStart",
            Phase::StartPost => "ExecStartPost",
            Phase::Reload => "ExecReload",
            Phase::Stop => "ExecStop",
            Phase::StopPost => "ExecStopPost",
        }
    }
}

/// One command of a service, as far as the state machine cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommandFlags {
    /// Prefix `-`: a failure counts as success.
    pub ignore_failure: bool,
}

/// A set of exit codes and signals (`SuccessExitStatus=` and its like).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitSet {
    /// Exit codes, 0-255.
    pub codes: Vec<i32>,
    /// Signal numbers.
    pub signals: Vec<i32>,
}

impl ExitSet {
    /// Whether `status` is in the set.
    pub fn contains(&self, status: ExitStatus) -> bool {
        match status {
            ExitStatus::Code(code) => self.codes.contains(&code),
            ExitStatus::Signal { signal, .. } => self.signals.contains(&signal),
            ExitStatus::Unknown => false,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// `exit(code)`
    Code(i32),
    /// Killed by a signal.
    Signal {
        /// Its number.
        signal: i32,
        /// Whether the kernel made a core dump.
        core: bool,
    },
    /// It was not our child, so nobody told us.
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(out, "exit code {code}"),
            ExitStatus::Signal { signal, core: false } => write!(out, "signal {signal}"),
            ExitStatus::Signal { signal, core: true } => write!(out, "signal {signal}, core dumped"),
            ExitStatus::Unknown => write!(out, "unknown status"),
        }
    }
}

/// The part of a unit that is about its processes.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// `Type=`
    pub kind: ServiceType,
    /// The commands by phase.
    pub commands: BTreeMap<Phase, Vec<CommandFlags>>,
    /// `RemainAfterExit=`
    pub remain_after_exit: bool,
    /// `PIDFile=` is set.
    pub has_pid_file: bool,
    /// `GuessMainPID=`
    pub guess_main_pid: bool,
    /// `Restart=`
    pub restart: Restart,
    /// `RestartSec=`
    pub restart_delay: Monotonic,
    /// `RestartSteps=`
    pub restart_steps: u32,
    /// `RestartMaxDelaySec=`
    pub restart_max_delay: Option<Monotonic>,
    /// `RestartMode=direct`: others do not learn of an end that is followed by a restart.
    pub restart_direct: bool,
    /// `SuccessExitStatus=`, beyond 0 and the usual signals.
    pub success: ExitSet,
    /// `RestartPreventExitStatus=`
    pub restart_prevent: ExitSet,
    /// `RestartForceExitStatus=`
    pub restart_force: ExitSet,
    /// `TimeoutStartSec=`; `None` is for ever.
    pub timeout_start: Option<Monotonic>,
    /// `TimeoutStopSec=`; `None` is for ever.
    pub timeout_stop: Option<Monotonic>,
    /// `TimeoutAbortSec=`; `None` is for ever.
    pub timeout_abort: Option<Monotonic>,
    /// `TimeoutStartFailureMode=`
    pub start_failure_mode: TimeoutMode,
    /// `TimeoutStopFailureMode=`
    pub stop_failure_mode: TimeoutMode,
    /// `ExitType=cgroup`: it runs as long as any of its processes does.
    pub exit_cgroup: bool,
    /// `OOMPolicy=`
    pub oom_policy: OomPolicy,
    /// `RuntimeMaxSec=`
    pub runtime_max: Option<Monotonic>,
    /// `RuntimeRandomizedExtraSec=`: at most so much more, by chance.
    pub runtime_extra: Monotonic,
    /// `WatchdogSec=`
    pub watchdog: Option<Monotonic>,
    /// `KillMode=`
    pub kill_mode: KillMode,
    /// `KillSignal=`
    pub kill_signal: i32,
    /// `RestartKillSignal=`, or `KillSignal=`.
    pub restart_kill_signal: i32,
    /// `FinalKillSignal=`
    pub final_kill_signal: i32,
    /// `WatchdogSignal=`
    pub watchdog_signal: i32,
    /// `ReloadSignal=`
    pub reload_signal: i32,
    /// `SendSIGKILL=`
    pub send_sigkill: bool,
    /// `SendSIGHUP=`
    pub send_sighup: bool,
    /// `NotifyAccess=`
    pub notify_access: NotifyAccess,
    /// There are files that its processes cannot be without (`EnvironmentFile=`), and which they look for themselves.
    pub needs_files: bool,
}

impl ServiceSpec {
    /// The delay before restart number `restarts` (from 1): systemd.service(5), `RestartSteps=`. It grows by the same
    /// factor at each step.
    pub fn delay(&self, restarts: u32) -> Monotonic {
        let Some(longest) = self.restart_max_delay else { return self.restart_delay };
        let done = restarts.saturating_sub(1);
        if done == 0 || self.restart_steps == 0 || self.restart_delay.0 == 0 || self.restart_delay >= longest
        {
            return self.restart_delay;
        }
        if done >= self.restart_steps {
            return longest;
        }
        let factor = longest.0 as f64 / self.restart_delay.0 as f64;
        let grown =
            self.restart_delay.0 as f64 * factor.powf(f64::from(done) / f64::from(self.restart_steps));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two u64")]
        let micros = grown as u64;
        Monotonic(micros).min(longest)
    }
}

impl Default for ServiceSpec {
    fn default() -> Self {
        ServiceSpec {
            kind: ServiceType::Simple,
            commands: BTreeMap::new(),
            remain_after_exit: false,
            has_pid_file: false,
            guess_main_pid: true,
            restart: Restart::No,
            restart_delay: Monotonic(100_000),
            restart_steps: 0,
            restart_max_delay: None,
            restart_direct: false,
            success: ExitSet::default(),
            restart_prevent: ExitSet::default(),
            restart_force: ExitSet::default(),
            timeout_start: Some(DEFAULT_TIMEOUT),
            timeout_stop: Some(DEFAULT_TIMEOUT),
            timeout_abort: Some(DEFAULT_TIMEOUT),
            start_failure_mode: TimeoutMode::Terminate,
            stop_failure_mode: TimeoutMode::Terminate,
            exit_cgroup: false,
            oom_policy: OomPolicy::Stop,
            runtime_max: None,
            runtime_extra: Monotonic(0),
            watchdog: None,
            kill_mode: KillMode::ControlGroup,
            kill_signal: SIGTERM,
            restart_kill_signal: SIGTERM,
            final_kill_signal: SIGKILL,
            watchdog_signal: SIGABRT,
            reload_signal: SIGHUP,
            send_sigkill: true,
            send_sighup: false,
            notify_access: NotifyAccess::None,
            needs_files: false,
        }
    }
}

/// systemd's `DefaultTimeoutStartSec=` and `DefaultTimeoutStopSec=`.
pub const DEFAULT_TIMEOUT: Monotonic = Monotonic::seconds(90);

pub(super) const SIGKILL: i32 = 9;
pub(super) const SIGHUP: i32 = 1;
pub(super) const SIGINT: i32 = 2;
pub(super) const SIGABRT: i32 = 6;
pub(super) const SIGPIPE: i32 = 13;
pub(super) const SIGTERM: i32 = 15;
pub(super) const SIGCONT: i32 = 18;
