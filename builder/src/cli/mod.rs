//! The `ferrite` command: arguments, talk on stderr, data on stdout.

mod args;
mod bench;
mod cluster;
mod completions;
mod diff;
mod doctor;
mod failure;
mod hint;
mod interrupt;
mod key;
mod lock;
mod man;
mod manual;
mod output;
mod passphrase;
mod progress;
mod publish;
mod run;
mod scratch;
mod selection;
mod self_check;
mod serve;
mod size;
mod style;
mod validate;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Error, Result};
use clap::{ArgMatches, FromArgMatches as _};
use debian::progress::Progress;

use self::args::{Args, BuildArgs, Command, ImageArgs, InspectArgs};
use self::failure::Failure;
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
    if let Some(when) = style::asked(std::env::args_os().skip(1)) {
        style::choose(when);
    }
    let matches = manual::command().get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // The channel server ends in its own time: what it has acknowledged must be on disk. A cluster's janitor ends after its owner.
    if !matches!(args.command, Command::Serve(_)) && !cluster::outlives_signals(&args.command) {
        interrupt::watch();
    }
    let result = execute(&args.command);
    interrupt::give_way();
    result.unwrap_or_else(|error| failed(&error, wants_json(&matches)))
}

fn execute(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Build(args) => build_command(args),
        Command::Run(args) => run::run(args),
        Command::Cluster(args) => cluster::run(args),
        Command::Inspect(args) => inspect_command(args),
        Command::Lock(args) => lock::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::SelfCheck(args) => self_check::run(args),
        Command::Why(args) => Ok(why::run(args)),
        Command::Diff(args) => Ok(diff::run(args)),
        Command::Size(args) => size::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Key(args) => key::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Serve(options) => serve::run(options),
        Command::Group(options) => serve::group(options),
    }
}

fn failed(error: &Error, json: bool) -> ExitCode {
    // A reader of stdout that has gone has what it wanted.
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<std::io::Error>().is_some_and(gone) {
        return ExitCode::SUCCESS;
    }
    Failure::of(error).report(json);
    ExitCode::from(FAILED)
}

/// Whether the command, or one below it, was given `--json`.
fn wants_json(matches: &ArgMatches) -> bool {
    let here = matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false);
    here || matches.subcommand().is_some_and(|(_, below)| wants_json(below))
}

fn build_command(args: &BuildArgs) -> Result<ExitCode> {
    let built = build_image(&args.image, &args.formats)?;
    if args.json {
        output::print_json(&built)?;
    } else {
        output::print(format_args!("{}\n", built.image.display()))?;
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
    let fetched = match terminal.fetched_bytes() {
        0 => "nothing".to_owned(),
        bytes => format!("{:.1} MB", bytes as f64 / 1e6),
    };
    terminal.say(&format!("{}, {fetched} fetched", built.summary()));
    if let Some(slowest) = built.slowest() {
        terminal.say(&slowest);
    }
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
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&report)?;
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
