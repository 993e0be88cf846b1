//! `channel-server`: a channel folder over HTTP, without the rest of Ferrite.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use update_engine::server::{self, GroupOptions, Options};

/// Serves a channel folder, keeps what machines report, and withholds updates from groups
///
/// Exit codes: 0 ended by SIGTERM or SIGINT, or done; 1 failed, stderr says why; 2 wrong use.
#[derive(Debug, Parser)]
#[command(name = "channel-server", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT
    Serve(Options),
    /// Shows or changes the groups that updates are withheld from
    Group(GroupOptions),
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Serve(options) => Ok(server::run(options)?),
        Command::Group(options) => {
            let groups = server::change_groups(options)?;
            writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&groups)?)?;
            Ok(())
        }
    }
}
