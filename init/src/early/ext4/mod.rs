//! The few fields of an ext4 superblock that decide what to do with STATE (Documentation/filesystems/ext4/super.rst).

pub mod journal;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Byte offset of the superblock.
const SUPERBLOCK_AT: u64 = 1024;
/// Its bytes.
const SUPERBLOCK_LEN: usize = 1024;
/// Its magic number.
const MAGIC: u16 = 0xef53;
const STATE_HAS_ERRORS: u16 = 2;
const INCOMPAT_64BIT: u32 = 0x80;

/// What a superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Size of the file system in its own blocks.
    pub blocks: u64,
    /// Bytes of a block: 1024 to 65536.
    pub block_size: u64,
    /// The kernel met an inconsistency; a check is due.
    pub has_errors: bool,
}

impl Superblock {
    /// Reads the superblock of the file system on `device`; `None` when there is no ext4 on it.
    ///
    /// # Errors
    /// The device's.
    pub fn read(device: &Path) -> io::Result<Option<Self>> {
        let mut bytes = [0; SUPERBLOCK_LEN];
        File::open(device)?.read_exact_at(&mut bytes, SUPERBLOCK_AT)?;
        Ok(Self::parse(&bytes))
    }

    /// Reads the fields; `None` when the magic number is not there or the block size is absurd.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if u16_at(bytes, 0x38)? != MAGIC {
            return None;
        }
        let shift = u32_at(bytes, 0x18).filter(|shift| *shift <= 6)?;
        let high = if u32_at(bytes, 0x60)? & INCOMPAT_64BIT == 0 { 0 } else { u32_at(bytes, 0x150)? };
        Some(Self {
            blocks: u64::from(u32_at(bytes, 0x04)?) | (u64::from(high) << 32),
            block_size: 1024 << shift,
            has_errors: u16_at(bytes, 0x3a)? & STATE_HAS_ERRORS != 0,
        })
    }

    /// Blocks that a file system filling `bytes` would have; `None` when it has that many already.
    pub fn growth(&self, bytes: u64) -> Option<u64> {
        let wanted = bytes / self.block_size;
        (wanted > self.blocks).then_some(wanted)
    }
}

/// A little-endian number; none when it is not all there.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// As [`u16_at`], of four bytes.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernel_documented_fields_are_read() {
        let mut bytes = [0; SUPERBLOCK_LEN];
        bytes[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[0x04..0x08].copy_from_slice(&1000_u32.to_le_bytes());
        bytes[0x18] = 2;
        bytes[0x3a] = 3;
        bytes[0x150] = 1;
        let small = Superblock::parse(&bytes).unwrap();
        assert_eq!(small, Superblock { blocks: 1000, block_size: 4096, has_errors: true });
        assert_eq!((small.growth(1000 * 4096 + 4095), small.growth(1001 * 4096)), (None, Some(1001)));
        bytes[0x60] = 0x80;
        assert_eq!(Superblock::parse(&bytes).unwrap().blocks, (1 << 32) + 1000);
        bytes[0x38] = 0;
        assert_eq!(Superblock::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            if let Some(superblock) = Superblock::parse(&bytes) {
                superblock.growth(u64::MAX);
            }
        }
    }
}
