//! What an image was made of: `manifest.json` beside it.

mod collect;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image_config::recipe::{FileSource, Recipe};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(super) use self::collect::{Sources, collect, source_packages};
use crate::signing::hex;

/// Version of the manifest's form; raised when a reader of the old form would misunderstand the new one.
pub const SCHEMA: u32 = 2;

/// The manifest of an image. Depends on the inputs alone: no path, no time of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The recipe's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// `x86_64`.
    pub architecture: String,
    /// Unix seconds: time of the youngest packaged file, or `SOURCE_DATE_EPOCH`.
    pub build_time: u64,
    /// SHA-256 of the recipe and the files that it takes from its folder; its trees do not count.
    pub inputs: String,
    /// The release of the kernel.
    pub kernel: String,
    /// Root hash of the dm-verity tree.
    pub root_hash: String,
    /// Id of the key that signed.
    pub key_id: String,
    /// Bytes of the slot image.
    pub slot_bytes: u64,
    /// The parts of the slot in their order: `usr`, `verity`, `kernel`, `initramfs`, `command_line`.
    pub parts: Vec<ManifestPart>,
    /// The packages, in the order of their names.
    pub packages: Vec<ManifestPackage>,
    /// Everything in `/usr`, in the order of paths.
    pub files: Vec<ManifestFile>,
}

/// A part of the slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    /// `usr`, `verity`, `kernel`, `initramfs` or `command_line`.
    pub name: String,
    /// Where it begins in the slot, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Of its content.
    pub sha256: String,
}

/// A package of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The source package that it was built from.
    pub source: String,
    /// Version of the source package.
    pub source_version: String,
    /// SHA-256 of the `.deb`.
    pub sha256: String,
    /// Bytes of the `.deb`.
    pub bytes: u64,
    /// Bytes of its regular files in the image; a file with several names counts once.
    pub installed_bytes: u64,
    /// Licences by SPDX identifier where there is one, else `LicenseRef-` and Debian's name for it; never empty.
    pub licences: Vec<String>,
    /// Whether the recipe asks for it by name.
    pub requested: bool,
    /// Names of the image's packages that its dependencies are satisfied by, in the order of names.
    pub depends: Vec<String>,
}

/// A file, folder, link or device of `/usr`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Absolute path in the running system's `/usr`, as [`crate::tree::display`] shows it.
    pub path: String,
    /// The path's bytes in hexadecimal, when `path` alone would not give them (names that are not UTF-8 or have control characters).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// `file`, `directory`, `symlink`, `hardlink`, `character-device`, `block-device`, `fifo` or `socket`. The first name of a file with
    /// several, in the order of paths, is the `file`, the others are `hardlink`s.
    pub kind: String,
    /// Name of the package that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Who else did: `ferrite`, `recipe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Permission bits in octal, four digits.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes; of files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of the content; of files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where its first byte is in the slot; of files with content only. A file whose tail lies beside its inode has its first whole
    /// block here, or the tail when that is all; a sparse file has its first block with data. Equal files have one place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Target of a symbolic link, or the first name of a hard link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The target's bytes in hexadecimal, when `target` alone would not give them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_hex: Option<String>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The file cannot be read or is no manifest.
    pub fn load(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
    }
}

/// Path of the manifest of an image.
pub fn manifest_path(image: &Path) -> PathBuf {
    image.with_extension("manifest.json")
}

/// SHA-256, in hexadecimal, of what the recipe says and of the files that it takes from this machine, but not of its trees, which are too
/// much to read for a question about an image. A file that cannot be read counts as absent here; the build refuses it.
pub fn inputs_digest(recipe: &Recipe) -> String {
    // The folder is where the recipe lies on this machine, not what the image is made of.
    let said = Recipe { folder: PathBuf::new(), ..recipe.clone() };
    let mut hasher = Sha256::new();
    hasher.update(format!("{said:?}"));
    for file in &recipe.files {
        if let FileSource::Host(path) = &file.source {
            let bytes = fs::read(recipe.folder.join(path)).unwrap_or_default();
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    hex(&hasher.finalize())
}
