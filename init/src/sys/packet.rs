//! Raw packets on one network interface (packet(7)): what a DHCP client needs before there is an address.
#![allow(unsafe_code, reason = "rustix has no packet socket address")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const ETH_P_IP: u16 = 0x0800;

/// A packet socket on the interface `index`, for whole IPv4 frames, non-blocking. The link need not have an address.
///
/// # Errors
/// The kernel's: `EPERM` without `CAP_NET_RAW`, `ENODEV` for a link that is gone.
pub fn open(index: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0: nothing is received before the bind says from where.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    let mut address = empty_address();
    address.sll_ifindex = i32::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let len = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: the address is a live `sockaddr_ll` of the length given, only read by the kernel.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn empty_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: AddressFamily::PACKET.as_raw(),
        sll_protocol: ETH_P_IP.to_be(),
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// Ties a socket to the interface `name`, so that it sends and hears there only.
///
/// # Errors
/// The kernel's: `ENODEV` for a link that is gone.
pub fn bind_to_device(socket: &impl AsFd, name: &str) -> io::Result<()> {
    let len =
        libc::socklen_t::try_from(name.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the option's value is `len` readable bytes of a live string, only read by the kernel.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_ptr().cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Borrows the descriptor of a netlink socket, which only shows its number.
pub fn borrow(owner: &netlink_sys::Socket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is the owner's own and stays open for as long as the owner is borrowed.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}
