//! A moment, and how people write one: systemd.time(7), "Parsing timestamps".

use super::zone::{Resolved, TimeZone, TimeZones, is_zone_name};
use crate::civil::{DAY, civil_from_days, days_from_civil, days_in_month, weekday};
use crate::unit::value::time_span;

/// A moment: microseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Why a text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no timestamp such as `2026-03-05 17:00:00`, `yesterday`, `-1h` or `@1772730000`")]
pub struct TimestampError(pub String);

/// Days of the week in systemd's two spellings, Monday first.
pub(in super::super) const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

impl Timestamp {
    /// Reads a moment.
    ///
    /// # Errors
    /// [`TimestampError`] for what is none, lies before 1970 or does not exist on the clocks of its zone.
    pub fn parse(text: &str, now: Self, zones: &dyn TimeZones) -> Result<Self, TimestampError> {
        let text = text.trim();
        relative(text, now)
            .or_else(|| absolute(text, now, zones))
            .filter(|moment| moment.0 >= 0)
            .ok_or_else(|| TimestampError(text.to_owned()))
    }

    /// As systemd shows it: `Fri 2027-01-01 00:00:00 UTC`.
    #[must_use]
    pub fn show(self, zone: &TimeZone) -> String {
        let local = zone.at(self.0.div_euclid(SECOND));
        let wall = self.0.div_euclid(SECOND) + local.offset;
        let days = wall.div_euclid(DAY);
        let (year, month, day) = civil_from_days(days);
        let second = wall.rem_euclid(DAY);
        format!(
            "{} {year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} {}",
            weekday_name(days),
            second / 3600,
            second / 60 % 60,
            second % 60,
            local.abbreviation
        )
    }

    /// As systemd shows it from another moment: `2 months 5 days ago`, `3h 4min left`, `now`.
    #[must_use]
    pub fn show_from(self, now: Self) -> String {
        let span = show_roughly(self.0.abs_diff(now.0));
        match self.0.cmp(&now.0) {
            std::cmp::Ordering::Less => format!("{span} ago"),
            std::cmp::Ordering::Equal => "now".to_owned(),
            std::cmp::Ordering::Greater => format!("{span} left"),
        }
    }
}

/// Three letters.
fn weekday_name(days: i64) -> &'static str {
    let index = usize::try_from(weekday(days)).unwrap_or_default();
    WEEKDAYS.get(index).and_then(|name| name.get(..3)).unwrap_or_default()
}

/// A span of microseconds in at most two units: systemd's `format_timestamp_relative`.
fn show_roughly(us: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const WEEK: u64 = 7 * DAY;
    const MONTH: u64 = 2_629_800;
    const YEAR: u64 = 31_557_600;
    let named = |number: u64, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    match us / 1_000_000 {
        0 if us < 1000 => format!("{us}us"),
        0 => format!("{}ms", us / 1000),
        s if s >= YEAR => format!("{} {}", named(s / YEAR, "year"), named(s % YEAR / MONTH, "month")),
        s if s >= MONTH => format!("{} {}", named(s / MONTH, "month"), named(s % MONTH / DAY, "day")),
        s if s >= WEEK => format!("{} {}", named(s / WEEK, "week"), named(s % WEEK / DAY, "day")),
        s if s >= 2 * DAY => format!("{} days", s / DAY),
        s if s >= 25 * HOUR => format!("1 day {}h", (s - DAY) / HOUR),
        s if s >= 6 * HOUR => format!("{}h", s / HOUR),
        s if s >= HOUR => format!("{}h {}min", s / HOUR, s % HOUR / MINUTE),
        s if s >= 5 * MINUTE => format!("{}min", s / MINUTE),
        s if s >= MINUTE => format!("{}min {}s", s / MINUTE, s % MINUTE),
        s => format!("{s}s"),
    }
}

/// `now`, `+1h`, `-1h`, `1h ago`, `1h left`, `@123.5`.
fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text == "now" {
        return Some(now);
    }
    let micros = |text: &str| i64::try_from(time_span(text).ok()?.finite()?.as_micros()).ok();
    if let Some(seconds) = text.strip_prefix('@') {
        let plain = seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        return micros(seconds).filter(|_| plain).map(Timestamp);
    }
    let (span, forward) = if let Some(span) = text.strip_prefix('+') {
        (span, true)
    } else if let Some(span) = text.strip_prefix('-') {
        (span, false)
    } else if let Some(span) = text.strip_suffix(" left") {
        (span, true)
    } else {
        (text.strip_suffix(" ago")?, false)
    };
    let span = micros(span)?;
    if forward { now.0.checked_add(span) } else { now.0.checked_sub(span) }.map(Timestamp)
}

/// Where an absolute time holds.
enum Place {
    Zone(Box<TimeZone>),
    Offset(i64),
}

fn absolute(text: &str, now: Timestamp, zones: &dyn TimeZones) -> Option<Timestamp> {
    let (text, place) = split_place(text, zones)?;
    let now = now.0.div_euclid(SECOND);
    let today = match &place {
        Place::Zone(zone) => now + zone.at(now).offset,
        Place::Offset(offset) => now + offset,
    }
    .div_euclid(DAY);
    let (wanted_weekday, rest) = split_weekday(text);
    let (days, micros) = match rest {
        "today" => (today, 0),
        "yesterday" => (today - 1, 0),
        "tomorrow" => (today + 1, 0),
        rest => match rest.split_once(['T', ' ']) {
            Some((date, time)) => (read_date(date)?, read_time(time.trim_start())?),
            None if rest.contains(':') => (today, read_time(rest)?),
            None => (read_date(rest)?, 0),
        },
    };
    if wanted_weekday.is_some_and(|wanted| wanted != weekday(days)) {
        return None;
    }
    let wall = days * DAY + micros.div_euclid(SECOND);
    let seconds = match place {
        Place::Offset(offset) => wall - offset,
        Place::Zone(zone) => match zone.resolve(wall) {
            Resolved::Once(moment) | Resolved::Twice { first: moment, .. } => moment,
            Resolved::Never { .. } => return None,
        },
    };
    Some(Timestamp(seconds.checked_mul(SECOND)? + micros.rem_euclid(SECOND)))
}

/// Takes the zone off the end: `UTC`, a name, `+05:30` or `Z` after a space, or one of the last two right at the time.
fn split_place<'a>(text: &'a str, zones: &dyn TimeZones) -> Option<(&'a str, Place)> {
    if let Some((front, last)) = text.rsplit_once(' ') {
        if last == "UTC" || last == "Z" {
            return Some((front.trim_end(), Place::Offset(0)));
        }
        if let Some(offset) = read_offset(last) {
            return Some((front.trim_end(), Place::Offset(offset)));
        }
        if is_zone_name(last)
            && let Some(zone) = zones.named(last)
        {
            return Some((front.trim_end(), Place::Zone(Box::new(zone))));
        }
        // `Fri 2026-03-05 12:00:00 CET`, as it is shown.
        let local = zones.local();
        if front.contains(' ') && local.has_current(last) {
            return Some((front.trim_end(), Place::Zone(Box::new(local))));
        }
    }
    // Only after a time: the end of a date looks like an offset.
    if text.contains(':') {
        if let Some(front) = text.strip_suffix('Z') {
            return Some((front, Place::Offset(0)));
        }
        if let Some((front, offset)) = text.len().checked_sub(6).and_then(|at| text.split_at_checked(at))
            && offset.contains(':')
            && front.contains(':')
            && let Some(offset) = read_offset(offset)
        {
            return Some((front, Place::Offset(offset)));
        }
    }
    Some((text, Place::Zone(Box::new(zones.local()))))
}

/// `+05`, `+0530`, `+05:30` in seconds.
fn read_offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let (hours, minutes) = match (rest.len(), rest.split_once(':')) {
        (5, Some((hours, minutes))) => (hours, minutes),
        (4, None) => rest.split_at_checked(2)?,
        (2, None) => (rest, "0"),
        _ => return None,
    };
    let (hours, minutes) = (digits(hours, 14)?, digits(minutes, 59)?);
    Some(sign * (hours * 3600 + minutes * 60))
}

fn split_weekday(text: &str) -> (Option<i64>, &str) {
    let Some((first, rest)) = text.split_once(' ') else { return (None, text) };
    let fits = |name: &str| {
        first.eq_ignore_ascii_case(name)
            || name.get(..3).is_some_and(|short| first.eq_ignore_ascii_case(short))
    };
    match (0..).zip(WEEKDAYS).find(|(_, name)| fits(name)) {
        Some((index, _)) => (Some(index), rest.trim_start()),
        None => (None, text),
    }
}

/// `2026-03-05` or `26-03-05` in days.
fn read_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year = match (year.len(), digits(year, 9999)?) {
        (2, short @ 69..) => 1900 + short,
        (2, short) => 2000 + short,
        (4, year) => year,
        _ => return None,
    };
    let month = digits(month, 12).filter(|month| *month >= 1)?;
    let day = digits(day, days_in_month(year, month)).filter(|day| *day >= 1)?;
    parts.next().is_none().then(|| days_from_civil(year, month, day))
}

/// `12:00`, `12:00:30`, `12:00:30.5` in microseconds.
fn read_time(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (hour, minute) = (digits(parts.next()?, 23)?, digits(parts.next()?, 59)?);
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(second) => match second.split_once('.') {
            None => (digits(second, 59)?, 0),
            Some((second, fraction)) => {
                let padded: String = fraction.chars().chain("000000".chars()).take(6).collect();
                let plain = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
                (digits(second, 59)?, digits(&padded, 999_999).filter(|_| plain)?)
            }
        },
    };
    parts.next().is_none().then_some((hour * 3600 + minute * 60 + second) * SECOND + fraction)
}

fn digits(text: &str, most: i64) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number <= most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Fixed;

    impl TimeZones for Fixed {
        fn local(&self) -> TimeZone {
            TimeZone::utc()
        }

        fn named(&self, _: &str) -> Option<TimeZone> {
            None
        }
    }

    /// Fri 2012-11-23 18:15:22 UTC.
    const NOW: Timestamp = Timestamp(1_353_694_522_000_000);

    #[test]
    fn timestamps_are_read_as_the_manual_has_them() {
        for (text, want) in [
            ("Fri 2012-11-23 11:12:13", Some("Fri 2012-11-23 11:12:13 UTC")),
            ("friday 2012-11-23T11:12:13Z", Some("Fri 2012-11-23 11:12:13 UTC")),
            ("2012-11-23T11:12+02:00", Some("Fri 2012-11-23 09:12:00 UTC")),
            ("2012-11-23 11:12 +0230", Some("Fri 2012-11-23 08:42:00 UTC")),
            ("2012-11-23 11:12 -02", Some("Fri 2012-11-23 13:12:00 UTC")),
            ("2012-11-23", Some("Fri 2012-11-23 00:00:00 UTC")),
            ("12-11-23", Some("Fri 2012-11-23 00:00:00 UTC")),
            ("11:12:13", Some("Fri 2012-11-23 11:12:13 UTC")),
            ("11:12", Some("Fri 2012-11-23 11:12:00 UTC")),
            ("now", Some("Fri 2012-11-23 18:15:22 UTC")),
            ("today", Some("Fri 2012-11-23 00:00:00 UTC")),
            ("today UTC", Some("Fri 2012-11-23 00:00:00 UTC")),
            ("yesterday", Some("Thu 2012-11-22 00:00:00 UTC")),
            ("tomorrow", Some("Sat 2012-11-24 00:00:00 UTC")),
            ("+3h30min", Some("Fri 2012-11-23 21:45:22 UTC")),
            ("-5s", Some("Fri 2012-11-23 18:15:17 UTC")),
            ("11min ago", Some("Fri 2012-11-23 18:04:22 UTC")),
            ("1h left", Some("Fri 2012-11-23 19:15:22 UTC")),
            ("@1395716396", Some("Tue 2014-03-25 02:59:56 UTC")),
            ("Thu 2012-11-23", None),
            ("2012-13-01", None),
            ("2013-02-29", None),
            ("24:00", None),
            ("1960-01-01", None),
            ("2012-11-23 11:12 Nowhere", None),
            ("", None),
            ("@", None),
            ("@1 h", None),
        ] {
            let got = Timestamp::parse(text, NOW, &Fixed).ok().map(|moment| moment.show(&TimeZone::utc()));
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
        let fraction = Timestamp::parse("2014-03-25 03:59:56.654563", NOW, &Fixed).unwrap();
        assert_eq!(fraction.0 % SECOND, 654_563);
    }

    #[test]
    fn spans_from_now_are_shown_in_two_units() {
        for (seconds, want) in [
            (0, "now"),
            (-34, "34s ago"),
            (75, "1min 15s left"),
            (600, "10min left"),
            (3720, "1h 2min left"),
            (22_000, "6h left"),
            (93_600, "1 day 2h left"),
            (172_800, "2 days left"),
            (-604_800, "1 week 0 days ago"),
            (2_629_800 * 2, "2 months 0 days left"),
            (31_557_600 + 2_629_800, "1 year 1 month left"),
        ] {
            assert_eq!(Timestamp(NOW.0 + seconds * SECOND).show_from(NOW), want);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(seconds in 0..4_000_000_000i64) {
            let moment = Timestamp(seconds * SECOND);
            prop_assert_eq!(Timestamp::parse(&moment.show(&TimeZone::utc()), NOW, &Fixed), Ok(moment));
        }

        #[test]
        fn no_text_panics(text in "([0-9:.@ TZ+-]|Mon|ago|\\PC){0,20}") {
            let _ = Timestamp::parse(&text, NOW, &Fixed);
        }
    }
}
