//! What people hear of it: the unit's status and the journal, and the console when something is wrong.

use init::early::console::{Level, say};

/// A line for the journal.
pub fn tell(line: &str) {
    println!("{line}");
}

/// What is wrong, for the journal and, its first line, for the console: on a machine that nobody can log into it is all there is.
pub fn complain(text: &str) {
    eprintln!("{text}");
    let line = text.lines().next().unwrap_or_default();
    // Messages about the text begin with its name.
    let prefix = if line.starts_with("user-data") { "" } else { "user-data: " };
    say(Level::Error, format_args!("{prefix}{line}"));
}

/// What `systemctl status` shows.
pub fn status(text: &str) {
    if let Err(error) = init::net::notify(&format!("STATUS={text}")) {
        eprintln!("cannot report the status: {error}");
    }
}
