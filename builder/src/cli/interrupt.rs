//! Ctrl-C and its kin: what was begun is cleaned up, then the signal does what it always does.
//!
//! A thread waits for the signal. It ends the programs that this one started (a compiler that nobody waits for would run on),
//! removes what is under construction, and lets the signal end the process, so that shells and scripts see why it ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal as _;
use std::os::raw::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use debian::temporary;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::{passphrase, style};

/// Programs that were told to end have this long; a compiler needs a few milliseconds.
const GRACE: Duration = Duration::from_secs(2);

/// A signal has come, and the process is ending.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Waits for ever when the process is ending: what the command says then, and its exit code, mean nothing.
pub fn give_way() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Starts to wait for signals. Those that whoever started this process wants ignored (`nohup`) stay ignored.
pub fn watch() {
    let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    // Without a handler a signal ends the process all the same; what it leaves is removed by the next build.
    let Ok(mut signals) = Signals::new(wanted) else { return };
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            end(signal);
        }
    });
}

fn end(signal: c_int) {
    ENDING.store(true, Ordering::SeqCst);
    let own = std::process::id();
    for process in descendants(&processes(), own) {
        if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
            // One that has ended already needs no signal.
            let _ = kill_process(process, Signal::TERM);
        }
    }
    let start = Instant::now();
    while !descendants(&processes(), own).is_empty() && start.elapsed() < GRACE {
        thread::sleep(Duration::from_millis(10));
    }
    temporary::abandon_all();
    passphrase::restore_terminal();
    // A terminal's last line has the bars in it, or `^C`.
    let line_break = if std::io::stderr().is_terminal() { "\n" } else { "" };
    style::say(&format!(
        "{line_break}interrupted: nothing is left half done, downloads go on where they were"
    ));
    // It returns only for signals that it does not know.
    let _ = emulate_default_handler(signal);
}

/// The set of ignored signals, bit 0 for signal 1, from `/proc/PID/status` (proc(5)).
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Every running process and its parent.
fn processes() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter_map(|number| {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
            Some((number, running_parent(&stat)?))
        })
        .collect()
}

/// The parent from a process's `stat`; none for one that has ended and is only waited for (proc(5)).
fn running_parent(stat: &str) -> Option<u32> {
    // The name stands in parentheses and may have anything in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// The children of a process, their children, and so on.
fn descendants(parents: &BTreeMap<u32, u32>, of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(child, its)| **its == parent && !found.contains(child));
        let children: Vec<u32> = children.map(|(child, _)| *child).collect();
        found.extend(children);
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_familys_processes_are_found_and_no_others() {
        let parents = BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 11), (13, 10), (20, 1), (21, 20)]);
        assert_eq!(descendants(&parents, 10), [11, 13, 12]);
        assert_eq!(descendants(&parents, 12), Vec::<u32>::new());
        // Numbers are read one after the other and may make a ring.
        assert_eq!(descendants(&BTreeMap::from([(5, 6), (6, 5)]), 5), [6]);
    }

    #[test]
    fn a_processs_name_does_not_hide_its_parent() {
        assert_eq!(running_parent("7 (a) S 99 (b) R 3 7 7"), Some(3));
        assert_eq!(running_parent("7 (rustc) Z 3 7 7"), None);
        assert_eq!(running_parent(""), None);
    }

    #[test]
    fn ignored_signals_are_bits() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\n") & 1, 1);
        assert_eq!(ignored("Name:\tx\n"), 0);
    }

    proptest! {
        #[test]
        fn any_text_of_the_kernel_is_read(text in "\\PC{0,60}") {
            let _ = (running_parent(&text), ignored(&text));
        }
    }
}
