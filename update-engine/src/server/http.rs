//! What HTTP asks of a file (RFC 9110): conditions and one range. Pure.

use std::fmt::Write as _;

use image_config::civil::civil_from_days;

/// Seconds of a day.
const DAY: u64 = 86_400;
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The headers of a request that matter for a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Whether it is a GET; ranges mean nothing for others (14.2).
    pub is_get: bool,
    /// `Range`
    pub range: Option<&'a str>,
    /// `If-Range`
    pub if_range: Option<&'a str>,
    /// `If-Match`
    pub if_match: Option<&'a str>,
    /// `If-None-Match`
    pub if_none_match: Option<&'a str>,
    /// `If-Modified-Since`
    pub if_modified_since: Option<&'a str>,
    /// `If-Unmodified-Since`
    pub if_unmodified_since: Option<&'a str>,
}

/// What a file is.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// Bytes.
    pub length: u64,
    /// Its strong entity tag, with the quotes.
    pub etag: &'a str,
    /// `Last-Modified`, as it is written in the header.
    pub modified: &'a str,
}

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// 200, all of it.
    Whole,
    /// 206, so many bytes from an offset; never 0.
    Part {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// 304
    NotModified,
    /// 412
    PreconditionFailed,
    /// 416
    NotSatisfiable,
}

/// Decides what to answer, in the order of RFC 9110, 13.2.2.
pub fn plan(asked: &Asked<'_>, held: &Held<'_>) -> Plan {
    // Step 1, or 2 where there is no If-Match. Dates are compared as texts: a client sends back what it got, and no
    // other date says that it has this file.
    match (asked.if_match, asked.if_unmodified_since) {
        (Some(tags), _) if !lists(tags, held.etag, Comparison::Strong) => return Plan::PreconditionFailed,
        (None, Some(date)) if date != held.modified => return Plan::PreconditionFailed,
        _ => {}
    }
    // Step 3, or 4 where there is no If-None-Match.
    match (asked.if_none_match, asked.if_modified_since) {
        (Some(tags), _) if lists(tags, held.etag, Comparison::Weak) => return Plan::NotModified,
        (None, Some(date)) if date == held.modified => return Plan::NotModified,
        _ => {}
    }
    // Step 5: a range only of the very file that the client has a part of. A date could be of two files of one second.
    let same = asked.if_range.is_none_or(|validator| validator == held.etag);
    match asked.range.filter(|_| asked.is_get && same) {
        Some(range) => part(range, held.length),
        None => Plan::Whole,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags has one (8.8.3.2, 13.1.1).
fn lists(tags: &str, etag: &str, comparison: Comparison) -> bool {
    tags.split(',').map(str::trim).any(|tag| match tag.strip_prefix("W/") {
        Some(weak) => comparison == Comparison::Weak && weak == etag,
        None => tag == "*" || tag == etag,
    })
}

/// One range of bytes (14.1.2). Several ranges, other units and what cannot be read are ignored, as 14.2 allows.
fn part(range: &str, length: u64) -> Plan {
    let Some(spec) = range.strip_prefix("bytes=").map(str::trim).filter(|spec| !spec.contains(',')) else {
        return Plan::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else { return Plan::Whole };
    match (number(first), number(last)) {
        (Number::Is(first), Number::Is(last)) if first > last => Plan::Whole,
        (Number::Is(first), _) if first >= length => Plan::NotSatisfiable,
        (Number::Is(first), Number::Is(last)) => {
            Plan::Part { offset: first, length: last.min(length - 1) - first + 1 }
        }
        (Number::Is(first), Number::Empty) => Plan::Part { offset: first, length: length - first },
        (Number::Empty, Number::Is(0)) => Plan::NotSatisfiable,
        (Number::Empty, Number::Is(_)) if length == 0 => Plan::NotSatisfiable,
        (Number::Empty, Number::Is(suffix)) => {
            let length_of_part = suffix.min(length);
            Plan::Part { offset: length - length_of_part, length: length_of_part }
        }
        _ => Plan::Whole,
    }
}

enum Number {
    Empty,
    Is(u64),
    Not,
}

fn number(text: &str) -> Number {
    if text.is_empty() {
        return Number::Empty;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Not;
    }
    // More digits than fit is beyond any file.
    Number::Is(text.parse().unwrap_or(u64::MAX))
}

/// A moment as headers write it (5.6.7): `Thu, 26 Nov 2026 08:00:00 GMT`.
pub fn date(unix: u64) -> String {
    let (days, seconds) = (unix / DAY, unix % DAY);
    // No day that fits is beyond the calendar's range.
    let (year, month, day) = civil_from_days(i64::try_from(days).unwrap_or(0));
    let weekday = usize::try_from(days % 7).ok().and_then(|day| DAYS.get(day)).unwrap_or(&"");
    let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"");
    let mut text = format!("{weekday}, {day:02} {month} {year:04} ");
    // Writing into a String cannot fail.
    let _ = write!(text, "{:02}:{:02}:{:02} GMT", seconds / 3600, seconds / 60 % 60, seconds % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELD: Held<'_> = Held { length: 1000, etag: "\"abc\"", modified: "Thu, 26 Nov 2026 08:00:00 GMT" };

    fn ranged(range: &str) -> Plan {
        plan(&Asked { is_get: true, range: Some(range), ..Asked::default() }, &HELD)
    }

    #[test]
    fn one_range_is_served_and_others_are_not() {
        let part = |offset, length| Plan::Part { offset, length };
        let cases = [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-999", part(0, 1000)),
            ("bytes=10-19", part(10, 10)),
            ("bytes=990-5000", part(990, 10)),
            ("bytes=500-", part(500, 500)),
            ("bytes=-1", part(999, 1)),
            ("bytes=-5000", part(0, 1000)),
            ("bytes=0-99999999999999999999999", part(0, 1000)),
            ("bytes=1000-", Plan::NotSatisfiable),
            ("bytes=1000-1001", Plan::NotSatisfiable),
            ("bytes=-0", Plan::NotSatisfiable),
            // Ignored (RFC 9110, 14.2).
            ("bytes=20-10", Plan::Whole),
            ("bytes=0-1,5-6", Plan::Whole),
            ("lines=0-1", Plan::Whole),
            ("bytes=", Plan::Whole),
            ("bytes=-", Plan::Whole),
            ("bytes=+1-2", Plan::Whole),
            ("bytes=a-b", Plan::Whole),
        ];
        for (range, want) in cases {
            assert_eq!(ranged(range), want, "{range}");
        }
        let head = Asked { range: Some("bytes=0-0"), ..Asked::default() };
        assert_eq!(plan(&head, &HELD), Plan::Whole, "HEAD has no ranges");
        let empty = Held { length: 0, ..HELD };
        for range in ["bytes=0-", "bytes=-1"] {
            let asked = Asked { is_get: true, range: Some(range), ..Asked::default() };
            assert_eq!(plan(&asked, &empty), Plan::NotSatisfiable, "{range} of nothing");
        }
    }

    #[test]
    fn a_range_is_of_the_file_that_the_client_knows() {
        for (if_range, want) in [
            ("\"abc\"", Plan::Part { offset: 0, length: 10 }),
            ("\"abd\"", Plan::Whole),
            ("W/\"abc\"", Plan::Whole),
            // A date is no strong validator here.
            ("Thu, 26 Nov 2026 08:00:00 GMT", Plan::Whole),
        ] {
            let asked = Asked {
                is_get: true,
                range: Some("bytes=0-9"),
                if_range: Some(if_range),
                ..Asked::default()
            };
            assert_eq!(plan(&asked, &HELD), want, "{if_range}");
        }
    }

    #[test]
    fn conditions_are_judged_in_their_order() {
        let get = Asked { is_get: true, ..Asked::default() };
        for (asked, want) in [
            (Asked { if_none_match: Some("\"abc\""), ..get }, Plan::NotModified),
            (Asked { if_none_match: Some("\"x\", W/\"abc\""), ..get }, Plan::NotModified),
            (Asked { if_none_match: Some("*"), ..get }, Plan::NotModified),
            (Asked { if_none_match: Some("\"x\""), ..get }, Plan::Whole),
            // The tag counts, the date does not.
            (
                Asked { if_none_match: Some("\"x\""), if_modified_since: Some(HELD.modified), ..get },
                Plan::Whole,
            ),
            (Asked { if_modified_since: Some(HELD.modified), ..get }, Plan::NotModified),
            (Asked { if_modified_since: Some("Thu, 26 Nov 2026 07:00:00 GMT"), ..get }, Plan::Whole),
            (Asked { if_match: Some("\"abc\""), ..get }, Plan::Whole),
            (Asked { if_match: Some("W/\"abc\""), ..get }, Plan::PreconditionFailed),
            (
                Asked { if_match: Some("\"x\""), if_none_match: Some("\"abc\""), ..get },
                Plan::PreconditionFailed,
            ),
            (Asked { if_unmodified_since: Some("never"), ..get }, Plan::PreconditionFailed),
            (Asked { if_none_match: Some("\"abc\""), range: Some("bytes=0-1"), ..get }, Plan::NotModified),
        ] {
            assert_eq!(plan(&asked, &HELD), want, "{asked:?}");
        }
    }

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_lies_in_the_file(range in "(bytes=)?[0-9-]{0,8}", length in 0..3000u64) {
            let asked = Asked { is_get: true, range: Some(&range), ..Asked::default() };
            if let Plan::Part { offset, length: part } = plan(&asked, &Held { length, ..HELD }) {
                prop_assert!(part > 0 && offset + part <= length);
            }
        }

        #[test]
        fn any_headers_never_panic(text in "\\PC{0,30}") {
            let all = Some(text.as_str());
            for asked in [
                Asked { is_get: true, range: all, ..Asked::default() },
                Asked { is_get: true, if_match: all, ..Asked::default() },
                Asked { is_get: true, if_none_match: all, if_range: all, range: all, ..Asked::default() },
            ] {
                let _ = plan(&asked, &HELD);
            }
        }
    }
}
