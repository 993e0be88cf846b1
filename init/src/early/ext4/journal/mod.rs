//! Finding the journal again when a power cut tore what says where it is and what is in it.
//!
//! Everything that a program has synced may stand in the journal alone. The kernel finds it by its inode and reads it by its superblock;
//! each is a single place that is written now and then. When one of them is torn, the kernel does not mount, and e2fsck
//! (1.47.2, `-p` too) deletes the journal with all that is in it. Both can be made again: [`inode`] from a copy that the file
//! system's superblock keeps, [`log`] from the transactions themselves.
//!
//! Layout: Documentation/filesystems/ext4 of the kernel, `super.rst`, `group_descr.rst`, `inodes.rst`, `ifork.rst`, `journal.rst`.

mod inode;
mod layout;
mod log;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{SUPERBLOCK_AT, SUPERBLOCK_LEN};
use inode::INODE_LEN;
use layout::{DESCRIPTOR_LEN, Layout};

/// What there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// Nothing: inode and superblock of the journal are whole.
    Whole,
    /// The inode was torn and is back, on the disk.
    Inode,
    /// The journal's superblock was torn and is back, on the disk (the inode too, if need be): what the log holds is replayed
    /// again from its oldest transaction on, so a full check is due.
    Superblock,
    /// Nothing can be said: the file system's superblock or the group's descriptor are torn themselves, the file system is not of our
    /// making, or the log holds no transaction.
    Unknown,
}

/// Puts inode and superblock of the journal of the ext4 file system on `device` back if their checksums are wrong. `device` must not be
/// mounted. A whole journal costs five reads; a torn superblock costs reading the whole journal.
///
/// # Errors
/// The device's.
pub fn restore(device: &File) -> io::Result<Restored> {
    let mut superblock = [0; SUPERBLOCK_LEN];
    device.read_exact_at(&mut superblock, SUPERBLOCK_AT)?;
    let Some(layout) = Layout::parse(&superblock) else { return Ok(Restored::Unknown) };
    let mut descriptor = [0; DESCRIPTOR_LEN];
    device.read_exact_at(&mut descriptor, layout.descriptor_at)?;
    let Some(at) = layout.inode_at(&descriptor) else { return Ok(Restored::Unknown) };
    let mut found = [0; INODE_LEN];
    device.read_exact_at(&mut found, at)?;
    let inode_is_whole = inode::is_whole(&layout, &found);
    if !inode_is_whole {
        device.write_all_at(&inode::of_journal(&layout), at)?;
    }
    let log = log::restore(device, &layout)?;
    if !inode_is_whole || log == Restored::Superblock {
        device.sync_all()?;
    }
    Ok(match log {
        Restored::Whole if !inode_is_whole => Restored::Inode,
        other => other,
    })
}

/// CRC-32C as ext4 uses it: reflected, without the inversion at the end.
fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests;
