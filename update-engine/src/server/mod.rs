//! The channel server: the channel folder over HTTP, reports of machines, groups that hold, and a page to look at.
//!
//! Built with feature `server` alone, so that nothing of it reaches a machine. It signs nothing and holds no keys: whoever
//! takes it over can withhold updates, as whoever owns the wire can, and forge nothing. Deliberately absent: TLS (put a
//! proxy in front), accounts (it listens on loopback unless told otherwise), compression (payloads are compressed).

mod files;
mod groups;
mod http;
mod page;
mod store;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use self::files::Files;
use self::groups::{GroupsFile, advise};
use self::page::{Status, html, json, plain};
use self::store::{Store, StoreError};
use crate::causes::chain;
use crate::channel::{ChannelName, METADATA_FOLDER, report};

pub use self::groups::{Group, Groups};

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 1024;
/// A client has so long to send the head of a request, and as long again for a report.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is being answered when a signal comes has so long to end.
const GRACE: Duration = Duration::from_secs(10);

/// Why the server ends.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no channel folder.
    #[error("{} is no channel folder: it has no {METADATA_FOLDER}/; hint: `ferrite publish init` makes one", .0.display())]
    Folder(PathBuf),
    /// The folder of the store cannot be made, or lies where it would be served.
    #[error("cannot keep reports in {}", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system refuses threads, signals or stdout.
    #[error("cannot start the server")]
    Start(#[source] std::io::Error),
    /// The file of groups cannot be read or written.
    #[error("cannot use {}", path.display())]
    Groups {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What to serve, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The channel folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Address and port; 0 is any free port. Machines elsewhere need another address than loopback
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where reports and groups are kept, outside the channel folder [default: DIR.state]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// How many machines are kept at most; reports of others are refused
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_machines: u64,
}

/// What a group is to become.
#[derive(Debug, Clone, clap::Args)]
pub struct GroupOptions {
    /// The channel folder
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The group, as machines name it (`GROUP=`) [default: shows all]
    #[arg(value_name = "GROUP", value_parser = parse_group)]
    pub group: Option<ChannelName>,
    /// Machines of a hundred that may go on
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100), requires = "group")]
    pub percentage: Option<u8>,
    /// Nobody may go on
    #[arg(long, requires = "group", conflicts_with_all = ["start", "forget"])]
    pub stop: bool,
    /// Ends --stop
    #[arg(long, requires = "group", conflicts_with = "forget")]
    pub start: bool,
    /// Why, for the owners of machines
    #[arg(long, value_name = "TEXT", requires = "group")]
    pub reason: Option<String>,
    /// Withhold nothing from the group any more
    #[arg(long, requires = "group")]
    pub forget: bool,
    /// Where reports and groups are kept [default: DIR.state]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Print the groups as JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_group(text: &str) -> Result<ChannelName, String> {
    ChannelName::parse(text).ok_or_else(|| format!("{text:?} is no name of a group"))
}

/// The folder of the store: beside the channel folder, never in it, for a plain file server would serve it.
fn state_folder(folder: &Path, given: Option<&PathBuf>) -> Result<PathBuf, ServerError> {
    let path = given.cloned().unwrap_or_else(|| {
        let mut name = folder.file_name().unwrap_or(folder.as_os_str()).to_owned();
        name.push(".state");
        folder.with_file_name(name)
    });
    let failed = |source| ServerError::State { path: path.clone(), source };
    std::fs::create_dir_all(&path).map_err(failed)?;
    let inside = path.canonicalize().and_then(|path| Ok(path.starts_with(folder.canonicalize()?)));
    if inside.map_err(failed)? {
        return Err(failed(std::io::Error::other("it lies in the channel folder, and would be served")));
    }
    Ok(path)
}

fn groups_file(state: &Path) -> PathBuf {
    state.join("groups.json")
}

/// Changes a group, if the options say how, and returns all groups. A running server sees the change at once.
///
/// # Errors
/// The file of groups cannot be read or written.
pub fn change_groups(options: &GroupOptions) -> Result<Groups, ServerError> {
    let path = groups_file(&state_folder(&options.folder, options.state.as_ref())?);
    let failed = |source| ServerError::Groups { path: path.clone(), source };
    let mut all = groups::read(&path).map_err(failed)?;
    let Some(name) = &options.group else { return Ok(all) };
    if options.forget {
        all.remove(name);
    } else {
        let group = all.entry(name.clone()).or_default();
        group.percentage = options.percentage.unwrap_or(group.percentage);
        group.stopped = (group.stopped || options.stop) && !options.start;
        group.reason = options.reason.clone().or(group.reason.take());
    }
    groups::write(&path, &all).map_err(failed)?;
    Ok(all)
}

/// What requests need.
#[derive(Debug)]
struct Server {
    files: Files,
    store: Store,
    groups: GroupsFile,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServerError`]
pub fn run(options: &Options) -> Result<(), ServerError> {
    if !options.folder.join(METADATA_FOLDER).is_dir() {
        return Err(ServerError::Folder(options.folder.clone()));
    }
    let state = state_folder(&options.folder, options.state.as_ref())?;
    let server = Server {
        files: Files::new(options.folder.clone()),
        store: Store::open(&state.join("reports.redb"), options.max_machines)?,
        groups: GroupsFile::new(groups_file(&state)),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().map_err(ServerError::Start)?;
    let server = Arc::new(server);
    runtime.block_on(listen(options, &server))?;
    // Transfers that had no time to end are dropped with the runtime.
    runtime.shutdown_timeout(Duration::from_secs(1));
    log("the channel server has ended");
    Ok(())
}

async fn listen(options: &Options, server: &Arc<Server>) -> Result<(), ServerError> {
    let address = options.listen;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Start)?;
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })?;
    let local = listener.local_addr().map_err(ServerError::Start)?;
    let line = format!("serving {} at http://{local}/", options.folder.display());
    writeln!(std::io::stdout(), "{line}").map_err(ServerError::Start)?;
    if !local.ip().is_loopback() {
        log("warning: everybody who reaches this address sees the reports, and can send some");
    }
    let router = Router::new().fallback(answer).with_state(Arc::clone(server));
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let accepted = async {
            // Never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => (place, stream),
                Err(error) => {
                    // No more file descriptors, for instance: the next try must not come at once.
                    log(&format!("cannot take a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        serve_connection(stream, &router, &graceful, place);
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        log("some transfers were cut short");
    }
    Ok(())
}

fn serve_connection(
    stream: TcpStream,
    router: &Router,
    graceful: &GracefulShutdown,
    place: Option<tokio::sync::OwnedSemaphorePermit>,
) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Clients go away and talk nonsense: nothing to do about either.
        let _ = connection.await;
        drop(place);
    });
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let method = request.method().clone();
    if path == report::PATH {
        return if method == Method::POST {
            take_report(&server, request).await
        } else {
            not_allowed("POST")
        };
    }
    if method != Method::GET && method != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    match path.as_str() {
        "" | "v1/status" | "v1/machines" => {
            let own = Arc::clone(&server);
            let result = tokio::task::spawn_blocking(move || own.look(&path)).await;
            result.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "the reports cannot be read"))
        }
        _ => server.files.serve(&method, &path, request.headers()).await,
    }
}

fn not_allowed(methods: &'static str) -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// Keeps a report, then advises. What is not kept is not acknowledged.
async fn take_report(server: &Server, request: Request) -> Response {
    // A form of another web page cannot send this type without being asked by the browser first.
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "reports are application/json");
    }
    let body = match tokio::time::timeout(PATIENCE, to_bytes(request.into_body(), report::MAX_BYTES)).await {
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the report took too long"),
        Ok(Err(_)) => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the report is too long, or was cut short");
        }
        Ok(Ok(body)) => body,
    };
    let report = match report::Report::parse(&body) {
        Ok(report) => report,
        Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let (group, machine) = (report.group.clone(), report.machine.clone());
    match server.store.put(report, now()).await {
        Ok(()) => json(&advise(&server.groups.current(), &group, &machine)),
        Err(error) => {
            let status = match error {
                StoreError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            let mut response = plain(status, &error.to_string());
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("600"));
            response
        }
    }
}

impl Server {
    fn look(&self, path: &str) -> Response {
        let entries = match self.store.all() {
            Ok(entries) => entries,
            Err(error) => {
                log(&chain(&error));
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "the reports cannot be read");
            }
        };
        let now = now();
        let status = Status::new(&entries, self.groups.current(), now);
        match path {
            "v1/status" => json(&status),
            "v1/machines" => json(&entries),
            _ => html(status.html(&entries, now)),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A line for the log.
fn log(line: &str) {
    // A log that cannot be written is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}
