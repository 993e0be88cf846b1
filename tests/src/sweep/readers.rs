//! Other readers of the partition table than `slots`: the firmware (EDK2), Linux, and the `gpt` crate. Each is written after its
//! original and shares no code with ours, so that what all of them find is on the disk.

use std::io;

use slots::Device as _;

use super::model::ModelDisk;
use super::sectors::{SECTOR, SECTOR_BYTES, Sectors, read_vec, u32_at, u64_at};

const HEADER: usize = 92;
const ENTRY: u64 = 128;

/// A partition as a reader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Type GUID as on the disk.
    pub kind: [u8; 16],
    /// PARTUUID as on the disk.
    pub unique: [u8; 16],
    /// First block.
    pub first: u64,
    /// Last block; it belongs to it.
    pub last: u64,
    /// Attributes.
    pub attributes: u64,
}

/// A header that passed its reader's checks.
#[derive(Debug, Clone)]
struct Header {
    bytes: [u8; SECTOR],
    own: u64,
    alternate: u64,
    first_usable: u64,
    last_usable: u64,
    entries_at: u64,
    entries: u64,
    entry_len: u64,
}

fn guid_at(bytes: &[u8], at: usize) -> [u8; 16] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}

/// CRC-32 (IEEE 802.3) bit by bit: slow, and nobody else's code.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Header and entries in block `at`, by the checks that EDK2's `PartitionValidGptTable` and Linux's `is_gpt_valid` share.
fn read_header(disk: &dyn Sectors, at: u64) -> io::Result<Option<(Header, Vec<u8>)>> {
    let blocks = disk.size() / SECTOR_BYTES;
    if at == 0 || at >= blocks {
        return Ok(None);
    }
    let mut bytes = [0; SECTOR];
    disk.read(at * SECTOR_BYTES, &mut bytes)?;
    let length = u32_at(&bytes, 12) as usize;
    if !bytes.starts_with(b"EFI PART") || !(HEADER..=SECTOR).contains(&length) {
        return Ok(None);
    }
    let mut copy = bytes;
    copy.get_mut(16..20).unwrap_or_default().fill(0);
    if crc32(copy.get(..length).unwrap_or_default()) != u32_at(&bytes, 16) {
        return Ok(None);
    }
    let header = Header {
        own: u64_at(&bytes, 24),
        alternate: u64_at(&bytes, 32),
        first_usable: u64_at(&bytes, 40),
        last_usable: u64_at(&bytes, 48),
        entries_at: u64_at(&bytes, 72),
        entries: u64::from(u32_at(&bytes, 80)),
        entry_len: u64::from(u32_at(&bytes, 84)),
        bytes,
    };
    if header.own != at || header.entry_len != ENTRY || header.entries > 1024 {
        return Ok(None);
    }
    let table_bytes = header.entries * header.entry_len;
    let whole = table_bytes.next_multiple_of(SECTOR_BYTES);
    let Some(offset) = header.entries_at.checked_mul(SECTOR_BYTES) else { return Ok(None) };
    if offset.checked_add(whole).is_none_or(|end| end > disk.size()) {
        return Ok(None);
    }
    let mut entries = read_vec(disk, offset, usize::try_from(whole).unwrap_or(0))?;
    entries.truncate(usize::try_from(table_bytes).unwrap_or(0));
    Ok((crc32(&entries) == u32_at(&header.bytes, 88)).then_some((header, entries)))
}

fn partitions(entries: &[u8]) -> Vec<Seen> {
    let used = entries.chunks_exact(128).filter(|entry| guid_at(entry, 0) != [0; 16]);
    used.map(|entry| Seen {
        kind: guid_at(entry, 0),
        unique: guid_at(entry, 16),
        first: u64_at(entry, 32),
        last: u64_at(entry, 40),
        attributes: u64_at(entry, 48),
    })
    .collect()
}

/// What `MdeModulePkg/Universal/Disk/PartitionDxe/Gpt.c` of EDK2 does when it finds a disk: no table without a protective MBR,
/// a bad primary is rewritten from the backup in the last block, and a bad backup from the primary. Returns the partitions
/// for which there will be handles.
///
/// # Errors
/// The state cannot be read.
pub fn firmware(disk: &mut ModelDisk<'_>) -> io::Result<Option<Vec<Seen>>> {
    let mut mbr = [0; SECTOR];
    disk.now().read(0, &mut mbr)?;
    let protective = (0..4).any(|index| {
        let at = 446 + 16 * index;
        mbr.get(at) == Some(&0) && mbr.get(at + 4) == Some(&0xee) && u32_at(&mbr, at + 8) == 1
    });
    if !protective || mbr.get(510..) != Some(&[0x55, 0xaa]) {
        return Ok(None);
    }
    let last = disk.now().size() / SECTOR_BYTES - 1;
    let (header, entries) = match read_header(disk.now(), 1)? {
        None => {
            let Some((backup, entries)) = read_header(disk.now(), last)? else { return Ok(None) };
            // A failure to write is no reason to stop, but what is then read is no table.
            restore(disk, &backup, &entries);
            match read_header(disk.now(), 1)? {
                Some(found) => found,
                None => return Ok(None),
            }
        }
        Some((primary, entries)) => {
            if read_header(disk.now(), primary.alternate)?.is_none() {
                restore(disk, &primary, &entries);
            }
            (primary, entries)
        }
    };
    let mut seen = partitions(&entries);
    let all = seen.clone();
    // `PartitionCheckGptEntry`: outside, or overlapping another one.
    seen.retain(|one| {
        let inside =
            one.first >= header.first_usable && one.last <= header.last_usable && one.first <= one.last;
        let overlaps = all.iter().filter(|other| other.last >= one.first && other.first <= one.last).count();
        inside && overlaps == 1
    });
    Ok(Some(seen))
}

/// EDK2's `PartitionRestoreGptTable`: the header, then the entries, and no flush.
fn restore(disk: &mut ModelDisk<'_>, from: &Header, entries: &[u8]) {
    let mut header = from.bytes;
    let entries_at = if from.own == 1 { from.last_usable + 1 } else { 2 };
    let mut put = |at: usize, value: &[u8]| {
        header.get_mut(at..at + value.len()).unwrap_or_default().copy_from_slice(value);
    };
    put(24, &from.alternate.to_le_bytes());
    put(32, &from.own.to_le_bytes());
    put(72, &entries_at.to_le_bytes());
    put(16, &[0; 4]);
    let length = u32_at(&from.bytes, 12) as usize;
    let crc = crc32(header.get(..length).unwrap_or_default());
    header.get_mut(16..20).unwrap_or_default().copy_from_slice(&crc.to_le_bytes());
    // Whether it worked shows when the table is read again.
    let _ = disk.write(from.alternate * SECTOR_BYTES, &header);
    let _ = disk.write(entries_at * SECTOR_BYTES, entries);
}

/// What Linux takes (`block/partitions/efi.c`, `find_valid_gpt`) with `gpt` on its command line: the primary, else the backup
/// that the primary names, else the one in the last block.
///
/// # Errors
/// The state cannot be read.
pub fn linux(disk: &dyn Sectors) -> io::Result<Option<Vec<Seen>>> {
    let last = disk.size() / SECTOR_BYTES - 1;
    let valid = |at| -> io::Result<Option<Vec<u8>>> {
        let found = read_header(disk, at)?;
        Ok(found
            .filter(|(header, _)| header.first_usable <= header.last_usable && header.last_usable <= last)
            .map(|(_, entries)| entries))
    };
    let entries = match valid(1)? {
        Some(entries) => Some(entries),
        None => valid(last)?,
    };
    Ok(entries.map(|entries| {
        let mut seen = partitions(&entries);
        seen.retain(|one| one.first <= last && one.last <= last && one.first <= one.last);
        seen
    }))
}

/// What Linux takes without `gpt` on its command line: the primary or nothing.
///
/// # Errors
/// The state cannot be read.
pub fn linux_primary(disk: &dyn Sectors) -> io::Result<Option<Vec<Seen>>> {
    Ok(read_header(disk, 1)?.map(|(_, entries)| partitions(&entries)))
}

/// What the `gpt` crate takes for the table: the primary, else the backup in the last block. `None` when it finds none.
pub fn gpt_crate(disk: &dyn Sectors) -> Option<Vec<Seen>> {
    let mut reader = Reader { disk, at: 0 };
    let config = gpt::GptConfig::new().writable(false);
    let found = config.open_from_device(&mut reader).ok()?;
    let mut seen: Vec<_> = found
        .partitions()
        .values()
        .map(|partition| Seen {
            kind: to_disk(&partition.part_type_guid.guid.to_string()),
            unique: to_disk(&partition.part_guid.to_string()),
            first: partition.first_lba,
            last: partition.last_lba,
            attributes: partition.flags,
        })
        .collect();
    seen.sort_by_key(|one| one.first);
    Some(seen)
}

/// A GUID's text as its bytes on the disk: the first three groups are little-endian.
fn to_disk(text: &str) -> [u8; 16] {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or("00");
        *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
    }
    for range in [0..4, 4..6, 6..8] {
        bytes.get_mut(range).unwrap_or_default().reverse();
    }
    bytes
}

struct Reader<'a> {
    disk: &'a dyn Sectors,
    at: u64,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader(at {})", self.at)
    }
}

impl io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.disk.size().saturating_sub(self.at);
        let count = left.min(buffer.len() as u64);
        let start = self.at / SECTOR_BYTES * SECTOR_BYTES;
        let end = (self.at + count).next_multiple_of(SECTOR_BYTES).min(self.disk.size());
        let whole = read_vec(self.disk, start, usize::try_from(end - start).map_err(io::Error::other)?)?;
        let skip = usize::try_from(self.at - start).map_err(io::Error::other)?;
        let count = usize::try_from(count).map_err(io::Error::other)?;
        let source = whole.get(skip..skip + count).unwrap_or_default();
        buffer.get_mut(..source.len()).unwrap_or_default().copy_from_slice(source);
        self.at += source.len() as u64;
        Ok(source.len())
    }
}

impl io::Write for Reader<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Seek for Reader<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            io::SeekFrom::Start(at) => (at, 0),
            io::SeekFrom::End(by) => (self.disk.size(), by),
            io::SeekFrom::Current(by) => (self.at, by),
        };
        self.at = from.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use slots::{Entry, Guid, Loaded, PartitionName, SlotFlags, types};

    use super::super::model::Behaviour;
    use super::super::sectors::{BaseFile, Patch, Patched};
    use super::*;

    const BLOCKS: u64 = 256;
    const BYTES: usize = 256 * SECTOR;

    /// A disk with a protective MBR and one partition.
    fn disk() -> BaseFile {
        let base = BaseFile::new(tempfile::tempfile().unwrap(), BLOCKS * SECTOR_BYTES).unwrap();
        let mut disk = ModelDisk::over(&base, Behaviour::default());
        let mut mbr = [0; SECTOR];
        (mbr[450], mbr[454], mbr[510], mbr[511]) = (0xee, 1, 0x55, 0xaa);
        disk.write(0, &mbr).unwrap();
        let mut blank = Loaded::blank(disk.geometry(), Guid::from_hash([1; 16]), 64).unwrap();
        let mut table = blank.current().unwrap().0.clone();
        let unique = Guid::from_hash([2; 16]);
        let name = PartitionName::new("USR-A");
        table.set_entry(0, Entry::new(types::USR_X86_64, unique, 64, 127, SlotFlags::FRESH, name));
        blank.commit(&mut disk, &table).unwrap();
        let bytes = read_vec(disk.now(), 0, BYTES).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        BaseFile::new(file, 0).unwrap()
    }

    #[test]
    fn firmware_rewrites_a_bad_copy_and_everybody_reads_the_same() {
        let base = disk();
        for bad in [None, Some(1), Some(2), Some(BLOCKS - 1), Some(BLOCKS - 33)] {
            let mut damaged = Patched::over(&base);
            bad.into_iter().for_each(|sector| damaged.put(sector, Patch::Garbage(7)));
            let before = linux_primary(&damaged).unwrap();
            assert_eq!(before.is_some(), !matches!(bad, Some(1 | 2)), "{bad:?}");
            let mut model = ModelDisk::over(&damaged, Behaviour::default());
            let seen = firmware(&mut model).unwrap().unwrap();
            assert_eq!(model.ops.len(), if bad.is_some() { 2 } else { 0 }, "{bad:?}");
            assert_eq!((seen.len(), seen[0].first, seen[0].last), (1, 64, 127));
            let now = model.now();
            assert_eq!(read_vec(now, 0, BYTES).unwrap(), read_vec(&base, 0, BYTES).unwrap());
            assert_eq!(linux(now).unwrap().as_ref(), Some(&seen));
            assert_eq!(gpt_crate(now), Some(seen));
        }
    }

    #[test]
    fn firmware_takes_no_disk_without_a_protective_mbr_or_with_two_bad_copies() {
        let base = disk();
        for bad in [vec![0], vec![1, BLOCKS - 1]] {
            let mut damaged = Patched::over(&base);
            bad.into_iter().for_each(|sector| damaged.put(sector, Patch::Garbage(7)));
            let mut model = ModelDisk::over(&damaged, Behaviour::default());
            assert_eq!(firmware(&mut model).unwrap(), None);
            assert!(model.ops.is_empty());
        }
    }
}
