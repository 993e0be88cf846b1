//! The shell around the state machines: connections, certificates, clocks.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::AUTHORIZATION;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::failover::{Failover, Next};
use crate::message::{
    Authenticate, DeleteRequest, DeleteResponse, ErrorBody, HeaderResponse, KeyRange, KeyValue, Lease,
    LeaseId, PutRequest, RangeRequest, RangeResponse, Revision, Streamed, TimeToLive, TimeToLiveRequest,
    Token, Transaction, TransactionRequest, TransactionResponse, TransactionResult, WatchCreate,
    WatchRequest,
};
use crate::tls;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long a read of a watch waits before its thread looks whether anybody still wants it.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(5);
/// A peer that has vanished without a word is noticed by the kernel after this and three probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// An answer that is longer is refused: etcd takes requests of 1.5 MiB at most, and [`Client::snapshot`] reads in pages.
const LONGEST_ANSWER: u64 = 64 << 20;
/// Keys on a page.
const PAGE: i64 = 1000;

/// Codes of gRPC, in the body of the gateway's errors.
mod code {
    pub const DEADLINE_EXCEEDED: i32 = 4;
    pub const NOT_FOUND: i32 = 5;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const OUT_OF_RANGE: i32 = 11;
    pub const UNAVAILABLE: i32 = 14;
    pub const UNAUTHENTICATED: i32 = 16;
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No endpoints.
    #[error("no endpoints are given")]
    NoEndpoints,
    /// A PEM file.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// Only one of certificate and key.
    #[error("a client certificate needs its key, and a key its certificate")]
    HalfOfAPair,
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("cannot set up HTTP")]
    Http(#[source] reqwest::Error),
    /// No endpoint did what was asked for within the time. Nothing has been changed.
    #[error("no member of the cluster answers: {last}")]
    Unavailable {
        /// What the last attempt came to.
        last: String,
    },
    /// A change was sent, and what became of it is not known: it may have happened, or may still happen.
    #[error("it is not known whether the change was made: {last}")]
    Unknown {
        /// What the attempt came to.
        last: String,
    },
    /// The revision that was asked for is gone.
    #[error("the revision has been compacted")]
    Compacted,
    /// An answer that no memory is given for.
    #[error("{endpoint} answers with more than {LONGEST_ANSWER} bytes")]
    TooLong {
        /// Who.
        endpoint: String,
    },
    /// etcd refuses.
    #[error("{message}")]
    Refused {
        /// A code of gRPC.
        code: i32,
        /// etcd's words.
        message: String,
    },
    /// The answer makes no sense.
    #[error("{endpoint} sent something that is no answer of etcd's gateway: {problem}")]
    Garbled {
        /// Who.
        endpoint: String,
        /// What is wrong.
        problem: String,
    },
}

/// What became of one attempt.
enum Attempt {
    /// The request did not reach etcd, or etcd has said that it did nothing.
    NotDone(String),
    /// It may have been done.
    Unknown(String),
    /// A final answer.
    Final(Error),
    /// The token has run out.
    NewToken,
}

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Freely,
    UnlessItMayHaveHappened,
}

/// What is shown of a request before it is sent: its URL and its body.
type Trace = Box<dyn Fn(&str, &[u8]) + Send + Sync>;

struct Inner {
    trace: Option<Trace>,
    http: Http,
    config: Config,
    failover: Mutex<Failover>,
    token: Mutex<Option<String>>,
    begun: Instant,
    chance: RandomState,
}

/// A client of one cluster; clones share their connections and what they know of its members.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// No endpoints, or files for TLS that cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        Self::build(config, None)
    }

    /// The same; `trace` is shown the URL and the body of every request but those that carry a password.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn traced(
        config: Config,
        trace: impl Fn(&str, &[u8]) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::build(config, Some(Box::new(trace)))
    }

    fn build(config: Config, trace: Option<Trace>) -> Result<Self, Error> {
        if config.endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        let is_secured = config.endpoints.iter().any(|url| url.starts_with("https:"));
        let http = Http::builder()
            .tls_backend_preconfigured(tls::client_config(&config.tls, is_secured)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_LIMIT.min(config.attempt))
            // Of each read of a watch; calls have limits of their own.
            .timeout(READ_LIMIT)
            .tcp_keepalive(KEEPALIVE)
            .tcp_nodelay(true)
            .user_agent(concat!("ferrite-kv/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::Http)?;
        let failover = Mutex::new(Failover::new(config.endpoints.len()));
        let inner = Inner {
            trace,
            http,
            config,
            failover,
            token: Mutex::default(),
            begun: Instant::now(),
            chance: RandomState::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The keys of a range and the revision that they are of. Linearizable: what was acknowledged before is seen.
    ///
    /// # Errors
    /// [`Error`]
    pub fn range(&self, range: &KeyRange) -> Result<(Vec<KeyValue>, Revision), Error> {
        let answer: RangeResponse = self.call("kv/range", &RangeRequest::of(range), Repeat::Freely)?;
        Ok((answer.kvs, answer.header.revision))
    }

    /// The keys of a range as they were at a revision.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Compacted`] when that is gone.
    pub fn range_at(&self, range: &KeyRange, revision: Revision) -> Result<Vec<KeyValue>, Error> {
        let request = RangeRequest { revision, ..RangeRequest::of(range) };
        let answer: RangeResponse = self.call("kv/range", &request, Repeat::Freely)?;
        Ok(answer.kvs)
    }

    /// One key.
    ///
    /// # Errors
    /// [`Error`]
    pub fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<KeyValue>, Error> {
        Ok(self.range(&KeyRange::key(key))?.0.pop())
    }

    /// All keys of a range as they were at one revision, read in pages.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Compacted`] when the revision went away between two pages.
    pub fn snapshot(&self, range: &KeyRange) -> Result<(Vec<KeyValue>, Revision), Error> {
        self.snapshot_of_cluster(range).map(|(kvs, revision, _)| (kvs, revision))
    }

    pub(crate) fn snapshot_of_cluster(
        &self,
        range: &KeyRange,
    ) -> Result<(Vec<KeyValue>, Revision, u64), Error> {
        let (mut kvs, mut revision, mut rest) = (Vec::<KeyValue>::new(), 0, range.clone());
        let mut page = PAGE;
        loop {
            let request = RangeRequest { limit: page, revision, ..RangeRequest::of(&rest) };
            let answer: RangeResponse = match self.call("kv/range", &request, Repeat::Freely) {
                // Large values. One of them is never too long.
                Err(Error::TooLong { .. }) if page > 1 => {
                    page = (page / 8).max(1);
                    continue;
                }
                answer => answer?,
            };
            if revision == 0 {
                revision = answer.header.revision;
            }
            kvs.extend(answer.kvs);
            match kvs.last() {
                Some(last) if answer.more && !range.is_key() => rest = range.after(&last.key),
                _ => return Ok((kvs, revision, answer.header.cluster_id)),
            }
        }
    }

    /// Sets a key; returns the store's revision.
    ///
    /// # Errors
    /// [`Error`]
    pub fn put(&self, key: &[u8], value: &[u8], lease: LeaseId) -> Result<Revision, Error> {
        let request = PutRequest { key, value, lease };
        let answer: HeaderResponse = self.call("kv/put", &request, Repeat::UnlessItMayHaveHappened)?;
        Ok(answer.header.revision)
    }

    /// Removes keys; returns how many there were, and the store's revision.
    ///
    /// # Errors
    /// [`Error`]
    pub fn delete(&self, range: &KeyRange) -> Result<(i64, Revision), Error> {
        let request = DeleteRequest::of(range);
        let answer: DeleteResponse =
            self.call("kv/deleterange", &request, Repeat::UnlessItMayHaveHappened)?;
        Ok((answer.deleted, answer.header.revision))
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Unknown`] leaves open whether it happened.
    pub fn transact(&self, transaction: &Transaction) -> Result<TransactionResult, Error> {
        let request = TransactionRequest::from(transaction);
        let repeat = if transaction.only_reads() { Repeat::Freely } else { Repeat::UnlessItMayHaveHappened };
        let answer: TransactionResponse = self.call("kv/txn", &request, repeat)?;
        Ok(answer.into())
    }

    /// A lease of `ttl` seconds; returns its number and the seconds that it got. One that is granted without our hearing of it
    /// ends by itself.
    ///
    /// # Errors
    /// [`Error`]
    pub fn grant(&self, ttl: i64) -> Result<(LeaseId, i64), Error> {
        let answer: Lease = self.call("lease/grant", &Lease { id: 0, ttl }, Repeat::Freely)?;
        Ok((answer.id, answer.ttl))
    }

    /// Renews a lease; returns the seconds that it has now, 0 when there is none of that number.
    ///
    /// # Errors
    /// [`Error`]
    pub fn keep_alive(&self, id: LeaseId) -> Result<i64, Error> {
        let answer: Streamed<Lease> = self.call("lease/keepalive", &Lease { id, ttl: 0 }, Repeat::Freely)?;
        match (answer.result, answer.error) {
            (Some(lease), _) => Ok(lease.ttl),
            (None, error) => {
                let ErrorBody { code, message } = error.unwrap_or_default();
                Err(Error::Refused { code, message })
            }
        }
    }

    /// Ends a lease, and with it its keys. One that is unknown has ended before.
    ///
    /// # Errors
    /// [`Error`]
    pub fn revoke(&self, id: LeaseId) -> Result<(), Error> {
        let answer: Result<HeaderResponse, Error> =
            self.call("lease/revoke", &Lease { id, ttl: 0 }, Repeat::Freely);
        match answer {
            Err(Error::Refused { code: code::NOT_FOUND, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How long a lease lasts.
    ///
    /// # Errors
    /// [`Error`]
    pub fn time_to_live(&self, id: LeaseId) -> Result<TimeToLive, Error> {
        self.call("lease/timetolive", &TimeToLiveRequest { id }, Repeat::Freely)
    }

    /// Throws away what was before `revision`.
    ///
    /// # Errors
    /// [`Error`]
    pub fn compact(&self, revision: Revision) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Compaction {
            revision: String,
        }
        let request = Compaction { revision: revision.to_string() };
        let answer: Result<HeaderResponse, Error> = self.call("kv/compaction", &request, Repeat::Freely);
        answer.map(|_| ())
    }

    /// Whether the member at a URL says that it is healthy (`/health`, which needs no login).
    ///
    /// # Errors
    /// What it said or why it could not be asked, in one line.
    pub fn is_healthy(&self, url: &str) -> Result<bool, String> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Health {
            health: serde_json::Value,
        }
        let request = self.inner.http.get(format!("{url}/health")).timeout(self.inner.config.attempt);
        let mut bytes = Vec::new();
        let response = request.send().map_err(|error| chain(&error))?;
        response.take(1 << 16).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let answer: Health = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        Ok(answer.health == "true" || answer.health == true)
    }

    /// Milliseconds since this client was made: the clock of the state machines.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.inner.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A random number.
    #[must_use]
    pub fn random(&self) -> u64 {
        let mut hasher = self.inner.chance.build_hasher();
        hasher.write_u128(self.inner.begun.elapsed().as_nanos());
        hasher.finish()
    }

    /// Opens the stream of a watch at the endpoint that is to be asked now.
    pub(crate) fn open_watch(&self, range: &KeyRange, from: Revision) -> Result<WatchStream, Error> {
        let request = WatchRequest { create_request: WatchCreate::of(range, from) };
        let send = |url: &str| self.request(url, "watch", &request);
        let (response, index) = self.attempts(Repeat::Freely, &send, &|response, _| Ok(response))?;
        Ok(WatchStream { response, index })
    }

    /// The stream of a watch has ended: another member is asked next.
    pub(crate) fn watch_failed(&self, stream: &WatchStream) {
        lock(&self.inner.failover).failed(stream.index, self.now(), self.random());
    }

    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
        repeat: Repeat,
    ) -> Result<T, Error> {
        let limit = self.inner.config.attempt;
        let send = |url: &str| self.request(url, path, request).map(|request| request.timeout(limit));
        let read = |response: Response, url: &str| {
            let mut bytes = Vec::new();
            let read = response.take(LONGEST_ANSWER).read_to_end(&mut bytes);
            let count = read.map_err(|error| Attempt::Unknown(format!("{url}: {error}")))?;
            if u64::try_from(count).is_ok_and(|count| count >= LONGEST_ANSWER) {
                return Err(Attempt::Final(Error::TooLong { endpoint: url.to_owned() }));
            }
            serde_json::from_slice(&bytes).map_err(|error| {
                Attempt::Final(Error::Garbled { endpoint: url.to_owned(), problem: error.to_string() })
            })
        };
        self.attempts(repeat, &send, &read).map(|(answer, _)| answer)
    }

    fn request(&self, url: &str, path: &str, request: &impl Serialize) -> Result<RequestBuilder, Error> {
        let body = serde_json::to_vec(request).map_err(|error| Error::Garbled {
            endpoint: "this client".to_owned(),
            problem: error.to_string(),
        })?;
        let url_of_call = format!("{url}/v3/{path}");
        if path == "auth/authenticate" {
            return Ok(self.inner.http.post(url_of_call).body(body));
        }
        let token = self.token(url)?;
        if let Some(trace) = &self.inner.trace {
            trace(&url_of_call, &body);
        }
        let builder = self.inner.http.post(url_of_call).body(body);
        Ok(match token {
            Some(token) => builder.header(AUTHORIZATION, token),
            None => builder,
        })
    }

    /// Sends a request to one endpoint after the other until one has a final answer or the time is up.
    fn attempts<T>(
        &self,
        repeat: Repeat,
        send: &dyn Fn(&str) -> Result<RequestBuilder, Error>,
        read: &dyn Fn(Response, &str) -> Result<T, Attempt>,
    ) -> Result<(T, usize), Error> {
        let deadline = Instant::now() + self.inner.config.deadline;
        let mut last = "none could be asked".to_owned();
        let mut tokens = 0;
        loop {
            let next = lock(&self.inner.failover).next(self.now());
            let index = match next {
                Next::Ask(index) => index,
                Next::Wait(pause) => {
                    let pause = Duration::from_millis(pause);
                    if Instant::now() + pause >= deadline {
                        return Err(Error::Unavailable { last });
                    }
                    std::thread::sleep(pause);
                    continue;
                }
            };
            // `Failover` counts the same endpoints.
            let url = self.inner.config.endpoints.get(index).map_or("", String::as_str);
            let attempt = send(url).map_err(Attempt::Final).and_then(|request| answered(request, url));
            match attempt.and_then(|response| read(response, url)) {
                Ok(answer) => {
                    lock(&self.inner.failover).answered(index);
                    return Ok((answer, index));
                }
                Err(Attempt::Final(error)) => {
                    if !matches!(error, Error::Garbled { .. } | Error::Unavailable { .. }) {
                        lock(&self.inner.failover).answered(index);
                    }
                    return Err(error);
                }
                Err(Attempt::NewToken) if tokens == 0 => {
                    tokens += 1;
                    *lock(&self.inner.token) = None;
                }
                Err(Attempt::NewToken) => {
                    let message = "the cluster does not take its own token".to_owned();
                    return Err(Error::Refused { code: code::UNAUTHENTICATED, message });
                }
                Err(Attempt::Unknown(why)) if repeat == Repeat::UnlessItMayHaveHappened => {
                    lock(&self.inner.failover).failed(index, self.now(), self.random());
                    return Err(Error::Unknown { last: why });
                }
                Err(Attempt::Unknown(why) | Attempt::NotDone(why)) => {
                    lock(&self.inner.failover).failed(index, self.now(), self.random());
                    last = why;
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Unavailable { last });
            }
        }
    }

    /// The token of the user that the configuration names, from the endpoint that is about to be asked.
    fn token(&self, url: &str) -> Result<Option<String>, Error> {
        let Some(credentials) = &self.inner.config.credentials else { return Ok(None) };
        let mut kept = lock(&self.inner.token);
        if kept.is_none() {
            let login = Authenticate { name: &credentials.user, password: &credentials.password };
            let request = self.request(url, "auth/authenticate", &login)?.timeout(self.inner.config.attempt);
            let response = match answered(request, url) {
                Ok(response) => response,
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::NotDone(last) | Attempt::Unknown(last)) => {
                    return Err(Error::Unavailable { last });
                }
                Err(Attempt::NewToken) => return Ok(None),
            };
            let token: Result<Token, _> = serde_json::from_reader(response.take(LONGEST_ANSWER));
            let garbled = |error: serde_json::Error| Error::Garbled {
                endpoint: url.to_owned(),
                problem: error.to_string(),
            };
            *kept = Some(token.map_err(garbled)?.token);
        }
        Ok(kept.clone())
    }
}

/// The stream of a watch.
pub(crate) struct WatchStream {
    pub response: Response,
    index: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a request; an answer that is an error is sorted.
fn answered(request: RequestBuilder, url: &str) -> Result<Response, Attempt> {
    let response = request.send().map_err(|error| {
        let text = format!("{url}: {}", chain(&error));
        // Without a connection nothing was sent.
        if error.is_connect() || error.is_builder() { Attempt::NotDone(text) } else { Attempt::Unknown(text) }
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut bytes = Vec::new();
    let read = response.take(1 << 16).read_to_end(&mut bytes);
    let body = read.ok().and_then(|_| serde_json::from_slice::<ErrorBody>(&bytes).ok());
    match body {
        Some(body) => Err(sorted(body, url)),
        // Something before etcd, or no etcd at all.
        None => Err(Attempt::Unknown(format!("{url}: the answer is {status}"))),
    }
}

/// What an error of etcd's means for the attempt (`etcdserver/api/v3rpc/rpctypes/error.go`).
fn sorted(body: ErrorBody, url: &str) -> Attempt {
    let ErrorBody { code, message } = body;
    match code {
        // "too many requests": refused before anything was done.
        code::RESOURCE_EXHAUSTED if message.contains("too many requests") => {
            Attempt::NotDone(format!("{url}: {message}"))
        }
        // No leader, the leader changed, a timeout: a proposal may be on its way all the same.
        code::UNAVAILABLE | code::DEADLINE_EXCEEDED => Attempt::Unknown(format!("{url}: {message}")),
        code::UNAUTHENTICATED if message.contains("invalid auth token") => Attempt::NewToken,
        code::OUT_OF_RANGE if message.contains("compacted") => Attempt::Final(Error::Compacted),
        _ => Attempt::Final(Error::Refused { code, message }),
    }
}

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsFiles;

    #[test]
    fn errors_of_etcd_are_sorted_by_what_they_leave_open() {
        let attempt =
            |code, message: &str| sorted(ErrorBody { code, message: message.to_owned() }, "http://a");
        assert!(matches!(attempt(14, "etcdserver: request timed out"), Attempt::Unknown(_)));
        assert!(matches!(attempt(14, "etcdserver: leader changed"), Attempt::Unknown(_)));
        assert!(matches!(attempt(8, "etcdserver: too many requests"), Attempt::NotDone(_)));
        assert!(matches!(attempt(8, "etcdserver: mvcc: database space exceeded"), Attempt::Final(_)));
        assert!(matches!(
            attempt(11, "etcdserver: mvcc: required revision has been compacted"),
            Attempt::Final(Error::Compacted)
        ));
        assert!(matches!(attempt(16, "etcdserver: invalid auth token"), Attempt::NewToken));
        assert!(matches!(
            attempt(3, "etcdserver: user name is empty"),
            Attempt::Final(Error::Refused { code: 3, .. })
        ));
    }

    #[test]
    fn half_of_a_pair_and_missing_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.pem");
        let client = |tls| Client::new(Config { tls, ..Config::default() });
        let half = client(TlsFiles { key: Some(missing.clone()), ..TlsFiles::default() });
        assert!(matches!(half, Err(Error::HalfOfAPair)));
        let absent = client(TlsFiles { ca: Some(missing.clone()), ..TlsFiles::default() });
        assert!(matches!(absent, Err(Error::File { path, .. }) if path == missing));
        std::fs::write(&missing, "no certificate").unwrap();
        let empty = client(TlsFiles { ca: Some(missing.clone()), ..TlsFiles::default() });
        assert!(matches!(empty, Err(Error::File { .. })));
        assert!(matches!(
            Client::new(Config { endpoints: vec![], ..Config::default() }),
            Err(Error::NoEndpoints)
        ));
    }

    #[test]
    fn a_cluster_that_is_away_costs_no_more_than_the_deadline() {
        // Nothing listens on port 1 of loopback.
        let config = Config {
            endpoints: vec!["http://127.0.0.1:1".to_owned(); 2],
            deadline: Duration::from_millis(700),
            ..Config::default()
        };
        let begun = Instant::now();
        let client = Client::new(config).unwrap();
        assert!(matches!(client.put(b"a", b"1", 0), Err(Error::Unavailable { .. })));
        assert!(matches!(client.get("a"), Err(Error::Unavailable { .. })));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
