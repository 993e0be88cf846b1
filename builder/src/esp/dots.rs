//! Puts the `.` and `..` entries of fresh folders where the FAT specification wants them.
//!
//! `fatfs` 0.3 writes a long-name entry before each of the two, and lets `..` of a folder in the root of a FAT32 volume
//! point at the root's cluster. The specification (Microsoft, "FAT: General Overview of On-Disk Format" 1.03, pages 25 and
//! 32) asks for the two as the first entries of the folder, without long names, and for cluster 0 in that case;
//! `fsck.vfat` finds fault with anything else.

use fatfs::FatType;

use super::sparse::SparseVolume;

const ENTRY: usize = 32;
const ATTRIBUTES_AT: usize = 11;
const LONG_NAME: u8 = 0x0f;
const FOLDER: u8 = 0x10;
const DELETED: u8 = 0xe5;
/// Where `fatfs` puts the root of a FAT32 volume.
const FAT32_ROOT: [u8; 2] = [2, 0];
const CLUSTER_HIGH_AT: usize = 20;
const CLUSTER_LOW_AT: usize = 26;

/// Repairs all folders of a volume that holds folders only: with files in it, a file's content could look like a
/// folder.
pub fn repair(volume: &mut SparseVolume, fat_type: FatType) {
    for sector in volume.sectors_mut() {
        repair_sector(sector, fat_type);
    }
}

/// Reorders `long-name . long-name ..` at the start of a folder into `. .. deleted deleted`.
fn repair_sector(sector: &mut [u8], fat_type: FatType) {
    let mut entries = sector.chunks_exact_mut(ENTRY);
    let (Some(first), Some(second), Some(third), Some(fourth)) =
        (entries.next(), entries.next(), entries.next(), entries.next())
    else {
        return;
    };
    let is_long = |entry: &[u8]| entry.get(ATTRIBUTES_AT) == Some(&LONG_NAME);
    let is_folder =
        |entry: &[u8], name: &[u8]| entry.starts_with(name) && entry.get(ATTRIBUTES_AT) == Some(&FOLDER);
    let fresh = is_long(first)
        && is_folder(second, b".          ")
        && is_long(third)
        && is_folder(fourth, b"..         ");
    if !fresh {
        return;
    }
    first.copy_from_slice(second);
    second.copy_from_slice(fourth);
    for unused in [third, fourth] {
        unused.fill(0);
        unused.iter_mut().take(1).for_each(|byte| *byte = DELETED);
    }
    // In a FAT16 the root has no cluster, and 2 is a folder like any other.
    if fat_type == FatType::Fat32 {
        clear_root_cluster(second);
    }
}

fn clear_root_cluster(parent: &mut [u8]) {
    let high_is_zero = parent.get(CLUSTER_HIGH_AT..CLUSTER_HIGH_AT + 2) == Some(&[0, 0]);
    if let Some(low) = parent.get_mut(CLUSTER_LOW_AT..CLUSTER_LOW_AT + 2)
        && high_is_zero
        && low == FAT32_ROOT
    {
        low.fill(0);
    }
}
