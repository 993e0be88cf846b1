//! Where user-data comes from, in the order in which it is looked for. The first source that is there is the one; the others are
//! not looked at. `docs/user-data.md`, "Sources".

pub mod device;
pub mod fat;
pub mod iso9660;
pub mod metadata;
pub mod smbios;
pub mod volume;
pub mod words;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use metadata::Metadata;
use smbios::Smbios;
use volume::{Kind, Volume};
use words::Seed;

/// The largest document that is read from anywhere: far more than configurations have, little enough for a small machine.
pub const LARGEST: u32 = 10 << 20;
/// Files of QEMU's fw_cfg: Ignition's name on CoreOS and Flatcar, and ours for anything.
pub const FW_CFG: [&str; 3] =
    ["opt/com.coreos/config", "opt/org.flatcar-linux/config", "opt/ferrite/user-data"];
const FW_CFG_FOLDER: &str = "sys/firmware/qemu_fw_cfg/by_name";
const SMBIOS_TABLE: &str = "sys/firmware/dmi/tables/DMI";
/// OEM strings that hold user-data as text or in base64, named as systemd names the credentials in such strings.
const OEM_STRINGS: [(&str, bool); 2] = [
    ("io.systemd.credential:ferrite.user-data=", false),
    ("io.systemd.credential.binary:ferrite.user-data=", true),
];
/// Where coreos-install leaves user-data.
pub const INSTALLED: &str = "var/lib/coreos-install/user_data";

/// A source, as people are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of QEMU's fw_cfg.
    FwCfg(&'static str),
    /// An OEM string of SMBIOS.
    OemString,
    /// A URL in this word of the kernel's command line.
    CommandLine(&'static str, String),
    /// A NoCloud volume on this device.
    NoCloud(String),
    /// A config-drive on this device.
    ConfigDrive(String),
    /// A NoCloud seed behind this URL.
    Seed(String),
    /// [`INSTALLED`].
    Installed,
    /// A file in the OEM partition.
    Oem(&'static str),
}

impl Origin {
    /// Its place in the order of sources, the first is 0. Volumes are all one: which of two of them goes is no reason to fall back to what
    /// lies on the machine's own disk.
    pub fn rank(&self) -> u8 {
        match self {
            Self::FwCfg(_) | Self::OemString => 0,
            Self::CommandLine(..) | Self::Seed(_) => 1,
            Self::NoCloud(_) | Self::ConfigDrive(_) => 2,
            Self::Installed => 3,
            Self::Oem(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FwCfg(name) => write!(f, "fw_cfg {name}"),
            Self::OemString => write!(f, "an OEM string of SMBIOS"),
            Self::CommandLine(key, url) => write!(f, "{key}={url} on the kernel command line"),
            Self::NoCloud(device) => write!(f, "the NoCloud volume /dev/{device}"),
            Self::ConfigDrive(device) => write!(f, "the config-drive /dev/{device}"),
            Self::Seed(url) => write!(f, "the NoCloud seed {url}"),
            Self::Installed => write!(f, "/{INSTALLED}"),
            Self::Oem(file) => write!(f, "{file} in the OEM partition"),
        }
    }
}

/// What a source has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Documents {
    /// The user-data itself; empty when the source has metadata alone.
    pub user_data: Vec<u8>,
    /// Who the machine is.
    pub metadata: Metadata,
    /// What is not as it should be, for the log.
    pub problems: Vec<String>,
}

/// What has to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// User-data at a URL.
    Url(String),
    /// The files of NoCloud below a URL.
    Seed(Seed),
}

/// Where the documents are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Here.
    Here(Box<Documents>),
    /// On the network.
    There(Remote),
}

/// A source that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub origin: Origin,
    /// What it has.
    pub content: Content,
}

impl Found {
    fn here(origin: Origin, user_data: Vec<u8>) -> Self {
        Self::with(origin, Documents { user_data, ..Documents::default() })
    }

    fn with(origin: Origin, documents: Documents) -> Self {
        Self { origin, content: Content::Here(Box::new(documents)) }
    }
}

/// Looks for the sources that need no disk: fw_cfg, SMBIOS, the kernel's command line. `root` is `/` but in tests.
pub fn of_firmware(root: &Path, problems: &mut Vec<String>) -> Option<Found> {
    for name in FW_CFG {
        let path = root.join(FW_CFG_FOLDER).join(name).join("raw");
        match fs::read(&path) {
            Ok(bytes) => return Some(Found::here(Origin::FwCfg(name), bytes)),
            Err(error) if is_absence(&error) => {}
            Err(error) => problems.push(format!("fw_cfg {name}: {error}")),
        }
    }
    let smbios = fs::read(root.join(SMBIOS_TABLE)).map(|table| Smbios::parse(&table)).unwrap_or_default();
    for text in &smbios.oem_strings {
        let Some((value, encoded)) =
            OEM_STRINGS.iter().find_map(|(prefix, encoded)| Some((text.strip_prefix(prefix)?, *encoded)))
        else {
            continue;
        };
        let bytes = if encoded { BASE64_STANDARD.decode(value.trim()) } else { Ok(value.into()) };
        match bytes {
            Ok(bytes) => return Some(Found::here(Origin::OemString, bytes)),
            Err(error) => problems.push(format!("the OEM string with user-data is not base64: {error}")),
        }
    }
    of_words(root, smbios.serial.as_deref(), problems)
}

/// URLs on the kernel's command line, and NoCloud seeds there and in the serial number.
fn of_words(root: &Path, serial: Option<&str>, problems: &mut Vec<String>) -> Option<Found> {
    let line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    if let Some(address) = words::url_of(&line) {
        if words::is_web(&address.url) {
            let origin = Origin::CommandLine(address.key, address.url.clone());
            return Some(Found { origin, content: Content::There(Remote::Url(address.url)) });
        }
        problems.push(format!("{}={}: only http and https are fetched", address.key, address.url));
    }
    let seed = words::seed_of(&line).or_else(|| serial.and_then(words::parse_seed))?;
    let base = seed.base.clone()?;
    if !words::is_web(&base) {
        problems.push(format!("the NoCloud seed {base}: only http and https are fetched"));
        return None;
    }
    Some(Found { origin: Origin::Seed(base), content: Content::There(Remote::Seed(seed)) })
}

/// Looks for volumes among these devices.
pub fn of_volumes(root: &Path, devices: &[String], problems: &mut Vec<String>) -> Option<Found> {
    let volume = volume::find(root, devices, problems).into_iter().next()?;
    Some(of_volume(volume))
}

fn of_volume(volume: Volume) -> Found {
    let [user_data, metadata, third] = volume.files;
    let mut documents = Documents { user_data: user_data.unwrap_or_default(), ..Documents::default() };
    let metadata = metadata.unwrap_or_default();
    let read = match volume.kind {
        Kind::NoCloud => Metadata::of_nocloud(&metadata),
        Kind::ConfigDrive if metadata.is_empty() => Ok(Metadata::default()),
        Kind::ConfigDrive => Metadata::of_openstack(&metadata),
    };
    match read {
        Ok(metadata) => documents.metadata = metadata,
        Err(problem) => documents.problems.push(problem),
    }
    match (volume.kind, third) {
        (Kind::NoCloud, Some(_)) => documents.problems.push("vendor-data is not used".to_owned()),
        (Kind::ConfigDrive, Some(ec2)) => documents.metadata.add_ec2(&ec2),
        (_, None) => {}
    }
    let origin = match volume.kind {
        Kind::NoCloud => Origin::NoCloud(volume.device),
        Kind::ConfigDrive => Origin::ConfigDrive(volume.device),
    };
    Found::with(origin, documents)
}

/// Looks for files that were left on the machine's own disk; `oem` is the OEM partition's device.
pub fn of_disk(root: &Path, oem: Option<PathBuf>, problems: &mut Vec<String>) -> Option<Found> {
    match fs::read(root.join(INSTALLED)) {
        Ok(bytes) => return Some(Found::here(Origin::Installed, bytes)),
        Err(error) if is_absence(&error) => {}
        Err(error) => problems.push(format!("/{INSTALLED}: {error}")),
    }
    let node = oem?;
    match volume::oem(&node) {
        Ok(found) => found.map(|(name, bytes)| Found::here(Origin::Oem(name), bytes)),
        Err(error) => {
            problems.push(format!("the OEM partition {}: {error}", node.display()));
            None
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
