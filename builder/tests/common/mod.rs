//! What the tests of lock files need: small packages, servers on the loopback, the command.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use debian::cache::Cache;
use debian::digest::Digest;

/// What a run of the command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn outcome(command: &mut Command) -> Outcome {
    let output = command.env("NO_COLOR", "1").output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn ferrite<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Outcome {
    outcome(Command::new(env!("CARGO_BIN_EXE_ferrite")).args(arguments))
}

/// A package of architecture `all` in suite `trixie`, with one file.
pub struct Deb {
    pub name: String,
    version: String,
    pub bytes: Vec<u8>,
}

impl Deb {
    /// `fields` are further lines of its control file.
    pub fn new(name: &str, version: &str, fields: &str) -> Self {
        let control = format!("Package: {name}\nVersion: {version}\nArchitecture: all\n{fields}");
        let path = format!("./usr/share/{name}");
        let members = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", tar("./control", control.as_bytes())),
            ("data.tar", tar(&path, name.as_bytes())),
        ];
        let mut bytes = b"!<arch>\n".to_vec();
        for (member, content) in members {
            bytes.extend(
                format!("{member:<16}0           0     0     100644  {:<10}`\n", content.len()).bytes(),
            );
            bytes.extend(&content);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        Self { name: name.to_owned(), version: version.to_owned(), bytes }
    }

    /// Below a mirror's base.
    pub fn path(&self) -> String {
        format!("pool/{}_{}.deb", self.name, self.version)
    }

    /// Its line in a lock file.
    pub fn lock_line(&self) -> String {
        let (digest, size) = (Digest::of(&self.bytes), self.bytes.len());
        format!("package {} {} all trixie {size} {digest} {}\n", self.name, self.version, self.path())
    }
}

/// A tar archive of one file.
fn tar(path: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&header, content].concat();
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

/// An HTTP server on the loopback. Its thread ends with the process.
pub struct Server {
    pub base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves files by path, without a leading slash; all else is not found.
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self::answering(move |path| files.get(path).cloned())
    }

    fn answering(find: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, find) = (Arc::clone(&asked), Arc::new(find));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, find) = (Arc::clone(&log), Arc::clone(&find));
                std::thread::spawn(move || serve(stream, &log, &*find));
            }
        });
        Self { base, asked }
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, find: &dyn Fn(&str) -> Option<Vec<u8>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    log.lock().unwrap().push(path.to_owned());
    let (status, body) = find(path).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    // Nothing can be done about a client that has gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

/// Serves these files, by path, and the signed and other indexes that the user's cache has.
pub fn mirror_of_cache(files: BTreeMap<String, PathBuf>) -> Server {
    Server::answering(move |path| {
        if let Some(file) = files.get(path) {
            return fs::read(file).ok();
        }
        if !path.starts_with("dists/") {
            return None;
        }
        if !path.ends_with("/InRelease") {
            let digest = path.rsplit('/').next()?.parse().ok()?;
            return fs::read(Cache::from_env().object_path(digest)).ok();
        }
        // The cache has one folder for each list of mirrors: `SUITE-KEY`.
        let suite = path.split('/').nth(1)?;
        let of_suite = |name: &str| name.rsplit_once('-').is_some_and(|(name, _)| name == suite);
        let folders = fs::read_dir(Cache::from_env().root().join("releases")).ok()?.flatten();
        let files = folders
            .filter(|entry| entry.file_name().to_str().is_some_and(of_suite))
            .map(|entry| entry.path().join("InRelease"));
        let newest = files.max_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
        fs::read(newest?).ok()
    })
}
