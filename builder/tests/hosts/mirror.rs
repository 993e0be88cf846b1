//! A mirror on the loopback interface that has the indexes and packages of an image that was built before.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use debian::cache::Cache;

/// What becomes of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packages {
    /// They are sent.
    Sent,
    /// Half of the first one is sent, and with that the mirror ends.
    CutShort,
    /// Half of each is sent, and then nothing more: the connection stays open.
    Stalled,
}

/// A request for a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Path below the host.
    pub path: String,
    /// The first byte that is asked for, when it is not the whole file.
    pub from: Option<usize>,
}

/// The running mirror; it ends with the test process.
#[derive(Debug)]
pub struct Mirror {
    /// For `--mirror`.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Mirror {
    /// Starts a mirror with what `manifest` lists, taken from the user's cache.
    pub fn start(manifest: &Path, packages: Packages) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/debian", listener.local_addr().unwrap());
        let asked = Arc::default();
        let server =
            Server { files: by_name(manifest), packages, asked: Arc::clone(&asked), held: Vec::new() };
        std::thread::spawn(move || server.run(&listener));
        Self { url, asked }
    }

    /// Options that make it the mirror of both archives: of the security archive alone, well-known mirrors would be asked too.
    pub fn options(&self) -> [String; 4] {
        let option = || "--mirror".to_owned();
        [option(), self.url.clone(), option(), format!("{}-security", self.url)]
    }

    /// The packages that were asked for so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Packages by file name: `NAME_VERSION_ARCHITECTURE.deb`, without the version's epoch.
fn by_name(manifest: &Path) -> Vec<(String, PathBuf)> {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let package = |package: &serde_json::Value| {
        let text = |key: &str| package[key].as_str().unwrap();
        let version = text("version").split_once(':').map_or(text("version"), |(_, version)| version);
        (format!("{}_{version}_{}.deb", text("name"), text("architecture")), by_hash(text("sha256")))
    };
    json["packages"].as_array().unwrap().iter().map(package).collect()
}

fn by_hash(hash: &str) -> PathBuf {
    Cache::from_env().root().join("by-hash/sha256").join(&hash[..2]).join(hash)
}

struct Server {
    files: Vec<(String, PathBuf)>,
    packages: Packages,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections that are kept open.
    held: Vec<TcpStream>,
}

impl Server {
    fn run(mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if !self.answer(stream) {
                return;
            }
        }
    }

    /// Answers one request; false when the mirror is to end. Nothing can be done about a client that has gone.
    fn answer(&mut self, mut stream: TcpStream) -> bool {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        let from = head.iter().find_map(|line| {
            let line = line.to_ascii_lowercase();
            line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        let name = path.rsplit('/').next().unwrap_or_default();
        if !path.contains("/pool/") {
            let body = index(&path);
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let _ = stream.write_all(&[head_of(status, body.len(), None), body].concat());
            return true;
        }
        self.asked.lock().unwrap().push(Asked { path: path.clone(), from });
        // Mirrors have the same names with `%2b` and the like for some characters.
        let name = name.replace("%2B", "+").replace("%2b", "+").replace("%7E", "~").replace("%7e", "~");
        let file = self.files.iter().find(|(known, _)| *known == name);
        let body = file
            .and_then(|(_, path)| fs::read(path).ok())
            .unwrap_or_else(|| panic!("no {name} in the cache"));
        let rest = body.get(from.unwrap_or(0)..).unwrap_or_default();
        let head = match from {
            None => head_of("200 OK", body.len(), None),
            Some(from) => head_of("206 Partial Content", rest.len(), Some((from, body.len()))),
        };
        let sent = if self.packages == Packages::Sent { rest } else { &rest[..rest.len() / 2] };
        let _ = stream.write_all(&[&head, sent].concat());
        if self.packages == Packages::Stalled {
            self.held.push(stream);
        }
        self.packages != Packages::CutShort
    }
}

fn head_of(status: &str, length: usize, range: Option<(usize, usize)>) -> Vec<u8> {
    let range = range.map(|(from, of)| format!("Content-Range: bytes {from}-{}/{of}\r\n", of - 1));
    let range = range.unwrap_or_default();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{range}Content-Length: {length}\r\n\r\n").into_bytes()
}

/// An index of the archive, as the user's cache has it.
fn index(path: &str) -> Option<Vec<u8>> {
    let name = path.rsplit('/').next()?;
    if name != "InRelease" {
        return (name.len() == 64).then(|| fs::read(by_hash(name)).ok()).flatten();
    }
    let suite = path.trim_end_matches("/InRelease").rsplit('/').next()?;
    // The cache has one folder for each list of mirrors: `SUITE-KEY`.
    let folders =
        fs::read_dir(Cache::from_env().root().join("releases")).ok()?.map(|entry| entry.unwrap().path());
    let of_suite = |folder: &PathBuf| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.rsplit_once('-')).is_some_and(|(name, _)| name == suite)
    };
    let files = folders.filter(of_suite).map(|folder| folder.join("InRelease"));
    let newest = files.max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
    fs::read(newest?).ok()
}
