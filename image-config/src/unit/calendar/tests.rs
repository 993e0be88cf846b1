//! Against systemd itself, against brute force, and against garbage.

use proptest::prelude::*;

use super::*;
use crate::civil::{DAY, civil_from_days, days_from_civil, days_in_month, weekday};
use crate::unit::time::{TimeZone, TimeZones, Timestamp};

struct Zones(TimeZone);

impl TimeZones for Zones {
    fn local(&self) -> TimeZone {
        self.0.clone()
    }

    fn named(&self, _: &str) -> Option<TimeZone> {
        None
    }
}

/// Thu 2026-03-05 12:00:00 UTC.
const BASE: Timestamp = Timestamp(1_772_712_000_000_000);

fn next(calendar: &Calendar, after: Timestamp) -> Option<Timestamp> {
    calendar.next_elapse(after, &Zones(TimeZone::utc())).unwrap()
}

#[test]
fn systemd_agrees_on_validity_normal_form_and_the_next_moments() {
    let mut count = 0;
    for line in include_str!("systemd-257.tsv").lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let (text, want) = (fields.next().unwrap(), fields.next().unwrap());
        let moments: Vec<&str> = fields.collect();
        count += 1;
        let parsed = Calendar::parse(text).ok();
        // A zone that does not exist is only noticed when it is looked for.
        let calendar = parsed.filter(|it| it.next_elapse(BASE, &Zones(TimeZone::utc())).is_ok());
        let Some(calendar) = calendar else {
            assert_eq!(want, "invalid", "{text}");
            continue;
        };
        assert_eq!(calendar.to_string(), want, "{text}");
        let mut after = BASE;
        for moment in moments {
            let found = next(&calendar, after);
            let shown = found.map_or("never".to_owned(), |found| found.show(&TimeZone::utc()));
            assert_eq!(shown, moment, "{text}");
            after = found.unwrap_or(after);
        }
    }
    assert!(count >= 500, "{count}");
}

/// A zone with summer time: CET and CEST.
fn berlin() -> TimeZone {
    let mut header = b"TZif2".to_vec();
    header.resize(20, 0);
    for count in [0u32, 0, 0, 0, 1, 4] {
        header.extend(count.to_be_bytes());
    }
    let data = [&3600i32.to_be_bytes()[..], &[0, 0], b"CET\0"].concat();
    TimeZone::parse(&[&header[..], &data, &header, &data, b"\nCET-1CEST,M3.5.0,M10.5.0/3\n"].concat())
        .unwrap()
}

#[test]
fn clocks_that_are_put_forward_skip_and_those_put_back_elapse_once() {
    let moments = |text: &str, from: &str, count: usize| {
        let zones = Zones(berlin());
        let calendar = Calendar::parse(text).unwrap();
        let mut after = Timestamp::parse(from, BASE, &zones).unwrap();
        let mut shown = Vec::new();
        for _ in 0..count {
            after = calendar.next_elapse(after, &zones).unwrap().unwrap();
            shown.push(after.show(&zones.0));
        }
        shown
    };
    assert_eq!(
        moments("02:30", "2026-03-28 02:00 UTC", 2),
        ["Mon 2026-03-30 02:30:00 CEST", "Tue 2026-03-31 02:30:00 CEST"]
    );
    assert_eq!(
        moments("02:30", "2026-10-24 02:00 UTC", 2),
        ["Sun 2026-10-25 02:30:00 CEST", "Mon 2026-10-26 02:30:00 CET"]
    );
    assert_eq!(
        moments("*:0/30", "2026-10-25 00:29:59 UTC", 3),
        ["Sun 2026-10-25 02:30:00 CEST", "Sun 2026-10-25 03:00:00 CET", "Sun 2026-10-25 03:30:00 CET"]
    );
    // The second 02:15 is past: what occurred twice has elapsed.
    assert_eq!(moments("*:*", "2026-10-25 01:15 UTC", 1), ["Sun 2026-10-25 03:00:00 CET"]);
    assert_eq!(moments("12:00 CEST", "2026-11-01", 1), ["Sun 2027-03-28 12:00:00 CEST"]);
    assert_eq!(moments("daily UTC", "2026-11-01", 1), ["Sun 2026-11-01 01:00:00 CET"]);
}

#[test]
fn a_zone_that_does_not_exist_is_told() {
    let calendar = Calendar::parse("daily Europe/Atlantis").unwrap();
    assert_eq!(calendar.zone(), &CalendarZone::Named("Europe/Atlantis".into()));
    let error = calendar.next_elapse(BASE, &Zones(TimeZone::utc())).unwrap_err();
    assert_eq!(error.to_string(), "there is no time zone `Europe/Atlantis`");
}

/// Whether a second of UTC fits: straight from the definition, without the arithmetic of the search.
fn fits(calendar: &Calendar, second: i64) -> bool {
    let (year, month, day) = civil_from_days(second.div_euclid(DAY));
    let holds = |chain: &Chain, value: i64| {
        chain.is_empty()
            || chain.iter().any(|Component { start, stop, repeat }| {
                let last = stop.unwrap_or(if *repeat > 0 { i64::MAX } else { *start });
                let step = (*repeat).max(1);
                (*start..=last.min(*start + 100 * step))
                    .step_by(usize::try_from(step).unwrap())
                    .any(|it| it == value)
            })
    };
    let day = if calendar.end_of_month {
        let last = days_in_month(year, month);
        // Counted from the end; a range with steps begins at its larger end.
        let from_end = last + 1 - day;
        calendar.day.iter().any(|Component { start, stop, repeat }| match stop {
            Some(stop) => (*start..=*stop).contains(&from_end) && (stop - from_end) % repeat == 0,
            None if *repeat > 0 => from_end <= *start && (start - from_end) % repeat == 0,
            None => from_end == *start,
        })
    } else {
        holds(&calendar.day, day)
    };
    let of_day = second.rem_euclid(DAY);
    day && calendar.weekdays & (1 << weekday(second.div_euclid(DAY))) != 0
        && holds(&calendar.year, year)
        && holds(&calendar.month, month)
        && holds(&calendar.hour, of_day / 3600)
        && holds(&calendar.minute, of_day / 60 % 60)
        && holds(&calendar.microsecond, of_day % 60 * SECOND)
}

fn list(low: i64, high: i64) -> impl Strategy<Value = String> {
    let one = prop_oneof![
        (low..=high).prop_map(|value| value.to_string()),
        (low..=high, low..=high).prop_map(|(a, b)| format!("{}..{}", a.min(b), a.max(b))),
        (low..=(low + high) / 2, 1..=(high - low) / 2).prop_map(|(start, step)| format!("{start}/{step}")),
        (low..=high, low..=high, 1..=5i64).prop_map(|(a, b, step)| format!(
            "{}..{}/{step}",
            a.min(b),
            a.max(b)
        )),
    ];
    prop_oneof![
        1 => Just("*".to_owned()),
        3 => proptest::collection::vec(one, 1..3).prop_map(|parts| parts.join(",")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let weekdays = prop_oneof![Just(""), Just("Mon "), Just("Tue..Fri "), Just("Sat,Sun ")];
    let date = prop_oneof![
        (list(1, 12), list(1, 31)).prop_map(|(month, day)| format!("{month}-{day} ")),
        (list(1, 12), list(1, 28)).prop_map(|(month, day)| format!("{month}~{day} ")),
        Just(String::new()),
    ];
    (weekdays, date, list(0, 23), list(0, 59), list(0, 59)).prop_map(
        |(weekdays, date, hour, minute, second)| format!("{weekdays}{date}{hour}:{minute}:{second}"),
    )
}

proptest! {
    #[test]
    fn the_next_moment_fits_and_nothing_before_it_does(
        text in expression(),
        start in days_from_civil(2024, 1, 1) * DAY..days_from_civil(2030, 1, 1) * DAY,
    ) {
        let Ok(calendar) = Calendar::parse(&text) else { return Ok(()) };
        let found = next(&calendar, Timestamp(start * SECOND));
        if let Some(Timestamp(micros)) = found {
            prop_assert!(micros > start * SECOND);
            prop_assert_eq!(micros % SECOND, 0);
            prop_assert!(fits(&calendar, micros / SECOND), "{} {}", calendar, micros);
        }
        // Brute force: every second of the next hours, and every minute of the next week.
        let end = found.map_or(i64::MAX, |found| found.0 / SECOND);
        let seconds = (start + 1..start + 20_000).chain((start..start + 7 * DAY).step_by(60).skip(1));
        for second in seconds {
            prop_assert!(second >= end || !fits(&calendar, second), "{calendar} misses {second}");
        }
    }

    #[test]
    fn in_a_zone_with_summer_time_too_the_next_moment_comes_after(
        text in expression(),
        start in days_from_civil(2026, 1, 1) * DAY..days_from_civil(2027, 1, 1) * DAY,
    ) {
        let zones = Zones(berlin());
        let Ok(calendar) = Calendar::parse(&text) else { return Ok(()) };
        if let Some(found) = calendar.next_elapse(Timestamp(start * SECOND), &zones).unwrap() {
            prop_assert!(found.0 > start * SECOND);
            let second = found.0 / SECOND;
            prop_assert!(fits(&calendar, second + zones.0.at(second).offset));
        }
    }

    #[test]
    fn the_normal_form_means_the_same(text in expression()) {
        if let Ok(calendar) = Calendar::parse(&text) {
            prop_assert_eq!(Calendar::parse(&calendar.to_string()), Ok(calendar));
        }
    }

    #[test]
    fn no_text_panics(text in "([0-9]{1,3}|[-~:,/*.@ ]|\\.\\.|Mon|tue|UTC|daily|\\PC){0,16}", after in any::<i64>()) {
        if let Ok(calendar) = Calendar::parse(&text)
            && matches!(calendar.zone(), CalendarZone::Local | CalendarZone::Utc)
        {
            let _ = next(&calendar, Timestamp(after));
        }
    }
}
