//! The network client: brings links up and keeps their DHCP leases, as a service of PID 1 (`init network`, `Type=notify`).
//!
//! [`dhcp`] decides, this module carries out. IPv6 is the kernel's: it configures itself from router advertisements.

pub mod dhcp;
pub mod frame;
pub mod lease;
pub mod link;
pub mod netlink;
pub mod port;
pub mod resolver;
pub mod wire;

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::boot::marks;
use dhcp::{Client, Effect, Event, Identity};
use lease::{Lease, Route};
use link::{Link, physical};
use netlink::{LinkEvents, Netlink};
use port::Port;

const CLASS: &str = "/sys/class/net";
const RUN: &str = "/run/ferrite";
/// The loopback link is always the kernel's first.
const LOOPBACK: u32 = 1;
/// After this time the network counts as configured without a lease: a boot must not fail because another machine, the DHCP server,
/// is away (SAFETY 15). Long enough for a switch port that learns for fifteen seconds, short against the health deadline.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// The same where there is no network card at all: its driver has this time to appear.
const NO_LINK_LIMIT: Duration = Duration::from_secs(5);

/// A link under our care.
#[derive(Debug)]
struct Managed {
    link: Link,
    client: Client,
    port: Option<Port>,
}

/// The service.
#[derive(Debug)]
struct Network {
    netlink: Netlink,
    links: BTreeMap<u32, Managed>,
    started: Instant,
    hostname: String,
    ready: bool,
}

/// Runs `init network`.
pub fn run(_arguments: &[String]) -> ExitCode {
    let Err(error) = serve();
    eprintln!("network: {error}");
    ExitCode::FAILURE
}

fn serve() -> io::Result<std::convert::Infallible> {
    // Listening before the first look: a change in between is not missed.
    let events = LinkEvents::open()?;
    std::fs::create_dir_all(RUN)?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut network = Network {
        netlink: Netlink::open()?,
        links: BTreeMap::new(),
        started: Instant::now(),
        hostname,
        ready: false,
    };
    report("loopback", network.netlink.bring_up(LOOPBACK));
    report("resolv.conf", network.write_servers());
    network.look_at_links();
    loop {
        network.wait(&events)?;
        events.drain();
        network.look_at_links();
        network.receive();
        network.run_timers();
        network.check_ready();
    }
}

/// Writes what failed into the log; nothing here is a reason to give up on the other links.
fn report<E: std::fmt::Display>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        eprintln!("network: {what}: {error}");
    }
}

impl Network {
    fn now(&self) -> dhcp::Instant {
        self.started.elapsed()
    }

    /// Sleeps until a socket has something or a deadline has come.
    fn wait(&self, events: &LinkEvents) -> io::Result<()> {
        let mut fds = vec![PollFd::new(events, PollFlags::IN)];
        fds.extend(
            self.links
                .values()
                .filter_map(|managed| managed.port.as_ref())
                .map(|port| PollFd::new(port, PollFlags::IN)),
        );
        let ready_at = (!self.ready).then(|| self.ready_limit());
        let next = self.links.values().filter_map(|managed| managed.client.deadline()).chain(ready_at).min();
        let timeout = next.map(|next| {
            let left = next.saturating_sub(self.now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn ready_limit(&self) -> Duration {
        if self.links.is_empty() { NO_LINK_LIMIT } else { READY_LIMIT }
    }

    /// Compares what is there with what is known.
    fn look_at_links(&mut self) {
        let present = physical(Path::new(CLASS));
        let gone = |index: &u32| !present.iter().any(|link| link.index == *index);
        let lost: Vec<u32> = self.links.keys().copied().filter(gone).collect();
        for index in lost {
            self.links.remove(&index);
            report("resolv.conf", self.write_servers());
        }
        for link in present {
            let index = link.index;
            let before = self.links.get(&index).map(|managed| managed.link.carrier);
            if before.is_none() {
                println!("{}: found", link.name);
                report(&link.name, self.netlink.bring_up(index));
                // The carrier of a virtual card is there as soon as the link is up, without a further event.
                let link =
                    physical(Path::new(CLASS)).into_iter().find(|other| other.index == index).unwrap_or(link);
                self.adopt(link);
            } else if before != Some(link.carrier) {
                println!("{}: carrier {}", link.name, if link.carrier { "found" } else { "lost" });
                let event = if link.carrier { Event::LinkUp } else { Event::LinkDown };
                if let Some(managed) = self.links.get_mut(&index) {
                    managed.link = link;
                }
                self.feed(index, event);
            }
        }
    }

    fn adopt(&mut self, link: Link) {
        let (index, carrier) = (link.index, link.carrier);
        let identity = Identity { hardware: link.hardware, hostname: self.hostname.clone() };
        let client = Client::new(identity, seed(&link));
        self.links.insert(index, Managed { link, client, port: None });
        if carrier {
            self.feed(index, Event::LinkUp);
        }
    }

    fn receive(&mut self) {
        let indices: Vec<u32> = self.links.keys().copied().collect();
        for index in indices {
            loop {
                let received =
                    self.links.get(&index).and_then(|managed| managed.port.as_ref()).map(Port::receive);
                match received {
                    Some(Ok(Some(message))) => self.feed(index, Event::Message(&message)),
                    // A link that went down says so once; the carrier's return starts anew.
                    Some(Ok(None) | Err(_)) | None => break,
                }
            }
        }
    }

    fn run_timers(&mut self) {
        let now = self.now();
        let due = |managed: &Managed| managed.client.deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<u32> =
            self.links.iter().filter(|(_, managed)| due(managed)).map(|(index, _)| *index).collect();
        for index in due {
            self.feed(index, Event::Timer);
        }
    }

    fn feed(&mut self, index: u32, event: Event<'_>) {
        let now = self.now();
        let Some(managed) = self.links.get_mut(&index) else { return };
        for effect in managed.client.handle(now, event) {
            self.carry_out(index, effect);
        }
    }

    fn carry_out(&mut self, index: u32, effect: Effect) {
        let Some(managed) = self.links.get_mut(&index) else { return };
        let name = managed.link.name.clone();
        match effect {
            Effect::Send(message, via) => report(&name, send(managed, &message, via)),
            Effect::Configure(lease) => {
                self.configure(index, &name, &lease);
                report("resolv.conf", self.write_servers());
                self.become_ready(&format!("{name}: {}/{}", lease.address, lease.prefix));
            }
            Effect::Release(lease) => {
                println!("{name}: lease of {} is over", lease.address);
                // Back to raw frames: without an address there is no UDP.
                managed.port = None;
                report(&name, self.netlink.remove_address(index, &lease));
                report("resolv.conf", self.write_servers());
            }
        }
    }

    fn configure(&mut self, index: u32, name: &str, lease: &Lease) {
        println!("{name}: {}/{} from {}", lease.address, lease.prefix, lease.server);
        if let Some(mtu) = lease.mtu {
            report(name, self.netlink.set_mtu(index, mtu));
        }
        report(name, self.netlink.add_address(index, lease));
        // Networks on the link first: gateways may be on them.
        let (on_link, behind): (Vec<&Route>, Vec<&Route>) =
            lease.routes.iter().partition(|route| route.gateway.is_none());
        for route in on_link.into_iter().chain(behind) {
            report(
                &format!("{name}: route to {}/{}", route.destination, route.prefix),
                self.netlink.add_route(index, lease, route),
            );
        }
        if let Some(managed) = self.links.get_mut(&index)
            && matches!(managed.port, Some(Port::Raw { .. }))
        {
            managed.port = None;
        }
    }

    fn write_servers(&self) -> io::Result<()> {
        let leases = self.links.values().filter_map(|managed| managed.client.lease());
        resolver::write(
            Path::new(RUN),
            &resolver::resolv_conf(leases.clone()),
            &resolver::time_servers(leases),
        )
    }

    fn check_ready(&mut self) {
        if !self.ready && self.now() >= self.ready_limit() {
            let why = if self.links.is_empty() {
                "there is no network card"
            } else {
                "no DHCP server has answered yet"
            };
            eprintln!("network: {why}: going on without an IPv4 address");
            self.become_ready(why);
        }
    }

    fn become_ready(&mut self, status: &str) {
        let state = if self.ready { format!("STATUS={status}") } else { format!("READY=1\nSTATUS={status}") };
        if !self.ready {
            marks::record("network");
        }
        self.ready = true;
        report("notification", notify(&state));
    }
}

/// Sends on a socket that fits: raw without a lease, UDP with one. The socket is opened when it is needed first.
fn send(managed: &mut Managed, message: &dhcproto::v4::Message, via: dhcp::Via) -> io::Result<()> {
    let wants_raw = via == dhcp::Via::RawBroadcast;
    let fits = managed.port.as_ref().is_some_and(|port| matches!(port, Port::Raw { .. }) == wants_raw);
    if !fits {
        managed.port = None;
        managed.port = Some(if wants_raw { Port::raw(&managed.link)? } else { Port::udp(&managed.link)? });
    }
    managed.port.as_ref().map_or(Ok(()), |port| port.send(message, via))
}

/// Differs from boot to boot and from link to link, also where there is no randomness yet.
fn seed(link: &Link) -> u64 {
    let mut bytes = [0_u8; 8];
    let random = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE).is_ok();
    let hardware = link.hardware.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    if random { u64::from_ne_bytes(bytes) ^ hardware } else { hardware }
}

/// Tells the service manager (sd_notify(3)); nobody listens when the program was started by hand.
///
/// # Errors
/// The kernel's.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let text = path.to_string_lossy();
    let address = match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes())?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
