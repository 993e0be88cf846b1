//! Everything that runs in the image before and beside its services: the initramfs stage, PID 1, the network client,
//! `systemctl` and the getty.
//!
//! One static binary with several names, because the initramfs and the image carry the same bytes. Start reading at
//! [`supervisor`] (the pure state machine), then [`pid1`] (the epoll loop that carries out its effects); [`early`] is what
//! runs before `/usr` is mounted.
//!
//! Deliberately absent: threads and an async runtime in PID 1, a configuration of its own (unit files are all there is).

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that panics is a test that fails"
    )
)]

pub mod analyze;
pub mod boot;
pub mod control;
pub mod early;
pub mod getty;
pub mod journal;
pub mod journalctl;
pub mod net;
pub mod notify_client;
pub mod pid1;
pub mod power;
pub mod supervisor;
pub mod sys;
pub mod systemctl;
pub mod unit_files;
pub mod unix_socket;

use std::ffi::OsString;
use std::process::ExitCode;

/// Where the image keeps this binary.
pub const INIT_PATH: &str = "/usr/lib/ferrite/init";

/// Runs the program that this binary was called as. `arguments` are those after the name.
pub fn dispatch(name: &str, arguments: Vec<OsString>) -> ExitCode {
    let arguments: Vec<String> =
        arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match name {
        "systemctl" => systemctl::run(&arguments),
        "systemd-analyze" => analyze::run(&arguments),
        "systemd-notify" => notify_client::run(&arguments),
        "poweroff" | "reboot" | "halt" | "shutdown" => systemctl::run_power(name, &arguments),
        "getty" => getty::run(&arguments),
        "journalctl" => journalctl::run(&arguments),
        "modprobe" => boot::modprobe::run(&arguments),
        "systemd-cat" => journal::cat::run(&arguments),
        "systemd-journald" => journal::start::run(),
        _ => run_init(&arguments),
    }
}

/// `init` itself: a helper when an argument names one, else the initramfs stage or PID 1.
fn run_init(arguments: &[String]) -> ExitCode {
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("", &[][..]),
    };
    match verb {
        "getty" => getty::run(rest),
        "systemctl" => systemctl::run(rest),
        "journald" => journal::start::run(),
        "journalctl" => journalctl::run(rest),
        "network" => net::run(rest),
        "coldplug" => boot::coldplug::run(rest),
        "mark-good" => boot::mark_good(),
        "health" => systemctl::run_health(),
        "supervise" => pid1::run_unprivileged(rest),
        _ if rustix::process::getpid().as_raw_nonzero().get() != 1 => {
            eprintln!("init: not PID 1, and no helper named '{verb}'");
            ExitCode::from(2)
        }
        power::VERB => power::go_down(rest),
        _ if early::is_initramfs() => early::run(),
        _ => pid1::run(),
    }
}
