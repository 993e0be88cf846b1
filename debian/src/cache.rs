//! The folder that keeps what was fetched.
//!
//! ```text
//! by-hash/sha256/ab/abcd...       packages and indexes, by the digest of their content
//! partial/abcd...                 downloads under way or broken off, locked by who writes them
//! unpacked/ab/abcd.../            a package's data.tar without compression, and its index (crate::unpack)
//! releases/SUITE-KEY/InRelease    the latest InRelease of a suite; its mtime is when it was last confirmed
//! ```
//! Files appear under their final name by renaming, complete; so several builds may share a cache.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;
use crate::temporary::Temporary;

/// A cache folder. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// Digests whose file was found to be right, so that each is read once in a run.
    checked: Arc<Mutex<HashSet<Digest>>>,
}

/// The cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What was to be stored is something else.
    #[error("{} has SHA-256 {found}, expected {expected}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The digest it was to have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
}

/// Adds what was tried with which file to an error.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { action, path, source }
}

impl Cache {
    /// A cache in this folder, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), checked: Arc::default() }
    }

    /// The cache of the user: `FERRITE_CACHE`, else `XDG_CACHE_HOME/ferrite`, else `HOME/.cache/ferrite`, else a
    /// folder of the user's own in `TMPDIR` (`/tmp`). `variable` reads the environment.
    pub fn of_user(variable: impl Fn(&str) -> Option<std::ffi::OsString>, uid: u32) -> Self {
        // The XDG specification: paths that are not absolute do not count.
        let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let explicit = variable("FERRITE_CACHE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let root = explicit
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("ferrite")))
            .or_else(|| Some(folder("HOME")?.join(".cache/ferrite")))
            .unwrap_or_else(|| {
                let tmp = folder("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
                tmp.join(format!("ferrite-cache-{uid}"))
            });
        Self::at(root)
    }

    /// [`Cache::of_user`] with this process's environment.
    pub fn from_env() -> Self {
        // The owner of /proc/self is the process's user: no need of a system call wrapper.
        let uid = fs::metadata("/proc/self").map_or(0, |m| m.uid());
        Self::of_user(|name| std::env::var_os(name), uid)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file with this content is or would be.
    pub fn object_path(&self, digest: Digest) -> PathBuf {
        self.hashed("by-hash/sha256", digest)
    }

    pub(crate) fn unpacked_path(&self, digest: Digest) -> PathBuf {
        self.hashed("unpacked", digest)
    }

    fn hashed(&self, folder: &str, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(folder).join(name.get(..2).unwrap_or_default()).join(&name)
    }

    pub(crate) fn partial_path(&self, digest: Digest) -> PathBuf {
        self.root.join("partial").join(digest.to_string())
    }

    pub(crate) fn releases_path(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// The file with this content, if the cache has it. It is read through and checked when it is first asked for in
    /// a run; one that is not what its name says is removed, so that it is fetched again.
    ///
    /// # Errors
    /// A file that exists but cannot be read, or is wrong and cannot be removed.
    pub fn object(&self, digest: Digest, size: Option<u64>) -> Result<Option<PathBuf>, CacheError> {
        let path = self.object_path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let length = file.metadata().map_err(io_error("inspect", &path))?.len();
        let right_size = size.is_none_or(|size| size == length);
        if right_size && self.is_checked(digest) {
            return Ok(Some(path));
        }
        if right_size && Digest::of_reader(&mut file).map_err(io_error("read", &path))?.0 == digest {
            self.mark_checked(digest);
            return Ok(Some(path));
        }
        fs::remove_file(&path).map_err(io_error("remove the damaged file", &path))?;
        Ok(None)
    }

    /// The content with this digest, if the cache has it; checked each time, as it is read anyway.
    ///
    /// # Errors
    /// As [`Cache::object`].
    pub fn read(&self, digest: Digest) -> Result<Option<Vec<u8>>, CacheError> {
        let path = self.object_path(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(Some(bytes)),
            Ok(_) => {
                fs::remove_file(&path).map_err(io_error("remove the damaged file", &path)).map(|()| None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Stores content under its digest.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn store(&self, digest: Digest, bytes: &[u8]) -> Result<PathBuf, CacheError> {
        let path = self.object_path(digest);
        write_atomically(&path, bytes)?;
        Ok(path)
    }

    /// Takes a finished download over.
    pub(crate) fn adopt(&self, partial: &Path, digest: Digest) -> Result<PathBuf, CacheError> {
        let path = self.object_path(digest);
        create_parent(&path)?;
        fs::rename(partial, &path).map_err(io_error("rename", partial))?;
        self.mark_checked(digest);
        Ok(path)
    }

    fn is_checked(&self, digest: Digest) -> bool {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    fn mark_checked(&self, digest: Digest) {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }
}

pub(crate) fn create_parent(path: &Path) -> Result<(), CacheError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(io_error("create the folder", parent))
}

/// A name beside `path` that no other process or thread uses.
pub(crate) fn temporary_beside(path: &Path) -> Temporary {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    Temporary::new(path.with_file_name(name))
}

/// Writes a file under another name and renames it. No fsync: after a power cut the content is checked by its digest.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    create_parent(path)?;
    let temporary = temporary_beside(path);
    File::create(temporary.path())
        .and_then(|mut file| file.write_all(bytes))
        .map_err(io_error("write", temporary.path()))?;
    temporary.publish(path).map_err(io_error("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_environment_in_order() {
        let root = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into());
            Cache::of_user(find, 7).root().to_owned()
        };
        let all = [("FERRITE_CACHE", "/f"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h"), ("TMPDIR", "/t")];
        let want = ["/f", "/x/ferrite", "/h/.cache/ferrite", "/t/ferrite-cache-7", "/tmp/ferrite-cache-7"];
        for (i, want) in want.iter().enumerate() {
            assert_eq!(root(&all[i..]), Path::new(want));
        }
        assert_eq!(root(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]), Path::new("/h/.cache/ferrite"));
    }

    #[test]
    fn a_damaged_file_is_noticed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"content");
        Cache::at(folder.path()).store(digest, b"content").unwrap();
        let fresh = || Cache::at(folder.path());
        assert!(fresh().object(digest, Some(7)).unwrap().is_some());
        assert_eq!(fresh().read(digest).unwrap().as_deref(), Some(&b"content"[..]));
        std::fs::write(fresh().object_path(digest), b"contenT").unwrap();
        assert_eq!(fresh().object(digest, Some(7)).unwrap(), None);
        assert!(!fresh().object_path(digest).exists());
    }
}
