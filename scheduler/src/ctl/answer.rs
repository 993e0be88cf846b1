//! One request and its answer on a connection of their own: as much of HTTP/1.1 (RFC 9112) as that takes. Answers may come from
//! fleet's own daemon or through a proxy, so bodies come with a length, in chunks, or up to the end.

use std::io::{Error, ErrorKind, Read, Result, Write};

/// Longest answer.
const LONGEST: usize = 64 << 20;
const MOST_HEADERS: usize = 64;

/// Status and body.
pub type Answer = (u16, Vec<u8>);

/// The bytes of a request. `host`: as it stands in the endpoint.
#[must_use]
pub fn request(method: &str, path: &str, host: &str, body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "{method} /fleet/v1/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: fleetctl\r\n"
    );
    if !body.is_empty() {
        head.push_str("Content-Type: application/json\r\n");
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a request and reads its answer.
///
/// # Errors
/// The connection's; [`ErrorKind::UnexpectedEof`] and [`ErrorKind::InvalidData`] for answers that are not whole, or none.
pub fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> Result<Answer> {
    stream.write_all(request)?;
    stream.flush()?;
    read(stream)
}

/// How the end of a body is found (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunks,
    UpToTheEnd,
}

struct Head {
    status: u16,
    /// Where it ends.
    end: usize,
    framing: Framing,
}

fn garbled(problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the answer is no HTTP: {problem}"))
}

fn read(stream: &mut impl Read) -> Result<Answer> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
    let mut head: Option<Head> = None;
    loop {
        if head.is_none() {
            head = parse_head(&bytes)?;
        }
        let is_whole =
            |head: &Head| matches!(head.framing, Framing::Length(length) if bytes.len() - head.end >= length);
        if head.as_ref().is_some_and(is_whole) {
            break;
        }
        let count = match stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // TLS that was not ended as it should be. What is missing shows below.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if bytes.len() > LONGEST {
            return Err(garbled(format_args!("it is longer than {LONGEST} bytes")));
        }
    }
    let early = |problem: &str| Error::new(ErrorKind::UnexpectedEof, problem.to_owned());
    let head = head.ok_or_else(|| {
        early(if bytes.is_empty() {
            "the connection was closed without an answer"
        } else {
            "the answer ends too early"
        })
    })?;
    let body = bytes.get(head.end..).unwrap_or_default();
    let body = match head.framing {
        Framing::UpToTheEnd => Some(body.to_vec()),
        Framing::Length(length) => body.get(..length).map(<[u8]>::to_vec),
        Framing::Chunks => join(body),
    };
    Ok((head.status, body.ok_or_else(|| early("the answer ends too early"))?))
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(garbled(error)),
    };
    let status = head.code.unwrap_or(0);
    let field = |name: &str| {
        let found = head.headers.iter().rev().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
    };
    let framing = match (field("transfer-encoding"), field("content-length")) {
        _ if status == 204 || status == 304 => Framing::Length(0),
        (Some(coding), _) if coding == "chunked" => Framing::Chunks,
        (Some(coding), _) => return Err(garbled(format_args!("its coding {coding:?} was not asked for"))),
        (None, Some(length)) => {
            Framing::Length(length.parse().map_err(|_| garbled("its length is no number"))?)
        }
        (None, None) => Framing::UpToTheEnd,
    };
    Ok(Some(Head { status, end, framing }))
}

/// Chunks (RFC 9112, 7.1) as one body; `None`: they are not whole. Trailers do not count.
fn join(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        let size = std::str::from_utf8(rest.get(..line)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(line + 1..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bodies_end_where_the_head_says() {
        let cases: &[(&str, Option<(u16, &str)>)] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}and more", Some((200, "{}"))),
            ("HTTP/1.1 200 OK\r\n\r\n{}", Some((200, "{}"))),
            ("HTTP/1.1 204 No Content\r\n\r\n", Some((204, ""))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
                Some((200, "{}")),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", None),
            ("SSH-2.0-OpenSSH\r\n", None),
            ("", None),
        ];
        for (text, want) in cases {
            let want = want.map(|(status, body)| (status, body.as_bytes().to_vec()));
            assert_eq!(read(&mut text.as_bytes()).ok(), want, "{text:?}");
        }
        assert_eq!(
            read(&mut &b""[..]).unwrap_err().to_string(),
            "the connection was closed without an answer"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), tail in "[ -~\r\n]{0,80}") {
            let _ = read(&mut bytes.as_slice()).is_ok();
            let _ = read(&mut format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{tail}").as_bytes()).is_ok();
            let _ = read(&mut format!("HTTP/1.1 200 OK\r\n{tail}").as_bytes()).is_ok();
        }

        #[test]
        fn chunks_are_joined_again(body in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n".to_vec();
            for chunk in body.chunks(size) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            prop_assert_eq!(read(&mut bytes.as_slice()).unwrap(), (200, body));
        }
    }
}
