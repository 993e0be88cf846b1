//! Entries as people and programs read them: the formats of `-o`.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{json, time};
use crate::journal::entry::{Id, Priority};
use crate::journal::export::{Record, push_field};

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Short,
    ShortPrecise,
    ShortIso,
    ShortIsoPrecise,
    ShortFull,
    ShortMonotonic,
    ShortUnix,
    WithUnit,
    Verbose,
    Export,
    Json,
    JsonPretty,
    JsonSse,
    JsonSeq,
    Cat,
}

impl Format {
    /// Names in the order of journalctl(1).
    const NAMES: [(&'static str, Format); 15] = [
        ("short", Format::Short),
        ("short-full", Format::ShortFull),
        ("short-iso", Format::ShortIso),
        ("short-iso-precise", Format::ShortIsoPrecise),
        ("short-precise", Format::ShortPrecise),
        ("short-monotonic", Format::ShortMonotonic),
        ("short-unix", Format::ShortUnix),
        ("verbose", Format::Verbose),
        ("export", Format::Export),
        ("json", Format::Json),
        ("json-pretty", Format::JsonPretty),
        ("json-sse", Format::JsonSse),
        ("json-seq", Format::JsonSeq),
        ("cat", Format::Cat),
        ("with-unit", Format::WithUnit),
    ];

    /// A format by its name.
    pub fn parse(name: &str) -> Option<Format> {
        Format::NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Format::NAMES.iter().map(|(name, _)| *name)
    }

    /// For people, a line an entry.
    fn is_short(self) -> bool {
        use Format::{Cat, Export, Json, JsonPretty, JsonSeq, JsonSse, Verbose};
        !matches!(self, Cat | Export | Json | JsonPretty | JsonSse | JsonSeq | Verbose)
    }
}

/// Longest value that is shown unless all is asked for, as systemd's.
const LONGEST_VALUE: usize = 4096;

/// How entries are shown.
#[derive(Debug, Clone)]
pub struct Style {
    /// The format.
    pub format: Format,
    /// Fields that are shown in the formats that show fields; none is all.
    pub fields: Vec<String>,
    /// Long and unprintable values too.
    pub all: bool,
    /// UTC instead of local time.
    pub utc: bool,
    /// Without the host's name.
    pub no_hostname: bool,
    /// With colours.
    pub colours: bool,
}

/// Shows entries one after another.
#[derive(Debug)]
pub struct Printer {
    style: Style,
    boot: Option<Id>,
}

impl Printer {
    /// For a style.
    pub fn new(style: Style) -> Printer {
        Printer { style, boot: None }
    }

    /// Appends an entry.
    pub fn print(&mut self, record: &Record, out: &mut Vec<u8>) {
        let style = &self.style;
        let boot = record.cursor.boot;
        let changed = self.boot.replace(boot).is_some_and(|before| before != boot);
        if changed && style.format.is_short() {
            let line = format!("-- Boot {boot} --");
            out.extend_from_slice(style.paint(&line, "\x1b[1m").as_bytes());
            out.push(b'\n');
        }
        match style.format {
            Format::Cat => {
                let fields: &[String] =
                    if style.fields.is_empty() { &["MESSAGE".to_owned()] } else { &style.fields };
                for value in fields.iter().flat_map(|field| record.all(field)) {
                    out.extend_from_slice(value);
                    out.push(b'\n');
                }
            }
            Format::Export => style.export(record, out),
            Format::Json => json::object(record, &style.fields, style.all, json::Shape::Line, out),
            Format::JsonPretty => json::object(record, &style.fields, style.all, json::Shape::Pretty, out),
            Format::JsonSse => {
                out.extend_from_slice(b"data: ");
                json::object(record, &style.fields, style.all, json::Shape::Line, out);
                out.push(b'\n');
            }
            Format::JsonSeq => {
                out.push(0x1e);
                json::object(record, &style.fields, style.all, json::Shape::Line, out);
            }
            Format::Verbose => style.verbose(record, out),
            _ => style.short(record, out),
        }
    }
}

impl Style {
    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colours && !colour.is_empty() { format!("{colour}{text}\x1b[0m") } else { text.to_owned() }
    }

    fn is_wanted(&self, field: &str) -> bool {
        self.fields.is_empty() || self.fields.iter().any(|wanted| wanted == field)
    }

    fn stamp(&self, record: &Record) -> String {
        let micros = source_time(record);
        match self.format {
            Format::ShortPrecise => time::short_precise(micros, self.utc),
            Format::ShortIso => time::iso(micros, self.utc, false),
            Format::ShortIsoPrecise => time::iso(micros, self.utc, true),
            Format::ShortFull | Format::WithUnit => time::full(micros, self.utc, false),
            Format::ShortUnix => format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000),
            Format::ShortMonotonic => {
                let source = number(record, "_SOURCE_MONOTONIC_TIMESTAMP");
                let since = source.unwrap_or(record.cursor.stamp.monotonic);
                format!("[{:5}.{:06}]", since / 1_000_000, since % 1_000_000)
            }
            _ => time::short(micros, self.utc),
        }
    }

    fn short(&self, record: &Record, out: &mut Vec<u8>) {
        let Some(message) = record.get("MESSAGE") else { return };
        let mut head = self.stamp(record);
        let text = |field: &str| record.text(field).filter(|value| is_printable(value.as_bytes()));
        if let Some(host) = text("_HOSTNAME").filter(|_| !self.no_hostname) {
            let _infallible = write!(head, " {host}");
        }
        let identifier = match self.format {
            Format::WithUnit => text("_SYSTEMD_UNIT").or_else(|| text("SYSLOG_IDENTIFIER")),
            _ => text("SYSLOG_IDENTIFIER"),
        };
        let identifier = identifier.or_else(|| text("_COMM")).unwrap_or(Cow::Borrowed("unknown"));
        let _infallible = write!(head, " {identifier}");
        if let Some(pid) = text("_PID").or_else(|| text("SYSLOG_PID")) {
            let _infallible = write!(head, "[{pid}]");
        }
        head.push_str(": ");
        out.extend_from_slice(head.as_bytes());
        if !self.all && !is_printable(message) {
            out.extend_from_slice(format!("[{} blob data]\n", size(message.len())).as_bytes());
            return;
        }
        let colour = colour(record);
        let message = String::from_utf8_lossy(message);
        let indent = " ".repeat(head.chars().count());
        for (number, line) in message.trim_end_matches('\n').split('\n').enumerate() {
            if number > 0 {
                out.extend_from_slice(indent.as_bytes());
            }
            out.extend_from_slice(self.paint(line, colour).as_bytes());
            out.push(b'\n');
        }
    }

    fn export(&self, record: &Record, out: &mut Vec<u8>) {
        for (name, value) in special_fields(record) {
            push_field(out, name, value.as_bytes());
        }
        for (name, value) in record.fields().filter(|(name, _)| *name == "_BOOT_ID" || self.is_wanted(name)) {
            push_field(out, name, value);
        }
        out.push(b'\n');
    }

    fn verbose(&self, record: &Record, out: &mut Vec<u8>) {
        let head = format!("{} [{}]", time::full(source_time(record), self.utc, true), record.cursor);
        out.extend_from_slice(self.paint(&head, "\x1b[1m").as_bytes());
        out.push(b'\n');
        for (name, value) in record.fields().filter(|(name, _)| self.is_wanted(name)) {
            out.extend_from_slice(format!("    {}=", self.paint(name, "\x1b[36m")).as_bytes());
            if !self.all && (!is_printable(value) || value.len() > LONGEST_VALUE) {
                out.extend_from_slice(format!("[{} blob data]", size(value.len())).as_bytes());
            } else {
                let text = String::from_utf8_lossy(value).replace('\n', "\n        ");
                let colour = if name == "MESSAGE" { colour(record) } else { "" };
                out.extend_from_slice(self.paint(&text, colour).as_bytes());
            }
            out.push(b'\n');
        }
    }
}

/// The fields that name the entry, in the order of the export format.
pub fn special_fields(record: &Record) -> [(&'static str, String); 5] {
    let cursor = &record.cursor;
    [
        ("__CURSOR", cursor.to_string()),
        ("__REALTIME_TIMESTAMP", cursor.stamp.realtime.to_string()),
        ("__MONOTONIC_TIMESTAMP", cursor.stamp.monotonic.to_string()),
        ("__SEQNUM", cursor.sequence.to_string()),
        ("__SEQNUM_ID", cursor.sequence_id.to_string()),
    ]
}

/// When the sender says that it happened, else when it came in.
fn source_time(record: &Record) -> u64 {
    number(record, "_SOURCE_REALTIME_TIMESTAMP").unwrap_or(record.cursor.stamp.realtime)
}

fn number(record: &Record, field: &str) -> Option<u64> {
    std::str::from_utf8(record.get(field)?).ok()?.parse().ok()
}

/// Red for errors, yellow for warnings, bold for what is notable, grey for chatter.
fn colour(record: &Record) -> &'static str {
    match record.get("PRIORITY") {
        Some([b'0'..=b'3']) => "\x1b[0;1;31m",
        Some([b'4']) => "\x1b[0;1;38:5;185m\x1b[0;1;33m",
        Some([b'5']) => "\x1b[0;1;39m",
        Some([digit]) if *digit == b'0' + Priority::DEBUG => "\x1b[0;38;5;245m",
        _ => "",
    }
}

/// Text without control characters but tabs and line ends.
fn is_printable(value: &[u8]) -> bool {
    std::str::from_utf8(value)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')))
}

/// A size in the shortest form: `12B`, `1.5K`, `80.0M`.
pub fn size(bytes: usize) -> String {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::{Entry, Stamp};
    use crate::journal::export::{Cursor, encode};

    pub fn record(fields: &[(&str, &[u8])]) -> Record {
        let mut entry = Entry::new(Stamp { realtime: 1_795_661_769_500_000, monotonic: 12_345_678 });
        fields.iter().for_each(|(name, value)| entry.push(name, *value));
        let mut bytes = Vec::new();
        let mut cursor = Cursor { sequence: 5, sequence_id: Id(2), boot: Id(1), ..Cursor::default() };
        assert!(encode(&entry, &mut cursor, &mut bytes));
        let mut record = Record::default();
        assert!(record.load(&bytes));
        record
    }

    fn shown(format: &str, fields: &[(&str, &[u8])], change: impl FnOnce(&mut Style)) -> String {
        let mut style = Style {
            format: Format::parse(format).unwrap(),
            fields: Vec::new(),
            all: false,
            utc: true,
            no_hostname: false,
            colours: false,
        };
        change(&mut style);
        let mut out = Vec::new();
        Printer::new(style).print(&record(fields), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    const FIELDS: [(&str, &[u8]); 5] = [
        ("PRIORITY", b"3"),
        ("SYSLOG_IDENTIFIER", b"app"),
        ("MESSAGE", b"one\ntwo"),
        ("_PID", b"7"),
        ("_HOSTNAME", b"host"),
    ];

    #[test]
    fn short_forms() {
        let cases = [
            ("short", "Nov 26 02:56:09 host app[7]: one\n                             two\n"),
            ("short-monotonic", "[   12.345678] host app[7]: one\n                            two\n"),
            ("short-unix", "1795661769.500000 host app[7]: one\n                               two\n"),
            ("cat", "one\ntwo\n"),
        ];
        for (format, expected) in cases {
            assert_eq!(shown(format, &FIELDS, |_| ()), expected, "{format}");
        }
        assert!(
            shown("short-iso", &FIELDS, |_| ()).starts_with("2026-11-26T02:56:09+00:00 host app[7]: one\n")
        );
        assert!(
            shown("short", &FIELDS, |style| style.no_hostname = true).starts_with("Nov 26 02:56:09 app[7]: ")
        );
        assert!(shown("short", &FIELDS, |style| style.colours = true).contains("\x1b[0;1;31mone\x1b[0m"));
        assert!(shown("short", &[("MESSAGE", b"a\x01")], |_| ()).ends_with(" unknown: [2B blob data]\n"));
    }

    #[test]
    fn export_is_the_documented_format() {
        let text = shown("export", &[("MESSAGE", b"a\nb"), ("X", b"y")], |_| ());
        assert!(text.starts_with("__CURSOR=s=00000000000000000000000000000002;i=5;b="));
        assert!(text.contains("\n__SEQNUM=5\n__SEQNUM_ID=00000000000000000000000000000002\n_BOOT_ID="));
        assert!(text.ends_with("\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nX=y\n\n"), "{text:?}");
        let few =
            shown("export", &[("MESSAGE", b"m"), ("X", b"y")], |style| style.fields = vec!["X".to_owned()]);
        assert!(few.ends_with("X=y\n\n") && !few.contains("MESSAGE"));
    }

    #[test]
    fn verbose_shows_all_fields() {
        let text = shown("verbose", &FIELDS, |_| ());
        assert!(text.starts_with("Thu 2026-11-26 02:56:09.500000 UTC [s=0"), "{text}");
        assert!(text.contains("\n    MESSAGE=one\n        two\n    _PID=7\n"), "{text}");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!((size(12), size(1536), size(80 << 20)), ("12B".into(), "1.5K".into(), "80.0M".into()));
    }
}
