//! Writing packages to a folder as an ordinary user, for tools that run from there.
//!
//! All entries are merged into one tree first; then folders are made, files written, hard links and, last, symbolic
//! links. The destination has to be new or empty and links come last, so nothing is ever written through one.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use crate::progress::{Progress, Unit};
use crate::tarball::{Entry, EntryKind};
use crate::unpack::{UnpackError, Unpacked};

/// Packages that cannot be written to a folder.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The destination has something in it.
    #[error("the folder {} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Two packages ship different things under one path.
    #[error("{path:?} is in package {first} and, different, in package {second}")]
    Conflict {
        /// The path, as text.
        path: String,
        /// The package that has it first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A path goes through something that is no folder.
    #[error("package {package} has {path:?}, but {parent:?} is no folder")]
    Parent {
        /// The package.
        package: String,
        /// The path, as text.
        path: String,
        /// What is in the way.
        parent: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The cached package.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExtractError {
    let path = path.to_owned();
    move |source| ExtractError::Io { action, path, source }
}

/// Folders that are links into `usr` on a merged system (Debian since 12).
const MERGED: [&[u8]; 5] = [b"bin", b"sbin", b"lib", b"lib32", b"lib64"];

/// Where a path of a package is on a system with a merged `/usr`.
pub fn merged_path(path: &[u8]) -> Vec<u8> {
    let first = path.split(|b| *b == b'/').next().unwrap_or_default();
    if MERGED.contains(&first) { [b"usr/", path].concat() } else { path.to_owned() }
}

/// An entry of the merged tree.
struct Placed<'a> {
    package: &'a Unpacked,
    entry: &'a Entry,
}

type Tree<'a> = BTreeMap<Vec<u8>, Placed<'a>>;

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Whether two entries of different packages may share a path: folders, and what is the same.
fn compatible(a: &EntryKind, b: &EntryKind) -> bool {
    match (a, b) {
        (EntryKind::Directory, EntryKind::Directory) => true,
        (EntryKind::File { sha256: a, .. }, EntryKind::File { sha256: b, .. }) => a == b,
        (EntryKind::Symlink(a), EntryKind::Symlink(b)) => a == b,
        _ => false,
    }
}

fn merge(packages: &[Unpacked]) -> Result<Tree<'_>, ExtractError> {
    let mut tree: Tree<'_> = BTreeMap::new();
    for package in packages {
        for entry in &package.entries {
            let path = merged_path(&entry.path);
            // base-files and usrmerge ship the links themselves.
            let is_merged_link = MERGED.contains(&entry.path.as_slice());
            if is_merged_link && matches!(entry.kind, EntryKind::Symlink(_)) {
                continue;
            }
            match tree.entry(path) {
                std::collections::btree_map::Entry::Vacant(free) => {
                    free.insert(Placed { package, entry });
                }
                std::collections::btree_map::Entry::Occupied(mut known) => {
                    let other = known.get();
                    if compatible(&other.entry.kind, &entry.kind) {
                        continue;
                    }
                    if replaces(package, other.package) {
                        known.insert(Placed { package, entry });
                    } else if !replaces(other.package, package) {
                        return Err(ExtractError::Conflict {
                            path: text(known.key()),
                            first: other.package.package.to_string(),
                            second: package.package.to_string(),
                        });
                    }
                }
            }
        }
    }
    check_parents(&tree)?;
    Ok(tree)
}

fn replaces(package: &Unpacked, other: &Unpacked) -> bool {
    let mut relations = package.package.replaces.iter().flat_map(|d| &d.0);
    relations.any(|r| r.name == other.package.name && r.accepts(&other.package.version))
}

fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, b)| **b == b'/').filter_map(|(i, _)| path.get(..i))
}

/// Every path's parents have to be folders, or not to be there at all: what dpkg would write through a link of
/// another package has no place in a tree that is merged by names.
fn check_parents(tree: &Tree<'_>) -> Result<(), ExtractError> {
    for (path, placed) in tree {
        for parent in parents(path) {
            let folder = tree.get(parent).is_none_or(|p| p.entry.kind == EntryKind::Directory);
            if !folder {
                return Err(ExtractError::Parent {
                    package: placed.package.package.to_string(),
                    path: text(path),
                    parent: text(parent),
                });
            }
        }
    }
    Ok(())
}

/// Writes packages to `dest`, which is made, or has to be empty. Files get their permission bits without setuid,
/// setgid and sticky, and are always readable and writable by their owner; owners are the caller's; symbolic links
/// stay as they are; `bin`, `sbin`, `lib*` at the root become folders of `usr` with links to them. Devices and named
/// pipes are left out.
///
/// # Errors
/// A destination that is not empty; different files under one path (unless one package replaces the other); a file
/// that cannot be written; cached content that has changed.
pub fn extract(packages: &[Unpacked], dest: &Path, progress: &dyn Progress) -> Result<(), ExtractError> {
    let tree = merge(packages)?;
    fs::create_dir_all(dest).map_err(io_error("create the folder", dest))?;
    if fs::read_dir(dest).map_err(io_error("read the folder", dest))?.next().is_some() {
        return Err(ExtractError::NotEmpty(dest.to_owned()));
    }
    let place = |path: &[u8]| dest.join(std::ffi::OsStr::from_bytes(path));
    for path in tree.keys() {
        let is_folder = tree.get(path).is_some_and(|p| p.entry.kind == EntryKind::Directory);
        let folder = if is_folder { Some(path.as_slice()) } else { parents(path).last() };
        if let Some(folder) = folder.map(place) {
            fs::create_dir_all(&folder).map_err(io_error("create the folder", &folder))?;
        }
    }
    let files: Vec<(&Vec<u8>, &Placed<'_>)> =
        tree.iter().filter(|(_, p)| matches!(p.entry.kind, EntryKind::File { .. })).collect();
    let total = files.iter().map(|(_, p)| file_size(p.entry)).sum();
    let task = progress.begin(&format!("extracting {} packages", packages.len()), total, Unit::Bytes);
    files.par_iter().try_for_each(|(path, placed)| {
        write_file(&place(path), placed)?;
        task.advance(file_size(placed.entry));
        Ok::<_, ExtractError>(())
    })?;
    for (path, placed) in &tree {
        if let EntryKind::HardLink(target) = &placed.entry.kind {
            let (target, path) = (place(&merged_path(target)), place(path));
            fs::hard_link(&target, &path).map_err(io_error("make the hard link", &path))?;
        }
    }
    for (path, placed) in &tree {
        if let EntryKind::Symlink(target) = &placed.entry.kind {
            let path = place(path);
            symlink(std::ffi::OsStr::from_bytes(target), &path).map_err(io_error("make the link", &path))?;
        }
    }
    for name in MERGED {
        let folder = place(&[b"usr/", name].concat());
        if folder.is_dir() {
            let (link, target) = (place(name), Path::new("usr").join(std::ffi::OsStr::from_bytes(name)));
            symlink(&target, &link).map_err(io_error("make the link", &link))?;
        }
    }
    Ok(())
}

fn file_size(entry: &Entry) -> u64 {
    if let EntryKind::File { size, .. } = entry.kind { size } else { 0 }
}

fn write_file(path: &Path, placed: &Placed<'_>) -> Result<(), ExtractError> {
    let mut file = File::create_new(path).map_err(io_error("create", path))?;
    placed.package.copy_to(placed.entry, &mut file)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(placed.entry.mtime);
    file.set_permissions(Permissions::from_mode(placed.entry.mode & 0o777 | 0o600))
        .and_then(|()| file.set_modified(time))
        .map_err(io_error("write", path))
}

#[cfg(test)]
mod tests;
