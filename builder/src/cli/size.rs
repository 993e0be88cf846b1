//! `ferrite size`: what takes the space of an image.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;

use super::output;
use super::selection::Selection;
use crate::explain::Image;
use crate::explain::budget::{Usage, usage};
use crate::explain::size::{By, Limits, Size, Table};

/// Levels that are shown unless --depth says otherwise.
const DEPTH: usize = 2;
/// Rows that are shown of each level unless --top says otherwise.
const TOP: usize = 10;

/// Arguments of `size`.
#[derive(Debug, ClapArgs)]
pub struct SizeArgs {
    /// Only this file or folder of the running system, such as /usr/lib or /etc
    #[arg(value_name = "PATH")]
    pub path: Option<String>,
    /// What to put together
    #[arg(long, value_enum, default_value_t = ByArg::Path)]
    pub by: ByArg,
    /// Levels below the first row [default: 2; all with --json]
    #[arg(long, value_name = "N")]
    pub depth: Option<usize>,
    /// Rows below each row, the rest summed up in one [default: 10; all with --json]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Which image.
    #[command(flatten)]
    pub selection: Selection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Choice of the grouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ByArg {
    /// Folders
    Path,
    /// Packages, Ferrite and the recipe
    Package,
    /// Programs, libraries, kernel modules and so on
    Kind,
}

#[derive(Debug, Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    size: &'a Size,
    budgets: Vec<Usage>,
}

/// Runs the command.
///
/// # Errors
/// There is no such image, or no such path in it.
pub fn run(args: &SizeArgs) -> Result<ExitCode> {
    let selected = args.selection.load()?;
    let image = Image::new(&selected.manifest);
    let by = match args.by {
        ByArg::Path => By::Path,
        ByArg::Package => By::Package,
        ByArg::Kind => By::Kind,
    };
    let size = Size::of(&image, by, args.path.as_deref())?;
    let (depth, top) = if args.json { (usize::MAX, usize::MAX) } else { (DEPTH, TOP) };
    let size = size.limited(Limits { depth: args.depth.unwrap_or(depth), top: args.top.unwrap_or(top) });
    let budgets = selected.source().map_or(&[][..], |source| source.recipe.budgets.as_slice());
    let budgets: Vec<Usage> = budgets.iter().filter_map(|budget| usage(&image, budget)).collect();
    if args.json {
        let output = Output { size: &size, budgets };
        output::print_json(&output)?;
    } else {
        let mut text = Table { size: &size, bars: std::io::stdout().is_terminal() }.to_string();
        if args.path.is_none() && !budgets.is_empty() {
            text.push_str("\nbudgets of the recipe:\n");
            budgets.iter().for_each(|usage| text.push_str(&format!("  {usage}\n")));
        }
        output::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}
