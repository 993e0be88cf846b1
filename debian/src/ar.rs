//! The outer format of a `.deb`: an `ar` archive (deb(5), ar(5)).

use std::io::{self, Read, Seek, SeekFrom};

/// A member of the archive: its name and where its bytes are in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name without the padding and without GNU's slash at the end.
    pub name: String,
    /// Offset of its first byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// A file that is no `ar` archive.
#[derive(Debug, thiserror::Error)]
pub enum ArError {
    /// Reading failed.
    #[error("cannot read it")]
    Read(#[from] io::Error),
    /// The first eight bytes are others.
    #[error("it is not an ar archive")]
    Magic,
    /// A member's header is malformed.
    #[error("the member header at offset {offset} is malformed")]
    Header {
        /// Offset of the header.
        offset: u64,
    },
    /// A member reaches beyond the end of the file.
    #[error("member {name:?} at offset {offset} reaches beyond the end of the file")]
    Truncated {
        /// Name of the member.
        name: String,
        /// Offset of its content.
        offset: u64,
    },
    /// No `.deb` has so many.
    #[error("it has more than {MAX_MEMBERS} members")]
    TooMany,
}

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;
/// deb(5): three members, and private ones whose names start with `_`.
const MAX_MEMBERS: usize = 64;

/// Lists the members.
///
/// # Errors
/// Anything that is not a whole `ar` archive.
pub fn members(file: &mut (impl Read + Seek)) -> Result<Vec<Member>, ArError> {
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut magic = [0; MAGIC.len()];
    if end < magic.len() as u64 {
        return Err(ArError::Magic);
    }
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(ArError::Magic);
    }
    let mut members = Vec::new();
    let mut position = magic.len() as u64;
    while position < end {
        if members.len() == MAX_MEMBERS {
            return Err(ArError::TooMany);
        }
        let malformed = || ArError::Header { offset: position };
        if end - position < HEADER_BYTES as u64 {
            return Err(malformed());
        }
        let mut header = [0; HEADER_BYTES];
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut header)?;
        let (name, size) = parse_header(&header).ok_or_else(malformed)?;
        let offset = position + HEADER_BYTES as u64;
        if size > end - offset {
            return Err(ArError::Truncated { name, offset });
        }
        members.push(Member { name, offset, size });
        position = offset + size + size % 2; // members start at even offsets
    }
    Ok(members)
}

/// Name and size of a 60-byte header: name 16, mtime 12, uid 6, gid 6, mode 8, size 10, then a backquote and a newline.
fn parse_header(header: &[u8; HEADER_BYTES]) -> Option<(String, u64)> {
    let (name, rest) = header.split_at_checked(16)?;
    let (size, end) = rest.get(32..)?.split_at_checked(10)?;
    if end != b"`\n" {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?.trim_end();
    let name = name.strip_suffix('/').unwrap_or(name);
    let size = std::str::from_utf8(size).ok()?.trim_end();
    let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    let printable = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    if digits && printable { Some((name.to_owned(), size.parse().ok()?)) } else { None }
}

#[cfg(test)]
pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (name, content) in members {
        out.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes(),
        );
        out.extend(*content);
        out.extend(std::iter::repeat_n(b'\n', content.len() % 2));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    #[test]
    fn members_have_names_offsets_and_sizes() {
        let bytes = archive(&[("debian-binary", b"2.0\n"), ("a.tar/", b"odd"), ("b", b"")]);
        let found = members(&mut Cursor::new(&bytes)).unwrap();
        let shown: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.offset, m.size)).collect();
        assert_eq!(shown, [("debian-binary", 68, 4), ("a.tar", 132, 3), ("b", 196, 0)]);
    }

    #[test]
    fn broken_archives_are_refused_with_the_place() {
        let bytes = archive(&[("debian-binary", b"2.0\n")]);
        let check = |bytes: &[u8]| members(&mut Cursor::new(bytes.to_vec())).unwrap_err();
        assert!(matches!(check(b""), ArError::Magic));
        assert!(matches!(check(b"!<arch>x"), ArError::Magic));
        assert!(matches!(check(&bytes[..40]), ArError::Header { offset: 8 }));
        assert!(matches!(check(&bytes[..70]), ArError::Truncated { offset: 68, .. }));
        let mut negative = bytes.clone();
        negative[8 + 48] = b'-';
        assert!(matches!(check(&negative), ArError::Header { offset: 8 }));
        assert!(matches!(check(&archive(&[("x", &b""[..]); 65])), ArError::TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = members(&mut Cursor::new(&tail));
            let _ = members(&mut Cursor::new([&MAGIC[..], &tail].concat()));
        }

        #[test]
        fn any_flipped_byte_never_panics(at in 0usize..200, byte: u8) {
            let mut bytes = archive(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"123"), ("data.tar", b"4567")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = members(&mut Cursor::new(&bytes));
        }
    }
}
