//! Fetching files over HTTP: mirrors in turn, retries, resumed downloads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header;

use crate::cache::{Cache, CacheError, create_parent, io_error};
use crate::digest::{Digest, Hasher};
use crate::mirrors::Mirrors;
use crate::progress::{Progress, Task};

/// How patient a fetcher is.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How often the whole list of mirrors is tried.
    pub rounds: u32,
    /// Pause before the second round; each later one is twice as long, and up to half of it is added at random, so
    /// that many builders do not come back at once.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// For a connection, for the answer to begin, and for each piece of it to arrive.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            rounds: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

/// A download that failed on every mirror.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No mirror gave the file.
    #[error("cannot fetch {path}:{}\nhint: {}", tried(attempts), advice(attempts))]
    AllMirrors {
        /// Path below the mirror's base.
        path: String,
        /// What happened, the latest of each mirror.
        attempts: Vec<Attempt>,
    },
    /// There is no mirror to ask.
    #[error("cannot fetch {path}: no mirror is configured")]
    NoMirror {
        /// Path below the mirror's base.
        path: String,
    },
    /// The HTTP client itself.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// What a mirror did.
#[derive(Debug)]
pub struct Attempt {
    /// The whole URL.
    pub url: String,
    /// Why it was no use.
    pub failure: Failure,
}

/// Why an answer was no use.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, no answer, or an answer that broke off.
    #[error("{}", with_causes(.0))]
    Transport(reqwest::Error),
    /// The answer broke off.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// An answer that is no success.
    #[error("the server answers {0}")]
    Status(StatusCode),
    /// Fewer or more bytes than the index says.
    #[error("got {got} bytes, expected {expected}")]
    Size {
        /// Bytes that came.
        got: u64,
        /// Bytes that the index names.
        expected: u64,
    },
    /// Other bytes than the index says.
    #[error("the content has SHA-256 {found}, expected {expected}")]
    Digest {
        /// Of what came.
        found: Digest,
        /// Of the index.
        expected: Digest,
    },
    /// What came is not acceptable to the caller, for example a signature that does not verify.
    #[error("{0}")]
    Refused(String),
}

/// Without the URL, which stands before the failure anyway.
fn transport(error: reqwest::Error) -> Failure {
    Failure::Transport(error.without_url())
}

fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

fn tried(attempts: &[Attempt]) -> String {
    let shown: Vec<String> = attempts.iter().map(|a| format!("\n  {}: {}", a.url, a.failure)).collect();
    shown.concat()
}

fn advice(attempts: &[Attempt]) -> &'static str {
    let has = |test: fn(&Failure) -> bool| attempts.iter().any(|a| test(&a.failure));
    if has(|f| matches!(f, Failure::Refused(_))) {
        "a mirror served something that cannot be trusted; name another one with --mirror"
    } else if has(|f| matches!(f, Failure::Digest { .. } | Failure::Size { .. })) {
        "a mirror or a proxy serves something else than the signed index names; name another mirror with --mirror"
    } else if has(|f| matches!(f, Failure::Status(s) if *s == StatusCode::NOT_FOUND)) {
        "the mirror has moved on or lacks the suite; try again later, or name another one with --mirror"
    } else if has(|f| matches!(f, Failure::Transport(e) if with_causes(e).contains("certificate"))) {
        "this machine's CA certificates are missing or do not know the server (SSL_CERT_FILE); an http:// mirror does \
         as well, since every file is checked against Debian's signature"
    } else {
        "check the network and http_proxy, or name another mirror with --mirror; --offline uses the cache alone"
    }
}

impl FetchError {
    /// Whether some mirror answered that it does not have the file, so that another file may do.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::AllMirrors { attempts, .. } if attempts.iter().any(|a| a.failure.is_absence()))
    }
}

impl FetchError {
    /// Whether some mirror gave other content than was asked for.
    pub fn is_mismatch(&self) -> bool {
        let other = |f: &Failure| matches!(f, Failure::Digest { .. } | Failure::Size { .. });
        matches!(self, Self::AllMirrors { attempts, .. } if attempts.iter().any(|a| other(&a.failure)))
    }

    /// The last URL that was tried, and what came of it.
    pub fn last_attempt(&self) -> Option<String> {
        let Self::AllMirrors { attempts, .. } = self else { return None };
        attempts.last().map(|attempt| format!("{}: {}", attempt.url, attempt.failure))
    }

    /// Whether no mirror said anything at all.
    pub fn is_silence(&self) -> bool {
        let silent = |f: &Failure| matches!(f, Failure::Transport(_));
        matches!(self, Self::AllMirrors { attempts, .. } if attempts.iter().all(|a| silent(&a.failure)))
    }
}

impl Failure {
    /// Whether the mirror says that it does not have the file.
    fn is_absence(&self) -> bool {
        matches!(self, Self::Status(StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN))
    }

    /// Whether the same mirror may do better later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Broken(_) | Self::Size { .. } | Self::Digest { .. } => true,
            Self::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(_) => false,
        }
    }
}

/// A file whose size and digest are known.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Path below the mirror's base.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Content.
    pub sha256: Digest,
}

/// A document that may not have changed.
#[derive(Debug)]
pub enum Fresh<T> {
    /// The server says that it is as it was.
    Unchanged,
    /// It is new.
    New {
        /// What the caller made of it.
        value: T,
        /// The server's `Last-Modified`, to ask with the next time.
        last_modified: Option<String>,
    },
}

/// What it means when a mirror says that it does not have a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Absence {
    /// Another mirror may have it, now or in a while: mirrors that failed otherwise are tried again.
    #[default]
    MayPass,
    /// The mirrors are copies of each other, so it is gone when one says so and the others do not have it at once. For
    /// files that can be had elsewhere.
    IsFinal,
}

/// Fetches from one list of mirrors. Remembers which mirror worked last. Can be used from several threads.
pub struct Fetcher<'a> {
    mirrors: &'a Mirrors,
    patience: &'a Patience,
    client: &'a LazyClient,
    progress: &'a dyn Progress,
    pub(crate) absence: Absence,
    /// Index of the mirror that is asked first.
    favourite: AtomicUsize,
    /// Mirrors that did not answer at all the last time.
    silent: Vec<AtomicBool>,
}

impl std::fmt::Debug for Fetcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("mirrors", self.mirrors).finish_non_exhaustive()
    }
}

/// The HTTP client, made when it is first needed: reading the host's certificates takes time that an offline build
/// need not spend.
#[derive(Debug, Default)]
pub struct LazyClient(OnceLock<Client>);

impl LazyClient {
    fn get(&self, timeout: Duration) -> Result<Client, FetchError> {
        if let Some(client) = self.0.get() {
            return Ok(client.clone());
        }
        let client = new_client(timeout).map_err(FetchError::Client)?;
        Ok(self.0.get_or_init(|| client).clone())
    }
}

/// How many certificates of authorities this host has that https servers can be judged by (`SSL_CERT_FILE` and
/// `SSL_CERT_DIR` are honoured).
pub fn trusted_certificates() -> usize {
    let mut roots = rustls::RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    usable
}

/// TLS by rustls with ring, trusting what the host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured). Without
/// certificates plain http still works; https then fails with its own message. `http_proxy`, `https_proxy` and
/// `no_proxy` are honoured by reqwest.
fn new_client(timeout: Duration) -> reqwest::Result<Client> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let tls = builder
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| unreachable!("ring has the default protocol versions: {error}"))
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(timeout)
        .timeout(timeout) // in the blocking client: for each operation, not for the whole download
        .user_agent(concat!("ferrite/", env!("CARGO_PKG_VERSION")))
        .build()
}

impl<'a> Fetcher<'a> {
    /// A fetcher over these mirrors.
    pub fn new(
        mirrors: &'a Mirrors,
        patience: &'a Patience,
        client: &'a LazyClient,
        progress: &'a dyn Progress,
    ) -> Self {
        let silent = mirrors.urls().iter().map(|_| AtomicBool::new(false)).collect();
        Self {
            mirrors,
            patience,
            client,
            progress,
            absence: Absence::default(),
            favourite: AtomicUsize::new(0),
            silent,
        }
    }

    /// The same with another idea of absence.
    #[must_use]
    pub fn with_absence(self, absence: Absence) -> Self {
        Self { absence, ..self }
    }

    fn is_gone(&self, attempts: &[Option<Attempt>]) -> bool {
        self.absence == Absence::IsFinal && attempts.iter().flatten().any(|a| a.failure.is_absence())
    }

    fn is_silent(&self, number: usize) -> bool {
        self.silent.get(number).is_some_and(|silent| silent.load(Ordering::Relaxed))
    }

    fn set_silent(&self, number: usize, is: bool) {
        if let Some(silent) = self.silent.get(number) {
            silent.store(is, Ordering::Relaxed);
        }
    }

    /// Runs `once` with a mirror after the other until it succeeds.
    fn with_mirrors<T>(
        &self,
        path: &str,
        mut once: impl FnMut(&Client, &str) -> Result<Result<T, Failure>, FetchError>,
    ) -> Result<T, FetchError> {
        let bases = self.mirrors.urls();
        if bases.is_empty() {
            return Err(FetchError::NoMirror { path: path.to_owned() });
        }
        let client = self.client.get(self.patience.timeout)?;
        let mut attempts: Vec<Option<Attempt>> = bases.iter().map(|_| None).collect();
        for round in 0..self.patience.rounds.max(1) {
            if round > 0 {
                let pause = self.pause(round);
                self.progress.note(&format!("{path}: trying again in {:.1} s", pause.as_secs_f64()));
                std::thread::sleep(pause);
            }
            let first = self.favourite.load(Ordering::Relaxed);
            for offset in 0..bases.len() {
                let number = (first + offset) % bases.len();
                // A mirror that says nothing would be waited for with every file that is gone.
                if self.is_gone(&attempts) && self.is_silent(number) {
                    continue;
                }
                let (Some(base), Some(attempt)) = (bases.get(number), attempts.get_mut(number)) else {
                    continue;
                };
                if attempt.as_ref().is_some_and(|a| !a.failure.may_pass()) {
                    continue;
                }
                let url = format!("{base}/{path}");
                match once(&client, &url)? {
                    Ok(value) => {
                        self.favourite.store(number, Ordering::Relaxed);
                        self.set_silent(number, false);
                        return Ok(value);
                    }
                    Err(failure) => {
                        // A mirror that fails as before has nothing new to say.
                        if attempt.as_ref().is_none_or(|a| a.failure.to_string() != failure.to_string()) {
                            self.progress.note(&format!("{url}: {failure}"));
                        }
                        self.set_silent(number, matches!(failure, Failure::Transport(_)));
                        *attempt = Some(Attempt { url, failure });
                    }
                }
            }
            if self.is_gone(&attempts) || !attempts.iter().flatten().any(|a| a.failure.may_pass()) {
                break;
            }
        }
        Err(FetchError::AllMirrors {
            path: path.to_owned(),
            attempts: attempts.into_iter().flatten().collect(),
        })
    }

    fn pause(&self, round: u32) -> Duration {
        let doubled = self.patience.first_pause.saturating_mul(1 << (round - 1).min(16));
        let pause = doubled.min(self.patience.longest_pause);
        // The low bits of the clock are random enough to spread builders.
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        pause + pause.mul_f64(f64::from(clock.subsec_nanos() % 1000) / 2000.0)
    }

    /// Fetches a small document whose digest nobody knows and hands it to `accept`, which may refuse it: then the
    /// next mirror is asked. `if_modified_since` is the `Last-Modified` that came with the one that is known.
    ///
    /// # Errors
    /// No mirror gives a document that is accepted.
    pub fn document<T>(
        &self,
        path: &str,
        max_bytes: u64,
        if_modified_since: Option<&str>,
        mut accept: impl FnMut(Vec<u8>) -> Result<T, String>,
    ) -> Result<Fresh<T>, FetchError> {
        self.with_mirrors(path, |client, url| {
            Ok((|| {
                let mut request = client.get(url);
                if let Some(value) = if_modified_since {
                    request = request.header(header::IF_MODIFIED_SINCE, value);
                }
                let response = request.send().map_err(transport)?;
                if response.status() == StatusCode::NOT_MODIFIED && if_modified_since.is_some() {
                    return Ok(Fresh::Unchanged);
                }
                if response.status() != StatusCode::OK {
                    return Err(Failure::Status(response.status()));
                }
                let last_modified = response.headers().get(header::LAST_MODIFIED);
                let last_modified = last_modified.and_then(|v| v.to_str().ok()).map(str::to_owned);
                let mut bytes = Vec::new();
                response.take(max_bytes + 1).read_to_end(&mut bytes).map_err(Failure::Broken)?;
                if bytes.len() as u64 > max_bytes {
                    return Err(Failure::Refused(format!("it is larger than {max_bytes} bytes")));
                }
                let value = accept(bytes).map_err(Failure::Refused)?;
                Ok(Fresh::New { value, last_modified })
            })())
        })
    }

    /// Fetches a file of known content into the cache, going on where an earlier download broke off. Another process
    /// that fetches the same file is waited for.
    ///
    /// # Errors
    /// No mirror gives the right content; the cache cannot be written.
    pub fn file(&self, cache: &Cache, wanted: &Wanted, task: &dyn Task) -> Result<PathBuf, FetchError> {
        let partial = cache.partial_path(wanted.sha256);
        create_parent(&partial)?;
        let mut file = lock_partial(&partial)?;
        if let Some(path) = cache.object(wanted.sha256, Some(wanted.size))? {
            // Whoever held the lock before us has fetched it.
            std::fs::remove_file(&partial).map_err(io_error("remove", &partial))?;
            task.advance(wanted.size);
            return Ok(path);
        }
        let mut shown = 0;
        let result = self.with_mirrors(&wanted.path, |client, url| {
            match download(client, url, wanted, &mut file, &mut shown, task) {
                Ok(outcome) => Ok(outcome),
                Err(error) => Err(io_error("write", &partial)(error).into()),
            }
        });
        result?;
        Ok(cache.adopt(&partial, wanted.sha256)?)
    }
}

/// Opens a partial file and locks it. Who held the lock may have renamed the file into the cache, where nobody must
/// write to it any more: so the name has to mean the file that is locked.
fn lock_partial(path: &Path) -> Result<File, CacheError> {
    loop {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let file = options.open(path).map_err(io_error("open", path))?;
        file.lock().map_err(io_error("lock", path))?;
        let locked = file.metadata().map_err(io_error("inspect", path))?;
        if std::fs::metadata(path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino()))
        {
            return Ok(file);
        }
    }
}

/// One try. The outer error is the local file's, the inner one the mirror's.
fn download(
    client: &Client,
    url: &str,
    wanted: &Wanted,
    file: &mut File,
    shown: &mut u64,
    task: &dyn Task,
) -> io::Result<Result<(), Failure>> {
    let mut hasher = Hasher::default();
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file.take(wanted.size), &mut hasher)?;
    if file.metadata()?.len() > wanted.size {
        restart(file, &mut hasher)?;
    }
    let mut request = client.get(url);
    let resume = hasher.length > 0 && hasher.length < wanted.size;
    if hasher.length == wanted.size && wanted.size > 0 {
        return finish(file, hasher, wanted);
    }
    if resume {
        request = request.header(header::RANGE, format!("bytes={}-", hasher.length));
    }
    let response = match request.send() {
        Ok(response) => response,
        Err(error) => return Ok(Err(transport(error))),
    };
    match response.status() {
        StatusCode::PARTIAL_CONTENT if resume && range_start(&response) == Some(hasher.length) => {}
        StatusCode::OK => restart(file, &mut hasher)?,
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            restart(file, &mut hasher)?;
            return Ok(Err(Failure::Broken(io::Error::other("the server cannot resume; starting over"))));
        }
        status => return Ok(Err(Failure::Status(status))),
    }
    let mut body = response.take(wanted.size - hasher.length + 1);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Ok(Err(Failure::Broken(error))),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        file.write_all(bytes)?;
        hasher.write_all(bytes)?;
        // A download that starts over does not count twice.
        let seen = hasher.length.min(wanted.size);
        task.advance(seen.saturating_sub(*shown));
        *shown = seen.max(*shown);
    }
    finish(file, hasher, wanted)
}

fn restart(file: &mut File, hasher: &mut Hasher) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    *hasher = Hasher::default();
    Ok(())
}

/// Checks what is in the file. Too little is kept, to go on from; anything else that is wrong is thrown away.
fn finish(file: &mut File, hasher: Hasher, wanted: &Wanted) -> io::Result<Result<(), Failure>> {
    let got = hasher.length;
    if got < wanted.size {
        return Ok(Err(Failure::Size { got, expected: wanted.size }));
    }
    let found = hasher.finish();
    if got == wanted.size && found == wanted.sha256 {
        return Ok(Ok(()));
    }
    file.set_len(0)?;
    Ok(Err(if got == wanted.size {
        Failure::Digest { found, expected: wanted.sha256 }
    } else {
        Failure::Size { got, expected: wanted.size }
    }))
}

/// The first byte of `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
