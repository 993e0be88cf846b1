//! The hardware watchdog, from the first module on (SAFETY 16).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

use super::console::{Level, say};
use crate::sys::spawn::inherited;

/// Environment variable that hands the open watchdog over to PID 1: the number of its file descriptor.
pub const FD_VARIABLE: &str = "FERRITE_WATCHDOG_FD";
/// Seconds without feeding until the machine is reset. The initramfs feeds between its steps, none of which takes a
/// quarter of this even when the machine is emulated; long work is fed from its waiting loop.
pub const TIMEOUT_SECONDS: u32 = 60;
const NODE: &str = "/dev/watchdog0";

/// The armed watchdog. Closing it without the magic character leaves it running.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
}

impl Watchdog {
    /// Opens (and thereby starts) the watchdog; `None` while there is none.
    pub fn arm() -> Option<Self> {
        let device = OpenOptions::new().write(true).open(NODE).ok()?;
        if let Err(error) = crate::sys::watchdog::set_timeout(device.as_fd(), TIMEOUT_SECONDS) {
            say(Level::Warning, format_args!("watchdog keeps its own timeout: {error}"));
        }
        Some(Self { device })
    }

    /// The one that an earlier program of this process has armed and left open; without one, arms it.
    pub fn take() -> Option<Self> {
        let number = std::env::var(FD_VARIABLE).ok().and_then(|text| text.parse().ok());
        number.and_then(inherited).map(|device| Self { device: device.into() }).or_else(Self::arm)
    }

    /// The open device.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Starts the time anew.
    pub fn feed(&mut self) {
        if let Err(error) = self.device.write_all(b"\0") {
            say(Level::Warning, format_args!("cannot feed the watchdog: {error}"));
        }
    }

    /// Makes the descriptor survive the next exec and returns its number, for [`FD_VARIABLE`].
    pub fn survive(&self) -> Option<RawFd> {
        fcntl_setfd(&self.device, FdFlags::empty()).ok()?;
        Some(self.device.as_raw_fd())
    }

    /// Stops it, as far as the driver can.
    pub fn disarm(mut self) {
        let _not_supported = self.device.write_all(b"V");
    }
}

/// Feeds a watchdog if there is one.
pub fn feed(watchdog: &mut Option<Watchdog>) {
    if let Some(watchdog) = watchdog {
        watchdog.feed();
    }
}
