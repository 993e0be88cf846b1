//! `ferrite bench`: figures that can be repeated.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};

use super::progress::Terminal;
use super::scratch::Scratch;
use super::{out_folder, output, recipe_path};
use crate::bench::{self, Bench, BenchOptions};

const MIB: f64 = 1_048_576.0;

/// Arguments of `bench`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// What to measure.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Full builds, one file changed, nothing changed; beside dpkg-deb and mkosi
    ///
    /// Exit codes: 0 measured; 1 something failed; 2 wrong use.
    Build(BuildArgs),
    /// Bytes that machines fetch for an update, all included
    ///
    /// From an older image if --from names one, else for changes that are made up: every block of some packages counts as changed.
    /// Compressing takes minutes.
    ///
    /// Exit codes: 0 measured; 1 something failed; 2 wrong use.
    Update(UpdateArgs),
}

#[derive(Debug, ClapArgs)]
struct UpdateArgs {
    /// The slot image (.usr) of the release, with its manifest beside it
    #[arg(value_name = "SLOT")]
    slot: PathBuf,
    /// The slot image that the machine runs, likewise
    #[arg(long, value_name = "SLOT")]
    from: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct BuildArgs {
    /// The recipe [default: recipes/ferrite.yaml]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Runs of each command
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// Folder for everything that is written; must be empty or not exist yet [default: bench/ beside the images, deleted afterwards]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Measure mkosi of Debian trixie too, in this folder: made when it is not there (needs root, apt-get and dpkg-deb), and kept
    #[arg(long, value_name = "DIR")]
    mkosi: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What is measured fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    let args = match &args.what {
        What::Build(args) => args,
        What::Update(args) => return run_update(args),
    };
    let terminal = Terminal::new();
    let scratch = Scratch::new(args.scratch.as_deref(), &out_folder(None)?.join("bench"))?;
    let options = BenchOptions {
        recipe: recipe_path(args.recipe.as_deref())?,
        repeats: args.repeats,
        scratch: scratch.path().to_owned(),
        mkosi: args.mkosi.clone(),
    };
    let bench = bench::builds(&options, &|line| terminal.say(line))?;
    if args.json {
        output::print_json(&bench)?;
    } else {
        let mut text = Vec::new();
        print(&bench, &mut text)?;
        output::print(String::from_utf8_lossy(&text))?;
    }
    scratch.remove()?;
    Ok(ExitCode::SUCCESS)
}

fn run_update(args: &UpdateArgs) -> Result<ExitCode> {
    let terminal = Terminal::new();
    let scratch = Scratch::new(None, &out_folder(None)?.join("bench"))?;
    terminal.say("compressing");
    let bench = bench::updates(&args.slot, args.from.as_deref(), scratch.path(), |_| {})?;
    scratch.remove()?;
    if args.json {
        output::print_json(&bench)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text =
        format!("slot {} bytes, full payload {} bytes (index included)\n", bench.slot_bytes, bench.full);
    text.push_str("changed files     fetched  of full   index  digests     frames  requests  change\n");
    for row in &bench.rows {
        text.push_str(&format!(
            "{:>13} {:>11} {:>7.2}% {:>7} {:>8} {:>10} {:>9}  {}\n",
            row.changed_bytes,
            row.total,
            row.percent,
            row.index,
            row.digests,
            row.frames,
            row.requests,
            row.change
        ));
    }
    output::print(text)?;
    Ok(ExitCode::SUCCESS)
}

fn print(bench: &Bench, out: &mut impl std::io::Write) -> std::io::Result<()> {
    writeln!(out, "{}", bench.machine)?;
    let repeats = bench.rows.iter().map(|row| row.samples.len()).max().unwrap_or(0);
    writeln!(out, "{repeats} runs of each, in turn; least / middle / largest\n")?;
    writeln!(out, "{:<52} {:>23} {:>23} {:>10}", "", "wall s", "processors s", "peak MiB")?;
    for row in &bench.rows {
        let [a, b, c] = row.wall();
        let [x, y, z] = row.cpu();
        writeln!(
            out,
            "{:<52} {a:>7.2} {b:>7.2} {c:>7.2} {x:>7.2} {y:>7.2} {z:>7.2} {:>10.0}",
            row.name,
            row.peak_bytes() as f64 / MIB
        )?;
    }
    writeln!(out)?;
    for aim in &bench.aims {
        let verdict = if aim.found <= aim.most { "met" } else { "missed" };
        writeln!(out, "{:<40} {:>9.3}   aim <= {:<8} {verdict}", aim.what, aim.found, aim.most)?;
    }
    for note in &bench.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}
