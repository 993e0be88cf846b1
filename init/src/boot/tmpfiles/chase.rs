//! Walking a path as root without being led astray by whoever owns a folder on it.
//!
//! A symbolic link is followed only when it belongs to this process's user, and no step leads from a folder of one user to an
//! inode of another, unless the folder belongs to this process's user.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;

/// Most links on one path, as in the kernel.
const MAX_LINKS: u32 = 40;

/// What happens where the path does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Folders are created, 0755 and ours.
    Create,
    /// It is an error.
    Fail,
}

/// What happens when the last part is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// It is followed like the others.
    Follow,
    /// The link itself is meant.
    Keep,
}

/// A place in a folder: where the last part of a path is or may be created.
#[derive(Debug)]
pub struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// The last part.
    pub name: String,
}

impl Place {
    /// The status of what is there, links not followed; `None` when there is nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn status(&self) -> io::Result<Option<Stat>> {
        match statat(&self.folder, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Walks `path` below `root`.
///
/// # Errors
/// `ENOENT` with [`Missing::Fail`], `ELOOP` for too many links, `EPERM` for an unsafe step, and the kernel's own.
pub fn walk(root: BorrowedFd<'_>, path: &str, missing: Missing, last_link: LastLink) -> io::Result<Place> {
    let us = rustix::process::geteuid().as_raw();
    let mut stack = vec![root.try_clone_to_owned()?];
    let mut pending: VecDeque<String> = parts(path).collect();
    let mut links = 0;
    loop {
        let Some(name) = pending.pop_front() else { return Err(Errno::INVAL.into()) };
        if name == ".." {
            // `..` of the root is the root.
            if stack.len() > 1 {
                stack.pop();
            }
            if pending.is_empty() {
                return Err(Errno::INVAL.into());
            }
            continue;
        }
        let folder = stack.last().ok_or(Errno::INVAL)?.as_fd();
        let is_last = pending.is_empty();
        let status = match statat(folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Some(status),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        let is_link = status.as_ref().is_some_and(|status| kind(status) == FileType::Symlink);
        if let (Some(status), true) = (&status, is_link && !(is_last && last_link == LastLink::Keep)) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            if status.st_uid != us {
                return Err(Errno::PERM.into());
            }
            let target = readlinkat(folder, name.as_str(), Vec::new())?;
            let target = target.to_str().map_err(|_| Errno::ILSEQ)?.to_owned();
            if target.starts_with('/') {
                stack.truncate(1);
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(part);
            }
            continue;
        }
        if is_last {
            let folder = stack.pop().ok_or(Errno::INVAL)?;
            return Ok(Place { folder, name });
        }
        if status.is_none() {
            if missing == Missing::Fail {
                return Err(Errno::NOENT.into());
            }
            mkdirat(folder, name.as_str(), Mode::from_raw_mode(0o755))?;
        }
        let next = open_folder(folder, &name)?;
        check_step(&fstat(folder)?, &fstat(&next)?, us)?;
        stack.push(next);
    }
}

/// Opens a folder in a folder, never through a link.
///
/// # Errors
/// The kernel's: `ENOTDIR` for anything else.
pub fn open_folder(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

/// The type of an inode.
pub fn kind(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode)
}

fn check_step(from: &Stat, to: &Stat, us: u32) -> io::Result<()> {
    if from.st_uid == us || from.st_uid == to.st_uid { Ok(()) } else { Err(Errno::PERM.into()) }
}

fn parts(path: &str) -> impl Iterator<Item = String> + '_ {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn place(root: &std::path::Path, path: &str, missing: Missing) -> io::Result<std::path::PathBuf> {
        let folder = fs::File::open(root).unwrap();
        let place = walk(folder.as_fd(), path, missing, LastLink::Keep)?;
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place.folder));
        Ok(fs::read_link(link).unwrap().join(place.name).strip_prefix(root).unwrap().to_owned())
    }

    #[test]
    fn links_are_resolved_below_the_root_and_not_beyond_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("var/home")).unwrap();
        symlink("var/home", root.join("home")).unwrap();
        symlink("/var", root.join("var/absolute")).unwrap();
        symlink("../../../../..", root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let cases = [
            ("/home/core", "var/home/core"),
            ("/var/absolute/home/x", "var/home/x"),
            ("/out/var/y", "var/y"),
        ];
        for (path, expected) in cases {
            assert_eq!(place(&root, path, Missing::Fail).unwrap(), std::path::Path::new(expected), "{path}");
        }
        assert_eq!(place(&root, "/loop/x", Missing::Fail).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(place(&root, "/none/x", Missing::Fail).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(
            place(&root, "/home/new/deep/x", Missing::Create).unwrap(),
            std::path::Path::new("var/home/new/deep/x")
        );
        assert!(root.join("var/home/new/deep").is_dir());
    }

    #[test]
    fn a_step_out_of_another_users_folder_is_refused() {
        let us = 1000;
        let of = |uid| {
            let mut status = statat(rustix::fs::CWD, "/", AtFlags::empty()).unwrap();
            status.st_uid = uid;
            status
        };
        assert!(check_step(&of(us), &of(33), us).is_ok());
        assert!(check_step(&of(33), &of(33), us).is_ok());
        assert!(check_step(&of(33), &of(us), us).is_err());
        assert!(check_step(&of(33), &of(44), us).is_err());
    }
}
