//! `ferrite completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;
use clap_complete::Shell;

use super::{manual, output};

/// Arguments of `completions`.
#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the completions of a shell.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    // In memory first: the generator has no way to report an error of its writer.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut manual::command(), "ferrite", &mut script);
    output::print(String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
