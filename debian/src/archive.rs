//! An archive opened for a set of suites: indexes verified, packages fetched and unpacked.

mod indexes;
mod pool;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::indexes::Releases;
pub use self::pool::{Dropped, FromLock, Pool};
use crate::cache::{Cache, CacheError};
use crate::extract::{self, ExtractError};
use crate::http::{FetchError, Patience};
use crate::index::{Index, IndexError};
use crate::mirrors::{MirrorSet, Mirrors};
use crate::package::Package;
use crate::progress::Progress;
use crate::release::ReleaseError;
use crate::resolve::{self, Closure, Options, Provided, Request, ResolveError};
use crate::signature::{KeyError, Keyring, SignatureError};
use crate::unpack::{Integrity, UnpackError, Unpacked};

/// One suite of an archive.
#[derive(Debug, Clone)]
pub struct Suite {
    /// `trixie`, `trixie-security`, ...: the folder below `dists`.
    pub name: String,
    /// `main`, ...
    pub components: Vec<String>,
    /// Where it is.
    pub mirrors: Mirrors,
    /// Where packages are that the mirrors have dropped; asked for locked packages only.
    pub snapshots: Mirrors,
}

/// What to open and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where downloads are kept.
    pub cache: Cache,
    /// The suites. The highest version of a package over all of them wins.
    pub suites: Vec<Suite>,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Uses the cache alone. An index that has expired is then used, with a note.
    pub offline: bool,
    /// Uses indexes past their `Valid-Until`, with a note.
    pub allow_expired: bool,
    /// An `InRelease` that was confirmed no longer ago than this is used without asking a mirror. Ten minutes by
    /// default: archives change every few hours, and a developer builds many times in between.
    pub revalidate_after: Duration,
    /// Who may sign.
    pub keyring: Keyring,
    /// The time that signatures and indexes are judged by.
    pub now: SystemTime,
    /// Retries and timeouts.
    pub patience: Patience,
    /// Downloads at the same time.
    pub downloads: usize,
}

impl Config {
    /// Debian's suite and, where there is one, its security suite; component `main`, for amd64, with Debian's keys.
    ///
    /// # Errors
    /// The pinned keys cannot be read: a broken build.
    pub fn debian(suite: &str, mirrors: &MirrorSet, cache: Cache) -> Result<Self, KeyError> {
        let named = |name: String| Suite {
            mirrors: mirrors.for_suite(&name).clone(),
            components: vec!["main".to_owned()],
            snapshots: Mirrors::default(),
            name,
        };
        let mut suites = vec![named(suite.to_owned())];
        if !matches!(suite, "sid" | "unstable" | "experimental") {
            suites.push(named(format!("{suite}-security")));
        }
        Ok(Self {
            cache,
            suites,
            architecture: "amd64".to_owned(),
            offline: false,
            allow_expired: false,
            revalidate_after: Duration::from_secs(600),
            keyring: Keyring::debian()?,
            now: SystemTime::now(),
            patience: Patience::default(),
            downloads: 4,
        })
    }
}

/// Anything that can go wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An `InRelease` in the cache that is not signed by a trusted key.
    #[error("the signed index {path} cannot be trusted")]
    Signature {
        /// The file.
        path: String,
        /// Why.
        source: SignatureError,
    },
    /// An `InRelease` that is malformed, expired or of another suite.
    #[error("the signed index {path} cannot be used{}", expired_hint(source))]
    Release {
        /// The file or URL.
        path: String,
        /// Why.
        source: ReleaseError,
    },
    /// The suite lacks an index that was asked for.
    #[error("suite {suite} has no index {path}; hint: check component and architecture")]
    NoIndex {
        /// The suite.
        suite: String,
        /// The index below the suite's folder.
        path: String,
    },
    /// An index whose content is not what the signed file says.
    #[error("index {path} does not unpack to the content that the signed index names")]
    BadIndex {
        /// The index.
        path: String,
        /// The cause, when decompression failed.
        source: Option<std::io::Error>,
    },
    /// Offline, and the cache lacks something.
    #[error("offline, and the cache in {} lacks {}\nhint: run once without --offline", cache.display(), list(missing))]
    Offline {
        /// The cache folder.
        cache: PathBuf,
        /// What is missing.
        missing: Vec<String>,
    },
    /// Packages that were asked for by their digest, and that nobody has any more.
    #[error("{}", dropped(.0))]
    Dropped(Vec<Dropped>),
    /// A package of a suite that is not open.
    #[error("package {package} is of suite {suite:?}, which is not open")]
    ForeignPackage {
        /// The package.
        package: String,
        /// Its suite.
        suite: String,
    },
    /// A download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// An index's text.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A package.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Dependencies.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Writing packages to a folder.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// The pinned keys.
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn dropped(packages: &[Dropped]) -> String {
    let lines = packages.iter().map(|dropped| format!("\n  {}", dropped.package)).collect::<String>();
    format!(
        "{} packages are neither on the mirrors nor in the snapshot archive any more:{lines}",
        packages.len()
    )
}

fn expired_hint(error: &ReleaseError) -> &'static str {
    match error {
        ReleaseError::Expired { .. } => {
            "; hint: try another mirror, or use --offline to build from the cache"
        }
        _ => "",
    }
}

fn list(missing: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = missing.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = missing.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text += &format!(" and {more} more");
    }
    text
}

/// Verified indexes, and the way to the packages.
pub struct Archive {
    pool: Pool,
    index: Index,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Archive {
    /// Fetches and verifies the indexes of all suites, or takes them from the cache, and scans them.
    ///
    /// # Errors
    /// A signature, an index or a mirror that cannot be used; offline, an index that the cache lacks.
    pub fn open(config: Config, progress: Arc<dyn Progress>) -> Result<Self, ArchiveError> {
        let pool = Pool::new(config, progress);
        let index = pool.index(&pool.releases()?, Vec::new())?;
        Ok(Self { pool, index })
    }

    /// The packages of all suites.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        self.pool.cache()
    }

    /// [`resolve::resolve`] on this archive's index, for its architecture.
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, requests: &[Request], provided: &[Provided]) -> Result<Closure, ResolveError> {
        let options = Options { architecture: self.pool.architecture().to_owned(), ..Options::default() };
        resolve::resolve(&self.index, requests, provided, &options)
    }

    /// [`Pool::fetch`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch(&self, packages: &[Arc<Package>]) -> Result<Vec<PathBuf>, ArchiveError> {
        self.pool.fetch(packages)
    }

    /// [`Pool::unpack`].
    ///
    /// # Errors
    /// As there.
    pub fn unpack(
        &self,
        packages: &[Arc<Package>],
        integrity: Integrity,
    ) -> Result<Vec<Unpacked>, ArchiveError> {
        self.pool.unpack(packages, integrity)
    }

    /// Resolves names (`name` or `name=version`), fetches and unpacks the packages, and writes their files to a
    /// folder that does not exist yet or is empty. For toolboxes that run from there; no script is run.
    ///
    /// # Errors
    /// As the steps.
    pub fn fetch_closure_to_dir(
        &self,
        requests: &[Request],
        provided: &[Provided],
        dest: &Path,
    ) -> Result<Closure, ArchiveError> {
        let closure = self.resolve(requests, provided)?;
        let unpacked = self.unpack(&closure.packages(), Integrity::OnRead)?;
        extract::extract(&unpacked, dest, self.pool.progress())?;
        Ok(closure)
    }
}

/// The result of a thread; a panic in it goes on here.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests;
