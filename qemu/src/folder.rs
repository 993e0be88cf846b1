//! Folders of running VMs. Each is locked by the process that owns its VM, so that the next process can tell what a killed one
//! left behind, and remove it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A Unix socket's path has at most 107 bytes; the longest name that we put into a VM's folder has 29.
const LONGEST_FOLDER: usize = 76;
const LOCK: &str = "lock";
const PREFIX: &str = "vm-";

/// A folder for run-time files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file operation failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Another user made the folder, or others may write to it.
    #[error("{} is not a folder of this user alone", .0.display())]
    NotOurs(PathBuf),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    move |source| FolderError::Io { action, path: path.to_path_buf(), source }
}

/// The folder of this user below `root` (a world-writable place such as `/tmp`), made when absent.
///
/// # Errors
/// It cannot be made, or somebody else owns or can enter what is there.
pub fn of_user(root: &Path) -> Result<PathBuf, FolderError> {
    let uid = rustix::process::getuid().as_raw();
    let path = root.join(format!("ferrite-{uid}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_error("make", &path)(error));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(&path).map_err(io_error("look at", &path))?;
    if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0 {
        Ok(path)
    } else {
        Err(FolderError::NotOurs(path))
    }
}

/// The temporary folder, or `/tmp` when sockets in it would have names that are too long.
pub fn temporary_root() -> PathBuf {
    let configured = std::env::temp_dir();
    let fits = configured.as_os_str().len() + "/ferrite-4294967295/vm-4194304-99999".len() <= LONGEST_FOLDER;
    if fits { configured } else { PathBuf::from("/tmp") }
}

/// Opens a lock file, made when absent.
///
/// # Errors
/// It cannot be opened.
pub fn open_lock(path: &Path) -> Result<File, FolderError> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    open.map_err(io_error("open", path))
}

/// The folder of one VM, removed when dropped.
#[derive(Debug)]
pub struct VmFolder {
    path: PathBuf,
    /// Held while the VM lives; the kernel releases it when the process ends in any way.
    _lock: File,
}

impl VmFolder {
    /// Makes a folder below the user's folder in `root`, after removing those whose owners have ended.
    ///
    /// # Errors
    /// As [`of_user`], or no space.
    pub fn create(root: &Path) -> Result<Self, FolderError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let user = of_user(root)?;
        // Held until the new folder is locked, so that nobody takes it for a leftover in between.
        let gate = open_lock(&user.join("gate"))?;
        gate.lock().map_err(io_error("lock", &user))?;
        sweep(&user);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = user.join(format!("{PREFIX}{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(io_error("make", &path))?;
        let lock = open_lock(&path.join(LOCK))?;
        lock.lock().map_err(io_error("lock", &path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only the user can read.
    ///
    /// # Errors
    /// No space.
    pub fn write(&self, path: &Path, contents: &[u8]) -> Result<(), FolderError> {
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        open.and_then(|mut file| io::Write::write_all(&mut file, contents)).map_err(io_error("write", path))
    }
}

impl Drop for VmFolder {
    fn drop(&mut self) {
        // What cannot be removed now goes at the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what processes that were killed have left below the user's folder in `root`.
///
/// # Errors
/// As [`of_user`].
pub fn remove_leftovers(root: &Path) -> Result<(), FolderError> {
    let user = of_user(root)?;
    let gate = open_lock(&user.join("gate"))?;
    gate.lock().map_err(io_error("lock", &user))?;
    sweep(&user);
    Ok(())
}

/// Removes the VM folders whose owners have ended. Best effort: a leftover costs space, not correctness.
fn sweep(user: &Path) {
    let Ok(entries) = fs::read_dir(user) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let lock = File::open(entry.path().join(LOCK));
        let abandoned = match &lock {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if abandoned {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_goes_with_its_vm_and_leftovers_go_with_the_next() {
        let root = tempfile::tempdir().unwrap();
        let folder = VmFolder::create(root.path()).unwrap();
        let leftover = folder.path().with_file_name("vm-1-0");
        fs::create_dir(&leftover).unwrap();
        fs::write(leftover.join(LOCK), "").unwrap();
        let second = VmFolder::create(root.path()).unwrap();
        assert!(!leftover.exists(), "nobody holds its lock");
        assert!(folder.path().exists(), "its lock is held");
        let gone = folder.path().to_path_buf();
        drop(folder);
        assert!(!gone.exists());
        assert!(second.path().exists());
    }

    #[test]
    fn files_for_the_guest_are_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = VmFolder::create(root.path()).unwrap();
        let file = folder.path().join("secret");
        folder.write(&file, b"x").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_others_can_enter_or_that_is_a_link_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = of_user(root.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(of_user(root.path()), Err(FolderError::NotOurs(_))));
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(root.path(), &path).unwrap();
        assert!(matches!(of_user(root.path()), Err(FolderError::NotOurs(_))));
    }
}
