//! Opening what a socket unit listens on, systemd.socket(5).

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::Path;
use std::time::Duration;

use image_config::unit::{
    BindIpv6Only, Listen, Socket, SocketAddress, SocketKind, SocketProtocol, Timestamping,
};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::sys::{descriptor, socket_option};

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Who owns the nodes in the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User id; `None` leaves root.
    pub user: Option<u32>,
    /// Group id; `None` leaves root's.
    pub group: Option<u32>,
}

/// Opens one thing to listen on. The descriptor does not block. Options that the kernel refuses are left out; what is
/// wrong with them is added to `warnings`.
///
/// # Errors
/// The kernel's, and [`io::ErrorKind::Unsupported`] for what this system does not have.
pub fn open(what: &Listen, unit: &Socket, owner: Owner, warnings: &mut Vec<String>) -> io::Result<OwnedFd> {
    match what {
        Listen::Socket { kind, address } => open_socket(*kind, address, unit, owner, warnings),
        Listen::Fifo(path) => open_fifo(path, unit, owner),
        Listen::Special(path) => open_special(path, unit.writable),
        Listen::Netlink { family, group } => open_netlink(*family, *group),
        Listen::MessageQueue(name) => open_queue(name, unit, owner),
        Listen::UsbFunction(_) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} is not supported", what.kind_name())))
        }
    }
}

fn open_socket(
    kind: SocketKind,
    address: &SocketAddress,
    unit: &Socket,
    owner: Owner,
    warnings: &mut Vec<String>,
) -> io::Result<OwnedFd> {
    let kind = match address {
        SocketAddress::Vsock { kind: Some(forced), .. } => *forced,
        _ => kind,
    };
    let socket = match address {
        SocketAddress::Unix(path) => {
            let socket = socket_with(AddressFamily::UNIX, socket_type(kind), FLAGS, None)?;
            let_through(&socket, unit, warnings);
            bind_node(&socket, path, unit, owner)?;
            socket
        }
        SocketAddress::Abstract(name) => {
            let socket = socket_with(AddressFamily::UNIX, socket_type(kind), FLAGS, None)?;
            let_through(&socket, unit, warnings);
            bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
            socket
        }
        SocketAddress::V4(address) => open_v4(kind, *address, unit, warnings)?,
        SocketAddress::V6 { ip, port, scope } => open_v6(kind, *ip, *port, scope.as_deref(), unit, warnings)?,
        SocketAddress::Port(port) => {
            match open_v6(kind, Ipv6Addr::UNSPECIFIED, *port, None, unit, warnings) {
                Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
                    open_v4(kind, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port), unit, warnings)?
                }
                opened => opened?,
            }
        }
        SocketAddress::Vsock { cid, port, .. } => {
            let socket = socket_with(AddressFamily::VSOCK, socket_type(kind), FLAGS, None)?;
            let_through(&socket, unit, warnings);
            descriptor::bind_vsock(socket.as_fd(), *cid, *port)?;
            socket
        }
    };
    if kind != SocketKind::Datagram {
        listen(&socket, i32::try_from(unit.backlog).unwrap_or(i32::MAX))?;
    }
    Ok(socket)
}

fn socket_type(kind: SocketKind) -> SocketType {
    match kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Datagram => SocketType::DGRAM,
        SocketKind::SequentialPacket => SocketType::SEQPACKET,
    }
}

fn protocol(unit: &Socket) -> Option<Protocol> {
    let number = match unit.protocol? {
        SocketProtocol::UdpLite => libc::IPPROTO_UDPLITE,
        SocketProtocol::Sctp => libc::IPPROTO_SCTP,
        SocketProtocol::Mptcp => libc::IPPROTO_MPTCP,
    };
    NonZeroU32::new(number.cast_unsigned()).map(Protocol::from_raw)
}

fn open_v4(
    kind: SocketKind,
    address: SocketAddrV4,
    unit: &Socket,
    warnings: &mut Vec<String>,
) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, socket_type(kind), FLAGS, protocol(unit))?;
    set_up_inet(&socket, kind, unit, false, warnings);
    bind(&socket, &address)?;
    Ok(socket)
}

fn open_v6(
    kind: SocketKind,
    ip: Ipv6Addr,
    port: u16,
    scope: Option<&str>,
    unit: &Socket,
    warnings: &mut Vec<String>,
) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET6, socket_type(kind), FLAGS, protocol(unit))?;
    let only = match unit.bind_ipv6_only {
        BindIpv6Only::Default => None,
        BindIpv6Only::Both => Some(0),
        BindIpv6Only::Ipv6Only => Some(1),
    };
    if let Some(only) = only {
        socket_option::set(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only)?;
    }
    let scope = match scope {
        None => 0,
        Some(name) => name.parse().or_else(|_| name_to_index(&socket, name))?,
    };
    set_up_inet(&socket, kind, unit, true, warnings);
    bind(&socket, &SocketAddrV6::new(ip, port, 0, scope))?;
    Ok(socket)
}

/// Sets options that do not decide whether the socket can be used.
struct Options<'a> {
    socket: &'a OwnedFd,
    warnings: &'a mut Vec<String>,
}

impl Options<'_> {
    fn set(&mut self, key: &str, level: i32, name: i32, value: Option<i32>) {
        if let Some(value) = value
            && let Err(error) = socket_option::set(self.socket, level, name, value)
        {
            self.warnings.push(format!("{key}= has no effect: {error}"));
        }
    }

    fn flag(&mut self, key: &str, level: i32, name: i32, wanted: bool) {
        self.set(key, level, name, wanted.then_some(1));
    }

    fn text(&mut self, key: &str, level: i32, name: i32, value: Option<&str>) {
        if let Some(value) = value
            && let Err(error) = socket_option::set_bytes(self.socket, level, name, value.as_bytes())
        {
            self.warnings.push(format!("{key}= has no effect: {error}"));
        }
    }
}

fn seconds(span: Option<Duration>) -> Option<i32> {
    span.map(|span| i32::try_from(span.as_secs()).unwrap_or(i32::MAX))
}

fn whole(value: Option<u64>) -> Option<i32> {
    value.map(|value| i32::try_from(value).unwrap_or(i32::MAX))
}

/// Options that any socket has.
fn let_through(socket: &OwnedFd, unit: &Socket, warnings: &mut Vec<String>) {
    let mut options = Options { socket, warnings };
    let level = libc::SOL_SOCKET;
    options.flag("KeepAlive", level, libc::SO_KEEPALIVE, unit.keep_alive);
    options.flag("Broadcast", level, libc::SO_BROADCAST, unit.broadcast);
    options.flag("PassCredentials", level, libc::SO_PASSCRED, unit.pass_credentials);
    options.flag("PassSecurity", level, libc::SO_PASSSEC, unit.pass_security);
    options.set("Priority", level, libc::SO_PRIORITY, unit.priority);
    options.set("Mark", level, libc::SO_MARK, unit.mark.map(u32::cast_signed));
    // PID 1 may exceed the limits of ordinary processes.
    options.set("ReceiveBuffer", level, libc::SO_RCVBUFFORCE, whole(unit.receive_buffer));
    options.set("SendBuffer", level, libc::SO_SNDBUFFORCE, whole(unit.send_buffer));
    let stamps = match unit.timestamping {
        Timestamping::Off => None,
        Timestamping::Microseconds => Some(libc::SO_TIMESTAMP),
        Timestamping::Nanoseconds => Some(libc::SO_TIMESTAMPNS),
    };
    if let Some(stamps) = stamps {
        options.flag("Timestamping", level, stamps, true);
    }
}

fn set_up_inet(socket: &OwnedFd, kind: SocketKind, unit: &Socket, v6: bool, warnings: &mut Vec<String>) {
    let_through(socket, unit, warnings);
    let mut options = Options { socket, warnings };
    // Without it a restart would have to wait for connections of old.
    options.flag("ReuseAddress", libc::SOL_SOCKET, libc::SO_REUSEADDR, true);
    options.flag("ReusePort", libc::SOL_SOCKET, libc::SO_REUSEPORT, unit.reuse_port);
    options.text("BindToDevice", libc::SOL_SOCKET, libc::SO_BINDTODEVICE, unit.bind_to_device.as_deref());
    let ip = libc::IPPROTO_IP;
    let (free, transparent, hops, hop_key, class) = if v6 {
        (
            libc::IPV6_FREEBIND,
            libc::IPV6_TRANSPARENT,
            libc::IPV6_UNICAST_HOPS,
            libc::IPPROTO_IPV6,
            libc::IPV6_TCLASS,
        )
    } else {
        (libc::IP_FREEBIND, libc::IP_TRANSPARENT, libc::IP_TTL, ip, libc::IP_TOS)
    };
    options.flag("FreeBind", hop_key, free, unit.free_bind);
    options.flag("Transparent", hop_key, transparent, unit.transparent);
    options.set("IPTTL", hop_key, hops, unit.ip_ttl.map(i32::from));
    options.set("IPTOS", hop_key, class, unit.ip_tos.map(i32::from));
    let info = if v6 { libc::IPV6_RECVPKTINFO } else { libc::IP_PKTINFO };
    options.flag("PassPacketInfo", hop_key, info, unit.pass_packet_info);
    if kind == SocketKind::Stream {
        let tcp = libc::IPPROTO_TCP;
        options.set("KeepAliveTimeSec", tcp, libc::TCP_KEEPIDLE, seconds(unit.keep_alive_time));
        options.set("KeepAliveIntervalSec", tcp, libc::TCP_KEEPINTVL, seconds(unit.keep_alive_interval));
        let probes = unit.keep_alive_probes.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        options.set("KeepAliveProbes", tcp, libc::TCP_KEEPCNT, probes);
        options.set("DeferAcceptSec", tcp, libc::TCP_DEFER_ACCEPT, seconds(unit.defer_accept));
        options.flag("NoDelay", tcp, libc::TCP_NODELAY, unit.no_delay);
        options.text("TCPCongestion", tcp, libc::TCP_CONGESTION, unit.tcp_congestion.as_deref());
    }
}

/// Gives a socket its name in the file system, in place of a socket that somebody left there.
fn bind_node(socket: &OwnedFd, path: &str, unit: &Socket, owner: Owner) -> io::Result<()> {
    let place = Path::new(path);
    make_parents(place, unit.directory_mode)?;
    let address = SocketAddrUnix::new(path)?;
    // Nobody may connect with more rights than the unit says, not even for the moment before the mode is set.
    let old = rustix::process::umask(Mode::from_raw_mode(!unit.mode & 0o777));
    let mut bound = bind(socket, &address);
    if bound == Err(Errno::ADDRINUSE)
        && place.symlink_metadata().is_ok_and(|data| data.file_type().is_socket())
    {
        bound = fs::remove_file(place).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        bound = bound.and_then(|()| bind(socket, &address));
    }
    rustix::process::umask(old);
    bound?;
    fs::set_permissions(place, Permissions::from_mode(unit.mode))?;
    chown(place, owner.user, owner.group)
}

fn make_parents(path: &Path, mode: u32) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::DirBuilder::new().recursive(true).mode(mode).create(parent),
        None => Ok(()),
    }
}

fn open_fifo(path: &str, unit: &Socket, owner: Owner) -> io::Result<OwnedFd> {
    let place = Path::new(path);
    make_parents(place, unit.directory_mode)?;
    match rustix::fs::mkfifoat(CWD, place, Mode::from_raw_mode(unit.mode)) {
        Err(Errno::EXIST) if place.symlink_metadata()?.file_type().is_fifo() => {}
        made => made?,
    }
    fs::set_permissions(place, Permissions::from_mode(unit.mode))?;
    chown(place, owner.user, owner.group)?;
    // Open for both, or there would be an end of file whenever the last writer goes.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let fifo = rustix::fs::open(place, flags, Mode::empty())?;
    if let Some(size) = unit.pipe_size {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        rustix::pipe::fcntl_setpipe_size(&fifo, size)?;
    }
    Ok(fifo)
}

fn open_special(path: &str, writable: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let mut options = fs::OpenOptions::new();
    options.read(true).write(writable).custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_char_device() && !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a character device nor a file"));
    }
    Ok(file.into())
}

/// The name of a message queue as the kernel takes it: without the slash that mq_overview(7) puts in front.
pub fn queue_name(name: &str) -> io::Result<CString> {
    Ok(CString::new(name.strip_prefix('/').unwrap_or(name))?)
}

fn open_queue(name: &str, unit: &Socket, owner: Owner) -> io::Result<OwnedFd> {
    let limits = unit.message_queue_max_messages.zip(unit.message_queue_message_size);
    let queue = descriptor::open_message_queue(&queue_name(name)?, unit.mode, limits)?;
    // Whatever the umask has taken away.
    rustix::fs::fchmod(&queue, Mode::from_raw_mode(unit.mode))?;
    fchown(&queue, owner.user, owner.group)?;
    Ok(queue)
}

fn open_netlink(family: i32, group: u32) -> io::Result<OwnedFd> {
    let protocol = NonZeroU32::new(family.cast_unsigned()).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, FLAGS, protocol)?;
    let groups = group.checked_sub(1).map_or(0, |bit| 1_u32.checked_shl(bit).unwrap_or(0));
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Drops what nobody has taken: `FlushPending=`.
pub fn flush(descriptor: impl AsFd) {
    let descriptor = descriptor.as_fd();
    let mut bytes = [0; 2048];
    // Bounded, because a sender may be faster.
    for _ in 0..1024 {
        let accepted = rustix::net::accept_with(descriptor, FLAGS).is_ok();
        let received = accepted || rustix::io::read(descriptor, &mut bytes).is_ok_and(|count| count > 0);
        if !received {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use image_config::unit::{System, Unit, UnitKind, UnitName};

    use super::*;

    fn socket(text: &str) -> Socket {
        let name = UnitName::parse("a.socket").unwrap();
        let text = format!("[Socket]\n{text}\n");
        let (unit, warnings) = Unit::parse(&name, &[("f", text.as_bytes())], &System::default());
        assert!(warnings.is_empty(), "{warnings:?}");
        match unit.kind {
            UnitKind::Socket(socket) => *socket,
            _ => panic!("no socket"),
        }
    }

    fn open_all(text: &str) -> Vec<OwnedFd> {
        let socket = socket(text);
        let mut warnings = Vec::new();
        let open = |what| open(what, &socket, Owner::default(), &mut warnings).unwrap();
        socket.listen.iter().map(open).collect()
    }

    #[test]
    fn a_node_is_made_with_its_mode_and_replaces_a_socket_that_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a");
        let text = format!("ListenStream={}\nSocketMode=0600", path.display());
        drop(open_all(&text));
        let opened = open_all(&text);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(opened);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let refused =
            super::open(&socket(&text).listen[0], &socket(&text), Owner::default(), &mut Vec::new());
        assert!(refused.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn what_is_pending_can_be_flushed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let open = open_all(&format!("ListenDatagram={}", path.display()));
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"one", &path).unwrap();
        sender.send_to(b"two", &path).unwrap();
        flush(&open[0]);
        let mut bytes = [0; 8];
        assert_eq!(rustix::io::read(&open[0], &mut bytes), Err(Errno::AGAIN));
    }

    #[test]
    fn ports_fifos_and_abstract_names_can_be_listened_on() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let text = format!(
            "ListenStream=127.0.0.1:{port}\nListenDatagram=127.0.0.1:{port}\nListenStream=@ferrite-test-{}\nListenFIFO={}\nNoDelay=yes\nKeepAlive=yes\nFreeBind=yes",
            std::process::id(),
            fifo.display()
        );
        assert_eq!(open_all(&text).len(), 4);
        assert!(fifo.symlink_metadata().unwrap().file_type().is_fifo());
    }
}
