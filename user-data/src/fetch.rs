//! Fetching over HTTP(S), as patient as a machine that comes up beside its server has to be.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{NoProxy, Proxy, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::source::LARGEST;

/// CA certificates of the image and of whoever added some.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Pause before the second try; each later one is twice as long, up to the longest. Ignition's figures.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long an answer may take to begin unless the configuration says otherwise (Ignition's `httpResponseHeaders`).
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How requests are made.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// PEM texts of CA certificates besides the image's.
    pub authorities: Vec<Vec<u8>>,
    /// How long an answer may take to begin.
    pub answer_limit: Option<Duration>,
    /// Proxy of `http:` URLs.
    pub http_proxy: Option<String>,
    /// Proxy of `https:` URLs.
    pub https_proxy: Option<String>,
    /// Hosts that are asked directly.
    pub no_proxy: Vec<String>,
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client itself.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// A proxy or header is not one.
    #[error("{what} {value:?} cannot be used")]
    Setting {
        /// What it is.
        what: &'static str,
        /// As it stands.
        value: String,
    },
    /// A certificate.
    #[error("a CA certificate of the configuration cannot be read: {0}")]
    Authority(String),
    /// The server has refused.
    #[error("{url}: the server answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// No answer in time.
    #[error("{url}: nothing came in {} seconds; the last try: {last}", waited.as_secs())]
    Silence {
        /// What was asked for.
        url: String,
        /// How long.
        waited: Duration,
        /// What happened last.
        last: String,
    },
    /// Too much came.
    #[error("{url}: more than {LARGEST} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
    },
}

/// A client.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
}

/// What a single try came to.
enum Try {
    Done(Vec<u8>),
    Refused(StatusCode),
    TooLarge,
    Again(String),
}

impl Fetcher {
    /// Sets a client up.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn new(manner: &Manner) -> Result<Self, FetchError> {
        let mut roots = rustls::RootCertStore::empty();
        // Without the bundle only `https:` fails, and says so.
        let bundle = fs::read(Path::new(CA_BUNDLE)).unwrap_or_default();
        let certificates = CertificateDer::pem_slice_iter(&bundle).flatten();
        let _counts = roots.add_parsable_certificates(certificates);
        for authority in &manner.authorities {
            let refused = |error: &dyn std::fmt::Display| FetchError::Authority(error.to_string());
            for certificate in CertificateDer::pem_slice_iter(authority) {
                let certificate = certificate.map_err(|error| refused(&error))?;
                roots.add(certificate).map_err(|error| refused(&error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|error| unreachable!("ring has the default protocol versions: {error}"))
            .with_root_certificates(roots)
            .with_no_client_auth();
        let limit = manner.answer_limit.unwrap_or(ANSWER_LIMIT);
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(limit)
            .timeout(limit) // in the blocking client: for each operation
            .user_agent(concat!("ferrite-user-data/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        let direct = NoProxy::from_string(&manner.no_proxy.join(","));
        let proxies = [(&manner.http_proxy, "http"), (&manner.https_proxy, "https")];
        for (url, scheme) in proxies.into_iter().filter_map(|(url, scheme)| Some((url.as_ref()?, scheme))) {
            let proxy = if scheme == "http" { Proxy::http(url) } else { Proxy::https(url) };
            let proxy = proxy.map_err(|_| FetchError::Setting { what: "the proxy", value: url.clone() })?;
            builder = builder.proxy(proxy.no_proxy(direct.clone()));
        }
        Ok(Self { client: builder.build().map_err(FetchError::Client)? })
    }

    /// Fetches `url`, again and again until something comes or `deadline` has passed. Answers below 500 are final.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn get(
        &self,
        url: &str,
        headers: &[(String, String)],
        deadline: Instant,
    ) -> Result<Vec<u8>, FetchError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let refused = |_| FetchError::Setting { what: "the header", value: name.clone() };
            let name = HeaderName::try_from(name).map_err(|error| refused(error.to_string()))?;
            let value = HeaderValue::try_from(value).map_err(|error| refused(error.to_string()))?;
            map.append(name, value);
        }
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let last = match self.attempt(url, &map) {
                Try::Done(bytes) => return Ok(bytes),
                Try::Refused(status) => return Err(FetchError::Status { url: url.to_owned(), status }),
                Try::TooLarge => return Err(FetchError::TooLarge { url: url.to_owned() }),
                Try::Again(why) => why,
            };
            if Instant::now() + pause > deadline {
                return Err(FetchError::Silence { url: url.to_owned(), waited: start.elapsed(), last });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn attempt(&self, url: &str, headers: &HeaderMap) -> Try {
        let response = match self.client.get(url).headers(headers.clone()).send() {
            Ok(response) => response,
            Err(error) => return Try::Again(causes(&error.without_url())),
        };
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Try::Again(format!("the server answers {status}"));
        }
        if status != StatusCode::OK {
            return Try::Refused(status);
        }
        body(response)
    }
}

fn body(response: Response) -> Try {
    let mut bytes = Vec::new();
    match response.take(u64::from(LARGEST) + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > u64::from(LARGEST) => Try::TooLarge,
        Ok(_) => Try::Done(bytes),
        Err(error) => Try::Again(causes(&error)),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    init::early::console::chain(error)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request after the other with these texts; returns the base of its URLs, and what it was asked.
    fn server(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(|line| line.ok().filter(|line| !line.is_empty()))
                    .collect();
                asked.push(head.join("\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (base, thread)
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const GONE: &str = "HTTP/1.1 404 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
        let fetcher = Fetcher::new(&Manner::default()).unwrap();
        let (base, thread) = server(vec![BUSY, "", OK, GONE]);
        let headers = [("X-One".to_owned(), "two".to_owned())];
        assert_eq!(fetcher.get(&format!("{base}/a?b"), &headers, soon()).unwrap(), b"hi");
        let error = fetcher.get(&base, &[], soon()).unwrap_err().to_string();
        assert!(error.ends_with("the server answers 404 Not Found"), "{error}");
        let asked = thread.join().unwrap();
        assert!(asked[2].starts_with("GET /a?b HTTP/1.1\n") && asked[2].contains("x-one: two"), "{asked:?}");
    }

    #[test]
    fn there_is_an_end_to_waiting() {
        let fetcher = Fetcher::new(&Manner::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let error = fetcher.get(&url, &[], Instant::now() + Duration::from_millis(250)).unwrap_err();
        assert!(error.to_string().contains("nothing came in 0 seconds; the last try:"), "{error}");
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let bad = |manner| Fetcher::new(&manner).unwrap_err().to_string();
        let proxy = Manner { http_proxy: Some("://".to_owned()), ..Manner::default() };
        assert_eq!(bad(proxy), "the proxy \"://\" cannot be used");
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        assert!(bad(Manner { authorities: vec![pem], ..Manner::default() }).starts_with("a CA certificate"));
    }
}
