//! Writing entries to files: one a boot, the next when it is full, the oldest deleted when all are too large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::entry::{Entry, Id};
use super::export::{Cursor, Record, encode};
use super::folder;
use super::reader::FileReader;

/// Somewhere that entries are kept. The daemon knows no more about it than this.
pub trait Store: std::fmt::Debug + Send {
    /// Keeps an entry.
    ///
    /// # Errors
    /// When it is not kept: the disk is full, or read-only. Trying again later is worth it.
    fn append(&mut self, entry: &Entry) -> io::Result<()>;

    /// Begins a new file.
    ///
    /// # Errors
    /// The file cannot be made.
    fn rotate(&mut self) -> io::Result<()>;

    /// Makes what was kept outlive a power cut.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&mut self) -> io::Result<()>;

    /// Where it keeps them, for a message.
    fn place(&self) -> String;
}

/// How much is kept, journald.conf(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `SystemMaxUse=`, bytes of all files; `None` is a tenth of the file system, at most 4 GiB.
    pub max_use: Option<u64>,
    /// `SystemKeepFree=`, bytes left to others; `None` is 15 % of the file system, at most 4 GiB.
    pub keep_free: Option<u64>,
    /// `SystemMaxFileSize=`; `None` is an eighth of what may be used, at most 128 MiB.
    pub max_file_size: Option<u64>,
    /// `MaxRetentionSec=` in microseconds; 0 keeps files for any time.
    pub max_retention: u64,
}

/// Most that defaults allow, as systemd's.
const MOST_USE: u64 = 4 << 30;
/// Largest file unless set otherwise, as systemd's.
const LARGEST_FILE: u64 = 128 << 20;
/// Smallest limit of a file that makes sense.
const SMALLEST_FILE: u64 = 64 << 10;
/// Group that may read the files, by name.
const GROUPS: [&str; 2] = ["systemd-journal", "adm"];

/// What the limits come to on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that all files together may have.
    pub total: u64,
    /// Bytes that one may have.
    pub file: u64,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Limits =
        Limits { max_use: None, keep_free: None, max_file_size: None, max_retention: 0 };

    /// What they come to where the file system has `size` bytes of which `free` are free, and the files have `used`.
    pub fn room(&self, size: u64, free: u64, used: u64) -> Room {
        let max_use = self.max_use.unwrap_or_else(|| (size / 10).clamp(1 << 20, MOST_USE));
        let keep_free = self.keep_free.unwrap_or_else(|| (size / 20 * 3).min(MOST_USE));
        let by_free = used.saturating_add(free).saturating_sub(keep_free);
        let total = max_use.min(by_free).max(2 * SMALLEST_FILE);
        let file = self.max_file_size.unwrap_or_else(|| (total / 8).min(LARGEST_FILE));
        Room { total, file: file.clamp(SMALLEST_FILE, total / 2) }
    }
}

/// Files in a folder.
#[derive(Debug)]
pub struct FileStore {
    folder: PathBuf,
    boot: Id,
    limits: Limits,
    room: Room,
    file: Option<File>,
    path: PathBuf,
    end: u64,
    sequence_id: Id,
    sequence: u64,
    buffer: Vec<u8>,
}

impl FileStore {
    /// A store in `folder`, which is made when it is missing. Goes on with the file of this boot, if there is one, behind
    /// its last whole entry.
    ///
    /// # Errors
    /// The folder or a file in it cannot be made or read.
    pub fn open(folder: &Path, boot: Id, limits: Limits, group: Option<u32>) -> io::Result<FileStore> {
        // Set-group-ID: files get the group of those who may read them.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        if let Some(group) = group {
            // On a file system without owners the files are root's alone.
            let _unowned = std::os::unix::fs::chown(folder, None, Some(group));
            let mode = rustix::fs::Mode::from_raw_mode(0o2755);
            let _unowned = rustix::fs::chmod(folder, mode);
        }
        let mut store = FileStore {
            folder: folder.to_owned(),
            boot,
            limits,
            room: Room { total: 0, file: 0 },
            file: None,
            path: PathBuf::new(),
            end: 0,
            sequence_id: Id::default(),
            sequence: 0,
            buffer: Vec::new(),
        };
        store.continue_sequence()?;
        store.vacuum()?;
        Ok(store)
    }

    /// Finds the last entry of the folder, to count on from it, and the file to go on with.
    fn continue_sequence(&mut self) -> io::Result<()> {
        let files = folder::list(&self.folder)?;
        let mut record = Record::default();
        for file in files.iter().rev() {
            let Ok(mut reader) = FileReader::open(&file.path) else { continue };
            reader.seek_end()?;
            let end = reader.position();
            if files.last() == Some(file) && file.boot == self.boot {
                let opened = OpenOptions::new().append(true).open(&file.path)?;
                // Half an entry of a writer that was killed.
                opened.set_len(end)?;
                (self.file, self.path, self.end) = (Some(opened), file.path.clone(), end);
            }
            if reader.back(&mut record)? {
                self.sequence_id = record.cursor.sequence_id;
                self.sequence = record.cursor.sequence;
                return Ok(());
            }
        }
        self.sequence_id = Id::random();
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() || self.end >= self.room.file {
            self.begin_file()?;
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn begin_file(&mut self) -> io::Result<()> {
        if let Some(full) = self.file.take() {
            full.sync_data()?;
        }
        fs::create_dir_all(&self.folder)?;
        let number = folder::list(&self.folder)?.last().map_or(1, |file| file.number.saturating_add(1));
        self.path = self.folder.join(folder::file_name(number, self.boot));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o640).open(&self.path)?;
        (self.file, self.end) = (Some(file), 0);
        self.vacuum()
    }

    /// Deletes what is too old, and the oldest until the rest, with a full file, fits.
    fn vacuum(&mut self) -> io::Result<()> {
        let files = folder::list(&self.folder)?;
        let used = files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size));
        let stat = rustix::fs::statvfs(&self.folder)?;
        self.room = self.limits.room(
            stat.f_frsize.saturating_mul(stat.f_blocks),
            stat.f_frsize.saturating_mul(stat.f_bavail),
            used,
        );
        let others: Vec<_> = files.into_iter().filter(|file| file.path != self.path).collect();
        let allowed = self.room.total.saturating_sub(self.room.file);
        let oldest = match self.limits.max_retention {
            0 => 0,
            span => super::entry::Stamp::now().realtime.saturating_sub(span),
        };
        delete_surplus(&others, allowed, oldest).map(|_| ())
    }

    /// Deletes the oldest file that is not written to; false when there is none.
    fn delete_oldest(&self) -> io::Result<bool> {
        let files = folder::list(&self.folder)?;
        let Some(oldest) = files.iter().find(|file| file.path != self.path) else { return Ok(false) };
        fs::remove_file(&oldest.path).map(|()| true)
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.file().and_then(|file| file.write_all(&buffer));
        let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        self.buffer = buffer;
        match result {
            Ok(()) => self.end = self.end.saturating_add(length),
            Err(_) => {
                // What was written of it must not be in the way of the next one.
                let cut = self.file.as_ref().map(|file| file.set_len(self.end));
                if cut.is_some_and(|cut| cut.is_err()) {
                    self.file = None;
                }
            }
        }
        result
    }
}

impl Store for FileStore {
    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut cursor = Cursor {
            sequence_id: self.sequence_id,
            sequence: self.sequence.saturating_add(1),
            boot: self.boot,
            ..Cursor::default()
        };
        self.buffer.clear();
        if !encode(entry, &mut cursor, &mut self.buffer) {
            // Trying again would not help.
            return Ok(());
        }
        let mut result = self.write_buffer();
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
            && self.delete_oldest()?
        {
            result = self.write_buffer();
        }
        self.buffer.shrink_to(64 << 10);
        result?;
        self.sequence = cursor.sequence;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.file.is_some() && self.end > 0 { self.begin_file() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    fn place(&self) -> String {
        format!("{} ({} bytes, at most {})", self.folder.display(), self.end, self.room.total)
    }
}

/// Deletes files, the oldest first, until the rest has at most `allowed` bytes and was changed after `oldest`
/// (microseconds since 1970). Returns how many bytes are gone, and from which files.
///
/// # Errors
/// The first file that cannot be deleted.
pub fn delete_surplus(
    files: &[folder::StoredFile],
    allowed: u64,
    oldest: u64,
) -> io::Result<Vec<&folder::StoredFile>> {
    let mut used = files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size));
    let mut deleted = Vec::new();
    for file in files {
        if used <= allowed && file.modified >= oldest {
            continue;
        }
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        used = used.saturating_sub(file.size);
        deleted.push(file);
    }
    Ok(deleted)
}

/// The group that may read logs, if the machine has one.
pub fn readers_group(root: &Path) -> Option<u32> {
    let users = crate::boot::users::Users::read(root);
    GROUPS.iter().find_map(|name| users.group(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::export::tests::message;

    const BOOT: Id = Id(7);

    fn sequences(folder: &Path) -> Vec<u64> {
        let mut numbers = Vec::new();
        for file in folder::list(folder).unwrap() {
            let mut reader = FileReader::open(&file.path).unwrap();
            let mut record = Record::default();
            while reader.next(&mut record).unwrap() {
                numbers.push(record.cursor.sequence);
            }
        }
        numbers
    }

    fn limits(max_use: u64) -> Limits {
        Limits { max_use: Some(max_use), keep_free: Some(0), ..Limits::DEFAULT }
    }

    #[test]
    fn a_restart_goes_on_in_the_same_file_and_a_boot_in_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        for boot in [BOOT, BOOT, Id(8)] {
            let mut store = FileStore::open(folder.path(), boot, limits(1 << 20), None).unwrap();
            store.append(&message(1, b"text")).unwrap();
        }
        let files = folder::list(folder.path()).unwrap();
        assert_eq!(files.iter().map(|file| file.boot).collect::<Vec<_>>(), [BOOT, Id(8)]);
        assert_eq!(sequences(folder.path()), [1, 2, 3]);
    }

    #[test]
    fn a_torn_end_is_cut_off_before_the_next_entry() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path(), BOOT, limits(1 << 20), None).unwrap();
        (0..3).for_each(|_| store.append(&message(1, b"text")).unwrap());
        let path = store.path.clone();
        drop(store);
        let size = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(size - 5).unwrap();
        let mut store = FileStore::open(folder.path(), BOOT, limits(1 << 20), None).unwrap();
        store.append(&message(1, b"after")).unwrap();
        assert_eq!(sequences(folder.path()), [1, 2, 3]);
        assert_eq!(fs::metadata(&path).unwrap().len(), size + 1);
    }

    #[test]
    fn all_files_together_stay_within_the_limit_and_the_newest_entries_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path(), BOOT, limits(1 << 20), None).unwrap();
        let text = vec![b'x'; 4000];
        for at in 0..1000 {
            store.append(&message(at, &text)).unwrap();
        }
        let used: u64 = folder::list(folder.path()).unwrap().iter().map(|file| file.size).sum();
        assert!(used <= (1 << 20) + 8192 && used > 1 << 19, "{used}");
        let kept = sequences(folder.path());
        assert_eq!(kept.last(), Some(&1000));
        assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }

    #[test]
    fn rotating_begins_a_file_unless_nothing_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path(), BOOT, limits(1 << 20), None).unwrap();
        store.rotate().unwrap();
        store.append(&message(1, b"a")).unwrap();
        store.rotate().unwrap();
        store.rotate().unwrap();
        store.append(&message(1, b"b")).unwrap();
        assert_eq!(folder::list(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn room_is_what_is_set_and_what_others_need() {
        let defaults = Limits::DEFAULT.room(100 << 30, 50 << 30, 0);
        assert_eq!(defaults, Room { total: 4 << 30, file: 128 << 20 });
        let small = Limits::DEFAULT.room(1 << 30, 1 << 30, 0);
        assert_eq!(small.total, (1 << 30) / 10);
        // Nearly full: what is used already may stay, no more.
        let full = Limits::DEFAULT.room(10 << 30, 0, 3 << 30);
        assert!(full.total < 3 << 30);
    }

    #[test]
    fn a_folder_that_is_gone_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b");
        let mut store = FileStore::open(&place, BOOT, limits(1 << 20), None).unwrap();
        fs::remove_dir_all(&place).unwrap();
        store.append(&message(1, b"a")).unwrap();
        assert_eq!(sequences(&place), [1]);
    }
}
