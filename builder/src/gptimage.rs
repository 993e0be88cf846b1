//! Creates the raw image file: right size, sparse, protective MBR and both copies of the partition table.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use gpt::disk::LogicalBlockSize;
use gpt::mbr::{MBRError, ProtectiveMBR};
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, GptError};
use uuid::Uuid;

use crate::disk::{BLOCK_BYTES, DiskLayout};

/// Why the table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file could not be created or resized.
    #[error("cannot create the image file {}", path.display())]
    Create {
        /// The image file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The protective MBR could not be written.
    #[error("cannot write the protective MBR of {}", path.display())]
    Mbr {
        /// The image file.
        path: PathBuf,
        /// What the `gpt` crate said.
        source: MBRError,
    },
    /// The table could not be written.
    #[error("cannot write the partition table of {}", path.display())]
    Table {
        /// The image file.
        path: PathBuf,
        /// What the `gpt` crate said.
        source: GptError,
    },
}

/// Creates `path` (replacing what is there) as an empty disk with the table of `layout`; the partitions read as zeroes
/// and take no room.
///
/// # Errors
/// The file cannot be created or written.
pub fn create(path: &Path, layout: &DiskLayout) -> Result<File, TableError> {
    let create = |source| TableError::Create { path: path.to_owned(), source };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(create)?;
    file.set_len(layout.bytes).map_err(create)?;
    // The MBR counts in 32 bits; `DiskLayout` keeps the disk within them.
    let blocks_after_mbr = u32::try_from(layout.bytes / BLOCK_BYTES - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(blocks_after_mbr)
        .overwrite_lba0(&mut file)
        .map_err(|source| TableError::Mbr { path: path.to_owned(), source })?;
    write_table(&mut file, layout).map_err(|source| TableError::Table { path: path.to_owned(), source })?;
    Ok(file)
}

fn write_table(file: &mut File, layout: &DiskLayout) -> Result<(), GptError> {
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(file, Some(to_uuid(layout.guid)))?;
    // `add_partition_at` would not check the end of the region and would draw random GUIDs: the layout is ours.
    disk.update_partitions(entries(layout))?;
    disk.write()?;
    Ok(())
}

fn entries(layout: &DiskLayout) -> BTreeMap<u32, gpt::partition::Partition> {
    let entry = |partition: &crate::disk::Partition| gpt::partition::Partition {
        part_type_guid: Type { guid: to_uuid(partition.role.type_guid()), os: OperatingSystem::None },
        part_guid: to_uuid(partition.guid),
        first_lba: partition.offset / BLOCK_BYTES,
        last_lba: (partition.offset + partition.bytes) / BLOCK_BYTES - 1,
        flags: partition.role.flags().to_attributes(),
        name: partition.role.label().to_owned(),
    };
    (1..).zip(layout.partitions.iter().map(entry)).collect()
}

fn to_uuid(guid: slots::Guid) -> Uuid {
    Uuid::from_bytes_le(guid.to_disk())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskSpec, Role};
    use std::os::unix::fs::MetadataExt;

    fn image() -> (tempfile::TempDir, PathBuf, DiskLayout) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let layout = DiskLayout::plan(&DiskSpec::new("ferrite")).unwrap();
        create(&path, &layout).unwrap();
        (folder, path, layout)
    }

    #[test]
    fn the_table_reads_back_with_both_copies_valid() {
        let (_folder, path, layout) = image();
        let disk = GptConfig::new().only_valid_headers(true).open(&path).unwrap();
        assert_eq!(disk.guid().to_string(), layout.guid.to_string());
        let usr_a = disk.partitions().get(&2).unwrap();
        assert_eq!((usr_a.name.as_str(), usr_a.flags), ("USR-A", 0x0172_0000_0000_0000));
        assert_eq!(usr_a.first_lba * 512, layout.partition(Role::UsrA).offset);
        assert_eq!(disk.partitions().get(&3).unwrap().flags, 0);
        assert_eq!(disk.partitions().values().filter(|p| p.is_used()).count(), 4);
    }

    #[test]
    fn the_file_is_sparse_and_of_the_exact_size() {
        let (_folder, path, layout) = image();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), layout.bytes);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn the_mbr_covers_the_whole_disk() {
        let (_folder, path, layout) = image();
        let mut file = File::open(&path).unwrap();
        let mbr = ProtectiveMBR::from_disk(&mut file, LogicalBlockSize::Lb512).unwrap();
        let record = mbr.partition(0).unwrap();
        assert_eq!((record.os_type, record.lb_start), (0xee, 1));
        assert_eq!(u64::from(record.lb_size) + 1, layout.bytes / 512);
    }
}
