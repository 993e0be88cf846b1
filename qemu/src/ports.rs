//! Free TCP ports on the loopback address.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// `count` different ports of 127.0.0.1 that nobody listens on at this moment. Somebody may take one before it is used: who
/// uses them must be ready to try again, as [`crate::Emulator::start`] is.
///
/// # Errors
/// The host has no free port.
pub fn free(count: usize) -> io::Result<Vec<u16>> {
    // All are held until all are known, so that none comes twice.
    let listeners: Vec<TcpListener> = std::iter::repeat_with(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .take(count)
        .collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_used() {
        let mut ports = free(20).unwrap();
        for port in &ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap();
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        assert!(!ports.contains(&0));
    }
}
