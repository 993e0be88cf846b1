//! What is done when PID 1 has no descriptor left for a new connection: it is taken off the queue and hung up on, for a socket with
//! connections that nobody takes in would keep the loop busy for ever.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

/// What the loop waits when a connection cannot even be refused: long enough for the processor to do something else, too short for
/// anybody to notice.
const PAUSE: Duration = Duration::from_millis(10);

/// One descriptor that is given up for the moment when there is no other.
#[derive(Debug)]
pub struct Spare(Option<OwnedFd>);

impl Spare {
    /// Lays one by.
    pub fn new() -> Spare {
        Spare(File::open("/dev/null").ok().map(OwnedFd::from))
    }

    /// After an accept(2) that failed: whether that was for want of descriptors or memory. The connection is refused then.
    pub fn refuse(&mut self, listener: impl AsFd, error: Errno) -> bool {
        if !matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) {
            return false;
        }
        self.0 = None;
        if accept_with(listener, SocketFlags::CLOEXEC).is_err() {
            std::thread::sleep(PAUSE);
        }
        *self = Spare::new();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_connection_for_which_there_is_no_room_is_hung_up_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let mut spare = Spare::new();
        assert!(!spare.refuse(&listener, Errno::AGAIN));
        assert!(spare.refuse(&listener, Errno::MFILE) && spare.0.is_some());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        // Nothing waits any more.
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
        assert!(spare.refuse(&listener, Errno::NFILE) && spare.0.is_some());
    }
}
