//! The last steps of a shutdown, after all units have stopped.
//!
//! PID 1 runs from `/usr`, so it cannot give that back. Hence two programs: [`finish`] ends what is left and moves into a
//! small tmpfs that holds this binary alone ([`leave`]); there [`go_down`] takes the old root apart down to the verity
//! device ([`release`]), and calls reboot(2). Whatever may wait for a disk runs in a process of its own with a limit
//! ([`limited`]), and the watchdog is fed at the beginning of a stage or when something moves, so a shutdown never hangs.

mod leave;
mod limited;
mod release;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::system::RebootCommand;

use self::release::Scope;
pub use self::release::unescape;
use crate::boot::entropy;
use crate::early::watchdog::Watchdog;
use crate::supervisor::PowerAction;
use crate::sys::signals;

/// The verb by which PID 1 calls itself anew in the tmpfs: `init go-down ACTION`.
pub const VERB: &str = "go-down";

/// How long processes outside all units may take after SIGTERM. They had no stop command to begin with.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may take to bury them after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// How long one small file may take to be written.
const SEED_LIMIT: Duration = Duration::from_secs(5);
/// How long a sync may take without any block getting written meanwhile.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// Ends all processes and takes the machine down, with everything that was mounted given back. The watchdog, if there is one,
/// stays armed until the very end.
pub fn finish(action: PowerAction, watchdog: Option<Watchdog>) -> ! {
    let mut watchdog = watchdog.or_else(Watchdog::take);
    feed(&mut watchdog);
    end_processes();
    // What this boot has gathered is worth more than the seed that it began with.
    if let Err(error) = limited::run(SEED_LIMIT, &mut || false, || entropy::save(entropy::Durability::Now)) {
        say(&format!("the random seed stays the old one: {error}"));
    }
    sync(&mut watchdog);
    feed(&mut watchdog);
    match leave::pivot() {
        Ok(()) => {
            // The new program goes on in `go_down`.
            let error = leave::execute(word(action), &mut watchdog);
            say(&format!("cannot execute {}, going on without: {error}", leave::PROGRAM));
            release::all(Scope::Below(leave::OLD_ROOT));
        }
        Err(error) => {
            say(&format!("cannot leave the root, its file systems are made read-only: {error}"));
            release::all(Scope::Disks);
        }
    }
    end(action, watchdog)
}

/// Runs `init go-down ACTION`, PID 1's last program.
pub fn go_down(arguments: &[String]) -> ExitCode {
    let action = match arguments.first().map(String::as_str) {
        Some("poweroff") => PowerAction::PowerOff,
        Some("halt") => PowerAction::Halt,
        _ => PowerAction::Reboot,
    };
    let mut watchdog = Watchdog::take();
    feed(&mut watchdog);
    release::all(Scope::Below(leave::OLD_ROOT));
    end(action, watchdog)
}

/// Takes the machine down without a sync and without ending anything: for those who ask for just that.
pub fn immediately(action: PowerAction) {
    if let Err(error) = rustix::system::reboot(command(action)) {
        say(&format!("reboot(2): {error}"));
    }
}

/// The last sync, the last word, reboot(2).
fn end(action: PowerAction, mut watchdog: Option<Watchdog>) -> ! {
    sync(&mut watchdog);
    say(match action {
        PowerAction::PowerOff => "Powering off",
        PowerAction::Reboot => "Rebooting",
        PowerAction::Halt => "Halting",
    });
    match watchdog {
        // Should the reboot itself hang.
        Some(mut watchdog) if action == PowerAction::Reboot => {
            watchdog.feed();
            std::mem::forget(watchdog);
        }
        // It must not switch the machine on again.
        Some(watchdog) => watchdog.disarm(),
        None => {}
    }
    if let Err(error) = rustix::system::reboot(command(action)) {
        say(&format!("reboot(2): {error}"));
    }
    // The end of PID 1 panics the kernel, and `panic=10` on the command line reboots.
    std::process::exit(1)
}

fn command(action: PowerAction) -> RebootCommand {
    match action {
        PowerAction::PowerOff => RebootCommand::PowerOff,
        PowerAction::Reboot => RebootCommand::Restart,
        PowerAction::Halt => RebootCommand::Halt,
    }
}

fn word(action: PowerAction) -> &'static str {
    match action {
        PowerAction::PowerOff => "poweroff",
        PowerAction::Reboot => "reboot",
        PowerAction::Halt => "halt",
    }
}

fn feed(watchdog: &mut Option<Watchdog>) {
    crate::early::watchdog::feed(watchdog);
}

/// SIGTERM to everybody, a moment, SIGKILL to the rest.
fn end_processes() {
    for (signal, patience) in [(libc::SIGTERM, TERM_PATIENCE), (libc::SIGKILL, KILL_PATIENCE)] {
        if !others_are_left() {
            return;
        }
        signals::send_all(signal);
        signals::send_all(libc::SIGCONT);
        let until = Instant::now() + patience;
        while others_are_left() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if others_are_left() {
        say("some processes do not even end by SIGKILL, going on without them");
    }
}

/// Whether a process of user space is left besides this one. Kernel threads have no executable.
fn others_are_left() -> bool {
    while signals::reap_any().is_some() {}
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().any(|pid| pid != 1 && fs::read_link(format!("/proc/{pid}/exe")).is_ok())
}

/// Writes everything to the disks; a disk that takes nothing any more is not waited for.
fn sync(watchdog: &mut Option<Watchdog>) {
    let mut before = unwritten_kib();
    let mut moves = || {
        let now = unwritten_kib();
        let moves = now < before;
        before = now;
        if moves {
            feed(watchdog);
        }
        moves
    };
    let synced = limited::run(SYNC_LIMIT, &mut moves, || {
        rustix::fs::sync();
        Ok(())
    });
    if let Err(error) = synced {
        say(&format!("not everything is on disk: {error}"));
    }
}

/// What waits to be written, in KiB, as /proc/meminfo has it.
fn unwritten_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let wanted = |line: &&str| ["Dirty:", "Writeback:"].iter().any(|name| line.starts_with(name));
    text.lines()
        .filter(wanted)
        .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

/// A line on the console, which is not waited for: its user may have stopped it.
fn say(text: &str) {
    let flags = i32::try_from((OFlags::NOCTTY | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let opened = fs::OpenOptions::new().write(true).custom_flags(flags).open("/dev/console");
    // There is nobody left to complain to.
    let _lost: io::Result<()> =
        opened.and_then(|mut console| console.write_all(format!("         {text}\r\n").as_bytes()));
}
