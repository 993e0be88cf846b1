//! From packages that are known to files in the cache: fetched, unpacked. No index is needed for that.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::{ArchiveError, Config, Releases, indexes, join};
use crate::cache::Cache;
use crate::http::{Absence, FetchError, Fetcher, LazyClient, Patience, Wanted};
use crate::index::{Index, IndexText};
use crate::package::Package;
use crate::progress::{Progress, Task, Unit};
use crate::unpack::{Integrity, UnpackError, Unpacked};

/// The way to an archive's packages. Cheap to make: nothing is read or fetched before somebody asks.
pub struct Pool {
    config: Config,
    progress: Arc<dyn Progress>,
    client: LazyClient,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A package that nobody has any more.
#[derive(Debug)]
pub struct Dropped {
    /// The package.
    pub package: Arc<Package>,
    /// What the mirrors, and the snapshot archive if it was asked, said.
    pub failures: Vec<FetchError>,
}

/// Locked packages, unpacked.
#[derive(Debug)]
pub struct FromLock {
    /// In the order of the packages.
    pub unpacked: Vec<Unpacked>,
    /// Packages that the mirrors had dropped; the snapshot archive had them.
    pub from_snapshots: Vec<Arc<Package>>,
}

/// Where the packages of a suite are asked for.
struct Sources<'a> {
    suite: &'a str,
    mirrors: Fetcher<'a>,
    /// `None`: packages come from the mirrors or not at all.
    snapshots: Option<Snapshots<'a>>,
}

struct Snapshots<'a> {
    fetcher: Fetcher<'a>,
    /// It did not answer once: nobody waits for it again.
    silent: AtomicBool,
}

/// What became of one download.
enum Outcome {
    Fetched,
    FromSnapshot(Arc<Package>),
    Dropped(Dropped),
}

impl Pool {
    /// The pool of the archive that a configuration means.
    pub fn new(config: Config, progress: Arc<dyn Progress>) -> Self {
        Self { config, progress, client: LazyClient::default() }
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.config.cache
    }

    /// Debian's name of the architecture.
    pub fn architecture(&self) -> &str {
        &self.config.architecture
    }

    /// Who hears of the work.
    pub fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    /// The signed indexes of all suites, verified: from the mirrors, or from the cache when a mirror has confirmed them lately.
    ///
    /// # Errors
    /// A signature or a mirror that cannot be used; offline, an index that the cache lacks.
    pub fn releases(&self) -> Result<Releases, ArchiveError> {
        let opener = self.opener();
        self.of_each_suite(|suite| opener.release_of(suite)).map(Releases)
    }

    /// The packages of all suites, from the indexes that the signed ones name: fetched, or taken from the cache. `more` are
    /// packages besides, which nobody has signed.
    ///
    /// # Errors
    /// An index or a mirror that cannot be used; offline, an index that the cache lacks.
    pub fn index(&self, releases: &Releases, more: Vec<IndexText>) -> Result<Index, ArchiveError> {
        let opener = self.opener();
        let texts = self.of_each_suite(|suite| opener.indexes_of(suite, releases))?;
        Ok(Index::parse(texts.into_iter().flatten().chain(more).collect())?)
    }

    fn opener(&self) -> indexes::Opener<'_> {
        indexes::Opener { config: &self.config, progress: &*self.progress, client: &self.client }
    }

    fn of_each_suite<T: Send>(
        &self,
        work: impl Fn(&super::Suite) -> Result<T, ArchiveError> + Sync,
    ) -> Result<Vec<T>, ArchiveError> {
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> =
                self.config.suites.iter().map(|suite| scope.spawn(move || work(suite))).collect();
            threads.into_iter().map(join).collect()
        })
    }

    /// Fetches packages into the cache; paths in the order of the packages. Those already there are hashed once.
    ///
    /// # Errors
    /// The first package that no mirror gives; offline, all that are missing.
    pub fn fetch(&self, packages: &[Arc<Package>]) -> Result<Vec<PathBuf>, ArchiveError> {
        Ok(self.fetch_from(packages, Absence::MayPass)?.0)
    }

    /// Unpacks packages into the cache, fetching what is missing; in the order of the packages. What was unpacked
    /// before is not fetched or decompressed again, but checked as `integrity` says.
    ///
    /// # Errors
    /// As [`Pool::fetch`]; a package that cannot be unpacked.
    pub fn unpack(
        &self,
        packages: &[Arc<Package>],
        integrity: Integrity,
    ) -> Result<Vec<Unpacked>, ArchiveError> {
        Ok(self.unpack_from(packages, integrity, Absence::MayPass)?.unpacked)
    }

    /// The same for packages that were chosen some time ago: those that the mirrors have dropped are asked for at the snapshot
    /// archives ([`super::Suite::snapshots`]).
    ///
    /// # Errors
    /// As [`Pool::unpack`]. [`ArchiveError::Dropped`] with every package that is nowhere any more; the others are in the cache
    /// then.
    pub fn unpack_locked(
        &self,
        packages: &[Arc<Package>],
        integrity: Integrity,
    ) -> Result<FromLock, ArchiveError> {
        self.unpack_from(packages, integrity, Absence::IsFinal)
    }

    fn unpack_from(
        &self,
        packages: &[Arc<Package>],
        integrity: Integrity,
        absence: Absence,
    ) -> Result<FromLock, ArchiveError> {
        let cache = &self.config.cache;
        let mut known: Vec<Option<Unpacked>> =
            packages.par_iter().map(|p| Unpacked::load(cache, p, integrity)).collect::<Result<_, _>>()?;
        let mut missing: Vec<Arc<Package>> =
            packages.iter().zip(&known).filter(|(_, u)| u.is_none()).map(|(p, _)| Arc::clone(p)).collect();
        if missing.is_empty() {
            return Ok(FromLock {
                unpacked: known.into_iter().flatten().collect(),
                from_snapshots: Vec::new(),
            });
        }
        // The largest first: otherwise one core ends up with it alone.
        missing.sort_by_key(|p| std::cmp::Reverse(p.size));
        let (paths, from_snapshots) = self.fetch_from(&missing, absence)?;
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
        Ok(FromLock { unpacked: known.into_iter().flatten().collect(), from_snapshots })
    }

    /// Paths in the order of the packages, and those that came from a snapshot archive.
    fn fetch_from(
        &self,
        packages: &[Arc<Package>],
        absence: Absence,
    ) -> Result<(Vec<PathBuf>, Vec<Arc<Package>>), ArchiveError> {
        let cache = &self.config.cache;
        let known: Vec<Option<PathBuf>> =
            packages.par_iter().map(|p| cache.object(p.sha256, Some(p.size))).collect::<Result<_, _>>()?;
        let missing: Vec<&Arc<Package>> = packages
            .iter()
            .zip(&known)
            .filter(|(_, path)| path.is_none())
            .map(|(package, _)| package)
            .collect();
        let mut from_snapshots = Vec::new();
        if !missing.is_empty() {
            if self.config.offline {
                let missing = missing.iter().map(|p| p.id()).collect();
                return Err(ArchiveError::Offline { cache: cache.root().to_owned(), missing });
            }
            from_snapshots = self.download(&missing, absence)?;
        }
        Ok((packages.iter().map(|p| cache.object_path(p.sha256)).collect(), from_snapshots))
    }

    /// Returns what came from snapshot archives, by name.
    fn download(
        &self,
        packages: &[&Arc<Package>],
        absence: Absence,
    ) -> Result<Vec<Arc<Package>>, ArchiveError> {
        // The snapshot archive is the last resort, and slow to say no.
        let patience =
            Patience { rounds: self.config.patience.rounds.min(2), ..self.config.patience.clone() };
        let sources = self.sources(absence, &patience);
        let total = packages.iter().map(|p| p.size).sum();
        let task = self.progress.begin(&format!("fetching {} packages", packages.len()), total, Unit::Bytes);
        let next = AtomicUsize::new(0);
        let (from_snapshots, dropped) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let worker = || -> Result<(), ArchiveError> {
            while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.download_one(&sources, package, &*task) {
                    Ok(Outcome::Fetched) => {}
                    Ok(Outcome::FromSnapshot(package)) => push(&from_snapshots, package),
                    Ok(Outcome::Dropped(package)) => push(&dropped, package),
                    Err(error) => {
                        // The others stop after what they have begun.
                        next.store(packages.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let count = self.config.downloads.clamp(1, packages.len().max(1));
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().try_for_each(join)
        })?;
        let mut dropped = dropped.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !dropped.is_empty() {
            dropped.sort_by(|a: &Dropped, b| a.package.name.cmp(&b.package.name));
            return Err(ArchiveError::Dropped(dropped));
        }
        let mut from_snapshots = from_snapshots.into_inner().unwrap_or_else(PoisonError::into_inner);
        from_snapshots.sort_by(|a: &Arc<Package>, b| a.name.cmp(&b.name));
        Ok(from_snapshots)
    }

    fn sources<'a>(&'a self, absence: Absence, patience: &'a Patience) -> Vec<Sources<'a>> {
        let (client, progress) = (&self.client, &*self.progress);
        let sources = self.config.suites.iter().map(|suite| {
            let asked = absence == Absence::IsFinal && !suite.snapshots.is_empty();
            let snapshots = asked.then(|| Snapshots {
                fetcher: Fetcher::new(&suite.snapshots, patience, client, progress),
                silent: AtomicBool::new(false),
            });
            let mirrors = Fetcher::new(&suite.mirrors, &self.config.patience, client, progress);
            Sources { suite: &suite.name, mirrors: mirrors.with_absence(absence), snapshots }
        });
        sources.collect()
    }

    fn download_one(
        &self,
        sources: &[Sources<'_>],
        package: &Arc<Package>,
        task: &dyn Task,
    ) -> Result<Outcome, ArchiveError> {
        let foreign = || ArchiveError::ForeignPackage {
            package: package.to_string(),
            suite: package.suite.to_string(),
        };
        let sources = sources.iter().find(|s| *s.suite == *package.suite).ok_or_else(foreign)?;
        let wanted = Wanted { path: package.filename.clone(), size: package.size, sha256: package.sha256 };
        let cache = &self.config.cache;
        let Err(error) = sources.mirrors.file(cache, &wanted, task) else { return Ok(Outcome::Fetched) };
        if sources.mirrors.absence == Absence::MayPass || !(error.is_absent() || error.is_mismatch()) {
            return Err(error.into());
        }
        let is_absent = error.is_absent();
        let mut failures = vec![error];
        if let Some(snapshots) = &sources.snapshots
            && !snapshots.silent.load(Ordering::Relaxed)
        {
            match snapshots.fetcher.file(cache, &wanted, task) {
                Ok(_) => return Ok(Outcome::FromSnapshot(Arc::clone(package))),
                Err(error @ FetchError::AllMirrors { .. }) => {
                    snapshots.silent.store(error.is_silence(), Ordering::Relaxed);
                    failures.push(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if is_absent {
            return Ok(Outcome::Dropped(Dropped { package: Arc::clone(package), failures }));
        }
        // Mirrors that serve something else have not moved on: something is wrong with them.
        Err(failures.swap_remove(0).into())
    }
}

fn push<T>(list: &Mutex<Vec<T>>, value: T) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(value);
}

#[cfg(test)]
mod tests;
