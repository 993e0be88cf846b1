//! What the state machine knows of a unit: the part of its file that decides *when* things happen.
//!
//! How a command is run (user, environment, folders) is the shell's business and not here.

use std::collections::BTreeMap;
use std::fmt;

/// A point on `CLOCK_MONOTONIC`, or a span of it, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// This point, `span` later; stops at the end of time.
    pub fn after(self, span: Monotonic) -> Monotonic {
        Monotonic(self.0.saturating_add(span.0))
    }

    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Monotonic {
        Monotonic(seconds.saturating_mul(1_000_000))
    }
}

/// Index of a unit in the supervisor; never reused while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u32);

impl UnitId {
    pub(super) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The kinds of unit that the supervisor can run today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// `.service`
    Service,
    /// `.target`: a point in the order, active as soon as what it waits for is done.
    Target,
    /// `.slice`: a cgroup that is there when somebody needs it; behaves like a target.
    Slice,
    /// A kind whose starting is refused (`.socket`, `.timer`, ...).
    Unsupported,
}

impl UnitKind {
    /// The kind by the suffix of `name`.
    pub fn of(name: &str) -> UnitKind {
        match name.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("service") => UnitKind::Service,
            Some("target") => UnitKind::Target,
            Some("slice") => UnitKind::Slice,
            _ => UnitKind::Unsupported,
        }
    }
}

/// What became of reading the unit's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadState {
    /// Read, can be started.
    Loaded,
    /// No file has this name.
    NotFound,
    /// A link to `/dev/null`.
    Masked,
    /// There is a file, and this is why it cannot be used.
    Bad(String),
}

impl LoadState {
    /// The word that `systemctl` shows.
    pub fn word(&self) -> &'static str {
        match self {
            LoadState::Loaded => "loaded",
            LoadState::NotFound => "not-found",
            LoadState::Masked => "masked",
            LoadState::Bad(_) => "bad-setting",
        }
    }
}

/// A relation between two units, as one of them sees it. Each has its inverse, see [`Edge::inverse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of systemd.unit(5); the others are their inverses")]
pub enum Edge {
    Requires,
    RequiredBy,
    Requisite,
    RequisiteOf,
    Wants,
    WantedBy,
    BindsTo,
    BoundBy,
    PartOf,
    ConsistsOf,
    Upholds,
    UpheldBy,
    Conflicts,
    ConflictedBy,
    Before,
    After,
    OnFailure,
    OnFailureOf,
    OnSuccess,
    OnSuccessOf,
}

impl Edge {
    /// The relation as the other unit sees it.
    pub fn inverse(self) -> Edge {
        use Edge::*;
        match self {
            Requires => RequiredBy,
            RequiredBy => Requires,
            Requisite => RequisiteOf,
            RequisiteOf => Requisite,
            Wants => WantedBy,
            WantedBy => Wants,
            BindsTo => BoundBy,
            BoundBy => BindsTo,
            PartOf => ConsistsOf,
            ConsistsOf => PartOf,
            Upholds => UpheldBy,
            UpheldBy => Upholds,
            Conflicts => ConflictedBy,
            ConflictedBy => Conflicts,
            Before => After,
            After => Before,
            OnFailure => OnFailureOf,
            OnFailureOf => OnFailure,
            OnSuccess => OnSuccessOf,
            OnSuccessOf => OnSuccess,
        }
    }
}

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
    /// Up when the first process has ended and left a daemon behind.
    Forking,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The service part of a unit.
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
    /// `RuntimeMaxSec=`
    pub runtime_max: Option<Monotonic>,
    /// `WatchdogSec=`
    pub watchdog: Option<Monotonic>,
    /// `KillMode=`
    pub kill_mode: KillMode,
    /// `KillSignal=`
    pub kill_signal: i32,
    /// `SendSIGKILL=`
    pub send_sigkill: bool,
    /// `SendSIGHUP=`
    pub send_sighup: bool,
    /// `NotifyAccess=`
    pub notify_access: NotifyAccess,
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
            success: ExitSet::default(),
            restart_prevent: ExitSet::default(),
            restart_force: ExitSet::default(),
            timeout_start: Some(DEFAULT_TIMEOUT),
            timeout_stop: Some(DEFAULT_TIMEOUT),
            runtime_max: None,
            watchdog: None,
            kill_mode: KillMode::ControlGroup,
            kill_signal: SIGTERM,
            send_sigkill: true,
            send_sighup: false,
            notify_access: NotifyAccess::None,
        }
    }
}

/// systemd's `DefaultTimeoutStartSec=` and `DefaultTimeoutStopSec=`.
pub const DEFAULT_TIMEOUT: Monotonic = Monotonic::seconds(90);

pub(super) const SIGHUP: i32 = 1;
pub(super) const SIGINT: i32 = 2;
pub(super) const SIGABRT: i32 = 6;
pub(super) const SIGPIPE: i32 = 13;
pub(super) const SIGTERM: i32 = 15;
pub(super) const SIGCONT: i32 = 18;

/// A unit, ready to be added.
#[derive(Debug, Clone)]
pub struct UnitSpec {
    /// Full name with suffix and instance.
    pub name: String,
    /// Further names that lead here.
    pub aliases: Vec<String>,
    /// `Description=`, or the name.
    pub description: String,
    /// What became of reading it.
    pub load: LoadState,
    /// Its kind.
    pub kind: UnitKind,
    /// Relations as written in the unit, its `.wants` and its `.requires`; default ones are added by the supervisor.
    pub relations: Vec<(Edge, String)>,
    /// `DefaultDependencies=`
    pub default_dependencies: bool,
    /// There are `Condition*=` or `Assert*=` lines to be checked before it starts.
    pub has_conditions: bool,
    /// `RefuseManualStart=`
    pub refuse_manual_start: bool,
    /// `RefuseManualStop=`
    pub refuse_manual_stop: bool,
    /// `AllowIsolate=`
    pub allow_isolate: bool,
    /// `IgnoreOnIsolate=`
    pub ignore_on_isolate: bool,
    /// `StartLimitIntervalSec=`; 0 is no limit.
    pub start_limit_interval: Monotonic,
    /// `StartLimitBurst=`; 0 is no limit.
    pub start_limit_burst: u32,
    /// The service part, for a [`UnitKind::Service`].
    pub service: Option<ServiceSpec>,
}

impl UnitSpec {
    /// A unit with this name and nothing in it.
    pub fn new(name: &str) -> UnitSpec {
        UnitSpec {
            name: name.to_owned(),
            aliases: Vec::new(),
            description: name.to_owned(),
            load: LoadState::Loaded,
            kind: UnitKind::of(name),
            relations: Vec::new(),
            default_dependencies: true,
            has_conditions: false,
            refuse_manual_start: false,
            refuse_manual_stop: false,
            allow_isolate: false,
            ignore_on_isolate: false,
            start_limit_interval: Monotonic::seconds(10),
            start_limit_burst: 5,
            service: None,
        }
    }

    /// A unit that nobody has a file for.
    pub fn not_found(name: &str) -> UnitSpec {
        UnitSpec { load: LoadState::NotFound, default_dependencies: false, ..UnitSpec::new(name) }
    }
}
