//! `ferrite diff`: how two images differ.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;
use serde::Serialize;

use super::FAILED;
use super::output;
use super::selection::{operand, or_trouble};
use crate::explain::Image;
use crate::explain::diff::{Diff, Report};

/// Arguments of `diff`.
#[derive(Debug, ClapArgs)]
pub struct DiffArgs {
    /// An image with its manifest beside it, a manifest, or a recipe, which stands for its last build
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// What to compare it with
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// List every file that differs
    #[arg(long)]
    pub files: bool,
    /// Where the images of recipes are [default: ferrite/ in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON, always with the files
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; the exit code is the answer.
pub fn run(args: &DiffArgs) -> ExitCode {
    or_trouble(compare(args), args.json)
}

#[derive(Debug, Serialize)]
struct Output<'a> {
    before: String,
    after: String,
    #[serde(flatten)]
    diff: &'a Diff,
}

fn compare(args: &DiffArgs) -> Result<ExitCode> {
    let before = operand(&args.before, args.out.as_deref())?;
    let after = operand(&args.after, args.out.as_deref())?;
    let diff = Diff::of(&Image::new(&before), &Image::new(&after));
    let (before, after) = (args.before.display().to_string(), args.after.display().to_string());
    if args.json {
        let output = Output { before, after, diff: &diff };
        output::print_json(&output)?;
    } else {
        output::print(format_args!("{before} -> {after}\n{}", Report { diff: &diff, files: args.files }))?;
    }
    Ok(if diff.same { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
