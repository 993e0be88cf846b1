//! Text to calendar events.

use super::{ANY_WEEKDAY, Calendar, CalendarZone, Chain, Component, SECOND};
use crate::civil::{DAY, civil_from_days};
use crate::unit::time::{WEEKDAYS, is_zone_name};

/// Most elements of a list: systemd's `CALENDARSPEC_COMPONENTS_MAX`.
const MOST_COMPONENTS: usize = 240;
/// The years that may be named: systemd's `MIN_YEAR` and `MAX_YEAR`.
pub(super) const YEARS: std::ops::RangeInclusive<i64> = 1970..=2199;
/// Largest number: systemd keeps them in an `int`.
const LARGEST: i64 = i32::MAX as i64;

/// Why a text is no calendar event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no calendar event such as `daily`, `Mon..Fri 09:00` or `*-*-01 04:00:00`")]
pub struct CalendarError(pub String);

impl Calendar {
    /// Reads a calendar event. Whether a zone of its name exists is only found out when it elapses.
    ///
    /// # Errors
    /// [`CalendarError`] for what is none, or what can never elapse because a number is out of range.
    pub fn parse(text: &str) -> Result<Self, CalendarError> {
        read(text).ok_or_else(|| CalendarError(text.to_owned()))
    }
}

fn read(text: &str) -> Option<Calendar> {
    let (text, zone) = split_zone(text);
    if text.is_empty() {
        return None;
    }
    let mut calendar = match shorthand(text) {
        Some(found) => found,
        None => Reader { rest: text }.calendar()?,
    };
    if let Some(zone) = zone {
        calendar.zone = zone;
    }
    normalise(&mut calendar);
    is_valid(&calendar).then_some(calendar)
}

/// Takes the zone off the end.
fn split_zone(text: &str) -> (&str, Option<CalendarZone>) {
    match text.rsplit_once(' ') {
        Some((front, zone)) if zone.eq_ignore_ascii_case("UTC") => (front, Some(CalendarZone::Utc)),
        Some((front, zone)) if is_zone_name(zone) => (front, Some(CalendarZone::Named(zone.to_owned()))),
        _ => (text, None),
    }
}

fn exactly(values: &[i64]) -> Chain {
    values.iter().map(|value| Component { start: *value, stop: None, repeat: 0 }).collect()
}

fn shorthand(text: &str) -> Option<Calendar> {
    let any: &[i64] = &[];
    // Months, days, hours, minutes.
    let (month, day, hour, minute) = match text.to_ascii_lowercase().as_str() {
        "minutely" => (any, any, any, any),
        "hourly" => (any, any, any, &[0][..]),
        "daily" | "weekly" => (any, any, &[0][..], &[0][..]),
        "monthly" => (any, &[1][..], &[0][..], &[0][..]),
        // The misspelling is systemd's.
        "annually" | "yearly" | "anually" => (&[1][..], &[1][..], &[0][..], &[0][..]),
        "quarterly" => (&[1, 4, 7, 10][..], &[1][..], &[0][..], &[0][..]),
        "semiannually" | "semi-annually" | "biannually" | "bi-annually" => {
            (&[1, 7][..], &[1][..], &[0][..], &[0][..])
        }
        _ => return None,
    };
    Some(Calendar {
        weekdays: if text.eq_ignore_ascii_case("weekly") { 1 } else { 0 },
        year: Chain::new(),
        month: exactly(month),
        day: exactly(day),
        end_of_month: false,
        hour: exactly(hour),
        minute: exactly(minute),
        microsecond: exactly(&[0]),
        zone: CalendarZone::Local,
    })
}

/// What has not been read yet.
#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn calendar(mut self) -> Option<Calendar> {
        let mut calendar = Calendar {
            weekdays: self.weekdays()?,
            year: Chain::new(),
            month: Chain::new(),
            day: Chain::new(),
            end_of_month: false,
            hour: exactly(&[0]),
            minute: exactly(&[0]),
            microsecond: exactly(&[0]),
            zone: CalendarZone::Local,
        };
        if self.take("@") {
            self.moment(&mut calendar)?;
        } else {
            self.date(&mut calendar)?;
            self.time(&mut calendar)?;
        }
        self.rest.is_empty().then_some(calendar)
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn at_end_of_part(&self) -> bool {
        self.rest.is_empty() || self.rest.starts_with(' ')
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    /// `Mon,Wed..Fri`; 0 when there are none.
    fn weekdays(&mut self) -> Option<u8> {
        let mut days: u8 = 0;
        // First day of a range that is still open.
        let mut open: Option<usize> = None;
        let mut is_first = true;
        loop {
            let Some((day, after)) = self.weekday() else { return is_first.then_some(0) };
            if !(after.is_empty() || after.starts_with(['-', '.', ',', ' '])) {
                return None;
            }
            self.rest = after;
            is_first = false;
            let first = open.unwrap_or(day);
            if first > day {
                return None;
            }
            for day in first..=day {
                days |= 1 << day;
            }
            let was_open = open.take().is_some();
            if self.take("..") || self.take("-") {
                if was_open {
                    return None;
                }
                open = Some(day);
            } else if !self.take(",") && !self.at_end_of_part() {
                return None;
            }
            // A comma may be the last character, an open range not.
            if self.at_end_of_part() {
                self.skip_spaces();
                return open.is_none().then_some(days);
            }
        }
    }

    /// The weekday at the front, and what follows it.
    fn weekday(&self) -> Option<(usize, &'a str)> {
        let starts = |name: &str| {
            let (front, after) = self.rest.split_at_checked(name.len())?;
            front.eq_ignore_ascii_case(name).then_some(after)
        };
        WEEKDAYS.iter().enumerate().find_map(|(index, name)| {
            starts(name).or_else(|| starts(name.get(..3)?)).map(|after| (index, after))
        })
    }

    /// `@1395716396`, which stands for itself alone and is in UTC.
    fn moment(&mut self, calendar: &mut Calendar) -> Option<()> {
        let seconds = self.number()?;
        let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        calendar.year = exactly(&[year]);
        calendar.month = exactly(&[month]);
        calendar.day = exactly(&[day]);
        calendar.hour = exactly(&[second / 3600]);
        calendar.minute = exactly(&[second / 60 % 60]);
        calendar.microsecond = exactly(&[second % 60 * SECOND]);
        calendar.zone = CalendarZone::Utc;
        Some(())
    }

    /// `*-*-1`, `12-*~3`, or nothing where a time follows at once.
    fn date(&mut self, calendar: &mut Calendar) -> Option<()> {
        if self.rest.is_empty() {
            return Some(());
        }
        let start = *self;
        let first = self.chain(1)?;
        if self.rest.is_empty() || self.rest.starts_with(':') {
            *self = start;
            return Some(());
        }
        let mut from_end = self.separator()?;
        let second = self.chain(1)?;
        let (year, month, day) = if self.at_end_of_part() {
            (Chain::new(), first, second)
        } else {
            if from_end {
                return None;
            }
            from_end = self.separator()?;
            (first, second, self.chain(1)?)
        };
        if !self.at_end_of_part() {
            return None;
        }
        self.skip_spaces();
        (calendar.year, calendar.month, calendar.day, calendar.end_of_month) = (year, month, day, from_end);
        Some(())
    }

    /// Whether it is a `~`.
    fn separator(&mut self) -> Option<bool> {
        let from_end = self.take("~");
        (from_end || self.take("-")).then_some(from_end)
    }

    /// `12:00`, `*:*:0/5`, or nothing.
    fn time(&mut self, calendar: &mut Calendar) -> Option<()> {
        if self.rest.is_empty() {
            return Some(());
        }
        calendar.hour = self.chain(1)?;
        if !self.take(":") {
            return None;
        }
        calendar.minute = self.chain(1)?;
        if self.take(":") {
            calendar.microsecond = self.chain(SECOND)?;
        }
        Some(())
    }

    /// `*`, or components between commas. `unit` is 1, or [`SECOND`] for decimal fractions.
    fn chain(&mut self, unit: i64) -> Option<Chain> {
        if self.take("*") {
            let every = Component { start: 0, stop: None, repeat: unit };
            return Some(if unit == 1 { Chain::new() } else { vec![every] });
        }
        let mut chain = Chain::new();
        loop {
            chain.push(self.component(unit)?);
            if !self.take(",") {
                return Some(chain);
            }
            if chain.len() > MOST_COMPONENTS {
                return None;
            }
        }
    }

    fn component(&mut self, unit: i64) -> Option<Component> {
        let start = self.decimal(unit)?;
        let stop = if self.take("..") { Some(self.decimal(unit)?) } else { None };
        let mut repeat = if stop.is_some() { unit } else { 0 };
        if self.take("/") {
            repeat = self.decimal(unit).filter(|repeat| *repeat > 0)?;
        } else if unit == SECOND && stop.is_some_and(|stop| stop < start + SECOND) {
            // systemd refuses a range of less than a second, unless a repetition is written.
            return None;
        }
        let ends = self.rest.is_empty() || self.rest.starts_with([' ', ',', '-', '~', ':']);
        ends.then_some(Component { start, stop, repeat })
    }

    /// A number, with a fraction if the unit has parts.
    fn decimal(&mut self, unit: i64) -> Option<i64> {
        let whole = self.number().filter(|number| *number <= LARGEST / unit)? * unit;
        // One dot is a decimal point, two are a range.
        if unit == 1 || !self.rest.starts_with('.') || self.rest.starts_with("..") {
            return Some(whole);
        }
        let digits = self.rest.get(1..)?;
        let digits = digits.get(..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()))?;
        if digits.is_empty() {
            return None;
        }
        self.rest = self.rest.get(1 + digits.len()..)?;
        let mut fraction = 0;
        let mut values = digits.chars().filter_map(|c| c.to_digit(10)).map(i64::from);
        for _ in 0..6 {
            fraction = fraction * 10 + values.next().unwrap_or(0);
        }
        let rounded = fraction + i64::from(values.next().is_some_and(|digit| digit >= 5));
        Some(whole + rounded)
    }

    /// Digits.
    fn number(&mut self) -> Option<i64> {
        let length = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, after) = self.rest.split_at_checked(length)?;
        self.rest = after;
        digits.parse().ok()
    }
}

/// systemd's `calendar_spec_normalize`.
fn normalise(calendar: &mut Calendar) {
    if calendar.zone == CalendarZone::Named("UTC".to_owned()) {
        calendar.zone = CalendarZone::Utc;
    }
    if calendar.weekdays == 0 {
        calendar.weekdays = ANY_WEEKDAY;
    }
    calendar.end_of_month &= !calendar.day.is_empty();
    for component in &mut calendar.year {
        component.start = full_year(component.start);
        component.stop = component.stop.map(full_year);
    }
    for chain in [
        &mut calendar.year,
        &mut calendar.month,
        &mut calendar.day,
        &mut calendar.hour,
        &mut calendar.minute,
        &mut calendar.microsecond,
    ] {
        chain.iter_mut().for_each(normalise_component);
        chain.sort_unstable();
        chain.dedup();
    }
}

/// Two digits are a year from 1970 to 2069.
fn full_year(year: i64) -> i64 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        _ => year,
    }
}

fn normalise_component(component: &mut Component) {
    let Component { start, stop, repeat } = component;
    if let Some(stop) = stop
        && *stop > *start
        && *repeat > 0
    {
        *stop -= (*stop - *start) % *repeat;
    }
    let never_repeats = stop.is_some_and(|stop| stop > *start && *repeat > 0 && *start + *repeat > stop);
    if never_repeats || *stop == Some(*start) {
        (*repeat, *stop) = (0, None);
    }
}

/// systemd's `calendar_spec_valid`.
fn is_valid(calendar: &Calendar) -> bool {
    fits(&calendar.year, YEARS, false)
        && fits(&calendar.month, 1..=12, false)
        && fits(&calendar.day, 1..=31, calendar.end_of_month)
        && fits(&calendar.hour, 0..=23, false)
        && fits(&calendar.minute, 0..=59, false)
        && fits(&calendar.microsecond, 0..=60 * SECOND - 1, false)
}

/// Whether all values are in range, and all repetitions short enough to repeat at least once.
fn fits(chain: &Chain, range: std::ops::RangeInclusive<i64>, from_end: bool) -> bool {
    let (least, mut most) = range.into_inner();
    chain.iter().all(|Component { start, stop, repeat }| {
        if from_end {
            // No month is sure to have more than 28 days. That the limit sinks with each element of a list is a slip of
            // systemd's, kept so that both take the same expressions.
            most -= 3;
        }
        let is_in_range = |value: i64| (least..=most).contains(&value);
        let repeats = match stop {
            Some(stop) => is_in_range(*stop) && start + repeat <= *stop,
            None if from_end => start - repeat >= least,
            None => start + repeat <= most,
        };
        is_in_range(*start) && *repeat <= most - least && repeats
    })
}
