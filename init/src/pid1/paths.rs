//! Paths with wildcards, and the folders that services ask for.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use crate::boot::glob;

/// Most paths that one pattern expands to: a pattern must not cost PID 1 its memory.
const MOST_PATHS: usize = 4096;

/// Existing paths that match `pattern`, sorted; wildcards stay within one part of the path.
pub fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = vec![PathBuf::new()];
    for part in Path::new(pattern).components() {
        let Component::Normal(name) = part else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        if !glob::is_pattern(name.as_bytes()) {
            found.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let mut next = Vec::new();
        for folder in found {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let names = entries.flatten().map(|entry| entry.file_name());
            let fits = names.filter(|entry| {
                !entry.as_bytes().starts_with(b".") && glob::matches(name.as_bytes(), entry.as_bytes())
            });
            next.extend(fits.map(|entry| folder.join(entry)).take(MOST_PATHS));
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found
}

/// Makes a folder for a service, with its parents, and gives it to the service's user. A folder that is there keeps
/// its content; owner and mode of the folder itself are set.
///
/// # Errors
/// The file system's.
pub fn make_folder(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if let Some((user, group)) = owner {
        chown(path, Some(user), Some(group))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_within_one_part_and_not_hidden_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.conf", "b.conf", ".c.conf", "d.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let whole = folder.path().join(pattern);
            let found = expand(whole.to_str().unwrap());
            found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(names("d.txt"), ["d.txt"]);
        assert!(names("e.txt").is_empty() && names("x/*").is_empty());
    }
}
