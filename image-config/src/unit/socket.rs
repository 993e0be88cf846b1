//! `[Socket]`: systemd.socket(5).

use std::time::Duration;

use super::exec::ExecContext;
use super::name::UnitName;
use super::resources::ResourceControl;
use super::service::{ExecCommand, KillContext};
use super::socket_address::{Listen, SocketKind};
use super::value::{DEFAULT_TIMEOUT, TimeSpan};

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
