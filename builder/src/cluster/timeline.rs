//! The log of a cluster: what all consoles print and what is done to the machines, line by line, with one clock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// At most so much is read for one answer.
const CHUNK: u64 = 1 << 20;

/// The log file.
#[derive(Debug)]
pub struct Timeline {
    file: File,
    /// What each console has begun and not ended.
    begun: Vec<String>,
}

impl Timeline {
    /// An empty log for `count` machines.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, count: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, begun: vec![String::new(); count] })
    }

    /// Adds a line of `who`.
    pub fn line(&mut self, who: &str, text: &str) {
        // A full disk costs lines of a log, and nothing else.
        let _ = writeln!(self.file, "{} {who:>7} | {text}", stamp(SystemTime::now()));
    }

    /// Adds what the console of machine `index` printed: whole lines at once, the rest when it is one.
    pub fn console(&mut self, index: usize, who: &str, text: &str) {
        let Some(begun) = self.begun.get_mut(index) else { return };
        begun.push_str(text);
        let Some(end) = begun.rfind('\n') else { return };
        let rest = begun.split_off(end + 1);
        let lines = std::mem::replace(begun, rest);
        for line in lines.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            self.line(who, line);
        }
    }

    /// What was written from byte `from` on, and where that ends.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&mut self, from: u64) -> io::Result<(String, u64)> {
        let end = self.file.seek(SeekFrom::End(0))?;
        let from = from.min(end);
        self.file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&self.file).take(CHUNK.min(end - from)).read_to_end(&mut bytes)?;
        // Whole lines, so that no character is cut in two.
        if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            bytes.truncate(last + 1);
        }
        self.file.seek(SeekFrom::End(0))?;
        let read = u64::try_from(bytes.len()).unwrap_or(0);
        Ok((String::from_utf8_lossy(&bytes).into_owned(), from + read))
    }
}

/// Time of day in UTC with milliseconds.
fn stamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let day = since.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", day / 3600, day / 60 % 60, day % 60, since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_of_several_machines_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let mut timeline = Timeline::create(&dir.path().join("log"), 2).unwrap();
        timeline.console(0, "node1", "hel");
        timeline.console(1, "node2", "there\r\n\r\n");
        timeline.console(0, "node1", "lo\nwor");
        let (text, end) = timeline.read(0).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[13..]).collect();
        assert_eq!(lines, ["  node2 | there", "  node1 | hello"]);
        timeline.line("cluster", "node1: killed");
        assert_eq!(&timeline.read(end).unwrap().0[13..], "cluster | node1: killed\n");
        assert_eq!(timeline.read(u64::MAX).unwrap().0, "");
    }

    #[test]
    fn the_stamp_is_a_time_of_day() {
        assert_eq!(stamp(UNIX_EPOCH + Duration::from_millis(86_400_000 * 3 + 3_723_004)), "01:02:03.004");
    }
}
