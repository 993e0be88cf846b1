//! Reads a connection on a thread of its own: while blocks are decompressed, hashed, written and read back, the line goes on bringing
//! the next ones.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are handed over at a time.
const PIECE: usize = 64 << 10;
/// Pieces that wait at most: 4 MiB, which a line of a gigabit brings in 34 ms.
const PIECES: usize = 64;
/// A piece of a slow line is handed over after this time, whatever there is of it.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a connection brought and nobody has taken yet. When it is dropped, the thread ends with what it is reading.
#[derive(Debug)]
pub(super) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
}

impl Ahead {
    /// Begins to read.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn new(reader: Box<dyn Read + Send>) -> io::Result<Self> {
        let (outbox, pieces) = sync_channel(PIECES);
        thread::Builder::new().name("fetch".to_owned()).spawn(move || bring(reader, &outbox))?;
        Ok(Self { pieces, piece: Vec::new(), taken: 0 })
    }
}

/// Hands pieces over until the connection ends or fails, or nobody wants them any more.
fn bring(mut reader: Box<dyn Read + Send>, outbox: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let begun = Instant::now();
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        let end = loop {
            match reader.read(piece.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break Some(Ok(Vec::new())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(Err(error)),
            }
            if filled == PIECE || begun.elapsed() >= PATIENCE {
                break None;
            }
        };
        piece.truncate(filled);
        if filled > 0 && outbox.send(Ok(piece)).is_err() {
            return;
        }
        if let Some(end) = end {
            // Whoever has gone does not mind.
            let _ = outbox.send(end);
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            // The end is an empty piece; behind it, and behind an error, nothing comes.
            self.piece = self.pieces.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            self.taken = 0;
        }
        let rest = self.piece.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        let (from, to) = (rest.get(..count), buffer.get_mut(..count));
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
        }
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Gives a few bytes at a time, then what it was told.
    struct Line {
        bytes: Vec<u8>,
        at: usize,
        end: Option<io::ErrorKind>,
    }

    impl Read for Line {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = 999.min(buffer.len()).min(self.bytes.len() - self.at);
            buffer[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
            self.at += count;
            match self.end {
                Some(kind) if count == 0 => Err(kind.into()),
                _ => Ok(count),
            }
        }
    }

    #[test]
    fn all_bytes_come_in_order_and_then_the_end() {
        for length in [0, 1, PIECE - 1, PIECE, 5 * PIECE + 7] {
            for end in [None, Some(io::ErrorKind::ConnectionReset)] {
                let bytes: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
                let mut ahead = Ahead::new(Box::new(Line { bytes: bytes.clone(), at: 0, end })).unwrap();
                let mut got = Vec::new();
                let read = ahead.read_to_end(&mut got);
                assert_eq!(read.err().map(|error| error.kind()), end);
                assert!(got == bytes, "{length} bytes");
                assert_eq!(ahead.read(&mut [0; 9]).unwrap(), 0);
            }
        }
    }

    #[test]
    fn whoever_does_not_want_the_rest_ends_the_reading() {
        struct Endless(#[expect(dead_code, reason = "dropped with its owner")] mpsc::Sender<()>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(1);
                Ok(buffer.len())
            }
        }
        let (alive, ended) = mpsc::channel();
        let mut ahead = Ahead::new(Box::new(Endless(alive))).unwrap();
        ahead.read_exact(&mut [0; 3 * PIECE]).unwrap();
        drop(ahead);
        assert_eq!(ended.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn a_slow_line_is_not_waited_for_until_a_piece_is_full() {
        let (bytes, line) = mpsc::channel::<u8>();
        struct Slow(mpsc::Receiver<u8>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(PATIENCE);
                let Ok(byte) = self.0.recv() else { return Ok(0) };
                buffer[0] = byte;
                Ok(1)
            }
        }
        let mut ahead = Ahead::new(Box::new(Slow(line))).unwrap();
        bytes.send(42).unwrap();
        let mut got = [0; 9];
        assert_eq!((ahead.read(&mut got).unwrap(), got[0]), (1, 42));
    }
}
