//! The `ferrite` command: arguments, talk on stderr, data on stdout.

mod args;
mod bench;
mod diff;
mod hint;
mod lock;
mod progress;
mod run;
mod scratch;
mod selection;
mod self_check;
mod size;
mod why;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use debian::progress::Progress;
use image_config::recipe::{Recipe, RecipeError};

use self::args::{Args, BuildArgs, Command, ImageArgs, InspectArgs, ValidateArgs};
use self::progress::Terminal;
use crate::build::{self, BuildOptions, Built};
use crate::formats::Format;
use crate::{guest, inspect};

/// Something was refused or did not work; stderr says what.
const FAILED: u8 = 1;
/// Wrong use of the command, or a file that cannot be read (clap uses the same number).
const USAGE: u8 = 2;

/// Runs the command of this process; every error is printed once, with its causes.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Build(args) => build_command(&args),
        Command::Run(args) => run::run(&args),
        Command::Inspect(args) => inspect_command(&args),
        Command::Lock(args) => lock::run(&args),
        Command::Validate(args) => validate_command(&args),
        Command::Bench(args) => bench::run(&args),
        Command::SelfCheck(args) => self_check::run(&args),
        Command::Why(args) => Ok(why::run(&args)),
        Command::Diff(args) => Ok(diff::run(&args)),
        Command::Size(args) => size::run(&args),
    };
    result.unwrap_or_else(|error| {
        print_error(&error);
        ExitCode::from(FAILED)
    })
}

/// Prints an error, its causes and a hint; a cause whose text the line above ends with already is left out.
fn print_error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    let mut shown = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !shown.ends_with(&cause) {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
        shown = cause;
    }
    // Errors that know what to do about them say so in their own text.
    if !text.contains("\nhint: ")
        && let Some(hint) = hint::of(error)
    {
        text.push_str(&format!("\nhint: {hint}"));
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn build_command(args: &BuildArgs) -> Result<ExitCode> {
    let built = build_image(&args.image, &args.formats)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&built)?)?;
    } else {
        writeln!(out, "{}", built.image.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the image of a recipe and says on stderr what came of it.
fn build_image(args: &ImageArgs, formats: &[Format]) -> Result<Built> {
    let recipe = recipe_path(args.recipe.as_deref())?;
    let options = BuildOptions {
        out: out_folder(args.out.as_deref())?,
        recipe,
        version: args.version.clone(),
        offline: args.offline,
        locked: args.locked,
        snapshot: args.snapshot.clone(),
        mirrors: args.mirror.clone(),
        formats: formats.to_vec(),
    };
    let terminal = Arc::new(Terminal::new());
    let built = build::build(&options, Arc::clone(&terminal) as Arc<dyn Progress>)?;
    terminal.finish();
    for note in &built.notes {
        terminal.say(&format!("note: {note}"));
    }
    terminal.say(&format!("{}; {:.1} MB fetched", built.summary(), terminal.fetched_bytes() as f64 / 1e6));
    Ok(built)
}

/// The recipe to build: the argument, else `recipes/ferrite.yaml` here, else that of the checkout.
fn recipe_path(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let here = PathBuf::from("recipes/ferrite.yaml");
    if here.is_file() {
        return Ok(here);
    }
    Ok(guest::source_folder()?.join("recipes/ferrite.yaml"))
}

/// Where images go: the argument, else `ferrite` in cargo's target folder.
fn out_folder(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => Ok(guest::target_folder(&guest::source_folder()?).join("ferrite")),
    }
}

fn inspect_command(args: &InspectArgs) -> Result<ExitCode> {
    let report = inspect::inspect(&args.image, args.verify)
        .with_context(|| format!("cannot inspect {}", args.image.display()))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// 0: valid; 1: errors; 2: the file cannot be read.
fn validate_command(args: &ValidateArgs) -> Result<ExitCode> {
    if args.file.extension().is_some_and(|ending| ending == "lock") {
        return lock::validate(&args.file);
    }
    match Recipe::load(&args.file) {
        Ok(recipe) => {
            writeln!(
                std::io::stderr(),
                "{}: a valid recipe of {} {}",
                args.file.display(),
                recipe.name,
                recipe.version
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Err(RecipeError::Invalid(findings)) => {
            writeln!(std::io::stdout(), "{findings}")?;
            Ok(ExitCode::from(FAILED))
        }
        Err(error @ RecipeError::Read { .. }) => {
            print_error(&error.into());
            Ok(ExitCode::from(USAGE))
        }
    }
}
