//! The recorder (SAFETY 26): a virtual disk behind an NBD server of our own, which keeps every write and flush in order.
//!
//! Our own and not QEMU's `blklogwrites`, for two reasons: that filter notes a request when it completes, so that a write that
//! came while a flush was under way looks as if the flush covered it; and what the machine has acknowledged must have its place
//! in the same order. Here, of requests that are under way together, a flush is executed first: whoever does not wait for a
//! write before flushing has not flushed it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use slots::{Device, Geometry};

use super::nbd::{self, Command, Negotiation, Request};
use super::sectors::{Content, SECTOR_BYTES};
use crate::sparse_copy;

/// Writes from this size on are kept in a file, not in memory.
const SPILL_FROM: usize = 64 << 10;
/// Bytes read from the socket at a time.
const CHUNK: usize = 1 << 20;

/// Something that the machine has promised, and what must hold after every later cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The partition table as it stands: slots on trial, tries taken, marked good, STATE.
    Table,
    /// A file on STATE with this line in it, by its path on STATE.
    File {
        /// The path, from the root of the file system.
        path: String,
        /// The line.
        line: String,
    },
}

/// A moment between requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The machine starts with all that was executed before: losses of earlier requests have not happened.
    PowerOn,
    /// A loader reads the disk as it is now, without a loss, and may raise the rollback floor.
    Loader,
    /// The loader has handed over to the kernel of the slot of this name.
    Kernel(&'static str),
    /// The machine has promised something.
    Acknowledged(Fact),
    /// For people.
    Phase(&'static str),
}

/// A write as the disk got it.
#[derive(Debug, Clone)]
pub struct Write {
    /// First byte; a whole sector's.
    pub offset: u64,
    /// The bytes; whole sectors.
    pub content: Content,
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub enum Event {
    /// A write. A discard counts as one of zeroes.
    Write(Write),
    /// A flush was executed: all writes before it are durable.
    Flush,
    /// A moment.
    Mark(Mark),
}

/// What happened at a disk.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// In the order of execution.
    pub events: Vec<Event>,
}

impl Log {
    /// Writes, flushes and written bytes, for people.
    pub fn figures(&self) -> (usize, usize, u64) {
        let mut figures = (0, 0, 0);
        for event in &self.events {
            match event {
                Event::Write(write) => {
                    figures.0 += 1;
                    figures.2 += write.content.len();
                }
                Event::Flush => figures.1 += 1,
                Event::Mark(_) => {}
            }
        }
        figures
    }
}

#[derive(Debug)]
struct Inner {
    log: Log,
    live: File,
    spill: Arc<File>,
    spilled: u64,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    size: u64,
    ends: AtomicBool,
}

/// A recorded disk.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    socket: PathBuf,
    live: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Serves a copy of the image `base`, on a disk of `size` bytes, from `folder`.
    ///
    /// # Errors
    /// The system's.
    pub fn serve(base: &Path, size: u64, folder: &Path) -> Result<Self> {
        let live_path = folder.join("live.raw");
        sparse_copy(base, &live_path).context("cannot copy the image to record")?;
        let live = File::options().read(true).write(true).open(&live_path)?;
        let size = size.max(live.metadata()?.len());
        live.set_len(size)?;
        let spill_path = folder.join("spill");
        let spill = File::options().create(true).truncate(true).read(true).write(true).open(&spill_path)?;
        // Both go away with the last user: nobody opens them by name.
        std::fs::remove_file(&spill_path)?;
        let inner = Inner { log: Log::default(), live, spill: Arc::new(spill), spilled: 0 };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), size, ends: AtomicBool::new(false) });
        let socket = folder.join("nbd");
        let listener = UnixListener::bind(&socket).context("cannot listen for the emulator")?;
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.ends.load(Ordering::SeqCst) {
                    break;
                }
                // The machine sees a connection that ends as a disk that fails, and says so.
                if let Err(error) = stream.and_then(|stream| serve_client(stream, &served)) {
                    eprintln!("recorder: {error}");
                }
            }
        });
        Ok(Self { shared, socket, live: live_path, thread: Some(thread) })
    }

    /// The server's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Notes a moment.
    pub fn mark(&self, mark: Mark) {
        self.shared.lock().log.events.push(Event::Mark(mark));
    }

    /// The disk for code that runs here, recorded too.
    pub fn device(&self) -> RecordedDevice {
        RecordedDevice { shared: Arc::clone(&self.shared) }
    }

    /// What was recorded until now.
    pub fn log(&self) -> Log {
        self.shared.lock().log.clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes the thread; when nobody listens any more, it has ended.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // The folder may serve another recording; what stays behind goes with it.
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&self.live);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(offset, data.len() as u64)?;
        let mut inner = self.lock();
        inner.live.write_all_at(data, offset)?;
        let content = if data.len() < SPILL_FROM {
            Content::Memory(data.into())
        } else {
            inner.spill.write_all_at(data, inner.spilled)?;
            let content = Content::Spilled(Arc::clone(&inner.spill), inner.spilled, data.len() as u64);
            inner.spilled += data.len() as u64;
            content
        };
        inner.log.events.push(Event::Write(Write { offset, content }));
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check(offset, length)?;
        let mut inner = self.lock();
        let zeroes = vec![0; CHUNK];
        let mut done = 0;
        while done < length {
            let count = (length - done).min(CHUNK as u64);
            let zeroes = zeroes.get(..usize::try_from(count).unwrap_or(CHUNK)).unwrap_or_default();
            inner.live.write_all_at(zeroes, offset + done)?;
            done += count;
        }
        inner.log.events.push(Event::Write(Write { offset, content: Content::Zeroes(length) }));
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.check(offset, buffer.len() as u64)?;
        self.lock().live.read_exact_at(buffer, offset)
    }

    fn flush(&self) {
        self.lock().log.events.push(Event::Flush);
    }

    fn check(&self, offset: u64, length: u64) -> io::Result<()> {
        let whole = offset.is_multiple_of(SECTOR_BYTES) && length.is_multiple_of(SECTOR_BYTES);
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.size);
        if whole && inside { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    fn execute(&self, request: &Request) -> Vec<u8> {
        let (offset, length) = (request.offset, u64::from(request.length));
        let mut data = Vec::new();
        let result = match &request.command {
            Command::Read => {
                data.resize(request.length as usize, 0);
                self.read(offset, &mut data)
            }
            Command::Write(data) => self.write(offset, data),
            Command::Zero | Command::Discard => self.zero(offset, length),
            Command::Flush => {
                self.flush();
                Ok(())
            }
            Command::Disconnect | Command::Unknown(_) => {
                return nbd::reply(request.cookie, nbd::EINVAL, &[]);
            }
        };
        match result {
            Ok(()) => nbd::reply(request.cookie, 0, &data),
            Err(_) => nbd::reply(request.cookie, nbd::EIO, &[]),
        }
    }
}

/// One client until it leaves.
fn serve_client(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut input = Input { bytes: Vec::new(), at: 0 };
    stream.write_all(&nbd::greeting())?;
    // The client's own flags: four bytes, of which nothing depends.
    while input.rest().len() < 4 {
        if !input.more(&mut stream)? {
            return Ok(());
        }
    }
    input.at += 4;
    loop {
        match nbd::parse_option(input.rest()).map_err(io::Error::other)? {
            None => {
                if !input.more(&mut stream)? {
                    return Ok(());
                }
            }
            Some((negotiation, used)) => {
                input.at += used;
                stream.write_all(&nbd::answer(negotiation, shared.size))?;
                match negotiation {
                    Negotiation::Go(_) | Negotiation::Old => break,
                    Negotiation::Abort(_) => return Ok(()),
                    Negotiation::Info(_) | Negotiation::Unsupported(_) => {}
                }
            }
        }
    }
    loop {
        let mut requests = Vec::new();
        while let Some((request, used)) = nbd::parse_request(input.rest()).map_err(io::Error::other)? {
            input.at += used;
            requests.push(request);
        }
        if requests.is_empty() {
            if !input.more(&mut stream)? {
                return Ok(());
            }
            // Whatever else has been sent by now is under way together with it.
            input.more_without_waiting(&mut stream)?;
            continue;
        }
        requests.sort_by_key(|request| request.command != Command::Flush);
        for request in &requests {
            if request.command == Command::Disconnect {
                return Ok(());
            }
            stream.write_all(&shared.execute(request))?;
        }
    }
}

/// What a client has sent and nobody has taken yet.
struct Input {
    bytes: Vec<u8>,
    at: usize,
}

impl Input {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Waits for more; false at the end.
    fn more(&mut self, stream: &mut UnixStream) -> io::Result<bool> {
        self.bytes.drain(..self.at.min(self.bytes.len()));
        self.at = 0;
        let length = self.bytes.len();
        self.bytes.resize(length + CHUNK, 0);
        let count = loop {
            match stream.read(self.bytes.get_mut(length..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes.truncate(length + *count.as_ref().unwrap_or(&0));
        Ok(count? > 0)
    }

    fn more_without_waiting(&mut self, stream: &mut UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let more = self.more(stream);
        stream.set_nonblocking(false)?;
        match more {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// The recorded disk as code of ours writes it.
#[derive(Debug)]
pub struct RecordedDevice {
    shared: Arc<Shared>,
}

impl Device for RecordedDevice {
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        Geometry { block_size: 512, blocks: self.shared.size / SECTOR_BYTES }
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.shared.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.shared.write(offset, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(number: u32) -> Vec<u8> {
        let mut out = Vec::from(*b"IHAVEOPT");
        out.extend(number.to_be_bytes());
        out.extend(0_u32.to_be_bytes());
        out
    }

    fn request(kind: u16, cookie: u64, offset: u64, length: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::from(0x2560_9513_u32.to_be_bytes());
        out.extend([0, 0]);
        out.extend(kind.to_be_bytes());
        out.extend(cookie.to_be_bytes());
        out.extend(offset.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(data);
        out
    }

    fn expect(stream: &mut UnixStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn recorder(folder: &Path) -> Recorder {
        let image = folder.join("image");
        std::fs::write(&image, vec![7; 4096]).unwrap();
        Recorder::serve(&image, 1 << 20, folder).unwrap()
    }

    #[test]
    fn a_client_reads_and_writes_and_all_of_it_is_recorded_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = recorder(folder.path());
        let mut stream = UnixStream::connect(recorder.socket()).unwrap();
        expect(&mut stream, 18);
        stream.write_all(&1_u32.to_be_bytes()).unwrap();
        stream.write_all(&option(8)).unwrap();
        assert_eq!(expect(&mut stream, 20)[12..16], [0x80, 0, 0, 1], "structured replies are refused");
        stream.write_all(&option(7)).unwrap();
        expect(&mut stream, 20 + 12 + 20 + 14 + 20);
        let large = vec![9; SPILL_FROM];
        for (request, answer) in [
            (request(0, 1, 3584, 1024, b""), [[7; 512], [0; 512]].concat()),
            (request(1, 2, 8192, u32::try_from(SPILL_FROM).unwrap(), &large), Vec::new()),
            (request(1, 3, 512, 512, &[5; 512]), Vec::new()),
            (request(3, 4, 0, 0, b""), Vec::new()),
            (request(6, 5, 0, 512, b""), Vec::new()),
            (request(0, 6, 0, 1024, b""), [[0; 512], [5; 512]].concat()),
        ] {
            stream.write_all(&request).unwrap();
            let got = expect(&mut stream, 16 + answer.len());
            assert_eq!((&got[4..8], &got[16..]), (&[0; 4][..], &answer[..]));
        }
        stream.write_all(&request(1, 7, 1 << 20, 512, &[5; 512])).unwrap();
        assert_eq!(expect(&mut stream, 16)[4..8], nbd::EIO.to_be_bytes(), "behind the end");
        stream.write_all(&request(2, 9, 0, 0, b"")).unwrap();
        let kinds: Vec<_> = recorder
            .log()
            .events
            .iter()
            .map(|event| match event {
                Event::Write(write) => (write.offset, write.content.len()),
                _ => (u64::MAX, 0),
            })
            .collect();
        assert_eq!(kinds, [(8192, SPILL_FROM as u64), (512, 512), (u64::MAX, 0), (0, 512)]);
        let Event::Write(spilled) = &recorder.log().events[0] else { panic!("no write") };
        let mut back = vec![0; SPILL_FROM];
        spilled.content.read(0, &mut back).unwrap();
        assert_eq!(back, large);
    }

    #[test]
    fn a_flush_that_comes_with_a_write_does_not_cover_it() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = recorder(folder.path());
        let mut stream = UnixStream::connect(recorder.socket()).unwrap();
        expect(&mut stream, 18);
        let mut all = Vec::from(1_u32.to_be_bytes());
        all.extend(option(7));
        all.extend(request(1, 1, 0, 512, &[1; 512]));
        all.extend(request(3, 2, 0, 0, b""));
        stream.write_all(&all).unwrap();
        expect(&mut stream, 86 + 32);
        let events = recorder.log().events;
        assert!(matches!(events[..], [Event::Flush, Event::Write(_)]), "{events:?}");
    }
}
