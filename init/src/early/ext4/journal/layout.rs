//! Where the journal is, by the file system's superblock and the first group's descriptor.

use super::super::{INCOMPAT_64BIT, MAGIC, SUPERBLOCK_LEN, u16_at, u32_at};
use super::crc32c;
use super::inode::{INODE_LEN, JOURNAL_INODE};

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
/// The superblock's copy is of the inode's `i_block` and its size (`s_jnl_backup_type`).
const BACKUP_OF_BLOCKS: u8 = 1;
const EXTENT_MAGIC: u16 = 0xf30a;
/// Extents that the inode itself has room for.
const MOST_EXTENTS: u16 = 4;

/// Bytes of a group's descriptor.
pub const DESCRIPTOR_LEN: usize = 64;

/// What a superblock says of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks of the file system.
    pub blocks: u64,
    /// Byte offset of the first group's descriptor.
    pub descriptor_at: u64,
    /// What checksums of metadata begin with.
    pub seed: u32,
    /// The file system's UUID, which is that of a journal inside it.
    pub uuid: [u8; 16],
    /// The copy of the journal inode's `i_block`.
    pub map: [u8; 60],
    /// Size of the journal in bytes.
    pub size: u64,
}

impl Layout {
    /// None unless the superblock is whole and of a file system as `mkfs.ext4` makes them: metadata with checksums, 64-bit
    /// descriptors, inodes of 256 bytes, a journal inside that is mapped by extents in its inode.
    pub fn parse(superblock: &[u8; SUPERBLOCK_LEN]) -> Option<Self> {
        let (compat, incompat, ro_compat) =
            (u32_at(superblock, 0x5c)?, u32_at(superblock, 0x60)?, u32_at(superblock, 0x64)?);
        let covered = superblock.get(..0x3fc)?;
        let map: [u8; 60] = superblock.get(0x10c..0x148)?.try_into().ok()?;
        let uuid: [u8; 16] = superblock.get(0x68..0x78)?.try_into().ok()?;
        let sane = u16_at(superblock, 0x38)? == MAGIC
            && ro_compat & RO_COMPAT_METADATA_CSUM != 0
            && crc32c(!0, covered) == u32_at(superblock, 0x3fc)?
            && compat & COMPAT_HAS_JOURNAL != 0
            && incompat & INCOMPAT_64BIT != 0
            && u32_at(superblock, 0xe0)? == JOURNAL_INODE
            && *superblock.get(0xfd)? == BACKUP_OF_BLOCKS
            && usize::from(u16_at(superblock, 0xfe)?) == DESCRIPTOR_LEN
            && usize::from(u16_at(superblock, 0x58)?) == INODE_LEN
            && u16_at(&map, 0)? == EXTENT_MAGIC
            && u16_at(&map, 2)? <= MOST_EXTENTS
            && u16_at(&map, 6)? == 0;
        if !sane {
            return None;
        }
        let block_size = 1024 << u32_at(superblock, 0x18).filter(|shift| *shift <= 6)?;
        let seed =
            if incompat & INCOMPAT_CSUM_SEED == 0 { crc32c(!0, &uuid) } else { u32_at(superblock, 0x270)? };
        Some(Self {
            block_size,
            blocks: wide(u32_at(superblock, 0x04)?, u32_at(superblock, 0x150)?),
            // The block behind the superblock's.
            descriptor_at: (u64::from(u32_at(superblock, 0x14)?) + 1) * block_size,
            seed,
            uuid,
            map,
            size: wide(u32_at(superblock, 0x14c)?, u32_at(superblock, 0x148)?),
        })
    }

    /// Byte offset of the journal's inode by the first group's descriptor; none when that is torn.
    pub fn inode_at(&self, descriptor: &[u8; DESCRIPTOR_LEN]) -> Option<u64> {
        // The group's number, which is 0, and the descriptor with its own checksum as zeroes.
        let mut covered = *descriptor;
        covered.get_mut(0x1e..0x20)?.fill(0);
        let sum = crc32c(crc32c(self.seed, &[0; 4]), &covered);
        let table = wide(u32_at(descriptor, 0x08)?, u32_at(descriptor, 0x28)?);
        (sum & 0xffff == u32::from(u16_at(descriptor, 0x1e)?) && table < self.blocks)
            .then(|| table * self.block_size + u64::from(JOURNAL_INODE - 1) * INODE_LEN as u64)
    }

    /// Block of the file system for each block of the journal, in its order; none when the map has holes, or leads outside.
    pub fn journal_blocks(&self) -> Option<Vec<u64>> {
        let count = self.size / self.block_size;
        let mut blocks = Vec::new();
        for extent in 0..u16_at(&self.map, 2)? {
            let at = 12 + 12 * usize::from(extent);
            let first = wide(u32_at(&self.map, at + 8)?, u16_at(&self.map, at + 6)?.into());
            let length = u64::from(u16_at(&self.map, at + 4)?);
            let follows = u64::from(u32_at(&self.map, at)?) == blocks.len() as u64;
            if !follows || first.checked_add(length).is_none_or(|end| end > self.blocks) {
                return None;
            }
            blocks.extend(first..first + length);
        }
        (blocks.len() as u64 == count && count > 1).then_some(blocks)
    }
}

fn wide(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
