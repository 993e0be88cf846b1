//! The journal's inode, from the copy that the superblock keeps of its map.
//!
//! The inode stands in the first block of the inode table, beside the root's and the first files', so the kernel writes it again
//! with them. The journal has the right block, but cannot be found; with this inode the mount replays it over the whole block.

use super::super::{u16_at, u32_at};
use super::crc32c;
use super::layout::Layout;

/// The inode that always holds an internal journal.
pub const JOURNAL_INODE: u32 = 8;
/// Smallest inode with a checksum of 32 bits.
pub const INODE_LEN: usize = 256;

/// Bytes of such an inode behind the first 128 that are in use.
const EXTRA_LEN: u16 = 32;
const REGULAR_OF_ROOT: u16 = 0o100_600;
const FLAG_EXTENTS: u32 = 0x8_0000;

/// Whether the inode's checksum holds.
pub fn is_whole(layout: &Layout, inode: &[u8; INODE_LEN]) -> bool {
    let half = |at| u32::from(u16_at(inode, at).unwrap_or_default());
    checksum(layout, inode) == half(0x7c) | half(0x82) << 16
}

/// The checksum that an inode of the journal with this content has.
fn checksum(layout: &Layout, inode: &[u8; INODE_LEN]) -> u32 {
    let mut covered = *inode;
    let generation = u32_at(inode, 0x64).unwrap_or_default();
    for range in [0x7c..0x7e, 0x82..0x84] {
        covered.get_mut(range).unwrap_or_default().fill(0);
    }
    let seed = crc32c(layout.seed, &JOURNAL_INODE.to_le_bytes());
    crc32c(crc32c(seed, &generation.to_le_bytes()), &covered)
}

/// The inode as far as anybody needs it: without its times.
pub fn of_journal(layout: &Layout) -> [u8; INODE_LEN] {
    let mut inode = [0; INODE_LEN];
    let mut put = |at: usize, bytes: &[u8]| {
        inode.get_mut(at..at + bytes.len()).unwrap_or_default().copy_from_slice(bytes);
    };
    put(0x00, &REGULAR_OF_ROOT.to_le_bytes());
    put(0x04, &low_half(layout.size));
    put(0x1a, &1_u16.to_le_bytes());
    put(0x1c, &low_half(layout.size / 512));
    put(0x20, &FLAG_EXTENTS.to_le_bytes());
    put(0x28, &layout.map);
    put(0x6c, &low_half(layout.size >> 32));
    put(0x80, &EXTRA_LEN.to_le_bytes());
    let [a, b, c, d] = checksum(layout, &inode).to_le_bytes();
    for (at, half) in [(0x7c, [a, b]), (0x82, [c, d])] {
        inode.get_mut(at..at + 2).unwrap_or_default().copy_from_slice(&half);
    }
    inode
}

fn low_half(number: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = number.to_le_bytes();
    [a, b, c, d]
}
