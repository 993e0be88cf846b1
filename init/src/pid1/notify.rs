//! The socket that services report to, sd_notify(3).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::IoSliceMut;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketType, recvmsg};

use crate::supervisor::Notification;
use crate::unix_socket;

/// Where the socket is in the image; services learn it from `$NOTIFY_SOCKET`.
pub const NOTIFY_SOCKET: &str = "/run/systemd/notify";
/// Longest message that is read, as systemd's.
const LONGEST_MESSAGE: usize = 4096;
/// Descriptors that one message can bring: `SCM_MAX_FD` of the kernel.
const MOST_DESCRIPTORS: usize = 253;

/// The socket.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
}

impl NotifySocket {
    /// Makes the socket at `path`.
    ///
    /// # Errors
    /// The kernel's, for the folder, the socket or its name.
    pub fn open(path: &Path) -> io::Result<NotifySocket> {
        // Services report as their own users.
        let socket = unix_socket::make(path, SocketType::DGRAM, 0o777)?;
        Ok(NotifySocket { socket })
    }

    /// Takes over the socket of an earlier program of this process.
    pub fn take_over(socket: OwnedFd) -> NotifySocket {
        NotifySocket { socket }
    }

    /// The descriptor, to be polled.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.socket
    }

    /// The next message, its sender's PID, and the descriptors that came along. A sender at a barrier waits until these are
    /// closed.
    pub fn read(&self) -> Option<(u32, Notification, Vec<OwnedFd>)> {
        loop {
            let mut bytes = [0; LONGEST_MESSAGE];
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(MOST_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let received =
                recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).ok()?;
            let mut sender = None;
            let mut came = Vec::new();
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
                    RecvAncillaryMessage::ScmRights(descriptors) => came.extend(descriptors),
                    _ => {}
                }
            }
            let pid = sender.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
            if let (Some(pid), Some(text)) = (pid, bytes.get(..received.bytes)) {
                return Some((pid, Notification::parse(text), came));
            }
        }
    }
}
