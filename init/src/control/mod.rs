//! The control socket: JSON messages, each ended by a NUL byte (varlink's framing, <https://varlink.org/Method-Call>).
//!
//! A client sends a [`Call`] and gets one [`Reply`]. Reading is open to everybody, changes are root's: the server checks
//! the peer's credentials.

mod client;
pub mod messages;

pub use client::{Client, ClientError};
pub use messages::{
    Answer, Call, JobRequest, JobView, Method, Refusal, RefusalKind, Reply, SocketView, TimerView, UnitView,
};

/// Where the socket is.
pub const CONTROL_SOCKET: &str = "/run/ferrite/control";
/// Longest message that is taken in; a client that sends more is cut off.
pub const LONGEST_MESSAGE: usize = 1 << 20;

/// Collects bytes into messages.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Takes in bytes; gives the messages that are complete, without their NUL. `None` when a message is too long.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut messages = Vec::new();
        for byte in bytes {
            if *byte == 0 {
                messages.push(std::mem::take(&mut self.bytes));
            } else if self.bytes.len() >= LONGEST_MESSAGE {
                return None;
            } else {
                self.bytes.push(*byte);
            }
        }
        Some(messages)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_end_at_nul_bytes_however_they_are_cut() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(b"{\"a\"").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(frames.push(b":1}\0{}\0x").unwrap(), [b"{\"a\":1}".to_vec(), b"{}".to_vec()]);
        assert!(frames.push(&vec![b' '; LONGEST_MESSAGE + 1]).is_none());
    }

    proptest! {
        #[test]
        fn garbage_is_no_call_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            for message in frames.push(&bytes).unwrap() {
                let _either = serde_json::from_slice::<Call>(&message);
            }
        }
    }
}
