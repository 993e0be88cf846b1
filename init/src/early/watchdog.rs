//! The hardware watchdog, from the first module on (SAFETY 16).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::{FdFlags, fcntl_setfd};

use super::console::{Level, say};

/// Environment variable that hands the open watchdog over to PID 1: the number of its file descriptor.
pub const FD_VARIABLE: &str = "FERRITE_WATCHDOG_FD";
/// Seconds without feeding until the machine is reset. The initramfs feeds between its steps, none of which takes a
/// quarter of this even when the machine is emulated; long work is fed from its waiting loop.
pub const TIMEOUT_SECONDS: u32 = 60;
const NODE: &str = "/dev/watchdog0";

/// The armed watchdog. It is never disarmed: closing it without the magic character leaves it running.
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

    /// Starts the time anew.
    pub fn feed(&mut self) {
        if let Err(error) = self.device.write_all(b"\0") {
            say(Level::Warning, format_args!("cannot feed the watchdog: {error}"));
        }
    }

    /// Makes the descriptor survive the next exec and returns its number, for [`FD_VARIABLE`].
    pub fn hand_over(self) -> Option<String> {
        fcntl_setfd(&self.device, FdFlags::empty()).ok()?;
        let number = self.device.as_raw_fd();
        std::mem::forget(self.device);
        Some(number.to_string())
    }
}

/// Feeds a watchdog if there is one.
pub fn feed(watchdog: &mut Option<Watchdog>) {
    if let Some(watchdog) = watchdog {
        watchdog.feed();
    }
}
