//! Starting a service's process: clone3 into its cgroup, set up, execve.
//!
//! PID 1 has one thread, so the child is a plain copy of it; everything that it needs is made before the clone.
#![allow(unsafe_code, reason = "clone3, execve and the identity calls have no safe form")]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::pipe::PipeFlags;

/// What the process shall be.
#[derive(Debug)]
pub struct Plan {
    /// Absolute path of the program.
    pub program: CString,
    /// Its arguments, its name first.
    pub arguments: Vec<CString>,
    /// Its environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// Descriptors 0, 1 and 2.
    pub streams: [OwnedFd; 3],
    /// Descriptor 0 is a terminal, to be its controlling one.
    pub controlling_terminal: bool,
    /// User id; `None` leaves root.
    pub user: Option<u32>,
    /// Group id.
    pub group: Option<u32>,
    /// Supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// `(resource, soft, hard)` as setrlimit(2) takes them.
    pub limits: Vec<(u32, u64, u64)>,
    /// Nice level.
    pub nice: Option<i32>,
    /// For `/proc/self/oom_score_adj`.
    pub oom_score: Option<CString>,
    /// File mode mask.
    pub umask: u32,
    /// Folder to start in.
    pub folder: CString,
    /// It need not exist.
    pub folder_optional: bool,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// SIGPIPE is ignored.
    pub ignore_sigpipe: bool,
    /// Descriptors 3 and following (socket activation).
    pub descriptors: Vec<OwnedFd>,
}

/// What stands in an environment for the PID of the process itself, which is only known once there is one.
pub const PID_PLACE: &str = "4294967295";

/// A process that was started.
#[derive(Debug)]
pub struct Child {
    /// Its PID. It is not used again before it is waited for.
    pub pid: u32,
    /// Closed without a byte once the program runs; a [`Failure`] when it could not be run.
    pub report: OwnedFd,
}

/// The step that went wrong in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Step {
    Session = 0,
    Streams = 1,
    Oom = 2,
    Nice = 3,
    Limits = 4,
    Groups = 5,
    User = 6,
    Folder = 7,
    Privileges = 8,
    Exec = 9,
}

impl Step {
    const ALL: [Step; 10] = [
        Step::Session,
        Step::Streams,
        Step::Oom,
        Step::Nice,
        Step::Limits,
        Step::Groups,
        Step::User,
        Step::Folder,
        Step::Privileges,
        Step::Exec,
    ];

    /// The exit code that systemd gives a process which failed here, systemd.exec(5).
    pub fn exit_code(self) -> i32 {
        match self {
            Step::Session => 220,
            Step::Streams => 209,
            Step::Oom => 206,
            Step::Nice => 201,
            Step::Limits => 205,
            Step::Groups => 216,
            Step::User => 217,
            Step::Folder => 200,
            Step::Privileges => 227,
            Step::Exec => 203,
        }
    }
}

/// What the child reports when it cannot become the program.
#[derive(Debug)]
pub struct Failure {
    /// Where.
    pub step: Step,
    /// Why.
    pub error: io::Error,
}

impl Failure {
    /// Reads a report; `None` when it is not one.
    pub fn parse(bytes: &[u8]) -> Option<Failure> {
        let (step, errno) = bytes.split_first()?;
        let step = Step::ALL.into_iter().find(|known| *known as u8 == *step)?;
        let errno = i32::from_le_bytes(errno.get(..4)?.try_into().ok()?);
        Some(Failure { step, error: io::Error::from_raw_os_error(errno) })
    }
}

/// `struct clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP`, linux/sched.h; since Linux 5.7.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts a process, in the cgroup whose folder is given.
///
/// # Errors
/// When there is no pipe or no process to be had. What goes wrong in the child comes through [`Child::report`].
pub fn spawn(plan: &Plan, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    let (report, child_report) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&report, true)?;
    let arguments = pointers(&plan.arguments);
    let environment = pointers(&plan.environment);
    let mut request =
        CloneArgs { exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()), ..CloneArgs::default() };
    if let Some(cgroup) = cgroup {
        request.flags |= CLONE_INTO_CGROUP;
        request.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `request` is a valid clone_args of the size given; without CLONE_VM the child is a copy-on-write copy that
    // goes on here on its own copy of the stack, as after fork(2). PID 1 has no other thread whose locks it could inherit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut request, size_of::<CloneArgs>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // SAFETY: this is the child; both vectors are NUL-terminated arrays of C strings that live as long as it does.
        unsafe { write_pid(&environment) };
        // SAFETY: as above.
        unsafe { become_program(plan, arguments.as_ptr(), environment.as_ptr(), child_report.as_raw_fd()) }
    }
    drop(child_report);
    Ok(Child { pid: u32::try_from(pid).unwrap_or(0), report })
}

/// Puts this process's PID in the place of [`PID_PLACE`] in `LISTEN_PID`.
///
/// # Safety
/// Only in a child that shares nothing with its parent: it writes to the strings, which are its own copies.
unsafe fn write_pid(environment: &[*const libc::c_char]) {
    const NAME: &[u8] = b"LISTEN_PID=";
    let pid = std::process::id().to_string();
    for text in environment.iter().filter(|text| !text.is_null()) {
        // SAFETY: the pointers are to C strings; one that begins with the name has room for any PID behind it.
        unsafe {
            if std::ffi::CStr::from_ptr(*text).to_bytes().starts_with(NAME) && pid.len() <= PID_PLACE.len() {
                let place = text.cast_mut().add(NAME.len());
                std::ptr::copy_nonoverlapping(pid.as_ptr().cast(), place, pid.len());
                place.add(pid.len()).write(0);
            }
        }
    }
}

/// Makes the descriptors 3 and following, in order. All are moved out of each other's way first.
///
/// # Safety
/// Only in a child that shares nothing with its parent.
unsafe fn pass(descriptors: &[OwnedFd]) -> Result<(), Step> {
    let count = RawFd::try_from(descriptors.len()).map_err(|_| Step::Streams)?;
    // SAFETY: plain numbers; the copies above the last place to be filled are closed by execve.
    let lift = |descriptor: &OwnedFd| unsafe {
        libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3 + count)
    };
    let lifted: Vec<RawFd> = descriptors.iter().map(lift).collect();
    for (number, descriptor) in (3..).zip(lifted) {
        // SAFETY: plain numbers; whatever was open at them is not needed any more.
        if descriptor < 0 || unsafe { libc::dup2(descriptor, number) } < 0 {
            return Err(Step::Streams);
        }
    }
    Ok(())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The child: does what the plan says and never returns.
///
/// # Safety
/// Only in a child that shares nothing with its parent; the arrays must end with a null pointer.
unsafe fn become_program(
    plan: &Plan,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
    report: RawFd,
) -> ! {
    // SAFETY: see above; the callee allocates nothing.
    let lowest = 3 + RawFd::try_from(plan.descriptors.len()).unwrap_or(0);
    // SAFETY: plain numbers. The report moves out of the way of the descriptors that are passed.
    let report = match unsafe { libc::fcntl(report, libc::F_DUPFD_CLOEXEC, lowest) } {
        moved if moved < 0 => report,
        moved => moved,
    };
    // SAFETY: as above.
    let step = match unsafe { set_up(plan).and_then(|()| pass(&plan.descriptors)) } {
        Err(step) => step,
        Ok(()) => {
            // SAFETY: the program is a C string, the arrays are as execve wants them.
            unsafe { libc::execve(plan.program.as_ptr(), arguments, environment) };
            Step::Exec
        }
    };
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    let [a, b, c, d] = errno.to_le_bytes();
    let message = [step as u8, a, b, c, d];
    // SAFETY: the buffer is live and has the length given; _exit does not return and runs no handlers.
    unsafe {
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(step.exit_code())
    }
}

/// Everything between clone and exec. The order matters: what needs root comes before the change of user, the folder
/// after it.
///
/// # Safety
/// Only in a child that shares nothing with its parent.
unsafe fn set_up(plan: &Plan) -> Result<(), Step> {
    let check = |result: libc::c_int, step: Step| if result < 0 { Err(step) } else { Ok(()) };
    // SAFETY: each call takes plain numbers, or pointers to values that live in this frame or in the plan.
    unsafe {
        check(libc::setsid(), Step::Session)?;
        for (number, stream) in (0..).zip(&plan.streams) {
            check(libc::dup2(stream.as_raw_fd(), number), Step::Streams)?;
        }
        if plan.controlling_terminal {
            // 1: take it from a session that has it; ours is the newer one.
            check(libc::ioctl(0, libc::TIOCSCTTY as _, 1), Step::Streams)?;
        }
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, if plan.ignore_sigpipe { libc::SIG_IGN } else { libc::SIG_DFL });
        if let Some(score) = &plan.oom_score {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            check(file, Step::Oom)?;
            let bytes = score.as_bytes();
            check(if libc::write(file, bytes.as_ptr().cast(), bytes.len()) < 0 { -1 } else { 0 }, Step::Oom)?;
            libc::close(file);
        }
        if let Some(nice) = plan.nice {
            check(libc::setpriority(libc::PRIO_PROCESS, 0, nice), Step::Nice)?;
        }
        for (resource, soft, hard) in &plan.limits {
            let limit = libc::rlimit { rlim_cur: *soft, rlim_max: *hard };
            // The parameter's type differs between C libraries; the numbers are below 16.
            check(libc::setrlimit(*resource as _, &raw const limit), Step::Limits)?;
        }
        libc::umask(plan.umask);
        if let Some(groups) = &plan.groups {
            check(libc::setgroups(groups.len(), groups.as_ptr()), Step::Groups)?;
        }
        if let Some(group) = plan.group {
            check(libc::setresgid(group, group, group), Step::Groups)?;
        }
        if let Some(user) = plan.user {
            check(libc::setresuid(user, user, user), Step::User)?;
        }
        if libc::chdir(plan.folder.as_ptr()) < 0 {
            check(if plan.folder_optional { libc::chdir(c"/".as_ptr()) } else { -1 }, Step::Folder)?;
        }
        if plan.no_new_privileges {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), Step::Privileges)?;
        }
    }
    Ok(())
}

/// Takes over a descriptor that an earlier program of this process left open.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number < 3 {
        return None;
    }
    // SAFETY: F_GETFD takes no pointer; it tells whether the descriptor is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open, above the standard streams, and the caller was told by environment that it is its own.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
