//! The new root: a small tmpfs of mount points and links around the verity-checked `/usr`, sealed before PID 1 starts.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags};

use super::console::{Level, chain, say};
use super::mounts::{Mount, MountError, harmless, mount_kernel_trees, mount_virtual};

/// Where the new root is put together.
pub const SYSROOT: &str = "/sysroot";

/// Mount points of the root, with their modes. `/boot`, `/mnt` and `/media` are for people and tools that expect them.
const FOLDERS: &[(&str, u32)] = &[
    ("usr", 0o755),
    ("etc", 0o755),
    ("var", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("boot", 0o755),
    ("mnt", 0o755),
    ("media", 0o755),
];

/// Links of the root.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("home", "var/home"),
    ("root", "var/roothome"),
    ("opt", "var/opt"),
    ("srv", "var/srv"),
];

/// What `/var` must have before anything of the image runs, with modes; the rest is tmpfiles.d's.
const VAR_FOLDERS: &[(&str, u32)] = &[
    ("home", 0o755),
    ("roothome", 0o700),
    ("opt", 0o755),
    ("srv", 0o755),
    ("cache", 0o755),
    ("lib", 0o755),
    ("lib/ferrite", 0o755),
    ("lib/ferrite/etc", 0o755),
    ("lib/ferrite/etc/upper", 0o755),
    ("lib/ferrite/etc/work", 0o755),
    ("log", 0o755),
    ("spool", 0o755),
    ("tmp", 0o1777),
];

const VAR_LINKS: &[(&str, &str)] = &[("run", "/run"), ("lock", "/run/lock")];

/// Why the root could not be put together or entered.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A folder, a link or a step of the switch.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn failed(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> RootError {
    let path = path.as_ref().to_owned();
    move |error| RootError::Io { action, path, source: error.into() }
}

/// Mounts the tmpfs and fills it with mount points and links.
///
/// # Errors
/// [`RootError`]
pub fn create(root: &Path) -> Result<(), RootError> {
    // Room for nothing but the folders and links above.
    mount_virtual("tmpfs", root, MountFlags::NODEV, c"mode=0755,size=1m,nr_inodes=256")?;
    make_folders(root, FOLDERS)?;
    make_links(root, LINKS)
}

/// Mounts the slot's file system and the kernel's trees.
///
/// # Errors
/// [`RootError`]
pub fn mount_usr(root: &Path, device: &Path) -> Result<(), RootError> {
    let target = root.join("usr");
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    Mount { source: device, target: &target, kind: "erofs", flags, options: c"" }.perform()?;
    mount_kernel_trees(root)?;
    mount_virtual("tmpfs", &root.join("tmp"), harmless(), c"mode=1777")?;
    Ok(())
}

/// Makes the folders that the image needs in a fresh or older `/var`.
///
/// # Errors
/// [`RootError`]
pub fn prepare_var(var: &Path) -> Result<(), RootError> {
    make_folders(var, VAR_FOLDERS)?;
    make_links(var, VAR_LINKS)
}

/// Mounts `/etc`: the image's defaults below, STATE's changes above; without them a read-only `/etc` still boots.
pub fn mount_etc(root: &Path) {
    let upper = root.join("var/lib/ferrite/etc");
    let problem = match overlay_etc(root, &upper) {
        Ok(()) => return,
        Err(error) => chain(&error),
    };
    say(Level::Error, format_args!("/etc does not take changes: {problem}"));
    let (source, target) = (root.join("usr/etc"), root.join("etc"));
    if let Err(error) = rustix::mount::mount_bind(&source, &target) {
        say(Level::Error, format_args!("/etc is empty: {error}"));
    }
}

fn overlay_etc(root: &Path, upper: &Path) -> Result<(), RootError> {
    // SAFETY 24: what overlayfs would record about the lower layer must not survive into another release.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off,metacopy=off,redirect_dir=off,xino=off",
        root.join("usr/etc").display(),
        upper.join("upper").display(),
        upper.join("work").display()
    );
    let target = root.join("etc");
    let options = CString::new(options).unwrap_or_default();
    let mount = Mount {
        source: Path::new("etc"),
        target: &target,
        kind: "overlay",
        flags: MountFlags::NODEV,
        options: &options,
    };
    Ok(mount.perform()?)
}

/// Makes the new root `/` and frees the initramfs. What is mounted on the initramfs itself goes away with it, `/run` moves along.
///
/// # Errors
/// [`RootError`]; the process is in an undefined place then and must give up.
pub fn switch(root: &Path) -> Result<(), RootError> {
    rustix::mount::mount_move("/run", root.join("run")).map_err(failed("move /run below", root))?;
    rustix::mount::mount_remount(
        root,
        MountFlags::RDONLY | MountFlags::NODEV,
        c"mode=0755,size=1m,nr_inodes=256",
    )
    .map_err(failed("seal", root))?;
    for tree in ["/dev", "/proc", "/sys"] {
        rustix::mount::unmount(tree, UnmountFlags::DETACH).map_err(failed("unmount", tree))?;
    }
    rustix::process::chdir(root).map_err(failed("enter", root))?;
    free_initramfs(root);
    rustix::mount::mount_move(".", "/").map_err(failed("move to /", root))?;
    rustix::process::chroot(".").map_err(failed("change root to", root))?;
    rustix::process::chdir("/").map_err(failed("enter", "/"))
}

/// Removes the files of the initramfs, whose memory would stay taken for as long as the machine runs.
fn free_initramfs(keep: &Path) {
    let Ok(own) = std::fs::symlink_metadata("/").map(|metadata| metadata.dev()) else { return };
    remove_below(Path::new("/"), own, keep);
}

/// Removes everything on the file system `device` below a folder; other file systems and `keep` are left alone.
fn remove_below(folder: &Path, device: u64, keep: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != keep) {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.dev() != device {
            continue;
        }
        let removed = if metadata.is_dir() {
            remove_below(&path, device, keep);
            std::fs::remove_dir(&path)
        } else {
            std::fs::remove_file(&path)
        };
        // A folder that something is mounted on cannot be removed, and holds no memory worth a word.
        drop(removed);
    }
}

fn make_folders(root: &Path, folders: &[(&str, u32)]) -> Result<(), RootError> {
    for (name, mode) in folders {
        let path = root.join(name);
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(*mode)) {
            // The umask takes bits from mkdir.
            Ok(()) => rustix::fs::chmod(&path, Mode::from_raw_mode(*mode))
                .map_err(failed("set the mode of", path))?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(failed("create", path)(error)),
        }
    }
    Ok(())
}

fn make_links(root: &Path, links: &[(&str, &str)]) -> Result<(), RootError> {
    for (name, target) in links {
        let path = root.join(name);
        match rustix::fs::symlink(*target, &path) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(failed("link", path)(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn var_is_prepared_twice_without_harm() {
        let var = tempfile::tempdir().unwrap();
        std::fs::create_dir(var.path().join("lib")).unwrap();
        std::fs::write(var.path().join("lib/kept"), "x").unwrap();
        prepare_var(var.path()).unwrap();
        prepare_var(var.path()).unwrap();
        assert_eq!(std::fs::read_to_string(var.path().join("lib/kept")).unwrap(), "x");
        assert!(var.path().join("lib/ferrite/etc/upper").is_dir());
        assert_eq!(std::fs::read_link(var.path().join("run")).unwrap(), Path::new("/run"));
    }

    #[test]
    fn freeing_leaves_the_new_root_alone() {
        let old = tempfile::tempdir().unwrap();
        for folder in ["lib/modules", "sysroot/usr"] {
            std::fs::create_dir_all(old.path().join(folder)).unwrap();
        }
        std::fs::write(old.path().join("lib/modules/load"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", old.path().join("link")).unwrap();
        let device = std::fs::symlink_metadata(old.path()).unwrap().dev();
        remove_below(old.path(), device, &old.path().join("sysroot"));
        let left: Vec<_> =
            std::fs::read_dir(old.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["sysroot"]);
        assert!(old.path().join("sysroot/usr").exists());
    }
}
