//! The network client.

use std::process::ExitCode;

/// Runs `init network`.
pub fn run(_arguments: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
