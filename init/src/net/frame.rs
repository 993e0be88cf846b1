//! Ethernet, IPv4 and UDP around a DHCP message, for the time when the link has no address (RFC 894, 791, 768).

use std::net::Ipv4Addr;

/// Port of DHCP clients.
pub const CLIENT_PORT: u16 = 68;
/// Port of DHCP servers and relays.
pub const SERVER_PORT: u16 = 67;

const ETHERNET_LEN: usize = 14;
const IP_LEN: usize = 20;
const UDP_LEN: usize = 8;
const ETHERTYPE_IP: [u8; 2] = [0x08, 0x00];
const PROTOCOL_UDP: u8 = 17;

/// The frame of a broadcast from `hardware`, who has no address yet; `None` when the payload does not fit a packet.
pub fn broadcast(hardware: [u8; 6], payload: &[u8]) -> Option<Vec<u8>> {
    let udp_len = u16::try_from(UDP_LEN + payload.len()).ok()?;
    let ip_len = udp_len.checked_add(20)?;
    let (source, destination) = (Ipv4Addr::UNSPECIFIED.octets(), Ipv4Addr::BROADCAST.octets());
    let mut frame = vec![0xff; 6];
    frame.extend(hardware);
    frame.extend(ETHERTYPE_IP);
    // Version 4, five words; no fragments; 64 hops.
    let mut ip = vec![0x45, 0x10];
    ip.extend(ip_len.to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0]);
    ip.extend(source);
    ip.extend(destination);
    let checksum = checksum(&[&ip]);
    if let Some(place) = ip.get_mut(10..12) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    frame.extend(ip);
    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let length = udp_len.to_be_bytes();
    let pseudo = [&source[..], &destination[..], &[0, PROTOCOL_UDP], &length[..], &udp[..]].concat();
    // A checksum of zero means that there is none (RFC 768).
    let checksum = match self::checksum(&[&pseudo]) {
        0 => u16::MAX,
        sum => sum,
    };
    if let Some(place) = udp.get_mut(6..8) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    frame.extend(udp);
    Some(frame)
}

/// The UDP payload of a frame that is addressed to a DHCP client, else `None`.
///
/// The UDP checksum is not looked at: a virtual link hands over packets whose checksum the sender's card was to fill in.
pub fn client_payload(frame: &[u8]) -> Option<&[u8]> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET_LEN)?;
    if ethernet.get(12..14)? != ETHERTYPE_IP {
        return None;
    }
    let header_len = usize::from(*packet.first()? & 0x0f) * 4;
    let total_len = usize::from(u16_at(packet, 2)?);
    let header = packet.get(..header_len)?;
    let version = packet.first()? >> 4;
    // Any fragment but a whole packet: DHCP servers do not fragment, and reassembly is not ours.
    let fragment = u16_at(packet, 6)? & 0x3fff;
    if version != 4
        || header_len < IP_LEN
        || fragment != 0
        || *packet.get(9)? != PROTOCOL_UDP
        || checksum(&[header]) != 0
    {
        return None;
    }
    let udp = packet.get(header_len..total_len)?;
    let udp_len = usize::from(u16_at(udp, 4)?);
    if u16_at(udp, 0)? != SERVER_PORT || u16_at(udp, 2)? != CLIENT_PORT {
        return None;
    }
    udp.get(UDP_LEN..udp_len)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The Internet checksum (RFC 1071); 0 over data that holds its own.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let high = u32::from(pair.first().copied().unwrap_or(0));
            let low = u32::from(pair.get(1).copied().unwrap_or(0));
            sum += (high << 8) | low;
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !u16::try_from(sum & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Our own broadcast with the ports of an answer.
    fn answer(payload: &[u8]) -> Vec<u8> {
        let mut frame = broadcast([2, 0, 0, 0, 0, 1], payload).unwrap();
        frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
        frame
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn our_frames_have_valid_checksums() {
        let frame = broadcast([2, 0, 0, 0, 0, 1], b"hello").unwrap();
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        let pseudo = [&frame[26..34], &[0, 17, 0, 13], &frame[34..]].concat();
        assert_eq!(checksum(&[&pseudo]), 0);
        assert_eq!(client_payload(&frame), None, "addressed to servers");
    }

    #[test]
    fn a_wrong_header_is_refused() {
        let good = answer(b"hello");
        assert_eq!(client_payload(&good), Some(&b"hello"[..]));
        for (at, value) in [(12, 0x86), (14, 0x65), (20, 0x20), (23, 6), (24, 1), (37, 69)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(client_payload(&bad), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn payloads_survive_and_padding_is_cut(payload in proptest::collection::vec(any::<u8>(), 0..600), padding in 0_usize..40) {
            let mut frame = answer(&payload);
            frame.extend(vec![0; padding]);
            prop_assert_eq!(client_payload(&frame), Some(&payload[..]));
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut frame in proptest::collection::vec(any::<u8>(), 0..120), real: bool) {
            if real && frame.len() > 40 {
                let header = answer(b"x");
                frame[..24].copy_from_slice(&header[..24]);
            }
            client_payload(&frame);
        }
    }
}
