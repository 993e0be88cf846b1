//! Carrying out items of tmpfiles.d(5).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat, readlinkat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::chase::{LastLink, Missing, Place, kind, open_folder, walk};
use super::parse::{Item, Kind};
use crate::boot::glob;
use crate::boot::users::Users;

/// Deepest tree that is copied, adjusted or emptied: more is an accident, and each level holds a descriptor.
const MAX_DEPTH: u32 = 64;

/// The machine that items are applied to.
#[derive(Debug)]
pub struct Target {
    root: OwnedFd,
    root_path: PathBuf,
    users: Users,
}

/// Owner and mode of an item, as numbers.
#[derive(Debug, Clone, Copy)]
struct Access {
    mode: Option<Mode>,
    user: Option<Uid>,
    group: Option<Gid>,
}

impl Target {
    /// Opens `root`; names are those of its `/etc/passwd` and `/etc/group`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(root: &Path) -> io::Result<Self> {
        let folder = File::open(root)?;
        Ok(Self { root: folder.into(), root_path: root.to_owned(), users: Users::read(root) })
    }

    /// Applies one item.
    ///
    /// # Errors
    /// What the kernel or [`walk`] said about the first step that failed, or an unknown user or group.
    pub fn apply(&self, item: &Item) -> io::Result<()> {
        let access = self.access(item)?;
        match item.kind {
            Kind::ExistingFolder
            | Kind::Adjust
            | Kind::AdjustTree
            | Kind::Write
            | Kind::Append
            | Kind::Remove => {
                for path in self.expand(&item.path) {
                    ignore_missing(self.apply_existing(item, &path, access))?;
                }
                Ok(())
            }
            _ => self.apply_new(item, access),
        }
    }

    fn apply_new(&self, item: &Item, access: Access) -> io::Result<()> {
        let follow = if matches!(item.kind, Kind::Folder | Kind::EmptyFolder) {
            LastLink::Follow
        } else {
            LastLink::Keep
        };
        let place = walk(self.root.as_fd(), &item.path, Missing::Create, follow)?;
        let argument = item.argument.as_deref();
        match item.kind {
            Kind::Folder => make_folder(&place, access),
            Kind::EmptyFolder => {
                make_folder(&place, access)?;
                empty(&open_folder(place.folder.as_fd(), &place.name)?, MAX_DEPTH)
            }
            Kind::File => make_file(&place, access, argument.unwrap_or("")),
            Kind::ReplaceFile => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(
                    &place.folder,
                    place.name.as_str(),
                    flags,
                    access.mode.unwrap_or(Mode::from_raw_mode(0o644)),
                )?;
                fill(file, access, argument.unwrap_or(""))
            }
            Kind::LinkIfTarget if !self.target_exists(item) => Ok(()),
            Kind::Link | Kind::LinkIfTarget => link(&place, &self.factory(item), false),
            Kind::ReplaceLink => link(&place, &self.factory(item), true),
            Kind::Copy => self.copy(&place, &self.factory(item), access),
            _ => Ok(()),
        }
    }

    fn apply_existing(&self, item: &Item, path: &str, access: Access) -> io::Result<()> {
        let place = walk(self.root.as_fd(), path, Missing::Fail, LastLink::Keep)?;
        let text = item.argument.as_deref().unwrap_or("");
        match item.kind {
            Kind::Write | Kind::Append => {
                let append = if item.kind == Kind::Append { OFlags::APPEND } else { OFlags::empty() };
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | append;
                let file = openat(&place.folder, place.name.as_str(), flags, Mode::empty())?;
                File::from(file).write_all(text.as_bytes())
            }
            Kind::Remove => {
                let Some(status) = place.status()? else { return Ok(()) };
                let is_folder = kind(&status) == FileType::Directory;
                let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                Ok(unlinkat(&place.folder, place.name.as_str(), flags)?)
            }
            Kind::ExistingFolder => set(&open_folder(place.folder.as_fd(), &place.name)?, access),
            Kind::AdjustTree => adjust(&place, access, MAX_DEPTH),
            _ => adjust(&place, access, 0),
        }
    }

    fn access(&self, item: &Item) -> io::Result<Access> {
        let unknown =
            |name: &str| io::Error::new(io::ErrorKind::NotFound, format!("no user or group '{name}'"));
        let user = item
            .user
            .as_deref()
            .map(|name| self.users.user(name).ok_or_else(|| unknown(name)))
            .transpose()?;
        let group = item
            .group
            .as_deref()
            .map(|name| self.users.group(name).ok_or_else(|| unknown(name)))
            .transpose()?;
        Ok(Access {
            mode: item.mode.map(Mode::from_raw_mode),
            user: user.map(Uid::from_raw),
            group: group.map(Gid::from_raw),
        })
    }

    /// The argument of `L` and `C`, or the image's factory default for the path.
    fn factory(&self, item: &Item) -> String {
        item.argument.clone().unwrap_or_else(|| format!("/usr/share/factory{}", item.path))
    }

    fn target_exists(&self, item: &Item) -> bool {
        let target = self.factory(item);
        let base = Path::new(&item.path).parent().unwrap_or(Path::new("/"));
        let absolute = base.join(target);
        self.root_path.join(absolute.strip_prefix("/").unwrap_or(&absolute)).exists()
    }

    /// The paths that exist for a pattern, sorted; a path without a pattern is itself.
    fn expand(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            if !glob::is_pattern(part.as_bytes()) {
                found.iter_mut().for_each(|path| *path = format!("{path}/{part}"));
                continue;
            }
            let mut next = Vec::new();
            for path in &found {
                let folder = self.root_path.join(path.trim_start_matches('/'));
                let Ok(entries) = std::fs::read_dir(folder) else { continue };
                let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
                let fitting = names
                    .filter(|name| !name.starts_with('.') && glob::matches(part.as_bytes(), name.as_bytes()));
                next.extend(fitting.map(|name| format!("{path}/{name}")));
            }
            next.sort_unstable();
            found = next;
        }
        found
    }

    fn copy(&self, place: &Place, source: &str, access: Access) -> io::Result<()> {
        let source = self.root_path.join(source.trim_start_matches('/'));
        if let Some(status) = place.status()? {
            let empty = kind(&status) == FileType::Directory
                && is_empty(&open_folder(place.folder.as_fd(), &place.name)?)?;
            if !empty {
                return Ok(());
            }
        }
        ignore_missing(copy_tree(&source, place.folder.as_fd(), &place.name, access, MAX_DEPTH))
    }
}

/// A missing source or file is no failure: the line is for machines that have it.
fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn set(file: &OwnedFd, access: Access) -> io::Result<()> {
    if access.user.is_some() || access.group.is_some() {
        fchown(file, access.user, access.group)?;
    }
    // After the owner: a change of owner takes set-user-ID bits away.
    Ok(access.mode.map_or(Ok(()), |mode| fchmod(file, mode))?)
}

fn make_folder(place: &Place, access: Access) -> io::Result<()> {
    let mode = access.mode.unwrap_or(Mode::from_raw_mode(0o755));
    match mkdirat(&place.folder, place.name.as_str(), mode) {
        Ok(()) => {
            set(&open_folder(place.folder.as_fd(), &place.name)?, Access { mode: Some(mode), ..access })
        }
        Err(Errno::EXIST | Errno::ROFS) => {
            let folder = open_folder(place.folder.as_fd(), &place.name)?;
            let status = fstat(&folder)?;
            if already(&status, access) { Ok(()) } else { set(&folder, access) }
        }
        Err(error) => Err(error.into()),
    }
}

/// True when nothing would change: so that a mount point on the sealed root is no error.
fn already(status: &rustix::fs::Stat, access: Access) -> bool {
    access.mode.is_none_or(|mode| Mode::from_raw_mode(status.st_mode) == mode)
        && access.user.is_none_or(|user| user.as_raw() == status.st_uid)
        && access.group.is_none_or(|group| group.as_raw() == status.st_gid)
}

fn make_file(place: &Place, access: Access, content: &str) -> io::Result<()> {
    let mode = access.mode.unwrap_or(Mode::from_raw_mode(0o644));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&place.folder, place.name.as_str(), flags, mode) {
        Ok(file) => fill(file, Access { mode: Some(mode), ..access }, content),
        Err(Errno::EXIST) => adjust(place, access, 0),
        Err(error) => Err(error.into()),
    }
}

fn fill(file: OwnedFd, access: Access, content: &str) -> io::Result<()> {
    set(&file, access)?;
    File::from(file).write_all(content.as_bytes())
}

fn link(place: &Place, target: &str, replace: bool) -> io::Result<()> {
    match symlinkat(target, &place.folder, place.name.as_str()) {
        Err(Errno::EXIST) if replace => {}
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let present = readlinkat(&place.folder, place.name.as_str(), Vec::new());
    if present.is_ok_and(|present| present.as_bytes() == target.as_bytes()) {
        return Ok(());
    }
    remove(place.folder.as_fd(), &place.name, MAX_DEPTH)?;
    Ok(symlinkat(target, &place.folder, place.name.as_str())?)
}

/// Sets mode and owner of a file or folder, and with a depth of everything below it. Links and files with several names
/// are left alone: whoever may link here could point at anything.
fn adjust(place: &Place, access: Access, depth: u32) -> io::Result<()> {
    let Some(status) = place.status()? else { return Ok(()) };
    let is_folder = kind(&status) == FileType::Directory;
    if kind(&status) == FileType::Symlink || (!is_folder && status.st_nlink > 1) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(&place.folder, place.name.as_str(), flags, Mode::empty())?;
    if !already(&status, access) {
        set(&file, access)?;
    }
    if is_folder && depth > 0 {
        for name in names(&file)? {
            let inner = Place { folder: file.try_clone()?, name };
            adjust(&inner, access, depth - 1)?;
        }
    }
    Ok(())
}

fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        // Names that are not UTF-8 are nobody's configuration.
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn is_empty(folder: &OwnedFd) -> io::Result<bool> {
    Ok(names(folder)?.is_empty())
}

/// Removes what is in a folder, on its own file system only.
fn empty(folder: &OwnedFd, depth: u32) -> io::Result<()> {
    let device = fstat(folder)?.st_dev;
    for name in names(folder)? {
        let place = Place { folder: folder.try_clone()?, name };
        let here = place.status()?.is_some_and(|status| status.st_dev == device);
        if here {
            remove(place.folder.as_fd(), &place.name, depth)?;
        }
    }
    Ok(())
}

fn remove(folder: BorrowedFd<'_>, name: &str, depth: u32) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        other => return Ok(other?),
    }
    empty(&open_folder(folder, name)?, depth - 1)?;
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// Copies a file, link or tree of the image; owner and mode of the item count for its top only, the rest keeps its modes.
fn copy_tree(
    source: &Path,
    folder: BorrowedFd<'_>,
    name: &str,
    access: Access,
    depth: u32,
) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::symlink_metadata(source)?;
    let mode = access.mode.unwrap_or(Mode::from_raw_mode(metadata.permissions().mode() & 0o7777));
    let access = Access { mode: Some(mode), ..access };
    if metadata.is_symlink() {
        return Ok(symlinkat(std::fs::read_link(source)?, folder, name)?);
    }
    if metadata.is_file() {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, mode)?;
        set(&file, access)?;
        io::copy(&mut File::open(source)?, &mut File::from(file))?;
        return Ok(());
    }
    if !metadata.is_dir() || depth == 0 {
        return Err(Errno::INVAL.into());
    }
    match mkdirat(folder, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let copied = open_folder(folder, name)?;
    set(&copied, access)?;
    let below = Access { mode: None, ..access };
    for entry in std::fs::read_dir(source)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str() {
            copy_tree(&entry.path(), copied.as_fd(), name, below, depth - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
