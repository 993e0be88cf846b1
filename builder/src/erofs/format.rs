//! The structures on disk and their constants, little-endian throughout.

/// Block size: the only one that every kernel supports on every machine with 4 KiB pages.
pub const BLOCK_BYTES: u64 = 4096;
pub(super) const BLOCK_BITS: u8 = 12;
/// Inode numbers count slots of this many bytes from the metadata area's start.
pub(super) const SLOT_BYTES: u64 = 32;
pub(super) const SUPERBLOCK_OFFSET: usize = 1024;
pub(super) const DIRENT_BYTES: usize = 12;
pub(super) const XATTR_HEADER_BYTES: u64 = 12;
/// "No block", as address and as entry of a chunk table.
pub(super) const NO_BLOCK: u32 = u32::MAX;

const MAGIC: u32 = 0xe0f5_e1e2;
pub(super) const COMPAT_CHECKSUM: u32 = 1;
/// Extended inodes carry the time of modification (not of change).
pub(super) const COMPAT_MTIME: u32 = 2;
pub(super) const INCOMPAT_CHUNKS: u32 = 4;

pub(super) const LAYOUT_PLAIN: u16 = 0;
pub(super) const LAYOUT_INLINE: u16 = 2;
pub(super) const LAYOUT_CHUNKS: u16 = 4;

pub(super) const TYPE_MASK: u16 = 0o170_000;
pub(super) const TYPE_FIFO: u16 = 0o010_000;
pub(super) const TYPE_CHAR: u16 = 0o020_000;
pub(super) const TYPE_DIRECTORY: u16 = 0o040_000;
pub(super) const TYPE_BLOCK: u16 = 0o060_000;
pub(super) const TYPE_FILE: u16 = 0o100_000;
pub(super) const TYPE_SYMLINK: u16 = 0o120_000;
pub(super) const TYPE_SOCKET: u16 = 0o140_000;

/// What the superblock says, as far as it concerns uncompressed images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Features that a reader may ignore.
    pub feature_compat: u32,
    /// Features that a reader must know.
    pub feature_incompat: u32,
    /// Log2 of the block size.
    pub block_bits: u8,
    /// Inode number of the root directory.
    pub root_nid: u16,
    /// Number of inodes.
    pub inodes: u64,
    /// Modification time of all compact inodes, seconds since 1970.
    pub build_time: u64,
    /// Length of the filesystem in blocks.
    pub blocks: u32,
    /// First block of the metadata area, from which inode numbers count.
    pub meta_block: u32,
    /// First block of the shared extended attributes.
    pub xattr_block: u32,
    /// UUID in the order of its text.
    pub uuid: [u8; 16],
    /// Volume label, NUL-padded.
    pub label: [u8; 16],
}

/// Why bytes are no superblock that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Fewer bytes than the first block.
    #[error("an EROFS image has at least {BLOCK_BYTES} bytes, found {0}")]
    TooShort(usize),
    /// Another filesystem, or none.
    #[error("no EROFS magic at offset 1024: found {0:#010x}")]
    Magic(u32),
    /// The checksum over the first block is wrong.
    #[error("superblock checksum is {stored:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// As stored.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// A block size that we do not read.
    #[error("blocks of 2^{0} bytes are not supported, only 4096")]
    BlockSize(u8),
    /// Compression or other features that we do not read.
    #[error("incompatible features {0:#x} are not supported")]
    Features(u32),
}

impl Superblock {
    /// The first block of the image, with the checksum.
    pub(super) fn encode_block(&self) -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK_OFFSET];
        block.extend(MAGIC.to_le_bytes());
        block.extend(0u32.to_le_bytes()); // checksum, computed with zero here
        block.extend(self.feature_compat.to_le_bytes());
        block.extend([self.block_bits, 0]);
        block.extend(self.root_nid.to_le_bytes());
        block.extend(self.inodes.to_le_bytes());
        block.extend(self.build_time.to_le_bytes());
        block.extend(0u32.to_le_bytes()); // nanoseconds of the build time
        block.extend(self.blocks.to_le_bytes());
        block.extend(self.meta_block.to_le_bytes());
        block.extend(self.xattr_block.to_le_bytes());
        block.extend(self.uuid);
        block.extend(self.label);
        block.extend(self.feature_incompat.to_le_bytes());
        block.resize(1 << BLOCK_BITS, 0); // compression, devices, prefixes, packed inode: none
        let checksum = crc32c(block.get(SUPERBLOCK_OFFSET..).unwrap_or_default());
        block.splice(SUPERBLOCK_OFFSET + 4..SUPERBLOCK_OFFSET + 8, checksum.to_le_bytes());
        block
    }

    /// Reads the superblock from the first block of an image; `first_block` may be longer.
    pub fn decode(first_block: &[u8]) -> Result<Self, SuperblockError> {
        let too_short = || SuperblockError::TooShort(first_block.len());
        let covered = first_block.get(SUPERBLOCK_OFFSET..1 << BLOCK_BITS).ok_or_else(too_short)?;
        let u32_at = |at| le32(covered, at).ok_or_else(too_short);
        let u64_at = |at| le64(covered, at).ok_or_else(too_short);
        let id_at = |at: usize| -> Result<[u8; 16], SuperblockError> {
            covered.get(at..at + 16).and_then(|bytes| bytes.try_into().ok()).ok_or_else(too_short)
        };
        if u32_at(0)? != MAGIC {
            return Err(SuperblockError::Magic(u32_at(0)?));
        }
        let found = Self {
            feature_compat: u32_at(8)?,
            feature_incompat: u32_at(80)?,
            block_bits: covered.get(12).copied().ok_or_else(too_short)?,
            root_nid: le16(covered, 14).ok_or_else(too_short)?,
            inodes: u64_at(16)?,
            build_time: u64_at(24)?,
            blocks: u32_at(36)?,
            meta_block: u32_at(40)?,
            xattr_block: u32_at(44)?,
            uuid: id_at(48)?,
            label: id_at(64)?,
        };
        if found.block_bits != BLOCK_BITS {
            return Err(SuperblockError::BlockSize(found.block_bits));
        }
        if found.feature_compat & COMPAT_CHECKSUM != 0 {
            let mut bytes = covered.to_vec();
            bytes.splice(4..8, [0; 4]);
            let (stored, computed) = (u32_at(4)?, crc32c(&bytes));
            if stored != computed {
                return Err(SuperblockError::Checksum { stored, computed });
            }
        }
        if found.feature_incompat & !INCOMPAT_CHUNKS != 0 {
            return Err(SuperblockError::Features(found.feature_incompat));
        }
        Ok(found)
    }

    /// The label without its padding.
    pub fn label_text(&self) -> String {
        let len = self.label.iter().position(|&byte| byte == 0).unwrap_or(self.label.len());
        String::from_utf8_lossy(self.label.get(..len).unwrap_or_default()).into_owned()
    }
}

/// What an inode's bytes say. The two forms on disk differ in the width of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawInode {
    pub extended: bool,
    pub layout: u16,
    /// Length of the attribute area as the format counts it; see `xattr::area_bytes`.
    pub xattr_count: u16,
    /// Type and permissions.
    pub mode: u16,
    pub nlink: u32,
    pub size: u64,
    /// First block of data, device number, or format of the chunk table.
    pub union: u32,
    /// Number shown by `stat` to 32-bit programs.
    pub ino: u32,
    pub uid: u32,
    pub gid: u32,
    /// Extended inodes only; compact ones have the build time.
    pub mtime: u64,
}

impl RawInode {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend((u16::from(self.extended) | self.layout << 1).to_le_bytes());
        bytes.extend(self.xattr_count.to_le_bytes());
        bytes.extend(self.mode.to_le_bytes());
        if self.extended {
            bytes.extend([0; 2]);
            bytes.extend(self.size.to_le_bytes());
            bytes.extend(self.union.to_le_bytes());
            bytes.extend(self.ino.to_le_bytes());
            bytes.extend(self.uid.to_le_bytes());
            bytes.extend(self.gid.to_le_bytes());
            bytes.extend(self.mtime.to_le_bytes());
            bytes.extend(0u32.to_le_bytes()); // nanoseconds
            bytes.extend(self.nlink.to_le_bytes());
            bytes.resize(64, 0);
        } else {
            bytes.extend(low16(self.nlink).to_le_bytes());
            bytes.extend(low32(self.size).to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(self.union.to_le_bytes());
            bytes.extend(self.ino.to_le_bytes());
            bytes.extend(low16(self.uid).to_le_bytes());
            bytes.extend(low16(self.gid).to_le_bytes());
            bytes.extend([0; 4]);
        }
        bytes
    }

    /// `bytes` start at the inode; 32 are enough for a compact one, 64 for an extended one.
    pub(super) fn decode(bytes: &[u8], build_time: u64) -> Option<Self> {
        let format = le16(bytes, 0)?;
        let extended = format & 1 == 1;
        let common = Self {
            extended,
            layout: (format >> 1) & 7,
            xattr_count: le16(bytes, 2)?,
            mode: le16(bytes, 4)?,
            nlink: u32::from(le16(bytes, 6)?),
            size: u64::from(le32(bytes, 8)?),
            union: le32(bytes, 16)?,
            ino: le32(bytes, 20)?,
            uid: u32::from(le16(bytes, 24)?),
            gid: u32::from(le16(bytes, 26)?),
            mtime: build_time,
        };
        if !extended {
            return Some(common);
        }
        Some(Self {
            size: le64(bytes, 8)?,
            uid: le32(bytes, 24)?,
            gid: le32(bytes, 28)?,
            mtime: le64(bytes, 32)?,
            nlink: le32(bytes, 44)?,
            ..common
        })
    }
}

/// Bytes of an inode of either form, without its attributes.
pub(super) const fn inode_bytes(extended: bool) -> u64 {
    if extended { 64 } else { 32 }
}

/// The low half; callers choose the compact form only for values that fit.
fn low16(value: u32) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or(u16::MAX)
}

fn low32(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX)
}

pub(super) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(super) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The kernel's `new_encode_dev`: 12 bits of major, 20 of minor. `None` when a number does not fit.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

pub(super) const fn decode_device(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

/// File type of a directory entry for a mode.
pub(super) const fn dirent_type(mode: u16) -> u8 {
    match mode & TYPE_MASK {
        TYPE_FILE => 1,
        TYPE_DIRECTORY => 2,
        TYPE_CHAR => 3,
        TYPE_BLOCK => 4,
        TYPE_FIFO => 5,
        TYPE_SOCKET => 6,
        TYPE_SYMLINK => 7,
        _ => 0,
    }
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0u32;
    while index < 256 {
        let mut value = index;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
        {
            table[index as usize] = value;
        }
        index += 1;
    }
    table
};

/// CRC-32C as the kernel's `crc32c(~0, ..)` gives it: without the final inversion.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
        CRC32C.get(usize::from(low)).copied().unwrap_or_default() ^ crc >> 8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_gives_the_check_value_of_its_definition() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn device_numbers_round_trip_and_refuse_what_does_not_fit() {
        for (major, minor) in [(1, 3), (8, 0), (259, 70_000), (4095, (1 << 20) - 1)] {
            assert_eq!(decode_device(encode_device(major, minor).unwrap()), (major, minor));
        }
        assert_eq!(encode_device(5, 1), Some(0x501));
        assert_eq!(encode_device(4096, 0), None);
        assert_eq!(encode_device(0, 1 << 20), None);
    }

    #[test]
    fn superblock_round_trips_and_any_changed_byte_is_noticed() {
        let superblock = Superblock {
            feature_compat: COMPAT_CHECKSUM | COMPAT_MTIME,
            feature_incompat: INCOMPAT_CHUNKS,
            block_bits: BLOCK_BITS,
            root_nid: 128,
            inodes: 7,
            build_time: 1_700_000_000,
            blocks: 99,
            meta_block: 0,
            xattr_block: 3,
            uuid: [7; 16],
            label: *b"usr\0\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        let block = superblock.encode_block();
        assert_eq!(Superblock::decode(&block).unwrap(), superblock);
        for at in SUPERBLOCK_OFFSET..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 4;
            assert!(Superblock::decode(&bad).is_err(), "byte {at}");
        }
        assert_eq!(Superblock::decode(&block[..4095]), Err(SuperblockError::TooShort(4095)));
    }
}
