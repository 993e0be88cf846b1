//! The descriptors that the journal works with, and how PID 1 hands them to it.
//!
//! PID 1 makes the sockets before anything can log, and keeps them, and a copy of every connected stream, so that a
//! journal that is restarted goes on where the one before it stopped.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use super::entry::Id;
use super::sockets;
use super::stream::Header;
use crate::sys::spawn::inherited;

/// Folder of the sockets, below the root.
pub const FOLDER: &str = "/run/systemd/journal";
/// Variable that names the descriptors: `NUMBER NAME`, a line each.
pub const VARIABLE: &str = "FERRITE_JOURNAL_FDS";
/// Names of streams begin with this.
pub const STREAM: &str = "stream ";

/// Where the service manager leaves the limits of units, below the root: links `NAME:UNIT` whose targets are the values.
pub const UNIT_SETTINGS: &str = "run/systemd/units";
/// `LogRateLimitIntervalSec=`, microseconds.
pub const RATE_INTERVAL: &str = "log-rate-limit-interval";
/// `LogRateLimitBurst=`, messages.
pub const RATE_BURST: &str = "log-rate-limit-burst";
/// `LogLevelMax=`, 0 to 7.
pub const LEVEL_MAX: &str = "log-level-max";

/// Path of the native protocol's socket below the folder.
pub const NATIVE: &str = "socket";
/// Path of the stream protocol's socket below the folder.
pub const STDOUT: &str = "stdout";
/// Path of what `/dev/log` links to, below the folder.
pub const SYSLOG: &str = "dev-log";

/// The sockets.
#[derive(Debug)]
pub struct Ports {
    /// `/run/systemd/journal/socket`
    pub native: OwnedFd,
    /// `/run/systemd/journal/stdout`, listening.
    pub stdout: OwnedFd,
    /// `/dev/log`
    pub syslog: OwnedFd,
}

impl Ports {
    /// Makes the sockets in `folder`.
    ///
    /// # Errors
    /// The kernel's, for the folder or a socket.
    pub fn bind(folder: &Path) -> io::Result<Ports> {
        Ok(Ports {
            native: sockets::bind_datagram(&folder.join(NATIVE))?,
            stdout: sockets::bind_stream(&folder.join(STDOUT))?,
            syslog: sockets::bind_datagram(&folder.join(SYSLOG))?,
        })
    }

    /// The sockets with their names.
    pub fn named(&self) -> [(&'static str, BorrowedFd<'_>); 3] {
        [("native", self.native.as_fd()), ("stdout", self.stdout.as_fd()), ("syslog", self.syslog.as_fd())]
    }
}

/// The name under which PID 1 keeps a stream.
pub fn stream_name(id: Id, header: &Header) -> String {
    format!("{STREAM}{id} {}", header.to_word())
}

/// What a journal begins with.
#[derive(Debug)]
pub struct Inherited {
    /// The sockets.
    pub ports: Ports,
    /// Streams of the journal before this one, with their names.
    pub streams: Vec<(String, OwnedFd)>,
    /// Where names of streams go that PID 1 shall keep.
    pub keeper: Option<OwnedFd>,
}

/// The value of [`VARIABLE`] for descriptors with names.
pub fn describe<'a>(descriptors: impl IntoIterator<Item = (&'a str, RawFd)>) -> String {
    let mut text = String::new();
    for (name, number) in descriptors {
        // Writing to a string never fails.
        let _infallible = writeln!(text, "{number} {name}");
    }
    text
}

/// Reads a value of [`VARIABLE`]: numbers and names.
pub fn parse(text: &str) -> Vec<(RawFd, String)> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(number, name)| Some((number.parse().ok()?, name.to_owned()))).collect()
}

impl Inherited {
    /// Takes over what PID 1 has left open; sockets that it has not made are made in `folder`.
    ///
    /// # Errors
    /// A socket that is missing cannot be made.
    pub fn take(value: Option<&str>, folder: &Path) -> io::Result<Inherited> {
        let mut native = None;
        let mut stdout = None;
        let mut syslog = None;
        let mut keeper = None;
        let mut streams = Vec::new();
        for (number, name) in value.map(parse).unwrap_or_default() {
            let Some(descriptor) = inherited(number) else { continue };
            match name.as_str() {
                "native" => native = Some(descriptor),
                "stdout" => stdout = Some(descriptor),
                "syslog" => syslog = Some(descriptor),
                "keeper" => keeper = Some(descriptor),
                _ => streams.push((name, descriptor)),
            }
        }
        let path = |name: &str| -> PathBuf { folder.join(name) };
        let ports = Ports {
            native: native.map_or_else(|| sockets::bind_datagram(&path(NATIVE)), Ok)?,
            stdout: stdout.map_or_else(|| sockets::bind_stream(&path(STDOUT)), Ok)?,
            syslog: syslog.map_or_else(|| sockets::bind_datagram(&path(SYSLOG)), Ok)?,
        };
        Ok(Inherited { ports, streams, keeper })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn descriptors_are_described_and_read() {
        let text = describe([("native", 5), ("stream 7 a\u{1}b c", 12)]);
        assert_eq!(parse(&text), [(5, "native".to_owned()), (12, "stream 7 a\u{1}b c".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            parse(&text);
        }
    }
}
