//! The login prompt on a terminal.

use std::process::ExitCode;

/// Runs `getty TTY`.
pub fn run(_arguments: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
