//! Builds an image twice under conditions that must not matter, and compares every byte of what comes out.
//!
//! The first build is made as the user would: own cache, own checkout. The second one has another user, time zone, locale, umask,
//! number of threads, home, and a copy of the checkout, a cache and a target folder whose names have spaces and characters beyond
//! ASCII; so the guest programs are compiled anew there.

mod compare;
mod conditions;
mod folders;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::compare::{Compared, Difference};
pub use self::conditions::Conditions;
use crate::folders::FolderError;
use crate::guest::{self, GuestError};

/// Why no comparison could be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfCheckError {
    /// The sources of the guest programs.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The second build's copies.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A folder or file of the check.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}")]
    Run {
        /// Which one.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// One of the builds failed.
    #[error("the build under {conditions} failed:\n{output}")]
    Build {
        /// Its conditions.
        conditions: String,
        /// What it said.
        output: String,
    },
}

/// What to check.
#[derive(Debug, Clone)]
pub struct SelfCheckOptions {
    /// The recipe.
    pub recipe: PathBuf,
    /// Folder for everything that the check writes; it must not exist yet or be empty.
    pub scratch: PathBuf,
    /// Where the second build keeps its cache, when not in `scratch`: a folder on another file system, say.
    pub second_cache: Option<PathBuf>,
    /// Further arguments of both builds.
    pub arguments: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct SelfCheck {
    /// Whether all files have the same bytes.
    pub identical: bool,
    /// The conditions of the two builds.
    pub conditions: [Conditions; 2],
    /// The files in the order of their names, up to the first that differs.
    pub files: Vec<Compared>,
    /// The first difference.
    pub difference: Option<Difference>,
    /// What could not be varied on this machine.
    pub notes: Vec<String>,
}

/// Builds twice and compares.
///
/// # Errors
/// A build fails, or the folders cannot be made.
pub fn run(options: &SelfCheckOptions, say: &dyn Fn(&str)) -> Result<SelfCheck, SelfCheckError> {
    let checkout = guest::source_folder()?;
    let recipe = std::path::absolute(&options.recipe).unwrap_or_else(|_| options.recipe.clone());
    let mut notes = Vec::new();
    let first = Conditions::first(&checkout, &recipe, &options.scratch);
    let second =
        Conditions::second(&checkout, &recipe, &options.scratch, options.second_cache.as_deref(), &mut notes);
    folders::prepare(&first, &second, &checkout)?;
    for conditions in [&first, &second] {
        say(&format!("building under {conditions}"));
        conditions.build(&options.arguments)?;
    }
    say("comparing");
    let (files, difference) = compare::folders(&first.out, &second.out)?;
    Ok(SelfCheck { identical: difference.is_none(), conditions: [first, second], files, difference, notes })
}

/// Adds what was tried with which file to an error.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SelfCheckError {
    let path = path.to_owned();
    move |source| SelfCheckError::Io { action, path, source }
}
