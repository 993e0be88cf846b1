//! A log entry: fields with names and values, systemd.journal-fields(7).

use std::fmt;

/// Longest name of a field, as systemd's.
const LONGEST_NAME: usize = 64;
/// Most fields that one sender may give an entry, as systemd's.
pub const MOST_FIELDS: usize = 1024;

/// 128 bits that name a boot, a machine or a sequence of entries: 32 hex digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Id(pub u128);

impl Id {
    /// Reads 32 hex digits, with or without a UUID's hyphens.
    pub fn parse(text: &str) -> Option<Id> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex { u128::from_str_radix(&digits, 16).ok().map(Id) } else { None }
    }

    /// A new one from the kernel's random numbers.
    pub fn random() -> Id {
        let mut bytes = [0_u8; 16];
        // Unique is enough, and in an early boot too.
        let _few = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE);
        Id(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// When something was logged, in microseconds: since 1970 by the wall clock, since the boot by the monotonic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Wall clock.
    pub realtime: u64,
    /// `CLOCK_MONOTONIC`.
    pub monotonic: u64,
}

impl Stamp {
    /// Now.
    pub fn now() -> Stamp {
        let micros = |clock| {
            let time = rustix::time::clock_gettime(clock);
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1000)
        };
        Stamp {
            realtime: micros(rustix::time::ClockId::Realtime),
            monotonic: micros(rustix::time::ClockId::Monotonic),
        }
    }
}

/// An entry that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// When it came in.
    pub stamp: Stamp,
    /// Names and values in order; a name may occur more than once.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// An entry without fields.
    pub fn new(stamp: Stamp) -> Entry {
        Entry { stamp, fields: Vec::with_capacity(20) }
    }

    /// Adds a field.
    pub fn push(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.fields.push((name.to_owned(), value.into()));
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    /// Bytes of memory that it takes, roughly.
    pub fn size(&self) -> usize {
        self.fields.iter().fold(64, |sum, (name, value)| sum + name.len() + value.len() + 48)
    }

    /// The level by `PRIORITY=`; `info` when it has none.
    pub fn priority(&self) -> u8 {
        self.get("PRIORITY").map_or(Priority::INFO, |value| match value {
            [digit @ b'0'..=b'7'] => digit - b'0',
            _ => Priority::INFO,
        })
    }
}

/// Whether a name may be a field's: capital letters, digits and underscores, not a digit first, at most 64.
pub fn is_field_name(name: &[u8]) -> bool {
    let good = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    (1..=LONGEST_NAME).contains(&name.len())
        && name.iter().all(good)
        && !name.first().is_some_and(u8::is_ascii_digit)
}

/// Levels of syslog(3) by name and number, 0 the loudest.
#[derive(Debug)]
pub struct Priority;

impl Priority {
    /// `crit`
    pub const CRITICAL: u8 = 2;
    /// `err`
    pub const ERROR: u8 = 3;
    /// `warning`
    pub const WARNING: u8 = 4;
    /// `notice`
    pub const NOTICE: u8 = 5;
    /// `info`
    pub const INFO: u8 = 6;
    /// `debug`
    pub const DEBUG: u8 = 7;

    /// Names in the order of their numbers.
    pub const NAMES: [&'static str; 8] =
        ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

    /// A level by name or number.
    pub fn parse(text: &str) -> Option<u8> {
        let by_name = Priority::NAMES.iter().position(|name| *name == text);
        let number = by_name.or_else(|| match text {
            "error" => Some(3),
            "warn" => Some(4),
            "panic" => Some(0),
            _ => text.parse().ok().filter(|number| *number < Priority::NAMES.len()),
        })?;
        u8::try_from(number).ok()
    }
}

/// Facilities of syslog(3) in the order of their numbers; those without a name are `None` there.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "12", "13", "14", "15", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// A facility's number by name or number, up to 23.
pub fn facility(text: &str) -> Option<u8> {
    let by_name = FACILITIES.iter().position(|name| *name == text);
    let number = by_name.or_else(|| text.parse().ok().filter(|number| *number < FACILITIES.len()))?;
    u8::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_are_checked() {
        let long = "A".repeat(64);
        let too_long = "A".repeat(65);
        let cases = [
            ("MESSAGE", true),
            ("_PID", true),
            ("A1_", true),
            (long.as_str(), true),
            ("", false),
            ("1A", false),
            ("message", false),
            ("A-B", false),
            ("A\0", false),
            (too_long.as_str(), false),
        ];
        for (name, good) in cases {
            assert_eq!(is_field_name(name.as_bytes()), good, "{name}");
        }
    }

    #[test]
    fn levels_and_facilities_have_names_and_numbers() {
        assert_eq!(
            (Priority::parse("err"), Priority::parse("7"), Priority::parse("8")),
            (Some(3), Some(7), None)
        );
        assert_eq!((facility("daemon"), facility("local7"), facility("24")), (Some(3), Some(23), None));
    }

    #[test]
    fn ids_are_32_digits_in_either_form() {
        let id = Id(0x00ff);
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(Id::parse("00000000-0000-0000-0000-0000000000ff\n"), Some(id));
        assert_eq!(Id::parse("ff"), None);
        assert_ne!(Id::random(), Id::random());
    }
}
