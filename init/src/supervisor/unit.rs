//! The running state of one unit.

use serde::{Deserialize, Serialize};

use super::event::{JobId, JobKind, ProcessId};
use super::service_spec::{ExitStatus, NotifyAccess, Phase, ServiceType};
use super::spec::{Edge, Monotonic, UnitId, UnitSpec};
use super::state::{ActiveState, ServiceResult, SubState};

/// A process of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The supervisor's number for it.
    pub id: ProcessId,
    /// Its PID, once the shell has told.
    pub pid: Option<u32>,
}

/// What the main process has last said about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of sd_notify(3)")]
pub enum NotifyState {
    #[default]
    Unknown,
    Ready,
    Reloading,
    Stopping,
}

/// What a unit with processes has while it is not dead.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceRun {
    /// The main process.
    pub main: Option<Process>,
    /// The process of `ExecStartPre=` and its like.
    pub control: Option<Process>,
    /// Which list of commands is being worked through by `control`, and the place in it.
    pub command: Option<(Phase, usize)>,
    /// Which command of `ExecStart=` the main process is.
    pub main_command: usize,
    /// Something may still be in the cgroup.
    pub populated: bool,
    /// The worst that has happened since the start.
    pub result: ServiceResult,
    /// How the main process ended.
    pub main_status: Option<ExitStatus>,
    /// The last reload went wrong.
    pub reload_failed: bool,
    /// When the last reload was begun.
    pub reload_began: Monotonic,
    /// What it said last.
    pub notify_state: NotifyState,
    /// `NOTIFYACCESS=` and `WATCHDOG_USEC=` of the service, which count instead of its file.
    #[serde(skip)]
    pub notify_access: Option<NotifyAccess>,
    /// See `notify_access`.
    pub watchdog_limit: Option<Monotonic>,
    /// Restarts without a person's doing since it was last started by one.
    pub restarts: u32,
    /// No restart is to follow, so the next start counts from 0 again.
    pub flush_restarts: bool,
    /// Somebody asked for it to be stopped, so `Restart=` does not count.
    pub stop_requested: bool,
    /// Its process of `Type=idle` is still held back.
    pub idle_wait: bool,
    /// The service's own words (`STATUS=`).
    pub status_text: String,
    /// `ERRNO=` of the service.
    pub errno: Option<i32>,
    /// `BUSERROR=` of the service.
    pub bus_error: String,
    /// What went wrong, in words, for the status line.
    pub reason: String,
}

impl Default for ServiceRun {
    fn default() -> Self {
        ServiceRun {
            main: None,
            control: None,
            command: None,
            main_command: 0,
            populated: false,
            result: ServiceResult::Success,
            main_status: None,
            reload_failed: false,
            reload_began: Monotonic::default(),
            notify_state: NotifyState::Unknown,
            notify_access: None,
            watchdog_limit: None,
            restarts: 0,
            flush_restarts: false,
            stop_requested: false,
            idle_wait: false,
            status_text: String::new(),
            errno: None,
            bus_error: String::new(),
            reason: String::new(),
        }
    }
}

/// Work that is to be done on a unit. There is at most one job a unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// A reload that was a start before the start was done: it must come to as much as a start, for whoever waits for that.
    #[serde(default)]
    pub(super) starts: bool,
    /// When it was asked for.
    pub since: Monotonic,
    /// When it has taken too long.
    pub(super) deadline: Option<Monotonic>,
}

impl Job {
    /// Whether the unit is to be up when it is done.
    pub(super) fn starts(&self) -> bool {
        self.starts || matches!(self.kind, JobKind::Start | JobKind::VerifyActive)
    }
}

/// Counts how often something happens within a span.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RateLimit {
    window: Option<Monotonic>,
    count: u32,
}

impl RateLimit {
    /// Counts once more at `now`; false when that is one too many. A span or a burst of 0 is no limit.
    pub fn admit(&mut self, now: Monotonic, interval: Monotonic, burst: u32) -> bool {
        if interval.0 == 0 || burst == 0 {
            return true;
        }
        match self.window {
            Some(begin) if now < begin.after(interval) => {
                if self.count >= burst {
                    return false;
                }
                self.count = self.count.saturating_add(1);
            }
            _ => {
                self.window = Some(now);
                self.count = 1;
            }
        }
        true
    }

    /// Forgets everything (`reset-failed`).
    pub fn reset(&mut self) {
        *self = RateLimit::default();
    }

    /// When the window that counts now began.
    pub(super) fn began(&self) -> Option<Monotonic> {
        self.window
    }
}

/// When a unit last passed from one coarse state to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// It began to start.
    pub inactive_exit: Option<Monotonic>,
    /// It was up.
    pub active_enter: Option<Monotonic>,
    /// It was no longer up.
    pub active_exit: Option<Monotonic>,
    /// It was down.
    pub inactive_enter: Option<Monotonic>,
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
    /// State of its processes.
    pub run: ServiceRun,
    /// The shell is looking at the unit's conditions.
    pub(super) checking: bool,
    /// What the last check of conditions came to, when they were not met; nothing is met before the first (empty).
    pub condition: Option<String>,
    /// When `sub` last changed.
    pub changed_at: Monotonic,
    /// When it became active, while it is not down again.
    pub active_since: Option<Monotonic>,
    /// Changes of the coarse state.
    pub times: Times,
    /// A mount, swap or device is there.
    pub present: bool,
    /// The timer or path unit that its start is owed to, until it is down again.
    pub activated_by: Option<UnitId>,
    /// When a timer last elapsed.
    pub last_trigger: Option<Monotonic>,
    /// When a timer elapses next.
    pub next_elapse: Option<Monotonic>,
    /// Connections that a socket has accepted.
    pub accepted: u32,
    /// The last start came to nothing for being one too many.
    pub(super) limit_hit: bool,
    /// Starts lately.
    pub(super) limit: RateLimit,
    /// How often it started another unit lately.
    pub(super) trigger_limit: RateLimit,
    /// Starts lately because another unit upholds this one.
    pub(super) uphold_limit: RateLimit,
    /// What ends the current state.
    pub(super) deadline: Option<Monotonic>,
    /// When the service must have sent `WATCHDOG=1`.
    pub(super) watchdog: Option<Monotonic>,
    /// When to look again whether it is to be upheld.
    pub(super) uphold_at: Option<Monotonic>,
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
            condition: Some(String::new()),
            changed_at: Monotonic::default(),
            active_since: None,
            times: Times::default(),
            present: false,
            activated_by: None,
            last_trigger: None,
            next_elapse: None,
            accepted: 0,
            limit_hit: false,
            limit: RateLimit::default(),
            trigger_limit: RateLimit::default(),
            uphold_limit: RateLimit::default(),
            deadline: None,
            watchdog: None,
            uphold_at: None,
        }
    }

    /// The coarse state.
    pub fn active(&self) -> ActiveState {
        self.active_in(self.sub)
    }

    /// The coarse state that `sub` would be. A service of `Type=idle` counts as active from the first step of its start:
    /// nobody is to wait for it.
    pub(super) fn active_in(&self, sub: SubState) -> ActiveState {
        let idle = self.spec.service.as_ref().is_some_and(|service| service.kind == ServiceType::Idle);
        if idle && sub.is_starting() { ActiveState::Active } else { sub.active_state() }
    }

    /// The word for the fine state.
    pub fn sub_word(&self) -> &'static str {
        self.sub.word_of(self.spec.kind)
    }

    /// Units that stand in this relation.
    pub fn related(&self, edge: Edge) -> impl Iterator<Item = UnitId> + '_ {
        self.edges.iter().filter(move |(kind, _)| *kind == edge).map(|(_, unit)| *unit)
    }

    pub(super) fn is_related(&self, edge: Edge, other: UnitId) -> bool {
        self.edges.binary_search(&(edge, other)).is_ok()
    }

    /// The one unit that a socket, timer or path unit starts.
    pub fn triggered(&self) -> Option<UnitId> {
        self.related(Edge::Triggers).next()
    }

    pub(super) fn has_job(&self, kind: JobKind) -> bool {
        self.job.as_ref().is_some_and(|job| job.kind == kind)
    }
}
