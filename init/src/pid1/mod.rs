//! PID 1: the epoll loop around the supervisor.

use std::process::ExitCode;

/// Runs PID 1; does not return on a real machine.
pub fn run() -> ExitCode {
    ExitCode::FAILURE
}

/// Runs the supervisor as an ordinary process (child subreaper) for tests on a host.
pub fn run_unprivileged(_arguments: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
