//! The clock's floor (SAFETY 25): a machine without a battery must not live in 1970, or no certificate is valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_settime};

use crate::early::console::{Level, say};

/// Sets the clock forward to `floor` (Unix seconds) when it is behind; never back.
pub fn apply_floor(floor: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let Some(target) = correction(now, floor) else { return };
    let time = Timespec { tv_sec: i64::try_from(target).unwrap_or(i64::MAX), tv_nsec: 0 };
    match clock_settime(ClockId::Realtime, time) {
        Ok(()) => say(
            Level::Warning,
            format_args!("clock was {} s behind the image's build time: set to it", target - now),
        ),
        Err(error) => say(
            Level::Error,
            format_args!("clock is behind the image's build time and cannot be set: {error}"),
        ),
    }
}

/// The time to set, if any.
fn correction(now: u64, floor: u64) -> Option<u64> {
    (now < floor).then_some(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_only_moves_forward() {
        assert_eq!(correction(10, 20), Some(20));
        assert_eq!(correction(20, 20), None);
        assert_eq!(correction(30, 20), None);
    }
}
