//! Packages that are known, and how they become files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use debian::archive::{ArchiveError, Dropped, Pool};
use debian::digest::Digest;
use debian::index::IndexText;
use debian::package::Package;
use debian::resolve::{self, Closure, Options, Provided, Request};
use debian::unpack::{Integrity, Unpacked};
use image_config::lock::Lock;

use super::{Origin, PackagesError, Supply, choose, closure_digest};

/// Which packages an image is made of; nothing is fetched yet.
#[derive(Debug)]
pub struct Plan {
    pool: Pool,
    /// What the recipe asks for, and the packages, as locked or as a lock file of today would have them.
    lock: Lock,
    packages: Vec<Arc<Package>>,
    requests: Vec<Request>,
    provided: Vec<Provided>,
    origin: Origin,
    /// These packages or none.
    strict: bool,
    lock_file: PathBuf,
    notes: Vec<String>,
}

impl Plan {
    pub(super) fn new(
        pool: Pool,
        lock: Lock,
        origin: Origin,
        strict: bool,
        lock_file: PathBuf,
        notes: Vec<String>,
    ) -> Result<Self, PackagesError> {
        Ok(Self {
            packages: choose::packages(&lock)?,
            requests: choose::requests(lock.inputs()),
            provided: choose::provided(lock.inputs())?,
            pool,
            lock,
            origin,
            strict,
            lock_file,
            notes,
        })
    }

    /// The packages, sorted by name.
    pub fn packages(&self) -> &[Arc<Package>] {
        &self.packages
    }

    /// Fetches the `.deb` files that the cache lacks; where they are, in the order of [`Plan::packages`].
    ///
    /// # Errors
    /// A package that cannot be had.
    pub fn fetch(&self) -> Result<Vec<PathBuf>, PackagesError> {
        Ok(self.pool.fetch(&self.packages)?)
    }

    /// What decided.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// [`closure_digest`] of the packages. [`Supply::digest`] is another one when packages turned out to be gone.
    pub fn digest(&self) -> Digest {
        closure_digest(&self.packages)
    }

    /// What whoever builds should know so far.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Fetches and unpacks the packages; what the cache has is neither fetched nor unpacked again.
    ///
    /// # Errors
    /// A package that cannot be had or unpacked; packages that do not fit together.
    pub fn supply(mut self) -> Result<Supply, PackagesError> {
        let planned = self.digest();
        let unpacked = match self.origin {
            Origin::Indexes => self.pool.unpack(&self.packages, Integrity::OnRead)?,
            Origin::Lock => match self.pool.unpack_locked(&self.packages, Integrity::OnRead) {
                Ok(from_lock) => {
                    self.note_snapshots(&from_lock.from_snapshots);
                    from_lock.unpacked
                }
                Err(ArchiveError::Dropped(dropped)) if self.strict => return Err(self.refuse(&dropped)),
                Err(ArchiveError::Dropped(dropped)) => self.replace(&dropped)?,
                Err(error) => return Err(error.into()),
            },
        };
        let unpacked: Vec<Unpacked> =
            unpacked.into_iter().map(Unpacked::described).collect::<Result<_, _>>()?;
        let packages: Vec<Arc<Package>> =
            unpacked.iter().map(|unpacked| Arc::clone(&unpacked.package)).collect();
        let digest = closure_digest(&packages);
        let architecture = self.pool.architecture();
        let closure = Closure::retrace(packages, &self.requests, &self.provided, architecture)
            .map_err(|source| PackagesError::NoClosure { path: self.lock_file, source })?;
        let edges = closure.edges(&self.provided, architecture);
        let edges = edges.into_iter().map(|names| names.into_iter().map(str::to_owned).collect()).collect();
        Ok(Supply { closure, edges, unpacked, origin: self.origin, digest, planned, notes: self.notes })
    }

    fn note_snapshots(&mut self, packages: &[Arc<Package>]) {
        if !packages.is_empty() {
            let names: Vec<String> = packages.iter().map(ToString::to_string).collect();
            self.notes.push(format!(
                "the mirrors have dropped {} locked packages, which came from the snapshot archive: {}; `ferrite lock` moves \
                 on to current ones",
                packages.len(),
                names.join(", ")
            ));
        }
    }

    fn refuse(self, dropped: &[Dropped]) -> PackagesError {
        let describe = |dropped: &Dropped| {
            let last = dropped.failures.iter().filter_map(|failure| failure.last_attempt()).next_back();
            let said = last.map(|said| format!(" ({said})")).unwrap_or_default();
            format!("{}{said}", dropped.package)
        };
        PackagesError::Dropped { path: self.lock_file, packages: dropped.iter().map(describe).collect() }
    }

    /// Chooses again, from what the lock has left and the current indexes.
    fn replace(&mut self, dropped: &[Dropped]) -> Result<Vec<Unpacked>, PackagesError> {
        let is_gone = |package: &Package| dropped.iter().any(|gone| gone.package.sha256 == package.sha256);
        let left: Vec<Arc<Package>> =
            self.packages.iter().filter(|package| !is_gone(package)).cloned().collect();
        let left = self.pool.unpack_locked(&left, Integrity::OnRead)?;
        self.note_snapshots(&left.from_snapshots);
        let releases = self.pool.releases()?;
        let index = self.pool.index(&releases, stanzas(&left.unpacked)?)?;
        let options = Options {
            architecture: self.pool.architecture().to_owned(),
            preferred: choose::versions(&self.lock)?,
            without: dropped.iter().map(|gone| gone.package.sha256).collect(),
            ..Options::default()
        };
        let closure = resolve::resolve(&index, &self.requests, &self.provided, &options)?;
        let chosen = closure.packages();
        self.note_replaced(&chosen, &is_gone);
        self.origin = Origin::Indexes;
        self.packages = chosen;
        Ok(self.pool.unpack(&self.packages, Integrity::OnRead)?)
    }

    /// One line for each package that is another one than the lock says.
    fn note_replaced(&mut self, chosen: &[Arc<Package>], is_gone: &dyn Fn(&Package) -> bool) {
        let by_name = |packages: &[Arc<Package>]| -> BTreeMap<String, Arc<Package>> {
            packages.iter().map(|package| (package.name.clone(), Arc::clone(package))).collect()
        };
        let (locked, now) = (by_name(&self.packages), by_name(chosen));
        for (name, package) in &locked {
            let taken = now.get(name);
            if taken.is_some_and(|taken| taken.sha256 == package.sha256) {
                continue;
            }
            let gone = if is_gone(package) {
                "is neither on the mirrors nor in the snapshot archive any more"
            } else {
                "does not go with what replaces other packages"
            };
            let instead = match taken {
                Some(taken) => format!("{} is taken", taken.version),
                None => "nothing needs it now".to_owned(),
            };
            self.notes.push(format!("locked package {package} {gone}: {instead}"));
        }
        for package in now.values().filter(|package| !locked.contains_key(&package.name)) {
            self.notes.push(format!("package {package}, which is not locked, is needed now"));
        }
        self.notes.push(format!(
            "{} is behind its mirrors: `ferrite lock` brings it up to date",
            self.lock_file.display()
        ));
    }
}

/// What is left of a lock, as if its packages were in the indexes still: one text for each suite.
fn stanzas(unpacked: &[Unpacked]) -> Result<Vec<IndexText>, PackagesError> {
    let mut by_suite: BTreeMap<Arc<str>, Vec<u8>> = BTreeMap::new();
    for unpacked in unpacked {
        let text = by_suite.entry(Arc::clone(&unpacked.package.suite)).or_default();
        text.extend(unpacked.index_stanza()?);
    }
    let text =
        |(suite, text)| IndexText { suite, label: "of the lock file".to_owned(), text: Arc::new(text) };
    Ok(by_suite.into_iter().map(text).collect())
}
