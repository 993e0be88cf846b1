//! The scheduler's daemon and `fleetctl`, in one program because they share most of their code: the name that it is called by decides.

use std::path::Path;
use std::process::ExitCode;

use scheduler::{ctl, daemon};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called_as = arguments.next().unwrap_or_default();
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let name = Path::new(&called_as).file_name().and_then(|name| name.to_str());
    match (name, words.split_first()) {
        (Some("fleetctl"), _) => ctl::run(&words),
        (_, Some((first, rest))) if first == "fleetctl" => ctl::run(rest),
        _ => match daemon::run(&words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("fleetd: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
