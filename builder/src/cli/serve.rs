//! `ferrite serve` and `ferrite group`: the channel server in this program.

use std::process::ExitCode;

use anyhow::Result;
use update_engine::server::{self, GroupOptions, Options};

use super::output;

/// Serves until a signal ends it.
///
/// # Errors
/// The address cannot be taken, or the store cannot be opened.
pub fn run(options: &Options) -> Result<ExitCode> {
    server::run(options)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows or changes groups.
///
/// # Errors
/// The file of groups cannot be read or written.
pub fn group(options: &GroupOptions) -> Result<ExitCode> {
    let groups = server::change_groups(options)?;
    if options.json {
        output::print_json(&groups)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = groups.keys().map(|name| name.as_str().len()).max().unwrap_or(0);
    let lines = groups.iter().map(|(name, group)| {
        let state = if group.stopped { "stopped".to_owned() } else { format!("{} %", group.percentage) };
        let reason = group.reason.as_deref().unwrap_or_default();
        format!("{}\n", format!("{name:width$}  {state:<8}  {reason}").trim_end())
    });
    output::print(lines.collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}
