//! When a suite's signed index was made.

use std::fmt;

use crate::civil::{DAY, civil_from_days, days_from_civil};
use crate::recipe::NameError;

/// 9999-12-31T23:59:59Z: four digits for the year.
const LATEST: u64 = 253_402_300_799;

/// The date of a suite's `Release` file: Unix seconds, from 1970 to 9999. Written `2026-09-12T07:55:41Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseDate(u64);

impl ReleaseDate {
    /// From Unix seconds; `None` past the year 9999.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Option<Self> {
        (seconds <= LATEST).then_some(Self(seconds))
    }

    /// Unix seconds.
    #[must_use]
    pub fn unix(self) -> u64 {
        self.0
    }

    /// Reads `2026-09-12T07:55:41Z`.
    ///
    /// # Errors
    /// [`NameError`]: another form, or a day or time that does not exist.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let read = || {
            let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
            let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
            let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
            let in_range = year >= 1970 && (1..=12).contains(&month) && day >= 1;
            if !in_range || hour > 23 || minute > 59 || second > 59 {
                return None;
            }
            let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
            let seconds = u64::try_from(seconds).ok()?;
            // A 31st of April has come out as the 1st of May.
            Self::from_unix(seconds).filter(|date| date.civil() == (year, month, day))
        };
        read().ok_or_else(|| {
            NameError::new(format!("`{text}` is no date")).hint("in UTC, such as 2026-09-12T07:55:41Z")
        })
    }

    /// The name of this moment, or of one so many days later, in the snapshot archive: `20260912T075541Z`.
    #[must_use]
    pub fn snapshot_name(self, days_later: u64) -> String {
        let later = Self(self.0.saturating_add(days_later.saturating_mul(DAY.unsigned_abs())).min(LATEST));
        let ((year, month, day), (hour, minute, second)) = (later.civil(), later.clock());
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }

    /// Year, month and day.
    fn civil(self) -> (i64, i64, i64) {
        civil_from_days(self.seconds() / DAY)
    }

    fn clock(self) -> (i64, i64, i64) {
        let seconds = self.seconds() % DAY;
        (seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn seconds(self) -> i64 {
        i64::try_from(self.0.min(LATEST)).unwrap_or_default()
    }
}

/// Three numbers of fixed width.
fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut next = |width: usize| {
        let part = parts.next()?;
        let digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let [first, second, third] = widths;
    let found = [next(first)?, next(second)?, next(third)?];
    parts.next().is_none().then_some(found)
}

impl fmt::Display for ReleaseDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), (hour, minute, second)) = (self.civil(), self.clock());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-09-12T07:55:41Z", 1_789_199_741),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("9999-12-31T23:59:59Z", LATEST),
        ] {
            let date = ReleaseDate::parse(text).unwrap();
            assert_eq!((date.unix(), date.to_string().as_str()), (seconds, text));
        }
        for text in [
            "",
            "2026-09-12",
            "2026-9-12T07:55:41Z",
            "2026-09-12T07:55:41",
            "2026-09-12 07:55:41Z",
            "2026-13-01T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-09-12T24:00:00Z",
            "2026-09-12T07:55:+1Z",
            "2026-09-12T07:55:41:00Z",
        ] {
            assert!(ReleaseDate::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_snapshot_archive_has_names_for_moments() {
        let date = ReleaseDate::parse("2024-02-28T07:55:41Z").unwrap();
        assert_eq!(date.snapshot_name(0), "20240228T075541Z");
        assert_eq!(date.snapshot_name(2), "20240301T075541Z");
        assert_eq!(ReleaseDate(LATEST).snapshot_name(1), "99991231T235959Z");
    }

    proptest! {
        #[test]
        fn every_date_round_trips(seconds in 0..=LATEST) {
            let date = ReleaseDate::from_unix(seconds).unwrap();
            prop_assert_eq!(ReleaseDate::parse(&date.to_string()), Ok(date));
        }

        #[test]
        fn any_text_never_panics(text in ".{0,30}", digits in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z") {
            let _ = (ReleaseDate::parse(&text), ReleaseDate::parse(&digits));
        }
    }
}
