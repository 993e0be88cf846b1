//! Files, folders and links of a plan.
//!
//! Paths are walked from the root with every link read here, so that none leads out of it, and none that somebody else than root made
//! is followed into what is not theirs (`init`'s way of walking for tmpfiles.d).

use std::fs::File as StdFile;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use image_config::user_data::plan::{Account, Directory, Existing, File, Link, Owner};
use init::boot::tmpfiles::chase::{LastLink, Missing, Place, kind, walk};
use init::boot::users::Users;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, linkat, mkdirat, openat,
    readlinkat, renameat, symlinkat, unlinkat,
};

use crate::journey::Earlier;

/// Permissions of what has none written.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
const ALL_BITS: u32 = 0o7777;

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A name that the machine does not know.
    #[error("{path}: there is no {what} {name}")]
    NoAccount {
        /// What would be owned.
        path: String,
        /// User or group.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// It is there, and must not be replaced.
    #[error("{path} exists already, and `overwrite` is not set")]
    Exists {
        /// Where.
        path: String,
    },
    /// The image.
    #[error(
        "{path}: /usr and the root folder belong to the image and cannot be written; /etc, /var, /opt, /home and /run can"
    )]
    ReadOnly {
        /// Where.
        path: String,
    },
    /// The kernel's.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// The tree that is written to.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    path: PathBuf,
}

/// What something gets that is new or changed.
#[derive(Debug, Clone, Copy)]
struct Access {
    mode: u32,
    user: Option<u32>,
    group: Option<u32>,
}

impl Files {
    /// The tree below `root`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(root, flags, Mode::empty())?, path: root.to_owned() })
    }

    /// Walks to a path, making the folders above it.
    fn place(&self, path: &str) -> Result<Place, FileError> {
        use std::os::fd::AsFd as _;
        walk(self.root.as_fd(), path, Missing::Create, LastLink::Keep)
            .map_err(|error| failed("reach", path)(error))
    }

    /// Writes a file: all of it beside its place, which it then takes. What an earlier, interrupted run has made is replaced, and what it
    /// has appended is taken away first.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn write(
        &self,
        file: &File,
        contents: Option<&[u8]>,
        append: &[&[u8]],
        earlier: Earlier,
    ) -> Result<(), FileError> {
        let path = &file.path;
        let place = self.place(path)?;
        let present = status(&place, path)?;
        if contents.is_some()
            && present.is_some()
            && file.existing == Existing::Refuse
            && earlier != Earlier::Made
        {
            return Err(FileError::Exists { path: path.clone() });
        }
        let regular = present.as_ref().filter(|status| kind(status) == FileType::RegularFile);
        let access = self.access(path, file.mode.map(u32::from), &file.owner, regular, FILE_MODE)?;
        let mut bytes = match (contents, regular) {
            (Some(contents), _) => contents.to_vec(),
            (None, Some(_)) => read(&place, path)?,
            (None, None) => Vec::new(),
        };
        if let Earlier::Appended(length) = earlier {
            bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        append.iter().for_each(|more| bytes.extend(*more));
        if present.as_ref().is_some_and(|status| kind(status) == FileType::Directory) {
            self.clear(&place, path, file.existing)?;
        }
        put(&place, path, &bytes, access, contents.is_none())
    }

    /// Makes a folder, or gives one that is there its mode and owner.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn make_folder(&self, folder: &Directory, may_replace: bool) -> Result<(), FileError> {
        let path = &folder.path;
        let place = self.place(path)?;
        let mut present = status(&place, path)?;
        let is_folder = |status: &Stat| kind(status) == FileType::Directory;
        match &present {
            Some(status) if is_folder(status) && (folder.existing == Existing::Refuse || may_replace) => {}
            Some(_) if folder.existing == Existing::Refuse => {
                return Err(FileError::Exists { path: path.clone() });
            }
            Some(_) => {
                self.clear(&place, path, folder.existing)?;
                present = None;
            }
            None => {}
        }
        let access =
            self.access(path, folder.mode.map(u32::from), &folder.owner, present.as_ref(), FOLDER_MODE)?;
        if present.is_none() {
            mkdirat(&place.folder, place.name.as_str(), Mode::from_raw_mode(0o700))
                .map_err(|error| failed("make", path)(error.into()))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&place.folder, place.name.as_str(), flags, Mode::empty())
            .map_err(|error| failed("open", path)(error.into()))?;
        own(&made, access).map_err(failed("set the owner of", path))
    }

    /// Makes a link; one that is there already is nothing to do.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn link(&self, link: &Link, may_replace: bool) -> Result<(), FileError> {
        let path = &link.path;
        let place = self.place(path)?;
        if status(&place, path)?.is_some() {
            let target = readlinkat(&place.folder, place.name.as_str(), Vec::new());
            if !link.is_hard && target.is_ok_and(|target| target.to_bytes() == link.target.as_bytes()) {
                return Ok(());
            }
            if link.existing == Existing::Refuse && !may_replace {
                return Err(FileError::Exists { path: path.clone() });
            }
            self.clear(&place, path, link.existing)?;
        }
        if link.is_hard {
            use std::os::fd::AsFd as _;
            let from = walk(self.root.as_fd(), &link.target, Missing::Fail, LastLink::Follow)
                .map_err(failed("find", &link.target))?;
            return linkat(
                &from.folder,
                from.name.as_str(),
                &place.folder,
                place.name.as_str(),
                AtFlags::empty(),
            )
            .map_err(|error| failed("make the hard link", path)(error.into()));
        }
        symlinkat(link.target.as_str(), &place.folder, place.name.as_str())
            .map_err(|error| failed("make the link", path)(error.into()))?;
        let access = self.access(path, None, &link.owner, None, 0)?;
        let (user, group) = (access.user.map(Uid::from_raw), access.group.map(Gid::from_raw));
        chownat(&place.folder, place.name.as_str(), user, group, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("set the owner of", path)(error.into()))
    }

    /// What a thing gets: what is written, else what it has, else the usual.
    fn access(
        &self,
        path: &str,
        mode: Option<u32>,
        owner: &Owner,
        present: Option<&Stat>,
        usual: u32,
    ) -> Result<Access, FileError> {
        let users = Users::read(&self.path);
        let missing =
            |what, name: &str| FileError::NoAccount { path: path.to_owned(), what, name: name.to_owned() };
        let number = |account: &Option<Account>, what: &'static str, had: Option<u32>| match account {
            Some(Account::Id(id)) => Ok(Some(*id)),
            Some(Account::Name(name)) => {
                let found = if what == "user" { users.user(name) } else { users.group(name) };
                found.map(Some).ok_or_else(|| missing(what, name))
            }
            None => Ok(Some(had.unwrap_or(0))),
        };
        Ok(Access {
            mode: mode.or(present.map(|status| status.st_mode & ALL_BITS)).unwrap_or(usual),
            user: number(&owner.user, "user", present.map(|status| status.st_uid))?,
            group: number(&owner.group, "group", present.map(|status| status.st_gid))?,
        })
    }

    /// Takes away what is at a place. A folder goes with all that is in it, unless something is mounted there.
    fn clear(&self, place: &Place, path: &str, existing: Existing) -> Result<(), FileError> {
        let Some(status) = status(place, path)? else { return Ok(()) };
        if kind(&status) != FileType::Directory {
            return unlinkat(&place.folder, place.name.as_str(), AtFlags::empty())
                .map_err(|error| failed("remove", path)(error.into()));
        }
        if existing == Existing::Refuse {
            return Err(FileError::Exists { path: path.to_owned() });
        }
        // By the folder's descriptor: its path may have become another one.
        let below = format!("/proc/self/fd/{}/{}", place.folder.as_raw_fd(), place.name);
        std::fs::remove_dir_all(below).map_err(failed("remove", path))
    }
}

/// Writes beside the place and renames: whoever looks sees the old file or the new one. One that `holds_others`, which nobody could write again,
/// reaches the disk before.
fn put(place: &Place, path: &str, bytes: &[u8], access: Access, holds_others: bool) -> Result<(), FileError> {
    let beside = format!(".{}.ferrite", place.name);
    // Names have 255 bytes at most.
    let beside = if beside.len() > 255 { ".ferrite-new".to_owned() } else { beside };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What an interrupted run left.
    let _nothing = unlinkat(&place.folder, beside.as_str(), AtFlags::empty());
    let file = openat(&place.folder, beside.as_str(), flags, Mode::from_raw_mode(0o600))
        .map_err(|error| failed("create", path)(error.into()))?;
    let mut file = StdFile::from(file);
    let written = file
        .write_all(bytes)
        .and_then(|()| own(&file, access))
        .and_then(|()| if holds_others { file.sync_all() } else { Ok(()) })
        .and_then(|()| Ok(renameat(&place.folder, beside.as_str(), &place.folder, place.name.as_str())?));
    written.map_err(|error| {
        let _gone = unlinkat(&place.folder, beside.as_str(), AtFlags::empty());
        failed("write", path)(error)
    })
}

/// Owner first: changing it takes the set-user-ID bit away.
fn own(file: impl std::os::fd::AsFd, access: Access) -> io::Result<()> {
    fchown(&file, access.user.map(Uid::from_raw), access.group.map(Gid::from_raw))?;
    Ok(fchmod(&file, Mode::from_raw_mode(access.mode))?)
}

fn read(place: &Place, path: &str) -> Result<Vec<u8>, FileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(&place.folder, place.name.as_str(), flags, Mode::empty())
        .map_err(|error| failed("open", path)(error.into()))?;
    let mut bytes = Vec::new();
    StdFile::from(file).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

fn status(place: &Place, path: &str) -> Result<Option<Stat>, FileError> {
    place.status().map_err(failed("look at", path))
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => FileError::ReadOnly { path },
        _ => FileError::Io { action, path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// Tests run as root or not: everything is owned by whoever runs them.
    fn owner() -> Owner {
        let us = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        Owner { user: Some(Account::Id(us)), group: Some(Account::Id(group)) }
    }

    fn file(path: &str) -> File {
        File {
            path: path.to_owned(),
            mode: None,
            owner: owner(),
            contents: None,
            append: Vec::new(),
            existing: Existing::Replace,
        }
    }

    fn tree() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        (folder, files)
    }

    fn text(root: &tempfile::TempDir, path: &str) -> String {
        std::fs::read_to_string(root.path().join(path)).unwrap()
    }

    fn mode(root: &tempfile::TempDir, path: &str) -> u32 {
        std::fs::symlink_metadata(root.path().join(path)).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_written_whole_with_its_mode_and_the_folders_above_it() {
        let (root, files) = tree();
        files
            .write(
                &File { mode: Some(0o4750), ..file("/etc/a/b") },
                Some(b"one\n"),
                &[b"two"],
                Earlier::Nothing,
            )
            .unwrap();
        assert_eq!((text(&root, "etc/a/b").as_str(), mode(&root, "etc/a/b")), ("one\ntwo", 0o4750));
        assert_eq!(mode(&root, "etc/a"), 0o755);
        // Without contents what is there stays, and so does its mode.
        files.write(&file("/etc/a/b"), None, &[b"!"], Earlier::Nothing).unwrap();
        assert_eq!((text(&root, "etc/a/b").as_str(), mode(&root, "etc/a/b")), ("one\ntwo!", 0o4750));
        files.write(&file("/etc/a/b"), None, &[b"!?"], Earlier::Appended(7)).unwrap();
        assert_eq!(text(&root, "etc/a/b"), "one\ntwo!?", "what a cut run appended is not there twice");
        files.write(&file("/etc/new"), None, &[], Earlier::Nothing).unwrap();
        assert_eq!((text(&root, "etc/new").as_str(), mode(&root, "etc/new")), ("", 0o644));
        assert_eq!(
            std::fs::read_dir(root.path().join("etc/a")).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn what_exists_is_kept_where_it_must_be() {
        let (root, files) = tree();
        let keep = File { existing: Existing::Refuse, ..file("/f") };
        files.write(&keep, Some(b"1"), &[], Earlier::Nothing).unwrap();
        let error = files.write(&keep, Some(b"2"), &[], Earlier::Nothing).unwrap_err();
        assert_eq!(error.to_string(), "/f exists already, and `overwrite` is not set");
        files.write(&keep, Some(b"3"), &[], Earlier::Made).unwrap();
        assert_eq!(text(&root, "f"), "3");
        let folder =
            |existing| Directory { path: "/d".to_owned(), mode: Some(0o700), owner: owner(), existing };
        files.make_folder(&folder(Existing::Refuse), false).unwrap();
        files.write(&file("/d/x"), Some(b"x"), &[], Earlier::Nothing).unwrap();
        files.make_folder(&folder(Existing::Refuse), false).unwrap();
        assert_eq!((text(&root, "d/x").as_str(), mode(&root, "d")), ("x", 0o700));
        files.make_folder(&folder(Existing::Replace), false).unwrap();
        assert!(!root.path().join("d/x").exists(), "a folder that is replaced is empty");
    }

    #[test]
    fn links_lead_nowhere_else() {
        let (root, files) = tree();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("real")).unwrap();
        symlink("/real", root.path().join("inside")).unwrap();
        symlink(outside.path(), root.path().join("out")).unwrap();
        symlink("../../../../etc", root.path().join("up")).unwrap();
        files.write(&file("/inside/f"), Some(b"f"), &[], Earlier::Nothing).unwrap();
        assert_eq!(text(&root, "real/f"), "f", "an absolute link is one of the tree");
        // The tree has no such folder, so it is made in the tree.
        files.write(&file("/out/f"), Some(b"f"), &[], Earlier::Nothing).unwrap();
        files.write(&file("/up/f"), Some(b"f"), &[], Earlier::Nothing).unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(text(&root, "etc/f"), "f");
        // A link at the path itself is replaced, not followed.
        symlink("/real/f", root.path().join("last")).unwrap();
        files.write(&file("/last"), Some(b"new"), &[], Earlier::Nothing).unwrap();
        assert_eq!((text(&root, "real/f").as_str(), text(&root, "last").as_str()), ("f", "new"));
    }

    #[test]
    fn links_are_made_once_and_replaced_when_they_may_be() {
        let (root, files) = tree();
        let link = |target: &str, is_hard, existing| Link {
            path: "/l".to_owned(),
            target: target.to_owned(),
            is_hard,
            owner: owner(),
            existing,
        };
        files.link(&link("a", false, Existing::Refuse), false).unwrap();
        files.link(&link("a", false, Existing::Refuse), false).unwrap();
        assert!(files.link(&link("b", false, Existing::Refuse), false).is_err());
        files.link(&link("b", false, Existing::Replace), false).unwrap();
        assert_eq!(std::fs::read_link(root.path().join("l")).unwrap(), Path::new("b"));
        files.write(&file("/f"), Some(b"f"), &[], Earlier::Nothing).unwrap();
        files.link(&link("/f", true, Existing::Replace), false).unwrap();
        assert_eq!(std::fs::metadata(root.path().join("l")).unwrap().nlink(), 2);
    }

    #[test]
    fn an_owner_that_nobody_knows_is_named() {
        let (_root, files) = tree();
        let owner = Owner { user: Some(Account::Name("nobody-here".to_owned())), group: None };
        let error = files.write(&File { owner, ..file("/f") }, Some(b""), &[], Earlier::Nothing).unwrap_err();
        assert_eq!(error.to_string(), "/f: there is no user nobody-here");
    }
}
