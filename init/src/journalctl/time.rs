//! Points in time as people write them, and as they read them: systemd.time(7), "Parsing Timestamps".

use image_config::unit::value;

use crate::sys::localtime::{Calendar, calendar, moment};

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;
/// Days of the week, Sunday first.
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Months' short names.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads a point in time, in microseconds since 1970; `now` is that too. `None` when it is none.
///
/// `now`, `today`, `yesterday`, `tomorrow`, `-1h`, `+5min`, `2 days ago`, `1h left`, `@1395716396`,
/// `2026-11-26 02:56:09.5`, `2026-11-26`, `02:56`, a weekday before it, `UTC` or an offset behind it,
/// `2026-11-26T02:56:09Z`.
pub fn parse(text: &str, now: u64) -> Option<u64> {
    let text = text.trim();
    if let Some(span) = text.strip_prefix('-').or_else(|| text.strip_suffix(" ago")) {
        return now.checked_sub(span_of(span)?);
    }
    if let Some(span) = text.strip_prefix('+').or_else(|| text.strip_suffix(" left")) {
        return now.checked_add(span_of(span)?);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return span_of(seconds).filter(|_| seconds.starts_with(|c: char| c.is_ascii_digit()));
    }
    let (text, zone) = take_zone(text);
    let utc = !matches!(zone, Zone::Local);
    let shift = match zone {
        Zone::Offset(seconds) => seconds,
        Zone::Local | Zone::Utc => 0,
    };
    let today = calendar(i64::try_from(now / SECOND).ok()?.checked_add(shift)?, utc);
    let midnight = Calendar { hour: 0, minute: 0, second: 0, ..today.clone() };
    let at = |date: &Calendar, micros: u64| {
        let seconds = moment(date, utc)?.checked_sub(shift)?;
        u64::try_from(seconds).ok()?.checked_mul(SECOND)?.checked_add(micros)
    };
    match text {
        "now" => return Some(now),
        "today" => return at(&midnight, 0),
        "yesterday" => {
            // Day 0 is the day before the first.
            return at(&Calendar { day: midnight.day.checked_sub(1)?, ..midnight }, 0);
        }
        "tomorrow" => return at(&Calendar { day: midnight.day + 1, ..midnight }, 0),
        _ => {}
    }
    let (weekday, text) = take_weekday(text);
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (Some(date), Some(clock.trim())),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let mut when = midnight;
    if let Some(date) = date {
        (when.year, when.month, when.day) = parse_date(date)?;
    }
    let mut micros = 0;
    if let Some(clock) = clock {
        (when.hour, when.minute, when.second, micros) = parse_clock(clock)?;
    }
    let result = at(&when, micros)?;
    let check = calendar(i64::try_from(result / SECOND).ok()?.checked_add(shift)?, utc);
    let exists = (check.month, check.day) == (when.month, when.day);
    (exists && weekday.is_none_or(|day| day == check.weekday)).then_some(result)
}

fn span_of(text: &str) -> Option<u64> {
    let span = value::time_span(text.trim()).ok()?.finite()?;
    u64::try_from(span.as_micros()).ok()
}

enum Zone {
    Local,
    Utc,
    /// Seconds east of Greenwich.
    Offset(i64),
}

fn take_zone(text: &str) -> (&str, Zone) {
    if let Some(rest) = text.strip_suffix(" UTC") {
        return (rest, Zone::Utc);
    }
    let has_clock = text.contains(':');
    if let Some(rest) = text.strip_suffix('Z').filter(|_| has_clock) {
        return (rest, Zone::Utc);
    }
    // `+02:00`, `-0200`, `+02` behind a time.
    let clock = text.find(':').unwrap_or(text.len());
    let sign = text.rfind(['+', '-']).filter(|place| *place > clock);
    if let Some((rest, offset)) = sign.and_then(|place| text.split_at_checked(place)) {
        let digits: String = offset.chars().filter(char::is_ascii_digit).collect();
        let number = |from: usize| digits.get(from..from + 2).and_then(|two| two.parse::<i64>().ok());
        if let (Some(hours), 2 | 4) = (number(0), digits.len()) {
            let seconds = hours * 3600 + number(2).unwrap_or(0) * 60;
            let seconds = if offset.starts_with('-') { -seconds } else { seconds };
            return (rest.trim_end(), Zone::Offset(seconds));
        }
    }
    (text, Zone::Local)
}

fn take_weekday(text: &str) -> (Option<u32>, &str) {
    let Some((word, rest)) = text.split_once(' ') else { return (None, text) };
    let word = word.trim_end_matches(',');
    let is = |day: &str| {
        day.eq_ignore_ascii_case(word) || day.get(..3).is_some_and(|short| short.eq_ignore_ascii_case(word))
    };
    match DAYS.iter().position(|day| is(day)) {
        Some(day) => (u32::try_from(day).ok(), rest.trim_start()),
        None => (None, text),
    }
}

/// `2026-11-26`, `26-11-26`.
fn parse_date(text: &str) -> Option<(i64, u32, u32)> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.next().is_some() || ![year, month, day].into_iter().all(is_number) {
        return None;
    }
    let number: i64 = year.parse().ok()?;
    let year = match year.len() {
        4 => number,
        2 if number >= 69 => 1900 + number,
        2 => 2000 + number,
        _ => return None,
    };
    let (month, day) = (month.parse().ok()?, day.parse().ok()?);
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then_some((year, month, day))
}

/// `02:56:09.123456`, `02:56`; hours, minutes, seconds, microseconds.
fn parse_clock(text: &str) -> Option<(u32, u32, u32, u64)> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(clock, rest)| (clock, Some(rest)));
    let mut parts = clock.split(':').map(|part| {
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| digits)
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let micros = match fraction {
        None => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits:0<6}").get(..6)?.parse().ok()?
        }
        Some(_) => return None,
    };
    (parts.next().is_none() && hour < 24 && minute < 60 && second < 60)
        .then_some((hour, minute, second, micros))
}

/// A moment in microseconds since 1970 on the calendar.
fn on_calendar(micros: u64, utc: bool) -> (Calendar, u64) {
    (calendar(i64::try_from(micros / SECOND).unwrap_or(0), utc), micros % SECOND)
}

fn month(date: &Calendar) -> &'static str {
    usize::try_from(date.month).ok().and_then(|month| MONTHS.get(month.checked_sub(1)?)).unwrap_or(&"???")
}

/// `Nov 26 02:56:09`, the time of syslog.
pub fn short(micros: u64, utc: bool) -> String {
    let (date, _) = on_calendar(micros, utc);
    format!("{} {:02} {:02}:{:02}:{:02}", month(&date), date.day, date.hour, date.minute, date.second)
}

/// `Nov 26 02:56:09.123456`
pub fn short_precise(micros: u64, utc: bool) -> String {
    format!("{}.{:06}", short(micros, utc), micros % SECOND)
}

/// `2026-11-26T02:56:09+00:00`, with microseconds when `precise`.
pub fn iso(micros: u64, utc: bool, precise: bool) -> String {
    let (date, fraction) = on_calendar(micros, utc);
    let fraction = if precise { format!(".{fraction:06}") } else { String::new() };
    let (sign, offset) = (if date.offset < 0 { '-' } else { '+' }, date.offset.unsigned_abs() / 60);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{sign}{:02}:{:02}",
        date.year,
        date.month,
        date.day,
        date.hour,
        date.minute,
        date.second,
        offset / 60,
        offset % 60
    )
}

/// `Thu 2026-11-26 02:56:09 UTC`, with microseconds when `precise`.
pub fn full(micros: u64, utc: bool, precise: bool) -> String {
    let (date, fraction) = on_calendar(micros, utc);
    let fraction = if precise { format!(".{fraction:06}") } else { String::new() };
    let day = usize::try_from(date.weekday).ok().and_then(|day| DAYS.get(day)?.get(..3)).unwrap_or("???");
    format!(
        "{day} {:04}-{:02}-{:02} {:02}:{:02}:{:02}{fraction} {}",
        date.year, date.month, date.day, date.hour, date.minute, date.second, date.zone
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-26 02:56:09.5 UTC, a Thursday.
    const NOW: u64 = 1_795_661_769_500_000;
    const DAY: u64 = 86_400 * SECOND;
    const MIDNIGHT: u64 = NOW / DAY * DAY;

    #[test]
    fn points_in_time_of_the_manual_page() {
        let cases = [
            ("now", Some(NOW)),
            ("today UTC", Some(MIDNIGHT)),
            ("yesterday UTC", Some(MIDNIGHT - DAY)),
            ("tomorrow UTC", Some(MIDNIGHT + DAY)),
            ("-1h", Some(NOW - 3600 * SECOND)),
            ("+1h30min", Some(NOW + 5400 * SECOND)),
            ("2 days ago", Some(NOW - 2 * DAY)),
            ("@1395716396", Some(1_395_716_396 * SECOND)),
            ("@1395716396.5", Some(1_395_716_396 * SECOND + 500_000)),
            ("2026-11-26 02:56:09.5 UTC", Some(NOW)),
            ("Thu 2026-11-26 02:56:09.5 UTC", Some(NOW)),
            ("Fri 2026-11-26 02:56:09.5 UTC", None),
            ("2026-11-26T02:56:09.5Z", Some(NOW)),
            ("2026-11-26T04:56:09.5+02:00", Some(NOW)),
            ("2026-11-25 20:56:09.5-0600", Some(NOW)),
            ("26-11-26 UTC", Some(MIDNIGHT)),
            ("00:00 UTC", Some(MIDNIGHT)),
            ("2026-02-30 UTC", None),
            ("2026-13-01", None),
            ("25:00", None),
            ("nope", None),
            ("", None),
            ("-", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, NOW), expected, "{text}");
        }
    }

    #[test]
    fn the_day_before_the_first_is_the_last_of_the_month_before() {
        let first = parse("2026-03-01 12:00 UTC", NOW).unwrap();
        assert_eq!(parse("yesterday UTC", first), parse("2026-02-28 UTC", NOW));
    }

    #[test]
    fn moments_are_shown_in_all_forms() {
        assert_eq!(short(NOW, true), "Nov 26 02:56:09");
        assert_eq!(short_precise(NOW, true), "Nov 26 02:56:09.500000");
        assert_eq!(iso(NOW, true, false), "2026-11-26T02:56:09+00:00");
        assert_eq!(full(NOW, true, true), "Thu 2026-11-26 02:56:09.500000 UTC");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(micros in 0_u64..4_000_000_000_000_000) {
            prop_assert_eq!(parse(&full(micros, true, true), NOW), Some(micros));
            prop_assert_eq!(parse(&iso(micros, true, true), NOW), Some(micros));
        }

        #[test]
        fn no_text_makes_it_panic(text: String, tail in "[0-9:TZ@+ .-]{0,30}") {
            parse(&text, NOW);
            parse(&tail, NOW);
        }
    }
}
