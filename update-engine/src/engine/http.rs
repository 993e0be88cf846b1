//! Fetching from a channel folder: blocking, with limits on everything that a server can stretch.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
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
struct Steady<R> {
    line: R,
    limit: Duration,
    waited: Duration,
    bytes: u64,
}

impl<R> Steady<R> {
    const fn new(line: R) -> Self {
        Self { line, limit: DRIP_TIME, waited: Duration::ZERO, bytes: 0 }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let before = Instant::now();
        let count = self.line.read(buffer)?;
        self.waited += before.elapsed();
        self.bytes += count as u64;
        if self.bytes >= DRIP_BYTES {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        } else if self.waited > self.limit && count > 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the line only drips"));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    /// Answers every request by what `answer` makes of its path, one to a connection: an answer has to say
    /// `Connection: close`, or the next request may go out on a connection that is just ending.
    fn server(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let request = lines.next().unwrap_or_default();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                // A client that has read enough goes away.
                let _ = stream.write_all(&answer(request.split(' ').nth(1).unwrap_or_default()));
            }
        });
        base
    }

    fn ok(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}").into_bytes()
    }

    fn redirect(to: &str) -> Vec<u8> {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .into_bytes()
    }

    #[test]
    fn redirects_within_the_server_are_followed_and_others_refused() {
        let elsewhere = server(|_| ok("from elsewhere"));
        let here = server(move |path| match path {
            "/moved" => redirect("/new"),
            "/new" => ok("from here"),
            "/away" => redirect(&format!("{elsewhere}/x")),
            _ => redirect("/round"),
        });
        let http = Http::new(&here).unwrap();
        assert_eq!(http.get("moved", 100).unwrap().unwrap(), b"from here");
        let away = http.get("away", 100).unwrap_err().to_string();
        assert!(away.contains("redirect to another server refused"), "{away}");
        let round = http.get("round", 100).unwrap_err().to_string();
        assert!(round.contains("too many redirects"), "{round}");
    }

    #[test]
    fn endless_data_is_cut_off_and_a_wrong_range_refused() {
        let base = server(|path| {
            match path {
            "/long" => ok(&"x".repeat(1 << 20)),
            "/other" => {
                b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nConnection: close\r\n\r\nwrong".to_vec()
            }
            "/whole" => ok("0123456789"),
            _ => b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n".to_vec(),
        }
        });
        let http = Http::new(&base).unwrap();
        assert!(matches!(http.get("long", 1000), Err(HttpError::TooLong { max_bytes: 1000, .. })));
        assert!(matches!(http.open("other", &(2..7)).map(drop), Err(HttpError::Range { .. })));
        assert!(matches!(http.get("busy", 1000), Err(HttpError::Status { .. })));
        let mut middle = String::new();
        http.open("whole", &(2..5)).unwrap().read_to_string(&mut middle).unwrap();
        assert_eq!(middle, "234", "a server that does not know ranges costs only bytes");
    }

    #[test]
    fn a_line_that_drips_is_given_up() {
        struct Drip;
        impl Read for Drip {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(1));
                if let Some(byte) = buffer.first_mut() {
                    *byte = 0;
                }
                Ok(1)
            }
        }
        let mut line = Steady { limit: Duration::from_millis(50), ..Steady::new(Drip) };
        let error = line.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut steady = Steady { limit: Duration::ZERO, ..Steady::new(&[7_u8; 100 << 10][..]) };
        let mut bytes = vec![0; 100 << 10];
        // 20 KiB at a time are no dripping, however long they took.
        bytes.chunks_mut(20 << 10).for_each(|chunk| steady.read_exact(chunk).unwrap());
    }
}
