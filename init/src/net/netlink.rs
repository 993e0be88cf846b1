//! Changing links, addresses and routes by rtnetlink(7).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::lease::{Lease, Route};

/// `RTNLGRP_LINK`: links that come, go, or change.
const LINK_GROUP: u32 = 1;
/// Routes of the first link win; those of later ones are there when it fails. As in other clients, behind static routes (0).
const BASE_METRIC: u32 = 1024;

/// The kernel's network configuration.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a socket for requests.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bring_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets a link's MTU.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` for more than the device can.
    pub fn set_mtu(&mut self, index: u32, mtu: u16) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu.into()));
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives a link its leased address for as long as the lease lasts, or prolongs it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, index: u32, lease: &Lease) -> io::Result<()> {
        let mut message = address_message(index, lease);
        let mut life = CacheInfo::default();
        // The kernel takes the address away by itself should nobody be there to do it.
        life.ifa_valid = lease.seconds.unwrap_or(u32::MAX);
        life.ifa_preferred = life.ifa_valid;
        message.attributes.push(AddressAttribute::CacheInfo(life));
        message.attributes.push(AddressAttribute::Broadcast(broadcast_of(lease)));
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Takes a leased address away; the kernel removes its routes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_address(&mut self, index: u32, lease: &Lease) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(address_message(index, lease)), 0)
    }

    /// Adds a route of a lease, or replaces the same one.
    ///
    /// # Errors
    /// The kernel's: `ENETUNREACH` for a gateway that is not on the link.
    pub fn add_route(&mut self, index: u32, lease: &Lease, route: &Route) -> io::Result<()> {
        self.request(
            RouteNetlinkMessage::NewRoute(route_message(index, lease, route)),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Sends one request and waits for the kernel's answer, which comes at once.
    fn request(&mut self, payload: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(payload);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
                _ => Ok(()),
            };
        }
    }
}

fn address_message(index: u32, lease: &Lease) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = lease.prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    let address = IpAddr::V4(lease.address);
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn broadcast_of(lease: &Lease) -> Ipv4Addr {
    let host_bits = u32::MAX.checked_shr(lease.prefix.into()).unwrap_or(0);
    Ipv4Addr::from(u32::from(lease.address) | host_bits)
}

fn route_message(index: u32, lease: &Lease, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = route.prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Dhcp;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.push(RouteAttribute::Priority(BASE_METRIC.saturating_add(index)));
    message.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(lease.address)));
    if route.prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(route.destination)));
    }
    if let Some(gateway) = route.gateway {
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        if !is_on_subnet(lease, gateway) {
            // Clouds hand out /32 addresses with a gateway beside them: it is on the link all the same.
            message.header.flags = RouteFlags::Onlink;
        }
    }
    message
}

fn is_on_subnet(lease: &Lease, other: Ipv4Addr) -> bool {
    let mask = !u32::MAX.checked_shr(lease.prefix.into()).unwrap_or(0);
    u32::from(lease.address) & mask == u32::from(other) & mask
}

/// Wakes when a link changes; what changed is read from sysfs.
pub struct LinkEvents {
    socket: Socket,
}

impl std::fmt::Debug for LinkEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkEvents").finish_non_exhaustive()
    }
}

impl LinkEvents {
    /// Starts listening.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(LINK_GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Reads and drops all waiting messages. An overflow is one more reason to look at the links, which the caller does anyway.
    pub fn drain(&self) {
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return,
                _ => {}
            }
        }
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        crate::sys::packet::borrow(&self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(prefix: u8) -> Lease {
        Lease {
            address: [10, 0, 2, 15].into(),
            prefix,
            server: [10, 0, 2, 2].into(),
            routes: Vec::new(),
            dns: Vec::new(),
            search: Vec::new(),
            ntp: Vec::new(),
            mtu: None,
            seconds: Some(60),
            renew: 30,
            rebind: 50,
        }
    }

    #[test]
    fn broadcast_and_subnet_follow_the_prefix() {
        assert_eq!(broadcast_of(&lease(24)), Ipv4Addr::from([10, 0, 2, 255]));
        assert_eq!(broadcast_of(&lease(32)), Ipv4Addr::from([10, 0, 2, 15]));
        assert!(is_on_subnet(&lease(24), [10, 0, 2, 2].into()));
        assert!(!is_on_subnet(&lease(32), [10, 0, 2, 2].into()));
        assert!(is_on_subnet(&lease(0), [1, 1, 1, 1].into()));
    }

    #[test]
    fn a_gateway_beside_the_subnet_is_declared_on_the_link() {
        let route =
            Route { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some([10, 0, 2, 2].into()) };
        assert_eq!(route_message(2, &lease(24), &route).header.flags, RouteFlags::empty());
        assert_eq!(route_message(2, &lease(32), &route).header.flags, RouteFlags::Onlink);
        let on_link = Route { gateway: None, ..route };
        assert_eq!(route_message(2, &lease(24), &on_link).header.scope, RouteScope::Link);
    }
}
