//! `ferrite-journald`: the loop that takes in what is logged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{Timespec, epoll};

use super::config::Config;
use super::connection::{Connection, LARGEST_MESSAGE, read_passed};
use super::entry::{Id, Priority, Stamp};
use super::intake::Intake;
use super::keeper::Keeper;
use super::kmsg;
use super::ports::{self, Inherited, Ports};
use super::sockets::{self, Received};
use super::start::opener;
use super::varlink::{self, Call};
use crate::sys::signals::Signals;

/// Turns of one source before somebody else is looked at.
const TURNS: usize = 64;
/// Turns after the signal to end.
const LAST_TURNS: usize = 1000;
/// Bytes of a stream that are read at a time.
const CHUNK: usize = 16 << 10;
/// Streams at most; more are refused.
const MOST_STREAMS: usize = 4096;
/// Clients of the control socket at most.
const MOST_CLIENTS: usize = 16;

/// Who this machine is.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// `/etc/machine-id`
    pub machine: Id,
    /// This boot.
    pub boot: Id,
}

/// What epoll watches.
#[derive(Debug)]
enum Source {
    Native,
    Syslog,
    Listener,
    Kernel,
    Signals,
    Control,
    Stream(Box<Connection>),
    Client(varlink::Client),
}

/// The journal.
#[derive(Debug)]
pub struct Journald {
    intake: Intake,
    ports: Ports,
    keeper: Option<OwnedFd>,
    kernel: Option<OwnedFd>,
    kernel_state: PathBuf,
    kernel_next: u64,
    signals: Option<Signals>,
    control: Option<OwnedFd>,
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    last_key: u64,
    pulse: Option<u64>,
    stopping: bool,
    buffer: Vec<u8>,
}

/// What the daemon is set up with.
#[derive(Debug)]
pub struct Setup {
    /// Prefix of the machine's folders.
    pub root: PathBuf,
    /// Sockets and streams.
    pub inherited: Inherited,
    /// Settings.
    pub config: Config,
    /// The machine.
    pub machine: Machine,
    /// `/dev/kmsg`, if it is to be read.
    pub kernel: Option<OwnedFd>,
    /// Signals, if they are to be listened to.
    pub signals: Option<Signals>,
    /// How often the service manager is to hear of this daemon, in microseconds.
    pub pulse: Option<u64>,
}

impl Journald {
    /// Opens everything that the loop needs.
    ///
    /// # Errors
    /// The kernel gives no epoll.
    pub fn new(setup: Setup) -> io::Result<Journald> {
        let Setup { root, inherited, config, machine, kernel, signals, pulse } = setup;
        let folder = root.join(ports::FOLDER.trim_start_matches('/'));
        let open = opener(root.clone(), config.clone(), machine);
        let keeper = Keeper::new(open, config.sync_interval);
        let kernel_state = folder.join("kernel-seqnum");
        let kernel_next = fs::read_to_string(&kernel_state).ok().and_then(|text| text.trim().parse().ok());
        let mut journal = Journald {
            intake: Intake::new(&root, config, machine.machine, keeper),
            ports: inherited.ports,
            keeper: inherited.keeper,
            kernel,
            kernel_state,
            kernel_next: kernel_next.unwrap_or(0),
            signals,
            control: sockets::bind_stream(&folder.join(varlink::NAME)).ok(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sources: BTreeMap::new(),
            last_key: 0,
            pulse,
            stopping: false,
            buffer: vec![0; CHUNK],
        };
        journal.watch_fixed()?;
        for (name, socket) in inherited.streams {
            journal.resume(&name, socket);
        }
        Ok(journal)
    }

    fn watch_fixed(&mut self) -> io::Result<()> {
        let fixed = [
            (Source::Native, Some(self.ports.native.as_fd())),
            (Source::Syslog, Some(self.ports.syslog.as_fd())),
            (Source::Listener, Some(self.ports.stdout.as_fd())),
            (Source::Kernel, self.kernel.as_ref().map(AsFd::as_fd)),
            (Source::Signals, self.signals.as_ref().map(|signals| signals.descriptor().as_fd())),
            (Source::Control, self.control.as_ref().map(AsFd::as_fd)),
        ];
        for (source, descriptor) in fixed {
            let Some(descriptor) = descriptor else { continue };
            self.last_key += 1;
            let data = epoll::EventData::new_u64(self.last_key);
            epoll::add(&self.epoll, descriptor, data, epoll::EventFlags::IN)?;
            self.sources.insert(self.last_key, source);
        }
        Ok(())
    }

    fn watch(&mut self, socket: impl AsFd) -> io::Result<u64> {
        self.last_key += 1;
        let data = epoll::EventData::new_u64(self.last_key);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?;
        Ok(self.last_key)
    }

    /// Makes what was kept outlive a power cut.
    pub fn sync(&mut self) {
        self.intake.keeper.sync();
    }

    /// A line of the journal's own.
    pub fn say(&mut self, level: u8, text: &str) {
        self.intake.say(level, text);
    }

    /// Runs until a signal ends it.
    pub fn run(&mut self) {
        let mut told = Stamp::now().monotonic;
        while !self.stopping {
            let next_pulse = self.pulse.map(|pulse| told.saturating_add(pulse));
            self.turn(self.intake.next().into_iter().chain(next_pulse).min());
            let now = Stamp::now().monotonic;
            if next_pulse.is_some_and(|next| now >= next) {
                told = now;
                // The next one may come through.
                let _missed = crate::net::notify("WATCHDOG=1");
            }
        }
        // What was sent before the end is kept; who goes on sending is not waited for.
        for _ in 0..LAST_TURNS {
            if !self.turn(Some(0)) {
                break;
            }
        }
        self.intake.keeper.sync();
    }

    /// Waits until something comes in, or until `deadline` (microseconds of the monotonic clock), and takes it in. True
    /// when something did.
    pub fn turn(&mut self, deadline: Option<u64>) -> bool {
        let now = Stamp::now().monotonic;
        let timeout = deadline.map(|deadline| {
            let micros = deadline.saturating_sub(now);
            Timespec {
                tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(micros % 1_000_000 * 1000).unwrap_or(0),
            }
        });
        let mut ready = Vec::with_capacity(64);
        // Interrupted, or a bad argument, which it never is: the next turn looks again.
        let _again = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), timeout.as_ref());
        let keys: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
        keys.iter().for_each(|key| self.dispatch(*key));
        self.intake.tick(Stamp::now());
        !keys.is_empty()
    }

    fn dispatch(&mut self, key: u64) {
        match self.sources.get(&key) {
            None => {}
            Some(Source::Native | Source::Syslog) => self.read_datagrams(key),
            Some(Source::Listener) => self.accept_streams(),
            Some(Source::Kernel) => self.read_kernel(),
            Some(Source::Signals) => self.read_signals(),
            Some(Source::Control) => self.accept_clients(),
            Some(Source::Stream(_)) => self.read_stream(key),
            Some(Source::Client(_)) => self.serve(key),
        }
    }

    fn read_datagrams(&mut self, key: u64) {
        let is_native = matches!(self.sources.get(&key), Some(Source::Native));
        for _ in 0..TURNS {
            let socket = if is_native { &self.ports.native } else { &self.ports.syslog };
            let size = rustix::io::ioctl_fionread(socket).unwrap_or(0);
            let size = usize::try_from(size).unwrap_or(usize::MAX).clamp(CHUNK, LARGEST_MESSAGE);
            if self.buffer.len() < size {
                self.buffer.resize(size, 0);
            }
            let Ok(Received { count, sender, descriptors }) = sockets::receive(socket, &mut self.buffer)
            else {
                break;
            };
            let now = Stamp::now();
            let bytes = self.buffer.get(..count).unwrap_or_default();
            match (is_native, descriptors.as_slice()) {
                (false, _) => self.intake.syslog(now, bytes, sender),
                (true, []) => self.intake.native(now, bytes, sender),
                (true, [file]) => match read_passed(file) {
                    Ok(bytes) => self.intake.native(now, &bytes, sender),
                    Err(problem) => {
                        let pid = sender.map_or(0, |sender| sender.pid);
                        let text = format!("a message in a file from process {pid} is refused: {problem}");
                        self.intake.say(Priority::WARNING, &text);
                    }
                },
                (true, _) => self.intake.say(Priority::WARNING, "a message with several files is refused"),
            }
        }
        self.buffer.truncate(CHUNK);
        self.buffer.shrink_to(CHUNK);
    }

    fn accept_streams(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        for _ in 0..TURNS {
            let Ok(socket) = rustix::net::accept_with(&self.ports.stdout, flags) else { return };
            if self.sources.len() > MOST_STREAMS {
                self.intake.say(Priority::ERROR, "too many streams, one is refused");
                continue;
            }
            let Ok(key) = self.watch(&socket) else { continue };
            let connection = Connection::new(socket);
            self.sources.insert(key, Source::Stream(Box::new(connection)));
            self.read_stream(key);
        }
    }

    /// Goes on with a stream of the journal before this one.
    fn resume(&mut self, name: &str, socket: OwnedFd) {
        let Some(connection) = Connection::resumed(name, socket) else { return };
        if let Ok(key) = self.watch(connection.socket()) {
            self.sources.insert(key, Source::Stream(Box::new(connection)));
        }
    }

    fn read_stream(&mut self, key: u64) {
        let Some(Source::Stream(connection)) = self.sources.get_mut(&key) else { return };
        if !connection.read(&mut self.buffer, &mut self.intake, self.keeper.as_ref()) {
            // PID 1 has a copy, which would keep it in epoll. It cannot fail for a socket that is in there.
            let _in_there = epoll::delete(&self.epoll, connection.socket());
            connection.close(&mut self.intake, self.keeper.as_ref());
            self.sources.remove(&key);
        }
    }

    fn read_kernel(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let before = self.kernel_next;
        let mut bytes = vec![0; 8192];
        for _ in 0..TURNS {
            match rustix::io::read(kernel, &mut bytes) {
                // Records were overwritten before they were read; the next read goes on behind them.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    let Some(record) = kmsg::parse(bytes.get(..count).unwrap_or_default()) else { continue };
                    if record.sequence < self.kernel_next {
                        continue;
                    }
                    let missed = record.sequence - self.kernel_next;
                    if missed > 0 && self.kernel_next > 0 {
                        self.intake.say(Priority::WARNING, &format!("Missed {missed} kernel messages"));
                    }
                    self.kernel_next = record.sequence + 1;
                    self.intake.own(record.entry(Stamp::now()));
                }
            }
        }
        if self.kernel_next != before {
            // Lost, the next journal writes some of them twice.
            let _twice = fs::write(&self.kernel_state, format!("{}\n", self.kernel_next));
        }
    }

    fn read_signals(&mut self) {
        while let Some(number) = self.signals.as_ref().and_then(Signals::read) {
            match number {
                libc::SIGUSR1 => self.intake.keeper.reopen(),
                libc::SIGUSR2 => drop(self.intake.keeper.rotate()),
                libc::SIGTERM | libc::SIGINT => self.stopping = true,
                _ => self.intake.keeper.sync(),
            }
        }
    }

    fn accept_clients(&mut self) {
        let Some(control) = &self.control else { return };
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(control, flags) else { return };
        let clients = self.sources.values().filter(|source| matches!(source, Source::Client(_))).count();
        // Everybody may ask for a sync; a crowd of askers is shown the door.
        if clients >= MOST_CLIENTS {
            return;
        }
        if let Ok(key) = self.watch(&socket) {
            self.sources.insert(key, Source::Client(varlink::Client::new(socket)));
        }
    }

    fn serve(&mut self, key: u64) {
        let Some(Source::Client(client)) = self.sources.get_mut(&key) else { return };
        let Some(calls) = client.read() else {
            self.sources.remove(&key);
            return;
        };
        for call in calls {
            let done = match call {
                // What was sent before the call is to be in it.
                Call::Synchronize => {
                    self.drain();
                    self.intake.keeper.sync();
                    Ok(())
                }
                Call::Rotate => self.intake.keeper.rotate(),
                Call::Reopen => {
                    self.intake.keeper.reopen();
                    Ok(())
                }
                Call::Refused(error) => Err(io::Error::other(error)),
            };
            let Some(Source::Client(client)) = self.sources.get_mut(&key) else { return };
            if !client.answer(done) {
                self.sources.remove(&key);
                return;
            }
        }
    }

    /// Takes in what waits on the sockets now.
    fn drain(&mut self) {
        let wanted =
            |source: &Source| !matches!(source, Source::Client(_) | Source::Control | Source::Signals);
        let keys: Vec<u64> =
            self.sources.iter().filter(|(_, source)| wanted(source)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.dispatch(key));
    }
}
