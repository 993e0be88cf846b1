//! The folders that a build writes: whether it may, and how much room there is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use debian::cache::Cache;
use rustix::fs::{Access, access, statvfs};

use super::{Check, Options};
use crate::guest;

const MIB: u64 = 1 << 20;
const GIB: f64 = (1_u64 << 30) as f64;

/// A folder that a build writes, and how much it takes there.
struct Folder {
    name: &'static str,
    why: &'static str,
    /// How to have another one.
    elsewhere: &'static str,
    /// What a first build of `recipes/ferrite.yaml` and its emulator take, with a quarter to spare.
    bytes: u64,
}

const CACHE: Folder = Folder {
    name: "cache",
    why: "downloads, unpacked packages and the emulator are kept there",
    elsewhere: "export FERRITE_CACHE=FOLDER",
    bytes: 900 * MIB,
};
const TARGET: Folder = Folder {
    name: "target",
    why: "the programs inside the image are compiled there",
    elsewhere: "export CARGO_TARGET_DIR=FOLDER",
    bytes: 700 * MIB,
};
const OUT: Folder =
    Folder { name: "out", why: "images are written there", elsewhere: "use --out DIR", bytes: 500 * MIB };

/// What was found about a folder.
#[derive(Debug)]
struct Seen {
    path: PathBuf,
    /// Whether it is there already.
    exists: bool,
    writable: io::Result<()>,
    /// Bytes that are free for this user.
    free: Option<u64>,
}

pub(super) fn checks(options: &Options) -> Vec<Check> {
    let cache = Cache::from_env().root().to_owned();
    let probed = if cache.is_dir() { probe(&cache) } else { may_write(&cache) };
    let mut checks = vec![judge(&CACHE, &Seen { writable: probed, ..look(&cache) })];
    if let Ok(source) = guest::source_folder() {
        checks.push(judge(&TARGET, &look(&guest::target_folder(&source))));
    }
    if let Ok(out) = &options.out {
        checks.push(judge(&OUT, &look(out)));
    }
    checks
}

fn look(path: &Path) -> Seen {
    let free = existing(path)
        .and_then(|folder| statvfs(folder).ok())
        .map(|seen| seen.f_bavail.saturating_mul(seen.f_frsize));
    Seen { path: path.to_owned(), exists: path.is_dir(), writable: may_write(path), free }
}

/// The folder itself, or the nearest above it that exists.
fn existing(path: &Path) -> Option<&Path> {
    let relative = Path::new(".");
    path.ancestors()
        .map(|folder| if folder.as_os_str().is_empty() { relative } else { folder })
        .find(|folder| folder.symlink_metadata().is_ok())
}

/// Whether the folder can be written, or made, by what its permissions and its file system say.
fn may_write(path: &Path) -> io::Result<()> {
    let folder = existing(path).ok_or(io::ErrorKind::NotFound)?;
    if !folder.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Writes a file and removes it: what permissions promise, quotas and full disks may refuse.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(&[0; 4096]));
    let removed = fs::remove_file(&path);
    written.and(removed)
}

fn judge(folder: &Folder, seen: &Seen) -> Check {
    let path = seen.path.display();
    if let Err(error) = &seen.writable {
        return Check::missing(folder.name, format!("{path}: {error}"), folder.why, folder.elsewhere);
    }
    let state = if seen.exists { "" } else { ", made when it is needed" };
    let Some(free) = seen.free else { return Check::ok(folder.name, format!("{path}{state}")) };
    let found = format!("{path}, {:.1} GiB free{state}", free as f64 / GIB);
    if free < folder.bytes / 10 {
        let fix = format!("make room, or {}", folder.elsewhere);
        Check::missing(folder.name, found, folder.why, fix)
    } else if free < folder.bytes {
        let fix = format!("make room, or {}", folder.elsewhere);
        Check::warning(folder.name, found, "a first build may not fit there", fix)
    } else {
        Check::ok(folder.name, found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_folder_is_judged_by_what_may_be_written_and_how_much() {
        let seen = |free, writable| Seen { path: "/f".into(), exists: true, writable, free };
        let cases = [
            (seen(Some(2 * CACHE.bytes), Ok(())), Status::Ok),
            (seen(None, Ok(())), Status::Ok),
            (seen(Some(CACHE.bytes - 1), Ok(())), Status::Warning),
            (seen(Some(MIB), Ok(())), Status::Missing),
            (seen(Some(2 * CACHE.bytes), Err(io::ErrorKind::ReadOnlyFilesystem.into())), Status::Missing),
        ];
        for (seen, status) in cases {
            let check = judge(&CACHE, &seen);
            assert_eq!(check.status, status, "{check:?}");
            assert_eq!(check.fix.is_some(), status != Status::Ok);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_judged_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b/c");
        assert_eq!(existing(&below), Some(folder.path()));
        assert!(may_write(&below).is_ok());
        let seen = look(&below);
        assert!(!seen.exists && seen.free.is_some());
        fs::write(folder.path().join("a"), "a file").unwrap();
        assert_eq!(may_write(&below).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(!folder.path().join("a/b").exists());
        assert!(existing(Path::new("no/such/folder")).is_some());
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(probe(&folder.path().join("none")).is_err());
    }
}
