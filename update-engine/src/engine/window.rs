//! Reboot windows, as locksmith has them: a start of the day or of the week, and a length.

/// Seconds of a day.
const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;
/// 1970-01-01 was a Thursday; weeks are counted from Sunday.
const EPOCH_WEEKDAY: u64 = 4;
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Why a window is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Only one of the two settings is there.
    #[error("start and length must both be set")]
    Half,
    /// Not `[Day ]H:MM`.
    #[error("{0:?} is not [DAY ]HH:MM, with DAY one of sun, mon, tue, wed, thu, fri, sat")]
    Start(String),
    /// Not a duration.
    #[error("{0:?} is no duration such as 1h30m")]
    Length(String),
    /// As locksmith says it.
    #[error("duration cannot exceed period")]
    TooLong,
}

/// When a machine may reboot. In UTC: images have no time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Seconds from the start of the period.
    start: u64,
    length: u64,
    /// A day or a week.
    period: u64,
}

impl Window {
    /// Reads the two settings: `[Day ]H:MM`, and a duration as Go writes it (`1h30m`, `45m`, `90s`).
    ///
    /// # Errors
    /// [`WindowError`]
    pub fn parse(start: &str, length: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError::Start(start.to_owned());
        let mut words = start.split_ascii_whitespace().rev();
        let (hours, minutes) = words.next().and_then(|time| time.split_once(':')).ok_or_else(wrong)?;
        let number = |text: &str, most: u64| {
            let plain = !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|value| plain && *value < most)
        };
        let (Some(hours), Some(minutes)) = (number(hours, 24), number(minutes, 60)) else {
            return Err(wrong());
        };
        let day = match words.next() {
            None => None,
            Some(word) => {
                let named = DAYS.iter().position(|day| day.eq_ignore_ascii_case(word));
                Some(named.ok_or_else(wrong)? as u64)
            }
        };
        if words.next().is_some() {
            return Err(wrong());
        }
        let period = if day.is_some() { WEEK } else { DAY };
        let start = day.unwrap_or(0) * DAY + hours * 3600 + minutes * 60;
        let length = duration(length).ok_or_else(|| WindowError::Length(length.to_owned()))?;
        if length >= period { Err(WindowError::TooLong) } else { Ok(Self { start, length, period }) }
    }

    /// Seconds from `now` (Unix time) until a reboot is allowed: 0 inside the window, its end included.
    pub fn wait(&self, now: u64) -> u64 {
        let offset = if self.period == WEEK { EPOCH_WEEKDAY * DAY } else { 0 };
        let at = now.saturating_add(offset) % self.period;
        let since_start = (at + self.period - self.start) % self.period;
        if since_start <= self.length { 0 } else { self.period - since_start }
    }
}

/// Whole seconds of a duration of hours, minutes and seconds.
fn duration(text: &str) -> Option<u64> {
    let mut seconds = 0_u64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest.get(digits..)?;
        let factor = match unit.as_bytes().first()? {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(factor)?)?;
        rest = unit.get(1..)?;
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-26 07:00:00 UTC, a Thursday.
    const THURSDAY_7: u64 = 1_795_676_400;

    #[test]
    fn windows_of_the_day_and_of_the_week() {
        let cases: &[(&str, &str, u64)] = &[
            ("7:00", "1h", 0),
            ("07:00", "0s", 0),
            ("6:00", "1h", 0),
            ("6:00", "59m59s", 23 * 3600),
            ("23:00", "1h", 16 * 3600),
            ("23:30", "9h", 0),
            ("Thu 7:00", "1h30m", 0),
            ("thu 08:00", "1h", 3600),
            ("WED 23:00", "8h", 0),
            ("Wed 23:00", "7h", 7 * 86_400 - 8 * 3600),
            ("sat 0:00", "2h", 41 * 3600),
        ];
        for (start, length, wait) in cases {
            assert_eq!(Window::parse(start, length).unwrap().wait(THURSDAY_7), *wait, "{start} {length}");
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for start in ["", "7", "24:00", "7:60", "Thursday 7:00", "Thu 7:00 x", "-1:00", "7:0a", "777:00"] {
            assert_eq!(Window::parse(start, "1h"), Err(WindowError::Start(start.to_owned())), "{start}");
        }
        for length in ["", "1", "h", "-1h", "1d", "1h x", "99999999999999999999h"] {
            assert_eq!(
                Window::parse("7:00", length),
                Err(WindowError::Length(length.to_owned())),
                "{length}"
            );
        }
        assert_eq!(Window::parse("7:00", "24h"), Err(WindowError::TooLong));
        assert!(Window::parse("Thu 7:00", "24h").is_ok());
        assert_eq!(
            Window::parse("Thu 7:00", "168h").unwrap_err().to_string(),
            "duration cannot exceed period"
        );
    }

    proptest! {
        #[test]
        fn waiting_ends_inside_the_window(start in 0_u64..1440, length in 0_u64..1439, now in 0_u64..4_000_000_000) {
            let window = Window::parse(&format!("{}:{:02}", start / 60, start % 60), &format!("{length}m")).unwrap();
            let wait = window.wait(now);
            prop_assert!(wait <= DAY);
            prop_assert_eq!(window.wait(now + wait), 0);
            if wait > 0 {
                prop_assert!(window.wait(now + wait - 1) > 0);
            }
        }
    }
}
