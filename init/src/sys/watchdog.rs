//! The hardware watchdog (`linux/watchdog.h`).
#![allow(unsafe_code, reason = "rustix has no watchdog ioctls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets the time without feeding after which the machine is reset, in seconds; returns the one that the device took.
///
/// # Errors
/// The driver's: `EINVAL` outside its range, `EOPNOTSUPP` when it is fixed.
pub fn set_timeout(watchdog: BorrowedFd<'_>, seconds: u32) -> io::Result<u32> {
    // _IOWR('W', 6, int)
    const WDIOC_SETTIMEOUT: u64 = 0xc004_5706;
    let mut value = libc::c_int::try_from(seconds).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: the kernel reads and writes one int at the pointer, which is a live local.
    let result = unsafe { libc::ioctl(watchdog.as_raw_fd(), WDIOC_SETTIMEOUT as _, &raw mut value) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(value).unwrap_or(seconds))
}
