//! Entries of a package's tar archives: names, links and attributes checked, contents hashed, nothing written.
//!
//! The `tar` crate reads headers and finds their offsets; it is used in raw mode, so that GNU long names and PAX
//! records are collected here, with limits.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use tar::EntryType;

use crate::digest::{Digest, Hasher};

/// An entry of a package's file tree.
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
    /// Another name of a file of the same package; a path like [`Entry::path`].
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
    /// A kind of entry, or a feature, that packages do not have.
    #[error("entry {path:?} is of a kind that packages do not have: {kind}")]
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
    #[error("entry {path:?} is a hard link to {target:?}, which is no earlier file of the package")]
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

/// What GNU and PAX headers say about the entry that follows them.
#[derive(Default)]
struct Pending {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pending {
    fn record(&self, key: &str) -> Option<&[u8]> {
        self.records.iter().rev().find(|(k, _)| k == key.as_bytes()).map(|(_, v)| v.as_slice())
    }

    /// A numeric record; of a fraction only the whole part.
    fn number(&self, key: &str) -> Option<u64> {
        let text = std::str::from_utf8(self.record(key)?).ok()?;
        text.split('.').next()?.parse().ok()
    }

    fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let attribute = |(key, value): &(Vec<u8>, Vec<u8>)| {
            Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value.clone()))
        };
        self.records.iter().filter_map(attribute).collect()
    }
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

/// Key and value of each `LENGTH KEY=VALUE\n`, the length being that of the whole record (POSIX pax). By length and not
/// by lines, as `tar` has it: file capabilities are binary and may have a newline in them.
fn pax_records(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(bytes.get(..blank)?).ok()?.parse().ok()?;
        let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=')?;
        records.push((record.get(..equals)?.to_vec(), record.get(equals + 1..)?.to_vec()));
        bytes = bytes.get(length..)?;
    }
    Some(records)
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads all entries of an uncompressed tar stream. `content` is called with every regular file and the reader of
/// its bytes, after it was decided that the entry is acceptable, and must read it to its end or not at all.
///
/// # Errors
/// Anything that packages do not have: see [`TarError`].
pub fn entries(
    stream: impl Read,
    mut content: impl FnMut(&[u8], u64, &mut dyn Read) -> Result<Digest, TarError>,
) -> Result<Vec<Entry>, TarError> {
    let mut archive = tar::Archive::new(stream);
    let mut found: Vec<Entry> = Vec::new();
    let mut files = std::collections::HashSet::new();
    let mut pending = Pending::default();
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let size = entry.header().entry_size()?;
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                pending.name =
                    Some(without_nul(read_limited(&mut entry, size, MAX_NAME_BYTES, "its long name")?));
                continue;
            }
            EntryType::GNULongLink => {
                pending.link =
                    Some(without_nul(read_limited(&mut entry, size, MAX_NAME_BYTES, "its link name")?));
                continue;
            }
            EntryType::XHeader => {
                let bytes = read_limited(&mut entry, size, MAX_PAX_BYTES, "its PAX header")?;
                let malformed = || TarError::Range { path: String::new(), what: "a PAX record" };
                pending.records.extend(pax_records(&bytes).ok_or_else(malformed)?);
                continue;
            }
            EntryType::XGlobalHeader => continue, // comments of archivers; no package relies on one
            _ => {}
        }
        if let Some(entry) = read_entry(&mut entry, std::mem::take(&mut pending), &files, &mut content)? {
            if matches!(entry.kind, EntryKind::File { .. } | EntryKind::HardLink(_)) {
                files.insert(entry.path.clone());
            }
            found.push(entry);
        }
    }
    Ok(found)
}

fn read_entry<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    pending: Pending,
    files: &std::collections::HashSet<Vec<u8>>,
    content: &mut impl FnMut(&[u8], u64, &mut dyn Read) -> Result<Digest, TarError>,
) -> Result<Option<Entry>, TarError> {
    let raw_path = match (pending.record("path"), &pending.name) {
        (Some(path), _) => path.to_vec(),
        (None, Some(name)) => name.clone(),
        (None, None) => entry.header().path_bytes().into_owned(),
    };
    let path = normal_path(&raw_path)?;
    let shown = || text(&raw_path);
    let header = entry.header().clone();
    let size = header.entry_size()?;
    if pending.number("size").is_some_and(|pax| pax != size) {
        return Err(TarError::Range { path: shown(), what: "its PAX size" });
    }
    let kind = entry_kind(entry, &header, &pending, files, &raw_path, content)?;
    if path.is_empty() {
        // The root folder itself: every package has it, and its owner and mode are the image's business.
        let problem = PathProblem::Empty;
        return if kind == EntryKind::Directory {
            Ok(None)
        } else {
            Err(TarError::Path { path: shown(), problem })
        };
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

fn entry_kind<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    header: &tar::Header,
    pending: &Pending,
    files: &std::collections::HashSet<Vec<u8>>,
    raw_path: &[u8],
    content: &mut impl FnMut(&[u8], u64, &mut dyn Read) -> Result<Digest, TarError>,
) -> Result<EntryKind, TarError> {
    let shown = || text(raw_path);
    let link = || match (pending.record("linkpath"), &pending.link) {
        (Some(path), _) => path.to_vec(),
        (None, Some(name)) => name.clone(),
        (None, None) => header.link_name_bytes().unwrap_or_default().into_owned(),
    };
    let device = || {
        let number = |n: io::Result<Option<u32>>| Ok::<u32, TarError>(n?.unwrap_or(0));
        Ok::<_, TarError>((number(header.device_major())?, number(header.device_minor())?))
    };
    Ok(match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let (offset, size) = (entry.raw_file_position(), header.entry_size()?);
            let sha256 = content(raw_path, size, entry)?;
            EntryKind::File { offset, size, sha256 }
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
            if !files.contains(&target) {
                return Err(TarError::LinkTarget { path: shown(), target: text(&target) });
            }
            EntryKind::HardLink(target)
        }
        EntryType::Char => device().map(|(major, minor)| EntryKind::CharDevice { major, minor })?,
        EntryType::Block => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
        EntryType::Fifo => EntryKind::Fifo,
        other => return Err(TarError::Kind { path: shown(), kind: format!("{other:?}") }),
    })
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
