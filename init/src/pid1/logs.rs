//! Where the output of services and PID 1's own messages go.
//!
//! One writer behind [`LogSink`]: the journal's, or, where there is no journal, a pair of bounded text files. A full disk,
//! a flood or a missing folder never stops a service: lines are dropped and counted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use crate::supervisor::{Level, Monotonic};

/// The current log; `.1` is the one before.
pub const LOG_FILE: &str = "/run/log/ferrite.log";
/// When a log file is this large, the next one is begun. Two of them are in memory at most (`/run` is a tmpfs).
const LARGEST_LOG: u64 = 512 << 10;
/// Lines of one source within [`RATE_INTERVAL`]; systemd's journal has 10,000 in 30 s, for a disk.
const RATE_BURST: u32 = 2000;
const RATE_INTERVAL: Monotonic = Monotonic::seconds(10);

/// One line to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Who says it: a unit's name, or `init`.
    pub source: &'a str,
    /// The process, 0 when it is not known.
    pub pid: u32,
    /// How loud.
    pub level: Level,
    /// The text, without line end.
    pub text: &'a str,
}

/// A place for records.
pub trait LogSink: fmt::Debug {
    /// Keeps a record; what cannot be kept is dropped.
    fn write(&mut self, now: Monotonic, record: Record<'_>);

    /// Tries again what could not be written at once.
    fn flush(&mut self) {}
}

/// Text files: `2026-11-21T01:46:13.123Z LEVEL UNIT[PID]: TEXT`, one line a record, the older half thrown away.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    rates: BTreeMap<String, Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    since: Monotonic,
    lines: u32,
    dropped: u32,
}

impl FileSink {
    /// A sink that writes to `path`, whose folder is made when it is missing.
    pub fn new(path: &Path) -> FileSink {
        FileSink { path: path.to_owned(), file: None, size: 0, rates: BTreeMap::new() }
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.size > LARGEST_LOG {
            self.file = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn append(&mut self, line: &str) {
        // The log has no other log to complain to.
        let written = self.open().and_then(|file| file.write_all(line.as_bytes()));
        match written {
            Ok(()) => self.size = self.size.saturating_add(u64::try_from(line.len()).unwrap_or(0)),
            Err(_) => self.file = None,
        }
    }

    /// Whether the source may say one more line; when it may again, how many were dropped.
    fn admit(&mut self, now: Monotonic, source: &str) -> Option<u32> {
        if !self.rates.contains_key(source) {
            self.rates.insert(source.to_owned(), Rate { since: now, ..Rate::default() });
        }
        let rate = self.rates.get_mut(source)?;
        let mut dropped = 0;
        if now >= rate.since.after(RATE_INTERVAL) {
            dropped = std::mem::take(&mut rate.dropped);
            *rate = Rate { since: now, ..Rate::default() };
        }
        rate.lines = rate.lines.saturating_add(1);
        if rate.lines > RATE_BURST {
            rate.dropped = rate.dropped.saturating_add(1);
            return None;
        }
        Some(dropped)
    }
}

impl LogSink for FileSink {
    fn write(&mut self, now: Monotonic, record: Record<'_>) {
        let Some(dropped) = self.admit(now, record.source) else { return };
        let stamp = timestamp();
        if dropped > 0 {
            self.append(&format!(
                "{stamp} warning {}: {dropped} lines dropped, too many at once\n",
                record.source
            ));
        }
        let level = level_word(record.level);
        let pid = if record.pid == 0 { String::new() } else { format!("[{}]", record.pid) };
        self.append(&format!("{stamp} {level} {}{pid}: {}\n", record.source, record.text));
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

/// Now, as RFC 3339 in UTC with milliseconds.
fn timestamp() -> String {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    format_time(seconds, u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Seconds since 1970 to a date, by the days-from-civil rule (400-year cycles of 146,097 days that begin in March).
fn format_time(seconds: u64, millis: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
}

/// Longest line that is kept whole; longer ones are cut (systemd's `LineMax=` is 48 KiB).
const LONGEST_LINE: usize = 4096;

impl LineBuffer {
    /// Takes in bytes and gives the lines that are complete, control characters replaced.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' || self.bytes.len() >= LONGEST_LINE {
                self.flush(&mut line);
            }
            if *byte != b'\n' {
                self.bytes.push(*byte);
            }
        }
        self.bytes.shrink_to(256);
    }

    /// Gives what is left as a line, if anything is.
    pub fn flush(&mut self, mut line: impl FnMut(&str)) {
        if !self.bytes.is_empty() {
            let text = String::from_utf8_lossy(&self.bytes);
            let text: String =
                text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
            line(text.trim_end_matches('\u{fffd}'));
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_795_225_573, "2026-11-21T01:46:13.000Z"),
        ];
        for (seconds, want) in cases {
            assert_eq!(format_time(seconds, 0), want);
        }
    }

    #[test]
    fn the_log_keeps_the_last_lines_within_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/ferrite.log");
        let mut sink = FileSink::new(&path);
        let text = "x".repeat(1000);
        for second in 0..2000 {
            sink.write(
                Monotonic::seconds(second),
                Record { source: "a.service", pid: 7, level: Level::Info, text: &text },
            );
        }
        sink.write(
            Monotonic::seconds(3000),
            Record { source: "b.service", pid: 0, level: Level::Error, text: "last" },
        );
        let size =
            fs::metadata(&path).unwrap().len() + fs::metadata(path.with_extension("log.1")).unwrap().len();
        assert!(size < 2 * LARGEST_LOG + 4096, "{size}");
        assert!(fs::read_to_string(&path).unwrap().ends_with(" error b.service: last\n"));
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ferrite.log");
        let mut sink = FileSink::new(&path);
        let record = Record { source: "a.service", pid: 0, level: Level::Info, text: "flood" };
        for _ in 0..RATE_BURST + 500 {
            sink.write(Monotonic::seconds(1), record);
        }
        sink.write(Monotonic::seconds(20), record);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), usize::try_from(RATE_BURST).unwrap() + 2);
        assert!(text.contains("a.service: 500 lines dropped"));
    }

    #[test]
    fn lines_are_cut_at_their_ends_and_at_the_limit() {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        buffer.push(b"one\ntw", |line| lines.push(line.to_owned()));
        buffer.push(b"o\r\n\n\x1b[31m", |line| lines.push(line.to_owned()));
        buffer.push(&[b'x'; LONGEST_LINE + 10], |line| lines.push(line.to_owned()));
        buffer.flush(|line| lines.push(line.to_owned()));
        assert_eq!(&lines[..2], ["one", "two"]);
        assert!(lines[2].starts_with("\u{fffd}[31m") && lines.len() == 4);
    }
}
