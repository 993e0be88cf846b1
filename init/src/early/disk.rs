//! Whole disks: finding ours, and reading and writing its partition table (SAFETY 3: `O_DIRECT`, `flock`, `fsync`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use slots::{CommitError, Device, Geometry, Guid, Loaded, Table};

/// Where the kernel lists block devices.
const SYS_BLOCK: &str = "/sys/class/block";
/// Alignment of memory and requests that every disk's `O_DIRECT` takes.
const DIRECT_ALIGNMENT: usize = 4096;
/// The unit of sizes in sysfs, whatever the disk's own block size is.
const SYSFS_SECTOR: u64 = 512;

/// Why the disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file of sysfs or the device itself.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// SAFETY 6: which one is ours cannot be told.
    #[error("disks {first} and {second} both have {wanted}: remove one of them")]
    Twins {
        /// Name of the one disk.
        first: String,
        /// Name of the other.
        second: String,
        /// What both have.
        wanted: Wanted,
    },
    /// Neither copy of the table is valid.
    #[error("{name}: neither copy of the partition table is valid")]
    NoTable {
        /// Name of the disk.
        name: String,
    },
    /// The table could not be changed.
    #[error("{name}: partition table not changed")]
    Commit {
        /// Name of the disk.
        name: String,
        /// Why.
        source: CommitError<io::Error>,
    },
    /// The kernel knows no such partition.
    #[error("{name} has no partition {number} in the kernel")]
    NoPartition {
        /// Name of the disk.
        name: String,
        /// Number from 1.
        number: u32,
    },
}

impl DiskError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// An open whole disk.
#[derive(Debug)]
pub struct Disk {
    name: String,
    file: File,
    geometry: Geometry,
    bounce: Bounce,
}

impl Disk {
    /// Opens a disk by its kernel name (`vda`) for reading past the page cache.
    ///
    /// # Errors
    /// [`DiskError::Io`]
    pub fn open(name: &str) -> Result<Self, DiskError> {
        Self::open_as(name, false)
    }

    /// Opens a disk for writing the content of a slot that nothing uses, which takes long: others may change the table meanwhile.
    ///
    /// # Errors
    /// [`DiskError::Io`]
    pub fn open_for_content(name: &str) -> Result<Self, DiskError> {
        Self::open_as(name, true)
    }

    /// Opens a disk for changing its table, and waits for the lock that all who do so take.
    ///
    /// # Errors
    /// [`DiskError::Io`]
    pub fn open_locked(name: &str) -> Result<Self, DiskError> {
        let disk = Self::open_as(name, true)?;
        rustix::fs::flock(&disk.file, FlockOperation::LockExclusive)
            .map_err(|error| DiskError::io("lock", &disk.node())(error.into()))?;
        Ok(disk)
    }

    fn open_as(name: &str, write: bool) -> Result<Self, DiskError> {
        let node = Path::new("/dev").join(name);
        let direct = i32::try_from((OFlags::DIRECT | OFlags::CLOEXEC).bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(direct)
            .open(&node)
            .map_err(DiskError::io("open", &node))?;
        let sys = Path::new(SYS_BLOCK).join(name);
        let block_size = read_number(&sys.join("queue/logical_block_size"))?;
        let sectors = read_number(&sys.join("size"))?;
        let blocks = (sectors * SYSFS_SECTOR).checked_div(block_size).unwrap_or(0);
        let geometry = Geometry { block_size: u32::try_from(block_size).unwrap_or(0), blocks };
        Ok(Self { name: name.to_owned(), file, geometry, bounce: Bounce::default() })
    }

    /// The kernel's name: `vda`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The open device, for ioctls.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// An error with its place on the disk.
    fn at(&self, action: &str, bytes: usize, offset: u64, error: &io::Error) -> io::Error {
        let text = format!("cannot {action} {bytes} bytes at byte {offset} of {}: {error}", self.name);
        io::Error::new(error.kind(), text)
    }

    fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Reads both copies of the table; the one that counts is there when this succeeds.
    ///
    /// # Errors
    /// [`DiskError::NoTable`]
    pub fn load(&mut self) -> Result<(Loaded, Table), DiskError> {
        let loaded = Loaded::read(self, None);
        let table = loaded.current().map(|(table, _)| table.clone());
        table.map(|table| (loaded, table)).ok_or_else(|| DiskError::NoTable { name: self.name.clone() })
    }

    /// Changes the table in the order that SAFETY 1 demands.
    ///
    /// # Errors
    /// [`DiskError::Commit`]
    pub fn commit(&mut self, loaded: &mut Loaded, table: &Table) -> Result<(), DiskError> {
        let name = self.name.clone();
        loaded.commit(self, table).map_err(|source| DiskError::Commit { name, source })
    }

    /// Moves the backup table to the end of a disk that has grown (SAFETY 5).
    ///
    /// # Errors
    /// [`DiskError::Commit`]
    pub fn grow(&mut self, loaded: &mut Loaded) -> Result<(), DiskError> {
        let name = self.name.clone();
        loaded.grow(self).map_err(|source| DiskError::Commit { name, source })
    }
}

impl Device for Disk {
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bounce = self.bounce.bytes(buffer.len());
        match self.file.read_exact_at(bounce, offset) {
            Ok(()) => {
                buffer.copy_from_slice(bounce);
                Ok(())
            }
            Err(error) => Err(self.at("read", buffer.len(), offset, &error)),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let bounce = self.bounce.bytes(data.len());
        bounce.copy_from_slice(data);
        // One system call, so that the block layer sees one request; a short write is an error, not a second request.
        let error = match self.file.write_at(bounce, offset) {
            Ok(written) if written == data.len() => return Ok(()),
            Ok(_) => io::ErrorKind::WriteZero.into(),
            Err(error) => error,
        };
        Err(self.at("write", data.len(), offset, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Memory that `O_DIRECT` takes, kept for the next request.
#[derive(Debug, Default)]
struct Bounce {
    memory: Vec<u8>,
}

impl Bounce {
    /// Room for `len` bytes, with what was there before in it.
    fn bytes(&mut self, len: usize) -> &mut [u8] {
        if self.memory.len() < len + DIRECT_ALIGNMENT {
            self.memory = vec![0; len + DIRECT_ALIGNMENT];
        }
        let start = self.memory.as_ptr().align_offset(DIRECT_ALIGNMENT).min(DIRECT_ALIGNMENT);
        self.memory.get_mut(start..start + len).unwrap_or_default()
    }
}

/// Names of all whole disks that have a medium, sorted.
///
/// # Errors
/// [`DiskError::Io`] when sysfs cannot be listed.
pub fn whole_disks() -> Result<Vec<String>, DiskError> {
    let path = Path::new(SYS_BLOCK);
    let entries = std::fs::read_dir(path).map_err(DiskError::io("list", path))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| !entry.path().join("partition").exists())
        .filter(|entry| read_number(&entry.path().join("size")).is_ok_and(|sectors| sectors > 0))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !["ram", "loop", "dm-", "zram"].iter().any(|kind| name.starts_with(kind)))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// How the disk that was booted from is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// By its disk GUID, as the loader found it.
    Disk(Guid),
    /// By the PARTUUID of the running slot: without a loader, nobody has read the disk's GUID.
    Slot(Guid),
}

impl Wanted {
    fn fits(self, table: &Table) -> bool {
        match self {
            Self::Disk(guid) => table.disk_guid() == guid,
            Self::Slot(guid) => table.find_unique(guid).is_some(),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(guid) => write!(f, "the disk GUID {guid}"),
            Self::Slot(guid) => write!(f, "the slot {guid}"),
        }
    }
}

/// The disk that is wanted; `None` when it is not there (yet). Disks that cannot be read do not count.
///
/// # Errors
/// [`DiskError::Twins`] when two fit (SAFETY 6).
pub fn find(wanted: Wanted) -> Result<Option<Disk>, DiskError> {
    let mut found: Option<Disk> = None;
    for name in whole_disks()? {
        let Ok(mut disk) = Disk::open(&name) else { continue };
        let Ok((_, table)) = disk.load() else { continue };
        if !wanted.fits(&table) {
            continue;
        }
        if let Some(first) = found {
            return Err(DiskError::Twins { first: first.name, second: name, wanted });
        }
        found = Some(disk);
    }
    Ok(found)
}

/// The device file of partition `number` (from 1) of a disk, as the kernel names it (`vda5`, `nvme0n1p5`).
///
/// # Errors
/// [`DiskError::NoPartition`] when the kernel has none of that number.
pub fn partition_node(disk: &str, number: u32) -> Result<PathBuf, DiskError> {
    let path = Path::new(SYS_BLOCK).join(disk);
    let entries = std::fs::read_dir(&path).map_err(DiskError::io("list", &path))?;
    for entry in entries.flatten() {
        let partition = entry.path().join("partition");
        if partition.exists() && read_number(&partition)? == u64::from(number) {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(DiskError::NoPartition { name: disk.to_owned(), number })
}

/// Size in bytes of a block device by its node.
///
/// # Errors
/// [`DiskError::Io`]
pub fn size_of_node(node: &Path) -> Result<u64, DiskError> {
    let name = node.file_name().unwrap_or_default();
    Ok(read_number(&Path::new(SYS_BLOCK).join(name).join("size"))? * SYSFS_SECTOR)
}

fn read_number(path: &Path) -> Result<u64, DiskError> {
    let text = std::fs::read_to_string(path).map_err(DiskError::io("read", path))?;
    text.trim().parse().map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, "not a number");
        DiskError::Io { action: "read", path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounce_memory_is_aligned_and_as_long_as_asked() {
        let mut bounce = Bounce::default();
        for len in [4096, 512, 16896] {
            assert_eq!(bounce.bytes(len).len(), len);
            assert_eq!(bounce.bytes(len).as_ptr().align_offset(DIRECT_ALIGNMENT), 0);
        }
    }
}
