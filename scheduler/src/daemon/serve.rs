//! The sockets of the API: a thread for each, and one for each client while it is served.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kv::Revision;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_domain, socket_peercred};

use super::{Front, STACK, Shared};
use crate::api::entity::{ErrorBody, ErrorEntity};
use crate::api::http::{Request, RequestError, Response, read_request, write_response};
use crate::api::{self, Reply};

/// Clients at one time.
const MOST_CLIENTS: usize = 32;
/// Silence after which a client is cut off.
const CLIENT_LIMIT: Duration = Duration::from_secs(30);
/// How long a change waits for the picture to show it.
const PATIENCE: Duration = Duration::from_secs(3);
/// A request whose conditions somebody else has changed is looked at anew, so often.
const TRIES: usize = 8;

/// A socket, and how far those who connect are believed.
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Listens at the usual socket, or at what PID 1 has opened (sd_listen_fds(3)).
pub(super) fn listen(path: &Path, front: &Front) -> Result<Vec<thread::JoinHandle<()>>> {
    let mut listeners: Vec<Listener> = inherited().into_iter().filter_map(sort).collect();
    if !listeners.iter().any(|listener| matches!(listener, Listener::Unix(_))) {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // Of a daemon that is gone.
        let _absent = std::fs::remove_file(path);
        let listener =
            UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
        // Everybody may look; who may change things is asked of the kernel.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        listeners.push(Listener::Unix(listener));
    }
    let clients = Arc::new(AtomicUsize::new(0));
    let threads = listeners.into_iter().map(|listener| {
        let (front, clients) = (Arc::clone(front), Arc::clone(&clients));
        let accept = move || match listener {
            Listener::Unix(listener) => {
                for stream in listener.incoming().flatten() {
                    let privileged = is_privileged(&stream);
                    let limit = stream.set_read_timeout(Some(CLIENT_LIMIT));
                    if limit.and_then(|()| stream.set_write_timeout(Some(CLIENT_LIMIT))).is_ok() {
                        hand_off(&front, &clients, stream, privileged);
                    }
                }
            }
            Listener::Tcp(listener) => {
                for stream in listener.incoming().flatten() {
                    if with_limits(&stream).is_ok() {
                        // Whoever has made this socket has decided who reaches it.
                        hand_off(&front, &clients, stream, true);
                    }
                }
            }
        };
        let builder = thread::Builder::new().name("accept".to_owned()).stack_size(STACK);
        builder.spawn(accept).context("the system has no thread left")
    });
    threads.collect()
}

fn with_limits(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.set_write_timeout(Some(CLIENT_LIMIT))
}

fn inherited() -> Vec<OwnedFd> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if Some(pid) == own => {
            (3..3 + count.clamp(0, 64)).filter_map(init::sys::spawn::inherited).collect()
        }
        _ => Vec::new(),
    }
}

fn sort(socket: OwnedFd) -> Option<Listener> {
    match socket_domain(socket.as_fd()).ok()? {
        AddressFamily::UNIX => Some(Listener::Unix(UnixListener::from(socket))),
        AddressFamily::INET | AddressFamily::INET6 => Some(Listener::Tcp(TcpListener::from(socket))),
        _ => None,
    }
}

/// Root, whoever runs the daemon, and the user `core`, who may do what root may, as on Container Linux.
fn is_privileged(stream: &UnixStream) -> bool {
    let Ok(credentials) = socket_peercred(stream) else { return false };
    let uid = credentials.uid.as_raw();
    uid == 0 || uid == rustix::process::geteuid().as_raw() || Some(uid) == uid_of_core()
}

fn uid_of_core() -> Option<u32> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with("core:"))?;
    line.split(':').nth(2)?.parse().ok()
}

fn hand_off(
    front: &Front,
    clients: &Arc<AtomicUsize>,
    mut stream: impl Read + Write + Send + 'static,
    privileged: bool,
) {
    if clients.fetch_add(1, Ordering::SeqCst) >= MOST_CLIENTS {
        clients.fetch_sub(1, Ordering::SeqCst);
        // It sees that the connection ends; more cannot be done for it.
        let _gone = write_response(&mut stream, &refusal(503, "too many clients"));
        return;
    }
    let (front, counter) = (Arc::clone(front), Arc::clone(clients));
    let serve = move || {
        serve(&front, &mut stream, privileged);
        counter.fetch_sub(1, Ordering::SeqCst);
    };
    let builder = thread::Builder::new().name("client".to_owned()).stack_size(2 * STACK);
    if builder.spawn(serve).is_err() {
        clients.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refusal(status: u16, message: &str) -> Response {
    let body = ErrorBody { error: ErrorEntity { code: status, message: message.to_owned() } };
    // Plain data into memory: it does not fail.
    Response { status, content_type: "application/json", body: serde_json::to_vec(&body).unwrap_or_default() }
}

fn serve(front: &Front, stream: &mut (impl Read + Write), privileged: bool) {
    let response = match read_request(stream) {
        Ok(request) if !privileged && request.method != "GET" => {
            refusal(403, "only root and core may do that")
        }
        Ok(request) => {
            let shared = front.lock().unwrap_or_else(PoisonError::into_inner).clone();
            shared.map_or_else(api::unavailable, |shared| answer(&shared, &request))
        }
        Err(RequestError::Io(_) | RequestError::Nothing) => return,
        Err(error @ RequestError::TooLong) => refusal(413, &error.to_string()),
        Err(error @ RequestError::Garbled(_)) => refusal(400, &error.to_string()),
    };
    // A client that is gone needs no answer.
    let _gone = write_response(stream, &response);
}

fn answer(shared: &Shared, request: &Request) -> Response {
    for _ in 0..TRIES {
        let reply = shared.answer(request);
        match reply {
            Reply::Done(response) => return response,
            Reply::Commit(transaction, response) => {
                match shared.registry.ask(|client| client.transact(&transaction)) {
                    Ok(result) => {
                        // Whoever has changed something sees it when he looks.
                        await_revision(shared, result.revision);
                        if result.succeeded {
                            return response;
                        }
                    }
                    Err(error) => return refusal(503, &error.to_string()),
                }
            }
        }
    }
    refusal(503, "others change the same all the time")
}

fn await_revision(shared: &Shared, revision: Revision) {
    let until = Instant::now() + PATIENCE;
    let mut node = shared.node();
    while node.picture().revision() < revision {
        let Some(left) = until.checked_duration_since(Instant::now()) else { return };
        node = match shared.changed.wait_timeout(node, left) {
            Ok((node, _)) => node,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered at a socket; no daemon stands behind it.
    fn asked(request: &str, privileged: bool) -> String {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.write_all(request.as_bytes()).unwrap();
        serve(&Front::default(), &mut far, privileged);
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Complaint 12: who may change something is asked of the kernel; everybody may look.
    #[test]
    fn only_root_and_core_may_change_things() {
        for method in ["PUT", "DELETE", "PATCH", "POST"] {
            let request = format!("{method} /fleet/v1/units/a.service HTTP/1.1\r\n\r\n");
            let refused = asked(&request, false);
            assert!(refused.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{refused}");
            assert!(
                refused
                    .ends_with("{\"error\":{\"code\":403,\"message\":\"only root and core may do that\"}}")
            );
            // Whoever may gets further: there is no daemon behind this.
            assert!(asked(&request, true).starts_with("HTTP/1.1 503 "));
        }
        assert!(asked("GET /fleet/v1/units HTTP/1.1\r\n\r\n", false).starts_with("HTTP/1.1 503 "));
        // The other end is this process, whoever runs it.
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(is_privileged(&near));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(asked("GET / HT\0\r\n\r\n", true).starts_with("HTTP/1.1 400 "));
        let long = format!("PUT /fleet/v1/units/a HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 2 << 20);
        assert!(asked(&long, true).starts_with("HTTP/1.1 413 "));
    }
}
