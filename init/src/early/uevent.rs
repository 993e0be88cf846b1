//! The kernel's device events, to wait for a disk without polling.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

/// Group of the kernel's own messages (udev's are in group 2).
const KERNEL_GROUP: u32 = 1;
/// Longest message: the kernel's buffer for one has 2048 bytes of variables and a path.
const MESSAGE_LEN: usize = 8192;

/// A socket that hears every device that comes and goes from its creation on.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Starts listening.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// Returns true as soon as something happened to a block device, false at `deadline`. An overflow of the socket counts
    /// as something: the caller looks at the devices anyway.
    ///
    /// # Errors
    /// The kernel's, from poll(2).
    pub fn wait_for_block(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            if self.drain() {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes all waiting messages in; whoever calls looks at the devices themselves.
    pub fn discard(&self) {
        self.drain();
    }

    /// Reads all waiting messages; true when one was about a block device.
    fn drain(&self) -> bool {
        let mut seen = false;
        let mut buffer = [0_u8; MESSAGE_LEN];
        loop {
            match recvfrom(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((len, _, sender)) => {
                    let sender = sender.and_then(|address| SocketAddrNetlink::try_from(address).ok());
                    // Any process may send to the group; only the kernel has port 0.
                    let from_kernel = sender.is_some_and(|address| address.pid() == 0);
                    seen |= from_kernel && is_block(buffer.get(..len).unwrap_or_default());
                }
                Err(rustix::io::Errno::NOBUFS) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return seen,
            }
        }
    }
}

impl AsFd for Uevents {
    /// To be polled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// True for a message of the block subsystem: `ACTION@PATH`, then `KEY=VALUE` words, each ended by a zero byte.
fn is_block(message: &[u8]) -> bool {
    message.split(|byte| *byte == 0).any(|word| word == b"SUBSYSTEM=block")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_block_messages_wake() {
        assert!(is_block(b"add@/devices/x/block/vda\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=vda\0"));
        assert!(!is_block(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=pci\0"));
        assert!(!is_block(b"SUBSYSTEM=block2\0"));
        assert!(!is_block(b""));
    }
}
