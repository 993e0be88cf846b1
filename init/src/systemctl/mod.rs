//! `systemctl`, `poweroff`, `reboot`, `halt`, `shutdown`: clients of the control socket.

use std::process::ExitCode;

/// Runs `systemctl`.
pub fn run(_arguments: &[String]) -> ExitCode {
    ExitCode::FAILURE
}

/// Runs `poweroff`, `reboot`, `halt` or `shutdown`.
pub fn run_power(_name: &str, _arguments: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
