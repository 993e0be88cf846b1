//! What decides about the bytes of the guest programs.

use std::fs;
use std::path::{Path, PathBuf};

use super::{GuestError, cargo, source_folder};
use crate::parts::Key;

/// The crates that guest programs are made of.
const CRATES: [&str; 8] =
    ["boot", "init", "user-data", "slots", "image-config", "kv", "update-engine", "scheduler"];
/// What cargo reads of a crate when it builds it.
const OF_A_CRATE: [&str; 3] = ["Cargo.toml", "build.rs", "src"];
/// What cargo reads of the workspace.
const OF_THE_WORKSPACE: [&str; 4] = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "rust-toolchain.toml"];

/// A checkout of Ferrite and what the guest programs in it come to.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The checkout.
    pub folder: PathBuf,
    /// SHA-256 over every file that cargo reads for the guest programs, the flags that they are built with, and the compiler's
    /// version. Folders of this machine are not part of it.
    pub digest: [u8; 32],
}

impl Sources {
    /// Reads the sources of [`source_folder`].
    ///
    /// # Errors
    /// They are not there, cannot be read, or there is no compiler.
    pub fn find() -> Result<Self, GuestError> {
        Self::read(&source_folder()?)
    }

    /// Reads the sources of a checkout.
    ///
    /// # Errors
    /// As [`Sources::find`].
    pub fn read(folder: &Path) -> Result<Self, GuestError> {
        let mut key = Key::new("guest sources");
        for part in OF_THE_WORKSPACE {
            add(folder, Path::new(part), &mut key)?;
        }
        for name in CRATES {
            for part in OF_A_CRATE {
                add(folder, &Path::new(name).join(part), &mut key)?;
            }
        }
        for flag in cargo::INIT.flags.iter().chain(cargo::UPDATE_ENGINE.flags).chain(cargo::LOADER.flags) {
            key.add(flag.as_bytes());
        }
        key.add(cargo::compiler_version(folder)?.as_bytes());
        Ok(Self { folder: folder.to_owned(), digest: key.digest() })
    }
}

/// Ferrite's own units, which every image gets.
const UNITS: &str = "init/units";

impl Sources {
    /// The folder of Ferrite's own units.
    pub fn units(&self) -> PathBuf {
        self.folder.join(UNITS)
    }

    /// SHA-256 over the names and contents of Ferrite's own units.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn units_digest(&self) -> Result<[u8; 32], GuestError> {
        let mut key = Key::new("units");
        add(&self.folder, Path::new(UNITS), &mut key)?;
        Ok(key.digest())
    }
}

/// Adds the names and contents of a file, or of all files in a folder, in the order of names. What does not exist counts as nothing.
fn add(root: &Path, path: &Path, key: &mut Key) -> Result<(), GuestError> {
    let full = root.join(path);
    let unreadable = |source| GuestError::Read { path: full.clone(), source };
    if full.is_dir() {
        let entries =
            fs::read_dir(&full).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unreadable)?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
        names.sort();
        return names.iter().try_for_each(|name| add(root, &path.join(name), key));
    }
    if full.is_file() {
        key.add(path.as_os_str().as_encoded_bytes());
        key.add(&fs::read(&full).map_err(unreadable)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("Cargo.toml", "[workspace]"),
            ("Cargo.lock", ""),
            ("init/src/main.rs", "fn main() {}"),
            ("init/units/a.service", ""),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_digest_follows_the_content_and_not_the_place() {
        let (one, two) = (checkout(), checkout());
        let digest = |folder: &tempfile::TempDir| Sources::read(folder.path()).unwrap().digest;
        let first = digest(&one);
        assert_eq!(first, digest(&two));
        fs::write(two.path().join("init/src/main.rs"), "fn main() { }").unwrap();
        assert_ne!(first, digest(&two));
        // A file that moves is another program.
        fs::rename(one.path().join("init/src/main.rs"), one.path().join("init/src/lib.rs")).unwrap();
        assert_ne!(first, digest(&one));
    }

    #[test]
    fn what_cargo_does_not_read_does_not_count() {
        let folder = checkout();
        let before = Sources::read(folder.path()).unwrap().digest;
        fs::write(folder.path().join("init/units/a.service"), "[Unit]").unwrap();
        fs::write(folder.path().join("README.md"), "read me").unwrap();
        assert_eq!(before, Sources::read(folder.path()).unwrap().digest);
    }
}
