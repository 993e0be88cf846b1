//! The scheduler's daemon.

use std::process::ExitCode;

use scheduler::daemon;

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match daemon::run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleetd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
