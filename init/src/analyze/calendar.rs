//! `systemd-analyze calendar`, `timestamp` and `timespan`.

use std::fmt::Write as _;

use image_config::unit::calendar::Calendar;
use image_config::unit::time::{TimeZones, Timestamp};
use image_config::unit::value::time_span;
use rustix::time::{ClockId, clock_gettime};

use crate::pid1::zones::ZoneFiles;

fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    Timestamp(time.tv_sec * 1_000_000 + time.tv_nsec / 1000)
}

/// `calendar`: each event with its next moments; 1 when one of them is none.
pub fn events(expressions: &[String], iterations: u32, base_time: Option<&str>) -> u8 {
    let zones = ZoneFiles::default();
    let now = now();
    let base = match base_time.map_or(Ok(now), |text| Timestamp::parse(text, now, &zones)) {
        Ok(base) => base,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    each(expressions, |text| event(text, base, now, iterations, &zones))
}

/// What is printed of each word, between empty lines; 1 when there is none or one is wrong.
fn each(words: &[String], show: impl Fn(&str) -> Result<String, String>) -> u8 {
    if words.is_empty() {
        eprintln!("Too few arguments.");
        return 1;
    }
    let mut code = 0;
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            println!();
        }
        match show(word) {
            Ok(text) => print!("{text}"),
            Err(problem) => {
                eprintln!("{problem}");
                code = 1;
            }
        }
    }
    code
}

fn event(
    text: &str,
    base: Timestamp,
    now: Timestamp,
    iterations: u32,
    zones: &dyn TimeZones,
) -> Result<String, String> {
    let failed = |problem: &dyn std::fmt::Display| {
        format!("Failed to parse calendar specification '{text}': {problem}")
    };
    let calendar = Calendar::parse(text).map_err(|error| failed(&error))?;
    let mut out = String::new();
    // Writing into a string does not fail, here and below.
    let mut line = |head: &str, text: &str| {
        let _cannot_fail = writeln!(out, "{head:>15}: {text}");
    };
    let normal = calendar.to_string();
    if normal != text {
        line("Original form", text);
    }
    line("Normalized form", &normal);
    let local = zones.local();
    let utc = image_config::unit::time::TimeZone::utc();
    let mut after = base;
    for iteration in 1..=iterations {
        let Some(next) = calendar.next_elapse(after, zones).map_err(|error| failed(&error))? else {
            if iteration == 1 {
                line("Next elapse", "never");
            }
            break;
        };
        if iteration == 1 {
            line("Next elapse", &next.show(&local));
        } else {
            line(&format!("Iteration #{iteration}"), &next.show(&local));
        }
        if next.show(&local) != next.show(&utc) {
            line("(in UTC)", &next.show(&utc));
        }
        line("From now", &next.show_from(now));
        after = next;
    }
    Ok(out)
}

/// `timestamp`.
pub fn timestamps(texts: &[String]) -> u8 {
    let zones = ZoneFiles::default();
    let now = now();
    each(texts, |text| {
        let moment = Timestamp::parse(text, now, &zones).map_err(|error| error.to_string())?;
        let (local, utc) = (zones.local(), image_config::unit::time::TimeZone::utc());
        let mut out = format!("  Original form: {text}\nNormalized form: {}\n", moment.show(&local));
        if moment.show(&local) != moment.show(&utc) {
            let _cannot_fail = writeln!(out, "       (in UTC): {}", moment.show(&utc));
        }
        let (seconds, micros) = (moment.0.div_euclid(1_000_000), moment.0.rem_euclid(1_000_000));
        let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
        let _cannot_fail = write!(
            out,
            "   UNIX seconds: @{seconds}{fraction}\n       From now: {}\n",
            moment.show_from(now)
        );
        Ok(out)
    })
}

/// `timespan`.
pub fn spans(texts: &[String]) -> u8 {
    each(texts, |text| {
        let span = time_span(text).map_err(|error| format!("Failed to parse time span '{text}': {error}"))?;
        let micros = span.finite().map_or_else(|| u64::MAX.to_string(), |span| span.as_micros().to_string());
        Ok(format!("Original: {text}\n      μs: {micros}\n   Human: {span}\n"))
    })
}

#[cfg(test)]
mod tests {
    use image_config::unit::time::TimeZone;

    use super::*;

    struct Utc;

    impl TimeZones for Utc {
        fn local(&self) -> TimeZone {
            TimeZone::utc()
        }

        fn named(&self, _: &str) -> Option<TimeZone> {
            None
        }
    }

    #[test]
    fn events_are_shown_as_systemd_shows_them() {
        let base = Timestamp(1_772_712_000_000_000);
        let shown = event("quarterly", base, base, 2, &Utc).unwrap();
        let want = [
            "  Original form: quarterly",
            "Normalized form: *-01,04,07,10-01 00:00:00",
            "    Next elapse: Wed 2026-04-01 00:00:00 UTC",
            "       From now: 3 weeks 5 days left",
            "   Iteration #2: Wed 2026-07-01 00:00:00 UTC",
            "       From now: 3 months 26 days left",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), want);
        assert!(event("2003-03-05", base, base, 3, &Utc).unwrap().ends_with("    Next elapse: never\n"));
        assert!(event("nonsense", base, base, 1, &Utc).unwrap_err().starts_with("Failed to parse"));
        assert!(event("daily No/Where", base, base, 1, &Utc).unwrap_err().contains("no time zone"));
    }
}
