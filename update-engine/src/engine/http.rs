//! Fetching from a channel folder: blocking, with limits on everything that a server can stretch.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::causes::chain;

/// Where the image keeps the certificates of those who vouch for servers.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Silence for so long is a broken line.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// A line that brings less than [`DRIP_BYTES`] in this time is as good as broken: a server that drips a byte a minute must not
/// hold an update for ever.
const DRIP_TIME: Duration = Duration::from_secs(60);
const DRIP_BYTES: u64 = 16 << 10;
/// Redirects within the server.
const MOST_REDIRECTS: usize = 5;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is none.
    #[error("{0:?} is no URL")]
    Url(String),
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// No connection, no answer, or a redirect that is refused.
    #[error("{url}: {message}")]
    Request {
        /// What was asked for.
        url: String,
        /// The whole chain of causes.
        message: String,
    },
    /// The server answered something else than the file.
    #[error("{url}: the server answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// The answer is not the range that was asked for.
    #[error("{url}: the server sent another range")]
    Range {
        /// What was asked for.
        url: String,
    },
    /// More than was allowed.
    #[error("{url}: more than {max_bytes} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The limit.
        max_bytes: u64,
    },
    /// The line broke.
    #[error("{url}: the connection broke")]
    Read {
        /// What was asked for.
        url: String,
        /// What happened.
        source: io::Error,
    },
}

/// A client for one channel folder or one of its mirrors.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    base: String,
}

impl Http {
    /// A client for the folder at `base`, without a slash at its end.
    ///
    /// # Errors
    /// TLS cannot be set up, or `base` is no URL.
    pub fn new(base: &str) -> Result<Self, HttpError> {
        let url = Url::parse(base).map_err(|_| HttpError::Url(base.to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(HttpError::Tls)?
            .with_root_certificates(certificates())
            .with_no_client_auth();
        let origin = url.origin();
        // Whoever runs a mirror may move files about on it, but not send machines elsewhere.
        let policy = Policy::custom(move |attempt: Attempt<'_>| {
            if attempt.url().origin() != origin {
                attempt.error("redirect to another server refused")
            } else if attempt.previous().len() > MOST_REDIRECTS {
                attempt.error("too many redirects")
            } else {
                attempt.follow()
            }
        });
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(policy)
            .connect_timeout(CONNECT_LIMIT)
            .timeout(SILENCE_LIMIT)
            .user_agent(concat!("ferrite-update-engine/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| HttpError::Request { url: base.to_owned(), message: chain(&error) })?;
        Ok(Self { client, base: base.to_owned() })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// Fetches a small file; `None` when the server has none of that name.
    ///
    /// # Errors
    /// [`HttpError`]
    pub fn get(&self, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, HttpError> {
        let url = self.url(path);
        let request = self.client.get(&url).header(ACCEPT_ENCODING, "identity");
        let response = request.send().map_err(|error| refused(&url, &error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => return Ok(None),
            status => return Err(HttpError::Status { url, status }),
        }
        let mut bytes = Vec::new();
        let mut reader = Steady::new(response).take(max_bytes + 1);
        reader.read_to_end(&mut bytes).map_err(|source| HttpError::Read { url: url.clone(), source })?;
        if bytes.len() as u64 > max_bytes {
            Err(HttpError::TooLong { url, max_bytes })
        } else {
            Ok(Some(bytes))
        }
    }

    /// Opens a range of a file. From a server that does not know ranges the bytes before it are read and thrown away.
    ///
    /// # Errors
    /// [`HttpError`]
    pub fn open(&self, path: &str, range: &Range<u64>) -> Result<impl Read + use<>, HttpError> {
        let url = self.url(path);
        let last = range.end.saturating_sub(1);
        let request = self.client.get(&url).header(ACCEPT_ENCODING, "identity");
        let request = request.header(RANGE, format!("bytes={}-{last}", range.start));
        let response = request.send().map_err(|error| refused(&url, &error))?;
        let status = response.status();
        let sent = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let wanted = format!("bytes {}-{last}/", range.start);
        let fits = sent.is_some_and(|sent| sent.starts_with(&wanted));
        let mut reader = Steady::new(response);
        match status {
            StatusCode::PARTIAL_CONTENT if fits => {}
            StatusCode::PARTIAL_CONTENT => return Err(HttpError::Range { url }),
            StatusCode::OK => {
                let skipped = io::copy(&mut (&mut reader).take(range.start), &mut io::sink());
                let skipped = skipped.map_err(|source| HttpError::Read { url: url.clone(), source })?;
                if skipped < range.start {
                    return Err(HttpError::Range { url });
                }
            }
            status => return Err(HttpError::Status { url, status }),
        }
        Ok(reader.take(range.end - range.start))
    }

    /// Posts JSON; `None` for any answer but 200.
    ///
    /// # Errors
    /// [`HttpError`]
    pub fn post(&self, path: &str, body: Vec<u8>, max_bytes: u64) -> Result<Option<Vec<u8>>, HttpError> {
        let url = self.url(path);
        let request = self.client.post(&url).header(reqwest::header::CONTENT_TYPE, "application/json");
        let response = request.body(body).send().map_err(|error| refused(&url, &error))?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = Steady::new(response).take(max_bytes).read_to_end(&mut bytes);
        read.map_err(|source| HttpError::Read { url, source })?;
        Ok(Some(bytes))
    }
}

fn refused(url: &str, error: &reqwest::Error) -> HttpError {
    HttpError::Request { url: url.to_owned(), message: chain(error) }
}

/// The image's certificates; none when there is no such file, which leaves http.
fn certificates() -> rustls::RootCertStore {
    let mut store = rustls::RootCertStore::empty();
    if let Ok(found) = CertificateDer::pem_file_iter(CERTIFICATES) {
        store.add_parsable_certificates(found.flatten());
    }
    store
}

/// A reader that gives up on a line which only drips. Only time that is spent waiting for the line counts: a slow disk is not
/// its fault.
struct Steady {
    response: Response,
    waited: Duration,
    bytes: u64,
}

impl Steady {
    const fn new(response: Response) -> Self {
        Self { response, waited: Duration::ZERO, bytes: 0 }
    }
}

impl Read for Steady {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let before = Instant::now();
        let count = self.response.read(buffer)?;
        self.waited += before.elapsed();
        self.bytes += count as u64;
        if self.bytes >= DRIP_BYTES {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        } else if self.waited > DRIP_TIME && count > 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the line only drips"));
        }
        Ok(count)
    }
}
