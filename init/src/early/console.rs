//! Lines on the kernel's console, which is all there is this early, and the end of a boot that cannot go on.

use std::error::Error;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use rustix::system::RebootCommand;

/// How long the reason stays on the console before the machine reboots: time to read it, short enough that a fallback
/// is not a long outage. The same as `panic=10` on the command line.
const REBOOT_PAUSE: Duration = Duration::from_secs(10);

/// Priority of a line in the kernel log (syslog(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Always on the console, whatever its level.
    Emergency = 0,
    /// Something failed, the boot goes on.
    Error = 3,
    /// Something is not as it should be.
    Warning = 4,
    /// A step of the boot that an operator wants to see.
    Notice = 5,
}

/// Lifts the kernel's limit of ten lines in five seconds, which would swallow the one line that explains a failure.
pub fn unlimit() {
    let written = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    if let Err(error) = written {
        say(Level::Warning, format_args!("cannot lift the limit of /dev/kmsg: {error}"));
    }
}

/// Writes one line into the kernel log, and to stderr when there is no kernel log.
pub fn say(level: Level, text: impl Display) {
    let line = format!("<{}>ferrite: {text}\n", level as u8);
    let opened = OpenOptions::new().write(true).open("/dev/kmsg");
    let written = opened.and_then(|mut kmsg| kmsg.write_all(line.as_bytes()));
    if written.is_err() {
        eprintln!("ferrite: {text}");
    }
}

/// An error with all its causes, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Says why the boot cannot go on, waits, reboots. The loader has taken a try from the slot already, so rebooting is what leads
/// to the other slot; there is nothing better to do without `/usr`.
pub fn give_up(reason: &str) -> ! {
    say(Level::Emergency, format_args!("BOOT FAILED: {reason}"));
    say(Level::Emergency, format_args!("rebooting in {} seconds", REBOOT_PAUSE.as_secs()));
    std::thread::sleep(REBOOT_PAUSE);
    rustix::fs::sync();
    if let Err(error) = rustix::system::reboot(RebootCommand::Restart) {
        say(Level::Emergency, format_args!("cannot reboot: {error}"));
    }
    // The end of PID 1 panics the kernel, and `panic=10` reboots.
    std::process::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&error), "outer: inner");
    }
}
