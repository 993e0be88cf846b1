//! The update engine, its client, `locksmithctl` and `etcdctl`, in one program because they share most of their code: the name that it
//! is called by decides.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use update_engine::engine::{client, daemon};
use update_engine::lock::ctl;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called_as = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let name = Path::new(&called_as).file_name().and_then(|name| name.to_str());
    if name == Some("etcdctl") {
        // Keys and values are bytes.
        return kv::ctl::run(arguments);
    }
    let words: Vec<String> = arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match (name, words.split_first()) {
        (Some("update_engine_client"), _) => client::run(&words),
        (Some("locksmithctl"), _) => ctl::run(&words),
        (_, Some((first, rest))) if first == "client" => client::run(rest),
        (_, Some((first, rest))) if first == "locksmithctl" => ctl::run(rest),
        (_, Some((first, rest))) if first == "locksmithd" => ctl::service(rest),
        (_, Some(_)) => {
            eprintln!("update-engine: takes nothing; `update_engine_client` talks to it");
            ExitCode::from(2)
        }
        (_, None) => match daemon::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("update-engine: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
