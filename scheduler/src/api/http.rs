//! As much of HTTP/1.1 (RFC 9112) as the API takes: one request and one answer on a connection, bodies with a length.

use std::io::{self, Read, Write};

/// Longest head.
const LONGEST_HEAD: usize = 16 << 10;
/// Longest body: etcd takes values of 1.5 MiB.
const LONGEST_BODY: usize = 1 << 20;
const MOST_HEADERS: usize = 64;

/// A request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`
    pub method: String,
    /// Without the query, `%` decoded.
    pub path: String,
    /// Names and values, decoded.
    pub query: Vec<(String, String)>,
    /// All `Content-Type` fields.
    pub content_types: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// 200
    pub status: u16,
    /// `application/json`
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It was closed before anything was asked.
    #[error("nothing was asked")]
    Nothing,
    /// It is no HTTP.
    #[error("{0}")]
    Garbled(String),
    /// It is too long.
    #[error("the request is too long")]
    TooLong,
}

/// Reads a request.
///
/// # Errors
/// [`RequestError`]
pub fn read_request(stream: &mut impl Read) -> Result<Request, RequestError> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            let nothing = bytes.is_empty();
            return Err(if nothing {
                RequestError::Nothing
            } else {
                RequestError::Garbled("the request ends too early".to_owned())
            });
        }
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some((mut request, head, length)) = parse_head(&bytes)? {
            if length > LONGEST_BODY {
                return Err(RequestError::TooLong);
            }
            request.body = bytes.split_off(head.min(bytes.len()));
            let missing = length.saturating_sub(request.body.len());
            let mut rest = vec![0; missing];
            stream.read_exact(&mut rest)?;
            request.body.extend(rest);
            request.body.truncate(length);
            return Ok(request);
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(RequestError::TooLong);
        }
    }
}

/// The head of a request, where it ends, and how long the body is; `None` while it is not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, RequestError> {
    let garbled = |problem: &str| RequestError::Garbled(problem.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(RequestError::Garbled(error.to_string())),
    };
    let fields = |name: &'static str| {
        let fields = head.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        fields.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    if fields("transfer-encoding").next().is_some() {
        return Err(garbled("bodies without a length are not taken"));
    }
    let mut lengths = fields("content-length");
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some(length), None) => length.parse().map_err(|_| garbled("Content-Length is no number"))?,
        (Some(_), Some(_)) => return Err(garbled("two lengths")),
    };
    let target = head.path.unwrap_or_default();
    // A whole URL is allowed as well.
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
    });
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: decode(path),
        query: query.collect(),
        content_types: fields("content-type").collect(),
        body: Vec::new(),
    };
    Ok(Some((request, end, length)))
}

/// `%41` to `A`; what is no escape stays.
#[must_use]
pub fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let pair = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Bytes that may not stand in a path as they are, as `%41`.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Writes an answer; the connection is over then.
///
/// # Errors
/// The connection's.
pub fn write_response(stream: &mut impl Write, response: &Response) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        503 => "Service Unavailable",
        _ => "Error",
    };
    let mut text = format!("HTTP/1.1 {} {reason}\r\nServer: fleetd/{}\r\n", response.status, crate::VERSION);
    if response.status != 204 {
        text.push_str(&format!(
            "Content-Type: {}\r\nContent-Length: {}\r\n",
            response.content_type,
            response.body.len()
        ));
    }
    text.push_str("Connection: close\r\n\r\n");
    let mut bytes = text.into_bytes();
    if response.status != 204 {
        bytes.extend_from_slice(&response.body);
    }
    stream.write_all(&bytes)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_taken_apart() {
        let text = "PUT /fleet/v1/units/a%40b.service?x=1&y=a+b%21 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                    content-length: 2\r\n\r\n{}";
        let request = read_request(&mut text.as_bytes()).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/fleet/v1/units/a@b.service"));
        assert_eq!(request.query, [("x".to_owned(), "1".to_owned()), ("y".to_owned(), "a b!".to_owned())]);
        assert_eq!(
            (request.content_types.as_slice(), request.body.as_slice()),
            (&["application/json".to_owned()][..], &b"{}"[..])
        );
        let whole = "GET http://domain-sock/fleet/v1/units HTTP/1.1\r\n\r\n";
        assert_eq!(read_request(&mut whole.as_bytes()).unwrap().path, "/fleet/v1/units");
        for bad in [
            "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nab",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HT",
            "\0",
        ] {
            assert!(matches!(read_request(&mut bad.as_bytes()), Err(RequestError::Garbled(_))), "{bad:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", LONGEST_BODY + 1);
        assert!(matches!(read_request(&mut long.as_bytes()), Err(RequestError::TooLong)));
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n", "y".repeat(LONGEST_HEAD));
        assert!(matches!(read_request(&mut head.as_bytes()), Err(RequestError::TooLong)));
        assert!(matches!(read_request(&mut &b""[..]), Err(RequestError::Nothing)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in "[ -~\r\n]{0,80}") {
            let _ = read_request(&mut bytes.as_slice()).is_ok();
            let _ = read_request(&mut format!("GET /{tail}").as_bytes()).is_ok();
        }

        #[test]
        fn encoded_text_comes_back(text in "\\PC{0,30}") {
            prop_assert_eq!(decode(&encode(&text)), text);
        }
    }
}
