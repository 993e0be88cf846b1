//! An archive opened for a set of suites: indexes verified, packages fetched and unpacked.

mod indexes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use crate::cache::{Cache, CacheError};
use crate::extract::{self, ExtractError};
use crate::http::{FetchError, Fetcher, LazyClient, Patience, Wanted};
use crate::index::{Index, IndexError};
use crate::mirrors::{MirrorSet, Mirrors};
use crate::package::Package;
use crate::progress::{Progress, Task, Unit};
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
    config: Config,
    progress: Arc<dyn Progress>,
    client: LazyClient,
    index: Index,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Archive {
    /// Fetches and verifies the indexes of all suites, or takes them from the cache, and scans them.
    ///
    /// # Errors
    /// A signature, an index or a mirror that cannot be used; offline, an index that the cache lacks.
    pub fn open(config: Config, progress: Arc<dyn Progress>) -> Result<Self, ArchiveError> {
        let client = LazyClient::default();
        let opener = indexes::Opener { config: &config, progress: &*progress, client: &client };
        let texts: Vec<_> = std::thread::scope(|scope| {
            let opener = &opener;
            let threads: Vec<_> =
                config.suites.iter().map(|suite| scope.spawn(|| opener.open(suite))).collect();
            threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        })?;
        let index = Index::parse(texts.into_iter().flatten().collect())?;
        Ok(Self { config, progress, client, index })
    }

    /// The packages of all suites.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.config.cache
    }

    /// [`resolve::resolve`] on this archive's index, for its architecture.
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, requests: &[Request], provided: &[Provided]) -> Result<Closure, ResolveError> {
        let options = Options { architecture: self.config.architecture.clone(), ..Options::default() };
        resolve::resolve(&self.index, requests, provided, &options)
    }

    /// Fetches packages into the cache; paths in the order of the packages. Those already there are hashed once.
    ///
    /// # Errors
    /// The first package that no mirror gives; offline, all that are missing.
    pub fn fetch(&self, packages: &[Arc<Package>]) -> Result<Vec<PathBuf>, ArchiveError> {
        let cache = &self.config.cache;
        let known: Vec<Option<PathBuf>> =
            packages.par_iter().map(|p| cache.object(p.sha256, Some(p.size))).collect::<Result<_, _>>()?;
        let missing: Vec<&Arc<Package>> = packages
            .iter()
            .zip(&known)
            .filter(|(_, path)| path.is_none())
            .map(|(package, _)| package)
            .collect();
        if !missing.is_empty() {
            if self.config.offline {
                let missing = missing.iter().map(|p| p.id()).collect();
                return Err(ArchiveError::Offline { cache: cache.root().to_owned(), missing });
            }
            self.download(&missing)?;
        }
        Ok(packages.iter().map(|p| cache.object_path(p.sha256)).collect())
    }

    fn download(&self, packages: &[&Arc<Package>]) -> Result<(), ArchiveError> {
        let fetchers: Vec<(&str, Fetcher<'_>)> = self
            .config
            .suites
            .iter()
            .map(|s| {
                let fetcher = Fetcher::new(&s.mirrors, &self.config.patience, &self.client, &*self.progress);
                (s.name.as_str(), fetcher)
            })
            .collect();
        let total = packages.iter().map(|p| p.size).sum();
        let task = self.progress.begin(&format!("fetching {} packages", packages.len()), total, Unit::Bytes);
        let next = AtomicUsize::new(0);
        let worker = || -> Result<(), ArchiveError> {
            while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.download_one(&fetchers, package, &*task);
                if result.is_err() {
                    // The others stop after what they have begun.
                    next.store(packages.len(), Ordering::Relaxed);
                    return result;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let count = self.config.downloads.clamp(1, packages.len().max(1));
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().try_for_each(join)
        })
    }

    fn download_one(
        &self,
        fetchers: &[(&str, Fetcher<'_>)],
        package: &Package,
        task: &dyn Task,
    ) -> Result<(), ArchiveError> {
        let fetcher = fetchers.iter().find(|(suite, _)| *suite == &*package.suite);
        let foreign = || ArchiveError::ForeignPackage {
            package: package.to_string(),
            suite: package.suite.to_string(),
        };
        let (_, fetcher) = fetcher.ok_or_else(foreign)?;
        let wanted = Wanted { path: package.filename.clone(), size: package.size, sha256: package.sha256 };
        fetcher.file(&self.config.cache, &wanted, task)?;
        Ok(())
    }

    /// Unpacks packages into the cache, fetching what is missing; in the order of the packages. What was unpacked
    /// before is not fetched or decompressed again, but checked as `integrity` says.
    ///
    /// # Errors
    /// As [`Archive::fetch`]; a package that cannot be unpacked.
    pub fn unpack(
        &self,
        packages: &[Arc<Package>],
        integrity: Integrity,
    ) -> Result<Vec<Unpacked>, ArchiveError> {
        let cache = &self.config.cache;
        let mut known: Vec<Option<Unpacked>> =
            packages.par_iter().map(|p| Unpacked::load(cache, p, integrity)).collect::<Result<_, _>>()?;
        let mut missing: Vec<Arc<Package>> =
            packages.iter().zip(&known).filter(|(_, u)| u.is_none()).map(|(p, _)| Arc::clone(p)).collect();
        if missing.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        // The largest first: otherwise one core ends up with it alone.
        missing.sort_by_key(|p| std::cmp::Reverse(p.size));
        let paths = self.fetch(&missing)?;
        let total = missing.iter().map(|p| p.size).sum();
        let task = self.progress.begin(&format!("unpacking {} packages", missing.len()), total, Unit::Bytes);
        let work: Vec<(Arc<Package>, PathBuf)> = missing.into_iter().zip(paths).collect();
        let made = work.into_par_iter().with_max_len(1).map(|(package, deb)| {
            let unpacked = Unpacked::create(cache, &package, &deb)?;
            task.advance(package.size);
            Ok((package.sha256, unpacked))
        });
        let mut made = made.collect::<Result<std::collections::HashMap<_, _>, UnpackError>>()?;
        for (package, slot) in packages.iter().zip(&mut known) {
            if slot.is_none() {
                // A package that is in the list twice is made once.
                *slot = made.get(&package.sha256).cloned();
            }
        }
        made.clear();
        Ok(known.into_iter().flatten().collect())
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
        extract::extract(&unpacked, dest, &*self.progress)?;
        Ok(closure)
    }
}

/// The result of a thread; a panic in it goes on here.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests;
