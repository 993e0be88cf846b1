//! Values of settings: booleans, spans of time, sizes, modes.

use std::fmt;
use std::time::Duration;

/// Where a program with a bare name is looked for, in this order.
/// (systemd's default where `/bin` and `/sbin` are links into `/usr`.)
pub const SEARCH_PATH: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// `DefaultTimeoutStartSec=` and `DefaultTimeoutStopSec=` of systemd.
pub(super) const DEFAULT_TIMEOUT: TimeSpan = TimeSpan::Finite(Duration::from_secs(90));

/// A span of time, or none that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeSpan {
    /// This long; a whole number of microseconds.
    Finite(Duration),
    /// Without end.
    Infinity,
}

impl TimeSpan {
    /// The duration, or `None` for a span without end.
    #[must_use]
    pub fn finite(self) -> Option<Duration> {
        match self {
            Self::Finite(duration) => Some(duration),
            Self::Infinity => None,
        }
    }

    /// A zero that means "no limit", as in `TimeoutStartSec=0`.
    #[must_use]
    pub fn zero_is_infinity(self) -> Self {
        match self {
            Self::Finite(Duration::ZERO) => Self::Infinity,
            other => other,
        }
    }
}

/// Units of time in microseconds: systemd.time(7). A month is 30.44 days, a year 365.25.
const TIME_UNITS: [(&str, u64); 28] = [
    ("seconds", 1_000_000),
    ("second", 1_000_000),
    ("sec", 1_000_000),
    ("s", 1_000_000),
    ("minutes", 60_000_000),
    ("minute", 60_000_000),
    ("min", 60_000_000),
    ("m", 60_000_000),
    ("months", 2_629_800_000_000),
    ("month", 2_629_800_000_000),
    ("M", 2_629_800_000_000),
    ("msec", 1000),
    ("ms", 1000),
    ("hours", 3_600_000_000),
    ("hour", 3_600_000_000),
    ("hr", 3_600_000_000),
    ("h", 3_600_000_000),
    ("days", 86_400_000_000),
    ("day", 86_400_000_000),
    ("d", 86_400_000_000),
    ("weeks", 604_800_000_000),
    ("week", 604_800_000_000),
    ("w", 604_800_000_000),
    ("years", 31_557_600_000_000),
    ("year", 31_557_600_000_000),
    ("y", 31_557_600_000_000),
    ("usec", 1),
    ("us", 1),
];

/// Why a value is refused; says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct ValueError {
    /// The value as written.
    pub value: String,
    /// What is wanted, with an article.
    pub expected: &'static str,
}

pub(super) fn refuse<T>(value: &str, expected: &'static str) -> Result<T, ValueError> {
    Err(ValueError { value: value.to_owned(), expected })
}

/// `yes`, `true`, `on`, `1`, `y`, `t` and their opposites, in any case.
///
/// # Errors
/// [`ValueError`] for anything else.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => refuse(text, "a boolean"),
    }
}

/// A span of time: `5min 20s`, `1.5h`, `90` (seconds), `infinity`.
///
/// # Errors
/// [`ValueError`] when it is none, is negative or does not fit 64 bits of microseconds.
pub fn time_span(text: &str) -> Result<TimeSpan, ValueError> {
    if text.trim() == "infinity" {
        return Ok(TimeSpan::Infinity);
    }
    microseconds(text, 1_000_000).map(|us| TimeSpan::Finite(Duration::from_micros(us)))
}

/// A span of time in microseconds; numbers without unit count `default_unit` microseconds.
fn microseconds(text: &str, default_unit: u64) -> Result<u64, ValueError> {
    const EXPECTED: &str = "a span of time such as `90`, `5min 20s` or `infinity`";
    let mut rest = text.trim();
    if rest.is_empty() {
        return refuse(text, EXPECTED);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = take(rest, |c| c.is_ascii_digit());
        let Some((fraction, after)) = take_fraction(after) else { return refuse(text, EXPECTED) };
        if number.is_empty() && fraction.is_empty() {
            return refuse(text, EXPECTED);
        }
        let (unit, after) = take(after.trim_start(), |c| c.is_alphabetic() || c == 'µ');
        let scale = match unit {
            "" => default_unit,
            "µs" | "μs" => 1,
            unit => match TIME_UNITS.iter().find(|(name, _)| *name == unit) {
                Some((_, scale)) => *scale,
                None => return refuse(text, EXPECTED),
            },
        };
        let part = decimal(number, fraction, scale).and_then(|part| total.checked_add(part));
        let Some(sum) = part else { return refuse(text, EXPECTED) };
        total = sum;
        rest = after.trim_start();
    }
    Ok(total)
}

/// A span of time in nanoseconds, which is also what numbers without unit are.
///
/// # Errors
/// [`ValueError`] when it is none or does not fit 64 bits.
pub fn nanoseconds(text: &str) -> Result<u64, ValueError> {
    const EXPECTED: &str = "a span of time such as `50us` or nanoseconds";
    let number =
        text.trim().strip_suffix("nsec").or_else(|| text.trim().strip_suffix("ns")).unwrap_or(text.trim());
    if let Ok(number) = number.trim_end().parse() {
        return Ok(number);
    }
    match microseconds(text, 1).map(|us| us.checked_mul(1000)) {
        Ok(Some(nanoseconds)) => Ok(nanoseconds),
        _ => refuse(text, EXPECTED),
    }
}

/// A size in bytes with base 1024: `512`, `64K`, `1.5G`.
///
/// # Errors
/// [`ValueError`] when it is none or does not fit 64 bits.
pub fn size(text: &str) -> Result<u64, ValueError> {
    scaled_size(text, 1024)
}

/// A size in bytes with base 1000, as bandwidths are counted: `5M` is 5,000,000.
///
/// # Errors
/// [`ValueError`] when it is none or does not fit 64 bits.
pub fn decimal_size(text: &str) -> Result<u64, ValueError> {
    scaled_size(text, 1000)
}

fn scaled_size(text: &str, base: u64) -> Result<u64, ValueError> {
    const EXPECTED: &str = "a size such as `512`, `64K` or `1.5G`";
    let (number, after) = take(text, |c| c.is_ascii_digit());
    let Some((fraction, after)) = take_fraction(after) else { return refuse(text, EXPECTED) };
    let power = match after.trim_start() {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return refuse(text, EXPECTED),
    };
    if number.is_empty() {
        return refuse(text, EXPECTED);
    }
    decimal(number, fraction, base.pow(power)).map_or_else(|| refuse(text, EXPECTED), Ok)
}

/// `number.fraction` times `scale`, rounded down; `None` when it does not fit.
fn decimal(number: &str, fraction: &str, scale: u64) -> Option<u64> {
    let whole = if number.is_empty() { 0 } else { number.parse::<u64>().ok()? };
    let mut total = whole.checked_mul(scale)?;
    // 18 digits are more than any unit resolves.
    let mut digit_scale = scale;
    for digit in fraction.chars().take(18).filter_map(|c| c.to_digit(10)) {
        total = total.checked_add(digit_scale.checked_mul(u64::from(digit)).map_or(0, |part| part / 10))?;
        digit_scale /= 10;
    }
    Some(total)
}

fn take(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !wanted(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// The digits after a decimal point, if there is one: then at least one digit, and no second point.
fn take_fraction(text: &str) -> Option<(&str, &str)> {
    let Some(after) = text.strip_prefix('.') else { return Some(("", text)) };
    let (digits, after) = take(after, |c| c.is_ascii_digit());
    (!digits.is_empty() && !after.starts_with('.')).then_some((digits, after))
}

/// Permission bits in octal, up to 7777.
///
/// # Errors
/// [`ValueError`] for anything else.
pub fn mode(text: &str) -> Result<u32, ValueError> {
    let octal = !text.is_empty() && text.len() <= 5 && text.chars().all(|c| c.is_digit(8));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Ok(mode),
        _ => refuse(text, "an octal mode such as `0755`"),
    }
}

/// A whole number within a range.
///
/// # Errors
/// [`ValueError`] saying `expected` when it is none or outside.
pub fn integer(
    text: &str,
    range: std::ops::RangeInclusive<i32>,
    expected: &'static str,
) -> Result<i32, ValueError> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => refuse(text, expected),
    }
}

/// A whole number from 0 to 2^32-1.
///
/// # Errors
/// [`ValueError`] for anything else.
pub fn unsigned(text: &str) -> Result<u32, ValueError> {
    text.parse().or_else(|_| refuse(text, "a whole number"))
}

/// A whole number from 0 to 2^64-1.
///
/// # Errors
/// [`ValueError`] for anything else.
pub fn count(text: &str) -> Result<u64, ValueError> {
    text.parse().or_else(|_| refuse(text, "a whole number"))
}

/// An absolute path, with repeated slashes and the one at its end removed; no `..`.
///
/// # Errors
/// [`ValueError`] for anything else.
pub fn absolute_path(text: &str) -> Result<String, ValueError> {
    if !text.starts_with('/') || text.len() > 4095 || text.split('/').any(|part| part == "..") {
        return refuse(text, "an absolute path without `..`");
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(format!("/{}", parts.join("/")))
}

/// One of a fixed set of words.
///
/// # Errors
/// [`ValueError`] for a word that is not in `table`.
pub fn choice<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, ValueError> {
    match table.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => refuse(text, "one of the values of this key"),
    }
}

impl fmt::Display for TimeSpan {
    /// As systemd shows it: `1min 30s`, `infinity`, `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: [(&str, u64); 9] = [
            ("y", 31_557_600_000_000),
            ("month", 2_629_800_000_000),
            ("w", 604_800_000_000),
            ("d", 86_400_000_000),
            ("h", 3_600_000_000),
            ("min", 60_000_000),
            ("s", 1_000_000),
            ("ms", 1000),
            ("us", 1),
        ];
        let Self::Finite(duration) = self else { return f.write_str("infinity") };
        let mut rest = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0");
        }
        let mut space = "";
        for (unit, scale) in SHOWN {
            if rest >= scale {
                write!(f, "{space}{}{unit}", rest / scale)?;
                rest %= scale;
                space = " ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_of_time_are_read() {
        let cases: &[(&str, Option<u64>)] = &[
            ("5", Some(5_000_000)),
            ("0", Some(0)),
            ("90ms", Some(90_000)),
            ("5min 20s", Some(320_000_000)),
            ("5min20s", Some(320_000_000)),
            ("1.5h", Some(5_400_000_000)),
            (".5", Some(500_000)),
            ("1 s", Some(1_000_000)),
            ("1M", Some(2_629_800_000_000)),
            ("3 µs", Some(3)),
            ("1y 1month", Some(34_187_400_000_000)),
            ("", None),
            (" ", None),
            ("s", None),
            ("-1", None),
            ("5 parsecs", None),
            ("1..5", None),
            ("3.s", None),
            ("12.34.56", None),
            ("18446744073709551615min", None),
        ];
        for (text, want) in cases {
            let got = time_span(text)
                .ok()
                .and_then(TimeSpan::finite)
                .map(|d| u64::try_from(d.as_micros()).unwrap());
            assert_eq!(got, *want, "{text:?}");
        }
        assert_eq!(time_span("infinity"), Ok(TimeSpan::Infinity));
    }

    #[test]
    fn sizes_have_base_1024() {
        let cases: &[(&str, Option<u64>)] = &[
            ("512", Some(512)),
            ("64K", Some(65_536)),
            ("1.5G", Some(1_610_612_736)),
            ("1 M", Some(1 << 20)),
            ("0", Some(0)),
            ("16E", None),
            ("K", None),
            ("", None),
            ("1KB", None),
            ("-1", None),
        ];
        for (text, want) in cases {
            assert_eq!(size(text).ok(), *want, "{text:?}");
        }
    }

    #[test]
    fn booleans_modes_and_paths_are_read() {
        assert_eq!((boolean("Yes"), boolean("OFF")), (Ok(true), Ok(false)));
        assert!(boolean("").is_err() && boolean("2").is_err());
        assert_eq!(mode("0755"), Ok(0o755));
        assert!(
            mode("0o755").is_err() && mode("+755").is_err() && mode("10000").is_err() && mode("").is_err()
        );
        assert_eq!(absolute_path("//a/./b/").as_deref(), Ok("/a/b"));
        assert!(absolute_path("a").is_err() && absolute_path("/a/../b").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(us in 0..10_000_000_000_000_000u64) {
            let span = TimeSpan::Finite(Duration::from_micros(us));
            prop_assert_eq!(time_span(&span.to_string()), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "(\\PC|[0-9.]|min|µ| ){0,30}") {
            let _ = time_span(&text);
            let _ = size(&text);
            let _ = mode(&text);
        }
    }
}
