//! `ferrite self-check`: the same bytes, whoever builds where.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::progress::Terminal;
use super::scratch::Scratch;
use super::{FAILED, out_folder, output, recipe_path};
use crate::selfcheck::{self, SelfCheckOptions};

/// Arguments of `self-check`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The recipe [default: recipes/ferrite.yaml]
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Folder for both builds; must be empty or not exist yet [default: self-check/ beside the images, deleted when all is the same]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Where the second build keeps its cache, such as a folder on another file system [default: in the scratch folder]
    #[arg(long, value_name = "DIR")]
    pub second_cache: Option<PathBuf>,
    /// Use what the cache holds and no network
    #[arg(long)]
    pub offline: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// A build failed, or the folders cannot be made.
pub fn run(args: &Args) -> Result<ExitCode> {
    let terminal = Terminal::new();
    let scratch = Scratch::new(args.scratch.as_deref(), &out_folder(None)?.join("self-check"))?;
    let options = SelfCheckOptions {
        recipe: recipe_path(args.recipe.as_deref())?,
        scratch: scratch.path().to_owned(),
        second_cache: args.second_cache.as_deref().map(std::path::absolute).transpose()?,
        arguments: ["--format", "raw,qcow2,raw.zst,vhd"]
            .into_iter()
            .chain(args.offline.then_some("--offline"))
            .map(str::to_owned)
            .collect(),
    };
    let check = selfcheck::run(&options, &|line| terminal.say(line))?;
    for note in &check.notes {
        terminal.say(&format!("note: {note}"));
    }
    if args.json {
        output::print_json(&check)?;
    } else {
        let lines = check.files.iter().map(|file| format!("{}  {}\n", file.sha256, file.name));
        output::print(lines.collect::<String>())?;
    }
    match &check.difference {
        None => terminal.say(&format!("identical: {} files", check.files.len())),
        Some(difference) => {
            terminal.say(&format!("different: {difference}; both builds are in {}", scratch.path().display()))
        }
    }
    if check.identical {
        scratch.remove()?;
    }
    Ok(if check.identical { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
