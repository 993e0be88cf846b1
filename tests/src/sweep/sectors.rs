//! Disks as layers of sectors over each other, so that a state costs what it differs by and no disk is ever copied.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Bytes of a sector: the smallest unit that a disk writes.
pub const SECTOR: usize = 512;
/// The same for offsets.
pub const SECTOR_BYTES: u64 = 512;

/// Something that reads like a disk.
pub trait Sectors: Sync {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; both are whole sectors.
    ///
    /// # Errors
    /// The file below cannot be read, or the range lies outside the disk.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Adds the sectors that differ from the file below all layers.
    fn add_patches(&self, all: &mut BTreeMap<u64, Patch>);
}

/// A raw image on a disk of at least its size; what lies behind the image is zero.
#[derive(Debug)]
pub struct BaseFile {
    file: File,
    file_bytes: u64,
    size: u64,
}

impl BaseFile {
    /// The image in `file` on a disk of `size` bytes.
    ///
    /// # Errors
    /// The file's length cannot be had.
    pub fn new(file: File, size: u64) -> io::Result<Self> {
        let file_bytes = file.metadata()?.len();
        Ok(Self { file, file_bytes, size: size.max(file_bytes) })
    }
}

impl Sectors for BaseFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let there = self.file_bytes.saturating_sub(offset).min(buffer.len() as u64);
        let (data, rest) = buffer.split_at_mut(usize::try_from(there).unwrap_or(0));
        rest.fill(0);
        self.file.read_exact_at(data, offset)
    }

    fn add_patches(&self, _: &mut BTreeMap<u64, Patch>) {}
}

fn check_range(size: u64, offset: u64, length: usize) -> io::Result<()> {
    let whole = offset.is_multiple_of(SECTOR_BYTES) && length.is_multiple_of(SECTOR);
    let inside = offset.checked_add(length as u64).is_some_and(|end| end <= size);
    if whole && inside { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// The bytes of a write.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In a file that keeps what is large: from this byte on, so many.
    Spilled(Arc<File>, u64, u64),
    /// So many zeroes.
    Zeroes(u64),
}

impl Content {
    /// Bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Spilled(_, _, length) | Self::Zeroes(length) => *length,
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `from` on; zeroes behind the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, from: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let source = bytes.get(from..).unwrap_or_default();
                let length = source.len().min(buffer.len());
                let (data, rest) = buffer.split_at_mut(length);
                data.copy_from_slice(source.get(..length).unwrap_or_default());
                rest.fill(0);
                Ok(())
            }
            Self::Spilled(file, at, _) => file.read_exact_at(buffer, at + from),
            Self::Zeroes(_) => {
                buffer.fill(0);
                Ok(())
            }
        }
    }
}

/// One sector of a layer.
#[derive(Debug, Clone)]
pub enum Patch {
    /// The sector of that number in the bytes of a write.
    Of(Content, u32),
    /// Neither old nor new: what a torn write may leave. The byte makes it, so that equal tears are equal.
    Garbage(u8),
}

impl Patch {
    /// Fills a sector.
    ///
    /// # Errors
    /// The file below cannot be read.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Of(content, sector) => content.read(u64::from(*sector) * SECTOR_BYTES, buffer),
            Self::Garbage(seed) => {
                for (at, byte) in buffer.iter_mut().enumerate() {
                    // Never all zero, never all one, and no text or magic of anybody's.
                    *byte = seed.wrapping_add(u8::try_from(at % 251).unwrap_or(0)).wrapping_mul(167) | 1;
                }
                Ok(())
            }
        }
    }
}

/// A layer: sectors that hide those of what lies below.
#[derive(Clone)]
pub struct Patched<'a> {
    below: &'a dyn Sectors,
    patches: BTreeMap<u64, Patch>,
}

impl std::fmt::Debug for Patched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Patched({} sectors)", self.patches.len())
    }
}

impl<'a> Patched<'a> {
    /// A layer that hides nothing yet.
    pub const fn over(below: &'a dyn Sectors) -> Self {
        Self { below, patches: BTreeMap::new() }
    }

    /// Replaces a sector.
    pub fn put(&mut self, sector: u64, patch: Patch) {
        self.patches.insert(sector, patch);
    }

    /// Writes `content` at byte `offset`, a whole sector's.
    pub fn write(&mut self, offset: u64, content: &Content) {
        for (index, sector) in sectors_of(offset, content.len()).enumerate() {
            self.put(sector, Patch::Of(content.clone(), u32::try_from(index).unwrap_or(u32::MAX)));
        }
    }

    /// The sectors that this layer hides, in order.
    pub fn patches(&self) -> &BTreeMap<u64, Patch> {
        &self.patches
    }
}

impl Sectors for Patched<'_> {
    fn size(&self) -> u64 {
        self.below.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.below.read(offset, buffer)?;
        let sectors = sectors_of(offset, buffer.len() as u64);
        for (sector, patch) in self.patches.range(sectors.clone()) {
            let at = usize::try_from((sector - sectors.start) * SECTOR_BYTES).unwrap_or(usize::MAX);
            if let Some(target) = buffer.get_mut(at..at + SECTOR) {
                patch.read(target)?;
            }
        }
        Ok(())
    }

    fn add_patches(&self, all: &mut BTreeMap<u64, Patch>) {
        self.below.add_patches(all);
        all.extend(self.patches.iter().map(|(sector, patch)| (*sector, patch.clone())));
    }
}

/// The sectors from byte `offset` on for `length` bytes.
pub const fn sectors_of(offset: u64, length: u64) -> Range<u64> {
    offset / SECTOR_BYTES..(offset + length).div_ceil(SECTOR_BYTES)
}

/// A hash of a sector at its place. Those of the sectors of a region, combined by exclusive or, are one of the region that is
/// brought up to date sector by sector.
pub fn sector_hash(sector: u64, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(sector);
    hasher.write(bytes);
    hasher.finish()
}

/// A hash of some bytes.
pub fn bytes_hash(bytes: &[u8]) -> u64 {
    sector_hash(u64::MAX, bytes)
}

/// The little-endian number at `at`; 0 behind the end.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// The little-endian number at `at`; 0 behind the end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The little-endian number at `at`; 0 behind the end.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Reads `length` bytes.
///
/// # Errors
/// As [`Sectors::read`].
pub fn read_vec(disk: &dyn Sectors, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    disk.read(offset, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base() -> BaseFile {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 1024], 0).unwrap();
        BaseFile::new(file, 8192).unwrap()
    }

    #[test]
    fn a_disk_larger_than_its_image_ends_in_zeroes() {
        let base = base();
        assert_eq!(read_vec(&base, 512, 1024).unwrap(), [[7; 512], [0; 512]].concat());
        assert!(base.read(8192, &mut [0; 512]).is_err() && base.read(1, &mut [0; 512]).is_err());
    }

    proptest! {
        #[test]
        fn layers_read_as_one_disk_that_was_written(
            writes in proptest::collection::vec((0_u64..16, 1_u64..5, any::<u8>(), any::<bool>()), 0..12),
        ) {
            let base = base();
            let mut flat = read_vec(&base, 0, 8192).unwrap();
            let mut lower = Patched::over(&base);
            let half = writes.len() / 2;
            let apply = |layer: &mut Patched<'_>, flat: &mut Vec<u8>, (sector, count, byte, zero): (u64, u64, u8, bool)| {
                let count = count.min(16 - sector);
                let bytes: Arc<[u8]> = vec![byte; usize::try_from(count * 512).unwrap()].into();
                let content = if zero { Content::Zeroes(count * 512) } else { Content::Memory(bytes) };
                layer.write(sector * 512, &content);
                let value = if zero { 0 } else { byte };
                let place = |sector: u64| usize::try_from(sector * 512).unwrap();
                flat[place(sector)..place(sector + count)].fill(value);
            };
            for write in &writes[..half] {
                apply(&mut lower, &mut flat, *write);
            }
            let mut upper = Patched::over(&lower);
            for write in &writes[half..] {
                apply(&mut upper, &mut flat, *write);
            }
            prop_assert_eq!(read_vec(&upper, 0, 8192).unwrap(), flat.clone());
            prop_assert_eq!(read_vec(&upper, 1536, 2048).unwrap(), flat[1536..3584].to_vec());
        }
    }
}
