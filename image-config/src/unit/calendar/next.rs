//! When a calendar event elapses next.

use super::{ANY_WEEKDAY, Calendar, CalendarZone, Chain, Component, SECOND, parse::YEARS};
use crate::civil::{DAY, civil_from_days, days_from_civil, days_in_month, weekday};
use crate::unit::time::{Resolved, TimeZone, TimeZones, Timestamp};

/// A calendar event's zone does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone `{0}`")]
pub struct UnknownTimeZone(pub String);

impl Calendar {
    /// The first moment after `after` that fits; `None` when there is none before the year 2200.
    ///
    /// # Errors
    /// [`UnknownTimeZone`] when the event's zone does not exist.
    pub fn next_elapse(
        &self,
        after: Timestamp,
        zones: &dyn TimeZones,
    ) -> Result<Option<Timestamp>, UnknownTimeZone> {
        let (zone, only) = match &self.zone {
            CalendarZone::Local => (zones.local(), None),
            CalendarZone::Utc => (TimeZone::utc(), None),
            CalendarZone::Named(name) => match zones.named(name) {
                Some(zone) => (zone, None),
                None => {
                    let local = zones.local();
                    if !local.has_current(name) {
                        return Err(UnknownTimeZone(name.clone()));
                    }
                    (local, Some(name.as_str()))
                }
            },
        };
        Ok(self.next_in(after, &zone, only))
    }

    /// The next moment in a zone; `only` while that abbreviation is in force.
    fn next_in(&self, after: Timestamp, zone: &TimeZone, only: Option<&str>) -> Option<Timestamp> {
        let earliest = Timestamp(after.0.checked_add(1)?.max(0));
        let second = earliest.0.div_euclid(SECOND);
        let mut wall = Wall::new(second + zone.at(second).offset, earliest.0.rem_euclid(SECOND));
        loop {
            wall = self.next_on_the_wall(wall)?;
            let seconds = wall.seconds();
            let moment = match zone.resolve(seconds) {
                Resolved::Never { until } => {
                    wall = Wall::new(until, 0);
                    continue;
                }
                Resolved::Once(moment) => moment,
                Resolved::Twice { first, until } => {
                    if first * SECOND + wall.micros < earliest.0 {
                        wall = Wall::new(until, 0);
                        continue;
                    }
                    first
                }
            };
            if only.is_some_and(|only| zone.at(moment).abbreviation != only) {
                // Times change at full hours, or at least do not begin long before one.
                wall = Wall::new((seconds.div_euclid(3600) + 1) * 3600, 0);
                continue;
            }
            return Some(Timestamp(moment * SECOND + wall.micros));
        }
    }

    /// The first time on the wall that fits, `from` included.
    fn next_on_the_wall(&self, from: Wall) -> Option<Wall> {
        let mut at = from;
        // Each turn either finds the time or moves `at` forward, and the years end.
        loop {
            let year = next(&self.year, at.year).filter(|year| YEARS.contains(year))?;
            if year > at.year {
                at = Wall::first_of(year, 1);
            }
            let Some(month) = next(&self.month, at.month).filter(|month| *month <= 12) else {
                at = Wall::first_of(at.year + 1, 1);
                continue;
            };
            if month > at.month {
                at = Wall::first_of(at.year, month);
            }
            let Some(day) = self.next_day(at) else {
                at = Wall::first_of(at.year, at.month + 1);
                continue;
            };
            if day > at.day {
                at = Wall { day, ..Wall::first_of(at.year, at.month) };
            }
            let Some(hour) = next(&self.hour, at.hour).filter(|hour| *hour <= 23) else {
                at = Wall { day: at.day + 1, ..Wall::first_of(at.year, at.month) };
                continue;
            };
            if hour > at.hour {
                at = Wall { hour, minute: 0, second: 0, micros: 0, ..at };
            }
            let Some(minute) = next(&self.minute, at.minute).filter(|minute| *minute <= 59) else {
                at = Wall { hour: at.hour + 1, minute: 0, second: 0, micros: 0, ..at };
                continue;
            };
            if minute > at.minute {
                at = Wall { minute, second: 0, micros: 0, ..at };
            }
            let micros = next(&self.microsecond, at.second * SECOND + at.micros);
            let Some(micros) = micros.filter(|micros| *micros < 60 * SECOND) else {
                at = Wall { minute: at.minute + 1, second: 0, micros: 0, ..at };
                continue;
            };
            return Some(Wall { second: micros / SECOND, micros: micros % SECOND, ..at });
        }
    }

    /// The first day of the month that fits, today included.
    fn next_day(&self, today: Wall) -> Option<i64> {
        let last = days_in_month(today.year, today.month);
        let mut day = today.day;
        loop {
            day = if self.end_of_month {
                next(&from_front(&self.day, last), day)?
            } else {
                next(&self.day, day)?
            };
            if day > last {
                return None;
            }
            let weekday = weekday(days_from_civil(today.year, today.month, day));
            if self.weekdays == ANY_WEEKDAY || self.weekdays & (1 << weekday) != 0 {
                return Some(day);
            }
            day += 1;
        }
    }
}

/// Days that were counted from the end of a month, counted from its front.
fn from_front(chain: &Chain, last: i64) -> Chain {
    let turned = |Component { start, stop, repeat }: &Component| {
        let start = last + 1 - start;
        match stop {
            // A range runs from its larger number, which comes first.
            Some(stop) => Component { start: last + 1 - stop, stop: Some(start), repeat: *repeat },
            None => Component { start, stop: None, repeat: *repeat },
        }
    };
    chain.iter().map(turned).collect()
}

/// The smallest value of a chain that is not below `least`.
fn next(chain: &Chain, least: i64) -> Option<i64> {
    if chain.is_empty() {
        return Some(least);
    }
    let next_of = |Component { start, stop, repeat }: &Component| {
        if *start >= least {
            return Some(*start);
        }
        if *repeat == 0 {
            return None;
        }
        let steps = (least - start + repeat - 1) / repeat;
        let value = start + steps * repeat;
        stop.is_none_or(|stop| value <= stop).then_some(value)
    };
    chain.iter().filter_map(next_of).min()
}

/// What a clock on the wall shows. Values one above their range lead nowhere: the next larger unit moves on first.
#[derive(Debug, Clone, Copy)]
struct Wall {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

impl Wall {
    /// From seconds since 1970-01-01 00:00 on the wall.
    fn new(seconds: i64, micros: i64) -> Self {
        let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        Self { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60, micros }
    }

    fn first_of(year: i64, month: i64) -> Self {
        Self { year, month, day: 1, hour: 0, minute: 0, second: 0, micros: 0 }
    }

    /// Seconds since 1970-01-01 00:00 on the wall.
    fn seconds(self) -> i64 {
        let days = days_from_civil(self.year, self.month, self.day);
        days * DAY + self.hour * 3600 + self.minute * 60 + self.second
    }
}
