//! Reboot windows, as locksmith has them: a start of the day or of the week, and a length; several of them, and in a time zone.

use image_config::unit::time::{TimeZone, TimeZones};

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
    /// As many lengths as starts, or one for all.
    #[error("{starts} starts and {lengths} lengths: one length for all, or one for each")]
    Count {
        /// Starts.
        starts: usize,
        /// Lengths.
        lengths: usize,
    },
    /// tzdata has none of that name.
    #[error("{0:?} is no time zone: local, UTC, or a name such as Europe/Berlin")]
    Zone(String),
}

/// When a machine may reboot: always, if there are no windows. Windows are of the clock on the wall: while it is put forward over a
/// window's start, the window begins where the clock goes on; what the clock shows twice is a window twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    list: Vec<Window>,
    zone: TimeZone,
}

impl Default for Windows {
    fn default() -> Self {
        Self { list: Vec::new(), zone: TimeZone::utc() }
    }
}

impl Windows {
    /// Reads `START[,START...]`, `LENGTH[,LENGTH...]`, and the name of a time zone: `local` (or nothing), `UTC`, or one of tzdata's.
    ///
    /// # Errors
    /// [`WindowError`]
    pub fn parse(
        starts: &str,
        lengths: &str,
        zone: Option<&str>,
        zones: &dyn TimeZones,
    ) -> Result<Self, WindowError> {
        let words = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
        let (starts, lengths) = (words(starts), words(lengths));
        if lengths.len() != 1 && lengths.len() != starts.len() {
            return Err(WindowError::Count { starts: starts.len(), lengths: lengths.len() });
        }
        let pairs = starts.iter().zip(lengths.iter().cycle());
        let list = pairs.map(|(start, length)| Window::parse(start, length)).collect::<Result<_, _>>()?;
        Ok(Self { list, zone: zone_of(zone, zones)? })
    }

    /// Seconds from `now` (Unix time) until a reboot is allowed: 0 inside a window, its end included.
    #[must_use]
    pub fn wait(&self, now: u64) -> u64 {
        self.list.iter().map(|window| self.wait_for(window, now)).min().unwrap_or(0)
    }

    fn offset(&self, at: u64) -> i64 {
        self.zone.at(i64::try_from(at).unwrap_or(i64::MAX)).offset
    }

    fn wait_for(&self, window: &Window, now: u64) -> u64 {
        let on_wall = |at: u64| window.wait(at.saturating_add_signed(self.offset(at)));
        let mut at = now;
        // Each round ends at a window's start if the clock is not changed on the way; it is changed twice a year.
        for _ in 0..8 {
            let wait = on_wall(at);
            if wait == 0 {
                break;
            }
            let then = at.saturating_add(wait);
            let forward = u64::try_from(self.offset(then) - self.offset(at)).unwrap_or(0);
            let sooner = then.saturating_sub(forward);
            at = if sooner > at && on_wall(sooner) == 0 { sooner } else { then };
        }
        at - now
    }
}

fn zone_of(name: Option<&str>, zones: &dyn TimeZones) -> Result<TimeZone, WindowError> {
    match name.unwrap_or("local") {
        "" | "local" => Ok(zones.local()),
        "UTC" => Ok(TimeZone::utc()),
        name => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte);
            let sound = name.bytes().all(plain) && !name.starts_with('/') && !name.ends_with('/');
            let found = if sound { zones.named(name) } else { None };
            found.ok_or_else(|| WindowError::Zone(name.to_owned()))
        }
    }
}

/// One window.
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
pub(super) fn duration(text: &str) -> Option<u64> {
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

    /// Berlin, whose clocks change, as the file of tzdata would say it.
    struct Zones;

    impl TimeZones for Zones {
        fn local(&self) -> TimeZone {
            TimeZone::utc()
        }

        fn named(&self, name: &str) -> Option<TimeZone> {
            (name == "Europe/Berlin").then(|| {
                // A version 2 file without changes of its own: the rule behind them says it all.
                let header = |times: u8| {
                    [&b"TZif2"[..], &[0; 15], &[0; 12], &[0, 0, 0, 0, 0, 0, 0, times, 0, 0, 0, 4]].concat()
                };
                let body = [0, 0, 0x0e, 0x10, 0, 0, b'C', b'E', b'T', 0];
                let bytes = [
                    header(1),
                    body.to_vec(),
                    header(1),
                    body.to_vec(),
                    b"\nCET-1CEST,M3.5.0,M10.5.0/3\n".to_vec(),
                ];
                TimeZone::parse(&bytes.concat()).unwrap()
            })
        }
    }

    fn berlin(start: &str, length: &str) -> Windows {
        Windows::parse(start, length, Some("Europe/Berlin"), &Zones).unwrap()
    }

    #[test]
    fn windows_are_of_the_clock_on_the_wall() {
        // 2026-11-26 07:00 UTC is 08:00 in Berlin.
        assert_eq!(berlin("8:00", "1h").wait(THURSDAY_7), 0);
        assert_eq!(berlin("9:00", "1h").wait(THURSDAY_7), 3600);
        assert_eq!(berlin("Thu 23:00, Thu 12:00", "1h").wait(THURSDAY_7), 4 * 3600);
        assert_eq!(berlin("Thu 7:00,Fri 12:00", "2h, 1h").wait(THURSDAY_7), 0);
        assert_eq!(Windows::default().wait(THURSDAY_7), 0);
        // 2027-03-28: at 02:00 the clock goes on to 03:00, which is 01:00 UTC (1806195600).
        let spring = 1_806_195_600;
        assert_eq!(berlin("4:00", "1h").wait(spring - 3600), 2 * 3600, "an hour less than the wall says");
        assert_eq!(berlin("2:30", "1h").wait(spring - 3600), 3600 + 1800, "its start is left out");
        // 2026-10-25: at 03:00 the clock goes back to 02:00, which is 01:00 UTC (1792890000).
        let autumn = 1_792_890_000;
        assert_eq!(berlin("2:30", "10m").wait(autumn - 1800), 0);
        assert_eq!(berlin("2:30", "10m").wait(autumn), 1800, "once more");
        assert_eq!(berlin("4:00", "1h").wait(autumn - 3600), 3 * 3600);
    }

    #[test]
    fn lists_and_zones_that_make_no_sense_are_refused() {
        let parse = |starts, lengths, zone| Windows::parse(starts, lengths, zone, &Zones).unwrap_err();
        assert_eq!(parse("1:00,2:00,3:00", "1h,2h", None), WindowError::Count { starts: 3, lengths: 2 });
        assert_eq!(parse("1:00,", "1h", None), WindowError::Start(String::new()));
        for zone in ["Mars/Base", "../etc/passwd", "/UTC", "Europe/"] {
            assert_eq!(parse("1:00", "1h", Some(zone)), WindowError::Zone(zone.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn waiting_ends_inside_a_window_in_any_zone(start in 0_u64..1440, length in 0_u64..1439, day in 0_usize..8, now in 1_000_000_000_u64..4_000_000_000) {
            let day = DAYS.get(day).map_or(String::new(), |day| format!("{day} "));
            let windows = berlin(&format!("{day}{}:{:02}", start / 60, start % 60), &format!("{length}m"));
            let wait = windows.wait(now);
            prop_assert!(wait <= 2 * WEEK);
            prop_assert_eq!(windows.wait(now + wait), 0);
        }

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
