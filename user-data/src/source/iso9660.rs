//! Reads single files of an ISO 9660 volume (ECMA-119), by their Joliet or Rock Ridge names where it has them.
//!
//! The kernel has a driver, but not in every image, and it is a lot of code to point at bytes that come with the machine. What is
//! needed of the format is this much: no links, no files of several extents, names compared without regard to case.

use std::io;

use super::device::{ReadAt, bytes};

/// Bytes of a logical sector (6.1.2).
const SECTOR: u64 = 2048;
/// Where the volume descriptors begin (6.2.1), and how many are looked at.
const FIRST_DESCRIPTOR: u64 = 16;
const MOST_DESCRIPTORS: u64 = 32;
/// The largest folder that is read: some ten thousand names.
const LARGEST_FOLDER: u32 = 1 << 20;
/// Bit of the file flags (9.1.6): a folder; and one with more extents to come.
const FOLDER: u8 = 2;
const MORE_EXTENTS: u8 = 0x80;

/// Why a volume or a file in it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// The device.
    #[error("cannot read the volume")]
    Read(#[from] io::Error),
    /// A part is not as the standard has it.
    #[error("the volume is damaged: {0}")]
    Damaged(&'static str),
    /// More than anybody needs.
    #[error("{name} has {length} bytes, more than {limit}")]
    TooLarge {
        /// The file or folder.
        name: String,
        /// Its bytes.
        length: u32,
        /// What is read at most.
        limit: u32,
    },
}

/// How names of a volume are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// `USER_DAT.;1`, or Rock Ridge's real name beside it.
    Plain,
    /// UCS-2, big end first.
    Joliet,
}

/// A file or folder.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    start: u32,
    length: u32,
    flags: u8,
}

/// A volume whose descriptors have been read.
#[derive(Debug, Clone)]
pub struct Iso {
    /// Its labels: the volume's own, and Joliet's when that is another one.
    pub labels: Vec<String>,
    names: Names,
    root: Entry,
}

impl Iso {
    /// Reads the descriptors; `None` when the device holds something else.
    ///
    /// # Errors
    /// It is such a volume, and damaged.
    pub fn open<D: ReadAt + ?Sized>(device: &D) -> Result<Option<Self>, IsoError> {
        let mut found: Option<Self> = None;
        for number in 0..MOST_DESCRIPTORS {
            let sector = bytes(device, (FIRST_DESCRIPTOR + number) * SECTOR, 2048);
            let Ok(sector) = sector else { break };
            let Some((&kind, b"CD001")) = sector.first().zip(sector.get(1..6)) else { break };
            // 8.5 and 8.6: the escape sequences of UCS-2 are Joliet's.
            let escapes = sector.get(88..91).unwrap_or_default();
            let joliet = escapes.starts_with(b"%/") && matches!(escapes.last(), Some(b'@' | b'C' | b'E'));
            let names = match kind {
                1 => Names::Plain,
                2 if joliet => Names::Joliet,
                255 => break,
                _ => continue,
            };
            let label = text(sector.get(40..72).unwrap_or_default(), names);
            let label = label.trim_end_matches([' ', '\0']).to_owned();
            let record = sector.get(156..190).unwrap_or_default();
            let (root, _) = entry(record, names).ok_or(IsoError::Damaged("no root folder"))?;
            let mut labels = found.map(|iso| iso.labels).unwrap_or_default();
            if !labels.contains(&label) {
                labels.push(label);
            }
            found = Some(Self { labels, names, root });
            if names == Names::Joliet {
                break;
            }
        }
        Ok(found)
    }

    /// The bytes of a file; `None` when there is none of that path (without a slash in front).
    ///
    /// # Errors
    /// The volume is damaged, or the file is larger than `limit`.
    pub fn read<D: ReadAt + ?Sized>(
        &self,
        device: &D,
        path: &str,
        limit: u32,
    ) -> Result<Option<Vec<u8>>, IsoError> {
        let mut place = self.root.clone();
        for part in path.split('/') {
            if place.flags & FOLDER == 0 {
                return Ok(None);
            }
            let folder = content(device, &place, LARGEST_FOLDER)?;
            let Some(next) = find(&folder, part, self.names) else { return Ok(None) };
            place = next;
        }
        if place.flags & FOLDER != 0 {
            return Ok(None);
        }
        if place.flags & MORE_EXTENTS != 0 {
            return Err(IsoError::Damaged("a file of several extents, which only those above 4 GiB need"));
        }
        content(device, &place, limit).map(Some)
    }
}

fn content<D: ReadAt + ?Sized>(device: &D, entry: &Entry, limit: u32) -> Result<Vec<u8>, IsoError> {
    if entry.length > limit {
        return Err(IsoError::TooLarge { name: entry.name.clone(), length: entry.length, limit });
    }
    let length = usize::try_from(entry.length).map_err(|_| IsoError::Damaged("a length"))?;
    Ok(bytes(device, u64::from(entry.start) * SECTOR, length)?)
}

/// The entry of a name in a folder. Records do not cross sectors (6.8.1.1); the rest of a sector is zero.
fn find(folder: &[u8], name: &str, names: Names) -> Option<Entry> {
    folder.chunks(2048).find_map(|sector| {
        let mut rest = sector;
        while let Some((entry, length)) = entry(rest, names) {
            if entry.name.eq_ignore_ascii_case(name) {
                return Some(entry);
            }
            rest = rest.get(length..)?;
        }
        None
    })
}

/// The directory record (9.1) that these bytes begin with, and its length.
fn entry(bytes: &[u8], names: Names) -> Option<(Entry, usize)> {
    let length = usize::from(*bytes.first()?);
    let record = bytes.get(..length)?;
    let number = |at: usize| {
        let bytes = record.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (start, size) = (number(2)?, number(10)?);
    let flags = *record.get(25)?;
    let name_length = usize::from(*record.get(32)?);
    let name = record.get(33..33_usize.checked_add(name_length)?)?;
    // A byte of padding keeps what follows at an even place.
    let more = record.get(33 + name_length + (1 - name_length % 2)..).unwrap_or_default();
    let name = match names {
        Names::Joliet => plain(&text(name, names)),
        Names::Plain => rock_ridge(more).unwrap_or_else(|| plain(&text(name, names))),
    };
    Some((Entry { name, start, length: size, flags }, length))
}

fn text(bytes: &[u8], names: Names) -> String {
    match names {
        Names::Plain => String::from_utf8_lossy(bytes).into_owned(),
        Names::Joliet => {
            let units = bytes.chunks_exact(2).map(|pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0,
            });
            char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
    }
}

/// A name without its version (`;1`) and the dot of an empty extension.
fn plain(name: &str) -> String {
    let name = name.split_once(';').map_or(name, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

/// The name in the `NM` entries of a record's system use field (Rock Ridge 4.1.4 by SUSP 4.1).
fn rock_ridge(mut area: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    let mut seen = false;
    while let [first, second, length, _version, ..] = area {
        let (entry, rest) = area.split_at_checked(usize::from(*length))?;
        if entry.len() < 4 {
            break;
        }
        if (*first, *second) == (b'N', b'M') {
            seen = true;
            name.extend(entry.get(5..).unwrap_or_default());
        }
        area = rest;
    }
    seen.then(|| String::from_utf8_lossy(&name).into_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both(number: u32) -> Vec<u8> {
        [number.to_le_bytes(), number.to_be_bytes()].concat()
    }

    fn record(name: &[u8], start: u32, length: u32, flags: u8, more: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend(both(start));
        bytes.extend(both(length));
        bytes.extend([0; 7]);
        bytes.extend([flags, 0, 0, 1, 0, 0, 1, u8::try_from(name.len()).unwrap()]);
        bytes.extend(name);
        if name.len().is_multiple_of(2) {
            bytes.push(0);
        }
        bytes.extend(more);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        bytes[0] = u8::try_from(bytes.len()).unwrap();
        bytes
    }

    fn descriptor(kind: u8, label: &[u8], escape: &[u8], root: &[u8]) -> Vec<u8> {
        let mut sector = vec![0; 2048];
        sector[0] = kind;
        sector[1..6].copy_from_slice(b"CD001");
        sector[40..72].fill(b' ');
        sector[40..40 + label.len()].copy_from_slice(label);
        sector[88..88 + escape.len()].copy_from_slice(escape);
        sector[156..156 + root.len()].copy_from_slice(root);
        sector
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    fn rock_ridge_name(name: &str) -> Vec<u8> {
        let mut entry = b"NM".to_vec();
        entry.extend([u8::try_from(name.len() + 5).unwrap(), 1, 0]);
        entry.extend(name.as_bytes());
        entry
    }

    /// A volume with `folder/user-data`, its names in Rock Ridge or Joliet.
    fn volume(joliet: bool, content: &[u8]) -> Vec<u8> {
        let root = record(&[0], 19, 2048, FOLDER, &[]);
        let mut sectors = vec![0; 16 * 2048];
        sectors.extend(descriptor(1, b"cidata", b"", &root));
        if joliet {
            sectors.extend(descriptor(2, &wide("cidata"), b"%/E", &root));
        } else {
            sectors.extend(descriptor(3, b"", b"", &root));
        }
        sectors.extend(descriptor(255, b"", b"", &[]));
        let length = u32::try_from(content.len()).unwrap();
        let (folder, file) = if joliet {
            (record(&wide("folder"), 20, 2048, FOLDER, &[]), record(&wide("user-data;1"), 21, length, 0, &[]))
        } else {
            (
                record(b"FOLDER", 20, 2048, FOLDER, &rock_ridge_name("folder")),
                record(b"USER_DAT.;1", 21, length, 0, &rock_ridge_name("user-data")),
            )
        };
        let mut add = |records: &[Vec<u8>]| {
            let mut sector = records.concat();
            sector.resize(2048, 0);
            sectors.extend(sector);
        };
        add(&[record(&[0], 19, 2048, FOLDER, &[]), record(&[1], 19, 2048, FOLDER, &[]), folder]);
        add(&[record(&[0], 20, 2048, FOLDER, &[]), record(&[1], 19, 2048, FOLDER, &[]), file]);
        sectors.extend(content);
        sectors
    }

    #[test]
    fn files_are_found_by_their_real_names() {
        for joliet in [false, true] {
            let image = volume(joliet, b"#cloud-config\n");
            let iso = Iso::open(image.as_slice()).unwrap().unwrap();
            assert_eq!(iso.labels[0], "cidata");
            let read = |path: &str| iso.read(image.as_slice(), path, 100).unwrap();
            assert_eq!(read("folder/user-data").unwrap(), b"#cloud-config\n");
            for missing in
                ["user-data", "folder", "folder/user-data/x", "folder/meta-data", "folder/user_dat"]
            {
                assert_eq!(read(missing), None, "{missing}");
            }
            assert!(matches!(
                iso.read(image.as_slice(), "folder/user-data", 13),
                Err(IsoError::TooLarge { .. })
            ));
        }
    }

    #[test]
    fn what_is_no_such_volume_is_none() {
        assert!(Iso::open([0; 40_000].as_slice()).unwrap().is_none());
        assert!(Iso::open(b"".as_slice()).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_nothing(
            joliet: bool,
            damage in prop::collection::vec((32_768_usize..45_000, any::<u8>()), 0..20),
            cut in 30_000_usize..50_000,
        ) {
            let mut image = volume(joliet, b"x");
            for (at, byte) in damage {
                if let Some(place) = image.get_mut(at) {
                    *place = byte;
                }
            }
            image.truncate(cut);
            if let Ok(Some(iso)) = Iso::open(image.as_slice()) {
                let _either = iso.read(image.as_slice(), "folder/user-data", 1000);
            }
        }
    }
}
