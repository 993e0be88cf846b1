//! Gives the builder a number that changes with its own code, so that what an older one has made is not taken for current.
//!
//! Nothing of it reaches an image: it only decides whether one is built anew.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What decides about the bytes of an image on the builder's side, relative to this crate.
const CODE: [&str; 8] = [
    "src",
    "../boot/src",
    "../debian/keys",
    "../debian/src",
    "../image-config/src",
    "../slots/src",
    "../keys",
    "../Cargo.lock",
];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut hasher = DefaultHasher::new();
    for path in CODE {
        println!("cargo::rerun-if-changed={path}");
        add(&root, Path::new(path), &mut hasher)?;
    }
    println!("cargo::rustc-env=FERRITE_BUILDER_CODE={:016x}", hasher.finish());
    Ok(())
}

/// Adds the names and contents of a file, or of all files in a folder, in the order of names.
fn add(root: &Path, path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    let full = root.join(path);
    if full.is_dir() {
        let entries = fs::read_dir(&full)?.collect::<io::Result<Vec<_>>>()?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
        names.sort();
        return names.iter().try_for_each(|name| add(root, &path.join(name), hasher));
    }
    path.hash(hasher);
    fs::read(&full)?.hash(hasher);
    Ok(())
}
