//! MIME multipart (RFC 2045, RFC 2046): several texts in one, as cloud-init's tools make it.

use super::encoding;

/// Most parts of one text.
const MOST_PARTS: usize = 200;
/// Multiparts within multiparts.
const DEEPEST: usize = 3;

/// A part, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MimePart {
    /// Its type in lower case, without parameters; empty when it has none.
    pub(super) kind: String,
    /// Its file name, if it has one.
    pub(super) file_name: Option<String>,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// The line of the whole text, from 0, that it begins in; `None` when it was encoded, so that lines do not correspond.
    pub(super) first_line: Option<usize>,
    /// The line of the whole text, from 0, that its header begins in.
    pub(super) header_line: usize,
}

/// Why a text is no multipart text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MimeError {
    /// The header does not say what separates the parts.
    #[error("the header `Content-Type: multipart/mixed` has no boundary")]
    NoBoundary,
    /// The separator does not occur.
    #[error("the boundary `{0}` does not occur in the text")]
    NoParts(String),
    /// The last separator does not occur.
    #[error("the text ends before the closing boundary `--{0}--`")]
    Unfinished(String),
    /// A part's transfer encoding.
    #[error("a part cannot be decoded as `{0}`")]
    Encoding(String),
    /// Too much of it.
    #[error("more than {MOST_PARTS} parts, or multiparts nested more than {DEEPEST} levels deep")]
    TooMany,
}

/// A mistake and the line, from 0, that it is in.
pub(super) type Failure = (usize, MimeError);

/// Splits a text into its parts, in order.
pub(super) fn parts(text: &[u8]) -> Result<Vec<MimePart>, Failure> {
    let mut out = Vec::new();
    entity(text, 0, Some(0), 0, &mut out)?;
    Ok(out)
}

/// Header fields that matter.
#[derive(Debug, Default)]
struct Header {
    kind: String,
    boundary: Option<String>,
    file_name: Option<String>,
    encoding: String,
}

fn entity(
    text: &[u8],
    header_line: usize,
    first_line: Option<usize>,
    depth: usize,
    out: &mut Vec<MimePart>,
) -> Result<(), Failure> {
    let (header, body, lines) = split_header(text);
    let body_line = first_line.map(|line| line + lines);
    if !header.kind.starts_with("multipart/") {
        if out.len() >= MOST_PARTS {
            return Err((header_line, MimeError::TooMany));
        }
        let (bytes, is_plain) = match header.encoding.as_str() {
            "" | "7bit" | "8bit" | "binary" => (Some(body.to_vec()), true),
            "base64" => (std::str::from_utf8(body).ok().and_then(encoding::base64), false),
            "quoted-printable" => (encoding::quoted_printable(body), false),
            _ => (None, false),
        };
        let Some(bytes) = bytes else {
            return Err((header_line, MimeError::Encoding(header.encoding)));
        };
        let first_line = body_line.filter(|_| is_plain);
        out.push(MimePart { kind: header.kind, file_name: header.file_name, bytes, first_line, header_line });
        return Ok(());
    }
    if depth >= DEEPEST {
        return Err((header_line, MimeError::TooMany));
    }
    let boundary = header.boundary.filter(|it| !it.is_empty()).ok_or((header_line, MimeError::NoBoundary))?;
    for (part, line) in bodies(body, &boundary).map_err(|error| (header_line, error))? {
        let line = body_line.map(|it| it + line);
        entity(part, line.unwrap_or(header_line), line, depth + 1, out)?;
    }
    Ok(())
}

/// What stands between the lines `--boundary`, each with its line from 0.
fn bodies<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<(&'a [u8], usize)>, MimeError> {
    let delimiter = format!("--{boundary}");
    let closing = format!("--{boundary}--");
    let (mut found, mut offset) = (Vec::new(), 0);
    // Where the part that is being read begins, and its line.
    let mut open: Option<(usize, usize)> = None;
    for (index, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let end = offset;
        offset += line.len();
        let is_closing = line.trim_ascii_end() == closing.as_bytes();
        if !is_closing && line.trim_ascii_end() != delimiter.as_bytes() {
            continue;
        }
        if let Some((start, first)) = open {
            if found.len() >= MOST_PARTS {
                return Err(MimeError::TooMany);
            }
            // The line break before the delimiter belongs to it; texts keep theirs, which does no harm.
            found.push((body.get(start..end).unwrap_or_default(), first));
        }
        if is_closing {
            return Ok(found);
        }
        open = Some((offset, index + 1));
    }
    Err(match open {
        Some(_) => MimeError::Unfinished(boundary.to_owned()),
        None => MimeError::NoParts(boundary.to_owned()),
    })
}

/// The header, what follows its empty line, and how many lines that took.
fn split_header(text: &[u8]) -> (Header, &[u8], usize) {
    let mut header = Header::default();
    let (mut offset, mut count) = (0, 0);
    let mut unfolded: Vec<String> = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let is_field = line.iter().take_while(|byte| **byte != b':').all(|byte| byte.is_ascii_graphic());
        let is_end = line.trim_ascii().is_empty();
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        let is_header = is_end || is_folded || (is_field && line.contains(&b':'));
        if !is_header {
            // No header at all, or one that runs into its text.
            break;
        }
        offset += line.len();
        count += 1;
        if is_end {
            break;
        }
        let field = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        match unfolded.last_mut() {
            Some(last) if is_folded => *last = format!("{last} {field}"),
            _ => unfolded.push(field),
        }
        if count > 200 {
            break;
        }
    }
    for field in unfolded {
        let Some((name, value)) = field.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-type" => {
                header.kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                header.boundary = parameter(value, "boundary");
                header.file_name = header.file_name.or_else(|| parameter(value, "name"));
            }
            "content-disposition" => {
                header.file_name = parameter(value, "filename").or(header.file_name);
            }
            "content-transfer-encoding" => header.encoding = value.trim().to_ascii_lowercase(),
            _ => {}
        }
    }
    (header, text.get(offset..).unwrap_or_default(), count)
}

/// `; name=value` or `; name="value"`.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
Content-Type: multipart/mixed;
 boundary=\"===b==\"
MIME-Version: 1.0

preamble
--===b==
Content-Type: text/cloud-config; charset=\"us-ascii\"
Content-Disposition: attachment; filename=\"a.yml\"

#cloud-config
hostname: x

--===b==
MIME-Version: 1.0
Content-Type: text/x-shellscript
Content-Transfer-Encoding: base64

IyEvYmluL3NoCg==
--===b==--
epilogue
";

    #[test]
    fn parts_are_decoded_and_know_their_lines() {
        let parts = parts(TEXT.as_bytes()).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].kind, "text/cloud-config");
        assert_eq!(parts[0].file_name.as_deref(), Some("a.yml"));
        assert_eq!(parts[0].bytes, b"#cloud-config\nhostname: x\n\n");
        assert_eq!(parts[0].first_line, Some(9));
        assert_eq!(TEXT.lines().nth(9), Some("#cloud-config"));
        assert_eq!(parts[1].bytes, b"#!/bin/sh\n");
        assert_eq!((parts[1].first_line, parts[1].header_line), (None, 13));
    }

    #[test]
    fn lines_may_end_as_mail_has_them() {
        let parts = parts(TEXT.replace('\n', "\r\n").as_bytes()).unwrap();
        assert_eq!(parts[0].bytes, b"#cloud-config\r\nhostname: x\r\n\r\n");
        assert_eq!(parts[1].bytes, b"#!/bin/sh\n");
    }

    #[test]
    fn broken_texts_are_refused() {
        let cases = [
            ("Content-Type: multipart/mixed\n\n--x\n", MimeError::NoBoundary),
            ("Content-Type: multipart/mixed; boundary=x\n\n--y\n", MimeError::NoParts("x".to_owned())),
            (
                "Content-Type: multipart/mixed; boundary=x\n\n--x\na: b\n\nc\n",
                MimeError::Unfinished("x".to_owned()),
            ),
            (
                "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Transfer-Encoding: base64\n\n!\n--x--\n",
                MimeError::Encoding("base64".to_owned()),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(parts(text.as_bytes()).unwrap_err().1, want, "{text}");
        }
        let many =
            format!("Content-Type: multipart/mixed; boundary=x\n\n{}--x--\n", "--x\na: b\n\nc\n".repeat(300));
        assert_eq!(parts(many.as_bytes()).unwrap_err().1, MimeError::TooMany);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parts(&bytes);
        }

        #[test]
        fn no_near_mime_panics(text in "(Content-Type: multipart/mixed; boundary=x\n|Content-Transfer-Encoding: (base64|quoted-printable|8bit)\n|\n|--x\n|--x--\n| a|=4|é|:){0,20}") {
            let _ = parts(text.as_bytes());
            let _ = parts(format!("Content-Type: multipart/mixed; boundary=x\n\n{text}").as_bytes());
        }
    }
}
