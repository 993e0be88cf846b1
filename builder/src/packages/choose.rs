//! From a recipe's inputs and the archive's indexes to a lock, and from a lock to packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use debian::archive::{ArchiveError, Pool};
use debian::digest::Digest;
use debian::package::{Package, Pin};
use debian::resolve::{self, Options, Provided, Request};
use debian::version::Version;
use image_config::lock::{Inputs, Lock, LockedPackage, PackageVersion, PoolPath, ReleaseDate, Sha256};
use image_config::recipe::{NameError, PackageName, Suite};

use super::PackagesError;
use crate::build::Output;

/// The packages that the current indexes give. Versions of `kept` are taken where the indexes still have them.
///
/// What came out is remembered in the cache, by a digest of all that it depends on: reading the indexes is most of the work.
pub(super) fn current(pool: &Pool, inputs: &Inputs, kept: Option<&Lock>) -> Result<Lock, PackagesError> {
    let releases = pool.releases()?;
    let dates: Vec<ReleaseDate> = releases.dates().map(|(_, date)| release_date(date)).collect();
    let kept_text = kept.map(ToString::to_string).unwrap_or_default();
    let key = format!("{}\n{inputs:?}\n{dates:?}\n{kept_text}", releases.digest());
    let remembered =
        pool.cache().root().join("resolved").join(format!("{}.lock", Digest::of(key.as_bytes())));
    // One that is damaged, or of an older form, counts as none.
    if let Ok(Some(lock)) = Lock::load(&remembered)
        && lock.inputs() == inputs
    {
        return Ok(lock);
    }
    let index = pool.index(&releases, Vec::new())?;
    let options = Options {
        architecture: inputs.architecture.clone(),
        preferred: kept.map(versions).transpose()?.unwrap_or_default(),
        ..Options::default()
    };
    let closure = resolve::resolve(&index, &requests(inputs), &provided(inputs)?, &options)?;
    let packages = closure.selected.iter().map(|selected| lock_package(&selected.package));
    let lock = Lock::new(inputs.clone(), dates, packages.collect::<Result<_, _>>()?)?;
    remember(&remembered, &lock);
    Ok(lock)
}

/// Nothing depends on it, so that errors do not matter: the next build resolves again.
fn remember(path: &Path, lock: &Lock) {
    let output = Output::new(path);
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = folder.and_then(|()| fs::write(output.temporary(), lock.to_string()));
    let _ = written.and_then(|()| output.publish());
}

fn release_date(date: SystemTime) -> ReleaseDate {
    let seconds = date.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // A `Release` has four digits for the year.
    ReleaseDate::from_unix(seconds)
        .unwrap_or_else(|| unreachable!("dates of releases end with the year 9999"))
}

pub(super) fn requests(inputs: &Inputs) -> Vec<Request> {
    inputs.requests.iter().map(|name| Request { name: name.to_string(), version: None }).collect()
}

pub(super) fn provided(inputs: &Inputs) -> Result<Vec<Provided>, PackagesError> {
    let provided = inputs.provides.iter().map(|provided| {
        let name = provided.name.to_string();
        let version = provided.version.as_ref().map(|text| version(&name, text)).transpose()?;
        Ok(Provided { name, version })
    });
    provided.collect()
}

/// The locked versions, by name.
pub(super) fn versions(lock: &Lock) -> Result<BTreeMap<String, Version>, PackagesError> {
    let versions = lock.packages().iter().map(|package| {
        let name = package.name.to_string();
        let version = version(&name, package.version.as_str())?;
        Ok((name, version))
    });
    versions.collect()
}

fn version(name: &str, text: &str) -> Result<Version, PackagesError> {
    text.parse().map_err(|source| PackagesError::Version {
        name: name.to_owned(),
        text: text.to_owned(),
        source,
    })
}

/// The locked packages, as much as the lock knows of them.
pub(super) fn packages(lock: &Lock) -> Result<Vec<Arc<Package>>, PackagesError> {
    let suites: BTreeMap<&Suite, Arc<str>> =
        lock.suites().map(|(suite, _)| (suite, Arc::from(suite.as_str()))).collect();
    let packages = lock.packages().iter().map(|locked| {
        let name = locked.name.to_string();
        let suite = suites.get(&locked.suite).cloned();
        let foreign =
            || ArchiveError::ForeignPackage { package: name.clone(), suite: locked.suite.to_string() };
        let pin = Pin {
            version: version(&name, locked.version.as_str())?,
            architecture: locked.architecture.clone(),
            suite: suite.ok_or_else(foreign)?,
            filename: locked.filename.to_string(),
            size: locked.size,
            sha256: Digest(locked.sha256.0),
            name,
        };
        Ok(Arc::new(Package::from_pin(pin)))
    });
    packages.collect()
}

fn lock_package(package: &Package) -> Result<LockedPackage, PackagesError> {
    let not_lockable = |source: NameError| PackagesError::NotLockable { name: package.name.clone(), source };
    Ok(LockedPackage {
        name: PackageName::parse(&package.name).map_err(not_lockable)?,
        version: PackageVersion::parse(package.version.as_str()).map_err(not_lockable)?,
        architecture: package.architecture.clone(),
        suite: Suite::parse(&package.suite).map_err(not_lockable)?,
        size: package.size,
        sha256: Sha256(package.sha256.0),
        filename: PoolPath::parse(&package.filename).map_err(not_lockable)?,
    })
}
