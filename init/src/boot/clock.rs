//! The clock's floor (SAFETY 25): a machine without a battery must not live in 1970, or no certificate is valid.

use std::io;
use std::path::Path;
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
            format_args!("clock was {} s behind the earliest possible time: set to it", target - now),
        ),
        Err(error) => say(
            Level::Error,
            format_args!("clock is behind the earliest possible time and cannot be set: {error}"),
        ),
    }
}

/// Where STATE keeps the newest time that signed metadata has proved, in Unix seconds as text. Who verifies metadata
/// writes it.
pub const FLOOR_FILE: &str = "var/lib/ferrite/clock-floor";
/// A floor further behind the image's build than this is no time that was proved: no image is used for longer.
const LONGEST_USE: u64 = 20 * 365 * 86_400;

/// Sets the clock forward to the floor on STATE below `root`, when it is behind and the floor is plausible for an image
/// that was built at `built` (Unix seconds).
///
/// # Errors
/// The file is there but cannot be read, or says nothing plausible; the clock stays.
pub fn apply_saved_floor(root: &Path, built: Option<u64>) -> io::Result<()> {
    let text = match std::fs::read_to_string(root.join(FLOOR_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    match saved_floor(&text, built) {
        Some(floor) => apply_floor(floor),
        None => return Err(io::Error::other(format!("/{FLOOR_FILE} says no plausible time"))),
    }
    Ok(())
}

fn saved_floor(text: &str, built: Option<u64>) -> Option<u64> {
    let floor = text.trim().parse().ok()?;
    built.is_none_or(|built| floor <= built.saturating_add(LONGEST_USE)).then_some(floor)
}

/// The time to set, if any.
fn correction(now: u64, floor: u64) -> Option<u64> {
    (now < floor).then_some(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_must_be_plausible() {
        assert_eq!(saved_floor("1800000000\n", Some(1_795_661_769)), Some(1_800_000_000));
        assert_eq!(saved_floor("1800000000", None), Some(1_800_000_000));
        for text in ["", "soon", "-5", "9999999999999"] {
            assert_eq!(saved_floor(text, Some(1_795_661_769)), None, "{text}");
        }
        let root = tempfile::tempdir().unwrap();
        assert!(apply_saved_floor(root.path(), None).is_ok());
    }

    #[test]
    fn the_clock_only_moves_forward() {
        assert_eq!(correction(10, 20), Some(20));
        assert_eq!(correction(20, 20), None);
        assert_eq!(correction(30, 20), None);
    }
}
