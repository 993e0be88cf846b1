//! Senders: programs that log through the journal's sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{Shutdown, SocketType, shutdown, sockopt};

use super::sockets;
use super::stream::Header;

/// Send buffer, as that of sd_journal_sendv(3).
const BUFFER: usize = 8 << 20;

/// A stream whose lines are logged, sd_journal_stream_fd(3). Writing to it waits when the journal is behind; making it
/// does not.
///
/// # Errors
/// The kernel's: there is no journal at `path`, or too many connections wait for it.
pub fn open_stream(path: &Path, header: &Header) -> io::Result<OwnedFd> {
    let socket = sockets::connect_to(path, SocketType::STREAM)?;
    // Nothing is ever read from it.
    shutdown(&socket, Shutdown::Read)?;
    sockets::send(&socket, header.lines().as_bytes(), &[])?;
    if sockopt::set_socket_send_buffer_size_force(&socket, BUFFER).is_err() {
        let _smaller = sockopt::set_socket_send_buffer_size(&socket, BUFFER);
    }
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

/// A socket for messages of the native protocol.
///
/// # Errors
/// The kernel's: there is no journal at `path`.
pub fn open_native(path: &Path) -> io::Result<OwnedFd> {
    let socket = sockets::connect_to(path, SocketType::DGRAM)?;
    if sockopt::set_socket_send_buffer_size_force(&socket, BUFFER).is_err() {
        let _smaller = sockopt::set_socket_send_buffer_size(&socket, BUFFER);
    }
    Ok(socket)
}
