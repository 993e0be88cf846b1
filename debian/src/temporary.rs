//! Files and folders under construction, which go when the process is told to end.
//!
//! Dropping a [`Temporary`] removes it. That does not happen when a signal ends the process, so every temporary is also
//! in a list of the process, and whoever handles the signal calls [`abandon_all`].

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is under construction in this process. Locked while a name appears or goes, so that [`abandon_all`] sees all.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or folder under construction; removed when dropped, unless it was [`Temporary::publish`]ed.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Takes charge of a path at which something is about to be made. Nothing is made here.
    pub fn new(path: PathBuf) -> Self {
        live().insert(path.clone());
        Self { path }
    }

    /// Where to build it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives what was built its name. What was a file of that name is replaced.
    ///
    /// # Errors
    /// The system's; what was built is removed then.
    pub fn publish(self, name: &Path) -> io::Result<()> {
        let mut live = live();
        fs::rename(&self.path, name)?;
        live.remove(&self.path);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut live = live();
        if live.remove(&self.path) {
            // Nothing can be done about what cannot be removed, and the error that led here is the one to show.
            let _ = remove(&self.path);
        }
    }
}

/// Removes everything that is under construction, for a process that ends now: threads that begin or finish a
/// [`Temporary`] afterwards wait for ever.
pub fn abandon_all() {
    let live = live();
    for path in &*live {
        // A thread may still be adding files to a folder: the names are taken from it a few times.
        for _ in 0..10 {
            match remove(path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                _ => break,
            }
        }
    }
    std::mem::forget(live);
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_published_goes_and_what_is_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (half, whole) = (folder.path().join("half"), folder.path().join("whole"));
        let file = Temporary::new(half.clone());
        fs::write(file.path(), "x").unwrap();
        drop(file);
        let tree = Temporary::new(half.clone());
        fs::create_dir_all(tree.path().join("a/b")).unwrap();
        drop(tree);
        assert!(!half.exists());
        let file = Temporary::new(half.clone());
        fs::write(file.path(), "x").unwrap();
        file.publish(&whole).unwrap();
        assert!(!half.exists() && whole.exists());
        assert!(!live().contains(&half));
    }

    #[test]
    fn what_cannot_get_its_name_goes() {
        let folder = tempfile::tempdir().unwrap();
        let half = folder.path().join("half");
        let file = Temporary::new(half.clone());
        fs::write(file.path(), "x").unwrap();
        assert!(file.publish(&folder.path().join("no/such/folder")).is_err());
        assert!(!half.exists());
    }
}
