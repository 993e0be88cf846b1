//! What an image was made of: `manifest.json` beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image_config::recipe::{FileSource, Recipe};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::signing::hex;

/// The manifest of an image. Depends on the inputs alone: no path, no time of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The recipe's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// `x86_64`.
    pub architecture: String,
    /// Unix seconds: time of the youngest packaged file, or `SOURCE_DATE_EPOCH`.
    pub build_time: u64,
    /// SHA-256 of the recipe and the files that it takes from its folder.
    pub inputs: String,
    /// The release of the kernel.
    pub kernel: String,
    /// Root hash of the dm-verity tree.
    pub root_hash: String,
    /// Id of the key that signed.
    pub key_id: String,
    /// The packages, in the order of their names.
    pub packages: Vec<ManifestPackage>,
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
    /// SHA-256 of the `.deb`.
    pub sha256: String,
    /// Bytes of the `.deb`.
    pub bytes: u64,
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

/// SHA-256, in hexadecimal, of what the recipe says and of the files that it takes from this machine. A file that cannot be read
/// counts as absent here; the build refuses it.
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
