//! What the last build of an image was made of, so that the next one can see that there is nothing to do.
//!
//! The record lies beside the image as `.NAME-VERSION-ARCHITECTURE.build.json`. It is for this machine alone: it knows files by size
//! and time, as `make` does, and nobody needs it to use an image.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use debian::temporary::Temporary;
use image_config::recipe::{Recipe, SigningKey};
use serde::{Deserialize, Serialize};

use super::{Built, inputs_digest, source_date_epoch};
use crate::guest::{GuestError, Sources};
use crate::packages::{self, Supply};
use crate::parts::Key;
use crate::signing::hex;
use crate::trees;

/// The record of one image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// [`inputs`] of the build, in hexadecimal.
    inputs: String,
    /// Digest of the packages, in hexadecimal.
    closure: String,
    /// Digest of the packages that were planned, some of which may have been nowhere any more.
    planned: String,
    outputs: Vec<Output>,
    /// What the build said of itself.
    pub built: Built,
}

/// A file as it was when the build ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Output {
    name: String,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: i128,
}

impl Output {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: metadata.len(),
            modified: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        })
    }
}

/// Where the record of an image with this stem is.
fn path(out: &Path, stem: &str) -> PathBuf {
    out.join(format!(".{stem}.build.json"))
}

impl Record {
    /// The record of an image, if there is one and all its files are as the build left them.
    pub fn load(out: &Path, stem: &str) -> Option<Self> {
        let record: Self = serde_json::from_slice(&fs::read(path(out, stem)).ok()?).ok()?;
        let intact =
            |output: &Output| Output::of(&out.join(&output.name)).is_ok_and(|found| found == *output);
        record.outputs.iter().all(intact).then_some(record)
    }

    /// Whether the build had these inputs.
    pub fn has_inputs(&self, inputs: &[u8; 32]) -> bool {
        self.inputs == hex(inputs)
    }

    /// Whether the build had these packages.
    pub fn has_closure(&self, closure: &[u8; 32]) -> bool {
        self.closure == hex(closure)
    }

    /// Records a build.
    ///
    /// # Errors
    /// A file is not there, or the record cannot be written.
    pub fn store(
        out: &Path,
        stem: &str,
        inputs: &[u8; 32],
        supply: &Supply,
        built: &Built,
    ) -> io::Result<()> {
        let record = Self {
            inputs: hex(inputs),
            closure: hex(&supply.digest.0),
            planned: hex(&supply.planned.0),
            outputs: Vec::new(),
            built: built.clone(),
        };
        record.store_files(out, stem)
    }

    /// Records the same build with more files.
    ///
    /// # Errors
    /// A file is not there, or the record cannot be written.
    pub fn store_again(&self, out: &Path, stem: &str, built: &Built) -> io::Result<()> {
        Self { built: built.clone(), ..self.clone() }.store_files(out, stem)
    }

    fn store_files(mut self, out: &Path, stem: &str) -> io::Result<()> {
        let images = self.built.images.iter().map(|image| &image.path);
        let files = images.chain([&self.built.slot, &self.built.manifest, &self.built.sbom]);
        self.outputs = files.map(|path| Output::of(path)).collect::<io::Result<_>>()?;
        let temporary = Temporary::new(out.join(format!(".{stem}.build.json.{}", std::process::id())));
        fs::write(temporary.path(), serde_json::to_vec(&self)?)?;
        temporary.publish(&path(out, stem))
    }

    /// Forgets a build: its files are about to be replaced.
    pub fn forget(out: &Path, stem: &str) {
        // A record that stays does no harm: it knows its files by size and time.
        let _ = fs::remove_file(path(out, stem));
    }
}

/// Digest of everything but the packages that decides about an image: recipe and the files and trees that it names, keys, Ferrite's programs and
/// units, the builder's own code, `SOURCE_DATE_EPOCH`.
///
/// # Errors
/// The sources cannot be read.
pub(super) fn inputs(recipe: &Recipe, sources: &Sources) -> Result<[u8; 32], GuestError> {
    let mut key = Key::new("image 1").with(env!("FERRITE_BUILDER_CODE").as_bytes());
    key.add(inputs_digest(recipe).as_bytes());
    key.add(&trees::signature(recipe));
    key.add(&sources.digest);
    key.add(&sources.units_digest()?);
    key.add(format!("{:?}", source_date_epoch()).as_bytes());
    let signing = match &recipe.keys.signing {
        SigningKey::Development => None,
        SigningKey::File(path) => Some(path),
    };
    let keys = recipe.keys.trusted.iter().chain(&recipe.keys.channel);
    for path in signing.into_iter().chain(keys).chain(&recipe.user_data) {
        // One that cannot be read fails the build with a message of its own.
        key.add(&fs::read(recipe.folder.join(path)).unwrap_or_default());
    }
    Ok(key.digest())
}

/// Whether an image is there and is what a build would make of this recipe, its lock file and the sources of Ferrite. What Debian's
/// mirrors hold by now does not matter.
///
/// # Errors
/// The sources are not to be found.
pub fn is_current(image: &Path, recipe: &Recipe, recipe_file: &Path) -> Result<bool, GuestError> {
    let out = image.parent().unwrap_or(Path::new("."));
    let Some(record) = Record::load(out, &recipe.file_stem()) else { return Ok(false) };
    let locked = packages::locked_digest(recipe, recipe_file);
    if locked.is_some_and(|locked| record.planned != hex(&locked.0)) {
        return Ok(false);
    }
    Ok(image.exists() && record.has_inputs(&inputs(recipe, &Sources::find()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_changes_is_another_input() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("overlay")).unwrap();
        fs::write(folder.path().join("overlay/x"), "1").unwrap();
        let recipe = trees::tests::recipe(folder.path(), "  - source: overlay\n");
        let sources = Sources::find().unwrap();
        let before = inputs(&recipe, &sources).unwrap();
        assert_eq!(inputs(&recipe, &sources).unwrap(), before);
        fs::write(folder.path().join("overlay/x"), "2").unwrap();
        assert_ne!(inputs(&recipe, &sources).unwrap(), before);
    }
}
