//! What PID 1 does for the journal: it makes the sockets before anything can log, keeps them and a copy of every stream
//! across the journal's restarts, connects services to it, and logs to it itself. Nothing here waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use image_config::unit::{ExecContext, Output};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, socketpair};

use super::logs::{LogSink, Record};
use crate::journal::entry::{Id, Priority};
use crate::journal::ports::{self, Inherited, Ports};
use crate::journal::sockets::{self, Received};
use crate::journal::stream::{Header, Stream};
use crate::journal::{client, native};
use crate::supervisor::{Level, Monotonic};

/// The journal's unit, which gets the sockets.
pub const UNIT: &str = "systemd-journald.service";
/// Variable that names the descriptors to the next program of PID 1 (`daemon-reexec`), as [`ports::VARIABLE`] does to the
/// journal.
const KEPT: &str = "FERRITE_JOURNAL_KEPT";
/// Name there of PID 1's own end of the pair.
const STORE: &str = "store";
/// Datagrams that may wait for the journal before it runs; the kernel's own limit is 10.
const QUEUE_LENGTH: (&str, &str) = ("/proc/sys/net/unix/max_dgram_qlen", "512");
/// Streams that are kept at most.
const MOST_STREAMS: usize = 4096;
/// Bytes that are read at a time of what nobody is to get, and how often of one stream before the next one has its turn.
const DRAINED_AT_A_TIME: usize = 64 << 10;
const MOST_TURNS: usize = 64;
/// The same of a socket for messages.
const MOST_DATAGRAMS: usize = 1000;
/// Bytes of PID 1's own messages that wait while the journal is behind.
const MOST_WAITING: usize = 64 << 10;
/// Facility `daemon` of syslog(3).
const DAEMON: u8 = 3;

/// The journal's sockets and streams.
#[derive(Debug)]
pub struct JournalPorts {
    folder: PathBuf,
    ports: Ports,
    /// Our end of the pair by which the journal hands over streams, and the end that it gets.
    store: OwnedFd,
    lent: OwnedFd,
    streams: BTreeMap<String, OwnedFd>,
    /// Streams that came while there was no journal, and whose header is not whole yet.
    arriving: Vec<(OwnedFd, Stream)>,
    root: PathBuf,
    /// Units whose limits were left for the journal.
    published: BTreeSet<String>,
}

impl JournalPorts {
    /// Makes the sockets below `root`, and `/dev/log`; takes over those of PID 1's program before this one, if there was
    /// one.
    ///
    /// # Errors
    /// The kernel's; output then goes where it can.
    pub fn open(root: &Path) -> io::Result<JournalPorts> {
        if let Ok(kept) = std::env::var(KEPT) {
            return JournalPorts::resume(root, &kept);
        }
        if root == Path::new("/") {
            // It counts for sockets that are made afterwards. Without it the first messages may be lost.
            let _fewer = fs::write(QUEUE_LENGTH.0, QUEUE_LENGTH.1);
        }
        let folder = root.join(ports::FOLDER.trim_start_matches('/'));
        let ports = Ports::bind(&folder)?;
        let link = root.join("dev/log");
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if link.parent().is_some_and(Path::is_dir) {
            std::os::unix::fs::symlink(folder.join(ports::SYSLOG), &link)?;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (store, lent) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(JournalPorts::with(root, folder, ports, (store, lent), BTreeMap::new()))
    }

    fn with(
        root: &Path,
        folder: PathBuf,
        ports: Ports,
        (store, lent): (OwnedFd, OwnedFd),
        streams: BTreeMap<String, OwnedFd>,
    ) -> JournalPorts {
        JournalPorts {
            folder,
            ports,
            store,
            lent,
            streams,
            arriving: Vec::new(),
            root: root.to_owned(),
            published: BTreeSet::new(),
        }
    }

    /// Goes on with the sockets and streams that a [`JournalPorts::hand_over`] has described.
    fn resume(root: &Path, kept: &str) -> io::Result<JournalPorts> {
        let folder = root.join(ports::FOLDER.trim_start_matches('/'));
        let Inherited { ports, streams, keeper } = Inherited::take(Some(kept), &folder)?;
        let mut streams: BTreeMap<String, OwnedFd> = streams.into_iter().collect();
        let pair = streams.remove(STORE).zip(keeper);
        let pair = pair.ok_or_else(|| io::Error::other("the pair to the journal was not handed over"))?;
        Ok(JournalPorts::with(root, folder, ports, pair, streams))
    }

    /// What the journal sends, to be polled.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.store
    }

    /// Takes streams in, and closes those that have ended.
    pub fn read(&mut self) {
        let mut bytes = [0; 2048];
        while let Ok(received) = sockets::receive(&self.store, &mut bytes) {
            let name = String::from_utf8_lossy(bytes.get(..received.count).unwrap_or_default()).into_owned();
            match received.descriptors.into_iter().next() {
                Some(stream) if self.streams.len() < MOST_STREAMS => drop(self.streams.insert(name, stream)),
                Some(_) => {}
                // An empty message: the other end was closed, which it is not while we hold it.
                None if name.is_empty() => return,
                None => drop(self.streams.remove(&name)),
            }
        }
    }

    /// Reads and throws away what waits for a journal that is not there, each source for a while. New streams are kept for the journal to
    /// come, as it would have had them kept.
    pub fn drain(&mut self) {
        let mut bytes = vec![0; DRAINED_AT_A_TIME];
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.streams.len() + self.arriving.len() < MOST_STREAMS
            && let Ok(socket) = accept_with(&self.ports.stdout, flags)
        {
            self.arriving.push((socket, Stream::default()));
        }
        for (socket, mut stream) in std::mem::take(&mut self.arriving) {
            match sockets::receive(&socket, &mut bytes) {
                Ok(Received { count, sender, .. }) if count > 0 => {
                    if stream.push(bytes.get(..count).unwrap_or_default(), |_, _| {}).is_err() {
                        continue;
                    }
                    if sender.is_none_or(|sender| sender.uid != 0) {
                        stream.forget_unit();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It ended before it had begun.
                _ => continue,
            }
            match stream.header() {
                Some(header) => drop(self.streams.insert(ports::stream_name(Id::random(), header), socket)),
                None => self.arriving.push((socket, stream)),
            }
        }
        self.streams.retain(|_, stream| {
            for _ in 0..MOST_TURNS {
                match sockets::receive(&*stream, &mut bytes) {
                    Ok(received) if received.count == 0 => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            }
            true
        });
        for socket in [&self.ports.native, &self.ports.syslog] {
            let turns = (0..MOST_DATAGRAMS).take_while(|_| sockets::receive(socket, &mut bytes).is_ok());
            let _thrown_away = turns.count();
        }
    }

    /// Leaves everything open for the journal, if it is the next process that is started while the lease lives.
    pub fn lend(&self) -> Lease<'_> {
        self.lease(ports::VARIABLE, None)
    }

    /// Leaves everything open for the next program of PID 1, which is started while the lease lives.
    pub fn hand_over(&self) -> Lease<'_> {
        self.lease(KEPT, Some((STORE, self.store.as_fd())))
    }

    fn lease<'a>(&'a self, variable: &'static str, own: Option<(&'a str, BorrowedFd<'a>)>) -> Lease<'a> {
        let mut descriptors: Vec<(&str, BorrowedFd<'_>)> = self.ports.named().to_vec();
        descriptors.push(("keeper", self.lent.as_fd()));
        descriptors.extend(own);
        descriptors.extend(self.streams.iter().map(|(name, stream)| (name.as_str(), stream.as_fd())));
        for (_, descriptor) in &descriptors {
            // It cannot fail for an open descriptor; else that one is made anew.
            let _closed = fcntl_setfd(descriptor, FdFlags::empty());
        }
        Lease { variable, descriptors }
    }

    /// Leaves a unit's limits where the journal reads them: links with the values for targets, as systemd has them.
    pub fn publish(&mut self, unit: &str, exec: &ExecContext) {
        let interval = exec.log_rate_limit_interval.map(|span| {
            span.finite().map_or(0, |span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX)).to_string()
        });
        let values = [
            (ports::RATE_INTERVAL, interval),
            (ports::RATE_BURST, exec.log_rate_limit_burst.map(|burst| burst.to_string())),
            (ports::LEVEL_MAX, exec.log_level_max.map(|level| level.to_string())),
        ];
        let is_set = values.iter().any(|(_, value)| value.is_some());
        // Most units set none, and cost nothing.
        if !is_set && !self.published.contains(unit) {
            return;
        }
        let folder = self.root.join(ports::UNIT_SETTINGS);
        // Lost, the journal's own limits hold.
        let _defaults = fs::create_dir_all(&folder);
        for (name, value) in values {
            let link = folder.join(format!("{name}:{unit}"));
            let _absent = fs::remove_file(&link);
            let _defaults = value.map(|value| std::os::unix::fs::symlink(value, &link));
        }
        if is_set {
            self.published.insert(unit.to_owned());
        } else {
            self.published.remove(unit);
        }
    }

    /// A stream for a process of a unit; where none is to be had, the kernel's log, else nothing.
    ///
    /// # Errors
    /// Not even `/dev/null` can be opened.
    pub fn stream_for(&self, unit: &str, exec: &ExecContext, program: &str) -> io::Result<OwnedFd> {
        let null = || OpenOptions::new().write(true).open("/dev/null").map(OwnedFd::from);
        if !is_wanted(exec) {
            return null();
        }
        let name = program.rsplit('/').next().unwrap_or(program);
        let console = |output: &Option<Output>| matches!(output, Some(Output::JournalConsole));
        let header = Header {
            identifier: exec.syslog_identifier.clone().unwrap_or_else(|| name.to_owned()),
            unit: unit.to_owned(),
            priority: exec.syslog_facility.unwrap_or(DAEMON) << 3
                | exec.syslog_level.unwrap_or(Priority::INFO),
            level_prefix: exec.syslog_level_prefix.unwrap_or(true),
            to_console: console(&exec.standard_output) || console(&exec.standard_error),
        };
        client::open_stream(&self.folder.join(ports::STDOUT), &header)
            .or_else(|_| OpenOptions::new().write(true).open("/dev/kmsg").map(OwnedFd::from))
            .or_else(|_| null())
    }
}

/// Whether one of the streams can lead to the journal.
fn is_wanted(exec: &ExecContext) -> bool {
    let leads = |output: &Option<Output>| {
        !matches!(
            output,
            Some(Output::Null | Output::Tty | Output::Kmsg | Output::KmsgConsole | Output::File(_))
        )
    };
    leads(&exec.standard_output)
        || matches!(exec.standard_error, Some(Output::Journal | Output::JournalConsole))
}

/// `$JOURNAL_STREAM` of systemd.exec(5): device and inode of the stream; `None` when it is no socket.
pub fn stream_variable(stream: &OwnedFd) -> Option<String> {
    let stat = rustix::fs::fstat(stream).ok()?;
    let is_socket = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket;
    is_socket.then(|| format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Descriptors that the next process inherits.
#[derive(Debug)]
pub struct Lease<'a> {
    variable: &'static str,
    descriptors: Vec<(&'a str, BorrowedFd<'a>)>,
}

impl Lease<'_> {
    /// The variable that tells the process about them.
    pub fn variable(&self) -> (&'static str, String) {
        let numbers = self.descriptors.iter().map(|(name, descriptor)| (*name, descriptor.as_raw_fd()));
        (self.variable, ports::describe(numbers))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        for (_, descriptor) in &self.descriptors {
            // It cannot fail for an open descriptor.
            let _open = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
    }
}

/// PID 1's own lines, as messages of the native protocol.
#[derive(Debug)]
pub struct JournalSink {
    path: PathBuf,
    socket: Option<OwnedFd>,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    lost: u64,
}

impl JournalSink {
    /// A sink for the journal below `root`.
    pub fn new(root: &Path) -> JournalSink {
        JournalSink {
            path: root.join(ports::FOLDER.trim_start_matches('/')).join(ports::NATIVE),
            socket: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lost: 0,
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(client::open_native(&self.path)?);
        }
        let sent = self.socket.as_ref().map_or(Ok(()), |socket| sockets::send(socket, message, &[]));
        let gone = |error: &io::Error| error.raw_os_error() == Some(Errno::CONNREFUSED.raw_os_error());
        if sent.as_ref().is_err_and(gone) {
            self.socket = None;
        }
        sent
    }

    fn push(&mut self, message: Vec<u8>) {
        self.waiting_bytes += message.len();
        self.waiting.push_back(message);
        while self.waiting_bytes > MOST_WAITING {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(oldest.len());
            self.lost += 1;
        }
    }
}

fn message(source: &str, level: Level, text: &str) -> Vec<u8> {
    let level = match level {
        Level::Error => "3",
        Level::Warning => "4",
        Level::Notice => "5",
        Level::Info => "6",
        Level::Debug => "7",
    };
    let mut fields: Vec<(&str, &[u8])> = vec![
        ("PRIORITY", level.as_bytes()),
        ("SYSLOG_FACILITY", b"3"),
        ("SYSLOG_IDENTIFIER", b"systemd"),
        ("MESSAGE", text.as_bytes()),
    ];
    if source != "init" {
        fields.push(("UNIT", source.as_bytes()));
    }
    native::message(fields)
}

impl LogSink for JournalSink {
    fn write(&mut self, _now: Monotonic, record: Record<'_>) {
        // A line about a unit names it, as in systemd's own log.
        let text = if record.source == "init" || record.text.contains(record.source) {
            record.text.to_owned()
        } else {
            format!("{}: {}", record.source, record.text)
        };
        self.push(message(record.source, record.level, &text));
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(next) = self.waiting.pop_front() {
            match self.send(&next) {
                Ok(()) => self.waiting_bytes = self.waiting_bytes.saturating_sub(next.len()),
                // Larger than the kernel takes: it would stand in the way for ever.
                Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                    self.waiting_bytes = self.waiting_bytes.saturating_sub(next.len());
                    self.lost += 1;
                }
                Err(_) => {
                    self.waiting.push_front(next);
                    return;
                }
            }
        }
        if self.lost > 0 {
            let text =
                format!("{} messages of the service manager were lost", std::mem::take(&mut self.lost));
            self.push(message("init", Level::Warning, &text));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn streams_are_kept_until_they_end_and_lent_to_the_journal() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        let mut journal = JournalPorts::open(root.path()).unwrap();
        assert!(root.path().join("dev/log").exists());
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        sockets::send(&journal.lent, b"stream a", &[one.as_fd()]).unwrap();
        journal.read();
        let lease = journal.lend();
        let (name, text) = lease.variable();
        assert_eq!(name, ports::VARIABLE);
        let names: Vec<String> = ports::parse(&text).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["native", "stdout", "syslog", "keeper", "stream a"]);
        for (_, descriptor) in &lease.descriptors {
            assert!(rustix::io::fcntl_getfd(descriptor).unwrap().is_empty());
        }
        drop(lease);
        // The same descriptors under new numbers, as another program would find them.
        let copies: Vec<(String, OwnedFd)> = {
            let lease = journal.hand_over();
            let copy = |(name, descriptor): &(&str, BorrowedFd<'_>)| {
                ((*name).to_owned(), descriptor.try_clone_to_owned().unwrap())
            };
            lease.descriptors.iter().map(copy).collect()
        };
        let text = ports::describe(copies.iter().map(|(name, copy)| (name.as_str(), copy.as_raw_fd())));
        copies.into_iter().for_each(|(_, copy)| std::mem::forget(copy));
        let next = JournalPorts::resume(root.path(), &text).unwrap();
        assert_eq!(next.streams.keys().collect::<Vec<_>>(), ["stream a"]);
        drop(next);
        assert_eq!(rustix::io::fcntl_getfd(&journal.store).unwrap(), FdFlags::CLOEXEC);
        sockets::send(&journal.lent, b"stream a", &[]).unwrap();
        journal.read();
        assert!(journal.streams.is_empty());
    }

    #[test]
    fn limits_of_a_unit_are_left_for_the_journal_and_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = JournalPorts::open(root.path()).unwrap();
        let link = |name: &str| {
            fs::read_link(root.path().join(ports::UNIT_SETTINGS).join(format!("{name}:a.service")))
        };
        let mut exec =
            ExecContext { log_rate_limit_burst: Some(5), log_level_max: Some(4), ..ExecContext::default() };
        journal.publish("a.service", &exec);
        assert_eq!(link(ports::RATE_BURST).unwrap(), Path::new("5"));
        assert_eq!(link(ports::LEVEL_MAX).unwrap(), Path::new("4"));
        assert!(link(ports::RATE_INTERVAL).is_err());
        (exec.log_rate_limit_burst, exec.log_level_max) = (None, None);
        journal.publish("a.service", &exec);
        assert!(link(ports::RATE_BURST).is_err() && journal.published.is_empty());
    }

    #[test]
    fn a_service_gets_a_stream_before_the_journal_runs_and_a_refuge_when_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let journal = JournalPorts::open(root.path()).unwrap();
        let exec = ExecContext::default();
        let stream = journal.stream_for("a.service", &exec, "/usr/bin/app").unwrap();
        assert!(stream_variable(&stream).unwrap().contains(':'));
        fs::File::from(stream).write_all(b"early\n").unwrap();
        let mut buffer = [0; 256];
        let accepted = rustix::net::accept(&journal.ports.stdout).unwrap();
        let received = sockets::receive(&accepted, &mut buffer).unwrap();
        assert!(buffer[..received.count].starts_with(b"app\na.service\n30\n1\n"));
        fs::remove_file(root.path().join("run/systemd/journal/stdout")).unwrap();
        assert_eq!(stream_variable(&journal.stream_for("a.service", &exec, "app").unwrap()), None);
    }

    #[test]
    fn nobody_waits_for_a_journal_that_does_not_come() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = JournalPorts::open(root.path()).unwrap();
        let stream = journal.stream_for("a.service", &ExecContext::default(), "/usr/bin/app").unwrap();
        journal.drain();
        let names: Vec<String> = journal.streams.keys().cloned().collect();
        let header = names[0].split(' ').nth(2).unwrap();
        assert_eq!(Header::from_word(header).unwrap().identifier, "app", "{names:?}");
        // More than any socket holds; the writer is another thread, which would wait.
        let mut writer = fs::File::from(stream);
        let flood = std::thread::spawn(move || {
            let line = [b'x'; 4096];
            (0..8192).for_each(|_| writer.write_all(&line).unwrap());
        });
        while !flood.is_finished() {
            journal.drain();
        }
        flood.join().unwrap();
        let syslog = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let path = root.path().join("run/systemd/journal").join(ports::SYSLOG);
        syslog.set_nonblocking(true).unwrap();
        while syslog.send_to(b"<6>x", &path).is_ok() {}
        journal.drain();
        syslog.send_to(b"<6>x", &path).unwrap();
        // The writer is gone, though a process that another test is about to start may still have its end for a moment.
        let begun = std::time::Instant::now();
        while !journal.streams.is_empty() || !journal.arriving.is_empty() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the stream stays");
            journal.drain();
        }
    }

    #[test]
    fn own_lines_wait_for_the_journal_within_bounds() {
        let root = tempfile::tempdir().unwrap();
        let mut sink = JournalSink::new(root.path());
        let text = "x".repeat(1000);
        let record = Record { source: "a.service", pid: 0, level: Level::Error, text: &text };
        (0..200).for_each(|_| sink.write(Monotonic(0), record));
        assert!(sink.waiting_bytes <= MOST_WAITING && sink.lost > 100);
        let journal = JournalPorts::open(root.path()).unwrap();
        let mut buffer = [0; 4096];
        let mut seen = Vec::new();
        for _ in 0..30 {
            sink.flush();
            while let Ok(received) = sockets::receive(&journal.ports.native, &mut buffer) {
                seen.extend(native::parse(&buffer[..received.count]));
            }
        }
        assert!(seen[0].contains(&("UNIT".to_owned(), b"a.service".to_vec())));
        let last = String::from_utf8_lossy(&seen.last().unwrap()[3].1).into_owned();
        assert!(last.ends_with("messages of the service manager were lost"), "{last}");
    }
}
