//! Where the bytes of a file come from, and reading them when they are wanted.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Why bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The file that holds the bytes cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The file on the host.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file ended early or failed.
    #[error("cannot read {len} bytes at {offset} of {path}")]
    Read {
        /// The file on the host.
        path: String,
        /// Where the read began, in bytes.
        offset: u64,
        /// How much was wanted, in bytes.
        len: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file too large to be read into memory as a whole.
    #[error("{len} bytes are too many to hold in memory (limit {limit})")]
    TooLarge {
        /// The file's length in bytes.
        len: u64,
        /// The most that the caller takes.
        limit: u64,
    },
}

/// A run of bytes inside a sparse file.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Where in the sparse file it starts, in bytes.
    pub at: u64,
    /// The bytes; sparse content inside a piece is allowed.
    pub content: Content,
}

/// Where a file's bytes are. None of the variants costs memory in proportion to the file, but for `Bytes`.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A range of a file on the host, such as a member of an unpacked `data.tar`.
    Range {
        /// The file on the host.
        file: Arc<Path>,
        /// First byte.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Zeros with pieces in them.
    Sparse {
        /// Length in bytes.
        len: u64,
        /// Pieces in ascending order, not overlapping; what lies beyond `len` does not count.
        pieces: Arc<[Piece]>,
    },
}

impl Content {
    /// Length in bytes, holes included.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Range { len, .. } | Self::Sparse { len, .. } => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any byte in `start..end` may differ from zero, as far as can be told without reading.
    pub fn may_hold_data(&self, start: u64, end: u64) -> bool {
        let end = end.min(self.len());
        match self {
            _ if start >= end => false,
            Self::Bytes(_) | Self::Range { .. } => true,
            Self::Sparse { pieces, .. } => {
                let first =
                    pieces.partition_point(|piece| piece.at.saturating_add(piece.content.len()) <= start);
                pieces.iter().skip(first).take_while(|piece| piece.at < end).any(|piece| {
                    piece.content.may_hold_data(start.saturating_sub(piece.at), end.saturating_sub(piece.at))
                })
            }
        }
    }
}

/// A regular file's bytes. Two names that share one `Arc<FileData>` are hard links of one inode.
#[derive(Debug)]
pub struct FileData {
    /// Where the bytes are.
    pub content: Content,
    /// SHA-256 of the bytes, when somebody has computed it already. Files with equal digests share their blocks in
    /// the image, so a wrong digest would give a wrong file.
    pub sha256: Option<[u8; 32]>,
}

impl FileData {
    /// A file held in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { content: Content::Bytes(bytes.into()), sha256: None }
    }

    /// A range of a file on the host.
    pub const fn from_range(file: Arc<Path>, offset: u64, len: u64, sha256: Option<[u8; 32]>) -> Self {
        Self { content: Content::Range { file, offset, len }, sha256 }
    }

    /// A file of `len` bytes with `pieces` in it and zeros elsewhere. Pieces must not overlap.
    pub fn sparse(len: u64, mut pieces: Vec<Piece>) -> Self {
        pieces.sort_by_key(|piece| piece.at);
        Self { content: Content::Sparse { len, pieces: pieces.into() }, sha256: None }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.content.len()
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }
}

/// How many host files a [`Reader`] keeps open: below the usual limit of 1024 descriptors, above the number of
/// packages in most images.
const OPEN_FILES: usize = 400;

/// Reads content; keeps host files open between reads and may be shared by threads.
#[derive(Debug, Default)]
pub struct Reader {
    open: Mutex<HashMap<Arc<Path>, Arc<File>>>,
}

impl Reader {
    /// A reader with nothing open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills `buffer` with the bytes at `offset`. What lies beyond the content's end reads as zeros, as the tail of a
    /// file's last block does.
    pub fn read_at(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> Result<(), ContentError> {
        let have = content.len().saturating_sub(offset);
        let take = usize::try_from(have).unwrap_or(usize::MAX).min(buffer.len());
        let (head, tail) = buffer.split_at_mut(take);
        tail.fill(0);
        if head.is_empty() {
            return Ok(());
        }
        match content {
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let source = bytes.get(start..).and_then(|rest| rest.get(..head.len())).unwrap_or_default();
                head.copy_from_slice(source);
                Ok(())
            }
            Content::Range { file, offset: base, .. } => {
                self.read_range(file, base.saturating_add(offset), head)
            }
            Content::Sparse { pieces, .. } => self.read_sparse(pieces, offset, head),
        }
    }

    /// All bytes of `content`, refused when there are more than `limit`.
    pub fn read_all(&self, content: &Content, limit: u64) -> Result<Vec<u8>, ContentError> {
        let len = content.len();
        let too_large = || ContentError::TooLarge { len, limit };
        if len > limit {
            return Err(too_large());
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| too_large())?];
        self.read_at(content, 0, &mut bytes)?;
        Ok(bytes)
    }

    fn read_range(&self, path: &Arc<Path>, offset: u64, buffer: &mut [u8]) -> Result<(), ContentError> {
        let file = self.file(path)?;
        file.read_exact_at(buffer, offset).map_err(|source| ContentError::Read {
            path: path.display().to_string(),
            offset,
            len: buffer.len(),
            source,
        })
    }

    fn read_sparse(&self, pieces: &[Piece], offset: u64, buffer: &mut [u8]) -> Result<(), ContentError> {
        buffer.fill(0);
        let end = offset.saturating_add(buffer.len() as u64);
        let first = pieces.partition_point(|piece| piece.at.saturating_add(piece.content.len()) <= offset);
        for piece in pieces.iter().skip(first).take_while(|piece| piece.at < end) {
            let from = piece.at.max(offset);
            let to = piece.at.saturating_add(piece.content.len()).min(end);
            let range = index(from - offset)..index(to.saturating_sub(offset));
            if let Some(part) = buffer.get_mut(range) {
                self.read_at(&piece.content, from - piece.at, part)?;
            }
        }
        Ok(())
    }

    /// The host file at `path`, opened once.
    pub fn file(&self, path: &Arc<Path>) -> Result<Arc<File>, ContentError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(path) {
            return Ok(Arc::clone(file));
        }
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        let opened = File::open(path)
            .map_err(|source| ContentError::Open { path: path.display().to_string(), source })?;
        let file = Arc::new(opened);
        open.insert(Arc::clone(path), Arc::clone(&file));
        Ok(file)
    }
}

/// An offset inside a buffer; larger values miss the buffer, which `get_mut` then says.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
