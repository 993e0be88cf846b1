//! Finding entries: all files of a machine as one sequence that is walked in both directions.

use std::io;
use std::path::{Path, PathBuf};

use super::entry::Id;
use super::export::{Cursor, Record};
use super::filter::Filter;
use super::folder::{self, StoredFile};
use super::reader::FileReader;

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
mod tests;
