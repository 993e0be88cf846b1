//! Terminals: the few calls that rustix lacks.
#![allow(unsafe_code, reason = "rustix has neither TIOCSCTTY with force nor vhangup on a descriptor")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes the terminal this session's own, taking it from another session that has it.
///
/// # Errors
/// `EPERM` when this process does not lead a session or lacks the privilege.
pub fn take_control(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a plain number.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
