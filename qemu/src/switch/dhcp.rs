//! The network's DHCP server (RFC 2131): fixed addresses by hardware address, nothing else. A pure function from a frame to the
//! frame that answers it, the server's own ARP included.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame,
    EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::fabric::Mac;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// A day, in seconds: machines renew during long tests, too.
const LEASE: u32 = 86_400;
const HOPS: u8 = 64;

/// The server: its own address, and who gets which.
#[derive(Debug, Clone)]
pub struct Server {
    mac: EthernetAddress,
    address: Ipv4Addr,
    mask: Ipv4Addr,
    hosts: BTreeMap<Mac, Ipv4Addr>,
}

impl Server {
    /// A server at `address` in a network of `prefix` bits (0 to 32).
    pub fn new(mac: Mac, address: Ipv4Addr, prefix: u8, hosts: BTreeMap<Mac, Ipv4Addr>) -> Self {
        let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
        Self { mac: EthernetAddress(mac), address, mask: Ipv4Addr::from_bits(mask), hosts }
    }

    /// The answer to a frame, as a frame; `None` when it is not for the server.
    pub fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        match frame.ethertype() {
            EthernetProtocol::Arp => self.arp(frame.payload()),
            EthernetProtocol::Ipv4 => self.datagram(frame.src_addr(), frame.payload()),
            _ => None,
        }
    }

    /// A renewal goes to the server's own address, so that must be found.
    fn arp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let packet = ArpPacket::new_checked(packet).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        if target_protocol_addr != self.address {
            return None;
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: self.mac,
            source_protocol_addr: self.address,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        Some(self.frame(source_hardware_addr, EthernetProtocol::Arp, reply.buffer_len(), |payload| {
            reply.emit(&mut ArpPacket::new_unchecked(payload));
        }))
    }

    fn datagram(&self, source: EthernetAddress, packet: &[u8]) -> Option<Vec<u8>> {
        let checks = ChecksumCapabilities::default();
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let header = Ipv4Repr::parse(&ip, &checks).ok()?;
        let for_us = header.dst_addr == self.address || header.dst_addr == Ipv4Addr::BROADCAST;
        if header.next_header != IpProtocol::Udp || !for_us {
            return None;
        }
        let udp = UdpPacket::new_checked(ip.payload()).ok()?;
        let ends = (IpAddress::from(header.src_addr), IpAddress::from(header.dst_addr));
        let ports = UdpRepr::parse(&udp, &ends.0, &ends.1, &checks).ok()?;
        if ports.dst_port != SERVER_PORT {
            return None;
        }
        let request = DhcpPacket::new_checked(udp.payload()).ok()?;
        let request = DhcpRepr::parse(&request).ok()?;
        self.reply(source, &request)
    }

    fn reply(&self, source: EthernetAddress, request: &DhcpRepr<'_>) -> Option<Vec<u8>> {
        let address = *self.hosts.get(&request.client_hardware_address.0)?;
        // In a request the wish stands in an option, or, when it is renewed, in the header (RFC 2131, 4.3.2).
        let wish =
            request.requested_ip.or((!request.client_ip.is_unspecified()).then_some(request.client_ip));
        let kind = match request.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request
                if request.server_identifier.is_some_and(|server| server != self.address) =>
            {
                return None; // It chose another server.
            }
            DhcpMessageType::Request if wish == Some(address) => DhcpMessageType::Ack,
            DhcpMessageType::Request => DhcpMessageType::Nak,
            _ => return None,
        };
        let refused = kind == DhcpMessageType::Nak;
        let reply = DhcpRepr {
            message_type: kind,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: request.client_hardware_address,
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: if refused { Ipv4Addr::UNSPECIFIED } else { address },
            server_ip: Ipv4Addr::UNSPECIFIED,
            // No router: the way out is another card's.
            router: None,
            subnet_mask: (!refused).then_some(self.mask),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.address),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: (!refused).then_some(LEASE),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let to = if refused || request.client_ip.is_unspecified() {
            Ipv4Addr::BROADCAST
        } else {
            request.client_ip
        };
        let target = if to == Ipv4Addr::BROADCAST { EthernetAddress::BROADCAST } else { source };
        self.packet(target, to, &reply)
    }

    fn packet(&self, target: EthernetAddress, to: Ipv4Addr, reply: &DhcpRepr<'_>) -> Option<Vec<u8>> {
        let udp = UdpRepr { src_port: SERVER_PORT, dst_port: CLIENT_PORT };
        let udp_len = udp.header_len() + reply.buffer_len();
        let ip = Ipv4Repr {
            src_addr: self.address,
            dst_addr: to,
            next_header: IpProtocol::Udp,
            payload_len: udp_len,
            hop_limit: HOPS,
        };
        let checks = ChecksumCapabilities::default();
        let mut emitted = Ok(());
        let frame = self.frame(target, EthernetProtocol::Ipv4, ip.buffer_len() + udp_len, |payload| {
            let mut packet = Ipv4Packet::new_unchecked(payload);
            ip.emit(&mut packet, &checks);
            let (from, to) = (IpAddress::from(ip.src_addr), IpAddress::from(ip.dst_addr));
            udp.emit(
                &mut UdpPacket::new_unchecked(packet.payload_mut()),
                &from,
                &to,
                reply.buffer_len(),
                |bytes| emitted = reply.emit(&mut DhcpPacket::new_unchecked(bytes)),
                &checks,
            );
        });
        emitted.ok().map(|()| frame)
    }

    fn frame(
        &self,
        target: EthernetAddress,
        ethertype: EthernetProtocol,
        payload: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Vec<u8> {
        let header = EthernetRepr { src_addr: self.mac, dst_addr: target, ethertype };
        let mut bytes = vec![0; EthernetFrame::<&[u8]>::buffer_len(payload)];
        let mut frame = EthernetFrame::new_unchecked(bytes.as_mut_slice());
        header.emit(&mut frame);
        fill(frame.payload_mut());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: Mac = [2, 0, 0, 0, 0, 1];

    fn server() -> Server {
        let hosts = BTreeMap::from([(CLIENT, Ipv4Addr::new(10, 90, 0, 11))]);
        Server::new([2, 0, 0, 0, 0, 0xfe], Ipv4Addr::new(10, 90, 0, 1), 24, hosts)
    }

    /// A client's message as a frame.
    fn message(kind: DhcpMessageType, mac: Mac, change: impl FnOnce(&mut DhcpRepr<'_>)) -> Vec<u8> {
        let mut repr = DhcpRepr {
            message_type: kind,
            transaction_id: 77,
            secs: 0,
            client_hardware_address: EthernetAddress(mac),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        change(&mut repr);
        let client = Server { mac: EthernetAddress(mac), address: repr.client_ip, ..server() };
        let mut frame = client.packet(EthernetAddress::BROADCAST, Ipv4Addr::BROADCAST, &repr).unwrap();
        // The same bytes the other way round: the client's port to the server's.
        let udp = 14 + 20;
        frame[udp..udp + 4].copy_from_slice(&[0, 68, 0, 67]);
        frame[udp + 6..udp + 8].copy_from_slice(&[0, 0]);
        frame
    }

    /// Destination hardware address, destination address, reply.
    fn read(frame: &[u8], look: impl FnOnce(EthernetAddress, Ipv4Addr, &DhcpRepr<'_>)) {
        let frame = EthernetFrame::new_checked(frame).unwrap();
        let ip = Ipv4Packet::new_checked(frame.payload()).unwrap();
        assert!(ip.verify_checksum());
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!((udp.src_port(), udp.dst_port()), (67, 68));
        let packet = DhcpPacket::new_checked(udp.payload()).unwrap();
        look(frame.dst_addr(), ip.dst_addr(), &DhcpRepr::parse(&packet).unwrap());
    }

    #[test]
    fn a_known_machine_gets_its_address_and_keeps_it() {
        let address = Ipv4Addr::new(10, 90, 0, 11);
        let offer = server().answer(&message(DhcpMessageType::Discover, CLIENT, |_| ())).unwrap();
        read(&offer, |_, to, reply| {
            assert_eq!(
                (reply.message_type, reply.your_ip, to),
                (DhcpMessageType::Offer, address, Ipv4Addr::BROADCAST)
            );
            assert_eq!(reply.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
            assert_eq!((reply.router, reply.transaction_id), (None, 77));
        });
        let request = message(DhcpMessageType::Request, CLIENT, |repr| {
            repr.requested_ip = Some(address);
            repr.server_identifier = Some(Ipv4Addr::new(10, 90, 0, 1));
        });
        read(&server().answer(&request).unwrap(), |_, _, reply| {
            assert_eq!((reply.message_type, reply.lease_duration), (DhcpMessageType::Ack, Some(LEASE)));
        });
        let renewal = message(DhcpMessageType::Request, CLIENT, |repr| repr.client_ip = address);
        read(&server().answer(&renewal).unwrap(), |target, to, reply| {
            assert_eq!((target, to), (EthernetAddress(CLIENT), address));
            assert_eq!(reply.message_type, DhcpMessageType::Ack);
        });
    }

    #[test]
    fn a_wrong_wish_is_refused_and_a_stranger_or_another_servers_client_ignored() {
        let wrong = message(DhcpMessageType::Request, CLIENT, |repr| {
            repr.requested_ip = Some(Ipv4Addr::new(192, 168, 0, 9));
        });
        read(&server().answer(&wrong).unwrap(), |_, _, reply| {
            assert_eq!((reply.message_type, reply.your_ip), (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED));
        });
        assert_eq!(server().answer(&message(DhcpMessageType::Discover, [2, 9, 9, 9, 9, 9], |_| ())), None);
        let other = message(DhcpMessageType::Request, CLIENT, |repr| {
            repr.server_identifier = Some(Ipv4Addr::new(10, 0, 2, 2));
        });
        assert_eq!(server().answer(&other), None);
    }

    #[test]
    fn the_servers_own_address_is_found_and_no_other() {
        let ask = |address: Ipv4Addr| {
            let request = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                source_hardware_addr: EthernetAddress(CLIENT),
                source_protocol_addr: Ipv4Addr::new(10, 90, 0, 11),
                target_hardware_addr: EthernetAddress([0; 6]),
                target_protocol_addr: address,
            };
            let client = Server { mac: EthernetAddress(CLIENT), ..server() };
            client.frame(EthernetAddress::BROADCAST, EthernetProtocol::Arp, request.buffer_len(), |payload| {
                request.emit(&mut ArpPacket::new_unchecked(payload));
            })
        };
        let answer = server().answer(&ask(Ipv4Addr::new(10, 90, 0, 1))).unwrap();
        assert_eq!(answer[..6], CLIENT);
        assert_eq!(answer[6..12], [2, 0, 0, 0, 0, 0xfe]);
        assert_eq!(server().answer(&ask(Ipv4Addr::new(10, 90, 0, 11))), None);
    }

    proptest! {
        #[test]
        fn forged_frames_never_panic(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
            let mut frame = message(DhcpMessageType::Discover, CLIENT, |_| ());
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
            frame.truncate(cut.max(1));
            let _ = server().answer(&frame);
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = server().answer(&bytes);
        }
    }
}
