//! How a process is run: the settings of systemd.exec(5) that are understood, but for those of [`super::sandbox`].

use super::sandbox::Sandbox;
use super::value::TimeSpan;

/// Environment, identity, folders, limits and standard streams of a unit's processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecContext {
    /// `Environment=` in order; of two settings of one name the later wins.
    pub environment: Vec<(String, String)>,
    /// `EnvironmentFile=` in order; read when the process starts, and stronger than `environment`.
    pub environment_files: Vec<EnvironmentFile>,
    /// `PassEnvironment=`: names taken over from the service manager.
    pub pass_environment: Vec<String>,
    /// `UnsetEnvironment=`: names, or whole assignments, removed at the very end.
    pub unset_environment: Vec<String>,
    /// `User=`: name or number; `None` is root.
    pub user: Option<String>,
    /// `Group=`: name or number; `None` is the user's primary group.
    pub group: Option<String>,
    /// `SupplementaryGroups=`.
    pub supplementary_groups: Vec<String>,
    /// `WorkingDirectory=`.
    pub working_directory: WorkingDirectory,
    /// `UMask=`; `None` is 0o022.
    pub umask: Option<u32>,
    /// `Nice=`, -20 to 19.
    pub nice: Option<i32>,
    /// `CoredumpFilter=`: bits of `/proc/PID/coredump_filter`, core(5).
    pub coredump_filter: Option<u64>,
    /// `OOMScoreAdjust=`, -1000 to 1000.
    pub oom_score_adjust: Option<i32>,
    /// `NoNewPrivileges=`.
    pub no_new_privileges: bool,
    /// `IgnoreSIGPIPE=`; `None` is yes.
    pub ignore_sigpipe: Option<bool>,
    /// `RuntimeDirectory=` and its kin, in the order of systemd's documentation.
    pub runtime_directory: ServiceDirectory,
    /// `StateDirectory=`, below `/var/lib`.
    pub state_directory: ServiceDirectory,
    /// `CacheDirectory=`, below `/var/cache`.
    pub cache_directory: ServiceDirectory,
    /// `LogsDirectory=`, below `/var/log`.
    pub logs_directory: ServiceDirectory,
    /// `ConfigurationDirectory=`, below `/etc`.
    pub configuration_directory: ServiceDirectory,
    /// `RuntimeDirectoryPreserve=`.
    pub runtime_directory_preserve: DirectoryPreserve,
    /// `Limit...=`; at most one entry a resource.
    pub limits: Vec<ResourceLimit>,
    /// `StandardInput=`.
    pub standard_input: Input,
    /// `StandardOutput=`; `None`: inherited when the input is a terminal or socket, else the journal.
    pub standard_output: Option<Output>,
    /// `StandardError=`; `None`: as the output.
    pub standard_error: Option<Output>,
    /// `TTYPath=`; `None` is `/dev/console`.
    pub tty_path: Option<String>,
    /// `TTYReset=`.
    pub tty_reset: bool,
    /// `TTYVHangup=`.
    pub tty_vhangup: bool,
    /// `TTYVTDisallocate=`.
    pub tty_vt_disallocate: bool,
    /// `SyslogIdentifier=`; `None` is the program's name.
    pub syslog_identifier: Option<String>,
    /// `SyslogLevel=`, 0 (emergency) to 7 (debug); `None` is 6.
    pub syslog_level: Option<u8>,
    /// `SyslogFacility=`, 0 to 23; `None` is 3 (daemon).
    pub syslog_facility: Option<u8>,
    /// `SyslogLevelPrefix=`; `None` is yes.
    pub syslog_level_prefix: Option<bool>,
    /// `LogRateLimitIntervalSec=`; `None` is the journal's own.
    pub log_rate_limit_interval: Option<TimeSpan>,
    /// `LogRateLimitBurst=`, messages; `None` is the journal's own.
    pub log_rate_limit_burst: Option<u32>,
    /// `LogLevelMax=`, 0 to 7: what is more talkative is not kept.
    pub log_level_max: Option<u8>,
    /// `StandardInputText=` and `StandardInputData=`.
    pub input_data: Vec<u8>,
    /// `SetLoginEnvironment=`; `None` is yes when there is a user.
    pub set_login_environment: Option<bool>,
    /// `ExecSearchPath=`; empty is [`super::value::SEARCH_PATH`].
    pub search_path: Vec<String>,
    /// `PAMName=`. There is no PAM in PID 1: what it stands for is the session's environment alone.
    pub pam_name: Option<String>,
    /// `LoadCredential=`: identifier, and the absolute path or name in the credential stores.
    pub load_credentials: Vec<(String, String)>,
    /// `SetCredential=`: identifier and content.
    pub set_credentials: Vec<(String, Vec<u8>)>,
    /// `CPUSchedulingPolicy=`, `CPUSchedulingPriority=`, `IOSchedulingClass=` and so on.
    pub scheduling: Scheduling,
    /// `Personality=`, as personality(2) takes it.
    pub personality: Option<u32>,
    /// What the processes may see and do.
    pub sandbox: Sandbox,
}

/// How the kernel shares its time out to a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// `CPUSchedulingPolicy=`, as sched_setscheduler(2) counts them.
    pub policy: Option<u32>,
    /// `CPUSchedulingPriority=`, 1 to 99.
    pub priority: Option<i32>,
    /// `CPUSchedulingResetOnFork=`.
    pub reset_on_fork: bool,
    /// `IOSchedulingClass=`, as ioprio_set(2) counts them.
    pub io_class: Option<u8>,
    /// `IOSchedulingPriority=`, 0 to 7.
    pub io_priority: Option<u8>,
    /// `CPUAffinity=`: numbers of CPUs, in order; empty is any.
    pub cpu_affinity: Vec<u32>,
    /// `TimerSlackNSec=`, in nanoseconds.
    pub timer_slack: Option<u64>,
}

/// One `EnvironmentFile=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentFile {
    /// Absolute path, possibly with wildcards.
    pub path: String,
    /// Written with `-`: need not exist.
    pub optional: bool,
}

/// `WorkingDirectory=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WorkingDirectory {
    /// `/`, which is also what nothing written means.
    #[default]
    Root,
    /// `~`: the home folder of the user.
    Home {
        /// Written with `-`: `/` if it does not exist.
        optional: bool,
    },
    /// An absolute path.
    Path {
        /// The path.
        path: String,
        /// Written with `-`: `/` if it does not exist.
        optional: bool,
    },
}

/// One of `RuntimeDirectory=`, `StateDirectory=` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceDirectory {
    /// Relative paths without `..`.
    pub paths: Vec<String>,
    /// Of the paths that were written as `path:link`, the path and the link to be made to it.
    pub links: Vec<(String, String)>,
    /// `...DirectoryMode=`; `None` is 0o755.
    pub mode: Option<u32>,
}

/// `RuntimeDirectoryPreserve=`: whether `/run/...` outlives the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DirectoryPreserve {
    /// Removed when the service stops.
    #[default]
    No,
    /// Stays when the service is restarted.
    Restart,
    /// Stays.
    Yes,
}

/// One `Limit...=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Which one.
    pub resource: Resource,
    /// Soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` is unlimited. Not below the soft one.
    pub hard: Option<u64>,
}

/// A limited resource, numbered as Linux does (`RLIMIT_...`, asm-generic).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "getrlimit(2) describes each under its own name")]
#[repr(u32)]
pub enum Resource {
    Cpu = 0,
    Fsize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Rss = 5,
    Nproc = 6,
    Nofile = 7,
    Memlock = 8,
    As = 9,
    Locks = 10,
    Sigpending = 11,
    Msgqueue = 12,
    Nice = 13,
    Rtprio = 14,
    Rttime = 15,
}

/// `StandardInput=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Input {
    /// `/dev/null`.
    #[default]
    Null,
    /// The terminal at [`ExecContext::tty_path`], waiting until it is free.
    Tty,
    /// The terminal, taken from whoever has it.
    TtyForce,
    /// The terminal; the start fails when somebody has it.
    TtyFail,
    /// The socket that started the service.
    Socket,
    /// A named descriptor of a socket unit.
    Fd(String),
    /// A file.
    File(String),
    /// What [`ExecContext::input_data`] holds.
    Data,
}

/// `StandardOutput=` and `StandardError=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The input's, or for errors the output's.
    Inherit,
    /// `/dev/null`.
    Null,
    /// The terminal at [`ExecContext::tty_path`].
    Tty,
    /// The journal.
    Journal,
    /// The kernel's log.
    Kmsg,
    /// The journal and the console.
    JournalConsole,
    /// The kernel's log and the console.
    KmsgConsole,
    /// A file, written from its start without cutting it.
    File(String),
    /// A file, written at its end.
    Append(String),
    /// A file, emptied first.
    Truncate(String),
    /// The socket that started the service.
    Socket,
    /// A named descriptor of a socket unit.
    Fd(String),
}
