//! A channel folder of the development key, and a server for it on this machine's loopback, which the machine under test reaches as
//! 10.0.2.2.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use builder::build::{Manifest, manifest_path};
use builder::payload::groups;
use builder::signing::{SlotSigner, development_channel_root};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use update_engine::channel::metadata::{Date, Envelope, Root};
use update_engine::channel::sign::{Edition, Lifetimes, Renewal};
use update_engine::channel::{ChannelName, Placement, Release, Rollout, TargetFile, Version};
use update_engine::payload::write::write_at_level;

use crate::Image;

/// Bytes of a report, at most.
const MAX_REPORT: u64 = 1 << 20;
/// Bytes that are sent at once.
const BUFFER: u64 = 16 << 10;

/// A channel folder.
#[derive(Debug)]
pub struct Channel {
    folder: PathBuf,
    edition: Option<Edition>,
}

/// What a release came to.
#[derive(Debug, Clone)]
pub struct Published {
    /// Path of the payload below the folder.
    pub payload_path: String,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
}

impl Channel {
    /// An empty one.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("metadata"))?;
        Ok(Self { folder: folder.to_owned(), edition: None })
    }

    /// Publishes an image on `stable`, for everybody.
    ///
    /// # Errors
    /// It cannot be read, or the folder cannot be written.
    pub fn publish(&mut self, image: &Image) -> Result<Published> {
        let slot = File::open(&image.usr)?;
        let manifest: Manifest = serde_json::from_slice(&fs::read(manifest_path(&image.raw))?)?;
        let mut payload = Vec::new();
        // Bytes do not count here, minutes do.
        let index = write_at_level(&slot, &groups(&manifest), 3, &mut payload, |_| {})?;
        let footer = index.footer()?;
        let index = index.to_bytes();
        let (product, version) = (footer.product.as_str(), footer.version.as_str());
        let target = |ending: &str, bytes: &[u8]| -> Result<TargetFile> {
            let path = format!("{product}/{version}.{ending}");
            let file = TargetFile { path, length: bytes.len() as u64, sha256: Sha256::digest(bytes).into() };
            let place = self.folder.join(file.url_path());
            fs::create_dir_all(place.parent().context("no folder")?)?;
            fs::write(place, bytes)?;
            Ok(file)
        };
        let start = Date::from_unix(0).context("1970")?;
        let placement = Placement { rollout: Rollout::everybody(start), withdrawn: None };
        let stable = ChannelName::parse("stable").context("stable")?;
        let release = Release {
            product: product.to_owned(),
            architecture: footer.architecture.as_str().to_owned(),
            version: Version::parse(version).map_err(|error| anyhow!("{error:?}"))?,
            index: target("index", &index)?,
            payload: target("payload", &payload)?,
            slot_bytes: slot.metadata()?.len(),
            root_hash: footer.verity.root_hash,
            build_time: footer.build_time,
            minimum_version: None,
            rollback_index: footer.rollback_index,
            minimum_loader: footer.minimum_loader,
            state: BTreeMap::new(),
            automatic_rollback: true,
            notes: String::new(),
            channels: BTreeMap::from([(stable, placement)]),
        };
        self.sign(&release)?;
        Ok(Published {
            payload_path: release.payload.url_path(),
            payload_bytes: payload.len() as u64,
            index_bytes: index.len() as u64,
        })
    }

    fn sign(&mut self, release: &Release) -> Result<()> {
        let root = Root::read(&Envelope::parse(&development_channel_root()?)?)?;
        let keys = [SlotSigner::development()?.channel_key()];
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let now = Date::from_unix(now).context("the clock")?;
        let lifetimes = Lifetimes::default();
        let mut edition = match self.edition.take() {
            Some(edition) => edition,
            None => Edition::first(&root, now, &lifetimes, &keys)?.0,
        };
        anyhow::ensure!(release.put(&mut edition.targets), "the release cannot be written");
        let (edition, files) = edition.next(Renewal::Targets, &root, now, &lifetimes, &keys)?;
        for file in files {
            fs::write(self.folder.join("metadata").join(file.name), file.bytes)?;
        }
        self.edition = Some(edition);
        Ok(())
    }
}

/// A server of plain files with ranges, on loopback, that keeps what machines report.
#[derive(Debug)]
pub struct FileServer {
    /// Its port.
    pub port: u16,
    state: Arc<State>,
}

/// What the connections of a server share.
#[derive(Debug)]
struct State {
    /// Bytes of payloads that were sent.
    sent: AtomicU64,
    /// Bytes of payloads that may still be sent.
    left: AtomicU64,
    /// Bytes of payloads that each connection sends in a second, at most.
    pace: AtomicU64,
    /// Whether connections break, and none is taken any more, once nothing may be sent.
    vanishes: AtomicBool,
    /// Connections that were not taken.
    refused: AtomicU64,
    /// What machines reported.
    reports: Mutex<Vec<Value>>,
}

impl State {
    fn is_away(&self) -> bool {
        self.vanishes.load(Ordering::SeqCst) && self.left.load(Ordering::SeqCst) < BUFFER
    }
}

impl FileServer {
    /// Serves a folder until the process ends.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let state = Arc::new(State {
            sent: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            pace: AtomicU64::new(u64::MAX),
            vanishes: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            reports: Mutex::new(Vec::new()),
        });
        let server = Self { port: listener.local_addr()?.port(), state: Arc::clone(&state) };
        let folder = folder.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.is_away() {
                    state.refused.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let (folder, state) = (folder.clone(), Arc::clone(&state));
                std::thread::spawn(move || drop(serve(&stream, &folder, &state)));
            }
        });
        Ok(server)
    }

    /// Bytes of payloads that were sent so far.
    pub fn payload_bytes_sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// The reports that machines have sent so far, in order.
    pub fn reports(&self) -> Vec<Value> {
        self.state.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on so many bytes of payloads are sent, and then nothing more comes: the connection stays open.
    pub fn stall_after(&self, bytes: u64) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// From now on no connection sends more bytes of payloads in a second: a line that is slower than loopback.
    pub fn pace(&self, bytes_a_second: u64) {
        self.state.pace.store(bytes_a_second, Ordering::SeqCst);
    }

    /// From now on so many bytes of payloads are sent; then connections break, and no other is taken.
    pub fn vanish_after(&self, bytes: u64) {
        self.state.vanishes.store(true, Ordering::SeqCst);
        self.stall_after(bytes);
    }

    /// Serves as before.
    pub fn come_back(&self) {
        self.stall_after(u64::MAX);
        self.state.vanishes.store(false, Ordering::SeqCst);
    }

    /// Connections that were not taken since the server went away.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, folder: &Path, state: &State) -> Result<()> {
    let mut lines = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if lines.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut range, mut body) = (None, 0);
        loop {
            let mut header = String::new();
            lines.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(bytes) = header.strip_prefix("range: bytes=") {
                let (first, last) = bytes.split_once('-').context("a range")?;
                range = Some((first.parse::<u64>()?, last.parse::<u64>()?));
            }
            if let Some(bytes) = header.strip_prefix("content-length: ") {
                body = bytes.parse::<u64>()?.min(MAX_REPORT);
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
        let mut out = stream;
        if request.starts_with("POST ") {
            let report = serde_json::from_reader((&mut lines).take(body))?;
            state.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            write!(out, "HTTP/1.1 204 No Content\r\n\r\n")?;
            continue;
        }
        let file = if path.contains("..") { None } else { File::open(folder.join(path)).ok() };
        let Some(mut file) = file.filter(|_| request.starts_with("GET ")) else {
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let length = file.metadata()?.len();
        let (first, last) = range.unwrap_or((0, length.saturating_sub(1)));
        let last = last.min(length.saturating_sub(1));
        file.seek(SeekFrom::Start(first))?;
        let count = (last + 1).saturating_sub(first);
        match range {
            Some(_) => write!(
                out,
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {count}\r\nContent-Range: bytes {first}-{last}/{length}\r\n\r\n"
            )?,
            None => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n")?,
        }
        send(&mut file.take(count), out, path.ends_with(".payload"), state)?;
    }
}

fn send(file: &mut impl std::io::Read, mut out: &TcpStream, counts: bool, state: &State) -> Result<()> {
    let mut buffer = vec![0; usize::try_from(BUFFER)?];
    let (begun, mut sent) = (Instant::now(), 0);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if counts {
            while state.left.load(Ordering::SeqCst) < count as u64 {
                anyhow::ensure!(!state.is_away(), "the server is gone");
                std::thread::sleep(Duration::from_millis(100));
            }
            if state.left.load(Ordering::SeqCst) != u64::MAX {
                state.left.fetch_sub(count as u64, Ordering::SeqCst);
            }
            state.sent.fetch_add(count as u64, Ordering::SeqCst);
            sent += count as u64;
            // As when the last of these bytes has gone over the line.
            let at = Duration::from_secs_f64(sent as f64 / state.pace.load(Ordering::SeqCst) as f64);
            std::thread::sleep(at.saturating_sub(begun.elapsed()));
        }
        out.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}
