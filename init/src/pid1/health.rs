//! Watchdog, health deadline and shutdown deadline: what brings the machine back when nobody else does
//! (SAFETY 15 and 16). Pure time keeping around one file.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use crate::early::watchdog::Watchdog;
use crate::supervisor::Monotonic;

/// How often the watchdog is fed: a quarter of its time-out of 60 s, so that a slow moment is no reset.
const FEED_EVERY: Monotonic = Monotonic::seconds(15);
/// An unconfirmed boot that has not reached `boot-complete.target` by then is given up. Emulated machines on loaded
/// hosts take a minute for a good boot; a person who waits for a fallback has about this much patience.
pub const HEALTH_LIMIT: Monotonic = Monotonic::seconds(180);
/// A shutdown that takes longer is finished by force. More than one service's 90 s, so that one that hangs still gets
/// its SIGKILL in order.
pub const SHUTDOWN_LIMIT: Monotonic = Monotonic::seconds(120);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The unconfirmed boot is not healthy in time: reboot, so that the other slot gets its turn.
    Unhealthy,
    /// The shutdown hangs: finish it.
    ShutdownLate,
}

/// What of the clocks outlives this program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    boot: Option<Monotonic>,
    shutdown: Option<Monotonic>,
}

/// The clocks.
#[derive(Debug, Default)]
pub struct Health {
    watchdog: Option<Watchdog>,
    feed_at: Monotonic,
    /// When an unconfirmed boot is given up.
    deadline: Option<Monotonic>,
    shutdown_by: Option<Monotonic>,
}

impl Health {
    /// Clocks without a watchdog and without a deadline.
    pub fn idle() -> Health {
        Health::default()
    }

    /// Takes over the watchdog that the initramfs has armed, or arms it; `trial` starts the health deadline.
    pub fn begin(now: Monotonic, trial: bool) -> Health {
        let deadline = trial.then(|| now.after(HEALTH_LIMIT));
        Health { watchdog: Watchdog::take(), feed_at: now, deadline, shutdown_by: None }
    }

    /// Goes on with the clocks of an earlier program of this process, which has left its watchdog open.
    pub fn resume(now: Monotonic, deadlines: Deadlines) -> Health {
        Health { deadline: deadlines.boot, shutdown_by: deadlines.shutdown, ..Health::begin(now, false) }
    }

    /// What is to be carried over.
    pub fn deadlines(&self) -> Deadlines {
        Deadlines { boot: self.deadline, shutdown: self.shutdown_by }
    }

    /// The open watchdog.
    pub fn watchdog(&self) -> Option<BorrowedFd<'_>> {
        self.watchdog.as_ref().map(Watchdog::descriptor)
    }

    /// Whether there is a watchdog.
    pub fn has_watchdog(&self) -> bool {
        self.watchdog.is_some()
    }

    /// The boot is good: nothing is given up any more.
    pub fn boot_is_complete(&mut self) {
        self.deadline = None;
    }

    /// The machine goes down; it must be down in time.
    pub fn begin_shutdown(&mut self, now: Monotonic) {
        self.deadline = None;
        self.shutdown_by = Some(now.after(SHUTDOWN_LIMIT));
    }

    /// Feeds the watchdog if it is time and tells what is due. After [`Due::Unhealthy`] the watchdog is not fed again
    /// until the shutdown has begun: should even that fail, the hardware resets the machine.
    pub fn check(&mut self, now: Monotonic) -> Due {
        if self.shutdown_by.is_some_and(|by| now >= by) {
            self.shutdown_by = None;
            return Due::ShutdownLate;
        }
        if self.deadline.is_some_and(|by| now >= by) {
            self.deadline = None;
            return Due::Unhealthy;
        }
        if now >= self.feed_at {
            self.feed_at = now.after(FEED_EVERY);
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.feed();
            }
        }
        Due::Nothing
    }

    /// When [`Health::check`] wants to be called again.
    pub fn next(&self, now: Monotonic) -> Monotonic {
        let fixed = [self.deadline, self.shutdown_by].into_iter().flatten();
        let feeding = self.watchdog.as_ref().map(|_| self.feed_at);
        fixed.chain(feeding).min().unwrap_or_else(|| now.after(Monotonic::seconds(3600)))
    }

    /// The watchdog, armed, for the last steps of the shutdown.
    pub fn into_watchdog(self) -> Option<Watchdog> {
        self.watchdog
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unconfirmed_boot_is_given_up_once_unless_it_completes() {
        let start = Monotonic::seconds(5);
        let mut late = Health { deadline: Some(start.after(HEALTH_LIMIT)), ..Health::default() };
        let mut good = Health { deadline: Some(start.after(HEALTH_LIMIT)), ..Health::default() };
        good.boot_is_complete();
        assert_eq!(late.check(Monotonic::seconds(184)), Due::Nothing);
        assert_eq!(late.check(Monotonic::seconds(185)), Due::Unhealthy);
        assert_eq!(late.check(Monotonic::seconds(186)), Due::Nothing);
        assert_eq!(good.check(Monotonic::seconds(1000)), Due::Nothing);
    }

    #[test]
    fn a_shutdown_that_hangs_is_finished() {
        let mut health = Health::idle();
        health.begin_shutdown(Monotonic::seconds(10));
        assert_eq!(health.check(Monotonic::seconds(129)), Due::Nothing);
        assert_eq!(health.check(Monotonic::seconds(130)), Due::ShutdownLate);
    }
}
