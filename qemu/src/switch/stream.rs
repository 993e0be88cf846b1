//! Frames on a byte stream, as QEMU's `stream` network carries them: each after its length, 4 bytes, big-endian
//! (QEMU, `net/net.c`, `net_fill_rstate`).

use std::collections::VecDeque;

/// The longest frame that QEMU sends or takes: `NET_BUFSIZE` (QEMU, `include/net/net.h`).
pub const MAX_FRAME: usize = 4096 + 65536;
/// Bytes that may wait for a guest that does not read. Beyond it frames are lost, as on a wire.
const BACKLOG: usize = 4 << 20;

/// A stream whose other side does not speak the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a frame of {0} bytes is announced, the most is {MAX_FRAME}")]
pub struct TooLong(pub usize);

/// Puts a stream's bytes together to frames.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// Takes bytes as they came and gives the frames that are whole now.
    ///
    /// # Errors
    /// An impossible length; nothing after it can be read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        self.bytes.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut rest = self.bytes.as_slice();
        while let Some((length, body)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > MAX_FRAME {
                return Err(TooLong(length));
            }
            let Some((frame, after)) = body.split_at_checked(length) else { break };
            frames.push(frame.to_vec());
            rest = after;
        }
        let used = self.bytes.len() - rest.len();
        self.bytes.drain(..used);
        Ok(frames)
    }
}

/// Bytes on their way to a guest.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: VecDeque<u8>,
}

impl Writer {
    /// Adds a frame, or loses it when too much waits already.
    pub fn push(&mut self, frame: &[u8]) {
        let Ok(length) = u32::try_from(frame.len()) else { return };
        if frame.len() <= MAX_FRAME && self.bytes.len() + frame.len() <= BACKLOG {
            self.bytes.extend(length.to_be_bytes());
            self.bytes.extend(frame);
        }
    }

    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What can be written next.
    pub fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// Forgets the first `count` bytes: they are written.
    pub fn consume(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_impossible_length_is_refused() {
        assert_eq!(Reader::default().push(&[0xff; 4]), Err(TooLong(0xffff_ffff)));
    }

    #[test]
    fn a_guest_that_does_not_read_loses_frames_and_no_memory() {
        let mut writer = Writer::default();
        for _ in 0..5000 {
            writer.push(&[0; 1500]);
        }
        assert!(writer.bytes.len() <= BACKLOG + 4 && writer.bytes.len() > BACKLOG - 2000);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
            step in 1_usize..50,
        ) {
            let mut writer = Writer::default();
            frames.iter().for_each(|frame| writer.push(frame));
            let mut bytes = Vec::new();
            while !writer.is_empty() {
                bytes.extend_from_slice(writer.front());
                writer.consume(writer.front().len());
            }
            let mut reader = Reader::default();
            let mut got = Vec::new();
            for chunk in bytes.chunks(step) {
                got.extend(reader.push(chunk).unwrap());
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Reader::default().push(&bytes);
        }
    }
}
