//! FAT volumes: the ESP with the loader, and the OEM partition. The bytes depend on the content alone.

mod dots;
pub mod loader;
mod sparse;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};

pub use sparse::SparseVolume;

/// Where firmware looks for a loader on a disk that it has no boot entry for (UEFI 2.10, 3.5.1.1).
pub const LOADER_PATH: &str = "EFI/BOOT/BOOTX64.EFI";

const SECTOR: u64 = 512;
/// Below this many clusters firmware and Linux take a volume for FAT16.
const LEAST_FAT32_CLUSTERS: u64 = 65_525;
/// Above this a FAT16 would be taken for FAT32.
const MOST_FAT16_CLUSTERS: u64 = 65_524;

/// Content of a FAT volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FatSpec {
    /// Size in bytes, a multiple of 512.
    pub bytes: u64,
    /// Volume label: at most 11 upper-case ASCII characters.
    pub label: &'static str,
    /// Volume serial number.
    pub volume_id: u32,
    /// Files by path, `/` between folders; folders come into being with their files.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Why a FAT volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The label does not fit the format.
    #[error("volume label {label:?} is not 1 to 11 ASCII characters")]
    Label {
        /// The refused label.
        label: &'static str,
    },
    /// A step of formatting failed.
    #[error("cannot format the {label} volume of {bytes} bytes")]
    Format {
        /// Its label.
        label: &'static str,
        /// Its size.
        bytes: u64,
        /// What `fatfs` said.
        source: io::Error,
    },
    /// The file does not fit, or its name is not allowed.
    #[error("cannot write {path} into the {label} volume of {volume_bytes} bytes")]
    File {
        /// Path in the volume.
        path: String,
        /// Label of the volume.
        label: &'static str,
        /// Size of the volume.
        volume_bytes: u64,
        /// What `fatfs` said.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read {path} from a FAT volume")]
    Read {
        /// Path in the volume.
        path: String,
        /// What `fatfs` said.
        source: io::Error,
    },
}

/// The first day of FAT's calendar, so that no file shows when it was built.
#[derive(Debug)]
struct FixedTime;

static FIXED_TIME: FixedTime = FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// Formats a volume and writes its files, in the order of their paths.
///
/// FAT32 with 512-byte clusters where that gives at least 65,525 clusters (firmware tells the types apart by that
/// number), else FAT16.
///
/// # Errors
/// The label is not allowed, the size has no FAT layout, or a file does not fit.
pub fn fat_volume(spec: &FatSpec) -> Result<SparseVolume, FatError> {
    let mut volume = SparseVolume::new(spec.bytes);
    let format = |source| FatError::Format { label: spec.label, bytes: spec.bytes, source };
    fatfs::format_volume(&mut volume, format_options(spec)?).map_err(format)?;
    // Folders first, and nothing else: `dots::repair` must not meet file contents.
    fill(spec, &mut volume, create_folders)?;
    dots::repair(&mut volume, shape(spec.bytes).0);
    fill(spec, &mut volume, write_file)?;
    volume.rewind().map_err(format)?;
    Ok(volume)
}

/// Does `step` for every file of `spec` on the mounted volume.
fn fill(
    spec: &FatSpec,
    volume: &mut SparseVolume,
    step: fn(&FileSystem<&mut SparseVolume>, &str, &[u8]) -> io::Result<()>,
) -> Result<(), FatError> {
    let format = |source| FatError::Format { label: spec.label, bytes: spec.bytes, source };
    // `fatfs` asserts that it starts at the first byte.
    volume.rewind().map_err(format)?;
    let options = FsOptions::new().update_accessed_date(false).time_provider(&FIXED_TIME);
    let filesystem = FileSystem::new(volume, options).map_err(format)?;
    for (path, content) in &spec.files {
        step(&filesystem, path, content).map_err(|source| FatError::File {
            path: path.clone(),
            label: spec.label,
            volume_bytes: spec.bytes,
            source,
        })?;
    }
    // Counting the free clusters makes unmounting record their number; without it fsck.vfat complains.
    filesystem.stats().map_err(format)?;
    filesystem.unmount().map_err(format)
}

/// Reads one file out of a FAT volume; `None` when it is not there. At most `limit` bytes are read.
///
/// # Errors
/// The volume is not a FAT file system, or it is damaged.
pub fn read_file<V>(mut volume: V, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FatError>
where
    V: io::Read + io::Write + io::Seek,
{
    let fail = |source| FatError::Read { path: path.to_owned(), source };
    // `fatfs` asserts that it starts at the first byte.
    volume.rewind().map_err(fail)?;
    let options = FsOptions::new().update_accessed_date(false).time_provider(&FIXED_TIME);
    let filesystem = FileSystem::new(volume, options).map_err(fail)?;
    let mut content = Vec::new();
    let opened = filesystem.root_dir().open_file(path);
    match opened {
        Ok(file) => file.take(limit).read_to_end(&mut content).map_err(fail)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    Ok(Some(content))
}

fn format_options(spec: &FatSpec) -> Result<FormatVolumeOptions, FatError> {
    let plain = spec.label.is_ascii() && !spec.label.is_empty();
    let mut label = [b' '; 11];
    match label.get_mut(..spec.label.len()) {
        Some(target) if plain => target.copy_from_slice(spec.label.as_bytes()),
        _ => return Err(FatError::Label { label: spec.label }),
    }
    let (fat_type, cluster_bytes) = shape(spec.bytes);
    Ok(FormatVolumeOptions::new()
        .fat_type(fat_type)
        .bytes_per_cluster(cluster_bytes)
        .volume_id(spec.volume_id)
        .volume_label(label))
}

/// FAT type and bytes per cluster for a volume of so many bytes.
fn shape(bytes: u64) -> (FatType, u32) {
    // Each cluster of 512 bytes costs 8 more in the two tables; 32 blocks are reserved.
    let fat32_clusters = (bytes / SECTOR).saturating_sub(32) * SECTOR / (SECTOR + 8);
    if fat32_clusters >= LEAST_FAT32_CLUSTERS {
        return (FatType::Fat32, 512);
    }
    let cluster = [512, 1024].into_iter().find(|cluster| bytes / u64::from(*cluster) <= MOST_FAT16_CLUSTERS);
    (FatType::Fat16, cluster.unwrap_or(2048))
}

fn create_folders(filesystem: &FileSystem<&mut SparseVolume>, path: &str, _content: &[u8]) -> io::Result<()> {
    let Some((folders, _)) = path.rsplit_once('/') else { return Ok(()) };
    let mut folder = filesystem.root_dir();
    for name in folders.split('/') {
        // Opens the folder when it exists already.
        folder = folder.create_dir(name)?;
    }
    Ok(())
}

fn write_file(filesystem: &FileSystem<&mut SparseVolume>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut file = filesystem.root_dir().create_file(path)?;
    file.truncate()?;
    file.write_all(content)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn esp() -> FatSpec {
        FatSpec {
            bytes: 64 * MIB,
            label: "EFI-SYSTEM",
            volume_id: 0x1234_abcd,
            files: BTreeMap::from([(LOADER_PATH.to_owned(), b"MZ loader".repeat(5000))]),
        }
    }

    fn bytes(mut volume: SparseVolume) -> Vec<u8> {
        let mut all = Vec::new();
        volume.rewind().unwrap();
        volume.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn files_read_back_as_written() {
        let spec = esp();
        let mut volume = fat_volume(&spec).unwrap();
        let content = read_file(&mut volume, LOADER_PATH, 1 << 20).unwrap();
        assert_eq!(content.as_deref(), spec.files.get(LOADER_PATH).map(Vec::as_slice));
        assert_eq!(read_file(&mut volume, "EFI/BOOT/OTHER.EFI", 10).unwrap(), None);
        assert_eq!(read_file(&mut volume, LOADER_PATH, 3).unwrap().unwrap(), b"MZ ");
    }

    #[test]
    fn the_esp_is_fat32_with_512_byte_clusters() {
        let all = bytes(fat_volume(&esp()).unwrap());
        assert_eq!(all[13], 1, "sectors per cluster");
        assert_eq!(&all[82..90], b"FAT32   ");
        let mut cursor = io::Cursor::new(all);
        let filesystem = FileSystem::new(&mut cursor, FsOptions::new()).unwrap();
        assert!(u64::from(filesystem.stats().unwrap().total_clusters()) >= LEAST_FAT32_CLUSTERS);
        assert_eq!(filesystem.volume_id(), 0x1234_abcd);
    }

    #[test]
    fn the_least_esp_of_a_layout_is_still_fat32() {
        let spec = FatSpec { bytes: crate::disk::LEAST_ESP_BYTES, ..esp() };
        let mut volume = fat_volume(&spec).unwrap();
        let filesystem = FileSystem::new(&mut volume, FsOptions::new()).unwrap();
        assert_eq!(filesystem.fat_type(), FatType::Fat32);
        assert!(u64::from(filesystem.stats().unwrap().total_clusters()) >= LEAST_FAT32_CLUSTERS);
    }

    #[test]
    fn small_volumes_are_fat16_of_a_size_that_stays_fat16() {
        for mib in [4, 8, 16, 32] {
            let spec = FatSpec { bytes: mib * MIB, label: "OEM", volume_id: 1, files: BTreeMap::new() };
            let mut volume = fat_volume(&spec).unwrap();
            let filesystem = FileSystem::new(&mut volume, FsOptions::new()).unwrap();
            assert_eq!(filesystem.fat_type(), FatType::Fat16, "{mib} MiB");
        }
    }

    #[test]
    fn folders_start_with_their_dot_entries_and_nothing_before_them() {
        let all = bytes(fat_volume(&esp()).unwrap());
        let dots: Vec<_> =
            (0..all.len() / 512).filter(|n| all[n * 512..].starts_with(b".          \x10")).collect();
        assert_eq!(dots.len(), 2, "EFI and EFI/BOOT");
        let parent_cluster =
            |sector: usize| u16::from_le_bytes([all[sector * 512 + 58], all[sector * 512 + 59]]);
        assert!(dots.iter().all(|n| all[n * 512 + 32..].starts_with(b"..         \x10")));
        // The parent of EFI is the root, which is written as 0; the parent of BOOT is EFI.
        assert_eq!(dots.iter().map(|n| parent_cluster(*n)).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn a_folder_in_a_folder_of_a_fat16_keeps_its_parent() {
        let files = BTreeMap::from([("a/b/c".to_owned(), vec![1])]);
        let all = bytes(fat_volume(&FatSpec { bytes: 16 * MIB, label: "OEM", volume_id: 1, files }).unwrap());
        let dots = all.chunks(512).filter(|sector| sector.starts_with(b".          \x10"));
        assert_eq!(dots.map(|sector| sector[58]).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn equal_content_gives_equal_bytes() {
        assert!(bytes(fat_volume(&esp()).unwrap()) == bytes(fat_volume(&esp()).unwrap()));
    }

    #[test]
    fn a_file_that_does_not_fit_is_named() {
        let spec = FatSpec {
            bytes: 4 * MIB,
            label: "OEM",
            volume_id: 1,
            files: BTreeMap::from([("big".to_owned(), vec![1; 5 << 20])]),
        };
        let error = fat_volume(&spec).unwrap_err().to_string();
        assert_eq!(error, "cannot write big into the OEM volume of 4194304 bytes");
    }
}
