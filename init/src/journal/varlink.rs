//! The journal's control socket, with systemd's interface `io.systemd.Journal` and Varlink's framing: JSON objects, each
//! with a NUL byte behind it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

/// Name of the socket below [`super::ports::FOLDER`].
pub const NAME: &str = "io.systemd.Journal";
/// Longest message that is read.
const LONGEST: usize = 16 << 10;
/// How long a client waits for the answer.
const PATIENCE: Duration = Duration::from_secs(25);

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Keep what was sent so far, safe from a power cut.
    Synchronize,
    /// Begin a new file.
    Rotate,
    /// Open the files where they belong now.
    Reopen,
    /// Nothing that is known or allowed; the Varlink error.
    Refused(&'static str),
}

#[derive(Debug, Deserialize)]
struct Request {
    method: String,
}

#[derive(Debug, Deserialize)]
struct Reply {
    error: Option<String>,
}

/// What a message asks for, if root asks; others may only ask for a sync.
pub fn parse(message: &[u8], is_root: bool) -> Call {
    let Ok(request) = serde_json::from_slice::<Request>(message) else {
        return Call::Refused("org.varlink.service.InvalidParameter");
    };
    let call = match request.method.as_str() {
        "io.systemd.Journal.Synchronize" => return Call::Synchronize,
        "io.systemd.Journal.Rotate" => Call::Rotate,
        "io.systemd.Journal.FlushToVar" | "io.systemd.Journal.RelinquishVar" => Call::Reopen,
        _ => return Call::Refused("org.varlink.service.MethodNotFound"),
    };
    if is_root { call } else { Call::Refused("org.varlink.service.PermissionDenied") }
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    bytes: Vec<u8>,
    is_root: bool,
}

impl Client {
    /// A client that has just connected.
    pub fn new(socket: OwnedFd) -> Client {
        let peer = rustix::net::sockopt::socket_peercred(&socket);
        Client { is_root: peer.is_ok_and(|peer| peer.uid.is_root()), socket, bytes: Vec::new() }
    }

    /// What it asks for now; `None` when it is gone or sends garbage without end.
    pub fn read(&mut self) -> Option<Vec<Call>> {
        let mut chunk = [0; 1024];
        loop {
            match rustix::io::read(&self.socket, &mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(chunk.get(..count)?),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => return None,
            }
            if self.bytes.len() > LONGEST {
                return None;
            }
        }
        let mut calls = Vec::new();
        while let Some(end) = self.bytes.iter().position(|byte| *byte == 0) {
            let message: Vec<u8> = self.bytes.drain(..=end).collect();
            calls.push(parse(message.get(..end).unwrap_or_default(), self.is_root));
        }
        Some(calls)
    }

    /// Answers a call; false when the client does not take it.
    pub fn answer(&self, result: io::Result<()>) -> bool {
        let text = match result {
            Ok(()) => "{}\0".to_owned(),
            Err(error) => {
                let error = error.to_string();
                format!("{{\"error\":{},\"parameters\":{{}}}}\0", serde_json::Value::String(error))
            }
        };
        super::sockets::send(self.socket.as_fd(), text.as_bytes(), &[]).is_ok()
    }
}

/// Asks a journal, and waits until it has done it.
///
/// # Errors
/// There is none, it refuses, or it takes too long.
pub fn call(path: &Path, method: &str) -> io::Result<()> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(
        format!("{{\"method\":\"io.systemd.Journal.{method}\",\"parameters\":{{}}}}\0").as_bytes(),
    )?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while !bytes.contains(&0) && bytes.len() < LONGEST {
        match socket.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
    let message = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let reply: Reply = serde_json::from_slice(message)?;
    reply.error.map_or(Ok(()), |error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_and_only_root_may_rotate() {
        let message = |method: &str| format!("{{\"method\":\"{method}\",\"parameters\":{{}}}}").into_bytes();
        let rotate = message("io.systemd.Journal.Rotate");
        assert_eq!(parse(&rotate, true), Call::Rotate);
        assert_eq!(parse(&rotate, false), Call::Refused("org.varlink.service.PermissionDenied"));
        assert_eq!(parse(&message("io.systemd.Journal.Synchronize"), false), Call::Synchronize);
        assert_eq!(parse(&message("x"), true), Call::Refused("org.varlink.service.MethodNotFound"));
        assert_eq!(parse(b"{", true), Call::Refused("org.varlink.service.InvalidParameter"));
    }
}
