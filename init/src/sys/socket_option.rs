//! Options of sockets by number: systemd.socket(5) has many, most of which are one integer.
#![allow(unsafe_code, reason = "setsockopt for options that rustix does not have")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an option that is an integer.
///
/// # Errors
/// The kernel's, `ENOPROTOOPT` for an option that this kind of socket does not have.
pub fn set(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_bytes(socket, level, name, &value.to_ne_bytes())
}

/// Sets an option that is text or some other row of bytes.
///
/// # Errors
/// The kernel's.
pub fn set_bytes(socket: impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and the length are those of a live slice, from which the kernel only reads.
    let result = unsafe { libc::setsockopt(socket, level, name, value.as_ptr().cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn an_option_is_set_and_a_wrong_one_is_refused() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert!(set(&socket, libc::SOL_SOCKET, 9999, 1).is_err());
        assert!(set_bytes(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &[1; 3]).is_err());
    }
}
