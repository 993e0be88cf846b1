//! A folder of the machine that builds.
//!
//! Names are bytes, links are not followed, and what the folder says of owners and times is not looked at: they are those of
//! whoever checked it out, and when. For the same reason only such attributes count as programs set on purpose, and holes are where
//! the zeros are, whether or not the file system of this machine knows holes.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use rustix::fs::{lgetxattr, llistxattr, major, minor};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{Entries, TreesError, bytes, io_error};
use crate::sparse::{chunks_of, data_ranges, is_zero};
use crate::tree::{Content, FileData, Kind, Meta, Node, Origin, Piece, Xattrs};

/// Zeros become a hole in runs of this many bytes: large enough that the table of a file's chunks stays small (4 bytes each), small
/// enough that holes are worth having.
const HOLE_BYTES: u64 = ZEROS.len() as u64;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Longest list of names and longest value of extended attributes (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX` of Linux).
const XATTR_BYTES: usize = 65_536;

/// What the system says of files, by their paths from the root of a tree.
pub(super) type Listing = Vec<(Vec<u8>, Metadata)>;

/// Everything below `root`, by its path from there, in byte order of paths' components; folders before what is in them.
///
/// # Errors
/// The system's, with the file.
pub(super) fn list(root: &Path) -> Result<Listing, (PathBuf, io::Error)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let at = |error| (folder.clone(), error);
        for entry in fs::read_dir(&folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            let metadata = fs::symlink_metadata(&path).map_err(|error| (path.clone(), error))?;
            let name = path.strip_prefix(root).map(bytes).unwrap_or_default();
            if metadata.is_dir() {
                folders.push(path);
            }
            found.push((name, metadata));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.split(is_slash).cmp(b.split(is_slash)));
    Ok(found)
}

const fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// Reads a folder.
///
/// # Errors
/// A file cannot be read, or is a socket.
pub(super) fn read(root: &Path, tree: &str, origin: &Origin) -> Result<Entries, TreesError> {
    let listed = list(root).map_err(|(path, error)| io_error("read", &path, tree)(error))?;
    let place = |name: &[u8]| root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
    // Names of one inode share its data, which is how the tree knows hard links.
    let mut first_names: HashMap<(u64, u64), &[u8]> = HashMap::new();
    for (name, metadata) in listed.iter().filter(|(_, metadata)| metadata.is_file()) {
        first_names.entry((metadata.dev(), metadata.ino())).or_insert(name);
    }
    let inodes: Vec<_> = first_names.into_iter().collect();
    let scanned = inodes.par_iter().map(|(inode, name)| {
        let path = place(name);
        let data = scan(&path).map_err(io_error("read", &path, tree))?;
        Ok((*inode, Arc::new(data)))
    });
    let data: HashMap<_, _> = scanned.collect::<Result<_, TreesError>>()?;
    let mut nodes = Vec::with_capacity(listed.len());
    for (name, metadata) in &listed {
        let path = place(name);
        let kind = kind(&path, metadata, &data, tree)?;
        // The file type is not part of what a node's mode says.
        let mode = u16::try_from(metadata.mode() & 0o7777).unwrap_or_default();
        let mut node = Node::new(kind, Meta::root(mode, 0), origin.clone());
        if metadata.is_file() || metadata.is_dir() {
            node.xattrs = xattrs(&path).map_err(io_error("read the attributes of", &path, tree))?;
        }
        nodes.push((name.clone(), node));
    }
    Ok(nodes)
}

fn kind(
    path: &Path,
    metadata: &Metadata,
    data: &HashMap<(u64, u64), Arc<FileData>>,
    tree: &str,
) -> Result<Kind, TreesError> {
    let kind = metadata.file_type();
    let (major, minor) = (major(metadata.rdev()), minor(metadata.rdev()));
    Ok(if kind.is_dir() {
        Kind::empty_directory()
    } else if kind.is_symlink() {
        Kind::Symlink(bytes(&fs::read_link(path).map_err(io_error("read", path, tree))?))
    } else if kind.is_char_device() {
        Kind::CharDevice { major, minor }
    } else if kind.is_block_device() {
        Kind::BlockDevice { major, minor }
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if let Some(data) = data.get(&(metadata.dev(), metadata.ino())) {
        Kind::File(Arc::clone(data))
    } else {
        return Err(TreesError::Socket { path: path.to_owned(), tree: tree.to_owned() });
    })
}

/// Reads a regular file once: its digest, and where its data is.
fn scan(path: &Path) -> io::Result<FileData> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let whole = Arc::<Path>::from(path);
    let mut hasher = Sha256::new();
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut hashed = 0;
    let mut buffer = vec![0; ZEROS.len()];
    for chunk in chunks_of(&data_ranges(&file, 0..len)?, HOLE_BYTES) {
        let start = chunk * HOLE_BYTES;
        let end = (start + HOLE_BYTES).min(len);
        let part = buffer.get_mut(..index(end - start)).unwrap_or_default();
        file.read_exact_at(part, start)?;
        hash_zeros(&mut hasher, start - hashed);
        hasher.update(&*part);
        hashed = end;
        match runs.last_mut() {
            _ if is_zero(part) => {}
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(start..end),
        }
    }
    hash_zeros(&mut hasher, len - hashed);
    let sha256 = Some(hasher.finalize().into());
    if len < HOLE_BYTES || runs.first() == Some(&(0..len)) {
        return Ok(FileData::from_range(whole, 0, len, sha256));
    }
    let piece = |run: Range<u64>| {
        let (file, len) = (Arc::clone(&whole), run.end - run.start);
        Piece { at: run.start, content: Content::Range { file, offset: run.start, len } }
    };
    Ok(FileData { sha256, ..FileData::sparse(len, runs.into_iter().map(piece).collect()) })
}

fn hash_zeros(hasher: &mut Sha256, mut count: u64) {
    while count > 0 {
        let zeros = ZEROS.get(..index(count.min(HOLE_BYTES))).unwrap_or_default();
        hasher.update(zeros);
        count -= zeros.len() as u64;
    }
}

/// A length that is at most [`HOLE_BYTES`].
fn index(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The attributes that go with a file: `user.*` and `security.capability`. Access lists name users of this machine, labels are those of
/// its policy, and `trusted.*` is for its overlays.
fn xattrs(path: &Path) -> io::Result<Xattrs> {
    let mut names = Vec::with_capacity(XATTR_BYTES);
    match llistxattr(path, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Xattrs::new()),
        Err(error) => return Err(error.into()),
    }
    let counts = |name: &&[u8]| name.starts_with(b"user.") || *name == b"security.capability";
    let mut xattrs = Xattrs::new();
    for name in names.split(|byte| *byte == 0).filter(counts) {
        let mut value = Vec::with_capacity(XATTR_BYTES);
        lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value))?;
        value.shrink_to_fit();
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}
