//! Volumes that carry user-data: NoCloud's `cidata` and OpenStack's `config-2`, on ISO 9660 or FAT; and the OEM partition.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::iso9660::{Iso, IsoError};
use super::{LARGEST, fat};

/// What a volume is for, by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `cidata`: `user-data`, `meta-data`, `vendor-data`.
    NoCloud,
    /// `config-2`: `openstack/latest/user_data`, `meta_data.json`.
    ConfigDrive,
}

impl Kind {
    /// Labels are compared without regard to case: FAT has capitals only.
    fn of(label: &str) -> Option<Self> {
        match label.to_ascii_lowercase().as_str() {
            "cidata" => Some(Self::NoCloud),
            "config-2" => Some(Self::ConfigDrive),
            _ => None,
        }
    }

    /// Its files: user-data, metadata, and what else is looked at.
    fn paths(self) -> [&'static str; 3] {
        match self {
            Self::NoCloud => ["user-data", "meta-data", "vendor-data"],
            Self::ConfigDrive => {
                ["openstack/latest/user_data", "openstack/latest/meta_data.json", "ec2/latest/meta-data.json"]
            }
        }
    }
}

/// A volume and its files, in the order user-data, metadata, the third.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What it is for.
    pub kind: Kind,
    /// Its device, without `/dev/`.
    pub device: String,
    /// The files.
    pub files: [Option<Vec<u8>>; 3],
}

/// Devices of the kernel's own making, which nobody hands in.
const NOT_LOOKED_AT: [&str; 5] = ["dm-", "loop", "ram", "zram", "md"];

/// Names of the block devices that are there, whole disks and partitions, in the order of names.
pub fn devices(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("sys/class/block")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !NOT_LOOKED_AT.iter().any(|prefix| name.starts_with(prefix)));
    names.sort_unstable();
    names
}

/// The volumes among these devices, NoCloud's first. What cannot be read is a line in `problems`.
pub fn find(root: &Path, devices: &[String], problems: &mut Vec<String>) -> Vec<Volume> {
    let mut found = Vec::new();
    for device in devices {
        match open(&root.join("dev").join(device), device) {
            Ok(volume) => found.extend(volume),
            Err(problem) => problems.push(format!("/dev/{device}: {problem}")),
        }
    }
    found.sort_by_key(|volume| volume.kind == Kind::ConfigDrive);
    found
}

/// Reads a device if it is one of ours.
fn open(path: &Path, device: &str) -> Result<Option<Volume>, String> {
    // A drive without a disk in it, a device that went away: nothing is there.
    let Ok(file) = File::open(path) else { return Ok(None) };
    let describe = |error: &dyn std::error::Error| init::early::console::chain(error);
    if let Some(kind) = fat::label(&file).as_deref().and_then(Kind::of) {
        let files = fat::read(file, &kind.paths(), LARGEST).map_err(|error| describe(&error))?;
        let files = files.try_into().map_err(|_| "a file is missing".to_owned())?;
        return Ok(Some(Volume { kind, device: device.to_owned(), files }));
    }
    let Some(iso) = Iso::open(&file).map_err(|error| describe(&error))? else { return Ok(None) };
    let Some(kind) = iso.labels.iter().find_map(|label| Kind::of(label)) else { return Ok(None) };
    let read = |path: &str| iso.read(&file, path, LARGEST);
    let [user_data, metadata, third] = kind.paths();
    let files: Result<_, IsoError> =
        read(user_data).and_then(|user_data| Ok([user_data, read(metadata)?, read(third)?]));
    let files = files.map_err(|error| describe(&error))?;
    Ok(Some(Volume { kind, device: device.to_owned(), files }))
}

/// Files of the OEM partition that are user-data, the first one counts: CoreOS's name, and that of Ignition on Flatcar.
pub const OEM_FILES: [&str; 3] = ["cloud-config.yml", "config.ign", "user-data"];

/// The user-data in a FAT partition: which file, and its bytes.
///
/// # Errors
/// The partition cannot be read.
pub fn oem(node: &Path) -> io::Result<Option<(&'static str, Vec<u8>)>> {
    let file = File::open(node)?;
    let files = fat::read(file, &OEM_FILES, LARGEST)?;
    Ok(OEM_FILES.into_iter().zip(files).find_map(|(name, file)| Some((name, file?))))
}

/// The device of the OEM partition: the one of that name on the disk that was booted.
pub fn oem_node() -> Option<PathBuf> {
    let disk = fs::read_to_string(init::early::DISK_NAME).ok()?;
    let mut disk = init::early::disk::Disk::open(disk.trim()).ok()?;
    let (_, table) = disk.load().ok()?;
    let (index, _) = table.find_name("OEM")?;
    init::early::disk::partition_node(disk.name(), u32::try_from(index + 1).ok()?).ok()
}
