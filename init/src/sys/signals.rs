//! Signals as a descriptor, and the ends of children.
#![allow(unsafe_code, reason = "signalfd, sigprocmask and waitid have no safe form in rustix")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Signals of PID 1 that are read from a descriptor.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks `numbers` for this process and opens a descriptor that delivers them.
    ///
    /// # Errors
    /// The kernel's, `EINVAL` for a number that is no signal.
    pub fn open(numbers: &[i32]) -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set; the others take a valid set and plain numbers.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in numbers {
                if libc::sigaddset(set.as_mut_ptr(), *number) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            let descriptor = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Signals { descriptor: OwnedFd::from_raw_fd(descriptor) })
        }
    }

    /// The descriptor, to be polled.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// The next signal's number, if one is waiting.
    pub fn read(&self) -> Option<i32> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has the size given; the kernel fills whole records only.
        let count = unsafe { libc::read(self.descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if usize::try_from(count) != Ok(size) {
            return None;
        }
        // SAFETY: a whole record was read, every bit pattern of which is valid.
        let info = unsafe { info.assume_init() };
        i32::try_from(info.ssi_signo).ok()
    }
}

/// The first real-time signal that is the program's to use; systemd's power signals count from it.
pub fn first_realtime() -> i32 {
    libc::SIGRTMIN()
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By exit(2).
    Exited(i32),
    /// By a signal; true when it left a core dump.
    Killed(i32, bool),
}

/// Reaps one child that has ended, if there is one: its PID and how.
pub fn reap_any() -> Option<(u32, Ending)> {
    ending_of(libc::P_ALL, 0, libc::WNOHANG)
}

fn ending_of(kind: libc::idtype_t, id: u32, flags: i32) -> Option<(u32, Ending)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel writes one siginfo at the pointer; WNOHANG leaves it zeroed when no child has ended.
    let result = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), libc::WEXITED | flags) };
    if result < 0 {
        return None;
    }
    // SAFETY: zeroed or written by waitid, for which the SIGCHLD fields are the valid ones.
    let (pid, status, code) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_status(), info.si_code)
    };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0)?;
    let ending = match code {
        libc::CLD_KILLED => Ending::Killed(status, false),
        libc::CLD_DUMPED => Ending::Killed(status, true),
        _ => Ending::Exited(status),
    };
    Some((pid, ending))
}

/// The same for one child, not waited for.
pub fn reap(pid: u32) -> Option<Ending> {
    ending_of(libc::P_PID, pid, libc::WNOHANG).map(|(_, ending)| ending)
}

/// Sends a signal to one process. Whether it is still there is not told: a process that is gone needs no signal.
pub fn send(pid: u32, signal: i32) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 1
    {
        // SAFETY: plain numbers; pid > 1 names one process, never a group and never ourselves.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Sends a signal to every process but this one (and, as PID 1, but the kernel's).
pub fn send_all(signal: i32) {
    // SAFETY: plain numbers. As PID 1 this is the last step of a shutdown.
    unsafe { libc::kill(-1, signal) };
}

/// Gives the default action to every signal that whoever started this process has made it ignore, for the processes that it starts inherit
/// that; but for SIGPIPE, which the Rust runtime ignores.
pub fn ignore_none() {
    for number in (1..65).filter(|number| *number != libc::SIGPIPE) {
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a null action changes nothing; the old one is written to a live local, zeroed for the case that the number has no action.
        // Setting the default action of one that is ignored replaces no handler.
        unsafe {
            libc::sigaction(number, std::ptr::null(), old.as_mut_ptr());
            if old.assume_init().sa_sigaction == libc::SIG_IGN {
                libc::signal(number, libc::SIG_DFL);
            }
        }
    }
}

/// Makes orphans of this process's descendants its children, as they are PID 1's.
///
/// # Errors
/// The kernel's; none is known.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tells the kernel to send SIGINT to PID 1 on Ctrl-Alt-Del instead of rebooting at once.
pub fn ctrl_alt_del_is_a_signal() {
    // SAFETY: plain number; without the privilege it fails and changes nothing.
    unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_CAD_OFF) };
}
