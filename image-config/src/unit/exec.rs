//! How a process is run: the settings of systemd.exec(5) that are understood.

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
