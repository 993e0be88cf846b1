//! Loads the modules that the machine's devices ask for.

use std::process::ExitCode;

/// Runs `init coldplug`.
pub fn run(_arguments: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
