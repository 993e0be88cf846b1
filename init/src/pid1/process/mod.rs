//! How a process of a service comes to be: everything between clone and execve, systemd.exec(5).
//!
//! All of this runs in the child ([`crate::sys::spawn`]), so it may wait for whatever it likes: a name to be looked up, a
//! file on a dead network, a mount. Each step that fails ends the process with the exit code that systemd has for it,
//! and a text that names the setting and the reason. Start reading at [`become_program`]: the steps in their order. Processes
//! with nothing to wait for, which most are, come about without all that: `direct`.
//!
//! Deliberately absent: PAM (`PAMName=` sets up the session's environment alone, for there is no libpam in a static
//! binary), name services beyond `/etc/passwd` and `/etc/group`, AppArmor, SELinux and SMACK.

mod capabilities;
mod control_group;
mod credentials;
mod devices;
mod direct;
mod environment;
mod folders;
mod identity;
mod kernel;
mod mounts;
mod namespaces;
mod open_files;
mod seccomp;
mod streams;

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use image_config::unit::value::SEARCH_PATH;
use image_config::unit::{ExecCommand, ExecContext, Sandbox, Service, WorkingDirectory};

pub use self::credentials::folder as credentials_folder;
pub use self::direct::launch;
pub use self::environment::locale;
pub use self::environment::machine as machine_environment;
pub use self::folders::{private_tmp_folders, runtime_folders};
use self::identity::Identity;
pub use self::kernel::have_many_open_files;
use crate::pid1::manager::ManagerEnvironment;
use crate::supervisor::Phase;
use crate::sys::setup;
use crate::sys::spawn::{self, Failure, ReportPipe};

/// What a command is to be run with, beyond its unit file.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// Prefix of the machine's folders; `/` but in tests.
    pub root: &'a Path,
    /// Name of the unit.
    pub unit: &'a str,
    /// Its service part.
    pub service: &'a Service,
    /// Which list the command is in.
    pub phase: Phase,
    /// The main process, for `$MAINPID` and to share its namespaces.
    pub main_pid: Option<u32>,
    /// Variables that the supervisor sets.
    pub variables: Vec<(&'static str, String)>,
    /// Where output for the log goes.
    pub log: BorrowedFd<'a>,
    /// What all processes of this start of the unit share.
    pub run: &'a RunIdentity,
    /// Descriptors to be handed over as 3 and following, each with its name: those of socket units, stored ones.
    pub descriptors: Vec<(OwnedFd, String)>,
    /// Folder of its cgroup.
    pub cgroup: Option<PathBuf>,
    /// The machine's language.
    pub locale: &'a [(String, String)],
    /// What every service sees.
    pub manager: &'a ManagerEnvironment,
}

/// What one start of a unit has for itself, until the unit is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// 128 random bits in hex: `$INVOCATION_ID`.
    pub invocation: String,
    /// The user and group id of `DynamicUser=`, if no such user exists.
    pub dynamic_id: Option<u32>,
}

impl RunIdentity {
    /// Range of ids for `DynamicUser=`, systemd's `DYNAMIC_UID_MIN` and `_MAX`.
    pub const DYNAMIC_IDS: std::ops::RangeInclusive<u32> = 61184..=65519;

    /// A new one. The id begins from a hash of the unit's name, so that it is mostly the same from start to start, and
    /// goes on to the next that `is_taken` does not know.
    pub fn new(unit: &str, dynamic: bool, is_taken: impl Fn(u32) -> bool) -> RunIdentity {
        let mut bytes = [0_u8; 16];
        // Never waits for the pool, even early in a boot; zeros if there are none to be had at all.
        let flags = rustix::rand::GetRandomFlags::INSECURE;
        let _all_at_once = rustix::rand::getrandom(&mut bytes, flags);
        let invocation = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (first, last) = Self::DYNAMIC_IDS.into_inner();
        // FNV-1a, 32 bits.
        let hash = unit
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let count = last - first + 1;
        let mut candidates = (0..count).map(|step| first + (hash % count + step) % count);
        let dynamic_id = if dynamic { candidates.find(|id| !is_taken(*id)) } else { None };
        RunIdentity { invocation, dynamic_id }
    }
}

/// Exit codes of systemd.exec(5), "Process Exit Codes".
pub(super) mod code {
    pub const CHDIR: u8 = 200;
    pub const NICE: u8 = 201;
    pub const FDS: u8 = 202;
    pub const EXEC: u8 = 203;
    pub const LIMITS: u8 = 205;
    pub const OOM_ADJUST: u8 = 206;
    pub const STDIN: u8 = 208;
    pub const STDOUT: u8 = 209;
    pub const CHROOT: u8 = 210;
    pub const IOPRIO: u8 = 211;
    pub const TIMERSLACK: u8 = 212;
    pub const SECUREBITS: u8 = 213;
    pub const SETSCHEDULER: u8 = 214;
    pub const CPUAFFINITY: u8 = 215;
    pub const GROUP: u8 = 216;
    pub const USER: u8 = 217;
    pub const CAPABILITIES: u8 = 218;
    /// systemd fails before it forks when an environment file is missing; there is no code of its own for that.
    pub const RESOURCES: u8 = 219;
    pub const SETSID: u8 = 220;
    pub const STDERR: u8 = 222;
    pub const NETWORK: u8 = 225;
    pub const NAMESPACE: u8 = 226;
    pub const NO_NEW_PRIVILEGES: u8 = 227;
    pub const SECCOMP: u8 = 228;
    pub const PERSONALITY: u8 = 230;
    pub const ADDRESS_FAMILIES: u8 = 232;
    pub const RUNTIME_DIRECTORY: u8 = 233;
    pub const KEYRING: u8 = 237;
    pub const STATE_DIRECTORY: u8 = 238;
    pub const CACHE_DIRECTORY: u8 = 239;
    pub const LOGS_DIRECTORY: u8 = 240;
    pub const CONFIGURATION_DIRECTORY: u8 = 241;
    pub const CREDENTIALS: u8 = 243;
}

/// The result of a step.
type Step<T> = Result<T, Failure>;

/// A failure with its text.
fn failure(code: u8, text: impl Into<String>) -> Failure {
    Failure { code, text: text.into() }
}

/// Names the setting that a step was for.
trait Context<T> {
    /// The failure with this code, and a text of what was to be done and why it was not.
    fn step(self, code: u8, what: impl std::fmt::Display) -> Step<T>;
}

impl<T, E: std::fmt::Display> Context<T> for Result<T, E> {
    fn step(self, code: u8, what: impl std::fmt::Display) -> Step<T> {
        self.map_err(|error| failure(code, format!("{what}: {error}")))
    }
}

/// Which parts of the unit's settings hold for a command, systemd.service(5), "Command lines".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scope {
    /// User and groups.
    identity: bool,
    /// Everything else that confines.
    sandbox: bool,
}

impl Scope {
    fn of(command: &ExecCommand, how: &Circumstances<'_>) -> Scope {
        // PermissionsStartOnly=: only ExecStart= is confined.
        let confined = !how.service.permissions_start_only || how.phase == Phase::Start;
        let sandbox = !command.full_privileges && confined;
        Scope { identity: sandbox && !command.no_setuid, sandbox }
    }
}

/// Sets this process up and becomes the command's program; returns only with the reason why not.
///
/// The order is systemd's, but for one thing: what the filters of system calls forbid is not needed after them.
pub fn become_program(command: &ExecCommand, how: Circumstances<'_>, report: &mut ReportPipe) -> Failure {
    match set_up(command, how, report) {
        Err(failure) => failure,
        Ok((program, arguments, environment)) => {
            let error = spawn::execute(&program, &arguments, &environment);
            failure(code::EXEC, format!("cannot execute {}: {error}", program.to_string_lossy()))
        }
    }
}

/// Program, arguments and environment.
type Image = (CString, Vec<CString>, Vec<CString>);

fn set_up(command: &ExecCommand, mut how: Circumstances<'_>, report: &mut ReportPipe) -> Step<Image> {
    let exec = &how.service.exec;
    let scope = Scope::of(command, &how);
    let sandbox = if scope.sandbox { exec.sandbox.effective() } else { Sandbox::default() };
    setup::reset_signals(exec.ignore_sigpipe.unwrap_or(true));
    rustix::process::setsid().step(code::SETSID, "cannot begin a session")?;
    let identity = Identity::resolve(exec, how.root, how.run)?;
    let mut descriptors = std::mem::take(&mut how.descriptors);
    descriptors.extend(open_files::open(&how)?);
    let connected = streams::connect(exec, &how, &descriptors, identity.user_id())?;
    kernel::set_limits_of_process(exec)?;
    let group = how.cgroup.as_deref();
    control_group::delegate(&how.service.resources, group, &identity)?;
    control_group::limit_devices(&how.service.resources, group);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(exec.umask.unwrap_or(0o022)));
    let folders = folders::make(exec, &how, &identity)?;
    let credentials = credentials::provide(exec, &how, &identity)?;
    let names: Vec<&str> = descriptors.iter().map(|(_, name)| name.as_str()).collect();
    let pid = std::process::id().to_string();
    let known = environment::Known {
        identity: &identity,
        folders: &folders,
        credentials,
        connected,
        names: &names,
        pid: &pid,
    };
    let environment = environment::build(exec, &how, &known)?;
    kernel::join_keyring(&sandbox)?;
    // Before the mounts, which may hide what classes of devices there are.
    let devices =
        scope.sandbox.then(|| devices::Restriction::plan(&how.service.resources, &sandbox, group)).flatten();
    namespaces::enter(&sandbox, how.main_pid)?;
    if sandbox.needs_mounts() {
        mounts::enter(&sandbox, &how, &folders)?;
    }
    // After the mounts, for the nodes of a private /dev must be made first.
    if let Some(devices) = devices {
        devices.attach();
    }
    let words = command.arguments(&|name: &str| environment.get(name).cloned());
    let program = find_program(exec, command)?;
    identity.set_groups(scope.identity)?;
    namespaces::enter_users(&sandbox, &identity)?;
    report
        .pass(descriptors.into_iter().map(|(descriptor, _)| descriptor).collect())
        .step(code::FDS, "cannot pass the sockets on")?;
    if scope.sandbox {
        kernel::set_resource_limits(exec)?;
    }
    capabilities::confine(&sandbox)?;
    if scope.identity {
        capabilities::change_user(&identity, sandbox.ambient_set.unwrap_or_default(), sandbox.secure_bits)?;
    }
    enter_folder(exec, &identity)?;
    if scope.sandbox {
        capabilities::set_secure_bits(sandbox.secure_bits)?;
        // DynamicUser= and RestrictSUIDSGID= bring it along, systemd.exec(5).
        if exec.no_new_privileges || sandbox.dynamic_user {
            rustix::thread::set_no_new_privs(true).step(code::NO_NEW_PRIVILEGES, "NoNewPrivileges=")?;
        }
    }
    let strings = |list: &mut dyn Iterator<Item = String>| -> Step<Vec<CString>> {
        list.map(CString::new)
            .collect::<Result<_, _>>()
            .step(code::EXEC, "the command or its environment has a NUL byte")
    };
    let image = (
        CString::new(program.into_os_string().into_encoded_bytes()).step(code::EXEC, "the program's path")?,
        strings(&mut words.into_iter())?,
        strings(&mut environment.iter().map(|(name, value)| format!("{name}={value}")))?,
    );
    // Last, for they bind this process too.
    seccomp::load(&sandbox)?;
    Ok(image)
}

/// The working directory, entered as the user that will need it.
fn enter_folder(exec: &ExecContext, identity: &Identity) -> Step<()> {
    let (folder, optional) = match &exec.working_directory {
        WorkingDirectory::Root => ("/".to_owned(), true),
        WorkingDirectory::Home { optional } => (
            identity
                .home()
                .ok_or_else(|| failure(code::CHDIR, "WorkingDirectory=~: the user has no home"))?,
            *optional,
        ),
        WorkingDirectory::Path { path, optional } => (path.clone(), *optional),
    };
    match rustix::process::chdir(folder.as_str()) {
        Err(_) if optional => rustix::process::chdir("/").step(code::CHDIR, "WorkingDirectory=/"),
        result => result.step(code::CHDIR, format_args!("WorkingDirectory={folder}")),
    }
}

/// The program's path as it is in the process's own view of the file system.
fn find_program(exec: &ExecContext, command: &ExecCommand) -> Step<PathBuf> {
    let name = command.program.as_str();
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    // ExecSearchPath=, else the fixed path: $PATH of the unit's own environment does not count.
    let is_program =
        |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let own = exec.search_path.iter().map(String::as_str);
    let fixed = SEARCH_PATH.into_iter().filter(|_| exec.search_path.is_empty());
    let mut candidates = own.chain(fixed).map(|folder| Path::new(folder).join(name));
    candidates.find(is_program).ok_or_else(|| failure(code::EXEC, format!("there is no program '{name}'")))
}

/// Reads a file that should be small and is somebody's input.
fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > most) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// What a unit without anything of its own is started with.
#[cfg(test)]
fn circumstances<'a>(
    root: &'a Path,
    service: &'a Service,
    run: &'a RunIdentity,
    log: &'a std::fs::File,
) -> Circumstances<'a> {
    static MANAGER: std::sync::LazyLock<ManagerEnvironment> = std::sync::LazyLock::new(Default::default);
    Circumstances {
        root,
        unit: "a.service",
        service,
        phase: Phase::Start,
        main_pid: None,
        variables: Vec::new(),
        log: std::os::fd::AsFd::as_fd(log),
        run,
        descriptors: Vec::new(),
        cgroup: None,
        locale: &[],
        manager: &MANAGER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_decide_what_holds_for_a_command() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let run = RunIdentity::new("a.service", false, |_| false);
        let scope = |command: ExecCommand, phase: Phase, start_only: bool| {
            let service = Service { permissions_start_only: start_only, ..Service::default() };
            let how = Circumstances { phase, ..circumstances(Path::new("/"), &service, &run, &null) };
            let scope = Scope::of(&command, &how);
            (scope.identity, scope.sandbox)
        };
        let plus = ExecCommand { full_privileges: true, ..ExecCommand::default() };
        let bang = ExecCommand { no_setuid: true, ..ExecCommand::default() };
        assert_eq!(scope(ExecCommand::default(), Phase::Start, false), (true, true));
        assert_eq!(scope(plus, Phase::Start, false), (false, false));
        assert_eq!(scope(bang, Phase::Start, false), (false, true));
        assert_eq!(scope(ExecCommand::default(), Phase::StartPre, true), (false, false));
        assert_eq!(scope(ExecCommand::default(), Phase::Start, true), (true, true));
    }

    #[test]
    fn dynamic_ids_stay_in_their_range_and_apart() {
        let first = RunIdentity::new("a.service", true, |_| false).dynamic_id.unwrap();
        assert!(RunIdentity::DYNAMIC_IDS.contains(&first));
        assert_eq!(RunIdentity::new("a.service", true, |_| false).dynamic_id, Some(first));
        assert_ne!(RunIdentity::new("a.service", true, |id| id == first).dynamic_id, Some(first));
        assert_eq!(RunIdentity::new("a.service", true, |_| true).dynamic_id, None);
        let (one, other) = (RunIdentity::new("a", false, |_| true), RunIdentity::new("a", false, |_| true));
        assert!(one.invocation.len() == 32 && one.invocation != other.invocation && one.dynamic_id.is_none());
    }
}
