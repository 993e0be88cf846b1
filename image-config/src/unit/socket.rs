//! `[Socket]`: systemd.socket(5).

use std::time::Duration;

use super::exec::ExecContext;
use super::name::UnitName;
use super::reader::{Directive, Ignored, Section};
use super::resources::ResourceControl;
use super::service::{ExecCommand, KillContext};
use super::setting::Setting;
use super::socket_address::{Listen, SocketAddress, SocketKind, is_interface};
use super::value::{self, DEFAULT_TIMEOUT, TimeSpan, boolean};

/// Window of the trigger and poll limits unless written.
const LIMIT_INTERVAL: TimeSpan = TimeSpan::Finite(Duration::from_secs(2));

/// Settings of the `[Socket]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// `ListenStream=` and its kin, in order: that of the descriptors that the service gets.
    pub listen: Vec<Listen>,
    /// `SocketProtocol=`; `None` is the usual one of the address.
    pub protocol: Option<SocketProtocol>,
    /// `BindIPv6Only=`.
    pub bind_ipv6_only: BindIpv6Only,
    /// `Backlog=`; the kernel caps it.
    pub backlog: u32,
    /// `BindToDevice=`: name of an interface.
    pub bind_to_device: Option<String>,
    /// `ExecStartPre=`.
    pub exec_start_pre: Vec<ExecCommand>,
    /// `ExecStartPost=`.
    pub exec_start_post: Vec<ExecCommand>,
    /// `ExecStopPre=`.
    pub exec_stop_pre: Vec<ExecCommand>,
    /// `ExecStopPost=`.
    pub exec_stop_post: Vec<ExecCommand>,
    /// `TimeoutSec=` of each of those commands; 90 s unless written.
    pub timeout: TimeSpan,
    /// `SocketUser=`: owner of the nodes; `None` is root.
    pub user: Option<String>,
    /// `SocketGroup=`; `None` is the user's primary group.
    pub group: Option<String>,
    /// `SocketMode=` of the nodes; 0o666 unless written.
    pub mode: u32,
    /// `DirectoryMode=` of folders made on the way; 0o755 unless written.
    pub directory_mode: u32,
    /// `Accept=`: an instance of a template for each connection. See [`Socket::accepts`].
    pub accept: bool,
    /// `FlushPending=`: what is pending is dropped when the service ends.
    pub flush_pending: bool,
    /// `Writable=`: special files are opened for writing too.
    pub writable: bool,
    /// `MaxConnections=`: instances at a time; 64 unless written.
    pub max_connections: u32,
    /// `MaxConnectionsPerSource=`; 0 is no limit.
    pub max_connections_per_source: u32,
    /// `KeepAlive=`.
    pub keep_alive: bool,
    /// `KeepAliveTimeSec=`; `None` is the kernel's.
    pub keep_alive_time: Option<Duration>,
    /// `KeepAliveIntervalSec=`; `None` is the kernel's.
    pub keep_alive_interval: Option<Duration>,
    /// `KeepAliveProbes=`; `None` is the kernel's.
    pub keep_alive_probes: Option<u32>,
    /// `DeferAcceptSec=`; `None` is off.
    pub defer_accept: Option<Duration>,
    /// `NoDelay=`.
    pub no_delay: bool,
    /// `Priority=`.
    pub priority: Option<i32>,
    /// `ReceiveBuffer=` in bytes.
    pub receive_buffer: Option<u64>,
    /// `SendBuffer=` in bytes.
    pub send_buffer: Option<u64>,
    /// `IPTOS=`.
    pub ip_tos: Option<u8>,
    /// `IPTTL=`, 1 to 255.
    pub ip_ttl: Option<u8>,
    /// `Mark=`.
    pub mark: Option<u32>,
    /// `PipeSize=` of FIFOs, in bytes.
    pub pipe_size: Option<u64>,
    /// `MessageQueueMaxMessages=`.
    pub message_queue_max_messages: Option<u32>,
    /// `MessageQueueMessageSize=` in bytes.
    pub message_queue_message_size: Option<u32>,
    /// `FreeBind=`.
    pub free_bind: bool,
    /// `Transparent=`.
    pub transparent: bool,
    /// `Broadcast=`.
    pub broadcast: bool,
    /// `PassCredentials=`.
    pub pass_credentials: bool,
    /// `PassSecurity=`.
    pub pass_security: bool,
    /// `PassPacketInfo=`.
    pub pass_packet_info: bool,
    /// `PassFileDescriptorsToExec=`: the commands get the sockets too.
    pub pass_descriptors_to_commands: bool,
    /// `Timestamping=`.
    pub timestamping: Timestamping,
    /// `TCPCongestion=`.
    pub tcp_congestion: Option<String>,
    /// `ReusePort=`.
    pub reuse_port: bool,
    /// `RemoveOnStop=`: nodes and links go when the unit stops.
    pub remove_on_stop: bool,
    /// `Symlinks=`: absolute paths of links to the one node.
    pub symlinks: Vec<String>,
    /// `FileDescriptorName=`; see [`Socket::descriptor_name`].
    pub written_descriptor_name: Option<String>,
    /// `Service=`; see [`Socket::service`].
    pub written_service: Option<UnitName>,
    /// `TriggerLimitIntervalSec=`: 2 s unless written; zero switches the limit off.
    pub trigger_limit_interval: TimeSpan,
    /// `TriggerLimitBurst=`; see [`Socket::trigger_limit_burst`].
    pub written_trigger_limit_burst: Option<u32>,
    /// `PollLimitIntervalSec=`: 2 s unless written; zero switches the limit off.
    pub poll_limit_interval: TimeSpan,
    /// `PollLimitBurst=`; see [`Socket::poll_limit_burst`].
    pub written_poll_limit_burst: Option<u32>,
    /// How the commands run.
    pub exec: ExecContext,
    /// What its processes may use up.
    pub resources: ResourceControl,
    /// How the commands are ended.
    pub kill: KillContext,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            protocol: None,
            bind_ipv6_only: BindIpv6Only::Default,
            backlog: u32::MAX,
            bind_to_device: None,
            exec_start_pre: Vec::new(),
            exec_start_post: Vec::new(),
            exec_stop_pre: Vec::new(),
            exec_stop_post: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            user: None,
            group: None,
            mode: 0o666,
            directory_mode: 0o755,
            accept: false,
            flush_pending: false,
            writable: false,
            max_connections: 64,
            max_connections_per_source: 0,
            keep_alive: false,
            keep_alive_time: None,
            keep_alive_interval: None,
            keep_alive_probes: None,
            defer_accept: None,
            no_delay: false,
            priority: None,
            receive_buffer: None,
            send_buffer: None,
            ip_tos: None,
            ip_ttl: None,
            mark: None,
            pipe_size: None,
            message_queue_max_messages: None,
            message_queue_message_size: None,
            free_bind: false,
            transparent: false,
            broadcast: false,
            pass_credentials: false,
            pass_security: false,
            pass_packet_info: false,
            pass_descriptors_to_commands: false,
            timestamping: Timestamping::Off,
            tcp_congestion: None,
            reuse_port: false,
            remove_on_stop: false,
            symlinks: Vec::new(),
            written_descriptor_name: None,
            written_service: None,
            trigger_limit_interval: LIMIT_INTERVAL,
            written_trigger_limit_burst: None,
            poll_limit_interval: LIMIT_INTERVAL,
            written_poll_limit_burst: None,
            exec: ExecContext::default(),
            resources: ResourceControl::default(),
            kill: KillContext::default(),
        }
    }
}

impl Socket {
    /// Whether connections are accepted here and each given to an instance of its own: `Accept=yes`, with nothing but
    /// sockets that have connections.
    #[must_use]
    pub fn accepts(&self) -> bool {
        let connects = |listen: &Listen| {
            matches!(listen, Listen::Socket { kind: SocketKind::Stream | SocketKind::SequentialPacket, .. })
        };
        self.accept && self.listen.iter().all(connects)
    }

    /// The unit that traffic starts: as written, else the service of the socket's name; for `Accept=yes` the template
    /// of that name, whose instances are started. `None` when such a name would be too long.
    #[must_use]
    pub fn service(&self, own: &UnitName) -> Option<UnitName> {
        if let Some(written) = &self.written_service {
            return Some(written.clone());
        }
        if self.accepts() {
            return UnitName::parse(&format!("{}@.service", own.prefix())).ok();
        }
        own.with_kind(super::name::UnitType::Service).ok()
    }

    /// What the descriptors are called in `LISTEN_FDNAMES`.
    #[must_use]
    pub fn descriptor_name<'a>(&'a self, own: &'a UnitName) -> &'a str {
        match &self.written_descriptor_name {
            Some(written) => written,
            None if self.accepts() => "connection",
            None => own.as_str(),
        }
    }

    /// Activations allowed within the interval; beyond them the unit fails. 0 switches the limit off.
    #[must_use]
    pub fn trigger_limit_burst(&self) -> u32 {
        self.written_trigger_limit_burst.unwrap_or(if self.accepts() { 200 } else { 20 })
    }

    /// Wake-ups of one descriptor allowed within the interval; beyond them it is not looked at until the interval is
    /// over. 0 switches the limit off.
    #[must_use]
    pub fn poll_limit_burst(&self) -> u32 {
        self.written_poll_limit_burst.unwrap_or(if self.accepts() { 150 } else { 15 })
    }
}

/// `SocketProtocol=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketProtocol {
    /// UDP-Lite.
    UdpLite,
    /// SCTP.
    Sctp,
    /// Multipath TCP.
    Mptcp,
}

/// `BindIPv6Only=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BindIpv6Only {
    /// As `/proc/sys/net/ipv6/bindv6only` says.
    #[default]
    Default,
    /// IPv4 too.
    Both,
    /// IPv6 alone.
    Ipv6Only,
}

/// `Timestamping=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timestamping {
    /// None.
    #[default]
    Off,
    /// `SO_TIMESTAMP`.
    Microseconds,
    /// `SO_TIMESTAMPNS`.
    Nanoseconds,
}

const PROTOCOLS: &[(&str, SocketProtocol)] =
    &[("udplite", SocketProtocol::UdpLite), ("sctp", SocketProtocol::Sctp), ("mptcp", SocketProtocol::Mptcp)];

const IPV6_ONLY: &[(&str, BindIpv6Only)] = &[
    ("default", BindIpv6Only::Default),
    ("both", BindIpv6Only::Both),
    ("ipv6-only", BindIpv6Only::Ipv6Only),
];

const TIMESTAMPING: &[(&str, Timestamping)] = &[
    ("off", Timestamping::Off),
    ("us", Timestamping::Microseconds),
    ("usec", Timestamping::Microseconds),
    ("μs", Timestamping::Microseconds),
    ("µs", Timestamping::Microseconds),
    ("ns", Timestamping::Nanoseconds),
    ("nsec", Timestamping::Nanoseconds),
];

/// `IPTOS_...` of ip(7).
const TYPES_OF_SERVICE: &[(&str, u8)] =
    &[("low-delay", 0x10), ("throughput", 0x08), ("reliability", 0x04), ("low-cost", 0x02)];

impl Section for Socket {
    const OWN: &'static [Directive<Self>] = &[
        ("ListenStream", |socket, it| it.listen(&mut socket.listen, SocketKind::Stream)),
        ("ListenDatagram", |socket, it| it.listen(&mut socket.listen, SocketKind::Datagram)),
        ("ListenSequentialPacket", |socket, it| it.listen(&mut socket.listen, SocketKind::SequentialPacket)),
        ("ListenFIFO", |socket, it| it.listen_at(&mut socket.listen, |text| path(text).map(Listen::Fifo))),
        ("ListenSpecial", |socket, it| {
            it.listen_at(&mut socket.listen, |text| path(text).map(Listen::Special))
        }),
        ("ListenNetlink", |socket, it| it.listen_at(&mut socket.listen, Listen::netlink)),
        ("ListenMessageQueue", |socket, it| it.listen_at(&mut socket.listen, Listen::message_queue)),
        ("ListenUSBFunction", |socket, it| {
            it.listen_at(&mut socket.listen, |text| path(text).map(Listen::UsbFunction))
        }),
        ("SocketProtocol", |socket, it| {
            it.optional(&mut socket.protocol, |text| value::choice(text, PROTOCOLS))
        }),
        ("BindIPv6Only", |socket, it| it.choice(&mut socket.bind_ipv6_only, IPV6_ONLY)),
        ("Backlog", |socket, it| it.plain(&mut socket.backlog, value::unsigned)),
        ("BindToDevice", |socket, it| it.interface(&mut socket.bind_to_device)),
        ("ExecStartPre", |socket, it| it.commands(&mut socket.exec_start_pre)),
        ("ExecStartPost", |socket, it| it.commands(&mut socket.exec_start_post)),
        ("ExecStopPre", |socket, it| it.commands(&mut socket.exec_stop_pre)),
        ("ExecStopPost", |socket, it| it.commands(&mut socket.exec_stop_post)),
        ("TimeoutSec", |socket, it| it.limit_span(&mut socket.timeout)),
        ("SocketUser", |socket, it| it.account(&mut socket.user)),
        ("SocketGroup", |socket, it| it.account(&mut socket.group)),
        ("SocketMode", |socket, it| it.plain(&mut socket.mode, value::mode)),
        ("DirectoryMode", |socket, it| it.plain(&mut socket.directory_mode, value::mode)),
        ("Accept", |socket, it| it.plain(&mut socket.accept, boolean)),
        ("FlushPending", |socket, it| it.plain(&mut socket.flush_pending, boolean)),
        ("Writable", |socket, it| it.plain(&mut socket.writable, boolean)),
        ("MaxConnections", |socket, it| it.plain(&mut socket.max_connections, value::unsigned)),
        ("MaxConnectionsPerSource", |socket, it| {
            it.plain(&mut socket.max_connections_per_source, value::unsigned)
        }),
        ("KeepAlive", |socket, it| it.plain(&mut socket.keep_alive, boolean)),
        ("KeepAliveTimeSec", |socket, it| it.duration(&mut socket.keep_alive_time)),
        ("KeepAliveIntervalSec", |socket, it| it.duration(&mut socket.keep_alive_interval)),
        ("KeepAliveProbes", |socket, it| it.optional(&mut socket.keep_alive_probes, value::unsigned)),
        ("DeferAcceptSec", |socket, it| it.duration(&mut socket.defer_accept)),
        ("NoDelay", |socket, it| it.plain(&mut socket.no_delay, boolean)),
        ("Priority", |socket, it| it.optional(&mut socket.priority, whole)),
        ("ReceiveBuffer", |socket, it| it.optional(&mut socket.receive_buffer, value::size)),
        ("SendBuffer", |socket, it| it.optional(&mut socket.send_buffer, value::size)),
        ("IPTOS", |socket, it| it.optional(&mut socket.ip_tos, type_of_service)),
        ("IPTTL", |socket, it| it.optional(&mut socket.ip_ttl, |text| byte(text, 1, "from 1 to 255"))),
        ("Mark", |socket, it| it.optional(&mut socket.mark, value::unsigned)),
        ("PipeSize", |socket, it| it.optional(&mut socket.pipe_size, value::size)),
        ("MessageQueueMaxMessages", |socket, it| {
            it.optional(&mut socket.message_queue_max_messages, value::unsigned)
        }),
        ("MessageQueueMessageSize", |socket, it| {
            it.optional(&mut socket.message_queue_message_size, value::unsigned)
        }),
        ("FreeBind", |socket, it| it.plain(&mut socket.free_bind, boolean)),
        ("Transparent", |socket, it| it.plain(&mut socket.transparent, boolean)),
        ("Broadcast", |socket, it| it.plain(&mut socket.broadcast, boolean)),
        ("PassCredentials", |socket, it| it.plain(&mut socket.pass_credentials, boolean)),
        ("PassSecurity", |socket, it| it.plain(&mut socket.pass_security, boolean)),
        ("PassPacketInfo", |socket, it| it.plain(&mut socket.pass_packet_info, boolean)),
        ("PassFileDescriptorsToExec", |socket, it| {
            it.plain(&mut socket.pass_descriptors_to_commands, boolean)
        }),
        ("Timestamping", |socket, it| it.choice(&mut socket.timestamping, TIMESTAMPING)),
        ("TCPCongestion", |socket, it| it.optional_text(&mut socket.tcp_congestion)),
        ("ReusePort", |socket, it| it.plain(&mut socket.reuse_port, boolean)),
        ("RemoveOnStop", |socket, it| it.plain(&mut socket.remove_on_stop, boolean)),
        ("Symlinks", |socket, it| it.paths(&mut socket.symlinks)),
        ("FileDescriptorName", |socket, it| it.descriptor_name(&mut socket.written_descriptor_name)),
        ("Service", |socket, it| it.service_unit(&mut socket.written_service)),
        ("TriggerLimitIntervalSec", |socket, it| {
            it.plain(&mut socket.trigger_limit_interval, value::time_span)
        }),
        ("TriggerLimitBurst", |socket, it| {
            it.optional(&mut socket.written_trigger_limit_burst, value::unsigned)
        }),
        ("PollLimitIntervalSec", |socket, it| it.plain(&mut socket.poll_limit_interval, value::time_span)),
        ("PollLimitBurst", |socket, it| it.optional(&mut socket.written_poll_limit_burst, value::unsigned)),
    ];
    const KNOWN: &'static [&'static str] =
        &["SELinuxContextFromNet", "SmackLabel", "SmackLabelIPIn", "SmackLabelIPOut"];

    fn exec(&mut self) -> Option<&mut ExecContext> {
        Some(&mut self.exec)
    }

    fn resources(&mut self) -> Option<&mut ResourceControl> {
        Some(&mut self.resources)
    }

    fn kill(&mut self) -> Option<&mut KillContext> {
        Some(&mut self.kill)
    }

    /// systemd's `socket_verify`.
    fn problem(&self, _own: &UnitName) -> Option<&'static str> {
        if self.listen.is_empty() {
            return Some("the socket has no Listen...= line");
        }
        if self.accept && !self.accepts() {
            return Some("Accept=yes goes with stream and sequential-packet sockets alone");
        }
        if self.accepts() && self.max_connections == 0 {
            return Some("Accept=yes needs MaxConnections= above 0");
        }
        if self.accepts() && self.written_service.is_some() {
            return Some("Service= does not go with Accept=yes");
        }
        let nodes = self.listen.iter().filter(|listen| listen.node().is_some()).count();
        if !self.symlinks.is_empty() && nodes != 1 {
            return Some("Symlinks= needs exactly one socket or FIFO in the file system");
        }
        None
    }
}

fn path(text: &str) -> Result<String, value::ValueError> {
    value::absolute_path(text)
}

fn whole(text: &str) -> Result<i32, value::ValueError> {
    value::integer(text, i32::MIN..=i32::MAX, "a whole number")
}

fn byte(text: &str, least: u8, expected: &'static str) -> Result<u8, value::ValueError> {
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => value::refuse(text, expected),
    }
}

fn type_of_service(text: &str) -> Result<u8, value::ValueError> {
    value::choice(text, TYPES_OF_SERVICE)
        .or_else(|_| byte(text, 0, "`low-delay`, `throughput`, `reliability`, `low-cost` or 0 to 255"))
}

impl Setting<'_> {
    /// `ListenStream=` and its kin; empty resets the whole list.
    fn listen(&self, slot: &mut Vec<Listen>, kind: SocketKind) -> Result<(), Ignored> {
        self.listen_at(slot, |text| {
            let address = SocketAddress::parse(text)?;
            let forced = match &address {
                SocketAddress::Vsock { kind, .. } => *kind,
                _ => None,
            };
            if forced.is_some_and(|forced| forced != kind) {
                return value::refuse(text, "an address that fits the kind of socket");
            }
            if kind == SocketKind::SequentialPacket
                && !(address.is_unix() || matches!(address, SocketAddress::Vsock { .. }))
            {
                return value::refuse(text, "a Unix socket, which alone has sequential packets");
            }
            Ok(Listen::Socket { kind, address })
        })
    }

    /// One `Listen...=`; empty resets the whole list.
    fn listen_at(
        &self,
        slot: &mut Vec<Listen>,
        read: impl Fn(&str) -> Result<Listen, value::ValueError>,
    ) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
            return Ok(());
        }
        slot.push(read(&self.expand(self.value)?).map_err(|error| self.ignored(&error))?);
        Ok(())
    }

    /// Name of a network interface; empty is nothing.
    fn interface(&self, slot: &mut Option<String>) -> Result<(), Ignored> {
        let mut name = None;
        self.optional_text(&mut name)?;
        if let Some(name) = name.as_deref().filter(|name| !is_interface(name)) {
            return Err(self.ignored(&format!("`{name}` is no name of a network interface")));
        }
        *slot = name;
        Ok(())
    }

    /// `FileDescriptorName=`: ASCII without control characters and colons.
    fn descriptor_name(&self, slot: &mut Option<String>) -> Result<(), Ignored> {
        let mut name = None;
        self.optional_text(&mut name)?;
        let fits = |name: &&String| {
            name.len() <= 255 && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':')
        };
        if let Some(name) = name.as_ref().filter(|name| !fits(name)) {
            return Err(self.ignored(&format!("`{name}` cannot be the name of a descriptor")));
        }
        *slot = name;
        Ok(())
    }

    /// `Service=`: one service; empty is nothing.
    fn service_unit(&mut self, slot: &mut Option<UnitName>) -> Result<(), Ignored> {
        let mut unit = None;
        self.unit_name(&mut unit)?;
        if let Some(unit) = unit.as_ref().filter(|unit| unit.kind() != super::name::UnitType::Service) {
            return Err(self.ignored(&format!("`{unit}` is no service")));
        }
        *slot = unit;
        Ok(())
    }
}
