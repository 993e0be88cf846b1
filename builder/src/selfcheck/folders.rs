//! The folders of the two builds.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use debian::cache::Cache;

use super::{Conditions, SelfCheckError, io_error};
use crate::folders;

/// What of a checkout no build reads.
const LEFT_OUT: [&str; 2] = ["target", ".git"];
/// What of a cache was fetched: the second build makes the rest anew.
const FETCHED: [&str; 2] = ["by-hash", "releases"];

/// Makes the folders of both builds: the second one's checkout is a copy, its cache has the downloads, its cargo home is another name of
/// the first one's (crates need not be fetched twice; their paths are different all the same).
pub(super) fn prepare(
    first: &Conditions,
    second: &Conditions,
    checkout: &Path,
) -> Result<(), SelfCheckError> {
    for conditions in [first, second] {
        for folder in [&conditions.out, &conditions.home] {
            fs::create_dir_all(folder).map_err(io_error("create the folder", folder))?;
        }
    }
    folders::copy(checkout, &second.checkout, &LEFT_OUT, &|from, to| fs::copy(from, to).map(drop))?;
    if let Some(cache) = &second.cache {
        let own = Cache::from_env();
        for name in FETCHED {
            let from = own.root().join(name);
            if from.is_dir() {
                folders::copy(&from, &cache.join(name), &[], &folders::link_or_copy)?;
            }
        }
    }
    if let Some(home) = &second.cargo_home {
        let own = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let own = own.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
        match own.filter(|own| own.is_dir()) {
            Some(own) => symlink(own, home).map_err(io_error("link", home))?,
            None => fs::create_dir_all(home).map_err(io_error("create the folder", home))?,
        }
    }
    Ok(())
}
