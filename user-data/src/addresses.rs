//! This machine's own addresses: those from which it would talk to the rest of the world.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use image_config::user_data::Addresses;

/// Addresses that nobody has (RFC 5737, RFC 3849), to ask the kernel which of ours it would use for the default route. Nothing is
/// sent to them.
const OUTSIDE: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The address of the interface that the default route uses, of IPv4 or IPv6.
fn own(version: usize) -> Option<IpAddr> {
    let (from, to) = OUTSIDE.get(version)?;
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// Fills in what the metadata did not tell.
pub fn complete(told: &Addresses) -> Addresses {
    let text = |version| own(version).map(|address| address.to_string());
    let (four, six) = (text(0), text(1));
    Addresses {
        private_ipv4: told.private_ipv4.clone().or_else(|| four.clone()),
        public_ipv4: told.public_ipv4.clone().or(four),
        private_ipv6: told.private_ipv6.clone().or_else(|| six.clone()),
        public_ipv6: told.public_ipv6.clone().or(six),
    }
}

/// The same, after waiting until `deadline` for what `enough` wants.
pub fn wait_for(told: &Addresses, enough: &dyn Fn(&Addresses) -> bool, deadline: Instant) -> Addresses {
    loop {
        let found = complete(told);
        if enough(&found) || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_metadata_tells_stays() {
        let told = Addresses { private_ipv4: Some("10.9.8.7".to_owned()), ..Addresses::default() };
        let found = wait_for(&told, &|_| false, Instant::now());
        assert_eq!(found.private_ipv4.as_deref(), Some("10.9.8.7"));
        assert_ne!(found.public_ipv4.as_deref(), Some("10.9.8.7"));
    }
}
