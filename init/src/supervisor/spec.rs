//! What the state machine knows of a unit: the part of its file that decides *when* things happen.
//!
//! How a command is run (user, environment, folders) is the shell's business and not here.

use serde::{Deserialize, Serialize};

use super::event::PowerAction;
use super::service_spec::ServiceSpec;
use super::transaction::Mode;

/// A point on `CLOCK_MONOTONIC`, or a span of it, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
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

/// Index of a unit in the supervisor. That of a unit that was [forgotten](super::Supervisor::collect) is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u32);

impl UnitId {
    pub(super) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The kinds of unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// `.service`
    Service,
    /// `.target`: a point in the order, active as soon as what it waits for is done.
    Target,
    /// `.slice`: a cgroup that is there when somebody needs it; behaves like a target.
    Slice,
    /// `.socket`: descriptors that start a service when something comes in.
    Socket,
    /// `.timer`: starts a unit at points in time.
    Timer,
    /// `.path`: starts a unit when something happens in the file system.
    Path,
    /// `.mount`
    Mount,
    /// `.swap`
    Swap,
    /// `.device`: there or not, which is not ours to change.
    Device,
    /// A kind whose starting is refused (`.automount`, `.scope`).
    Unsupported,
}

impl UnitKind {
    /// The kind by the suffix of `name`.
    pub fn of(name: &str) -> UnitKind {
        match name.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("service") => UnitKind::Service,
            Some("target") => UnitKind::Target,
            Some("slice") => UnitKind::Slice,
            Some("socket") => UnitKind::Socket,
            Some("timer") => UnitKind::Timer,
            Some("path") => UnitKind::Path,
            Some("mount") => UnitKind::Mount,
            Some("swap") => UnitKind::Swap,
            Some("device") => UnitKind::Device,
            _ => UnitKind::Unsupported,
        }
    }

    /// Whether its commands, if it has any, are run as a service's are.
    pub fn has_processes(self) -> bool {
        matches!(self, UnitKind::Service | UnitKind::Socket | UnitKind::Mount | UnitKind::Swap)
    }

    /// Whether it is there or not without our doing, so that both must be told by the shell.
    pub fn is_found(self) -> bool {
        matches!(self, UnitKind::Mount | UnitKind::Swap | UnitKind::Device)
    }

    /// Whether it counts its starts: those that somebody can ask for in a loop.
    pub fn has_start_limit(self) -> bool {
        self.has_processes() || matches!(self, UnitKind::Timer | UnitKind::Path)
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
    PropagatesReloadTo,
    ReloadPropagatedFrom,
    PropagatesStopTo,
    StopPropagatedFrom,
    Triggers,
    TriggeredBy,
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
            PropagatesReloadTo => ReloadPropagatedFrom,
            ReloadPropagatedFrom => PropagatesReloadTo,
            PropagatesStopTo => StopPropagatedFrom,
            StopPropagatedFrom => PropagatesStopTo,
            Triggers => TriggeredBy,
            TriggeredBy => Triggers,
        }
    }
}

/// What happens to the whole machine when a unit comes to a bad end (`FailureAction=` and its kin).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Nothing.
    #[default]
    Nothing,
    /// Down in order.
    Orderly(PowerAction),
    /// Down without stopping units.
    Force(PowerAction),
    /// Down at once, without even a sync.
    Immediate(PowerAction),
}

/// `TriggerLimitIntervalSec=` and `TriggerLimitBurst=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerLimit {
    /// The span; 0 is no limit.
    pub interval: Monotonic,
    /// How often within the span; 0 is no limit.
    pub burst: u32,
}

/// The part of a unit that starts another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerSpec {
    /// How often it may do that; a unit that does it more often fails.
    pub limit: TriggerLimit,
    /// `Accept=` of a socket: every connection has an instance of its own.
    pub accept: bool,
    /// `MaxConnections=` of such a socket.
    pub max_connections: u32,
    /// `RemainAfterElapse=` of a timer.
    pub remain_after_elapse: bool,
}

impl Default for TriggerSpec {
    fn default() -> Self {
        TriggerSpec {
            limit: TriggerLimit { interval: Monotonic::seconds(2), burst: 20 },
            accept: false,
            max_connections: 64,
            remain_after_elapse: true,
        }
    }
}

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
    /// `StartLimitAction=`
    pub start_limit_action: Action,
    /// `FailureAction=`
    pub failure_action: Action,
    /// `SuccessAction=`
    pub success_action: Action,
    /// `CollectMode=inactive-or-failed`: it may be forgotten although it has failed.
    pub collect_failed: bool,
    /// `StopWhenUnneeded=`
    pub stop_when_unneeded: bool,
    /// `OnFailureJobMode=`
    pub on_failure_mode: Mode,
    /// `OnSuccessJobMode=`
    pub on_success_mode: Mode,
    /// `JobTimeoutSec=`: longest life of a job.
    pub job_timeout: Option<Monotonic>,
    /// `JobRunningTimeoutSec=`: the same, counted from when it was begun.
    pub job_running_timeout: Option<Monotonic>,
    /// `JobTimeoutAction=`
    pub job_timeout_action: Action,
    /// It cannot be stopped (`-.mount`, `-.slice`).
    pub perpetual: bool,
    /// The processes, of a [kind that has any](UnitKind::has_processes).
    pub service: Option<ServiceSpec>,
    /// What starts another unit, for a socket, timer or path.
    pub trigger: Option<TriggerSpec>,
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
            start_limit_action: Action::Nothing,
            failure_action: Action::Nothing,
            success_action: Action::Nothing,
            collect_failed: false,
            stop_when_unneeded: false,
            on_failure_mode: Mode::Replace,
            on_success_mode: Mode::Fail,
            job_timeout: None,
            job_running_timeout: None,
            job_timeout_action: Action::Nothing,
            perpetual: false,
            service: None,
            trigger: None,
        }
    }

    /// A unit that nobody has a file for.
    pub fn not_found(name: &str) -> UnitSpec {
        UnitSpec { load: LoadState::NotFound, default_dependencies: false, ..UnitSpec::new(name) }
    }
}
