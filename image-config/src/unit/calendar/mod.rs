//! Calendar events (`OnCalendar=`): systemd.time(7), "Calendar events".
//!
//! `Mon..Fri *-*-1/7 09:00,17:30 Europe/Berlin`: weekdays, date, time and zone. [`Calendar::parse`] reads one,
//! [`Calendar::next_elapse`] finds the next moment that fits, and showing one gives the normal form that
//! `systemd-analyze calendar` prints.
//!
//! Where clocks are put forward, the times that they skip do not elapse; where they are put back, the times that occur
//! twice elapse once, the first time.

mod next;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::next::UnknownTimeZone;
pub use self::parse::CalendarError;
use super::time::WEEKDAYS;

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// All days of the week.
const ANY_WEEKDAY: u8 = 0x7f;

/// A calendar event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// Days of the week, Monday being bit 0.
    weekdays: u8,
    year: Chain,
    month: Chain,
    /// Of the month, or with `end_of_month` from its end, the last day being 1.
    day: Chain,
    end_of_month: bool,
    hour: Chain,
    minute: Chain,
    microsecond: Chain,
    zone: CalendarZone,
}

/// The zone that a calendar event's time is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CalendarZone {
    /// That of the machine.
    Local,
    /// UTC.
    Utc,
    /// A zone of tzdata (`Europe/Berlin`), or the abbreviation of one of the machine's times (`CEST`), in which case the
    /// event elapses only while that is in force.
    Named(String),
}

/// Values that fit: any of the components. Empty is any value.
type Chain = Vec<Component>;

/// A value, a range, or a repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Component {
    start: i64,
    /// Last value of a range; `None` comes before all of them, as systemd's -1 does.
    stop: Option<i64>,
    /// 0 is none.
    repeat: i64,
}

impl Calendar {
    /// The zone that its time is in.
    #[must_use]
    pub fn zone(&self) -> &CalendarZone {
        &self.zone
    }
}

impl fmt::Display for Calendar {
    /// The normal form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weekdays != ANY_WEEKDAY {
            write_weekdays(f, self.weekdays)?;
            f.write_str(" ")?;
        }
        write_chain(f, &self.year, 0)?;
        f.write_str("-")?;
        write_chain(f, &self.month, 2)?;
        f.write_str(if self.end_of_month { "~" } else { "-" })?;
        write_chain(f, &self.day, 2)?;
        f.write_str(" ")?;
        write_chain(f, &self.hour, 2)?;
        f.write_str(":")?;
        write_chain(f, &self.minute, 2)?;
        f.write_str(":")?;
        write_seconds(f, &self.microsecond)?;
        match &self.zone {
            CalendarZone::Local => Ok(()),
            CalendarZone::Utc => f.write_str(" UTC"),
            CalendarZone::Named(name) => write!(f, " {name}"),
        }
    }
}

/// `Mon..Thu,Sat,Sun`: a range from three days on.
fn write_weekdays(f: &mut fmt::Formatter<'_>, weekdays: u8) -> fmt::Result {
    let short = |index: usize| WEEKDAYS.get(index).and_then(|name| name.get(..3)).unwrap_or_default();
    let mut comma = "";
    let mut index = 0;
    while index < 7 {
        let run = (index..7).take_while(|day| weekdays & (1 << day) != 0).count();
        if run > 0 {
            write!(f, "{comma}{}", short(index))?;
            comma = ",";
        }
        if run > 1 {
            write!(f, "{}{}", if run > 2 { ".." } else { "," }, short(index + run - 1))?;
        }
        index += run.max(1);
    }
    Ok(())
}

/// A chain of whole numbers, at least `width` digits each.
fn write_chain(f: &mut fmt::Formatter<'_>, chain: &Chain, width: usize) -> fmt::Result {
    if chain.is_empty() {
        return f.write_str("*");
    }
    let mut comma = "";
    for Component { start, stop, repeat } in chain {
        write!(f, "{comma}{start:0width$}")?;
        comma = ",";
        if let Some(stop) = stop {
            write!(f, "..{stop:0width$}")?;
        }
        if *repeat > 0 && !(stop.is_some() && *repeat == 1) {
            write!(f, "/{repeat}")?;
        }
    }
    Ok(())
}

/// A chain of microseconds, shown as seconds.
fn write_seconds(f: &mut fmt::Formatter<'_>, chain: &Chain) -> fmt::Result {
    if chain.is_empty() || matches!(chain[..], [Component { start: 0, stop: None, repeat: SECOND }]) {
        return f.write_str("*");
    }
    let number = |f: &mut fmt::Formatter<'_>, micros: i64, width: usize| {
        write!(f, "{:0width$}", micros / SECOND)?;
        if micros % SECOND == 0 { Ok(()) } else { write!(f, ".{:06}", micros % SECOND) }
    };
    let mut comma = "";
    for Component { start, stop, repeat } in chain {
        f.write_str(comma)?;
        comma = ",";
        number(f, *start, 2)?;
        if let Some(stop) = stop {
            f.write_str("..")?;
            number(f, *stop, 2)?;
        }
        if *repeat > 0 && !(stop.is_some() && *repeat == SECOND) {
            f.write_str("/")?;
            number(f, *repeat, 1)?;
        }
    }
    Ok(())
}
