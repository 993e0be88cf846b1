//! Our `etcdctl` as a program of this package, whose tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv::ctl::run(std::env::args_os().skip(1).collect())
}
