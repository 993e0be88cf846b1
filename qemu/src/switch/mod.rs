//! A network between virtual machines, in this process and without root: a learning Ethernet switch whose links can be cut,
//! delayed and made lossy, each direction by itself, with a DHCP server of fixed addresses.
//!
//! A port is a Unix socket for [`crate::Net::Stream`]. What happens to a frame is decided by [`fabric`], which does no I/O;
//! this module moves the bytes. The server sits in the switch, not behind a link: cutting links never costs a machine its
//! address.

pub mod dhcp;
pub mod fabric;
pub mod stream;

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use dhcp::Server;
use fabric::{Fabric, Link};
use stream::{Reader, Writer};

/// Read at once from a guest: a few of the longest frames.
const READ_BYTES: usize = 256 << 10;

/// A running switch. Dropped, it ends and takes its sockets with it.
#[derive(Debug)]
pub struct Switch {
    shared: Arc<Shared>,
    wake: UnixStream,
    sockets: Vec<PathBuf>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    fabric: Mutex<Fabric>,
    stop: AtomicBool,
}

impl Shared {
    fn fabric(&self) -> MutexGuard<'_, Fabric> {
        // A panic elsewhere leaves at worst one frame half handled.
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Switch {
    /// Starts a switch with sockets `port-0`, `port-1`, ... in `folder`, which should be one that only the user can enter.
    ///
    /// `seed` decides which frames a lossy link loses.
    ///
    /// # Errors
    /// A socket cannot be made: its path is longer than 107 bytes, or exists.
    pub fn start(folder: &Path, ports: usize, seed: u64, server: Option<Server>) -> io::Result<Self> {
        let sockets: Vec<PathBuf> = (0..ports).map(|port| folder.join(format!("port-{port}"))).collect();
        let plugs = sockets.iter().map(|path| Plug::bind(path)).collect::<io::Result<Vec<_>>>()?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared =
            Arc::new(Shared { fabric: Mutex::new(Fabric::new(ports, seed)), stop: AtomicBool::new(false) });
        let mut pump = Pump { shared: Arc::clone(&shared), plugs, server, woken, started: Instant::now() };
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(move || pump.run())?;
        Ok(Self { shared, wake, sockets, thread: Some(thread) })
    }

    /// The socket of a port, for [`crate::Net::Stream`].
    pub fn socket(&self, port: usize) -> Option<&Path> {
        self.sockets.get(port).map(PathBuf::as_path)
    }

    /// The link from one port to another; `None` for a port that does not exist.
    pub fn link(&self, from: usize, to: usize) -> Option<Link> {
        self.shared.fabric().link(from, to)
    }

    /// Sets the link from one port to another; the way back is a link of its own.
    pub fn set_link(&self, from: usize, to: usize, link: Link) {
        self.shared.fabric().set_link(from, to, link);
    }

    /// Makes all links perfect again.
    pub fn heal(&self) {
        let mut fabric = self.shared.fabric();
        let ports = fabric.ports();
        for from in 0..ports {
            (0..ports).for_each(|to| fabric.set_link(from, to, Link::default()));
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // A full socket wakes as well as a byte.
        let _ = self.wake.write(&[0]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// A port's socket and the machine on it.
#[derive(Debug)]
struct Plug {
    listener: UnixListener,
    machine: Option<Machine>,
}

#[derive(Debug)]
struct Machine {
    stream: UnixStream,
    reader: Reader,
    writer: Writer,
}

impl Plug {
    fn bind(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, machine: None })
    }

    /// A machine that was started again takes the place of the one before.
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.machine = Some(Machine { stream, reader: Reader::default(), writer: Writer::default() });
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Vec<Vec<u8>> {
        let Some(machine) = &mut self.machine else { return Vec::new() };
        let frames = match machine.stream.read(buffer) {
            Ok(0) => None,
            Ok(count) => machine.reader.push(buffer.get(..count).unwrap_or_default()).ok(),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Some(Vec::new())
            }
            Err(_) => None,
        };
        frames.unwrap_or_else(|| {
            self.machine = None;
            Vec::new()
        })
    }

    fn send(&mut self, frame: &[u8]) {
        if let Some(machine) = &mut self.machine {
            machine.writer.push(frame);
        }
    }

    fn flush(&mut self) {
        let Some(machine) = &mut self.machine else { return };
        while !machine.writer.is_empty() {
            match machine.stream.write(machine.writer.front()) {
                Ok(count) => machine.writer.consume(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.machine = None;
                    return;
                }
            }
        }
    }
}

/// The thread that moves frames.
struct Pump {
    shared: Arc<Shared>,
    plugs: Vec<Plug>,
    server: Option<Server>,
    woken: UnixStream,
    started: Instant,
}

impl Pump {
    fn run(&mut self) {
        let mut buffer = vec![0; READ_BYTES];
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.wait();
            let now = self.started.elapsed();
            for port in 0..self.plugs.len() {
                let Some(plug) = self.plugs.get_mut(port) else { continue };
                plug.accept();
                for frame in plug.receive(&mut buffer) {
                    match self.server.as_ref().and_then(|server| server.answer(&frame)) {
                        Some(answer) => plug.send(&answer),
                        None => self.shared.fabric().accept(now, port, &frame),
                    }
                }
            }
            for delivery in self.shared.fabric().due(now) {
                if let Some(plug) = self.plugs.get_mut(delivery.port) {
                    plug.send(&delivery.frame);
                }
            }
            self.plugs.iter_mut().for_each(Plug::flush);
        }
    }

    /// Sleeps until a socket can be read or written, or a delayed frame is due.
    fn wait(&self) {
        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
        for plug in &self.plugs {
            fds.push(PollFd::new(&plug.listener, PollFlags::IN));
            if let Some(machine) = &plug.machine {
                let write = if machine.writer.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                fds.push(PollFd::new(&machine.stream, PollFlags::IN | write));
            }
        }
        let now = self.started.elapsed();
        let timeout = self.shared.fabric().next_due().map(|due| timespec(due.saturating_sub(now)));
        // An interrupted wait looks around and waits again.
        let _ = poll(&mut fds, timeout.as_ref());
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const BROADCAST: [u8; 6] = [0xff; 6];

    fn plug(switch: &Switch, port: usize) -> UnixStream {
        let stream = UnixStream::connect(switch.socket(port).unwrap()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn frame(from: u8, text: &str) -> Vec<u8> {
        [&BROADCAST[..], &[2, 0, 0, 0, 0, from], &[0x88, 0xb5], text.as_bytes()].concat()
    }

    fn send(stream: &mut UnixStream, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], frame].concat()).unwrap();
    }

    fn receive(stream: &mut UnixStream) -> Vec<u8> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
        stream.read_exact(&mut frame).unwrap();
        frame
    }

    #[test]
    fn frames_pass_until_the_link_is_cut_and_again_when_it_is_healed() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = BTreeMap::from([([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 90, 0, 11))]);
        let server = Server::new([2, 0, 0, 0, 0, 9], Ipv4Addr::new(10, 90, 0, 1), 24, hosts);
        let switch = Switch::start(dir.path(), 2, 1, Some(server)).unwrap();
        let (mut a, mut b) = (plug(&switch, 0), plug(&switch, 1));
        // The switch has taken b in when a frame from it arrives.
        send(&mut b, &frame(2, "here"));
        assert_eq!(receive(&mut a), frame(2, "here"));
        send(&mut a, &frame(1, "one"));
        assert_eq!(receive(&mut b), frame(1, "one"));
        switch.set_link(0, 1, Link { cut: true, ..Link::default() });
        send(&mut a, &frame(1, "lost"));
        // The way back is whole, and its answer shows that the lost frame was handled.
        send(&mut b, &frame(2, "back"));
        assert_eq!(receive(&mut a), frame(2, "back"));
        switch.heal();
        send(&mut a, &frame(1, "two"));
        assert_eq!(receive(&mut b), frame(1, "two"));
        drop(switch);
        assert_eq!(a.read(&mut [0]).unwrap(), 0, "the switch hangs up");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no socket is left");
    }
}
