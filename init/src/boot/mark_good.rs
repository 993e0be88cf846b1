//! Marking the running slot good (SAFETY 8), once `boot-complete.target` is reached.

use std::path::Path;

use slots::{Guid, SlotFlags};

use crate::early::cmdline::CommandLine;
use crate::early::disk::{Disk, DiskError};
use crate::early::{DISK_NAME, VOLATILE_FLAG};

/// Why the slot was not marked.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// SAFETY 22.
    #[error("the slot is on trial and /var is volatile: this boot is not good")]
    Volatile,
    /// Not started by the loader.
    #[error("kernel command line has no usable ferrite.slot=")]
    NoSlot,
    /// proc(5).
    #[error("cannot read the kernel command line")]
    CommandLine(#[source] std::io::Error),
    /// The initramfs has not left word of the disk.
    #[error("cannot read {DISK_NAME}")]
    NoDisk(#[source] std::io::Error),
    /// The disk does not have it.
    #[error("disk {disk} has no partition {slot}")]
    Gone {
        /// Name of the disk.
        disk: String,
        /// The slot.
        slot: Guid,
    },
    /// The disk or its table.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was read back is something else.
    #[error("slot reads back as {0}")]
    ReadBack(SlotFlags),
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// The flags were written and read back.
    Now,
    /// They said so already: nothing was written.
    Before,
}

/// Marks the slot that the loader named.
///
/// # Errors
/// [`MarkError`]: the slot keeps the flags that it has, or (after an error in the middle of the write) has the new ones.
pub fn mark() -> Result<Marked, MarkError> {
    let line = CommandLine::read().map_err(MarkError::CommandLine)?;
    let slot = line.slot.ok_or(MarkError::NoSlot)?;
    if line.trial && Path::new(VOLATILE_FLAG).exists() {
        return Err(MarkError::Volatile);
    }
    let name = std::fs::read_to_string(DISK_NAME).map_err(MarkError::NoDisk)?;
    let mut disk = Disk::open_locked(name.trim())?;
    let (mut loaded, mut table) = disk.load()?;
    let gone = || MarkError::Gone { disk: name.trim().to_owned(), slot };
    let (index, mut entry) = table.find_unique(slot).ok_or_else(gone)?;
    let good = entry.flags().marked_good();
    if entry.flags() == good {
        return Ok(Marked::Before);
    }
    entry.set_flags(good);
    table.set_entry(index, entry);
    disk.commit(&mut loaded, &table)?;
    let (_, written) = disk.load()?;
    match written.find_unique(slot).map(|(_, entry)| entry.flags()) {
        Some(flags) if flags == good => Ok(Marked::Now),
        flags => Err(MarkError::ReadBack(flags.unwrap_or_default())),
    }
}
