//! Connected streams, and messages that come in files.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::FileType;

use super::context::Sender;
use super::entry::{Id, Stamp};
use super::intake::Intake;
use super::stream::{Header, Stream};
use super::{ports, sockets};

/// Reads of one stream before somebody else is looked at.
const TURNS: usize = 64;
/// `TMPFS_MAGIC` of linux/magic.h; memory files have it too.
const TMPFS: i64 = 0x0102_1994;
/// Largest message, in bytes.
pub const LARGEST_MESSAGE: usize = 16 << 20;

/// A connected stream.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    id: Id,
    stream: Stream,
    /// Its name at PID 1, once it is kept there.
    name: Option<String>,
    /// Process of the bytes that are not a line yet.
    sender: Option<Sender>,
}

impl Connection {
    /// A stream that was just accepted.
    pub fn new(socket: OwnedFd) -> Connection {
        Connection { socket, id: Id::random(), stream: Stream::default(), name: None, sender: None }
    }

    /// A stream that PID 1 has kept under `name`; `None` when that is no name of a stream.
    pub fn resumed(name: &str, socket: OwnedFd) -> Option<Connection> {
        let (id, word) = name.strip_prefix(ports::STREAM)?.split_once(' ')?;
        let stream = Stream::resumed(Header::from_word(word)?);
        Some(Connection { socket, id: Id::parse(id)?, stream, name: Some(name.to_owned()), sender: None })
    }

    /// The socket, to be polled.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Takes in what is there; false when the stream is to be closed.
    pub fn read(&mut self, buffer: &mut [u8], intake: &mut Intake, keeper: Option<&OwnedFd>) -> bool {
        for _ in 0..TURNS {
            let received = match sockets::receive(&self.socket, buffer) {
                Ok(received) => received,
                Err(error) => {
                    return matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
                }
            };
            if received.count == 0 {
                return false;
            }
            let bytes = buffer.get(..received.count).unwrap_or_default();
            if !self.take(bytes, received.sender, intake) {
                return false;
            }
            self.remember(keeper);
        }
        true
    }

    /// Takes in bytes of one sender; false when they break the protocol.
    fn take(&mut self, bytes: &[u8], sender: Option<Sender>, intake: &mut Intake) -> bool {
        let (now, id) = (Stamp::now(), self.id);
        let had_header = self.stream.header().is_some();
        if self.sender != sender && had_header {
            let before = self.sender;
            self.stream.flush(|header, line| intake.line(now, id, header, line, before));
        }
        self.sender = sender;
        // Only root may speak for a unit, in the header; lines may come along with it.
        let believed = had_header || sender.is_some_and(|sender| sender.uid == 0);
        let pushed = self.stream.push(bytes, |header, line| {
            if believed {
                intake.line(now, id, header, line, sender);
            } else {
                let header = Header { unit: String::new(), ..header.clone() };
                intake.line(now, id, &header, line, sender);
            }
        });
        if !believed {
            self.stream.forget_unit();
        }
        pushed.is_ok()
    }

    /// The last line, if it has no end, and the end of PID 1's copy.
    pub fn close(&mut self, intake: &mut Intake, keeper: Option<&OwnedFd>) {
        let (now, id, sender) = (Stamp::now(), self.id, self.sender);
        self.stream.flush(|header, line| intake.line(now, id, header, line, sender));
        self.forget(keeper);
    }

    /// Gives PID 1 a copy, for the journal after this one.
    fn remember(&mut self, keeper: Option<&OwnedFd>) {
        let (Some(keeper), Some(header), None) = (keeper, self.stream.header(), &self.name) else { return };
        let name = ports::stream_name(self.id, header);
        // PID 1 is behind: should this journal die, this stream ends with it.
        if sockets::send(keeper, name.as_bytes(), &[self.socket.as_fd()]).is_ok() {
            self.name = Some(name);
        }
    }

    /// Tells PID 1 to close its copy.
    fn forget(&mut self, keeper: Option<&OwnedFd>) {
        if let (Some(keeper), Some(name)) = (keeper, self.name.take()) {
            // Lost, PID 1's copy stays open until the next journal reads its end again.
            let _later = sockets::send(keeper, name.as_bytes(), &[]);
        }
    }
}

/// Reads a message that is too long for a datagram, from a file in memory. A file elsewhere could make the journal wait.
pub fn read_passed(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let problem = |text: &str| Err(io::Error::other(text.to_owned()));
    let stat = rustix::fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return problem("it is no regular file");
    }
    if rustix::fs::fstatfs(file)?.f_type != TMPFS {
        return problem("it is not in memory");
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > LARGEST_MESSAGE {
        return problem("it is too large");
    }
    let mut bytes = vec![0; size];
    let file = fs::File::from(file.try_clone()?);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, u64::try_from(filled).unwrap_or(0))? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
