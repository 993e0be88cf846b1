//! `etcdctl` with the commands of etcd's API v2. In images it is part of a program with several names.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv::ctl::run(std::env::args_os().skip(1).collect())
}
