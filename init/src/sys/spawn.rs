//! A process of a unit: clone3 into its cgroup, whatever its set-up needs, execve.
//!
//! PID 1 has one thread, so the child is a plain copy of it that may do anything: look users up, wait for a file system,
//! mount. PID 1 waits for none of it; what goes wrong comes through a pipe. (Executing this binary once more in between,
//! as systemd does with its executor, would cost more than the pages that a copy of a process this small dirties.) What
//! needs none of that is started by [`super::launch`].
#![allow(unsafe_code, reason = "clone3 and execve have no safe form")]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::pipe::PipeFlags;

/// A process that was started.
#[derive(Debug)]
pub struct Child {
    /// Its PID. It is not used again before it is waited for.
    pub pid: u32,
    /// Closed without a byte once the program runs; a [`Failure`] when it could not be run.
    pub report: OwnedFd,
}

/// Why a child could not become its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code that systemd gives a process which failed at this, systemd.exec(5), "Process Exit Codes".
    pub code: u8,
    /// The setting that could not be honoured, and why.
    pub text: String,
}

impl Failure {
    /// Longest report: what a pipe takes at once, so that the child never waits for PID 1 (`PIPE_BUF`).
    pub const LONGEST: usize = 4096;

    /// Reads a report; `None` when it is not one.
    pub fn parse(bytes: &[u8]) -> Option<Failure> {
        let (code, text) = bytes.split_first()?;
        Some(Failure { code: *code, text: String::from_utf8_lossy(text).into_owned() })
    }

    /// What goes through the pipe.
    fn report(&self) -> Vec<u8> {
        let text = self.text.bytes().take(Failure::LONGEST - 1);
        [self.code].into_iter().chain(text).collect()
    }
}

/// `struct clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
pub(super) struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// `CLONE_CLEAR_SIGHAND`, linux/sched.h; since Linux 5.5: no handler of this program is left in the child.
pub(super) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// `CLONE_INTO_CGROUP`, linux/sched.h; since Linux 5.7.
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts a process, in the cgroup whose folder is given. It runs `child`, which returns only when it has failed to
/// become another program; it gets the descriptor of its report to keep its hands off.
///
/// # Errors
/// When there is no pipe or no process to be had. What goes wrong in the child comes through [`Child::report`].
pub fn spawn(
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(&mut ReportPipe) -> Failure,
) -> io::Result<Child> {
    let (report, child_report) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&report, true)?;
    let pid = clone_process(cgroup)?;
    if pid == 0 {
        let mut pipe = ReportPipe(child_report.as_raw_fd());
        // A bug in the set-up must end this copy of PID 1, not let it go on as a second one.
        let failure = catch_unwind(AssertUnwindSafe(|| child(&mut pipe)))
            .unwrap_or_else(|_| Failure { code: 255, text: "a bug in the set-up of the process".to_owned() });
        exit_with(&failure, &pipe)
    }
    drop(child_report);
    Ok(Child { pid, report })
}

/// Runs a function in a process of its own, for work that PID 1 must not wait for. Nobody hears how it ends.
///
/// # Errors
/// When there is no process to be had.
pub fn detached(work: impl FnOnce()) -> io::Result<()> {
    let work = || {
        work();
        0
    };
    copy(work).map(drop)
}

/// Runs a function in a process of its own, which ends with its answer as the exit code; answers with the process's PID.
///
/// # Errors
/// When there is no process to be had.
pub fn copy(work: impl FnOnce() -> u8) -> io::Result<u32> {
    let pid = clone_process(None)?;
    if pid == 0 {
        let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(u8::MAX);
        // SAFETY: _exit does not return and runs no handlers of the process that this is a copy of.
        unsafe { libc::_exit(i32::from(code)) }
    }
    Ok(pid)
}

/// fork(2) with a cgroup to start in; 0 in the child.
fn clone_process(cgroup: Option<BorrowedFd<'_>>) -> io::Result<u32> {
    let mut request = CloneArgs {
        flags: CLONE_CLEAR_SIGHAND,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
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
    u32::try_from(pid).map_err(io::Error::other)
}

/// The child's end of its report.
#[derive(Debug)]
pub struct ReportPipe(RawFd);

impl ReportPipe {
    /// Hands descriptors on to the program as 3 and following, in order. The report, if it is in their way, moves.
    ///
    /// # Errors
    /// The kernel's: too many open files.
    pub fn pass(&mut self, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        const FIRST: RawFd = 3;
        let count = RawFd::try_from(descriptors.len()).map_err(io::Error::other)?;
        let above = FIRST.saturating_add(count);
        let lift = |number: RawFd| {
            // SAFETY: plain numbers; the answer is a new descriptor of this process.
            let lifted = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, above) };
            if lifted < 0 { Err(io::Error::last_os_error()) } else { Ok(lifted) }
        };
        self.0 = lift(self.0)?;
        let lifted: Vec<RawFd> =
            descriptors.iter().map(|descriptor| lift(descriptor.as_raw_fd())).collect::<Result<_, _>>()?;
        // Their old numbers may be overwritten below: whoever owns them must not close them again.
        std::mem::forget(descriptors);
        for (target, source) in (FIRST..).zip(lifted) {
            // SAFETY: plain numbers. What was open as `target` belongs to the copy of PID 1 that execve ends.
            if unsafe { libc::dup2(source, target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

fn exit_with(failure: &Failure, pipe: &ReportPipe) -> ! {
    let message = failure.report();
    // SAFETY: the buffer is live and has the length given; _exit does not return and runs no handlers.
    unsafe {
        libc::write(pipe.0, message.as_ptr().cast(), message.len());
        libc::_exit(i32::from(failure.code))
    }
}

/// Becomes another program; returns only with the reason why not.
pub fn execute(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the program is a C string, both arrays end with a null pointer and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe_and_keep_to_its_size() {
        let failure = Failure { code: 226, text: "ReadOnlyPaths=/x: no such file".to_owned() };
        assert_eq!(Failure::parse(&failure.report()), Some(failure));
        assert_eq!(Failure::parse(b""), None);
        let long = Failure { code: 1, text: "x".repeat(10_000) };
        assert_eq!(long.report().len(), Failure::LONGEST);
    }
}
