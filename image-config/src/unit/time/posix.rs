//! The rule by which a time zone goes on for ever: the `TZ` string of POSIX at the end of a zone's file.
//!
//! `CET-1CEST,M3.5.0,M10.5.0/3`: standard time, its distance from UTC with the sign reversed, summer time, and when it
//! begins and ends. RFC 9636, section 3.3.1; POSIX.1-2024, section 8.3.

use super::zone::LocalTime;
use crate::civil::{DAY, civil_from_days, days_from_civil, days_in_month, weekday};

/// Standard time, perhaps with a summer time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub standard: LocalTime,
    pub summer: Option<Summer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summer {
    pub time: LocalTime,
    start: Change,
    end: Change,
}

/// A day of the year, and the second of that day in the time that was in force until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    day: Day,
    second: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// `Jn`: 1 to 365, February 29 never counted.
    Julian(i64),
    /// `n`: 0 to 365, February 29 counted.
    OfYear(i64),
    /// `Mm.w.d`: day `d` (Sunday is 0) of week `w` (5 is the last) of month `m`.
    OfMonth { month: i64, week: i64, weekday: i64 },
}

impl Rule {
    /// Reads a `TZ` string; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let abbreviation = name(&mut rest)?;
        let offset = -hours(&mut rest)?;
        let standard = LocalTime { offset, summer: false, abbreviation };
        if rest.is_empty() {
            return Some(Self { standard, summer: None });
        }
        let abbreviation = name(&mut rest)?;
        let offset = if rest.starts_with(',') { standard.offset + 3600 } else { -hours(&mut rest)? };
        let start = Change::parse(&mut rest)?;
        let end = Change::parse(&mut rest)?;
        let time = LocalTime { offset, summer: true, abbreviation };
        rest.is_empty().then_some(Self { standard, summer: Some(Summer { time, start, end }) })
    }

    /// The local time in force at a moment (Unix seconds).
    pub fn at(&self, moment: i64) -> &LocalTime {
        let Some(summer) = &self.summer else { return &self.standard };
        let (year, ..) = civil_from_days((moment + self.standard.offset).div_euclid(DAY));
        let start = summer.start.seconds(year) - self.standard.offset;
        let end = summer.end.seconds(year) - summer.time.offset;
        // South of the equator summer lies around the turn of the year.
        let is_summer =
            if start < end { (start..end).contains(&moment) } else { !(end..start).contains(&moment) };
        if is_summer { &summer.time } else { &self.standard }
    }
}

impl Change {
    fn parse(rest: &mut &str) -> Option<Self> {
        *rest = rest.strip_prefix(',')?;
        let day = if let Some(after) = rest.strip_prefix('J') {
            *rest = after;
            Day::Julian(number(rest, 1..=365)?)
        } else if let Some(after) = rest.strip_prefix('M') {
            *rest = after;
            let month = number(rest, 1..=12)?;
            *rest = rest.strip_prefix('.')?;
            let week = number(rest, 1..=5)?;
            *rest = rest.strip_prefix('.')?;
            Day::OfMonth { month, week, weekday: number(rest, 0..=6)? }
        } else {
            Day::OfYear(number(rest, 0..=365)?)
        };
        let second = match rest.strip_prefix('/') {
            Some(after) => {
                *rest = after;
                hours(rest)?
            }
            None => 7200,
        };
        Some(Self { day, second })
    }

    /// Seconds from 1970-01-01 00:00 local time.
    fn seconds(self, year: i64) -> i64 {
        let first = days_from_civil(year, 1, 1);
        let day = match self.day {
            Day::OfYear(day) => first + day,
            Day::Julian(day) => {
                let leap_day_passed = day >= 60 && days_in_month(year, 2) == 29;
                first + day - 1 + i64::from(leap_day_passed)
            }
            Day::OfMonth { month, week, weekday: wanted } => {
                let first = days_from_civil(year, month, 1);
                // `weekday` counts from Monday, the rule from Sunday.
                let to_wanted = (wanted - 1 - weekday(first)).rem_euclid(7);
                let day = to_wanted + (week - 1) * 7;
                first + if day < days_in_month(year, month) { day } else { day - 7 }
            }
        };
        day * DAY + self.second
    }
}

/// `CET` or `<+01>`.
fn name(rest: &mut &str) -> Option<String> {
    let (name, after) = match rest.strip_prefix('<') {
        Some(inner) => inner.split_once('>')?,
        None => rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())),
    };
    *rest = after;
    let fits =
        name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-".contains(&byte));
    fits.then(|| name.to_owned())
}

/// `[+-]hh[:mm[:ss]]` in seconds.
fn hours(rest: &mut &str) -> Option<i64> {
    let sign = if rest.starts_with('-') { -1 } else { 1 };
    *rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    let mut total = number(rest, 0..=167)? * 3600;
    for unit in [60, 1] {
        let Some(after) = rest.strip_prefix(':') else { break };
        *rest = after;
        total += number(rest, 0..=59)? * unit;
    }
    Some(sign * total)
}

fn number(rest: &mut &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    *rest = after;
    digits.parse().ok().filter(|number| range.contains(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn summer_time_begins_and_ends_by_the_rule() {
        // Moments of zdump(8).
        let cases: &[(&str, i64, i64, &str)] = &[
            ("CET-1CEST,M3.5.0,M10.5.0/3", 2_216_249_999, 3600, "CET"),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 2_216_250_000, 7200, "CEST"),
            ("<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45", 1_775_311_199, 49500, "+1345"),
            ("<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45", 1_775_311_200, 45900, "+1245"),
            ("EST5EDT,M3.2.0,M11.1.0", 1_772_953_200, -14400, "EDT"),
            ("EST5EDT,M3.2.0,M11.1.0", 1_772_953_199, -18000, "EST"),
            ("UTC0", 0, 0, "UTC"),
            ("AAA0BBB,J60/0,J61/0", 951_868_800, 3600, "BBB"),
            ("AAA0BBB,59/0,60/0", 951_782_400, 3600, "BBB"),
        ];
        for (rule, moment, offset, abbreviation) in cases {
            let parsed = Rule::parse(rule).unwrap();
            let found = parsed.at(*moment);
            assert_eq!(
                (found.offset, found.abbreviation.as_str()),
                (*offset, *abbreviation),
                "{rule} {moment}"
            );
        }
        for bad in ["", "C1", "CET", "CET-1CEST", "CET-1CEST,M13.1.0,M1.1.0", "CET-1,", "<CET1", "CET200"] {
            assert_eq!(Rule::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([A-Z]{3}|[0-9]|[-+,./<>:MJ]){0,20}", moment in any::<i32>()) {
            if let Some(rule) = Rule::parse(&text) {
                let _ = rule.at(i64::from(moment));
            }
        }
    }
}
