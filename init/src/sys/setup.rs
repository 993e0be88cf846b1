//! Calls by which a new process sets itself up and that rustix has no safe form of.
//!
//! All of them change the calling process alone, which is the copy of PID 1 that is about to become a program.
#![allow(unsafe_code, reason = "none of these calls has a safe form in rustix")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::thread::UnshareFlags;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Unblocks all signals; SIGPIPE, which this program ignores, stays ignored or gets its default action. All others have theirs already
/// ([`super::spawn`], [`super::signals::ignore_none`]).
pub fn reset_signals(ignore_sigpipe: bool) {
    // SAFETY: the set is initialised by sigemptyset before it is used; the actions are constants.
    unsafe {
        libc::signal(libc::SIGPIPE, if ignore_sigpipe { libc::SIG_IGN } else { libc::SIG_DFL });
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
    }
}

/// Makes a terminal this session's own, without taking it from another session.
///
/// # Errors
/// `EPERM` when another session has it.
pub fn take_free_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a plain number.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) }.into()).map(drop)
}

/// Hangs a terminal up: whoever has it open loses it (`TIOCVHANGUP`, asm-generic/ioctls.h).
///
/// # Errors
/// The kernel's: `EPERM` without `CAP_SYS_ADMIN`.
pub fn hang_up(terminal: BorrowedFd<'_>) -> io::Result<()> {
    const TIOCVHANGUP: u64 = 0x5437;
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), TIOCVHANGUP as _) }.into()).map(drop)
}

/// Gives a virtual console's memory back (`VT_DISALLOCATE`, linux/vt.h).
///
/// # Errors
/// `EBUSY` while it is in use or shown.
pub fn disallocate_console(any_console: BorrowedFd<'_>, number: u32) -> io::Result<()> {
    const VT_DISALLOCATE: u64 = 0x5608;
    // SAFETY: the argument is a plain number.
    check(unsafe { libc::ioctl(any_console.as_raw_fd(), VT_DISALLOCATE as _, number) }.into()).map(drop)
}

/// sched_setscheduler(2) for this process.
///
/// # Errors
/// The kernel's: `EPERM`, `EINVAL` for a priority that the policy does not have.
pub fn set_scheduler(policy: u32, priority: i32, reset_on_fork: bool) -> io::Result<()> {
    const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;
    let policy = policy | if reset_on_fork { SCHED_RESET_ON_FORK } else { 0 };
    // The raw call: musl's wrapper does nothing but fail.
    // SAFETY: the kernel's sched_param is one int, which lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) }).map(drop)
}

/// ioprio_set(2) for this process.
///
/// # Errors
/// The kernel's.
pub fn set_io_priority(class: u8, priority: u8) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = u32::from(class) << CLASS_SHIFT | u32::from(priority);
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// personality(2); answers with the one before.
///
/// # Errors
/// The kernel's.
pub fn set_personality(persona: u32) -> io::Result<u32> {
    // SAFETY: a plain number.
    let before = check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) })?;
    u32::try_from(before).map_err(io::Error::other)
}

/// Leaves the parent's session keyring for a new one; with `link_user` the user's keyring is linked into it.
///
/// # Errors
/// The kernel's: `ENOSYS` without keyrings.
pub fn new_session_keyring(link_user: bool) -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    const LINK: libc::c_int = 8;
    const SESSION_KEYRING: libc::c_int = -3;
    const USER_KEYRING: libc::c_int = -4;
    // SAFETY: a null name asks for an anonymous keyring; the rest are plain numbers.
    unsafe {
        check(libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
            0,
            0,
            0,
        ))?;
        if link_user {
            check(libc::syscall(libc::SYS_keyctl, LINK, USER_KEYRING, SESSION_KEYRING, 0, 0))?;
        }
    }
    Ok(())
}

/// Leaves namespaces of the parent for new ones.
///
/// # Errors
/// The kernel's: `EPERM`, `ENOSPC` at the limit of namespaces.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: descriptors are not unshared, and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags.difference(UnshareFlags::FILES)) }.map_err(Into::into)
}

/// fork(2): runs `helper` in a child and tells whether it went well.
///
/// # Errors
/// The kernel's, or `other` when the helper failed.
pub fn in_helper(helper: impl FnOnce() -> bool) -> io::Result<Helper> {
    // SAFETY: this process has one thread, so the child may go on as its copy; it leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        let code = i32::from(!helper());
        // SAFETY: does not return and runs no handlers.
        unsafe { libc::_exit(code) }
    }
    Ok(Helper { pid })
}

/// A child that does something for this process.
#[derive(Debug)]
pub struct Helper {
    pid: libc::pid_t,
}

impl Helper {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it failed.
    pub fn wait(self) -> io::Result<()> {
        let mut status = 0;
        loop {
            // SAFETY: the status lives until the call returns.
            if check(unsafe { libc::waitpid(self.pid, &raw mut status, 0) }.into()).is_ok() {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        if status == 0 { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// One instruction of a filter, `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "named as in the kernel")]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Loads a filter of system calls, seccomp(2). Needs `CAP_SYS_ADMIN` or `no_new_privs`.
///
/// # Errors
/// The kernel's: `EINVAL` for a program that it does not accept, `EACCES` without the privilege.
pub fn load_filter(program: &[Instruction]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        len: u16,
        instructions: *const Instruction,
    }
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = Program { len, instructions: program.as_ptr() };
    // SAFETY: `program` has the layout of `struct sock_fprog` and points to `len` instructions that live until the call
    // returns; the kernel checks and copies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
        .map(drop)
}

/// Attributes of a mount, `MOUNT_ATTR_...` of linux/mount.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_RDONLY`.
    pub read_only: bool,
    /// `MOUNT_ATTR_NOEXEC`.
    pub no_exec: bool,
    /// `MOUNT_ATTR_NOSUID`.
    pub no_suid: bool,
}

/// Sets attributes of the one mount at `path`, mount_setattr(2), since Linux 5.12.
///
/// # Errors
/// The kernel's: `EINVAL` when nothing is mounted there.
pub fn set_mount_attributes(path: &Path, set: MountAttributes) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let bits = [(set.read_only, 1), (set.no_suid, 2), (set.no_exec, 8)];
    let set = bits.into_iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, bit)| all | bit);
    let attributes = Attributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: a C string, and a struct of the size given; both live until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    })
    .map(drop)
}
