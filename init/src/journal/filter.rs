//! What is wanted of a journal: the matches of journalctl(1).

use super::entry::Id;
use super::export::Record;
use super::folder::StoredFile;
use crate::boot::glob;

/// Wanted values of one field, any of which will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMatch {
    /// The field.
    pub field: String,
    /// Its values.
    pub values: Vec<Vec<u8>>,
}

/// What is wanted. Everything that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// `FIELD=VALUE` words: any group, in it every field.
    pub groups: Vec<Vec<FieldMatch>>,
    /// Units or patterns of them, any of which will do.
    pub units: Vec<String>,
    /// Values of `SYSLOG_IDENTIFIER=`.
    pub identifiers: Vec<String>,
    /// Values of `SYSLOG_IDENTIFIER=` that are not wanted.
    pub without_identifiers: Vec<String>,
    /// Levels, a bit each.
    pub levels: Option<u8>,
    /// Facilities, a bit each.
    pub facilities: Option<u32>,
    /// The boot.
    pub boot: Option<Id>,
    /// Only the kernel's.
    pub kernel: bool,
    /// Not before this, in microseconds since 1970.
    pub since: Option<u64>,
    /// Not after this.
    pub until: Option<u64>,
    /// The message matches.
    pub grep: Option<regex_lite::Regex>,
}

impl Filter {
    /// Adds a `FIELD=VALUE` word to the last group: values of one field are alternatives, fields are all wanted.
    pub fn add(&mut self, field: &str, value: &[u8]) {
        if self.groups.is_empty() {
            self.groups.push(Vec::new());
        }
        let Some(group) = self.groups.last_mut() else { return };
        match group.iter_mut().find(|known| known.field == field) {
            Some(known) => known.values.push(value.to_vec()),
            None => group.push(FieldMatch { field: field.to_owned(), values: vec![value.to_vec()] }),
        }
    }

    /// Whether an entry is wanted.
    pub fn wants(&self, record: &Record) -> bool {
        let time = record.cursor.stamp.realtime;
        self.boot.is_none_or(|boot| record.cursor.boot == boot)
            && self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time <= until)
            && (!self.kernel || record.get("_TRANSPORT") == Some(b"kernel"))
            && self
                .levels
                .is_none_or(|levels| digit(record, "PRIORITY").is_some_and(|bit| levels >> bit & 1 == 1))
            && self.facilities.is_none_or(|wanted| {
                number(record, "SYSLOG_FACILITY").is_some_and(|bit| bit < 32 && wanted >> bit & 1 == 1)
            })
            && (self.identifiers.is_empty() || has(record, "SYSLOG_IDENTIFIER", &self.identifiers))
            && (self.without_identifiers.is_empty()
                || !has(record, "SYSLOG_IDENTIFIER", &self.without_identifiers))
            && (self.units.is_empty() || self.units.iter().any(|unit| is_about(record, unit)))
            && (self.groups.is_empty()
                || self.groups.iter().any(|group| group.iter().all(|one| fits(record, one))))
            && self
                .grep
                .as_ref()
                .is_none_or(|grep| record.text("MESSAGE").is_some_and(|text| grep.is_match(&text)))
    }

    /// Whether a file can be passed over without a look into it.
    pub fn skips(&self, file: &StoredFile) -> bool {
        let other_boot = self.boot.is_some_and(|boot| file.boot != Id::default() && file.boot != boot);
        // The last change is never before the last entry, but for a clock that was set back: a day's grace.
        let too_old = self
            .since
            .is_some_and(|since| file.modified > 0 && file.modified.saturating_add(86_400_000_000) < since);
        other_boot || too_old
    }
}

fn digit(record: &Record, field: &str) -> Option<u8> {
    match record.get(field)? {
        [digit @ b'0'..=b'7'] => Some(digit - b'0'),
        _ => None,
    }
}

fn number(record: &Record, field: &str) -> Option<u32> {
    std::str::from_utf8(record.get(field)?).ok()?.parse().ok()
}

fn has(record: &Record, field: &str, wanted: &[String]) -> bool {
    record.all(field).any(|value| wanted.iter().any(|text| text.as_bytes() == value))
}

fn fits(record: &Record, wanted: &FieldMatch) -> bool {
    let own;
    let mut values: Box<dyn Iterator<Item = &[u8]>> = match wanted.field.as_str() {
        "_BOOT_ID" => {
            own = record.cursor.boot.to_string();
            Box::new(std::iter::once(own.as_bytes()))
        }
        field => Box::new(record.all(field)),
    };
    values.any(|value| wanted.values.iter().any(|wanted| wanted == value))
}

/// Whether an entry is a unit's: said by it, or about it by the service manager or by root (`-u` of journalctl(1)).
pub fn is_about(record: &Record, unit: &str) -> bool {
    let names = |field: &str| {
        let is_pattern = glob::is_pattern(unit.as_bytes());
        record.all(field).any(|value| {
            if is_pattern { glob::matches(unit.as_bytes(), value) } else { value == unit.as_bytes() }
        })
    };
    names("_SYSTEMD_UNIT")
        || unit.ends_with(".slice") && names("_SYSTEMD_SLICE")
        || names("UNIT") && (record.get("_PID") == Some(b"1") || record.get("_TRANSPORT") == Some(b"driver"))
        || record.get("_UID") == Some(b"0") && (names("OBJECT_SYSTEMD_UNIT") || names("COREDUMP_UNIT"))
}
