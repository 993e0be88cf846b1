//! What people hear of it: the unit's status and the journal, and the console when something is wrong.

use init::early::console::{Level, say};

/// A line for the journal.
pub fn tell(line: &str) {
    println!("{line}");
}

/// What is wrong, for the journal and for the console: on a machine that nobody can log into it is all there is.
pub fn complain(line: &str) {
    for line in line.lines() {
        eprintln!("{line}");
        say(Level::Error, format_args!("user-data: {line}"));
    }
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    if let Err(error) = init::net::notify(&format!("STATUS={text}")) {
        eprintln!("cannot report the status: {error}");
    }
}
