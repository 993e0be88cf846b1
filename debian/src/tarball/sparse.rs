//! Files with holes: the old GNU format and the three that are written as PAX records.
//!
//! GNU tar manual, "Storing Sparse Files". In every form the archive holds the pieces of data one after the other, and a map says
//! where in the file each belongs.

use std::io::Read;

use serde::{Deserialize, Serialize};
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::blocks::{BLOCK_BYTES, Blocks};
use super::{Pending, TarError};

/// Most pieces of one file: no program writes more, and a map cannot fill the memory.
const MAX_PIECES: usize = 1 << 20;
/// Longest number of a map with its newline: 20 digits.
const MAX_LINE_BYTES: u64 = 21;

/// A piece of data of a file with holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where in the file it is.
    pub at: u64,
    /// Its length in bytes, never 0.
    pub len: u64,
    /// Where in the uncompressed archive it is.
    pub offset: u64,
}

/// The map of a file with holes. Pieces are in order, do not overlap and lie within the size.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub size: u64,
    pub pieces: Vec<Piece>,
}

fn malformed(path: &str) -> TarError {
    TarError::Range { path: path.to_owned(), what: "its map of holes" }
}

/// Collects what a map says and checks it.
struct Spans<'a> {
    path: &'a str,
    size: u64,
    spans: Vec<(u64, u64)>,
}

impl<'a> Spans<'a> {
    const fn new(path: &'a str, size: u64) -> Self {
        Self { path, size, spans: Vec::new() }
    }

    fn add(&mut self, at: u64, len: u64) -> Result<(), TarError> {
        let start = self.spans.last().map_or(0, |(at, len)| at + len);
        let end = at.checked_add(len).filter(|end| at >= start && *end <= self.size);
        if end.is_none() || self.spans.len() >= MAX_PIECES {
            return Err(malformed(self.path));
        }
        if len > 0 {
            self.spans.push((at, len));
        }
        Ok(())
    }

    /// The map of a file whose `stored` bytes begin at `offset` of the archive.
    fn placed(self, mut offset: u64, stored: u64) -> Result<Map, TarError> {
        let path = self.path;
        let sum = self.spans.iter().try_fold(0u64, |sum, (_, len)| sum.checked_add(*len));
        if sum != Some(stored) {
            return Err(malformed(path));
        }
        let place = |(at, len)| {
            let piece = Piece { at, len, offset };
            offset += len;
            piece
        };
        Ok(Map { size: self.size, pieces: self.spans.into_iter().map(place).collect() })
    }
}

/// Reads the old GNU form: four places in the header, more in the blocks that follow. Leaves `blocks` at the content.
pub(super) fn old_gnu<R: Read>(
    header: &Header,
    path: &str,
    stored: u64,
    blocks: &mut Blocks<R>,
) -> Result<Map, TarError> {
    let gnu = header.as_gnu().ok_or_else(|| malformed(path))?;
    let mut spans = Spans::new(path, gnu.real_size()?);
    let mut add_all = |list: &[GnuSparseHeader]| {
        list.iter()
            .filter(|span| !span.is_empty())
            .try_for_each(|span| spans.add(span.offset()?, span.length()?))
    };
    add_all(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    // Every block has a place at least, so the limit of pieces would not stop one that has none.
    for _ in 0..MAX_PIECES {
        if !more {
            break;
        }
        let mut extension = GnuExtSparseHeader::new();
        blocks.extension(extension.as_mut_bytes())?;
        add_all(extension.sparse())?;
        more = extension.is_extended();
    }
    if more {
        return Err(malformed(path));
    }
    spans.placed(blocks.position(), stored)
}

/// Reads one of the PAX forms; `None` when the records speak of no holes. `content` is the entry's content, which form 1.0 begins with
/// the map, and `offset` its place in the archive.
pub(super) fn pax(
    pending: &Pending,
    path: &str,
    stored: u64,
    offset: u64,
    content: &mut dyn Read,
) -> Result<Option<Map>, TarError> {
    match (pending.record("GNU.sparse.major"), pending.record("GNU.sparse.minor")) {
        (Some(b"1"), Some(b"0")) => {
            let size = pending.number("GNU.sparse.realsize").ok_or_else(|| malformed(path))?;
            let mut spans = Spans::new(path, size);
            let mut read = 0;
            let mut number = || map_number(content, &mut read).ok_or_else(|| malformed(path));
            for _ in 0..number()? {
                spans.add(number()?, number()?)?;
            }
            let map_bytes = read.next_multiple_of(BLOCK_BYTES);
            let data = stored.checked_sub(map_bytes).ok_or_else(|| malformed(path))?;
            spans.placed(offset + map_bytes, data).map(Some)
        }
        (None, None) => {
            // Forms 0.0 and 0.1 have no version.
            let Some(size) = pending.number("GNU.sparse.size") else { return Ok(None) };
            let mut spans = Spans::new(path, size);
            let mut at = None;
            let mut number = |value: &[u8]| -> Result<(), TarError> {
                let number = decimal(value).ok_or_else(|| malformed(path))?;
                match at.take() {
                    None => at = Some(number),
                    Some(at) => spans.add(at, number)?,
                }
                Ok(())
            };
            match pending.record("GNU.sparse.map") {
                Some(b"") => {}
                Some(map) => map.split(|byte| *byte == b',').try_for_each(&mut number)?,
                None => {
                    let keys: [&[u8]; 2] = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"];
                    let records = pending.records.iter().filter(|(key, _)| keys.contains(&key.as_slice()));
                    for (index, (key, value)) in records.enumerate() {
                        if keys.get(index % 2) != Some(&key.as_slice()) {
                            return Err(malformed(path));
                        }
                        number(value)?;
                    }
                }
            }
            if at.is_some() {
                return Err(malformed(path));
            }
            spans.placed(offset, stored).map(Some)
        }
        _ => {
            Err(TarError::Kind { path: path.to_owned(), kind: "a sparse file of an unknown form".to_owned() })
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

/// The next line of a map in the content: a decimal number. Counts the bytes that it reads.
fn map_number(content: &mut dyn Read, read: &mut u64) -> Option<u64> {
    let mut line = Vec::new();
    let mut byte = [0];
    for _ in 0..MAX_LINE_BYTES {
        content.read_exact(&mut byte).ok()?;
        *read += 1;
        match byte {
            [b'\n'] => return decimal(&line),
            [digit] => line.push(digit),
        }
    }
    None
}
