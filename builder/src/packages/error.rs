//! Why there are no packages.

use std::path::PathBuf;

use debian::archive::ArchiveError;
use debian::index::IndexError;
use debian::resolve::{ResolveError, RetraceError};
use debian::signature::KeyError;
use debian::unpack::UnpackError;
use debian::version::VersionError;
use image_config::lock::{LockError, LockFileError};
use image_config::recipe::NameError;

/// Why there are no packages.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The pinned keys of Debian's archive.
    #[error("cannot read the pinned archive keys")]
    Keys(#[from] KeyError),
    /// Indexes, downloads, unpacking.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A package that was unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The closure.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// An index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A version in `provides` or in the lock file.
    #[error("{name}: {text:?} is no version")]
    Version {
        /// The package.
        name: String,
        /// The text.
        text: String,
        /// Why.
        source: VersionError,
    },
    /// The lock file cannot be read, or is malformed.
    #[error(transparent)]
    LockFile(#[from] LockFileError),
    /// There is none, but only locked packages are wanted.
    #[error("there is no lock file {}\nhint: `ferrite lock` writes it; without --locked, current versions are taken", path.display())]
    NoLock {
        /// Where it would be.
        path: PathBuf,
    },
    /// The lock file is of another recipe, but only locked packages are wanted.
    #[error(
        "the lock file {} is not for this recipe:\n  {}\nhint: `ferrite lock` resolves the recipe anew; without --locked, \
         current versions are taken",
        path.display(), differences.join("\n  ")
    )]
    OtherRecipe {
        /// The lock file.
        path: PathBuf,
        /// What differs.
        differences: Vec<String>,
    },
    /// Locked packages that are nowhere any more, and only those are wanted.
    #[error(
        "{} of the packages in {} cannot be had any more:\n  {}\nhint: `ferrite lock` moves on to current versions, and so does \
         a build without --locked; a mirror that still has them can be named with --mirror or --snapshot",
        packages.len(), path.display(), packages.join("\n  ")
    )]
    Dropped {
        /// The lock file.
        path: PathBuf,
        /// Name and version of each, and what the last server said.
        packages: Vec<String>,
    },
    /// The packages are no closure: somebody has edited the lock file.
    #[error("the packages of {} do not fit together\nhint: `ferrite lock` writes the file anew", path.display())]
    NoClosure {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: RetraceError,
    },
    /// An index names a package in a way that a lock file cannot hold.
    #[error("package {name} cannot be locked")]
    NotLockable {
        /// The package.
        name: String,
        /// Why.
        source: NameError,
    },
    /// The packages of the indexes make no lock.
    #[error("the packages that the indexes give make no lock file")]
    NoLockable(#[from] LockError),
}
