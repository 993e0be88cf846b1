//! Records of `/dev/kmsg`: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, then ` KEY=VALUE` lines
//! (Documentation/ABI/testing/dev-kmsg of the kernel).

use super::entry::{Entry, Stamp};
use super::syslog;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of the record; they grow by one.
    pub sequence: u64,
    /// When, in microseconds of the monotonic clock.
    pub monotonic: u64,
    /// Level, 0 to 7.
    pub level: u8,
    /// Facility; 0 is the kernel itself, others are programs that write to `/dev/kmsg`.
    pub facility: u16,
    /// The text.
    pub text: String,
    /// Device and the like.
    pub properties: Vec<(String, String)>,
}

/// Reads a record; `None` when it is none.
pub fn parse(bytes: &[u8]) -> Option<Record> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once(';')?;
    let mut numbers = head.split(',');
    let priority: u16 = numbers.next()?.parse().ok()?;
    let sequence = numbers.next()?.parse().ok()?;
    let monotonic = numbers.next()?.parse().ok()?;
    let mut lines = body.lines();
    let text = unescape(lines.next()?.trim_end());
    let properties = lines.filter_map(|line| {
        let (key, value) = line.strip_prefix(' ')?.split_once('=')?;
        Some((key.to_owned(), unescape(value)))
    });
    Some(Record {
        sequence,
        monotonic,
        level: u8::try_from(priority & 7).ok()?,
        facility: priority >> 3,
        text,
        properties: properties.collect(),
    })
}

/// The kernel writes bytes that are no printable ASCII, and backslashes, as `\xNN`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let (before, escape) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        match escape.get(2..4).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = escape.get(4..).unwrap_or_default();
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = escape.get(2..).unwrap_or_default();
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Record {
    /// The entry for it; `now` is when it was read.
    pub fn entry(self, now: Stamp) -> Entry {
        let mut entry = Entry::new(now);
        entry.push("_TRANSPORT", "kernel");
        entry.push("_SOURCE_MONOTONIC_TIMESTAMP", self.monotonic.to_string());
        entry.push("PRIORITY", self.level.to_string());
        entry.push("SYSLOG_FACILITY", self.facility.to_string());
        if self.facility == 0 {
            entry.push("SYSLOG_IDENTIFIER", "kernel");
            entry.push("MESSAGE", self.text);
        } else {
            let (identifier, pid, text) = syslog::take_identifier(&self.text);
            if let Some(identifier) = identifier {
                entry.push("SYSLOG_IDENTIFIER", identifier);
            }
            if let Some(pid) = pid {
                entry.push("SYSLOG_PID", pid);
            }
            entry.push("MESSAGE", text);
        }
        for (key, value) in self.properties {
            match key.as_str() {
                "DEVICE" => entry.push("_KERNEL_DEVICE", value),
                "SUBSYSTEM" => entry.push("_KERNEL_SUBSYSTEM", value),
                _ => {}
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_of_the_kernel() {
        let bytes = b"6,339,5140900,-;NET: Registered \\xe2\\x82\\xac \\x5cx protocol\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n";
        let record = parse(bytes).unwrap();
        assert_eq!((record.sequence, record.monotonic, record.level), (339, 5_140_900, 6));
        assert_eq!(record.text, "NET: Registered \u{20ac} \\x protocol");
        let entry = record.entry(Stamp::default());
        assert_eq!(entry.get("_KERNEL_DEVICE"), Some(&b"+acpi:PNP0A03:00"[..]));
        assert_eq!(entry.get("SYSLOG_IDENTIFIER"), Some(&b"kernel"[..]));
    }

    #[test]
    fn a_record_of_a_program() {
        let entry = parse(b"30,1,2,-;init[1]: hello\n").unwrap().entry(Stamp::default());
        assert_eq!(entry.get("SYSLOG_IDENTIFIER"), Some(&b"init"[..]));
        assert_eq!(entry.get("MESSAGE"), Some(&b"hello"[..]));
        assert_eq!(entry.get("SYSLOG_FACILITY"), Some(&b"3"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[0-9,;\\\\x a-f=\\n]{0,60}") {
            parse(&bytes);
            if let Some(record) = parse(text.as_bytes()) {
                prop_assert!(record.level <= 7);
            }
        }
    }
}
