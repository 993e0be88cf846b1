//! Reading both copies of the table, and changing them so that one is valid at every instant (SAFETY 1-5).

use core::fmt;

use crate::guid::Guid;
use crate::table::{ARRAY_LEN, ENTRIES_IN_USE, ENTRY_LEN, Geometry, Table, TableError};

/// The aligned write that holds protective MBR, primary header and the entries in use on disks with 512-byte
/// blocks (SAFETY 2).
const PRIMARY_WRITE: usize = 4096;
/// Largest block size.
const MAX_BLOCK: usize = 4096;

/// A disk as this crate uses it. Offsets and lengths are whole logical blocks.
pub trait Device {
    /// What reading, writing or flushing fails with.
    type Error;

    /// The disk's size.
    fn geometry(&self) -> Geometry;

    /// Fills `buffer` from `offset`, in bytes, past every cache.
    ///
    /// # Errors
    /// The device's own.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `data` at `offset`, in bytes, as one request, past every cache.
    ///
    /// # Errors
    /// The device's own.
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// Returns when everything written is durable.
    ///
    /// # Errors
    /// The device's own.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// Why a table was not changed. After every one of them the disk still holds a valid copy, if it held one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitError<E> {
    /// Neither copy is valid.
    NoTable,
    /// The backup is not at the last block: the disk has grown, and the table must grow first (SAFETY 5).
    NotGrown {
        /// Block of the backup's header.
        backup: u64,
        /// Last block of the disk.
        last: u64,
    },
    /// The new table uses an entry outside the 4 KiB that are written at once (SAFETY 2); nothing was written.
    BeyondEntriesInUse,
    /// What was read back is not what was written.
    ReadBack,
    /// The device failed; the operation stopped there (SAFETY 3).
    Device(E),
}

impl<E: fmt::Display> fmt::Display for CommitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("neither copy of the partition table is valid"),
            Self::NotGrown { backup, last } => {
                write!(
                    f,
                    "the disk has grown; its backup partition table is still in block {backup} of {last}"
                )
            }
            Self::BeyondEntriesInUse => write!(f, "only the first {ENTRIES_IN_USE} entries can be changed"),
            Self::ReadBack => f.write_str("partition table reads back differently"),
            Self::Device(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for CommitError<E> {}

impl<E> From<E> for CommitError<E> {
    fn from(error: E) -> Self {
        Self::Device(error)
    }
}

/// Which copy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The primary is valid and wins (SAFETY 1).
    Primary,
    /// The primary is invalid; the backup counts.
    Backup,
}

/// Both copies of a disk's table as they were read.
#[derive(Debug, Clone)]
pub struct Loaded {
    geometry: Geometry,
    primary: Result<Table, TableError>,
    backup: Result<Table, TableError>,
    /// Block of the backup's header: where it was found, or where it was looked for.
    backup_block: u64,
}

impl Loaded {
    /// Reads both copies. The backup is looked for where a valid primary says, else in the last block, else in the
    /// block `old_end`: the last one of the image as it was built (SAFETY 5).
    ///
    /// An unreadable block counts as an invalid copy, so this cannot fail.
    pub fn read<D: Device>(device: &mut D, old_end: Option<u64>) -> Self {
        let geometry = device.geometry();
        let primary = read_copy(device, geometry, 1);
        let last = geometry.last_block();
        let told =
            primary.as_ref().ok().map(|table| table.alternate).filter(|block| *block > 1 && *block <= last);
        let places = [told, Some(last), old_end.filter(|block| *block > 1 && *block < last)];
        let mut loaded = Self { geometry, primary, backup: Err(TableError::Geometry), backup_block: last };
        for block in places.into_iter().flatten() {
            let backup = read_copy(device, geometry, block);
            // A stale table at another place must not stand in for the one that the primary names.
            let settled = backup.is_ok() || told.is_some();
            if settled || loaded.backup_block == block {
                (loaded.backup, loaded.backup_block) = (backup, block);
            }
            if settled {
                break;
            }
        }
        loaded
    }

    /// The disk's size when it was read.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The primary copy, or why it does not count.
    pub fn primary(&self) -> Result<&Table, TableError> {
        self.primary.as_ref().map_err(|error| *error)
    }

    /// The backup copy, or why it does not count.
    pub fn backup(&self) -> Result<&Table, TableError> {
        self.backup.as_ref().map_err(|error| *error)
    }

    /// Block of the backup's header.
    pub const fn backup_block(&self) -> u64 {
        self.backup_block
    }

    /// The table that counts, and which copy it is (SAFETY 1).
    pub fn current(&self) -> Option<(&Table, Source)> {
        match (&self.primary, &self.backup) {
            (Ok(table), _) => Some((table, Source::Primary)),
            (Err(_), Ok(table)) => Some((table, Source::Backup)),
            (Err(_), Err(_)) => None,
        }
    }

    /// True when the backup is in the disk's last block, so that the table can be changed.
    pub fn is_at_end(&self) -> bool {
        self.backup_block == self.geometry.last_block()
    }

    /// True when both copies are valid, hold the same and stand where they belong.
    pub fn is_whole(&self) -> bool {
        match (&self.primary, &self.backup) {
            (Ok(primary), Ok(backup)) => {
                primary.same_content(backup)
                    && primary.alternate == self.backup_block
                    && backup.alternate == 1
                    && self.is_at_end()
            }
            _ => false,
        }
    }

    /// Makes the invalid or differing copy equal to the one that counts, without changing what counts.
    /// Does nothing when both are the same.
    ///
    /// # Errors
    /// [`CommitError`]; a disk that has grown is repaired at the old place of its backup.
    pub fn repair<D: Device>(&mut self, device: &mut D) -> Result<(), CommitError<D::Error>> {
        let (table, source) = self.current().ok_or(CommitError::NoTable)?;
        let table = table.clone();
        match source {
            Source::Backup => self.put_primary(device, &table)?,
            Source::Primary => {
                let same = self.backup.as_ref().is_ok_and(|backup| backup.same_content(&table));
                if !same {
                    self.put_backup(device, &table)?;
                }
            }
        }
        Ok(())
    }

    /// Changes the table in the order of SAFETY 1: the backup becomes equal to the current table, then the new primary is
    /// written, then the new backup, with a flush behind each; at last both are read back. A backup that is equal already is flushed
    /// all the same.
    ///
    /// # Errors
    /// [`CommitError`]; after it, the disk holds the old table or the new one, whole.
    pub fn commit<D: Device>(&mut self, device: &mut D, new: &Table) -> Result<(), CommitError<D::Error>> {
        let (current, _) = self.current().ok_or(CommitError::NoTable)?;
        let in_use = ENTRIES_IN_USE * ENTRY_LEN;
        if current.array.get(in_use..) != new.array.get(in_use..) {
            return Err(CommitError::BeyondEntriesInUse);
        }
        if !self.is_at_end() {
            let last = self.geometry.last_block();
            return Err(CommitError::NotGrown { backup: self.backup_block, last });
        }
        let current = current.clone();
        let backup_is_current = self.backup.as_ref().is_ok_and(|backup| backup.same_content(&current));
        if backup_is_current {
            // It may be in the disk's cache alone: firmware that repairs a copy does not flush.
            device.flush()?;
        } else {
            self.put_backup(device, &current)?;
        }
        self.put_primary(device, new)?;
        self.put_backup(device, new)?;
        self.read_back(device, new)
    }

    /// Moves the backup to the end of a disk that has grown, in the order of SAFETY 5: new backup, primary that
    /// points at it, old backup wiped, with a flush behind each. Does nothing when it is there already.
    ///
    /// # Errors
    /// [`CommitError`]; a cut at any point leaves a valid copy that the loader finds.
    pub fn grow<D: Device>(&mut self, device: &mut D) -> Result<(), CommitError<D::Error>> {
        let (table, _) = self.current().ok_or(CommitError::NoTable)?;
        let mut table = table.clone();
        let old = self.backup_block;
        let last = self.geometry.last_block();
        if old == last {
            return Ok(());
        }
        table.last_usable = last - self.geometry.array_blocks() - 1;
        self.backup_block = last;
        self.put_backup(device, &table)?;
        self.put_primary(device, &table)?;
        // Another partition may use those blocks from now on; a stale table must not be found there.
        self.wipe(device, old)?;
        self.read_back(device, &table)
    }

    fn put_primary<D: Device>(&mut self, device: &mut D, table: &Table) -> Result<(), CommitError<D::Error>> {
        let block_size = self.geometry.block_size as usize;
        let mut written = table.clone();
        written.alternate = self.backup_block;
        let mut header = [0; MAX_BLOCK];
        let header = header.get_mut(..block_size).ok_or(CommitError::NoTable)?;
        written.write_header(header, 1, self.backup_block, 2);
        if block_size < PRIMARY_WRITE {
            let mut first = [0; PRIMARY_WRITE];
            device.read(0, &mut first)?;
            crate::bytes::put(&mut first, block_size, header);
            let room = PRIMARY_WRITE - 2 * block_size;
            crate::bytes::put(&mut first, 2 * block_size, table.array.get(..room).unwrap_or_default());
            if self.rest_differs(device, table, room)? {
                // Only a repair writes entries behind the first 4 KiB: a change of them is refused in `commit`.
                device.write(PRIMARY_WRITE as u64, table.array.get(room..).unwrap_or_default())?;
            }
            device.write(0, &first)?;
        } else {
            device.write(2 * block_size as u64, &table.array)?;
            device.write(block_size as u64, header)?;
        }
        device.flush()?;
        self.primary = Ok(written);
        Ok(())
    }

    /// True when the primary's entries from byte `room` on are not those of `table`.
    fn rest_differs<D: Device>(
        &self,
        device: &mut D,
        table: &Table,
        room: usize,
    ) -> Result<bool, CommitError<D::Error>> {
        let mut rest = [0; ARRAY_LEN];
        let rest = rest.get_mut(room..).unwrap_or_default();
        device.read(PRIMARY_WRITE as u64, rest)?;
        Ok(table.array.get(room..) != Some(&*rest))
    }

    fn put_backup<D: Device>(&mut self, device: &mut D, table: &Table) -> Result<(), CommitError<D::Error>> {
        let block_size = self.geometry.block_size as usize;
        let mut written = table.clone();
        written.alternate = 1;
        let mut bytes = [0; ARRAY_LEN + MAX_BLOCK];
        let bytes = bytes.get_mut(..ARRAY_LEN + block_size).ok_or(CommitError::NoTable)?;
        let array_block = self.backup_block.saturating_sub(self.geometry.array_blocks());
        let (array, header) = bytes.split_at_mut(ARRAY_LEN);
        array.copy_from_slice(&table.array);
        written.write_header(header, self.backup_block, 1, array_block);
        device.write(array_block * block_size as u64, bytes)?;
        device.flush()?;
        self.backup = Ok(written);
        Ok(())
    }

    fn wipe<D: Device>(&self, device: &mut D, block: u64) -> Result<(), CommitError<D::Error>> {
        let zeroes = [0; MAX_BLOCK];
        let block_size = self.geometry.block_size as usize;
        device.write(block * block_size as u64, zeroes.get(..block_size).unwrap_or_default())?;
        device.flush()?;
        Ok(())
    }

    fn read_back<D: Device>(
        &mut self,
        device: &mut D,
        expected: &Table,
    ) -> Result<(), CommitError<D::Error>> {
        *self = Self::read(device, None);
        let matches =
            self.is_whole() && self.primary.as_ref().is_ok_and(|table| table.same_content(expected));
        if matches { Ok(()) } else { Err(CommitError::ReadBack) }
    }
}

/// Reads the copy whose header is in `block`.
fn read_copy<D: Device>(device: &mut D, geometry: Geometry, block: u64) -> Result<Table, TableError> {
    if !geometry.is_supported() {
        return Err(TableError::Geometry);
    }
    let mut header = [0; MAX_BLOCK];
    let header = header.get_mut(..geometry.block_size as usize).ok_or(TableError::Geometry)?;
    let offset = |block: u64| block.checked_mul(u64::from(geometry.block_size)).ok_or(TableError::Bounds);
    device.read(offset(block)?, header).map_err(|_| TableError::Unreadable)?;
    let array_block = Table::check_header(header, block, geometry)?;
    let mut entries = [0; ARRAY_LEN];
    device.read(offset(array_block)?, &mut entries).map_err(|_| TableError::Unreadable)?;
    Table::check_entries(header, &entries)
}

impl Loaded {
    /// A fresh table for a disk of this size, with nothing on it yet: for tests and for tools that start from nothing.
    pub fn blank(geometry: Geometry, disk_guid: Guid, first_usable: u64) -> Option<Self> {
        if !geometry.is_supported() {
            return None;
        }
        let last = geometry.last_block();
        let table = Table {
            disk_guid,
            first_usable,
            last_usable: last - geometry.array_blocks() - 1,
            alternate: last,
            array: [0; ARRAY_LEN],
        };
        let backup = Table { alternate: 1, ..table.clone() };
        Some(Self { geometry, primary: Ok(table), backup: Ok(backup), backup_block: last })
    }
}

#[cfg(test)]
mod tests;
