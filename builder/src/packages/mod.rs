//! The packages of a recipe: first which ones ([`plan`]), then their files ([`Plan::supply`]).
//!
//! | lock file beside the recipe | a build takes | with `locked` |
//! |---|---|---|
//! | matches the recipe | its packages; no index is opened | the same |
//! | is there no more, on mirrors and in the snapshot archive | current versions of what is gone, the others as locked | fails |
//! | is of another recipe | current versions, locked ones where there are still | fails |
//! | is missing | current versions | fails |
//! | is malformed | fails | fails |
//!
//! `docs/formats/lock.md` says the same to users.

mod choose;
mod error;
mod plan;
mod sourcing;

use std::path::Path;
use std::sync::Arc;

use debian::archive::Pool;
use debian::digest::Digest;
use debian::package::Package;
use debian::progress::Progress;
use debian::resolve::Closure;
use debian::unpack::Unpacked;
use image_config::lock::{Inputs, Lock};
use image_config::recipe::Recipe;

pub use self::error::PackagesError;
pub use self::plan::Plan;
pub use self::sourcing::Sourcing;

/// What decided which packages a build takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The lock file, to the last package.
    Lock,
    /// The archive's signed indexes: there is no lock file, or not all of it could be had.
    Indexes,
}

/// What a recipe's packages came to.
#[derive(Debug)]
pub struct Supply {
    /// Packages, each with the reason why it is there.
    pub closure: Closure,
    /// For each of them the names of those that its dependencies are satisfied by ([`Closure::edges`]).
    pub edges: Vec<Vec<String>>,
    /// Their files, in the same order. Each package is described by its own control file, whether an index was opened or not.
    pub unpacked: Vec<Unpacked>,
    /// What decided.
    pub origin: Origin,
    /// [`closure_digest`] of the packages.
    pub digest: Digest,
    /// [`Plan::digest`] of the plan: another one when locked packages were nowhere any more.
    pub planned: Digest,
    /// What whoever builds should know, one line each.
    pub notes: Vec<String>,
}

/// Finds out which packages a recipe's image is made of, without fetching any. `recipe_file` is where the recipe lies: its
/// lock file is beside it.
///
/// # Errors
/// A lock file that cannot be used, or, when [`Sourcing::locked`], that is missing or of another recipe; without one, indexes
/// that cannot be had and packages that cannot be installed.
pub fn plan(
    recipe: &Recipe,
    recipe_file: &Path,
    sourcing: &Sourcing,
    progress: Arc<dyn Progress>,
) -> Result<Plan, PackagesError> {
    let inputs = Inputs::of(recipe);
    let path = Lock::path_beside(recipe_file);
    let found = Lock::load(&path)?;
    let differences = found.as_ref().map(|lock| lock.differences(&inputs)).unwrap_or_default();
    if let Some(lock) = &found
        && differences.is_empty()
    {
        let pool = Pool::new(sourcing.config(recipe, Some(lock))?, progress);
        return Plan::new(pool, lock.clone(), Origin::Lock, sourcing.locked, path, Vec::new());
    }
    if sourcing.locked {
        return Err(match found {
            Some(_) => PackagesError::OtherRecipe { path, differences },
            None => PackagesError::NoLock { path },
        });
    }
    let pool = Pool::new(sourcing.config(recipe, None)?, progress);
    let lock = choose::current(&pool, &inputs, found.as_ref())?;
    let note = if found.is_some() {
        format!(
            "{} is not for this recipe ({}): locked versions are kept where there are still; `ferrite lock` writes it anew",
            path.display(),
            differences.join("; ")
        )
    } else {
        "there is no lock file, so the packages are those of today: `ferrite lock` keeps them".to_owned()
    };
    Plan::new(pool, lock, Origin::Indexes, false, path, vec![note])
}

/// The digest of the plan that the lock file beside a recipe makes: `None` when there is none that is for this recipe.
pub fn locked_digest(recipe: &Recipe, recipe_file: &Path) -> Option<Digest> {
    let lock = Lock::load(&Lock::path_beside(recipe_file)).ok()??;
    let matches = lock.differences(&Inputs::of(recipe)).is_empty();
    let packages = choose::packages(&lock).ok().filter(|_| matches)?;
    Some(closure_digest(&packages))
}

/// Resolves a recipe against the current indexes, whatever lock file there is.
///
/// # Errors
/// Indexes that cannot be had, packages that cannot be installed or locked.
pub fn lock(
    recipe: &Recipe,
    sourcing: &Sourcing,
    progress: Arc<dyn Progress>,
) -> Result<Lock, PackagesError> {
    let pool = Pool::new(sourcing.config(recipe, None)?, progress);
    choose::current(&pool, &Inputs::of(recipe), None)
}

/// A digest of a closure: SHA-256 over a line `NAME VERSION SHA256` for each package, sorted by name. Two closures with the
/// same digest consist of the same files.
pub fn closure_digest<'a>(packages: impl IntoIterator<Item = &'a Arc<Package>>) -> Digest {
    let mut lines: Vec<String> = packages
        .into_iter()
        .map(|package| format!("{} {} {}\n", package.name, package.version, package.sha256))
        .collect();
    lines.sort();
    Digest::of(lines.concat().as_bytes())
}
