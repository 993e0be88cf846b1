//! Marking the running slot good (SAFETY 8), once `boot-complete.target` is reached.

use std::path::Path;

use slots::{Guid, SlotFlags};

use crate::early::VOLATILE_FLAG;
use crate::early::cmdline::CommandLine;
use crate::early::disk::{Disk, DiskError, find_partition};

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
    /// No disk has it.
    #[error("no disk has the partition {0}")]
    Gone(Guid),
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
    let name = find_partition(slot)?.ok_or(MarkError::Gone(slot))?;
    let mut disk = Disk::open_locked(&name)?;
    let (mut loaded, mut table) = disk.load()?;
    let (index, mut entry) = table.find_unique(slot).ok_or(MarkError::Gone(slot))?;
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
