//! Reading one file, forwards and backwards, while it is written to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::export::{FIRST_FIELD, LARGEST_ENTRY, LONGEST_LAST_LINE, Record, Scan, length_by_end, scan};

/// Bytes that are read at a time.
const WINDOW: usize = 64 << 10;

/// A file with a place between two of its entries.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    /// Offset of the place.
    at: u64,
    /// Bytes of the file, from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    skipped: u64,
}

fn large(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn small(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl FileReader {
    /// Opens a file, before its first entry.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<FileReader> {
        Ok(FileReader { file: File::open(path)?, at: 0, window: Vec::new(), window_at: 0, skipped: 0 })
    }

    /// Offset of the place.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Goes to an offset that [`FileReader::position`] has told.
    pub fn seek(&mut self, position: u64) {
        self.at = position;
    }

    /// Bytes that were passed over because they are no entries.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Goes behind the last whole entry. Cheap unless the file's end is torn.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek_end(&mut self) -> io::Result<()> {
        self.at = self.file.metadata()?.len();
        self.window.clear();
        let mut record = Record::default();
        if self.at == 0 {
            return Ok(());
        }
        if self.step_back(&mut record)? {
            self.at += large(record.length());
            return Ok(());
        }
        self.at = 0;
        while self.next(&mut record)? {}
        Ok(())
    }

    /// Reads the entry behind the place and goes behind it. False at the end, where more may come.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self, record: &mut Record) -> io::Result<bool> {
        const MOST: usize = LARGEST_ENTRY + WINDOW;
        let mut wanted = WINDOW;
        // The window was read for this very place.
        let mut fresh = false;
        loop {
            if !fresh && !self.is_inside() {
                self.read_window(self.at, wanted)?;
                fresh = true;
            }
            let bytes = self.window.get(small(self.at - self.window_at)..).unwrap_or_default();
            match scan(bytes, None) {
                Scan::Whole(length) => {
                    let intact = record.load(bytes.get(..length).unwrap_or_default());
                    self.at += large(length);
                    if intact {
                        return Ok(true);
                    }
                    self.skipped += large(length);
                    fresh = false;
                }
                _ if !fresh => {
                    self.read_window(self.at, wanted)?;
                    fresh = true;
                }
                Scan::Incomplete if bytes.len() < wanted => return Ok(false),
                Scan::Incomplete if wanted < MOST => {
                    wanted = wanted.saturating_mul(4).min(MOST);
                    fresh = false;
                }
                Scan::Incomplete | Scan::Corrupt => {
                    if !self.skip_damage()? {
                        return Ok(false);
                    }
                    wanted = WINDOW;
                    fresh = false;
                }
            }
        }
    }

    /// Reads the entry before the place and goes before it. False at the beginning.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn back(&mut self, record: &mut Record) -> io::Result<bool> {
        if self.at == 0 {
            return Ok(false);
        }
        if self.step_back(record)? {
            return Ok(true);
        }
        // Damage before the place: the last whole entry before it is found from the front.
        let limit = std::mem::take(&mut self.at);
        let mut start = None;
        let mut probe = Record::default();
        while self.next(&mut probe)? && self.at <= limit {
            start = Some(self.at - large(probe.length()));
            std::mem::swap(record, &mut probe);
        }
        self.at = start.unwrap_or(0);
        Ok(start.is_some())
    }

    /// One step back by the length that the entry's last line tells.
    fn step_back(&mut self, record: &mut Record) -> io::Result<bool> {
        let tail = large(LONGEST_LAST_LINE).min(self.at);
        self.load_backward(small(tail))?;
        let end = small(self.at.saturating_sub(self.window_at));
        let Some(length) = self.window.get(..end).and_then(length_by_end) else { return Ok(false) };
        if large(length) > self.at {
            return Ok(false);
        }
        self.load_backward(length)?;
        let end = small(self.at.saturating_sub(self.window_at));
        let bytes = end.checked_sub(length).and_then(|start| self.window.get(start..end));
        if !bytes.is_some_and(|bytes| record.load(bytes)) {
            return Ok(false);
        }
        self.at -= large(length);
        Ok(true)
    }

    fn is_inside(&self) -> bool {
        (self.window_at..self.window_at + large(self.window.len())).contains(&self.at)
    }

    /// Makes the window hold `count` bytes before the place.
    fn load_backward(&mut self, count: usize) -> io::Result<()> {
        let end = self.window_at + large(self.window.len());
        let from = self.at.saturating_sub(large(count));
        if from >= self.window_at && self.at <= end && !self.window.is_empty() {
            return Ok(());
        }
        let count = count.max(WINDOW);
        let start = self.at.saturating_sub(large(count));
        self.read_window(start, small(self.at - start))
    }

    fn read_window(&mut self, start: u64, count: usize) -> io::Result<()> {
        self.window_at = start;
        self.window.resize(count, 0);
        let mut filled = 0;
        while let Some(rest) = self.window.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, start + large(filled)) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.window.truncate(filled);
        self.window.shrink_to(WINDOW);
        Ok(())
    }

    /// Goes to the next place behind this one that looks like the beginning of an entry.
    fn skip_damage(&mut self) -> io::Result<bool> {
        let damage = self.at;
        loop {
            let start = small(self.at - self.window_at);
            let bytes = self.window.get(start..).unwrap_or_default();
            let mark = [b"\n\n", FIRST_FIELD].concat();
            if let Some(found) = bytes.windows(mark.len()).position(|part| part == mark) {
                self.at += large(found + 2);
                self.skipped += self.at - damage;
                return Ok(true);
            }
            if bytes.len() < mark.len() {
                self.at = damage;
                return Ok(false);
            }
            self.at += large(bytes.len() + 1 - mark.len());
            self.read_window(self.at, WINDOW)?;
            if self.window.len() < mark.len() {
                self.at = damage;
                self.window.clear();
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;
    use crate::journal::export::tests::message;
    use crate::journal::export::{Cursor, encode};
    use proptest::prelude::*;

    fn bytes_of(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let number = u64::try_from(number).unwrap();
            let mut cursor = Cursor { sequence: number, ..Cursor::default() };
            assert!(encode(&message(number, text), &mut cursor, &mut out));
        }
        out
    }

    fn forwards(reader: &mut FileReader) -> Vec<u64> {
        let mut record = Record::default();
        std::iter::from_fn(|| reader.next(&mut record).unwrap().then_some(record.cursor.sequence)).collect()
    }

    fn backwards(reader: &mut FileReader) -> Vec<u64> {
        let mut record = Record::default();
        std::iter::from_fn(|| reader.back(&mut record).unwrap().then_some(record.cursor.sequence)).collect()
    }

    fn reader(folder: &tempfile::TempDir, bytes: &[u8]) -> FileReader {
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        FileReader::open(&path).unwrap()
    }

    #[test]
    fn entries_larger_than_the_window_are_read_in_both_directions() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = bytes_of(&[vec![b'a'; 10], vec![0; 3 * WINDOW], vec![b'c'; WINDOW], vec![b'd'; 1]]);
        let mut reader = reader(&folder, &bytes);
        assert_eq!(forwards(&mut reader), [0, 1, 2, 3]);
        reader.seek_end().unwrap();
        assert_eq!(backwards(&mut reader), [3, 2, 1, 0]);
    }

    #[test]
    fn a_torn_end_is_passed_over_and_an_entry_that_grows_is_read_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = bytes_of(&[b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        let (start, rest) = bytes.split_at(bytes.len() - 10);
        let mut reader = reader(&folder, start);
        reader.seek_end().unwrap();
        assert_eq!(backwards(&mut reader), [1, 0]);
        assert_eq!(forwards(&mut reader), [0, 1]);
        let mut file = OpenOptions::new().append(true).open(folder.path().join("file")).unwrap();
        file.write_all(rest).unwrap();
        assert_eq!(forwards(&mut reader), [2]);
    }

    #[test]
    fn an_entry_within_a_value_is_not_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut value = b"x\n\n".to_vec();
        value.extend(bytes_of(&[b"forged".to_vec()]));
        let mut reader = reader(&folder, &bytes_of(&[b"one".to_vec(), value, b"three".to_vec()]));
        assert_eq!(forwards(&mut reader), [0, 1, 2]);
        assert_eq!(backwards(&mut reader), [2, 1, 0]);
    }

    proptest! {
        #[test]
        fn damage_costs_only_what_it_touches(at in 0_usize..3000, garbage in proptest::collection::vec(any::<u8>(), 1..200)) {
            let texts: Vec<Vec<u8>> = (0..10).map(|number| format!("message {number}").into_bytes()).collect();
            let mut bytes = bytes_of(&texts);
            let whole = bytes.len() / 10;
            let at = at.min(bytes.len() - garbage.len());
            bytes[at..at + garbage.len()].copy_from_slice(&garbage);
            let folder = tempfile::tempdir().unwrap();
            let mut reader = reader(&folder, &bytes);
            let seen = forwards(&mut reader);
            reader.seek_end().unwrap();
            let mut back = backwards(&mut reader);
            back.reverse();
            prop_assert!(seen.is_sorted() && back.is_sorted());
            // What is before the damage is always read; behind it, all but what a garbled length may swallow.
            let before = at / whole;
            prop_assert!(seen.len() >= before.min(9), "{seen:?} {before}");
        }
    }
}
