//! `user-data PART`: a part of the boot, as one of Ferrite's units starts it.

use std::path::Path;
use std::process::ExitCode;

use user_data::boot::Boot;
use user_data::report;

fn main() -> ExitCode {
    let boot = Boot::observe(Path::new("/"));
    let result = match std::env::args().nth(1).as_deref() {
        Some("find") => boot.find(),
        Some("network") => boot.find_by_network(),
        Some("final") => boot.finish(),
        _ => {
            eprintln!("usage: user-data find|network|final");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&init::early::console::chain(&error));
            ExitCode::FAILURE
        }
    }
}
