//! `ferrite validate`: every problem of a recipe or a lock file.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use image_config::diagnostic::{Diagnostic, Diagnostics};
use image_config::lock::{Lock, LockFileError};
use image_config::recipe::{Recipe, RecipeError};
use serde::Serialize;

use super::args::ValidateArgs;
use super::failure::Failure;
use super::{FAILED, USAGE, output, style};

/// The result for scripts.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    valid: bool,
    findings: Vec<Finding<'a>>,
}

/// One finding. `line` and `column` count from 1, columns in characters; both are null for the text as a whole.
#[derive(Debug, Serialize)]
struct Finding<'a> {
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    severity: String,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> From<&'a Diagnostic> for Finding<'a> {
    fn from(one: &'a Diagnostic) -> Self {
        Self {
            file: &one.file,
            line: one.position.map(|at| at.line),
            column: one.position.map(|at| at.column),
            severity: one.severity.to_string(),
            message: &one.message,
            hint: one.hint.as_deref(),
        }
    }
}

/// What became of a text.
enum Outcome {
    /// It is a valid one: what to say about it.
    Valid(String),
    Invalid(Diagnostics),
    Unreadable(anyhow::Error),
}

/// 0: valid; 1: errors; 2: the file cannot be read.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: &ValidateArgs) -> Result<ExitCode> {
    let is_lock = args.file.extension().is_some_and(|ending| ending == "lock");
    match if is_lock { lock(&args.file) } else { recipe(&args.file) } {
        Outcome::Valid(what) => {
            if args.json {
                output::print_json(&Verdict { valid: true, findings: Vec::new() })?;
            } else {
                style::say(&format!("{}: a valid {what}", args.file.display()));
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Invalid(findings) => {
            print(&findings, args.json)?;
            Ok(ExitCode::from(FAILED))
        }
        Outcome::Unreadable(error) => {
            Failure::of(&error).report(args.json);
            Ok(ExitCode::from(USAGE))
        }
    }
}

fn recipe(path: &Path) -> Outcome {
    match Recipe::load(path) {
        Ok(recipe) => Outcome::Valid(format!("recipe of {} {}", recipe.name, recipe.version)),
        Err(RecipeError::Invalid(findings)) => Outcome::Invalid(findings),
        Err(error @ RecipeError::Read { .. }) => Outcome::Unreadable(error.into()),
    }
}

fn lock(path: &Path) -> Outcome {
    match Lock::load(path) {
        Ok(Some(lock)) => Outcome::Valid(format!("lock file of {} packages", lock.packages().len())),
        Ok(None) => {
            let source = std::io::ErrorKind::NotFound.into();
            Outcome::Unreadable(LockFileError::Read { path: path.to_owned(), source }.into())
        }
        Err(LockFileError::Invalid(findings)) => Outcome::Invalid(findings),
        Err(error @ LockFileError::Read { .. }) => Outcome::Unreadable(error.into()),
    }
}

fn print(findings: &Diagnostics, json: bool) -> Result<()> {
    let findings = findings.as_slice();
    if json {
        return output::print_json(&Verdict {
            valid: false,
            findings: findings.iter().map(Finding::from).collect(),
        });
    }
    let texts: Vec<_> = findings.iter().map(style::finding).collect();
    output::print_styled(&format!("{}\n", texts.join("\n\n")))
}
