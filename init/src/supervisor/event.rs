//! What goes into the state machine and what comes out of it.

use super::spec::{ExitStatus, Phase, UnitId};

/// A process that the supervisor asked for. Its own numbers, because PIDs come late and are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

/// A job's number, as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        /// The exit code that systemd would give it (`203/EXEC` and the like).
        code: i32,
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

/// One datagram of the notify protocol, sd_notify(3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// `READY=1`
    pub ready: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `RELOADING=1`
    pub reloading: bool,
    /// `WATCHDOG=1`
    pub watchdog: bool,
    /// `WATCHDOG=trigger`
    pub watchdog_trigger: bool,
    /// `STATUS=`
    pub status: Option<String>,
    /// `MAINPID=`
    pub main_pid: Option<u32>,
    /// `EXTEND_TIMEOUT_USEC=`
    pub extend_timeout: Option<u64>,
    /// `ERRNO=`
    pub errno: Option<i32>,
}

impl Notification {
    /// Reads a datagram; lines that are unknown or malformed are skipped, as the protocol asks.
    pub fn parse(datagram: &[u8]) -> Notification {
        let mut message = Notification::default();
        for line in datagram.split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let Some((key, value)) = text.split_once('=') else { continue };
            match (key, value) {
                ("READY", "1") => message.ready = true,
                ("STOPPING", "1") => message.stopping = true,
                ("RELOADING", "1") => message.reloading = true,
                ("WATCHDOG", "1") => message.watchdog = true,
                ("WATCHDOG", "trigger") => message.watchdog_trigger = true,
                ("STATUS", text) => message.status = Some(text.chars().take(MAX_STATUS_CHARS).collect()),
                ("MAINPID", pid) => message.main_pid = pid.parse().ok().filter(|pid| *pid > 1),
                ("EXTEND_TIMEOUT_USEC", span) => message.extend_timeout = span.parse().ok(),
                ("ERRNO", errno) => message.errno = errno.parse().ok(),
                _ => {}
            }
        }
        message
    }
}

/// Longest `STATUS=` that is kept: PID 1's memory must not be a service's to spend.
const MAX_STATUS_CHARS: usize = 256;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of systemctl's verbs")]
pub enum JobKind {
    Start,
    /// Fails unless the unit is active or about to be (`Requisite=`).
    VerifyActive,
    Stop,
    Restart,
    Reload,
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
}

impl JobResult {
    /// The word that systemd uses.
    pub fn word(self) -> &'static str {
        match self {
            JobResult::Done => "done",
            JobResult::Canceled => "canceled",
            JobResult::Timeout => "timeout",
            JobResult::Failed => "failed",
            JobResult::Dependency => "dependency",
            JobResult::Skipped => "skipped",
            JobResult::Assert => "assert",
            JobResult::Unsupported => "unsupported",
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
