//! Socket units: their descriptors, and what comes in on them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use image_config::unit::{Listen, Socket, UnitKind, UnitName};
use rustix::net::{SocketAddrAny, SocketFlags, accept_with, getpeername, getsockname, sockopt};

use super::accounts;
use super::listen::{self, Owner};
use super::shell::Shell;
use super::watches::Source;
use crate::supervisor::{Edge, Event, Level, UnitId};
use crate::sys::descriptor;

/// Connections that are accepted of one socket before somebody else gets a turn.
const ACCEPT_TURN: usize = 32;

/// Descriptors of all socket units.
#[derive(Debug, Default)]
pub struct Sockets {
    open: BTreeMap<UnitId, Vec<OpenSocket>>,
    /// Connections by the instance that is to have them.
    connections: BTreeMap<UnitId, Connection>,
}

#[derive(Debug)]
struct OpenSocket {
    descriptor: OwnedFd,
    /// Key of its [`Source::Socket`], while what comes in is told.
    key: Option<u64>,
}

#[derive(Debug)]
struct Connection {
    descriptor: OwnedFd,
    /// For `$REMOTE_ADDR` and `$REMOTE_PORT`.
    peer: Option<SocketAddr>,
    /// The socket unit that it came through.
    socket: UnitId,
}

impl Sockets {
    /// The open descriptors by unit, to be handed to the next PID 1 program.
    pub fn open_descriptors(&self) -> impl Iterator<Item = (UnitId, &OwnedFd)> {
        self.open.iter().flat_map(|(unit, list)| list.iter().map(|open| (*unit, &open.descriptor)))
    }

    /// Takes over a descriptor that an earlier PID 1 program had open.
    pub fn take_over(&mut self, unit: UnitId, descriptor: OwnedFd) {
        self.open.entry(unit).or_default().push(OpenSocket { descriptor, key: None });
    }

    /// Whether a connection waits for this instance, or is its.
    pub fn has_connection(&self, service: UnitId) -> bool {
        self.connections.contains_key(&service)
    }

    /// Connections, for the same purpose.
    pub fn open_connections(&self) -> impl Iterator<Item = (UnitId, UnitId, &OwnedFd)> {
        self.connections.iter().map(|(service, one)| (one.socket, *service, &one.descriptor))
    }

    /// Takes over a connection.
    pub fn take_over_connection(&mut self, socket: UnitId, service: UnitId, descriptor: OwnedFd) {
        let peer = peer_of(&descriptor);
        self.connections.insert(service, Connection { descriptor, peer, socket });
    }
}

impl Shell {
    fn socket_file(&self, unit: UnitId) -> Option<(&UnitName, &Socket)> {
        match self.units.get(&unit) {
            Some(file) => match &file.kind {
                UnitKind::Socket(socket) => Some((&file.name, socket)),
                _ => None,
            },
            None => None,
        }
    }

    /// Opens all that a socket unit listens on, and tells the supervisor.
    pub(super) fn open_sockets(&mut self, unit: UnitId) {
        if self.sockets.open.contains_key(&unit) {
            self.events.push_back(Event::Listening { unit, error: None });
            return;
        }
        let mut warnings = Vec::new();
        let opened = self.try_open(unit, &mut warnings);
        for warning in warnings {
            self.log_unit(Some(unit), Level::Warning, &warning);
        }
        let error = match opened {
            Ok(list) => {
                self.sockets.open.insert(unit, list);
                None
            }
            Err(error) => Some(error),
        };
        self.events.push_back(Event::Listening { unit, error });
    }

    fn try_open(&self, unit: UnitId, warnings: &mut Vec<String>) -> Result<Vec<OpenSocket>, String> {
        let (_, file) = self.socket_file(unit).ok_or("its unit file is gone")?;
        let user = match &file.user {
            None => None,
            Some(name) => {
                Some(accounts::user(&self.root, name).ok_or_else(|| format!("there is no user '{name}'"))?)
            }
        };
        let group = match &file.group {
            None => user.as_ref().map(|user| user.gid),
            Some(name) => {
                Some(accounts::group(&self.root, name).ok_or_else(|| format!("there is no group '{name}'"))?)
            }
        };
        let owner = Owner { user: user.map(|user| user.uid), group };
        let mut list = Vec::with_capacity(file.listen.len());
        for what in &file.listen {
            let descriptor = listen::open(what, file, owner, warnings)
                .map_err(|error| format!("{} {what}: {error}", what.kind_name()))?;
            list.push(OpenSocket { descriptor, key: None });
        }
        if let Some(node) = file.listen.iter().find_map(Listen::node) {
            for link in &file.symlinks {
                if let Err(error) = make_link(Path::new(node), Path::new(link)) {
                    warnings.push(format!("cannot make the link {link}: {error}"));
                }
            }
        }
        Ok(list)
    }

    /// Begins or ends to tell of what comes in.
    pub(super) fn watch_sockets(&mut self, unit: UnitId, watch: bool) {
        let Some(mut list) = self.sockets.open.remove(&unit) else { return };
        let flushes = self.socket_file(unit).is_some_and(|(_, file)| file.flush_pending && !file.accepts());
        for (index, open) in list.iter_mut().enumerate() {
            if let Some(key) = open.key.take() {
                self.watches.release(&open.descriptor, key);
            }
            if !watch {
                continue;
            }
            // The service may have made it block; it is one and the same open file.
            let _cannot_fail = rustix::io::ioctl_fionbio(&open.descriptor, true);
            if flushes {
                listen::flush(&open.descriptor);
            }
            match self.watches.add(open.descriptor.as_fd(), Source::Socket(unit, index)) {
                Ok(key) => open.key = Some(key),
                Err(error) => {
                    self.log_unit(Some(unit), Level::Error, &format!("cannot watch its socket: {error}"));
                }
            }
        }
        self.sockets.open.insert(unit, list);
    }

    /// Closes a socket unit's descriptors; with `RemoveOnStop=` its nodes go too.
    pub(super) fn close_sockets(&mut self, unit: UnitId) {
        self.watch_sockets(unit, false);
        if self.sockets.open.remove(&unit).is_none() {
            return;
        }
        let Some((_, file)) = self.socket_file(unit) else { return };
        if !file.remove_on_stop {
            return;
        }
        let nodes =
            file.listen.iter().filter_map(Listen::node).chain(file.symlinks.iter().map(String::as_str));
        for node in nodes {
            // One that somebody else has removed is as good as removed.
            let _gone = fs::remove_file(node);
        }
        for queue in &file.listen {
            if let Listen::MessageQueue(name) = queue
                && let Ok(name) = super::listen::queue_name(name)
            {
                let _gone = descriptor::unlink_message_queue(&name);
            }
        }
    }

    /// Something came in.
    pub(super) fn socket_ready(&mut self, unit: UnitId, index: usize) {
        let accepts = self.socket_file(unit).is_some_and(|(_, file)| file.accepts());
        if !accepts {
            self.events.push_back(Event::Traffic { unit });
            return;
        }
        for _ in 0..ACCEPT_TURN {
            let Some(open) = self.sockets.open.get(&unit).and_then(|list| list.get(index)) else { return };
            match accept_with(&open.descriptor, SocketFlags::CLOEXEC) {
                Ok(connection) => self.accepted(unit, connection),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(error) => {
                    if self.spare.refuse(&open.descriptor, error) {
                        let text = format!("a connection was refused: {error}");
                        self.log_unit(Some(unit), Level::Warning, &text);
                    }
                    return;
                }
            }
            self.carry_out(Vec::new());
        }
    }

    /// A connection of a socket with `Accept=yes`: gives it to a new instance.
    fn accepted(&mut self, socket: UnitId, descriptor: OwnedFd) {
        let Some((name, file)) = self.socket_file(socket) else { return };
        let Some(template) = file.service(name) else { return };
        let peer = peer_of(&descriptor);
        let from_peer = |one: &&Connection| {
            one.socket == socket && one.peer.map(|peer| peer.ip()) == peer.map(|peer| peer.ip())
        };
        let most = file.max_connections_per_source;
        let count = self.sockets.connections.values().filter(from_peer).count();
        if most > 0 && u32::try_from(count).map_or(true, |count| count >= most) {
            let text = format!("too many connections from one source ({count}), dropping one");
            return self.log_unit(Some(socket), Level::Warning, &text);
        }
        self.last_connection = self.last_connection.wrapping_add(1);
        let instance = instance_of(self.last_connection, &descriptor, peer);
        let service = match template.with_instance(&instance) {
            Ok(name) => name.as_str().to_owned(),
            Err(error) => {
                return self.log_unit(
                    Some(socket),
                    Level::Error,
                    &format!("no instance for a connection: {error}"),
                );
            }
        };
        self.load(std::slice::from_ref(&service));
        let Some(service) = self.sup.lookup(&service) else { return };
        self.sockets.connections.insert(service, Connection { descriptor, peer, socket });
        self.events.push_back(Event::Connection { unit: socket, service });
    }

    /// The connection of an instance is not needed (any more).
    pub(super) fn drop_connection(&mut self, service: UnitId) {
        self.sockets.connections.remove(&service);
    }

    /// Descriptors that the main process of a service gets, with their names for `LISTEN_FDNAMES`: its connection, or
    /// all that the socket units listen on which start it.
    pub(super) fn descriptors_for(&self, service: UnitId) -> Vec<(OwnedFd, String)> {
        let mut passed = Vec::new();
        let mut pass = |descriptor: &OwnedFd, name: &str| {
            if let Ok(copy) = descriptor.try_clone() {
                // What systemd does unless NonBlocking= is set: programs that are started so expect it.
                let _cannot_fail = rustix::io::ioctl_fionbio(&copy, false);
                passed.push((copy, name.to_owned()));
            }
        };
        if let Some(connection) = self.sockets.connections.get(&service) {
            let file = self.socket_file(connection.socket);
            pass(
                &connection.descriptor,
                file.map_or("connection", |(name, file)| file.descriptor_name(name)),
            );
            passed.extend(self.stored_for(service));
            return passed;
        }
        let sockets = self.sup.unit(service).into_iter().flat_map(|unit| unit.related(Edge::TriggeredBy));
        for socket in sockets {
            let Some((name, file)) = self.socket_file(socket) else { continue };
            for open in self.sockets.open.get(&socket).into_iter().flatten() {
                pass(&open.descriptor, file.descriptor_name(name));
            }
        }
        passed.extend(self.stored_for(service));
        passed
    }

    /// `$REMOTE_ADDR` and `$REMOTE_PORT` of an instance that a connection belongs to.
    pub(super) fn peer_variables(&self, service: UnitId) -> Vec<(&'static str, String)> {
        let peer = self.sockets.connections.get(&service).and_then(|connection| connection.peer);
        peer.map_or_else(Vec::new, |peer| {
            vec![("REMOTE_ADDR", peer.ip().to_string()), ("REMOTE_PORT", peer.port().to_string())]
        })
    }
}

fn address(found: rustix::io::Result<SocketAddrAny>) -> Option<SocketAddr> {
    let found = SocketAddr::try_from(found.ok()?).ok()?;
    // An IPv4 peer of an IPv6 socket is shown as what it is.
    let ip = match found.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    Some(SocketAddr::new(ip, found.port()))
}

fn peer_of(descriptor: &OwnedFd) -> Option<SocketAddr> {
    address(getpeername(descriptor).and_then(|peer| peer.ok_or(rustix::io::Errno::NOTCONN)))
}

/// The instance's name as systemd makes it: a number, then both ends, or who is at the other one.
fn instance_of(number: u32, descriptor: &OwnedFd, peer: Option<SocketAddr>) -> String {
    let own = address(getsockname(descriptor));
    if let (Some(own), Some(peer)) = (own, peer) {
        return format!("{number}-{}:{}-{}:{}", own.ip(), own.port(), peer.ip(), peer.port());
    }
    match sockopt::socket_peercred(descriptor) {
        Ok(peer) => format!("{number}-{}-{}", peer.pid.as_raw_nonzero(), peer.uid.as_raw()),
        Err(_) => format!("{number}-unknown"),
    }
}

fn make_link(node: &Path, link: &Path) -> io::Result<()> {
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent)?;
    }
    match std::os::unix::fs::symlink(node, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && link.is_symlink() => {
            fs::remove_file(link)?;
            std::os::unix::fs::symlink(node, link)
        }
        made => made,
    }
}
