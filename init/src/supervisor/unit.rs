//! The running state of one unit.

use std::fmt;

use super::event::{JobId, JobKind, ProcessId};
use super::spec::{Edge, ExitStatus, Monotonic, Phase, UnitId, UnitSpec};

/// systemd's coarse state of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are systemd's")]
pub enum ActiveState {
    Inactive,
    Activating,
    Active,
    Reloading,
    Deactivating,
    Failed,
}

impl ActiveState {
    /// The word that `systemctl` shows.
    pub fn word(self) -> &'static str {
        match self {
            ActiveState::Inactive => "inactive",
            ActiveState::Activating => "activating",
            ActiveState::Active => "active",
            ActiveState::Reloading => "reloading",
            ActiveState::Deactivating => "deactivating",
            ActiveState::Failed => "failed",
        }
    }

    /// Neither up nor on its way up or down.
    pub fn is_down(self) -> bool {
        matches!(self, ActiveState::Inactive | ActiveState::Failed)
    }

    /// Up, in its own opinion.
    pub fn is_up(self) -> bool {
        matches!(self, ActiveState::Active | ActiveState::Reloading)
    }
}

/// systemd's fine state of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are systemd's")]
pub enum SubState {
    Dead,
    Condition,
    StartPre,
    Start,
    StartPost,
    Running,
    Exited,
    Reload,
    Stop,
    StopWatchdog,
    StopSigterm,
    StopSigkill,
    StopPost,
    FinalSigterm,
    FinalSigkill,
    AutoRestart,
    Failed,
    /// A target or slice that is reached.
    Active,
}

impl SubState {
    /// The coarse state that this one is part of.
    pub fn active_state(self) -> ActiveState {
        match self {
            SubState::Dead => ActiveState::Inactive,
            SubState::Failed => ActiveState::Failed,
            SubState::Condition
            | SubState::StartPre
            | SubState::Start
            | SubState::StartPost
            | SubState::AutoRestart => ActiveState::Activating,
            SubState::Running | SubState::Exited | SubState::Active => ActiveState::Active,
            SubState::Reload => ActiveState::Reloading,
            SubState::Stop
            | SubState::StopWatchdog
            | SubState::StopSigterm
            | SubState::StopSigkill
            | SubState::StopPost
            | SubState::FinalSigterm
            | SubState::FinalSigkill => ActiveState::Deactivating,
        }
    }

    /// The word that `systemctl` shows.
    pub fn word(self) -> &'static str {
        match self {
            SubState::Dead => "dead",
            SubState::Condition => "condition",
            SubState::StartPre => "start-pre",
            SubState::Start => "start",
            SubState::StartPost => "start-post",
            SubState::Running => "running",
            SubState::Exited => "exited",
            SubState::Reload => "reload",
            SubState::Stop => "stop",
            SubState::StopWatchdog => "stop-watchdog",
            SubState::StopSigterm => "stop-sigterm",
            SubState::StopSigkill => "stop-sigkill",
            SubState::StopPost => "stop-post",
            SubState::FinalSigterm => "final-sigterm",
            SubState::FinalSigkill => "final-sigkill",
            SubState::AutoRestart => "auto-restart",
            SubState::Failed => "failed",
            SubState::Active => "active",
        }
    }
}

/// Why a service is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are systemd's")]
pub enum ServiceResult {
    Success,
    Resources,
    Protocol,
    Timeout,
    ExitCode,
    Signal,
    CoreDump,
    Watchdog,
    StartLimitHit,
    ExecCondition,
}

impl ServiceResult {
    /// The word that `$SERVICE_RESULT` and `systemctl` use.
    pub fn word(self) -> &'static str {
        match self {
            ServiceResult::Success => "success",
            ServiceResult::Resources => "resources",
            ServiceResult::Protocol => "protocol",
            ServiceResult::Timeout => "timeout",
            ServiceResult::ExitCode => "exit-code",
            ServiceResult::Signal => "signal",
            ServiceResult::CoreDump => "core-dump",
            ServiceResult::Watchdog => "watchdog",
            ServiceResult::StartLimitHit => "start-limit-hit",
            ServiceResult::ExecCondition => "exec-condition",
        }
    }

    /// Whether the unit ends in `failed`. An unmet `ExecCondition=` does not.
    pub fn is_failure(self) -> bool {
        !matches!(self, ServiceResult::Success | ServiceResult::ExecCondition)
    }
}

impl fmt::Display for ServiceResult {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// A process of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// The supervisor's number for it.
    pub id: ProcessId,
    /// Its PID, once the shell has told.
    pub pid: Option<u32>,
}

/// What a service has while it is not dead.
#[derive(Debug, Clone)]
pub struct ServiceRun {
    /// The main process.
    pub main: Option<Process>,
    /// The process of `ExecStartPre=` and its like.
    pub control: Option<Process>,
    /// Which list of commands is being worked through, and the place in it.
    pub command: Option<(Phase, usize)>,
    /// Something may still be in the cgroup.
    pub populated: bool,
    /// The worst that has happened since the start.
    pub result: ServiceResult,
    /// How the main process ended.
    pub main_status: Option<ExitStatus>,
    /// The last `ExecReload=` went wrong.
    pub reload_failed: bool,
    /// `READY=1` was seen since the start.
    pub ready: bool,
    /// Restarts without a person's doing since it was last started by one.
    pub restarts: u32,
    /// Somebody asked for it to be stopped, so `Restart=` does not count.
    pub stop_requested: bool,
    /// The service's own words (`STATUS=`).
    pub status_text: String,
    /// What went wrong, in words, for the status line.
    pub reason: String,
}

impl Default for ServiceRun {
    fn default() -> Self {
        ServiceRun {
            main: None,
            control: None,
            command: None,
            populated: false,
            result: ServiceResult::Success,
            main_status: None,
            reload_failed: false,
            ready: false,
            restarts: 0,
            stop_requested: false,
            status_text: String::new(),
            reason: String::new(),
        }
    }
}

/// Work that is to be done on a unit. There is at most one job a unit.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What is to be done.
    pub kind: JobKind,
    /// It was begun; what is left is to wait for the unit's state.
    pub running: bool,
    /// Only another irreversible job may replace it (shutdown).
    pub irreversible: bool,
    /// It does not wait for its turn.
    pub unordered: bool,
    /// When it was asked for.
    pub since: Monotonic,
}

/// Counts starts for `StartLimitBurst=`.
#[derive(Debug, Clone, Default)]
pub struct StartLimit {
    window: Option<Monotonic>,
    starts: u32,
}

impl StartLimit {
    /// Counts a start at `now`; false when it is one too many.
    pub fn admit(&mut self, now: Monotonic, interval: Monotonic, burst: u32) -> bool {
        if interval.0 == 0 || burst == 0 {
            return true;
        }
        match self.window {
            Some(begin) if now < begin.after(interval) => {
                if self.starts >= burst {
                    return false;
                }
                self.starts = self.starts.saturating_add(1);
            }
            _ => {
                self.window = Some(now);
                self.starts = 1;
            }
        }
        true
    }

    /// Forgets all starts (`reset-failed`).
    pub fn reset(&mut self) {
        *self = StartLimit::default();
    }
}

/// A unit with its state.
#[derive(Debug, Clone)]
pub struct Unit {
    /// What its file says.
    pub spec: UnitSpec,
    /// Relations to other units, both directions, sorted.
    pub(super) edges: Vec<(Edge, UnitId)>,
    /// The fine state.
    pub sub: SubState,
    /// What is to be done.
    pub job: Option<Job>,
    /// State of a service.
    pub run: ServiceRun,
    /// The shell is looking at the unit's conditions.
    pub(super) checking: bool,
    /// What the last check of conditions came to, when they were not met.
    pub condition: Option<String>,
    /// When `sub` last changed.
    pub changed_at: Monotonic,
    /// When it last became active.
    pub active_since: Option<Monotonic>,
    /// When it was last begun to be started.
    pub started_at: Option<Monotonic>,
    /// Starts lately.
    pub(super) limit: StartLimit,
    /// What ends the current state.
    pub(super) deadline: Option<Monotonic>,
    /// When the service must have sent `WATCHDOG=1`.
    pub(super) watchdog: Option<Monotonic>,
}

impl Unit {
    pub(super) fn new(spec: UnitSpec) -> Unit {
        Unit {
            spec,
            edges: Vec::new(),
            sub: SubState::Dead,
            job: None,
            run: ServiceRun::default(),
            checking: false,
            condition: None,
            changed_at: Monotonic::default(),
            active_since: None,
            started_at: None,
            limit: StartLimit::default(),
            deadline: None,
            watchdog: None,
        }
    }

    /// The coarse state.
    pub fn active(&self) -> ActiveState {
        self.sub.active_state()
    }

    /// Units that stand in this relation.
    pub fn related(&self, edge: Edge) -> impl Iterator<Item = UnitId> + '_ {
        self.edges.iter().filter(move |(kind, _)| *kind == edge).map(|(_, unit)| *unit)
    }

    pub(super) fn is_related(&self, edge: Edge, other: UnitId) -> bool {
        self.edges.binary_search(&(edge, other)).is_ok()
    }
}
