//! Entries of tar archives: names, links and attributes checked, contents hashed, nothing written.
//!
//! [`entries`] reads the archives of packages, [`tree_entries`] those of anybody else, in which more is allowed. The `tar` crate
//! knows the fields of headers; the order of blocks is followed here ([`blocks`]), so that GNU long names, PAX records and files with
//! holes ([`sparse`]) have limits and every piece of data has its offset.

mod blocks;
mod pax;
mod sparse;

use std::collections::HashSet;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use self::blocks::Blocks;
use self::pax::{Pending, pax_records};
pub use self::sparse::Piece;
use crate::digest::{Digest, Hasher};

/// An entry of an archive's file tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path from the root, without a slash or `./` at its start, without empty parts, `.` or `..`. Never empty.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky (`0o7777` at most).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: u64,
    /// Extended attributes (PAX `SCHILY.xattr.*`), in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file: its bytes in the uncompressed archive, and their digest.
    File {
        /// Offset of the first byte.
        offset: u64,
        /// Bytes.
        size: u64,
        /// Digest of them.
        sha256: Digest,
    },
    /// A folder.
    Directory,
    /// A symbolic link with its target as written.
    Symlink(Vec<u8>),
    /// Another name of an earlier entry of the same archive; a path like [`Entry::path`].
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A regular file with holes, which no package has. The last of the kinds, because the cache numbers them.
    Sparse {
        /// Bytes, holes included.
        size: u64,
        /// The data, in order and without overlaps; all else reads as zeros.
        pieces: Vec<Piece>,
    },
}

/// What an archive may have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// What Debian's packages have: no holes, hard links to regular files alone.
    Package,
    /// Everything that an image can hold.
    Tree,
}

/// A tar archive that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading, decompressing or a header's checksum failed.
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    /// A path that would leave the tree, or is no path.
    #[error("entry {path:?}: {problem}")]
    Path {
        /// The path, as text.
        path: String,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// A kind of entry, or a feature, that such archives do not have.
    #[error("entry {path:?} is of a kind that is not supported: {kind}")]
    Kind {
        /// The path, as text.
        path: String,
        /// The kind.
        kind: String,
    },
    /// A number or a record that is out of range.
    #[error("entry {path:?}: {what} is out of range")]
    Range {
        /// The path, as text.
        path: String,
        /// What is out of range.
        what: &'static str,
    },
    /// The target of a hard link is not a file of the archive.
    #[error("entry {path:?} is a hard link to {target:?}, which is no earlier file of the archive")]
    LinkTarget {
        /// The path, as text.
        path: String,
        /// The target, as text.
        target: String,
    },
}

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// It starts with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// It has a `..`.
    #[error("the path has a `..`")]
    Parent,
    /// It has a NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// Nothing is left of it.
    #[error("the path is empty")]
    Empty,
}

/// Longest name or link target (PATH_MAX of Linux, and room).
const MAX_NAME_BYTES: u64 = 16 << 10;
/// Largest set of PAX records.
const MAX_PAX_BYTES: u64 = 1 << 20;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Brings a path to the form of [`Entry::path`]. The root itself (`./`) is empty.
fn normal_path(raw: &[u8]) -> Result<Vec<u8>, TarError> {
    let refuse = |problem| TarError::Path { path: text(raw), problem };
    if raw.starts_with(b"/") {
        return Err(refuse(PathProblem::Absolute));
    }
    if raw.contains(&0) {
        return Err(refuse(PathProblem::Nul));
    }
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refuse(PathProblem::Parent)),
            part => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(part);
            }
        }
    }
    Ok(path)
}

/// Reads the content of a header that describes the next entry.
fn read_limited(
    entry: &mut impl Read,
    size: u64,
    limit: u64,
    what: &'static str,
) -> Result<Vec<u8>, TarError> {
    if size > limit {
        return Err(TarError::Range { path: String::new(), what });
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads all entries of the uncompressed tar stream of a package. `content` is called with every regular file and the reader of
/// its bytes, after it was decided that the entry is acceptable, and must read it to its end or not at all.
///
/// # Errors
/// Anything that packages do not have: see [`TarError`].
pub fn entries(
    stream: impl Read,
    content: impl FnMut(&[u8], u64, &mut dyn Read) -> Result<Digest, TarError>,
) -> Result<Vec<Entry>, TarError> {
    read(stream, content, Rules::Package)
}

/// Reads all entries of an uncompressed tar stream that somebody made for an image: files with holes ([`EntryKind::Sparse`], whose bytes
/// are not hashed) and hard links to links and devices are allowed.
///
/// # Errors
/// Anything that is no file of an image, or would lie outside it: see [`TarError`].
pub fn tree_entries(stream: impl Read) -> Result<Vec<Entry>, TarError> {
    read(stream, hash_content, Rules::Tree)
}

fn read(
    stream: impl Read,
    content: impl FnMut(&[u8], u64, &mut dyn Read) -> Result<Digest, TarError>,
    rules: Rules,
) -> Result<Vec<Entry>, TarError> {
    let mut blocks = Blocks::new(stream);
    let mut reader = EntryReader { content, rules, linkable: HashSet::new() };
    let mut found: Vec<Entry> = Vec::new();
    let mut pending = Pending::default();
    while let Some(header) = blocks.header()? {
        let mut describing = |limit, what| {
            let size = header.entry_size()?;
            read_limited(&mut blocks.content(size)?, size, limit, what)
        };
        match header.entry_type() {
            EntryType::GNULongName => {
                pending.name = Some(without_nul(describing(MAX_NAME_BYTES, "its long name")?));
            }
            EntryType::GNULongLink => {
                pending.link = Some(without_nul(describing(MAX_NAME_BYTES, "its link name")?));
            }
            EntryType::XHeader => {
                let bytes = describing(MAX_PAX_BYTES, "its PAX header")?;
                let malformed = || TarError::Range { path: String::new(), what: "a PAX record" };
                pending.records.extend(pax_records(&bytes).ok_or_else(malformed)?);
            }
            // Comments of archivers; no file relies on one.
            EntryType::XGlobalHeader => {
                blocks.content(header.entry_size()?)?;
            }
            _ => found.extend(reader.entry(&header, &std::mem::take(&mut pending), &mut blocks)?),
        }
    }
    Ok(found)
}

/// Length of an entry's content in the archive. A PAX record counts when the header's field cannot hold the number (POSIX: 11 octal
/// digits), and has to agree otherwise: archives that look different to different readers are refused.
fn stored_bytes(header: &Header, pending: &Pending, path: &[u8]) -> Result<u64, TarError> {
    const FIELD_LIMIT: u64 = 1 << 33;
    let size = header.entry_size()?;
    match pending.number("size") {
        None => Ok(size),
        Some(pax) if pax == size || pax >= FIELD_LIMIT => Ok(pax),
        Some(_) => Err(TarError::Range { path: text(path), what: "its PAX size" }),
    }
}

/// Turns headers into entries.
struct EntryReader<C> {
    content: C,
    rules: Rules,
    /// Paths that hard links may point to.
    linkable: HashSet<Vec<u8>>,
}

impl<C: FnMut(&[u8], u64, &mut dyn Read) -> Result<Digest, TarError>> EntryReader<C> {
    /// The entry of a header; `None` for the root folder.
    fn entry<R: Read>(
        &mut self,
        header: &Header,
        pending: &Pending,
        blocks: &mut Blocks<R>,
    ) -> Result<Option<Entry>, TarError> {
        // Of a file with holes, the two later PAX forms have an invented name in the usual place.
        let record = pending.record("GNU.sparse.name").or_else(|| pending.record("path"));
        let raw_path = match (record, &pending.name) {
            (Some(path), _) => path.to_vec(),
            (None, Some(name)) => name.clone(),
            (None, None) => header.path_bytes().into_owned(),
        };
        let path = normal_path(&raw_path)?;
        let shown = || text(&raw_path);
        let kind = self.kind(header, pending, &raw_path, blocks)?;
        if path.is_empty() {
            // The root folder itself: every package has it, and its owner and mode are the image's business.
            let problem = PathProblem::Empty;
            return if kind == EntryKind::Directory {
                Ok(None)
            } else {
                Err(TarError::Path { path: shown(), problem })
            };
        }
        let regular = matches!(kind, EntryKind::File { .. } | EntryKind::HardLink(_));
        if regular || (self.rules == Rules::Tree && kind != EntryKind::Directory) {
            self.linkable.insert(path.clone());
        }
        let id = |number: io::Result<u64>, key: &str, what| {
            let number = pending.number(key).map_or(number, Ok)?;
            u32::try_from(number).map_err(|_| TarError::Range { path: shown(), what })
        };
        Ok(Some(Entry {
            path,
            kind,
            mode: header.mode()? & 0o7777,
            uid: id(header.uid(), "uid", "its owner")?,
            gid: id(header.gid(), "gid", "its group")?,
            mtime: pending.number("mtime").map_or_else(|| header.mtime(), Ok)?,
            xattrs: pending.xattrs(),
        }))
    }

    fn kind<R: Read>(
        &mut self,
        header: &Header,
        pending: &Pending,
        raw_path: &[u8],
        blocks: &mut Blocks<R>,
    ) -> Result<EntryKind, TarError> {
        let shown = || text(raw_path);
        let stored = stored_bytes(header, pending, raw_path)?;
        let link = || match (pending.record("linkpath"), &pending.link) {
            (Some(path), _) => path.to_vec(),
            (None, Some(name)) => name.clone(),
            (None, None) => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let device = || {
            let number = |n: io::Result<Option<u32>>| Ok::<u32, TarError>(n?.unwrap_or(0));
            Ok::<_, TarError>((number(header.device_major())?, number(header.device_minor())?))
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                return self.file(pending, raw_path, stored, blocks);
            }
            EntryType::GNUSparse if self.rules == Rules::Tree => {
                let map = sparse::old_gnu(header, &shown(), stored, blocks)?;
                EntryKind::Sparse { size: map.size, pieces: map.pieces }
            }
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => {
                let target = link();
                let problem = if target.is_empty() { Some(PathProblem::Empty) } else { None };
                let problem = problem.or(target.contains(&0).then_some(PathProblem::Nul));
                match problem {
                    Some(problem) => return Err(TarError::Path { path: shown(), problem }),
                    None => EntryKind::Symlink(target),
                }
            }
            EntryType::Link => {
                let target = normal_path(&link())?;
                if !self.linkable.contains(&target) {
                    return Err(TarError::LinkTarget { path: shown(), target: text(&target) });
                }
                EntryKind::HardLink(target)
            }
            EntryType::Char => device().map(|(major, minor)| EntryKind::CharDevice { major, minor })?,
            EntryType::Block => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
            EntryType::Fifo => EntryKind::Fifo,
            other => return Err(TarError::Kind { path: shown(), kind: format!("{other:?}") }),
        };
        // Content that such an entry has no use for is passed over.
        blocks.content(stored)?;
        Ok(kind)
    }

    /// A regular file, which PAX records may say has holes.
    fn file<R: Read>(
        &mut self,
        pending: &Pending,
        raw_path: &[u8],
        stored: u64,
        blocks: &mut Blocks<R>,
    ) -> Result<EntryKind, TarError> {
        let offset = blocks.position();
        let mut bytes = blocks.content(stored)?;
        if pending.records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
            let shown = text(raw_path);
            if self.rules == Rules::Package {
                return Err(TarError::Kind { path: shown, kind: "a file with holes".to_owned() });
            }
            if let Some(map) = sparse::pax(pending, &shown, stored, offset, &mut bytes)? {
                return Ok(EntryKind::Sparse { size: map.size, pieces: map.pieces });
            }
        }
        let sha256 = (self.content)(raw_path, stored, &mut bytes)?;
        Ok(EntryKind::File { offset, size: stored, sha256 })
    }
}

/// A `content` callback that only hashes.
pub fn hash_content(_path: &[u8], size: u64, reader: &mut dyn Read) -> Result<Digest, TarError> {
    let mut hasher = Hasher::default();
    if io::copy(reader, &mut hasher)? != size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests;
