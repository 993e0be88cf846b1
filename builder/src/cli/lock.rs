//! `ferrite lock`: resolves a recipe's packages and writes the lock file beside it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use debian::cache::Cache;
use debian::progress::Progress;
use image_config::lock::{Changes, Inputs, Lock, LockFileError, LockedPackage};
use image_config::recipe::{Recipe, RecipeError};
use serde::Serialize;

use super::args::parse_mirror;
use super::failure::Failure;
use super::progress::Terminal;
use super::{FAILED, USAGE, output, recipe_path};
use crate::build::Output;
use crate::packages::{self, Sourcing};

/// Arguments of `lock`.
#[derive(Debug, ClapArgs)]
pub struct LockArgs {
    /// The recipe [default: recipes/ferrite.yaml]
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Write nothing; say whether the file is what would be written
    #[arg(long)]
    pub check: bool,
    /// Resolve against the indexes in the cache, without network
    #[arg(long)]
    pub offline: bool,
    /// Debian mirror, in place of the recipe's and the host's; may be repeated
    #[arg(long, value_name = "URL", value_parser = parse_mirror)]
    pub mirror: Vec<String>,
    /// Print the changes as JSON
    #[arg(long)]
    pub json: bool,
}

/// What became of a lock file, for scripts.
#[derive(Debug, Serialize)]
struct Report {
    /// The file.
    lock: PathBuf,
    /// Whether it is, or with `--check` would be, another one.
    changed: bool,
    /// Why it had to be written apart from packages: it was missing, malformed or of another recipe.
    reasons: Vec<String>,
    /// Number of packages.
    packages: usize,
    /// Bytes of all packages.
    bytes: u64,
    /// Bytes of those that are new or changed.
    download_bytes: u64,
    added: Vec<Named>,
    removed: Vec<Named>,
    upgraded: Vec<Upgraded>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    version: String,
}

#[derive(Debug, Serialize)]
struct Upgraded {
    name: String,
    from: String,
    to: String,
}

impl From<&LockedPackage> for Named {
    fn from(package: &LockedPackage) -> Self {
        Self { name: package.name.to_string(), version: package.version.to_string() }
    }
}

/// Runs the command.
///
/// # Errors
/// The recipe is refused, its packages cannot be resolved or the file cannot be written; with `--check`, none.
pub fn run(args: &LockArgs) -> Result<ExitCode> {
    match (update(args), args.check) {
        (Ok(changed), true) => Ok(if changed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }),
        (Ok(_), false) => Ok(ExitCode::SUCCESS),
        (Err(error), true) => {
            Failure::of(&error).report(args.json);
            Ok(ExitCode::from(USAGE))
        }
        (Err(error), false) => Err(error),
    }
}

/// Resolves, compares, prints and, unless it is only to check, writes. Says whether the file is, or would be, another one.
fn update(args: &LockArgs) -> Result<bool> {
    let recipe_file = recipe_path(args.recipe.as_deref())?;
    let path = Lock::path_beside(&recipe_file);
    if path == recipe_file {
        bail!("{} cannot be the recipe of a lock file: it has a lock file's name", path.display());
    }
    let recipe = Recipe::load(&recipe_file).map_err(|error| match error {
        RecipeError::Invalid(findings) => anyhow::Error::msg(findings.to_string()),
        error => error.into(),
    })?;
    let (old, mut reasons) = match Lock::load(&path) {
        Ok(Some(old)) => (Some(old), Vec::new()),
        Ok(None) => (None, vec!["there is no lock file".to_owned()]),
        Err(LockFileError::Invalid(findings)) => {
            let first = findings.as_slice().first().map(ToString::to_string).unwrap_or_default();
            (None, vec![first.lines().next().unwrap_or_default().to_owned()])
        }
        Err(error @ LockFileError::Read { .. }) => return Err(error.into()),
    };
    let terminal = Arc::new(Terminal::new());
    let usual = Sourcing::usual(Cache::from_env());
    let sourcing = Sourcing { mirrors: args.mirror.clone(), offline: args.offline, ..usual };
    let new = packages::lock(&recipe, &sourcing, Arc::clone(&terminal) as Arc<dyn Progress>)?;
    terminal.finish();
    if let Some(old) = &old {
        reasons.extend(old.differences(&Inputs::of(&recipe)));
    }
    let changes = Changes::between(old.as_ref(), &new);
    // The dates of the indexes alone are no reason: the locked packages are in both, the older ones included.
    let changed = !reasons.is_empty() || !changes.is_empty();
    let report = Report {
        changed,
        packages: new.packages().len(),
        bytes: new.packages().iter().map(|package| package.size).sum(),
        download_bytes: changes.download_bytes(),
        added: changes.added.iter().map(Named::from).collect(),
        removed: changes.removed.iter().map(Named::from).collect(),
        upgraded: changes
            .changed
            .iter()
            .map(|change| Upgraded {
                name: change.to.name.to_string(),
                from: change.from.version.to_string(),
                to: change.to.version.to_string(),
            })
            .collect(),
        reasons,
        lock: path,
    };
    if changed && !args.check {
        write(&report.lock, &new)?;
    }
    print(&report, args, &terminal)?;
    Ok(changed)
}

/// Nobody ever sees half a lock file.
fn write(path: &Path, lock: &Lock) -> Result<()> {
    let output = Output::new(path);
    std::fs::write(output.temporary(), lock.to_string())
        .and_then(|()| output.publish())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn print(report: &Report, args: &LockArgs, terminal: &Terminal) -> Result<()> {
    if args.json {
        output::print_json(report)?;
    } else {
        let added = report.added.iter().map(|Named { name, version }| format!("+ {name} {version}\n"));
        let removed = report.removed.iter().map(|Named { name, version }| format!("- {name} {version}\n"));
        let upgraded =
            report.upgraded.iter().map(|Upgraded { name, from, to }| format!("~ {name} {from} -> {to}\n"));
        output::print(added.chain(removed).chain(upgraded).collect::<String>())?;
    }
    for reason in &report.reasons {
        terminal.say(&format!("note: {reason}"));
    }
    let what = match (report.changed, args.check) {
        (false, _) => "up to date".to_owned(),
        (true, true) => "not up to date; `ferrite lock` writes it anew".to_owned(),
        (true, false) => format!(
            "written: {} added, {} removed, {} changed, {:.1} MB to fetch for them",
            report.added.len(),
            report.removed.len(),
            report.upgraded.len(),
            report.download_bytes as f64 / 1e6
        ),
    };
    terminal.say(&format!(
        "{}: {} packages, {:.1} MB, {what}",
        report.lock.display(),
        report.packages,
        report.bytes as f64 / 1e6
    ));
    Ok(())
}
