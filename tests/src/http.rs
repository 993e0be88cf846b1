//! The least of an HTTP client: one request, one answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
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
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
    stream.set_read_timeout(Some(LIMIT))?;
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
