//! DHCP messages from the network: checked before `dhcproto` sees them.
//!
//! The codec asserts lengths of options that nobody here reads, so one forged packet could end the service. Only options that the
//! client uses, of a length that the codec takes, are handed on.

use dhcproto::v4::Message;
use dhcproto::{Decodable, Decoder};

/// Fixed part of a message: up to the options (RFC 2131, 2).
const FIXED_LEN: usize = 236;
/// What the options start with (RFC 2131, 3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const HARDWARE_LEN_AT: usize = 2;
/// Bytes of the field for the hardware address.
const HARDWARE_ROOM: u8 = 16;
const PAD: u8 = 0;
const END: u8 = 255;

/// Decodes a message; `None` for what is none.
pub fn decode(bytes: &[u8]) -> Option<Message> {
    let (fixed, rest) = bytes.split_at_checked(FIXED_LEN)?;
    let options = rest.strip_prefix(&COOKIE)?;
    // The codec slices by this length.
    if *fixed.get(HARDWARE_LEN_AT)? > HARDWARE_ROOM {
        return None;
    }
    let mut clean = [fixed, &COOKIE].concat();
    clean.extend(filter(options));
    clean.push(END);
    Message::decode(&mut Decoder::new(&clean)).ok()
}

/// The options that may pass, in their order; what is cut off at the end is dropped.
fn filter(mut options: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(options.len());
    loop {
        match options {
            [PAD, rest @ ..] => options = rest,
            [END, ..] | [] => return kept,
            [code, len, rest @ ..] => {
                let Some((value, rest)) = rest.split_at_checked(usize::from(*len)) else { return kept };
                if may_pass(*code, value) {
                    kept.extend([*code, *len]);
                    kept.extend(value);
                }
                options = rest;
            }
            [_] => return kept,
        }
    }
}

/// Whether an option is one of ours with a sound length (RFC 2132; 119: RFC 3397; 121: RFC 3442).
fn may_pass(code: u8, value: &[u8]) -> bool {
    let addresses = !value.is_empty() && value.len().is_multiple_of(4);
    match code {
        // Mask, lease time, server, renewal, rebinding.
        1 | 51 | 54 | 58 | 59 => value.len() == 4,
        // Routers, name servers, time servers.
        3 | 6 | 42 => addresses,
        // Message type.
        53 => value.len() == 1,
        // MTU.
        26 => value.len() == 2,
        // Domain.
        15 => !value.is_empty() && value.is_ascii(),
        // Search list, in the names' own encoding, which has a length before each label.
        119 => !value.is_empty(),
        121 => are_routes(value),
        _ => false,
    }
}

/// Prefix length, as many bytes of network as it covers, gateway; again and again.
fn are_routes(mut value: &[u8]) -> bool {
    while let [prefix, rest @ ..] = value {
        let len = usize::from(*prefix).div_ceil(8) + 4;
        match rest.split_at_checked(len) {
            Some((_, rest)) if *prefix <= 32 => value = rest,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::lease::Lease;
    use dhcproto::v4::{DhcpOption, OptionCode};
    use proptest::prelude::*;

    fn message(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FIXED_LEN];
        bytes[..4].copy_from_slice(&[2, 1, 6, 0]);
        bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
        bytes.extend(COOKIE);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn our_options_pass_and_others_do_not() {
        let bytes = message(&[
            53, 1, 5, 0, 54, 4, 10, 0, 2, 2, 12, 1, b'x', 152, 3, 1, 2, 3, 121, 4, 0, 10, 0, 2, 255, 1,
        ]);
        let decoded = decode(&bytes).unwrap();
        assert!(decoded.opts().contains(OptionCode::MessageType));
        let server = decoded.opts().get(OptionCode::ServerIdentifier);
        assert_eq!(server, Some(&DhcpOption::ServerIdentifier([10, 0, 2, 2].into())));
        assert_eq!(decoded.opts().len(), 2);
    }

    #[test]
    fn regression_lengths_that_the_codec_asserts_are_no_panic() {
        for code in 0..=255_u8 {
            for len in 0..20_u8 {
                let mut options = vec![code, len];
                options.extend(vec![7; usize::from(len)]);
                decode(&message(&options));
            }
        }
    }

    #[test]
    fn a_message_without_cookie_or_with_a_long_address_is_none() {
        let mut no_cookie = message(&[]);
        no_cookie[236] = 0;
        let mut long = message(&[]);
        long[2] = 17;
        assert!(decode(&no_cookie).is_none() && decode(&long).is_none() && decode(&[0; 100]).is_none());
        assert!(decode(&message(&[])).is_some());
    }

    proptest! {
        #[test]
        fn any_packet_is_read_without_panic(
            options in proptest::collection::vec(
                (prop_oneof![any::<u8>(), proptest::sample::select(&[1_u8, 3, 6, 15, 26, 42, 51, 53, 54, 58, 59, 119, 121][..])],
                 proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
            tail in proptest::collection::vec(any::<u8>(), 0..8),
            fixed in proptest::collection::vec(any::<u8>(), FIXED_LEN),
            real: bool,
        ) {
            let mut list = vec![54, 4, 10, 0, 2, 2, 51, 4, 0, 0, 0, 90];
            for (code, value) in options {
                list.push(code);
                list.push(u8::try_from(value.len()).unwrap());
                list.extend(value);
            }
            list.extend(tail);
            let mut bytes = message(&list);
            if !real {
                bytes[..FIXED_LEN].copy_from_slice(&fixed);
            }
            if let Some(message) = decode(&bytes) {
                let _ = message.chaddr();
                if let Some(lease) = Lease::from_message(&message) {
                    prop_assert!(lease.renew < lease.rebind && lease.prefix <= 32);
                    prop_assert!(lease.seconds.is_none_or(|seconds| lease.rebind < seconds));
                }
            }
        }
    }
}
