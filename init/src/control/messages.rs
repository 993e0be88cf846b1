//! What client and server say to each other.

use serde::{Deserialize, Serialize};

/// A method call. `method` and `parameters` are varlink's envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// The method with its parameters.
    #[serde(flatten)]
    pub method: Method,
}

/// The methods.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "method", content = "parameters")]
pub enum Method {
    /// A job for one unit. Answered at once, or when the job is over if `wait` is set.
    #[serde(rename = "org.ferrite.Init.Job")]
    Job(JobRequest),
    /// All units.
    #[serde(rename = "org.ferrite.Init.List")]
    List {},
    /// One unit, loaded if it was not yet.
    #[serde(rename = "org.ferrite.Init.Show")]
    Show {
        /// Name or alias.
        unit: String,
    },
    /// The states of these units, and nothing that has to be looked up for it: for who asks often. Units that are not loaded are
    /// left out.
    #[serde(rename = "org.ferrite.Init.States")]
    States {
        /// Names or aliases.
        units: Vec<String>,
    },
    /// Waiting and running jobs.
    #[serde(rename = "org.ferrite.Init.Jobs")]
    Jobs {},
    /// `daemon-reload`
    #[serde(rename = "org.ferrite.Init.Reload")]
    Reload {},
    /// `daemon-reexec`
    #[serde(rename = "org.ferrite.Init.Reexec")]
    Reexec {},
    /// `list-timers`
    #[serde(rename = "org.ferrite.Init.Timers")]
    Timers {},
    /// `list-sockets`
    #[serde(rename = "org.ferrite.Init.Sockets")]
    Sockets {},
    /// `cancel`, of one job or of all.
    #[serde(rename = "org.ferrite.Init.Cancel")]
    Cancel {
        /// The job's number; all when absent.
        job: Option<u32>,
    },
    /// `reset-failed`, of one unit or of all.
    #[serde(rename = "org.ferrite.Init.ResetFailed")]
    ResetFailed {
        /// The unit; all when absent.
        unit: Option<String>,
    },
    /// A signal to a unit's processes.
    #[serde(rename = "org.ferrite.Init.Kill")]
    Kill {
        /// The unit.
        unit: String,
        /// The signal's number.
        signal: i32,
        /// `all`, `main` or `control`; `all` when absent.
        #[serde(default)]
        whom: String,
    },
    /// The manager's own properties.
    #[serde(rename = "org.ferrite.Init.Manager")]
    Manager {},
    /// The environment that every service sees; changed first, if there is something to change.
    #[serde(rename = "org.ferrite.Init.Environment")]
    Environment {
        /// Assignments.
        #[serde(default)]
        set: Vec<String>,
        /// Names, or assignments that go only if they are just so.
        #[serde(default)]
        unset: Vec<String>,
    },
    /// Stops a unit's processes where they are, or lets them go on.
    #[serde(rename = "org.ferrite.Init.Freeze")]
    Freeze {
        /// The unit.
        unit: String,
        /// False lets them go on.
        freeze: bool,
    },
    /// The state of the machine as a whole.
    #[serde(rename = "org.ferrite.Init.State")]
    State {},
    /// Down, without stopping units in order.
    #[serde(rename = "org.ferrite.Init.ForcePower")]
    ForcePower {
        /// `poweroff`, `reboot` or `halt`.
        action: String,
    },
}

/// A wish for a unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobRequest {
    /// Name or alias.
    pub unit: String,
    /// `start`, `stop`, `restart`, `try-restart`, `reload`, `reload-or-restart`, `try-reload-or-restart`.
    pub verb: String,
    /// A word of `--job-mode=`, systemctl(1).
    pub mode: String,
    /// Answer when the job is over.
    pub wait: bool,
}

/// A call that was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is said of it.
    pub text: String,
    /// What programs go by.
    #[serde(default)]
    pub kind: RefusalKind,
}

/// Kinds of refusals, as far as `systemctl` ends with different exit statuses for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// Any other.
    #[default]
    Other,
    /// There is no such unit.
    NoSuchUnit,
    /// Units of this kind, or with such a file, have nothing of the sort.
    NotApplicable,
    /// Not now, or not for whoever asks.
    NotPermitted,
}

impl From<String> for Refusal {
    fn from(text: String) -> Refusal {
        Refusal { text, kind: RefusalKind::Other }
    }
}

/// The answer to a call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reply {
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Answer>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// What a call can be answered with; only what the method speaks of is there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    /// How the job ended (systemd's words: `done`, `failed`, `dependency`, ...); `queued` when it was not waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<UnitView>,
    /// Jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobView>,
    /// Timers that are not dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<TimerView>,
    /// What loaded socket units listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketView>,
    /// Properties of the manager, or variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<(String, String)>,
    /// `initializing`, `starting`, `running`, `degraded`, `maintenance`, `stopping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A unit as `systemctl` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UnitView {
    /// Name.
    pub name: String,
    /// `Description=`
    pub description: String,
    /// systemd's word for the load state.
    pub load: String,
    /// What is wrong with the file.
    pub load_error: String,
    /// systemd's word for the coarse state.
    pub active: String,
    /// systemd's word for the fine state.
    pub sub: String,
    /// systemd's word for the last result.
    pub result: String,
    /// What went wrong, in words.
    pub reason: String,
    /// `STATUS=` of the service.
    pub status_text: String,
    /// Files, the main one first.
    pub paths: Vec<String>,
    /// `Documentation=`
    pub documentation: Vec<String>,
    /// Main process, 0 when there is none.
    pub main_pid: u32,
    /// All processes.
    pub pids: Vec<u32>,
    /// How the last main process ended: `exited` or `killed` or `dumped`, and the number.
    pub main_exit: Option<(String, i32)>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Restarts by `Restart=`.
    pub restarts: u32,
    /// The unmet condition of the last start.
    pub condition: Option<String>,
    /// The job's word, if there is one.
    pub job: Option<String>,
    /// Microseconds of `CLOCK_MONOTONIC` when the state changed.
    pub changed_at: u64,
    /// Microseconds of `CLOCK_MONOTONIC` when it became active.
    pub active_since: Option<u64>,
    /// Microseconds of `CLOCK_MONOTONIC` when it began to start, was up, was no longer up and was down; 0 is never.
    #[serde(default)]
    pub times: [u64; 4],
    /// `Type=` and the like, for `show`: more properties under systemd's names.
    pub properties: Vec<(String, String)>,
}

/// A timer as `systemctl list-timers` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TimerView {
    /// The timer.
    pub unit: String,
    /// What it starts.
    pub activates: String,
    /// Microseconds since the epoch when it elapses next.
    pub next: Option<i64>,
    /// Microseconds since the epoch when it last elapsed.
    pub last: Option<i64>,
    /// systemd's word for the coarse state.
    pub active: String,
}

/// Something that a socket unit listens on, as `systemctl list-sockets` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SocketView {
    /// The socket unit.
    pub unit: String,
    /// What it starts.
    pub activates: String,
    /// The address.
    pub listen: String,
    /// `Stream`, `FIFO` and so on.
    pub kind: String,
    /// systemd's word for the coarse state.
    pub active: String,
}

/// A job as `systemctl list-jobs` shows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JobView {
    /// Number.
    pub id: u32,
    /// Unit.
    pub unit: String,
    /// `start`, `stop`, ...
    pub kind: String,
    /// `waiting` or `running`.
    pub state: String,
}
