//! The multi-call binary: `/init` of the initramfs, PID 1, and the small programs that talk to it.
//!
//! The name it was called by decides what it is; called as `init` with a first argument it is one of the helpers that
//! Ferrite's own units start (`init network`, `init coldplug`, ...).

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called_as = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    let name = Path::new(&called_as).file_name().and_then(|name| name.to_str()).unwrap_or("init").to_owned();
    init::dispatch(&name, rest)
}
