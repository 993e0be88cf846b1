//! Sockets with the kernel's word on who is at the other end.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, listen, recvmsg,
    sendmsg, socket_with, sockopt,
};

use super::context::Sender;
use crate::unix_socket;

/// Receive buffer of datagram sockets, as systemd's.
const BUFFER: usize = 8 << 20;
/// Connections that wait to be accepted, as systemd's `SOMAXCONN`.
const BACKLOG: i32 = 4096;

/// Anybody may log.
const EVERYBODY: u32 = 0o666;

/// What came in.
#[derive(Debug)]
pub struct Received {
    /// Bytes in the buffer; 0 at a stream's end.
    pub count: usize,
    /// Who wrote them.
    pub sender: Option<Sender>,
    /// Descriptors that came along.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives without waiting.
///
/// # Errors
/// The kernel's: `WouldBlock` when nothing is there.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut sender = None;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                sender = u32::try_from(credentials.pid.as_raw_nonzero().get()).ok().map(|pid| Sender {
                    pid,
                    uid: credentials.uid.as_raw(),
                    gid: credentials.gid.as_raw(),
                });
            }
            RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
            _ => {}
        }
    }
    Ok(Received { count: received.bytes, sender, descriptors })
}

/// Sends without waiting, with descriptors if there are any.
///
/// # Errors
/// The kernel's: `WouldBlock` when the other end is behind.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A datagram socket at `path` that everybody may send to.
///
/// # Errors
/// The kernel's, for the folder, the socket or its name.
pub fn bind_datagram(path: &Path) -> io::Result<OwnedFd> {
    let socket = unix_socket::make(path, SocketType::DGRAM, EVERYBODY)?;
    // Only root may have more than the system's limit.
    if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        let _smaller = sockopt::set_socket_recv_buffer_size(&socket, BUFFER);
    }
    Ok(socket)
}

/// A listening stream socket at `path` that everybody may connect to; connections tell who writes.
///
/// # Errors
/// The kernel's, for the folder, the socket or its name.
pub fn bind_stream(path: &Path) -> io::Result<OwnedFd> {
    let socket = unix_socket::make(path, SocketType::STREAM, EVERYBODY)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A socket connected to `path`, which does not wait.
///
/// # Errors
/// The kernel's: nobody listens, or too many wait already.
pub fn connect_to(path: &Path, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}
