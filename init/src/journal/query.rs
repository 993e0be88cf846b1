//! Finding entries: all files of a machine as one sequence that is walked in both directions, and what is wanted of it.

use std::io;
use std::path::{Path, PathBuf};

use super::entry::Id;
use super::export::{Cursor, Record};
use super::folder::{self, StoredFile};
use super::reader::FileReader;
use crate::boot::glob;

/// All files, with a place between two entries.
#[derive(Debug)]
pub struct Journal {
    folders: Vec<PathBuf>,
    files: Vec<StoredFile>,
    /// The file that the place is in, by its index, and its reader.
    current: usize,
    reader: Option<FileReader>,
    /// Files that could not be opened for lack of permission.
    denied: usize,
}

impl Journal {
    /// Opens the files of folders, at the beginning.
    ///
    /// # Errors
    /// A folder is there but cannot be read.
    pub fn open(folders: Vec<PathBuf>) -> io::Result<Journal> {
        let mut journal = Journal { folders, files: Vec::new(), current: 0, reader: None, denied: 0 };
        journal.refresh()?;
        Ok(journal)
    }

    /// Only this file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Journal> {
        let mut journal = Journal::open(Vec::new())?;
        let size = std::fs::metadata(path)?.len();
        let named = path.file_name().and_then(|name| name.to_str()).and_then(folder::parse_name);
        let (number, boot) = named.unwrap_or_default();
        journal.files.push(StoredFile { path: path.to_owned(), number, boot, size, modified: 0 });
        Ok(journal)
    }

    /// The files in order.
    pub fn files(&self) -> &[StoredFile] {
        &self.files
    }

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Files that are not readable for this user.
    pub fn denied(&self) -> usize {
        self.denied
    }

    /// Looks for files that are new, or gone.
    fn refresh(&mut self) -> io::Result<()> {
        let at = self.files.get(self.current).cloned();
        let mut lists =
            self.folders.iter().map(|folder| folder::list(folder)).collect::<io::Result<Vec<_>>>()?;
        // The folder that is written to comes last.
        lists.sort_by_key(|files| files.last().map(|file| file.modified));
        self.files = lists.concat();
        let Some(at) = at else { return Ok(()) };
        let same_folder = |file: &StoredFile| file.path.parent() == at.path.parent();
        let place = self.files.iter().position(|file| file.path == at.path);
        self.current = place.unwrap_or_else(|| {
            // Vacuumed: what comes behind it is next.
            self.reader = None;
            let behind = self.files.iter().position(|file| same_folder(file) && file.number > at.number);
            behind.unwrap_or(self.files.len())
        });
        Ok(())
    }

    /// The reader of the current file; `None` when it cannot be opened, which is noted.
    fn reader(&mut self) -> io::Result<Option<&mut FileReader>> {
        if self.reader.is_none() {
            let Some(file) = self.files.get(self.current) else { return Ok(None) };
            match FileReader::open(&file.path) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.denied += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(self.reader.as_mut())
    }

    /// Goes before the first entry.
    pub fn seek_start(&mut self) {
        self.current = 0;
        self.reader = None;
    }

    /// Goes behind the last entry.
    ///
    /// # Errors
    /// The last file cannot be read.
    pub fn seek_end(&mut self) -> io::Result<()> {
        self.current = self.files.len().saturating_sub(1);
        self.reader = None;
        match self.reader()? {
            Some(reader) => reader.seek_end(),
            None => Ok(()),
        }
    }

    /// The place.
    pub fn position(&self) -> (usize, u64) {
        (self.current, self.reader.as_ref().map_or(0, FileReader::position))
    }

    /// Goes to a place that [`Journal::position`] has told.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek(&mut self, (file, offset): (usize, u64)) -> io::Result<()> {
        if file != self.current {
            self.reader = None;
        }
        self.current = file;
        if let Some(reader) = self.reader()? {
            reader.seek(offset);
        }
        Ok(())
    }

    /// Reads the next entry. Files that `skip` knows to have nothing that is wanted are passed over.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next(&mut self, record: &mut Record, skip: &dyn Fn(&StoredFile) -> bool) -> io::Result<bool> {
        while let Some(file) = self.files.get(self.current) {
            let unwanted = self.reader.is_none() && skip(file);
            if !unwanted
                && let Some(reader) = self.reader()?
                && reader.next(record)?
            {
                return Ok(true);
            }
            if self.current + 1 >= self.files.len() {
                return Ok(false);
            }
            self.current += 1;
            self.reader = None;
        }
        Ok(false)
    }

    /// Reads the entry before the place.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn back(&mut self, record: &mut Record, skip: &dyn Fn(&StoredFile) -> bool) -> io::Result<bool> {
        while let Some(file) = self.files.get(self.current) {
            let unwanted = skip(file);
            if !unwanted
                && let Some(reader) = self.reader()?
                && reader.back(record)?
            {
                return Ok(true);
            }
            if self.current == 0 {
                return Ok(false);
            }
            self.current -= 1;
            self.reader = None;
            let unwanted = self.files.get(self.current).is_none_or(skip);
            if !unwanted && let Some(reader) = self.reader()? {
                reader.seek_end()?;
            }
        }
        Ok(false)
    }

    /// Reads an entry that was written since; new files are looked for at the end of the current one.
    ///
    /// # Errors
    /// A file or folder cannot be read.
    pub fn follow(&mut self, record: &mut Record) -> io::Result<bool> {
        if self.next(record, &|_| false)? {
            return Ok(true);
        }
        let known = self.files.len();
        self.refresh()?;
        Ok((known != self.files.len() || self.reader.is_none()) && self.next(record, &|_| false)?)
    }
}

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

/// Where entries begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// The boot.
    pub id: Id,
    /// Its first entry.
    pub first: Cursor,
    /// Its last one.
    pub last: Cursor,
}

/// All boots, the oldest first; only the ends of files are read.
///
/// # Errors
/// A file cannot be read.
pub fn boots(journal: &Journal) -> io::Result<Vec<Boot>> {
    let mut found: Vec<Boot> = Vec::new();
    let mut record = Record::default();
    for file in journal.files() {
        let Ok(mut reader) = FileReader::open(&file.path) else { continue };
        if !reader.next(&mut record)? {
            continue;
        }
        let first = record.cursor;
        reader.seek_end()?;
        let last = if reader.back(&mut record)? { record.cursor } else { first };
        match found.iter_mut().find(|boot| boot.id == first.boot) {
            Some(boot) => boot.last = last,
            None => found.push(Boot { id: first.boot, first, last }),
        }
    }
    Ok(found)
}

/// Goes before the `count`th wanted entry from the end; to the beginning when there are fewer. Returns how many there are.
///
/// # Errors
/// A file cannot be read.
pub fn seek_tail(journal: &mut Journal, filter: &Filter, count: u64) -> io::Result<u64> {
    journal.seek_end()?;
    let mut record = Record::default();
    let mut found = 0;
    let mut place = journal.position();
    while found < count && journal.back(&mut record, &|file| filter.skips(file))? {
        if filter.since.is_some_and(|since| record.cursor.stamp.realtime < since) {
            // Clocks go backwards at times: on with the search.
            continue;
        }
        if filter.wants(&record) {
            found += 1;
            place = journal.position();
        }
    }
    journal.seek(place)?;
    Ok(found)
}

/// A unit's last entries, as lines `Nov 26 02:56:09 HOST IDENTIFIER[PID]: TEXT`; none when the journal cannot be read.
pub fn tail(unit: &str, count: usize) -> Vec<String> {
    let root = Path::new("/");
    let machine = super::start::machine(root);
    let folders = folder::of_machine(root, &machine.machine.to_string());
    let filter = Filter { units: vec![unit.to_owned()], boot: Some(machine.boot), ..Filter::default() };
    tail_of(folders, &filter, count).unwrap_or_default()
}

fn tail_of(folders: Vec<PathBuf>, filter: &Filter, count: usize) -> io::Result<Vec<String>> {
    let mut journal = Journal::open(folders)?;
    let wanted = u64::try_from(count).unwrap_or(u64::MAX);
    if wanted == 0 || seek_tail(&mut journal, filter, wanted)? == 0 {
        return Ok(Vec::new());
    }
    let mut record = Record::default();
    let mut lines = Vec::new();
    while lines.len() < count && journal.next(&mut record, &|file| filter.skips(file))? {
        if filter.wants(&record) {
            lines.push(crate::journalctl::line(&record));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::{Entry, Stamp};
    use crate::journal::store::{FileStore, Limits, Store};

    /// Three boots with ten entries each, two files a boot.
    fn sample(folder: &Path) -> Journal {
        let mut at = 0;
        for boot in 1..=3 {
            let mut store = FileStore::open(folder, Id(boot), Limits::DEFAULT, None).unwrap();
            for number in 0..10 {
                at += 1_000_000;
                let mut entry = Entry::new(Stamp { realtime: at, monotonic: at });
                entry.push("MESSAGE", format!("message {boot}.{number}"));
                entry.push("PRIORITY", (number % 8).to_string());
                entry.push("_SYSTEMD_UNIT", if number % 2 == 0 { "a.service" } else { "b@x.service" });
                store.append(&entry).unwrap();
                if number == 4 {
                    store.rotate().unwrap();
                }
            }
        }
        Journal::open(vec![folder.to_owned(), folder.join("none")]).unwrap()
    }

    fn all(journal: &mut Journal, filter: &Filter) -> Vec<String> {
        let mut record = Record::default();
        let mut found = Vec::new();
        journal.seek_start();
        while journal.next(&mut record, &|file| filter.skips(file)).unwrap() {
            if filter.wants(&record) {
                found.push(record.text("MESSAGE").unwrap().trim_start_matches("message ").to_owned());
            }
        }
        found
    }

    fn reversed(journal: &mut Journal, filter: &Filter) -> Vec<String> {
        let mut record = Record::default();
        let mut found = Vec::new();
        journal.seek_end().unwrap();
        while journal.back(&mut record, &|file| filter.skips(file)).unwrap() {
            if filter.wants(&record) {
                found.push(record.text("MESSAGE").unwrap().trim_start_matches("message ").to_owned());
            }
        }
        found.reverse();
        found
    }

    #[test]
    fn filters_hold_in_both_directions_and_across_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = sample(folder.path());
        let boot = Some(Id(2));
        let cases = [
            (Filter::default(), 30),
            (Filter { boot, ..Filter::default() }, 10),
            (Filter { boot: Some(Id(9)), ..Filter::default() }, 0),
            (Filter { units: vec!["a.service".into()], boot, ..Filter::default() }, 5),
            (Filter { units: vec!["b@*".into()], ..Filter::default() }, 15),
            (Filter { units: vec!["a.service".into(), "b@x.service".into()], ..Filter::default() }, 30),
            (Filter { levels: Some(0b11), ..Filter::default() }, 12),
            (Filter { since: Some(11_000_000), until: Some(12_000_000), ..Filter::default() }, 2),
            (Filter { grep: regex_lite::Regex::new("[13]\\.[45]").ok(), ..Filter::default() }, 4),
        ];
        for (filter, count) in cases {
            let found = all(&mut journal, &filter);
            assert_eq!(found.len(), count, "{filter:?}");
            assert_eq!(reversed(&mut journal, &filter), found, "{filter:?}");
        }
    }

    #[test]
    fn words_of_one_field_are_alternatives_and_of_several_all_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = sample(folder.path());
        let mut filter = Filter::default();
        filter.add("PRIORITY", b"1");
        filter.add("PRIORITY", b"2");
        assert_eq!(all(&mut journal, &filter).len(), 9);
        filter.add("_SYSTEMD_UNIT", b"a.service");
        assert_eq!(all(&mut journal, &filter).len(), 3);
        filter.groups.push(Vec::new());
        filter.add("_BOOT_ID", Id(1).to_string().as_bytes());
        assert_eq!(all(&mut journal, &filter).len(), 12);
    }

    #[test]
    fn the_last_entries_are_found_from_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = sample(folder.path());
        let filter = Filter { units: vec!["a.service".into()], ..Filter::default() };
        assert_eq!(seek_tail(&mut journal, &filter, 7).unwrap(), 7);
        let mut record = Record::default();
        assert!(journal.next(&mut record, &|_| false).unwrap());
        assert_eq!(record.text("MESSAGE").unwrap(), "message 2.6");
        assert_eq!(seek_tail(&mut journal, &filter, 100).unwrap(), 15);
        let lines = tail_of(vec![folder.path().to_owned()], &filter, 2).unwrap();
        assert!(lines.len() == 2 && lines[1].ends_with(" message 3.8"), "{lines:?}");
    }

    #[test]
    fn boots_are_listed_with_their_ends() {
        let folder = tempfile::tempdir().unwrap();
        let journal = sample(folder.path());
        let found: Vec<(Id, u64, u64)> = boots(&journal)
            .unwrap()
            .iter()
            .map(|boot| (boot.id, boot.first.stamp.realtime, boot.last.stamp.realtime))
            .collect();
        assert_eq!(
            found,
            [
                (Id(1), 1_000_000, 10_000_000),
                (Id(2), 11_000_000, 20_000_000),
                (Id(3), 21_000_000, 30_000_000)
            ]
        );
    }

    #[test]
    fn what_is_written_after_the_end_is_followed_across_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = sample(folder.path());
        journal.seek_end().unwrap();
        let mut record = Record::default();
        assert!(!journal.follow(&mut record).unwrap());
        let mut store = FileStore::open(folder.path(), Id(3), Limits::DEFAULT, None).unwrap();
        for number in 0..4 {
            let mut entry = Entry::new(Stamp::now());
            entry.push("MESSAGE", format!("new {number}"));
            store.append(&entry).unwrap();
            store.rotate().unwrap();
        }
        for number in 0..4 {
            assert!(journal.follow(&mut record).unwrap());
            assert_eq!(record.text("MESSAGE").unwrap(), format!("new {number}"));
        }
        assert!(!journal.follow(&mut record).unwrap());
    }
}
