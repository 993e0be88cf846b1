//! One copy of a GUID partition table: bytes to checked values and back (UEFI 2.10, section 5.3).

use core::fmt;

use crc32fast::hash as crc32;

use crate::bytes::{array, is_zero, put, u16_at, u32_at, u64_at};
use crate::flags::SlotFlags;
use crate::guid::Guid;

/// Bytes of an entry; other sizes are legal in UEFI, but nobody writes them and we refuse them.
pub const ENTRY_LEN: usize = 128;
/// Entries of a table, used or not.
pub const ENTRIES: usize = 128;
/// Entries that Ferrite uses: those that share the first 4 KiB of the disk with the header, so that one aligned write
/// changes all of it (SAFETY 2).
pub const ENTRIES_IN_USE: usize = 24;
/// Bytes of the array of entries.
pub(crate) const ARRAY_LEN: usize = ENTRY_LEN * ENTRIES;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// The same three as the header's 32-bit fields.
const ENTRIES_FIELD: u32 = 128;
const ENTRY_LEN_FIELD: u32 = 128;
const HEADER_LEN_FIELD: u32 = 92;
const REVISION: u32 = 0x0001_0000;
/// Bytes of the header that are defined and covered by its checksum.
const HEADER_LEN: usize = 92;
const CHECKSUM_AT: usize = 16;

/// Partition types that Ferrite knows.
pub mod types {
    use super::Guid;

    /// EFI system partition, `c12a7328-f81f-11d2-ba4b-00a0c93ec93b` (UEFI 2.10, table 5.8).
    pub const ESP: Guid = Guid::from_text_order([
        0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
    ]);
    /// A slot: `usr-x86-64` of the Discoverable Partitions Specification, `8484680c-9521-48c6-9c11-b0720656f69e`.
    pub const USR_X86_64: Guid = Guid::from_text_order([
        0x84, 0x84, 0x68, 0x0c, 0x95, 0x21, 0x48, 0xc6, 0x9c, 0x11, 0xb0, 0x72, 0x06, 0x56, 0xf6, 0x9e,
    ]);
    /// Basic data, `ebd0a0a2-b9e5-4433-87c0-68b6b72699c7`: the OEM partition.
    pub const BASIC_DATA: Guid = Guid::from_text_order([
        0xeb, 0xd0, 0xa0, 0xa2, 0xb9, 0xe5, 0x44, 0x33, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
    ]);
    /// Linux variable data (`/var`), `4d21b016-b534-45c2-a9fb-5c16e091fd2d`: STATE.
    pub const LINUX_VAR: Guid = Guid::from_text_order([
        0x4d, 0x21, 0xb0, 0x16, 0xb5, 0x34, 0x45, 0xc2, 0xa9, 0xfb, 0x5c, 0x16, 0xe0, 0x91, 0xfd, 0x2d,
    ]);
}

/// Size of a disk as its driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// Logical blocks of the disk.
    pub blocks: u64,
}

impl Geometry {
    /// Number of the last block; 0 on an empty disk.
    pub const fn last_block(self) -> u64 {
        self.blocks.saturating_sub(1)
    }

    /// Blocks that the array of entries takes: 32 of 512 bytes, 4 of 4096.
    pub const fn array_blocks(self) -> u64 {
        (ARRAY_LEN as u64).div_ceil(self.block_size as u64)
    }

    /// True for the block sizes that this crate handles, on a disk that has room for two tables.
    pub const fn is_supported(self) -> bool {
        matches!(self.block_size, 512 | 4096) && self.blocks > 2 * (2 + self.array_blocks())
    }
}

/// A partition's name: 36 UTF-16 units, zero-padded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PartitionName([u16; 36]);

impl PartitionName {
    /// Takes a name; characters behind the 36th unit are cut off.
    pub fn new(name: &str) -> Self {
        let mut units = [0; 36];
        for (place, unit) in units.iter_mut().zip(name.encode_utf16()) {
            *place = unit;
        }
        Self(units)
    }

    /// True when the name is exactly `name`.
    pub fn is(&self, name: &str) -> bool {
        *self == Self::new(name)
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.iter().copied().take_while(|unit| *unit != 0);
        for character in char::decode_utf16(units) {
            let shown = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            write!(f, "{}", if shown.is_control() { char::REPLACEMENT_CHARACTER } else { shown })?;
        }
        Ok(())
    }
}

impl fmt::Debug for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// One entry of the table, as its 128 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry([u8; ENTRY_LEN]);

impl Entry {
    /// An entry of `first_block..=last_block`.
    pub fn new(
        type_guid: Guid,
        unique_guid: Guid,
        first_block: u64,
        last_block: u64,
        flags: SlotFlags,
        name: PartitionName,
    ) -> Self {
        let mut entry = Self([0; ENTRY_LEN]);
        put(&mut entry.0, 0, &type_guid.to_disk());
        put(&mut entry.0, 32, &first_block.to_le_bytes());
        put(&mut entry.0, 40, &last_block.to_le_bytes());
        entry.set_unique_guid(unique_guid);
        entry.set_flags(flags);
        entry.set_name(name);
        entry
    }

    /// Takes the bytes as they stand on disk.
    pub const fn from_disk(bytes: [u8; ENTRY_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes for the disk.
    pub const fn to_disk(self) -> [u8; ENTRY_LEN] {
        self.0
    }

    /// True when the entry holds a partition.
    pub fn is_used(&self) -> bool {
        !self.type_guid().is_zero()
    }

    /// The partition's type.
    pub fn type_guid(&self) -> Guid {
        Guid::from_disk(array(&self.0, 0))
    }

    /// The partition's own GUID: the kernel's PARTUUID.
    pub fn unique_guid(&self) -> Guid {
        Guid::from_disk(array(&self.0, 16))
    }

    /// First block of the partition.
    pub fn first_block(&self) -> u64 {
        u64_at(&self.0, 32)
    }

    /// Last block of the partition; it belongs to it.
    pub fn last_block(&self) -> u64 {
        u64_at(&self.0, 40)
    }

    /// Blocks of the partition; 0 when its end lies before its start.
    pub fn blocks(&self) -> u64 {
        self.last_block().wrapping_sub(self.first_block()).wrapping_add(1)
    }

    /// The attribute word, seen as slot flags.
    pub fn flags(&self) -> SlotFlags {
        SlotFlags::from_attributes(u64_at(&self.0, 48))
    }

    /// The partition's name.
    pub fn name(&self) -> PartitionName {
        let mut units = [0; 36];
        for (index, unit) in units.iter_mut().enumerate() {
            *unit = u16_at(&self.0, 56 + 2 * index);
        }
        PartitionName(units)
    }

    /// Replaces the attribute word.
    pub fn set_flags(&mut self, flags: SlotFlags) {
        put(&mut self.0, 48, &flags.to_attributes().to_le_bytes());
    }

    /// Replaces the partition's own GUID.
    pub fn set_unique_guid(&mut self, guid: Guid) {
        put(&mut self.0, 16, &guid.to_disk());
    }

    /// Replaces the name.
    pub fn set_name(&mut self, name: PartitionName) {
        for (index, unit) in name.0.iter().enumerate() {
            put(&mut self.0, 56 + 2 * index, &unit.to_le_bytes());
        }
    }

    /// Replaces the end of the partition, in blocks; the last one belongs to it.
    pub fn set_last_block(&mut self, last_block: u64) {
        put(&mut self.0, 40, &last_block.to_le_bytes());
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Entry({} {} {}..={})",
            self.name(),
            self.unique_guid(),
            self.first_block(),
            self.last_block()
        )
    }
}

/// Why a copy of the table does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// The block could not be read.
    Unreadable,
    /// The block size is neither 512 nor 4096, or the disk has no room for two tables.
    Geometry,
    /// No "EFI PART" there; true when the whole block is zero.
    Signature {
        /// The block holds nothing but zeroes.
        blank: bool,
    },
    /// Another revision than 1.0, or a header size outside 92 to a block.
    Revision,
    /// The header's checksum is wrong.
    HeaderChecksum,
    /// The header says that it lives in another block.
    Misplaced {
        /// The block where it says it is.
        claims: u64,
    },
    /// Another number or size of entries than 128 of 128 bytes.
    EntrySize,
    /// The checksum of the entries is wrong.
    EntriesChecksum,
    /// The blocks for partitions, or the array of entries, lie outside the disk or overlap the tables.
    Bounds,
    /// An entry lies outside the blocks for partitions; its number, from 0.
    EntryBounds(usize),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("cannot be read"),
            Self::Geometry => f.write_str("disk too small or block size not 512 or 4096"),
            Self::Signature { blank: true } => f.write_str("blank"),
            Self::Signature { blank: false } => f.write_str("no GPT signature"),
            Self::Revision => f.write_str("unknown revision or header size"),
            Self::HeaderChecksum => f.write_str("wrong header checksum"),
            Self::Misplaced { claims } => write!(f, "claims to live in block {claims}"),
            Self::EntrySize => f.write_str("not 128 entries of 128 bytes"),
            Self::EntriesChecksum => f.write_str("wrong checksum of the entries"),
            Self::Bounds => f.write_str("bounds outside the disk"),
            Self::EntryBounds(entry) => write!(f, "entry {} lies outside its bounds", entry + 1),
        }
    }
}

impl core::error::Error for TableError {}

/// The contents of one valid copy of the table, wherever it was read.
///
/// Invariant: header and entries passed every check of UEFI 2.10, section 5.3.2.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    pub(crate) disk_guid: Guid,
    pub(crate) first_usable: u64,
    pub(crate) last_usable: u64,
    /// Block of the other copy's header, as the header says.
    pub(crate) alternate: u64,
    pub(crate) array: [u8; ARRAY_LEN],
}

impl Table {
    /// Reads and checks a header; the result says where the entries are.
    pub(crate) fn check_header(block: &[u8], own_block: u64, geometry: Geometry) -> Result<u64, TableError> {
        let header = block.get(..HEADER_LEN).ok_or(TableError::Geometry)?;
        if &array::<8>(header, 0) != SIGNATURE {
            return Err(TableError::Signature { blank: is_zero(block) });
        }
        let header_len = usize::try_from(u32_at(header, 12)).map_err(|_| TableError::Revision)?;
        if u32_at(header, 8) != REVISION || header_len < HEADER_LEN || header_len > block.len() {
            return Err(TableError::Revision);
        }
        if header_checksum(block, header_len) != u32_at(header, CHECKSUM_AT) {
            return Err(TableError::HeaderChecksum);
        }
        if u64_at(header, 24) != own_block {
            return Err(TableError::Misplaced { claims: u64_at(header, 24) });
        }
        if u32_at(header, 80) != ENTRIES_FIELD || u32_at(header, 84) != ENTRY_LEN_FIELD {
            return Err(TableError::EntrySize);
        }
        let (first, last, array_at) = (u64_at(header, 40), u64_at(header, 48), u64_at(header, 72));
        let array_end = array_at.checked_add(geometry.array_blocks()).ok_or(TableError::Bounds)?;
        let outside =
            first > last || last >= geometry.last_block() || array_end > geometry.blocks || array_at < 2;
        let overlap = array_at <= last && array_end > first;
        let own_inside = own_block >= first && own_block <= last;
        if outside || overlap || own_inside {
            return Err(TableError::Bounds);
        }
        Ok(array_at)
    }

    /// Checks the entries against a header that passed [`Table::check_header`].
    pub(crate) fn check_entries(block: &[u8], entries: &[u8; ARRAY_LEN]) -> Result<Self, TableError> {
        if crc32(entries) != u32_at(block, 88) {
            return Err(TableError::EntriesChecksum);
        }
        let table = Self {
            disk_guid: Guid::from_disk(array(block, 56)),
            first_usable: u64_at(block, 40),
            last_usable: u64_at(block, 48),
            alternate: u64_at(block, 32),
            array: *entries,
        };
        let stray = table.entries().find(|(_, entry)| {
            entry.first_block() > entry.last_block()
                || entry.first_block() < table.first_usable
                || entry.last_block() > table.last_usable
        });
        stray.map_or(Ok(table.clone()), |(index, _)| Err(TableError::EntryBounds(index)))
    }

    /// Writes the header for `own_block` into `block` (zeroed first), with the entries at `array_at` and the other copy
    /// at `alternate`.
    pub(crate) fn write_header(&self, block: &mut [u8], own_block: u64, alternate: u64, array_at: u64) {
        block.fill(0);
        put(block, 0, SIGNATURE);
        put(block, 8, &REVISION.to_le_bytes());
        put(block, 12, &HEADER_LEN_FIELD.to_le_bytes());
        put(block, 24, &own_block.to_le_bytes());
        put(block, 32, &alternate.to_le_bytes());
        put(block, 40, &self.first_usable.to_le_bytes());
        put(block, 48, &self.last_usable.to_le_bytes());
        put(block, 56, &self.disk_guid.to_disk());
        put(block, 72, &array_at.to_le_bytes());
        put(block, 80, &ENTRIES_FIELD.to_le_bytes());
        put(block, 84, &ENTRY_LEN_FIELD.to_le_bytes());
        put(block, 88, &crc32(&self.array).to_le_bytes());
        let checksum = header_checksum(block, HEADER_LEN);
        put(block, CHECKSUM_AT, &checksum.to_le_bytes());
    }

    /// The disk's GUID.
    pub const fn disk_guid(&self) -> Guid {
        self.disk_guid
    }

    /// Replaces the disk's GUID.
    pub const fn set_disk_guid(&mut self, guid: Guid) {
        self.disk_guid = guid;
    }

    /// First block that a partition may use.
    pub const fn first_usable(&self) -> u64 {
        self.first_usable
    }

    /// Last block that a partition may use.
    pub const fn last_usable(&self) -> u64 {
        self.last_usable
    }

    /// All used entries with their index from 0, in table order.
    pub fn entries(&self) -> impl Iterator<Item = (usize, Entry)> + '_ {
        self.all_entries().filter(|(_, entry)| entry.is_used())
    }

    /// The entry at an index, used or not; `None` beyond the last.
    pub fn entry(&self, index: usize) -> Option<Entry> {
        self.all_entries().nth(index).map(|(_, entry)| entry)
    }

    /// Replaces an entry; false when the index is beyond [`ENTRIES_IN_USE`], and nothing changes.
    pub fn set_entry(&mut self, index: usize, entry: Entry) -> bool {
        if index >= ENTRIES_IN_USE {
            return false;
        }
        put(&mut self.array, index * ENTRY_LEN, &entry.to_disk());
        true
    }

    /// The entry with a given PARTUUID.
    pub fn find_unique(&self, guid: Guid) -> Option<(usize, Entry)> {
        self.entries().find(|(_, entry)| entry.unique_guid() == guid)
    }

    /// The first entry with a given name.
    pub fn find_name(&self, name: &str) -> Option<(usize, Entry)> {
        self.entries().find(|(_, entry)| entry.name().is(name))
    }

    /// The first unused index below [`ENTRIES_IN_USE`].
    pub fn free_index(&self) -> Option<usize> {
        self.all_entries().take(ENTRIES_IN_USE).find(|(_, entry)| !entry.is_used()).map(|(index, _)| index)
    }

    /// First block behind the last partition (or of the usable blocks when there is none).
    pub fn first_free_block(&self) -> u64 {
        self.entries().map(|(_, entry)| entry.last_block() + 1).max().unwrap_or(self.first_usable)
    }

    /// True when both hold the same disk GUID, bounds and entries; where the copies live does not matter.
    pub fn same_content(&self, other: &Self) -> bool {
        self.disk_guid == other.disk_guid
            && self.first_usable == other.first_usable
            && self.last_usable == other.last_usable
            && self.array == other.array
    }

    fn all_entries(&self) -> impl Iterator<Item = (usize, Entry)> + '_ {
        self.array.chunks_exact(ENTRY_LEN).map(|bytes| Entry::from_disk(array(bytes, 0))).enumerate()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("disk_guid", &self.disk_guid)
            .field("usable", &(self.first_usable..=self.last_usable))
            .field("alternate", &self.alternate)
            .finish_non_exhaustive()
    }
}

/// CRC-32 of a header with its own checksum field taken as zero.
fn header_checksum(block: &[u8], len: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(block.get(..CHECKSUM_AT).unwrap_or_default());
    hasher.update(&[0; 4]);
    hasher.update(block.get(CHECKSUM_AT + 4..len).unwrap_or_default());
    hasher.finalize()
}
