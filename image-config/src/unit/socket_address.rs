//! What a `Listen...=` line of a socket unit names: systemd.socket(5).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use super::value::{self, ValueError};

/// Longest path or abstract name of a Unix socket: `sun_path` of unix(7) less its terminator.
const LONGEST_UNIX_NAME: usize = 107;
/// Longest name of a network interface: `IFNAMSIZ` less its terminator.
const LONGEST_INTERFACE_NAME: usize = 15;

/// One thing that a socket unit listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `ListenStream=`, `ListenDatagram=`, `ListenSequentialPacket=`.
    Socket {
        /// Which of the three.
        kind: SocketKind,
        /// Where.
        address: SocketAddress,
    },
    /// `ListenFIFO=`: an absolute path.
    Fifo(String),
    /// `ListenSpecial=`: an absolute path.
    Special(String),
    /// `ListenNetlink=`.
    Netlink {
        /// Number of the family (`NETLINK_...`).
        family: i32,
        /// Multicast group; 0 is none.
        group: u32,
    },
    /// `ListenMessageQueue=`: the queue's name with its leading slash.
    MessageQueue(String),
    /// `ListenUSBFunction=`: an absolute path.
    UsbFunction(String),
}

impl Listen {
    /// The node that listening makes in the file system, if it makes one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Socket { address: SocketAddress::Unix(path), .. } | Self::Fifo(path) => Some(path),
            _ => None,
        }
    }

    /// What sort of listening it is, as `systemctl` shows it.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Socket { kind, .. } => kind.name(),
            Self::Fifo(_) => "FIFO",
            Self::Special(_) => "Special",
            Self::Netlink { .. } => "Netlink",
            Self::MessageQueue(_) => "MessageQueue",
            Self::UsbFunction(_) => "USBFunction",
        }
    }

    /// Reads the value of `ListenNetlink=`: a family, then perhaps a multicast group.
    ///
    /// # Errors
    /// [`ValueError`] for an unknown family or a group that is no number.
    pub fn netlink(text: &str) -> Result<Self, ValueError> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let family = NETLINK_FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let family = match family {
            Some(family) => family,
            None => value::integer(name, 0..=31, "a netlink family such as `kobject-uevent`, and a group")?,
        };
        let group = words.next().map_or(Ok(0), value::unsigned)?;
        match words.next() {
            None => Ok(Self::Netlink { family, group }),
            Some(_) => value::refuse(text, "a netlink family, and at most one group"),
        }
    }

    /// Reads the value of `ListenMessageQueue=`: mq_overview(7).
    ///
    /// # Errors
    /// [`ValueError`] for what is no queue's name.
    pub fn message_queue(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix('/') {
            Some(name) if !name.is_empty() && name.len() <= 255 && !name.contains('/') => {
                Ok(Self::MessageQueue(text.to_owned()))
            }
            _ => value::refuse(text, "a slash and a name without further slashes"),
        }
    }
}

impl fmt::Display for Listen {
    /// As `systemctl list-sockets` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { address, .. } => address.fmt(f),
            Self::Fifo(path) | Self::Special(path) | Self::MessageQueue(path) | Self::UsbFunction(path) => {
                f.write_str(path)
            }
            Self::Netlink { family, group } => {
                match NETLINK_FAMILIES.iter().find(|(_, number)| number == family) {
                    Some((name, _)) => write!(f, "{name} {group}"),
                    None => write!(f, "{family} {group}"),
                }
            }
        }
    }
}

/// Netlink families by name: `linux/netlink.h`, in systemd's spelling.
const NETLINK_FAMILIES: [(&str, i32); 18] = [
    ("route", 0),
    ("firewall", 3),
    ("inet-diag", 4),
    ("nflog", 5),
    ("xfrm", 6),
    ("selinux", 7),
    ("iscsi", 8),
    ("audit", 9),
    ("fib-lookup", 10),
    ("connector", 11),
    ("netfilter", 12),
    ("ip6-fw", 13),
    ("dnrtmsg", 14),
    ("kobject-uevent", 15),
    ("generic", 16),
    ("scsitransport", 18),
    ("ecryptfs", 19),
    ("rdma", 20),
];

/// What travels over a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_SEQPACKET`.
    SequentialPacket,
}

impl SocketKind {
    /// As `systemctl` shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "Stream",
            Self::Datagram => "Datagram",
            Self::SequentialPacket => "SequentialPacket",
        }
    }
}

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketAddress {
    /// A path of the file system.
    Unix(String),
    /// A name of the abstract namespace, without its `@`.
    Abstract(String),
    /// A port of every address: of IPv6 (and through it IPv4), or of IPv4 where there is no IPv6.
    Port(u16),
    /// An IPv4 address and port.
    V4(SocketAddrV4),
    /// An IPv6 address and port.
    V6 {
        /// The address.
        ip: Ipv6Addr,
        /// The port.
        port: u16,
        /// Name or number of the interface that a link-local address belongs to.
        scope: Option<String>,
    },
    /// A virtual machine's socket: vsock(7).
    Vsock {
        /// Context id; `None` is any.
        cid: Option<u32>,
        /// Port.
        port: u32,
        /// Kind of socket, where the address itself forces one (`vsock-dgram:...`).
        kind: Option<SocketKind>,
    },
}

impl SocketAddress {
    /// Reads the value of `ListenStream=` and its kin.
    ///
    /// # Errors
    /// [`ValueError`] for what is no address.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        const EXPECTED: &str =
            "a path, `@NAME`, a port, `ADDRESS:PORT`, `[ADDRESS]:PORT` or `vsock:CID:PORT`";
        const TOO_LONG: &str = "a path or name of at most 107 bytes";
        if text.starts_with('/') {
            let path = value::absolute_path(text)?;
            return if path.len() <= LONGEST_UNIX_NAME {
                Ok(Self::Unix(path))
            } else {
                value::refuse(text, TOO_LONG)
            };
        }
        if let Some(name) = text.strip_prefix('@') {
            return match name.len() {
                0 => value::refuse(text, "a name after the `@`"),
                1..LONGEST_UNIX_NAME => Ok(Self::Abstract(name.to_owned())),
                _ => value::refuse(text, TOO_LONG),
            };
        }
        if let Some(address) = vsock(text) {
            return address.map_or_else(|| value::refuse(text, EXPECTED), Ok);
        }
        if let Some(rest) = text.strip_prefix('[') {
            return v6(rest).map_or_else(|| value::refuse(text, EXPECTED), Ok);
        }
        if let Some(port) = port(text) {
            return Ok(Self::Port(port));
        }
        match text.rsplit_once(':') {
            Some((ip, number)) => match (ip.parse::<Ipv4Addr>(), port(number)) {
                (Ok(ip), Some(port)) => Ok(Self::V4(SocketAddrV4::new(ip, port))),
                _ => value::refuse(text, EXPECTED),
            },
            None => value::refuse(text, EXPECTED),
        }
    }

    /// Whether it belongs to the Unix family.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_) | Self::Abstract(_))
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => f.write_str(path),
            Self::Abstract(name) => write!(f, "@{name}"),
            Self::Port(port) => write!(f, "[::]:{port}"),
            Self::V4(address) => address.fmt(f),
            Self::V6 { ip, port, scope: None } => write!(f, "[{ip}]:{port}"),
            Self::V6 { ip, port, scope: Some(scope) } => write!(f, "[{ip}]:{port}%{scope}"),
            Self::Vsock { cid, port, kind } => {
                f.write_str(match kind {
                    None => "vsock:",
                    Some(SocketKind::Stream) => "vsock-stream:",
                    Some(SocketKind::Datagram) => "vsock-dgram:",
                    Some(SocketKind::SequentialPacket) => "vsock-seqpacket:",
                })?;
                if let Some(cid) = cid {
                    write!(f, "{cid}")?;
                }
                write!(f, ":{port}")
            }
        }
    }
}

/// A port that can be listened at: 1 to 65535.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// What follows the `[` of `[x]:y` and `[x]:y%dev`.
fn v6(rest: &str) -> Option<SocketAddress> {
    let (ip, rest) = rest.split_once(']')?;
    let rest = rest.strip_prefix(':')?;
    let (number, scope) = match rest.split_once('%') {
        Some((number, scope)) => (number, Some(scope)),
        None => (rest, None),
    };
    if scope.is_some_and(|scope| !is_interface(scope)) {
        return None;
    }
    Some(SocketAddress::V6 { ip: ip.parse().ok()?, port: port(number)?, scope: scope.map(str::to_owned) })
}

/// `vsock:CID:PORT` and its forms with a kind; `None` for other addresses, `Some(None)` for broken ones.
fn vsock(text: &str) -> Option<Option<SocketAddress>> {
    let (family, rest) = text.split_once(':')?;
    let kind = match family {
        "vsock" => None,
        "vsock-stream" => Some(SocketKind::Stream),
        "vsock-dgram" => Some(SocketKind::Datagram),
        "vsock-seqpacket" => Some(SocketKind::SequentialPacket),
        _ => return None,
    };
    let address = |(cid, port): (&str, &str)| {
        let cid = if cid.is_empty() { None } else { Some(cid.parse().ok()?) };
        Some(SocketAddress::Vsock { cid, port: port.parse().ok()?, kind })
    };
    Some(rest.split_once(':').and_then(address))
}

/// A name that a network interface may have.
pub(super) fn is_interface(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_INTERFACE_NAME
        && !matches!(text, "." | "..")
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_and_shown_again() {
        let cases: &[(&str, Option<&str>)] = &[
            ("/run//x.sock", Some("/run/x.sock")),
            ("@abstract", Some("@abstract")),
            ("80", Some("[::]:80")),
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("[fe80::1]:80%eth0", Some("[fe80::1]:80%eth0")),
            ("vsock::1234", Some("vsock::1234")),
            ("vsock-dgram:2:1234", Some("vsock-dgram:2:1234")),
            ("0", None),
            ("65536", None),
            ("+80", None),
            ("@", None),
            ("localhost:80", None),
            ("127.0.0.1", None),
            ("[::1]", None),
            ("[::1]:0", None),
            ("[::1]:1%a/b", None),
            ("vsock:x:1", None),
            ("vsock:1", None),
            ("relative/path", None),
            ("", None),
        ];
        for (text, want) in cases {
            let got = SocketAddress::parse(text).map(|address| address.to_string());
            assert_eq!(got.ok().as_deref(), *want, "{text}");
        }
        assert!(SocketAddress::parse(&format!("/{}", "x".repeat(106))).is_ok());
        assert!(SocketAddress::parse(&format!("/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn netlink_families_have_names_and_groups() {
        assert_eq!(Listen::netlink("kobject-uevent 1"), Ok(Listen::Netlink { family: 15, group: 1 }));
        assert_eq!(Listen::netlink("audit"), Ok(Listen::Netlink { family: 9, group: 0 }));
        for bad in ["", "nothing", "audit x", "audit 1 2"] {
            assert!(Listen::netlink(bad).is_err(), "{bad}");
        }
        assert!(Listen::message_queue("/q").is_ok());
        assert!(Listen::message_queue("/q/r").is_err() && Listen::message_queue("q").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(text in "(\\PC|[0-9:\\[\\]%@/.]|vsock:|::){0,20}") {
            if let Ok(address) = SocketAddress::parse(&text) {
                let again = SocketAddress::parse(&address.to_string()).unwrap();
                prop_assert_eq!(again.to_string(), address.to_string());
            }
            let _ = Listen::netlink(&text);
        }
    }
}
