//! The folders of the two builds.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use debian::cache::Cache;

use super::{Conditions, SelfCheckError, io_error};

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
    copy(checkout, &second.checkout, &LEFT_OUT, &|from, to| fs::copy(from, to).map(drop))?;
    if let Some(cache) = &second.cache {
        let own = Cache::from_env();
        for name in FETCHED {
            let from = own.root().join(name);
            if from.is_dir() {
                copy(&from, &cache.join(name), &[], &link_or_copy)?;
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

/// Copies a folder with all below it, but for entries of the top folder that are called like one of `left_out`.
fn copy(
    from: &Path,
    to: &Path,
    left_out: &[&str],
    file: &dyn Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), SelfCheckError> {
    fs::create_dir_all(to).map_err(io_error("create the folder", to))?;
    for entry in fs::read_dir(from).map_err(io_error("list", from))? {
        let entry = entry.map_err(io_error("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if left_out.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let kind = entry.file_type().map_err(io_error("inspect", &source))?;
        if kind.is_dir() {
            copy(&source, &target, &[], file)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(io_error("read", &source))?;
            symlink(link, &target).map_err(io_error("link", &target))?;
        } else {
            file(&source, &target).map_err(io_error("copy", &source))?;
        }
    }
    Ok(())
}

/// A second name costs nothing; another file system wants a copy. Files of a cache are never written once they have their names.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_everything_but_what_is_left_out_at_the_top() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for name in ["a", "target/x", "below/target/y"] {
            fs::create_dir_all(from.join(name).parent().unwrap()).unwrap();
            fs::write(from.join(name), name).unwrap();
        }
        symlink("a", from.join("link")).unwrap();
        copy(&from, &to, &LEFT_OUT, &link_or_copy).unwrap();
        assert_eq!(fs::read_to_string(to.join("below/target/y")).unwrap(), "below/target/y");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a"));
        assert!(to.join("a").is_file() && !to.join("target").exists());
        let missing = copy(&folder.path().join("no"), &to, &[], &link_or_copy).unwrap_err();
        assert!(missing.to_string().starts_with("cannot list "), "{missing}");
    }
}
