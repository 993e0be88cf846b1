//! What goes into the state machine and what comes out of it.

use serde::{Deserialize, Serialize};

use super::notification::Notification;
use super::service_spec::{ExitStatus, Phase};
use super::spec::{Action, Monotonic, UnitId};

/// A process that the supervisor asked for. Its own numbers, because PIDs come late and are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId(pub u64);

/// A job's number, as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u32);

/// What the outside world tells the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Answer to [`Effect::CheckConditions`].
    Conditions {
        /// The unit that asked.
        unit: UnitId,
        /// What they came to.
        outcome: ConditionOutcome,
    },
    /// Answer to [`Effect::Spawn`]: the process exists.
    Spawned {
        /// The one that was asked for.
        process: ProcessId,
        /// Its PID.
        pid: u32,
    },
    /// The process now runs the program (its `execve` went well).
    Executed {
        /// The process.
        process: ProcessId,
    },
    /// Answer to [`Effect::Spawn`]: there is no process, or no program in it. Nothing more will come for it.
    SpawnFailed {
        /// The one that was asked for.
        process: ProcessId,
        /// The exit code that systemd would give it (`203/EXEC` and the like); `None` where systemd would not have made
        /// a process at all, which is result `resources`.
        code: Option<i32>,
        /// Why, for people.
        reason: String,
    },
    /// The process has ended and was reaped.
    Exited {
        /// The process.
        process: ProcessId,
        /// How.
        status: ExitStatus,
    },
    /// A message on the notify socket from a process of the unit.
    Notify {
        /// The unit whose cgroup the sender is in.
        unit: UnitId,
        /// The sender, when it is one of the supervisor's own processes.
        from: Option<ProcessId>,
        /// The message.
        message: Notification,
    },
    /// The last process of the unit's cgroup is gone.
    GroupEmpty {
        /// The unit.
        unit: UnitId,
    },
    /// Answer to [`Effect::FindMain`].
    MainFound {
        /// The unit.
        unit: UnitId,
        /// The daemon's PID, when it is known and alive.
        pid: Option<u32>,
    },
    /// The kernel has killed a process of the unit for want of memory.
    OutOfMemory {
        /// The unit.
        unit: UnitId,
    },
    /// Answer to [`Effect::Listen`].
    Listening {
        /// The socket.
        unit: UnitId,
        /// Why it does not listen.
        error: Option<String>,
    },
    /// Something came in on a socket without `Accept=`.
    Traffic {
        /// The socket.
        unit: UnitId,
    },
    /// A connection was accepted for a socket with `Accept=yes`.
    Connection {
        /// The socket.
        unit: UnitId,
        /// The instance that is to have it.
        service: UnitId,
    },
    /// Answer to [`Effect::ArmTimer`].
    TimerArmed {
        /// The timer.
        unit: UnitId,
        /// When it elapses next; `None` is never again.
        next: Option<Monotonic>,
        /// One of its lines counts from what its unit does, so that it may elapse again after all.
        may_return: bool,
    },
    /// What a path unit looks for has happened or is the case.
    PathChanged {
        /// The path unit.
        unit: UnitId,
    },
    /// Somebody has set the clock: calendars are to be read anew.
    ClockChanged,
    /// A mount, swap or device is there, or is not any more.
    Presence {
        /// The unit.
        unit: UnitId,
        /// Whether it is there.
        present: bool,
    },
    /// Time has passed; `now` says how much.
    Timer,
}

/// What `Condition*=` and `Assert*=` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionOutcome {
    /// The unit may start.
    Met,
    /// A condition is not met: the unit is skipped, which is no failure.
    Unmet(String),
    /// An assertion is not met: the start fails.
    AssertFailed(String),
}

/// Which command of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandRef {
    /// The list it is in.
    pub phase: Phase,
    /// Its place in the list, from 0.
    pub index: usize,
}

/// Who a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillTarget {
    /// One process.
    Process(ProcessId),
    /// Everything in the unit's cgroup.
    Group,
}

/// How a machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum PowerAction {
    PowerOff,
    Reboot,
    Halt,
}

/// What a job does to its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of systemctl's verbs")]
pub enum JobKind {
    Start,
    /// Fails unless the unit is active or about to be (`Requisite=`).
    VerifyActive,
    Stop,
    Restart,
    Reload,
    /// Restart, but only what is up. Only asked for: it becomes another kind, or nothing, at once.
    TryRestart,
    /// The same for reload.
    TryReload,
    /// Reload what is up, start what is not. Only asked for.
    ReloadOrStart,
    /// What comes of asking for something that is not to be done; over as soon as it is asked for.
    Nop,
}

impl JobKind {
    /// The word that `systemctl list-jobs` shows.
    pub fn word(self) -> &'static str {
        match self {
            JobKind::Start => "start",
            JobKind::VerifyActive => "verify-active",
            JobKind::Stop => "stop",
            JobKind::Restart => "restart",
            JobKind::Reload => "reload",
            JobKind::TryRestart => "try-restart",
            JobKind::TryReload => "try-reload",
            JobKind::ReloadOrStart => "reload-or-start",
            JobKind::Nop => "nop",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of systemd's job results")]
pub enum JobResult {
    Done,
    Canceled,
    Timeout,
    Failed,
    Dependency,
    Skipped,
    Assert,
    Unsupported,
    /// The job cannot be done in the unit's state.
    Invalid,
    /// A condition is not met, so there was nothing to do: done, in systemd's words.
    Unmet,
}

impl JobResult {
    /// The word that systemd uses.
    pub fn word(self) -> &'static str {
        match self {
            JobResult::Done | JobResult::Unmet => "done",
            JobResult::Canceled => "canceled",
            JobResult::Timeout => "timeout",
            JobResult::Failed => "failed",
            JobResult::Dependency => "dependency",
            JobResult::Skipped => "skipped",
            JobResult::Assert => "assert",
            JobResult::Unsupported => "unsupported",
            JobResult::Invalid => "invalid",
        }
    }
}

/// How loud a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of syslog(3)")]
pub enum Level {
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Check the unit's conditions and answer with [`Event::Conditions`].
    CheckConditions {
        /// The unit.
        unit: UnitId,
    },
    /// Start a command in the unit's cgroup.
    Spawn {
        /// The unit.
        unit: UnitId,
        /// The number that later events will carry.
        process: ProcessId,
        /// The command.
        command: CommandRef,
        /// The unit's main process, for `$MAINPID`.
        main_pid: Option<u32>,
    },
    /// Send a signal. A group that is empty already must be answered with [`Event::GroupEmpty`].
    Kill {
        /// The unit.
        unit: UnitId,
        /// Who gets it.
        target: KillTarget,
        /// The signal's number.
        signal: i32,
    },
    /// Kill every process of the unit for good (`cgroup.kill`).
    KillGroup {
        /// The unit.
        unit: UnitId,
    },
    /// Watch a process that the unit declared its main one; its end is reported as [`Event::Exited`].
    Adopt {
        /// The unit.
        unit: UnitId,
        /// The number that later events will carry.
        process: ProcessId,
        /// The PID.
        pid: u32,
    },
    /// Find the daemon that `Type=forking` left behind; answer with [`Event::MainFound`].
    FindMain {
        /// The unit.
        unit: UnitId,
    },
    /// The unit is down: give back its cgroup and its runtime folders.
    Release {
        /// The unit.
        unit: UnitId,
        /// It will be started again soon, so `RuntimeDirectoryPreserve=restart` holds.
        restarting: bool,
        /// And that because of `Restart=`, so its cgroup is kept.
        automatically: bool,
    },
    /// Open the sockets of a socket unit, unless they are open already; answer with [`Event::Listening`].
    Listen {
        /// The socket.
        unit: UnitId,
    },
    /// Tell of what comes in on a socket (as [`Event::Traffic`] or [`Event::Connection`]), or stop telling.
    WatchSocket {
        /// The socket.
        unit: UnitId,
        /// Whether to tell.
        watch: bool,
    },
    /// Close the sockets of a socket unit.
    CloseSocket {
        /// The socket.
        unit: UnitId,
    },
    /// Close the connection that was meant for a service which is not started after all.
    DropConnection {
        /// The instance.
        service: UnitId,
    },
    /// Work out when a timer elapses next, and answer with [`Event::TimerArmed`].
    ArmTimer {
        /// The timer.
        unit: UnitId,
    },
    /// A timer has elapsed: note the time, if it is to be remembered across boots.
    TimerElapsed {
        /// The timer.
        unit: UnitId,
    },
    /// Watch the paths of a path unit, and tell with [`Event::PathChanged`] when one is as wanted.
    WatchPath {
        /// The path unit.
        unit: UnitId,
        /// Paths that are looked at for changes count as unchanged now.
        first: bool,
    },
    /// Watch them no longer.
    UnwatchPath {
        /// The path unit.
        unit: UnitId,
    },
    /// `FailureAction=` and its kin.
    Act {
        /// What is to be done.
        action: Action,
        /// Why.
        reason: String,
    },
    /// The unit's state is another one now.
    Changed {
        /// The unit.
        unit: UnitId,
    },
    /// A job is over.
    JobFinished {
        /// Its number.
        job: JobId,
        /// Its unit.
        unit: UnitId,
        /// What it was.
        kind: JobKind,
        /// How it ended.
        result: JobResult,
    },
    /// Something that people should read.
    Log {
        /// The unit that it is about.
        unit: Option<UnitId>,
        /// How loud.
        level: Level,
        /// The text, one line.
        text: String,
    },
    /// Everything is stopped: take the machine down.
    Power(PowerAction),
}
