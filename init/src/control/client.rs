//! The client's end of the control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::messages::{Answer, Call, Method, Refusal, Reply};
use super::{CONTROL_SOCKET, Frames};

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// PID 1 cannot be reached.
    #[error("cannot reach PID 1 at {CONTROL_SOCKET}")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("lost the connection to PID 1")]
    Connection(#[source] io::Error),
    /// The answer is not one.
    #[error("PID 1 gave an answer that cannot be understood")]
    Answer(#[source] serde_json::Error),
    /// PID 1 refused.
    #[error("{}", .0.text)]
    Refused(Refusal),
}

/// A connection to PID 1.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect() -> Result<Client, ClientError> {
        Client::connect_to(Path::new(CONTROL_SOCKET))
    }

    /// Connects to a socket elsewhere, for tests on a host.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect_to(path: &Path) -> Result<Client, ClientError> {
        UnixStream::connect(path).map(|stream| Client { stream }).map_err(ClientError::Connect)
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// The refusal, or what went wrong on the way.
    pub fn call(&mut self, method: Method) -> Result<Answer, ClientError> {
        self.send(method)?;
        self.receive()
    }

    /// Calls a method; [`Client::receive`] waits for its answer.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn send(&mut self, method: Method) -> Result<(), ClientError> {
        let mut text = serde_json::to_vec(&Call { method }).map_err(ClientError::Answer)?;
        text.push(0);
        self.stream.write_all(&text).map_err(ClientError::Connection)
    }

    /// Waits for the answer to the call that was sent.
    ///
    /// # Errors
    /// The refusal, or what went wrong on the way.
    pub fn receive(&mut self) -> Result<Answer, ClientError> {
        let mut frames = Frames::default();
        let mut buffer = [0; 4096];
        loop {
            let count = self.stream.read(&mut buffer).map_err(ClientError::Connection)?;
            if count == 0 {
                return Err(ClientError::Connection(io::ErrorKind::UnexpectedEof.into()));
            }
            let messages = frames.push(buffer.get(..count).unwrap_or_default());
            let messages =
                messages.ok_or_else(|| ClientError::Connection(io::ErrorKind::InvalidData.into()))?;
            if let Some(message) = messages.first() {
                let reply: Reply = serde_json::from_slice(message).map_err(ClientError::Answer)?;
                return match reply.error {
                    Some(error) => Err(ClientError::Refused(error)),
                    None => Ok(reply.parameters.unwrap_or_default()),
                };
            }
        }
    }
}
