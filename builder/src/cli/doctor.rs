//! `ferrite doctor`: what this machine lacks.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::args::parse_mirror;
use super::{FAILED, out_folder, output, style};
use crate::doctor::{self, Options, Report, Status};

/// Arguments of `doctor`.
#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Ask no mirror
    #[arg(long)]
    pub offline: bool,
    /// Debian mirror to ask, in place of the host's; may be repeated
    #[arg(long, value_name = "URL", value_parser = parse_mirror)]
    pub mirror: Vec<String>,
    /// Where images are to go [default: ferrite/ in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Looks, and says what was found.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let report = doctor::examine(&Options {
        out: out_folder(args.out.as_deref()).map_err(|error| error.to_string()),
        offline: args.offline,
        mirrors: args.mirror.clone(),
    });
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print_styled(&text(&report))?;
    }
    Ok(if report.can_build { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// A line for each check, two more for one that is not as it should be, and the verdict.
fn text(report: &Report) -> String {
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let margin = " ".repeat("missing  ".len() + width + 2);
    let mut text = String::new();
    for check in &report.checks {
        let (word, good) = match check.status {
            Status::Ok => ("ok     ", Some(true)),
            Status::Warning => ("warning", None),
            Status::Missing => ("missing", Some(false)),
        };
        let found = check.found.replace('\n', " ");
        text.push_str(&format!("{}  {:width$}  {found}\n", style::judged(good, word), check.name));
        if let Some(why) = check.why {
            text.push_str(&format!("{margin}why: {why}\n"));
        }
        if let Some(fix) = &check.fix {
            text.push_str(&format!("{margin}fix: {fix}\n"));
        }
    }
    let verdict = if report.can_build { "images can be built here" } else { "images cannot be built here" };
    let (missing, warnings) = (report.count(Status::Missing), report.count(Status::Warning));
    text.push_str(&format!("{verdict}: {missing} missing, {}\n", plural(warnings)));
    text
}

fn plural(warnings: usize) -> String {
    if warnings == 1 { "1 warning".to_owned() } else { format!("{warnings} warnings") }
}
