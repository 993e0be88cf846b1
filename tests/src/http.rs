//! The least of an HTTP client: one request, one answer; and the least of a server.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// An answer that has not come by then will not come.
const LIMIT: Duration = Duration::from_secs(120);

/// Posts JSON to a port of this machine's loopback and returns the JSON that comes back.
///
/// # Errors
/// No connection, a status other than 200, or an answer that is not JSON.
pub fn post_json(port: u16, path: &str, body: &Value) -> Result<Value> {
    post_json_within(port, path, body, LIMIT)
}

/// The same for an answer that may not come; whether the request was carried out is not known then.
///
/// # Errors
/// As [`post_json`].
pub fn post_json_within(port: u16, path: &str, body: &Value, limit: Duration) -> Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
    stream.set_read_timeout(Some(limit))?;
    let body = body.to_string();
    // HTTP/1.0: the answer comes in one piece and ends with the connection (RFC 1945).
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).context("cannot send the request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("cannot read the answer")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP answer: {answer:?}") };
    let status = head.split(' ').nth(1);
    if status != Some("200") {
        bail!("{path} answered {head}\n{body}");
    }
    serde_json::from_str(body).with_context(|| format!("{path} answered {body:?}"))
}

/// A server of files on this machine's loopback, which ends with the process. Guests on QEMU's user network reach it at 10.0.2.2.
#[derive(Debug)]
pub struct FileServer {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    /// Serves these files, by their paths with a slash in front; everything else is 404.
    ///
    /// # Errors
    /// There is no port.
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own problem.
                let _ = answer(stream, &files, &log);
            }
        });
        Ok(Self { port, asked })
    }

    /// A URL that a guest can fetch.
    pub fn url(&self, path: &str) -> String {
        format!("http://10.0.2.2:{}{path}", self.port)
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    let (status, body) = match files.get(&path) {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", &b""[..]),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
