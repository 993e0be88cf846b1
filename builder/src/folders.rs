//! Copying folders of the machine that builds.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A folder that could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FolderError {
    /// What was tried.
    action: &'static str,
    /// With which file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError { action, path, source }
}

/// Copies a folder with all below it, but for entries of the top folder that are called like one of `left_out`; `file` copies a regular file.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(
    from: &Path,
    to: &Path,
    left_out: &[&str],
    file: &dyn Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), FolderError> {
    fs::create_dir_all(to).map_err(failed("create the folder", to))?;
    for entry in fs::read_dir(from).map_err(failed("list", from))? {
        let entry = entry.map_err(failed("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if left_out.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let kind = entry.file_type().map_err(failed("inspect", &source))?;
        if kind.is_dir() {
            copy(&source, &target, &[], file)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(failed("read", &source))?;
            symlink(link, &target).map_err(failed("link", &target))?;
        } else {
            file(&source, &target).map_err(failed("copy", &source))?;
        }
    }
    Ok(())
}

/// Gives a file a second name, which costs nothing, or copies it to another file system: for files that are never written again, as
/// those of a cache.
///
/// # Errors
/// The system's.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
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
        copy(&from, &to, &["target", ".git"], &link_or_copy).unwrap();
        assert_eq!(fs::read_to_string(to.join("below/target/y")).unwrap(), "below/target/y");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a"));
        assert!(to.join("a").is_file() && !to.join("target").exists());
        let missing = copy(&folder.path().join("no"), &to, &[], &link_or_copy).unwrap_err();
        assert!(missing.to_string().starts_with("cannot list "), "{missing}");
    }
}
