//! Whether an image needs to be built anew.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use image_config::recipe::Recipe;

use super::manifest::{Manifest, inputs_digest, manifest_path};
use crate::guest::{self, GuestError};

/// What the guest programs are built from, and what puts them into an image; relative to the checkout.
const SOURCES: [&str; 8] =
    ["boot", "init", "slots", "image-config", "builder/src", "debian/src", "Cargo.toml", "Cargo.lock"];

/// Whether an image is there, of this recipe, and not older than the sources of Ferrite. What Debian's mirrors hold by
/// now does not matter.
///
/// # Errors
/// The sources are not to be found.
pub fn is_current(image: &Path, recipe: &Recipe) -> Result<bool, GuestError> {
    let Ok(built) = fs::metadata(image).and_then(|metadata| metadata.modified()) else { return Ok(false) };
    let manifest = Manifest::load(&manifest_path(image));
    let same_recipe = manifest.is_ok_and(|manifest| manifest.inputs == inputs_digest(recipe));
    Ok(same_recipe && newest_source(&guest::source_folder()?) <= built)
}

/// The latest change of a file in the sources.
fn newest_source(checkout: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut todo: Vec<_> = SOURCES.iter().map(|name| checkout.join(name)).collect();
    while let Some(path) = todo.pop() {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten();
            todo.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
        } else if let Ok(modified) = metadata.modified() {
            newest = newest.max(modified);
        }
    }
    newest
}
