//! Whether a machine's etcd serves: its own `/health`, which reads through a quorum (etcd 3.5, "Monitoring etcd").

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take: longer than an election, short for somebody who waits.
const LIMIT: Duration = Duration::from_secs(3);
/// More than an answer has.
const MOST: u64 = 64 << 10;

/// Asks; the error is why the machine is not healthy.
pub fn ask(port: u16) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(|_| "no connection".to_owned())?;
    let exchange = || -> std::io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        (&stream).write_all(b"GET /health HTTP/1.0\r\nHost: etcd\r\n\r\n")?;
        let mut answer = Vec::new();
        (&stream).take(MOST).read_to_end(&mut answer)?;
        Ok(answer)
    };
    // Whoever forwards the port accepts before the machine does, and hangs up when nobody listens there.
    let answer = exchange().map_err(|_| "etcd does not answer".to_owned())?;
    judge(&String::from_utf8_lossy(&answer))
}

fn judge(answer: &str) -> Result<(), String> {
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("etcd does not answer")?;
    let value: serde_json::Value =
        serde_json::from_str(body.trim()).map_err(|_| "etcd answers something else".to_owned())?;
    if value.get("health").and_then(|health| health.as_str()) == Some("true") {
        return Ok(());
    }
    let reason = value.get("reason").and_then(|reason| reason.as_str()).filter(|reason| !reason.is_empty());
    Err(format!("etcd is not healthy: {}", reason.unwrap_or("no quorum")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_own_words_decide() {
        let answer = |body: &str| judge(&format!("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{body}\n"));
        assert_eq!(answer(r#"{"health":"true","reason":""}"#), Ok(()));
        let refused = answer(r#"{"health":"false","reason":"RAFT NO LEADER"}"#);
        assert_eq!(refused, Err("etcd is not healthy: RAFT NO LEADER".to_owned()));
        assert!(answer("<html>").is_err() && judge("").is_err());
    }
}
