//! The power-cut sweep as a command: `sweep full` is the whole run, `sweep bounded` what every test run does.
//! `--image` takes an image of `recipes/minimal.yaml` that is there, with its `.usr` file beside it, instead of building one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use ferrite_tests::sweep::campaign::{Plan, run};
use ferrite_tests::{Image, scratch};

/// The seed when none is given.
const SEED: u64 = 26;
const USE: &str = "use: sweep full|bounded [--seed N] [--image RAW]";

fn main() -> ExitCode {
    match start() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sweep: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next();
    let (mut seed, mut image) = (SEED, None);
    while let Some(option) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{option} takes a value"))?;
        match option.as_str() {
            "--seed" => seed = value.parse().context("--seed takes a number")?,
            "--image" => image = Some(PathBuf::from(value)),
            _ => bail!("{option:?} is no option; {USE}"),
        }
    }
    let plan = match kind.as_deref() {
        Some("full") => Plan::full(seed),
        Some("bounded") => Plan::bounded(seed),
        _ => bail!(USE),
    };
    let image = match image {
        None => Image::minimal()?,
        Some(raw) => Image::minimal_built(&raw)?,
    };
    let folder = scratch()?;
    let summary = run(&plan, &image, folder.path(), &mut |line| eprintln!("{line}"))?;
    println!("{summary}");
    Ok(summary.holds())
}
