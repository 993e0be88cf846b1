//! The packages of a recipe: resolved, fetched, unpacked.

use std::path::Path;
use std::sync::Arc;

use debian::archive::{Archive, ArchiveError, Config, Suite};
use debian::cache::Cache;
use debian::mirrors::{MirrorSet, Mirrors};
use debian::progress::Progress;
use debian::resolve::{Closure, Provided, Request, ResolveError};
use debian::signature::KeyError;
use debian::unpack::{Integrity, Unpacked};
use debian::version::{Version, VersionError};
use image_config::recipe::Recipe;

use crate::parts::Key;

/// The packages of a recipe, known but neither fetched nor unpacked.
#[derive(Debug)]
pub struct Plan {
    archive: Archive,
    /// Packages, each with the reason why it is there.
    pub closure: Closure,
}

impl Plan {
    /// SHA-256 over the names, versions and contents of the packages.
    pub fn digest(&self) -> [u8; 32] {
        let mut key = Key::new("closure");
        for package in self.closure.packages() {
            key.add(package.to_string().as_bytes());
            key.add(&package.sha256.0);
        }
        key.digest()
    }
}

/// Why there are no packages.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The pinned keys of Debian's archive.
    #[error("cannot read the pinned archive keys")]
    Keys(#[from] KeyError),
    /// Indexes, downloads, unpacking.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The closure.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A version in `provides`.
    #[error("provides: {name}: {text:?} is no version")]
    Provided {
        /// The package.
        name: String,
        /// The text.
        text: String,
        /// Why.
        source: VersionError,
    },
}

/// Resolves the recipe's packages, its kernel among them. `mirrors` go before the recipe's.
///
/// # Errors
/// The indexes cannot be had, or nothing satisfies the recipe.
pub fn plan(
    recipe: &Recipe,
    mirrors: &[String],
    offline: bool,
    progress: Arc<dyn Progress>,
) -> Result<Plan, PackagesError> {
    let archive = Archive::open(config(recipe, mirrors, offline)?, progress)?;
    let names = recipe.packages.iter().chain([&recipe.kernel.package]);
    let requests: Vec<_> = names.map(|name| Request { name: name.to_string(), version: None }).collect();
    let closure = archive.resolve(&requests, &provided(recipe)?)?;
    Ok(Plan { archive, closure })
}

/// Fetches what the cache lacks and makes the files of the packages readable; in the order of the closure.
///
/// # Errors
/// A package cannot be fetched or unpacked.
pub fn supply(plan: &Plan) -> Result<Vec<Unpacked>, PackagesError> {
    Ok(plan.archive.unpack(&plan.closure.packages(), Integrity::OnRead)?)
}

/// How the archive of a recipe is opened.
fn config(recipe: &Recipe, mirrors: &[String], offline: bool) -> Result<Config, PackagesError> {
    let debian = &recipe.debian;
    let written: Vec<String> = debian.mirrors.iter().map(ToString::to_string).collect();
    let mut set = MirrorSet::discover(mirrors, &written, Path::new("/"));
    if mirrors.is_empty() && !debian.security_mirrors.is_empty() {
        set.security = Mirrors::new(debian.security_mirrors.iter().map(ToString::to_string));
    }
    let components: Vec<String> = debian.components.iter().map(ToString::to_string).collect();
    let suites = debian.suites.iter().map(|suite| {
        let name = suite.to_string();
        Suite { mirrors: set.for_suite(&name).clone(), components: components.clone(), name }
    });
    let first = debian.suites.first().map(ToString::to_string).unwrap_or_default();
    let mut config = Config::debian(&first, &set, Cache::from_env())?;
    config.suites = suites.collect();
    config.architecture = recipe.architecture.debian_name().to_owned();
    config.offline = offline;
    Ok(config)
}

fn provided(recipe: &Recipe) -> Result<Vec<Provided>, PackagesError> {
    let parse = |name: &str, text: &String| {
        text.parse::<Version>().map_err(|source| PackagesError::Provided {
            name: name.to_owned(),
            text: text.clone(),
            source,
        })
    };
    recipe
        .provides
        .iter()
        .map(|provided| {
            let name = provided.name.to_string();
            let version = provided.version.as_ref().map(|text| parse(&name, text)).transpose()?;
            Ok(Provided { name, version })
        })
        .collect()
}
