//! Entries as bytes: the Journal Export Format, in the form that Ferrite's files have it (`docs/formats/journal.md`).
//!
//! A stored entry is an entry of the export format whose last field is `__CURSOR`. The cursor carries two items more than
//! it shows to the outside: a hash over everything before it, which tells a torn entry from a whole one, and the length of
//! the entry, by which a reader steps backwards. A reader never looks for patterns within values, so that nobody can make
//! it see an entry that is none.

use std::fmt::{self, Write as _};
use std::ops::Range;

use super::entry::{Entry, Id, Stamp, is_field_name};

/// Largest entry that is stored or read, in bytes.
pub const LARGEST_ENTRY: usize = 32 << 20;
/// Every entry starts with this.
pub const FIRST_FIELD: &[u8] = b"__REALTIME_TIMESTAMP=";
/// The last line of every entry starts with this.
const CURSOR_FIELD: &[u8] = b"__CURSOR=";
/// Digits of the length in a stored cursor.
const LENGTH_DIGITS: usize = 8;
/// Longest last line with its line end and the empty line behind it.
pub const LONGEST_LAST_LINE: usize = 256;

/// Which entry it is, as systemd writes it: `s=ID;i=NUMBER;b=BOOT;m=MONOTONIC;t=REALTIME;x=HASH`, numbers in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The sequence that counts this entry.
    pub sequence_id: Id,
    /// Its number there.
    pub sequence: u64,
    /// The boot.
    pub boot: Id,
    /// When.
    pub stamp: Stamp,
    /// Hash of its content.
    pub hash: u64,
}

impl Cursor {
    /// Reads a cursor; items that are not known are skipped, missing ones are zero, as in systemd.
    pub fn parse(text: &str) -> Option<Cursor> {
        let mut cursor = Cursor::default();
        for item in text.split(';') {
            let (name, value) = item.split_once('=')?;
            let number = || u64::from_str_radix(value, 16).ok();
            match name {
                "s" => cursor.sequence_id = Id::parse(value)?,
                "i" => cursor.sequence = number()?,
                "b" => cursor.boot = Id::parse(value)?,
                "m" => cursor.stamp.monotonic = number()?,
                "t" => cursor.stamp.realtime = number()?,
                "x" => cursor.hash = number()?,
                _ => {}
            }
        }
        Some(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cursor { sequence_id, sequence, boot, stamp, hash } = self;
        write!(
            f,
            "s={sequence_id};i={sequence:x};b={boot};m={:x};t={:x};x={hash:016x}",
            stamp.monotonic, stamp.realtime
        )
    }
}

/// 64-bit FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Appends a field: `NAME=value` when the value is text without control characters, else the binary form.
pub fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let is_control = |c: char| c.is_control() && c != '\t';
    let is_text = std::str::from_utf8(value).is_ok_and(|text| !text.chars().any(is_control));
    out.extend_from_slice(name.as_bytes());
    if is_text {
        out.push(b'=');
    } else {
        out.push(b'\n');
        out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Appends a stored entry and completes its cursor's hash. Nothing is appended when it is larger than [`LARGEST_ENTRY`].
pub fn encode(entry: &Entry, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    cursor.stamp = entry.stamp;
    let mut head = String::with_capacity(128);
    // Writing to a string never fails.
    let _infallible = writeln!(
        head,
        "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={}",
        entry.stamp.realtime, entry.stamp.monotonic, cursor.boot
    );
    out.extend_from_slice(head.as_bytes());
    entry.fields.iter().for_each(|(name, value)| push_field(out, name, value));
    cursor.hash = hash(out.get(start..).unwrap_or_default());
    let last = format!("__CURSOR={cursor};l=");
    let length = out.len() - start + last.len() + LENGTH_DIGITS + 2;
    if length > LARGEST_ENTRY {
        out.truncate(start);
        return false;
    }
    out.extend_from_slice(format!("{last}{length:08x}\n\n").as_bytes());
    true
}

/// Where a field is within an entry's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
}

/// A stored entry that was read.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Which one it is.
    pub cursor: Cursor,
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl Record {
    /// Names and values in the order of the file, without the `__` fields; those are in the cursor.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().filter_map(|field| {
            let name = std::str::from_utf8(self.bytes.get(field.name.clone())?).ok()?;
            Some((name, self.bytes.get(field.value.clone())?)).filter(|(name, _)| !name.starts_with("__"))
        })
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The first value of a field as text, what is not UTF-8 replaced.
    pub fn text(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.get(name).map(String::from_utf8_lossy)
    }

    /// Bytes that it takes in its file.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Takes over a whole entry; false when it is not what a writer has written.
    pub fn load(&mut self, bytes: &[u8]) -> bool {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.fields.clear();
        let Scan::Whole(length) = scan(bytes, Some(&mut self.fields)) else { return false };
        let Some(last) = self.fields.last() else { return false };
        let is_cursor = bytes.get(last.name.start..).is_some_and(|rest| rest.starts_with(CURSOR_FIELD));
        let cursor = bytes.get(last.value.clone()).and_then(|value| std::str::from_utf8(value).ok());
        let Some(cursor) = cursor.and_then(Cursor::parse).filter(|_| is_cursor) else { return false };
        self.cursor = cursor;
        length == bytes.len() && bytes.get(..last.name.start).is_some_and(|body| hash(body) == cursor.hash)
    }
}

/// What [`scan`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// An entry of this many bytes, the empty line included.
    Whole(usize),
    /// The bytes end within an entry.
    Incomplete,
    /// This is no entry.
    Corrupt,
}

/// Finds the end of the entry that starts at the first byte, and its fields.
pub fn scan(bytes: &[u8], mut fields: Option<&mut Vec<Field>>) -> Scan {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line) = rest.iter().position(|byte| *byte == b'\n') else {
            let known = rest.len().min(FIRST_FIELD.len());
            let plausible = at > 0 || rest.get(..known) == FIRST_FIELD.get(..known);
            return if plausible && bytes.len() < LARGEST_ENTRY { Scan::Incomplete } else { Scan::Corrupt };
        };
        if at == 0 && !rest.starts_with(FIRST_FIELD) {
            return Scan::Corrupt;
        }
        if line == 0 {
            return Scan::Whole(at + 1);
        }
        let name_end = rest.iter().take(line).position(|byte| *byte == b'=').unwrap_or(line);
        if !rest.get(..name_end).is_some_and(is_field_name) {
            return Scan::Corrupt;
        }
        let value = if name_end < line {
            at + name_end + 1..at + line
        } else {
            let Some(length) = rest.get(line + 1..line + 9) else { return Scan::Incomplete };
            let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
            let Some(length) = usize::try_from(length).ok().filter(|length| *length <= LARGEST_ENTRY) else {
                return Scan::Corrupt;
            };
            at + line + 9..at + line + 9 + length
        };
        match bytes.get(value.end) {
            None => return Scan::Incomplete,
            Some(b'\n') => {}
            Some(_) => return Scan::Corrupt,
        }
        let next = value.end + 1;
        if let Some(fields) = fields.as_deref_mut() {
            fields.push(Field { name: at..at + name_end, value });
        }
        at = next;
    }
}

/// The length of the entry whose last bytes these are; `None` when they are not the end of one.
pub fn length_by_end(tail: &[u8]) -> Option<usize> {
    let body = tail.strip_suffix(b"\n\n")?;
    let digits = body.get(body.len().checked_sub(LENGTH_DIGITS)?..)?;
    let before = body.get(..body.len() - LENGTH_DIGITS)?;
    let length = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (before.ends_with(b";l=") && (FIRST_FIELD.len()..=LARGEST_ENTRY).contains(&length)).then_some(length)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry with a message.
    pub fn message(at: u64, text: &[u8]) -> Entry {
        let mut entry = Entry::new(Stamp { realtime: at, monotonic: at / 2 });
        entry.push("MESSAGE", text);
        entry
    }

    fn encoded(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        let mut cursor = Cursor { sequence: 7, boot: Id(3), ..Cursor::default() };
        assert!(encode(entry, &mut cursor, &mut out));
        out
    }

    #[test]
    fn text_and_binary_fields_have_their_forms() {
        let mut entry = message(1_000_000, b"plain\ttext");
        entry.push("B", &b"two\nlines"[..]);
        let bytes = encoded(&entry);
        let text = String::from_utf8_lossy(&bytes);
        let head = format!(
            "__REALTIME_TIMESTAMP=1000000\n__MONOTONIC_TIMESTAMP=500000\n_BOOT_ID={}\nMESSAGE=plain\ttext\nB\n\t\0\0\0\0\0\0\0two\nlines\n__CURSOR=s=",
            Id(3)
        );
        assert!(text.starts_with(&head), "{text}");
        assert_eq!(scan(&bytes, None), Scan::Whole(bytes.len()));
        assert_eq!(length_by_end(&bytes), Some(bytes.len()));
    }

    #[test]
    fn a_cursor_reads_as_it_was_written() {
        let cursor = Cursor {
            sequence_id: Id(9),
            sequence: 0xabc,
            boot: Id(1),
            stamp: Stamp { realtime: 77, monotonic: 5 },
            hash: 0xdead,
        };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        assert_eq!(Cursor::parse("s=zz"), None);
        assert_eq!(Cursor::parse("nonsense"), None);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let good = encoded(&message(5, b"hello world"));
        let mut record = Record::default();
        assert!(record.load(&good));
        let at = good.windows(5).position(|part| part == b"world").unwrap();
        let mut bad = good.clone();
        bad[at] = b'W';
        assert!(!record.load(&bad));
        assert!(!record.load(&good[..good.len() - 1]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let mut entry = Entry::new(Stamp { realtime: 1, monotonic: 2 });
            values.iter().for_each(|value| entry.push("FIELD", value.clone()));
            let bytes = encoded(&entry);
            let mut record = Record::default();
            prop_assert!(record.load(&bytes));
            prop_assert_eq!(record.all("FIELD").map(<[u8]>::to_vec).collect::<Vec<_>>(), values);
            prop_assert_eq!(record.cursor.stamp, entry.stamp);
            // Every beginning of it is known to be one.
            for end in 0..bytes.len() {
                prop_assert_eq!(scan(&bytes[..end], None), Scan::Incomplete, "{}", end);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[A-Z_=\\n0-9]{0,80}") {
            let mut both = FIRST_FIELD.to_vec();
            both.extend_from_slice(text.as_bytes());
            both.extend_from_slice(&bytes);
            let mut record = Record::default();
            record.load(&bytes);
            record.load(&both);
            length_by_end(&bytes);
            Cursor::parse(&text);
        }
    }
}
