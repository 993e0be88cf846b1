//! The socket of one link's DHCP client: raw frames before there is an address, UDP after.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhcproto::Encodable;
use dhcproto::v4::Message;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use super::dhcp::Via;
use super::frame::{CLIENT_PORT, SERVER_PORT, broadcast, client_payload};
use super::link::Link;
use super::wire::decode;
use crate::sys::packet;

/// Shortest message that old relays accept (RFC 1542, 2.1).
const MIN_MESSAGE: usize = 300;
/// Room for the largest Ethernet frame that is not a jumbo frame; the client asks for messages of at most 1472 bytes.
const FRAME_LEN: usize = 2048;

/// An open socket of one of the two kinds.
#[derive(Debug)]
pub enum Port {
    /// Hears everything on the link: only while the link has no address, so that there is little to hear.
    Raw {
        /// The packet socket.
        socket: OwnedFd,
        /// Hardware address to send from.
        hardware: [u8; 6],
    },
    /// Hears the DHCP client's port.
    Udp(UdpSocket),
}

impl Port {
    /// Opens the socket for a link without an address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn raw(link: &Link) -> io::Result<Self> {
        Ok(Self::Raw { socket: packet::open(link.index)?, hardware: link.hardware })
    }

    /// Opens the socket for a link with an address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn udp(link: &Link) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        // Several links have their clients on the same port.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::sockopt::set_socket_broadcast(&socket, true)?;
        packet::bind_to_device(&socket, &link.name)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
        Ok(Self::Udp(UdpSocket::from(socket)))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The kernel's, or that the message does not fit a packet.
    pub fn send(&self, message: &Message, via: Via) -> io::Result<()> {
        let mut bytes = message.to_vec().map_err(io::Error::other)?;
        if bytes.len() < MIN_MESSAGE {
            bytes.resize(MIN_MESSAGE, 0);
        }
        match self {
            Self::Raw { socket, hardware } => {
                let frame = broadcast(*hardware, &bytes).ok_or(io::ErrorKind::InvalidData)?;
                send(socket, &frame, SendFlags::empty())?;
            }
            Self::Udp(socket) => {
                let server = match via {
                    Via::Unicast(server) => server,
                    Via::Broadcast | Via::RawBroadcast => Ipv4Addr::BROADCAST,
                };
                socket.send_to(&bytes, SocketAddr::from((server, SERVER_PORT)))?;
            }
        }
        Ok(())
    }

    /// The next waiting message; `None` when there is none. What is no DHCP message is skipped.
    ///
    /// # Errors
    /// The kernel's: `ENETDOWN` for a link that has gone down.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut buffer = [0_u8; FRAME_LEN];
        loop {
            let received = match self {
                Self::Raw { socket, .. } => {
                    recv(socket, &mut buffer, RecvFlags::empty()).map(|(len, _)| len).map_err(io::Error::from)
                }
                Self::Udp(socket) => socket.recv(&mut buffer),
            };
            let len = match received {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = buffer.get(..len).unwrap_or_default();
            let payload = if matches!(self, Self::Raw { .. }) { client_payload(bytes) } else { Some(bytes) };
            if let Some(message) = payload.and_then(decode) {
                return Ok(Some(message));
            }
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Raw { socket, .. } => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}
