//! `ferrite why`: what brought a package or a path into an image.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;
use clap::builder::NonEmptyStringValueParser;

use super::FAILED;
use super::output;
use super::selection::{Selection, or_trouble};
use crate::explain::Image;
use crate::explain::why::{Answer, Detail, Why};

/// Arguments of `why`.
#[derive(Debug, ClapArgs)]
pub struct WhyArgs {
    /// A package, a path (/usr/bin/ssh, /etc/motd, /bin/sh, a folder) or a pattern of paths ('/usr/lib/**/*.so*')
    #[arg(value_name = "PATH|PACKAGE", value_parser = NonEmptyStringValueParser::new())]
    pub query: String,
    /// Of a package, also all that need it directly and what would go with it; of a pattern, every path
    #[arg(long)]
    pub all: bool,
    /// Which image.
    #[command(flatten)]
    pub selection: Selection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; the exit code is the answer.
pub fn run(args: &WhyArgs) -> ExitCode {
    or_trouble(answer(args), args.json)
}

fn answer(args: &WhyArgs) -> Result<ExitCode> {
    let selected = args.selection.load()?;
    let image = Image::new(&selected.manifest);
    let detail = if args.all { Detail::All } else { Detail::Chain };
    let answer = Why::new(&image, selected.source()).answer(&args.query, detail)?;
    if args.json {
        output::print_json(&answer)?;
    } else {
        output::print(&answer)?;
    }
    Ok(if matches!(answer, Answer::Missing(_)) { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}
