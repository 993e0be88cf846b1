//! A tar archive of the machine that builds.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;

use debian::compression::Compression;
use debian::tarball::{self, Entry, EntryKind};
use debian::temporary::Temporary;

use super::{Entries, TreesError, io_error};
use crate::tree::{Content, FileData, Kind, Meta, Node, Origin, Piece};

/// What is read from an archive at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Reads an archive. One that is compressed is unpacked to a file in `scratch`, which has to stay until the contents were read.
///
/// # Errors
/// It cannot be read, is none by its name, or has something in it that no image can have.
pub(super) fn read(
    path: &Path,
    tree: &str,
    origin: &Origin,
    scratch: &Path,
) -> Result<(Entries, Option<Temporary>), TreesError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ending = name.rsplit_once(".tar").and_then(|(_, ending)| Compression::from_suffix(ending));
    let Some(compression) = ending else { return Err(TreesError::Form { path: path.to_owned() }) };
    let failed = io_error("read", path, tree);
    let unpacked = match compression {
        Compression::None => None,
        _ => {
            let unpacked = Temporary::new(scratch.join(format!(".{name}.{}", std::process::id())));
            decompress(path, compression, unpacked.path()).map_err(failed)?;
            Some(unpacked)
        }
    };
    let data: Arc<Path> = Arc::from(unpacked.as_ref().map_or(path, Temporary::path));
    let file = File::open(&data).map_err(io_error("read", &data, tree))?;
    let entries = tarball::tree_entries(BufReader::with_capacity(BUFFER_BYTES, file))
        .map_err(|source| TreesError::Archive { path: path.to_owned(), source })?;
    Ok((nodes(&entries, &data, origin), unpacked))
}

fn decompress(path: &Path, compression: Compression, to: &Path) -> io::Result<()> {
    let from = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut decoder = compression.decoder(from)?;
    // Made by this process alone: the name has its number.
    let _ = fs::remove_file(to);
    io::copy(&mut decoder, &mut File::create_new(to)?).map(drop)
}

fn nodes(entries: &[Entry], data: &Arc<Path>, origin: &Origin) -> Entries {
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut nodes: Entries = Vec::with_capacity(entries.len());
    for entry in entries {
        let node = match &entry.kind {
            // The parser has seen to it that the target is an earlier entry; a name of a file is that file with all it says.
            EntryKind::HardLink(target) => places
                .get(target.as_slice())
                .and_then(|place| nodes.get(*place))
                .map(|(_, node)| node.clone()),
            _ => node(entry, data, origin),
        };
        let Some(node) = node else { continue };
        places.insert(&entry.path, nodes.len());
        nodes.push((entry.path.clone(), node));
    }
    nodes
}

/// The node of an archive's entry whose content is in the uncompressed archive `data`; `None` for a hard link, which is another name
/// of another node.
pub fn node(entry: &Entry, data: &Arc<Path>, origin: &Origin) -> Option<Node> {
    let kind = match &entry.kind {
        EntryKind::Directory => Kind::empty_directory(),
        EntryKind::File { offset, size, sha256 } => {
            Kind::File(Arc::new(FileData::from_range(Arc::clone(data), *offset, *size, Some(sha256.0))))
        }
        EntryKind::Sparse { size, pieces } => {
            let place = |piece: &tarball::Piece| Piece {
                at: piece.at,
                content: Content::Range { file: Arc::clone(data), offset: piece.offset, len: piece.len },
            };
            Kind::File(Arc::new(FileData::sparse(*size, pieces.iter().map(place).collect())))
        }
        EntryKind::Symlink(target) => Kind::Symlink(target.clone()),
        EntryKind::HardLink(_) => return None,
        EntryKind::CharDevice { major, minor } => Kind::CharDevice { major: *major, minor: *minor },
        EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        EntryKind::Fifo => Kind::Fifo,
    };
    let mode = u16::try_from(entry.mode & 0o7777).unwrap_or_default();
    let meta = Meta { mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime };
    let mut node = Node::new(kind, meta, origin.clone());
    node.xattrs = entry.xattrs.iter().cloned().collect();
    Some(node)
}
