//! From a command of a unit to everything that its process needs, systemd.exec(5).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use image_config::unit::value::SEARCH_PATH;
use image_config::unit::{
    ExecCommand, ExecContext, Input, Output, Service, ServiceDirectory, WorkingDirectory,
    parse_environment_file,
};

use super::accounts::{self, User};
use super::paths;
use crate::supervisor::Phase;
use crate::sys::spawn::Plan;

/// What the command is to be run with, beyond its unit file.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// Prefix of the machine's folders; `/` but in tests.
    pub root: &'a Path,
    /// Its service part.
    pub service: &'a Service,
    /// Which list the command is in.
    pub phase: Phase,
    /// The main process, for `$MAINPID`.
    pub main_pid: Option<u32>,
    /// Variables that the supervisor sets.
    pub variables: Vec<(&'static str, String)>,
    /// Where output for the log goes.
    pub log: BorrowedFd<'a>,
}

/// Why a process could not even be tried.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct PrepareError {
    /// What was being done.
    what: String,
    /// The exit code that systemd gives to processes which fail at this, systemd.exec(5).
    pub code: i32,
    #[source]
    source: Option<io::Error>,
}

impl PrepareError {
    fn new(code: i32, what: impl Into<String>) -> PrepareError {
        PrepareError { what: what.into(), code, source: None }
    }

    fn io(code: i32, what: impl Into<String>, source: io::Error) -> PrepareError {
        PrepareError { what: what.into(), code, source: Some(source) }
    }

    /// The error with its cause.
    pub fn text(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {source}", self.what),
            None => self.what.clone(),
        }
    }
}

/// Exit codes of systemd.exec(5), "Process Exit Codes".
mod code {
    pub const FOLDERS: [i32; 5] = [233, 238, 239, 240, 241];
    pub const STDIN: i32 = 208;
    pub const STDOUT: i32 = 209;
    pub const EXEC: i32 = 203;
    pub const GROUP: i32 = 216;
    pub const USER: i32 = 217;
    /// systemd fails before it forks when an environment file is missing; there is no code of its own for that.
    pub const RESOURCES: i32 = 219;
}

/// Below which folder each kind of service folder is, and the variable that names it.
const FOLDERS: [(&str, &str); 5] = [
    ("run", "RUNTIME_DIRECTORY"),
    ("var/lib", "STATE_DIRECTORY"),
    ("var/cache", "CACHE_DIRECTORY"),
    ("var/log", "LOGS_DIRECTORY"),
    ("etc", "CONFIGURATION_DIRECTORY"),
];

/// Makes the folders and streams that the command needs and everything that its process takes along.
///
/// # Errors
/// What is missing; the process then counts as failed with the error's code.
pub fn prepare(command: &ExecCommand, how: &Circumstances<'_>) -> Result<Plan, PrepareError> {
    let exec = &how.service.exec;
    // PermissionsStartOnly=: only ExecStart= runs as the user.
    let privileged = command.full_privileges
        || command.no_setuid
        || how.service.permissions_start_only && how.phase != Phase::Start;
    let user = match &exec.user {
        Some(name) => Some(
            accounts::user(how.root, name)
                .ok_or_else(|| PrepareError::new(code::USER, format!("there is no user '{name}'")))?,
        ),
        None => None,
    };
    let group = match &exec.group {
        Some(name) => Some(
            accounts::group(how.root, name)
                .ok_or_else(|| PrepareError::new(code::GROUP, format!("there is no group '{name}'")))?,
        ),
        None => user.as_ref().map(|user| user.gid),
    };
    let owner = user.as_ref().map(|user| (user.uid, group.unwrap_or(user.gid)));
    let folders = make_folders(exec, how.root, owner)?;
    let environment = environment(exec, how, user.as_ref(), &folders)?;
    let words = command.arguments(&|name: &str| environment.get(name).cloned());
    let program = find_program(how.root, &command.program)?;
    let (streams, controlling_terminal) = streams(exec, how)?;
    let (folder, folder_optional) = working_folder(exec, user.as_ref());
    let identity = !privileged;
    Ok(Plan {
        program: c_string(program.to_string_lossy().into_owned())?,
        arguments: words.into_iter().map(c_string).collect::<Result<_, _>>()?,
        environment: environment
            .iter()
            .map(|(name, value)| c_string(format!("{name}={value}")))
            .collect::<Result<_, _>>()?,
        streams,
        controlling_terminal,
        user: user.as_ref().filter(|_| identity).map(|user| user.uid),
        group: group.filter(|_| identity),
        groups: if identity { groups(exec, how.root, user.as_ref(), group)? } else { None },
        limits: limits(exec),
        nice: exec.nice,
        oom_score: exec.oom_score_adjust.map(|score| c_string(score.to_string())).transpose()?,
        umask: exec.umask.unwrap_or(0o022),
        folder: c_string(folder)?,
        folder_optional,
        no_new_privileges: exec.no_new_privileges && !command.full_privileges,
        ignore_sigpipe: exec.ignore_sigpipe.unwrap_or(true),
        descriptors: Vec::new(),
    })
}

/// The folders of `RuntimeDirectory=`, which go when the service goes.
pub fn runtime_folders(exec: &ExecContext, root: &Path) -> Vec<PathBuf> {
    exec.runtime_directory.paths.iter().map(|path| root.join("run").join(path)).collect()
}

fn make_folders(
    exec: &ExecContext,
    root: &Path,
    owner: Option<(u32, u32)>,
) -> Result<Vec<(&'static str, String)>, PrepareError> {
    let kinds: [&ServiceDirectory; 5] = [
        &exec.runtime_directory,
        &exec.state_directory,
        &exec.cache_directory,
        &exec.logs_directory,
        &exec.configuration_directory,
    ];
    let mut variables = Vec::new();
    for ((kind, (base, variable)), code) in kinds.into_iter().zip(FOLDERS).zip(code::FOLDERS) {
        // Configuration stays root's.
        let owner = owner.filter(|_| base != "etc");
        let mut made = Vec::new();
        for path in &kind.paths {
            let whole = root.join(base).join(path);
            paths::make_folder(&whole, kind.mode.unwrap_or(0o755), owner)
                .map_err(|error| PrepareError::io(code, format!("cannot make {}", whole.display()), error))?;
            made.push(whole.to_string_lossy().into_owned());
        }
        if !made.is_empty() {
            variables.push((variable, made.join(":")));
        }
    }
    Ok(variables)
}

fn environment(
    exec: &ExecContext,
    how: &Circumstances<'_>,
    user: Option<&User>,
    folders: &[(&'static str, String)],
) -> Result<BTreeMap<String, String>, PrepareError> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    set("PATH", SEARCH_PATH.join(":"));
    set("LANG", "C.UTF-8".to_owned());
    if let Some(user) = user {
        set("USER", user.name.clone());
        set("LOGNAME", user.name.clone());
        set("HOME", user.home.clone());
        set("SHELL", user.shell.clone());
    }
    if uses_terminal(exec) {
        let serial = exec.tty_path.as_deref().is_some_and(|path| path.starts_with("/dev/ttyS"));
        set("TERM", if serial { "vt220" } else { "linux" }.to_owned());
    }
    for (name, value) in how.variables.iter().chain(folders) {
        set(name, value.clone());
    }
    if let Some(pid) = how.main_pid {
        set("MAINPID", pid.to_string());
    }
    for name in &exec.pass_environment {
        if let Ok(value) = std::env::var(name) {
            set(name, value);
        }
    }
    for (name, value) in &exec.environment {
        set(name, value.clone());
    }
    for file in &exec.environment_files {
        let found = paths::expand(&file.path);
        if found.is_empty() && !file.optional {
            return Err(PrepareError::new(
                code::RESOURCES,
                format!("environment file {} is missing", file.path),
            ));
        }
        for path in found {
            match fs::read_to_string(&path) {
                Ok(text) => {
                    parse_environment_file(&text).into_iter().for_each(|(name, value)| set(&name, value))
                }
                Err(_) if file.optional => {}
                Err(error) => {
                    return Err(PrepareError::io(
                        code::RESOURCES,
                        format!("cannot read {}", path.display()),
                        error,
                    ));
                }
            }
        }
    }
    for unset in &exec.unset_environment {
        match unset.split_once('=') {
            None => drop(all.remove(unset)),
            Some((name, value)) if all.get(name).is_some_and(|found| found == value) => {
                drop(all.remove(name))
            }
            Some(_) => {}
        }
    }
    Ok(all)
}

fn uses_terminal(exec: &ExecContext) -> bool {
    matches!(exec.standard_input, Input::Tty | Input::TtyForce | Input::TtyFail)
        || exec.standard_output == Some(Output::Tty)
        || exec.standard_error == Some(Output::Tty)
}

fn groups(
    exec: &ExecContext,
    root: &Path,
    user: Option<&User>,
    group: Option<u32>,
) -> Result<Option<Vec<u32>>, PrepareError> {
    if user.is_none() && exec.supplementary_groups.is_empty() && group.is_none() {
        return Ok(None);
    }
    let mut ids: Vec<u32> = group.into_iter().collect();
    if let Some(user) = user {
        ids.extend(accounts::groups_of(root, &user.name));
    }
    for name in &exec.supplementary_groups {
        let found = accounts::group(root, name);
        ids.push(found.ok_or_else(|| PrepareError::new(code::GROUP, format!("there is no group '{name}'")))?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(Some(ids))
}

fn limits(exec: &ExecContext) -> Vec<(u32, u64, u64)> {
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX); // RLIM_INFINITY
    exec.limits.iter().map(|limit| (limit.resource as u32, number(limit.soft), number(limit.hard))).collect()
}

fn working_folder(exec: &ExecContext, user: Option<&User>) -> (String, bool) {
    match &exec.working_directory {
        WorkingDirectory::Root => ("/".to_owned(), true),
        WorkingDirectory::Home { optional } => {
            (user.map_or_else(|| "/root".to_owned(), |user| user.home.clone()), *optional)
        }
        WorkingDirectory::Path { path, optional } => (path.clone(), *optional),
    }
}

fn find_program(root: &Path, program: &str) -> Result<PathBuf, PrepareError> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let candidates = SEARCH_PATH.iter().map(|folder| Path::new(folder).join(program));
    let is_there = |path: &PathBuf| root.join(path.strip_prefix("/").unwrap_or(path)).is_file();
    candidates
        .into_iter()
        .find(is_there)
        .ok_or_else(|| PrepareError::new(code::EXEC, format!("there is no program '{program}'")))
}

/// Descriptors 0 to 2, and whether 0 is a terminal to be taken over.
fn streams(exec: &ExecContext, how: &Circumstances<'_>) -> Result<([OwnedFd; 3], bool), PrepareError> {
    let terminal = exec.tty_path.as_deref().unwrap_or("/dev/console");
    let (input, takes_terminal) = match &exec.standard_input {
        Input::Null => (open("/dev/null", OpenOptions::new().read(true)), false),
        Input::Tty | Input::TtyForce | Input::TtyFail => (open_terminal(terminal), true),
        Input::File(path) => (open(path, OpenOptions::new().read(true)), false),
        Input::Socket | Input::Fd(_) => (Err(io::ErrorKind::Unsupported.into()), false),
    };
    let input = input.map_err(|error| PrepareError::io(code::STDIN, "cannot open standard input", error))?;
    let default = if takes_terminal { Output::Inherit } else { Output::Journal };
    let out = output(exec.standard_output.as_ref().unwrap_or(&default), how, terminal, &input);
    let out = out.map_err(|error| PrepareError::io(code::STDOUT, "cannot open standard output", error))?;
    let err = output(exec.standard_error.as_ref().unwrap_or(&Output::Inherit), how, terminal, &out);
    let err = err.map_err(|error| PrepareError::io(code::STDOUT, "cannot open standard error", error))?;
    Ok(([input, out, err], takes_terminal))
}

fn output(
    kind: &Output,
    how: &Circumstances<'_>,
    terminal: &str,
    inherited: &OwnedFd,
) -> io::Result<OwnedFd> {
    match kind {
        Output::Inherit => inherited.try_clone(),
        Output::Null => open("/dev/null", OpenOptions::new().write(true)),
        Output::Tty => open_terminal(terminal),
        Output::Journal | Output::JournalConsole => how.log.try_clone_to_owned(),
        Output::Kmsg | Output::KmsgConsole => open("/dev/kmsg", OpenOptions::new().write(true)),
        Output::File(path) => open(path, OpenOptions::new().write(true).create(true)),
        Output::Append(path) => open(path, OpenOptions::new().append(true).create(true)),
        Output::Truncate(path) => open(path, OpenOptions::new().write(true).create(true).truncate(true)),
        Output::Socket | Output::Fd(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn open_terminal(path: &str) -> io::Result<OwnedFd> {
    open(path, OpenOptions::new().read(true).write(true))
}

fn open(path: &str, options: &mut OpenOptions) -> io::Result<OwnedFd> {
    // Never a controlling terminal of PID 1's own; never waiting for a FIFO's other end or a modem's carrier.
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let file = options.mode(0o644).custom_flags(i32::try_from(flags.bits()).unwrap_or(0)).open(path)?;
    let mut status = rustix::fs::fcntl_getfl(&file)?;
    status.remove(rustix::fs::OFlags::NONBLOCK);
    rustix::fs::fcntl_setfl(&file, status)?;
    Ok(file.into())
}

fn c_string(text: String) -> Result<CString, PrepareError> {
    CString::new(text)
        .map_err(|_| PrepareError::new(code::EXEC, "a NUL byte in the command or its environment"))
}
