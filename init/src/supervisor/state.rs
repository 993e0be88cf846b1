//! systemd's words for what a unit is doing.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::spec::UnitKind;

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

/// systemd's fine state of a unit. One list for all kinds of unit: see [`SubState::word_of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    ReloadSignal,
    ReloadNotify,
    Stop,
    StopWatchdog,
    StopSigterm,
    StopSigkill,
    StopPost,
    FinalWatchdog,
    FinalSigterm,
    FinalSigkill,
    /// Down for a moment, with a restart to come.
    DeadBeforeAutoRestart,
    FailedBeforeAutoRestart,
    /// Waiting out the delay before a restart.
    AutoRestart,
    /// The restart's job is there.
    AutoRestartQueued,
    Failed,
    /// A target, slice or swap that is reached; a mount that is mounted, a device that is plugged.
    Active,
    /// A socket that waits for something to come in.
    Listening,
    /// A timer or path unit that waits.
    Waiting,
    /// A timer that will not elapse again.
    Elapsed,
}

impl SubState {
    /// The coarse state that this one is part of.
    pub fn active_state(self) -> ActiveState {
        match self {
            SubState::Dead | SubState::DeadBeforeAutoRestart => ActiveState::Inactive,
            SubState::Failed | SubState::FailedBeforeAutoRestart => ActiveState::Failed,
            SubState::Condition
            | SubState::StartPre
            | SubState::Start
            | SubState::StartPost
            | SubState::AutoRestart
            | SubState::AutoRestartQueued => ActiveState::Activating,
            SubState::Running
            | SubState::Exited
            | SubState::Active
            | SubState::Listening
            | SubState::Waiting
            | SubState::Elapsed => ActiveState::Active,
            SubState::Reload | SubState::ReloadSignal | SubState::ReloadNotify => ActiveState::Reloading,
            SubState::Stop
            | SubState::StopWatchdog
            | SubState::StopSigterm
            | SubState::StopSigkill
            | SubState::StopPost
            | SubState::FinalWatchdog
            | SubState::FinalSigterm
            | SubState::FinalSigkill => ActiveState::Deactivating,
        }
    }

    /// A start that somebody or something asked for is being worked on.
    pub fn is_starting(self) -> bool {
        matches!(self, SubState::Condition | SubState::StartPre | SubState::Start | SubState::StartPost)
    }

    /// A reload is being worked on.
    pub fn is_reloading(self) -> bool {
        matches!(self, SubState::Reload | SubState::ReloadSignal | SubState::ReloadNotify)
    }

    /// A restart is to come.
    pub fn is_auto_restart(self) -> bool {
        matches!(self, SubState::AutoRestart | SubState::AutoRestartQueued)
    }

    /// The word that `systemctl` shows for a unit of this kind.
    pub fn word_of(self, kind: UnitKind) -> &'static str {
        use SubState as S;
        match (kind, self) {
            (UnitKind::Socket, S::Start) => "start-open",
            (UnitKind::Socket, S::Stop) => "stop-pre",
            (UnitKind::Socket, S::StopSigterm) => "stop-pre-sigterm",
            (UnitKind::Socket, S::StopSigkill) => "stop-pre-sigkill",
            (UnitKind::Mount, S::StartPre | S::Start | S::StartPost) => "mounting",
            (UnitKind::Mount, S::Active) => "mounted",
            (UnitKind::Mount, S::Reload) => "remounting",
            (UnitKind::Mount, S::Stop | S::StopPost) => "unmounting",
            (UnitKind::Mount, S::StopSigterm | S::FinalSigterm) => "unmounting-sigterm",
            (UnitKind::Mount, S::StopSigkill | S::FinalSigkill) => "unmounting-sigkill",
            (UnitKind::Swap, S::StartPre | S::Start | S::StartPost) => "activating",
            (UnitKind::Swap, S::Stop | S::StopPost) => "deactivating",
            (UnitKind::Swap, S::StopSigterm | S::FinalSigterm) => "deactivating-sigterm",
            (UnitKind::Swap, S::StopSigkill | S::FinalSigkill) => "deactivating-sigkill",
            (UnitKind::Device, S::Active) => "plugged",
            _ => self.word(),
        }
    }

    /// The word that `systemctl` shows for a service, target or slice.
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
            SubState::ReloadSignal => "reload-signal",
            SubState::ReloadNotify => "reload-notify",
            SubState::Stop => "stop",
            SubState::StopWatchdog => "stop-watchdog",
            SubState::StopSigterm => "stop-sigterm",
            SubState::StopSigkill => "stop-sigkill",
            SubState::StopPost => "stop-post",
            SubState::FinalWatchdog => "final-watchdog",
            SubState::FinalSigterm => "final-sigterm",
            SubState::FinalSigkill => "final-sigkill",
            SubState::DeadBeforeAutoRestart => "dead-before-auto-restart",
            SubState::FailedBeforeAutoRestart => "failed-before-auto-restart",
            SubState::AutoRestart => "auto-restart",
            SubState::AutoRestartQueued => "auto-restart-queued",
            SubState::Failed => "failed",
            SubState::Active => "active",
            SubState::Listening => "listening",
            SubState::Waiting => "waiting",
            SubState::Elapsed => "elapsed",
        }
    }
}

/// Why a unit is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    OomKill,
    ExecCondition,
    /// Of a socket or path unit that was triggered too often.
    TriggerLimitHit,
    /// Of a socket whose service was started too often.
    ServiceStartLimitHit,
    /// Of a path unit whose unit was started too often.
    UnitStartLimitHit,
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
            ServiceResult::OomKill => "oom-kill",
            ServiceResult::ExecCondition => "exec-condition",
            ServiceResult::TriggerLimitHit => "trigger-limit-hit",
            ServiceResult::ServiceStartLimitHit => "service-start-limit-hit",
            ServiceResult::UnitStartLimitHit => "unit-start-limit-hit",
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
