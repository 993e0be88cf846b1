//! Writes cpio archives of the "newc" kind, which the kernel unpacks as initramfs (`docs/formats/initramfs.md`).

use std::io::{self, Write};

use crate::tree::{ContentError, Kind, Node, Reader, Tree, display};

const TRAILER: &[u8] = b"TRAILER!!!";
const HEADER_BYTES: usize = 110;
/// Bytes copied at a time.
const STEP: usize = 1 << 20;

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CpioError {
    /// A header field has 32 bits.
    #[error("{path}: {field} {value} does not fit into an initramfs")]
    Field {
        /// The file.
        path: String,
        /// What is too large.
        field: &'static str,
        /// How large it is.
        value: u64,
    },
    /// The name that ends an archive.
    #[error("{path}: no file of an initramfs can have this name")]
    Name {
        /// The file.
        path: String,
    },
    /// A file's bytes could not be had.
    #[error("cannot read {path}")]
    Content {
        /// The file in the archive.
        path: String,
        /// The cause.
        #[source]
        source: ContentError,
    },
    /// The output failed.
    #[error("cannot write the archive at {path}")]
    Output {
        /// The file in the archive.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Writes all of `tree` but its root, parents first, in byte order: equal trees give equal archives. Inode numbers
/// count up; each name of a hard-linked file carries the bytes. Extended attributes have no place in the format.
pub fn write(tree: &Tree, reader: &Reader, output: &mut dyn Write) -> Result<(), CpioError> {
    let mut ino = 0;
    for (path, node) in tree.walk().skip(1) {
        ino += 1;
        write_entry(&path, node, ino, reader, output)?;
    }
    let fields = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, TRAILER.len() as u64 + 1, 0];
    let header = header("the trailer", &fields.map(|value| ("field", value)))?;
    write_padded(TRAILER, output, [header, TRAILER.to_vec(), vec![0]].concat())
}

fn write_entry(
    path: &[u8],
    node: &Node,
    ino: u64,
    reader: &Reader,
    output: &mut dyn Write,
) -> Result<(), CpioError> {
    if path == TRAILER {
        return Err(CpioError::Name { path: display(path) });
    }
    let (type_bits, major, minor) = match node.kind {
        Kind::Directory(_) => (0o040_000, 0, 0),
        Kind::File(_) => (0o100_000, 0, 0),
        Kind::Symlink(_) => (0o120_000, 0, 0),
        Kind::CharDevice { major, minor } => (0o020_000, major, minor),
        Kind::BlockDevice { major, minor } => (0o060_000, major, minor),
        Kind::Fifo => (0o010_000, 0, 0),
        Kind::Socket => (0o140_000, 0, 0),
    };
    let size = match &node.kind {
        Kind::File(data) => data.len(),
        Kind::Symlink(target) => target.len() as u64,
        _ => 0,
    };
    let fields = [
        ("inode number", ino),
        ("mode", u64::from(node.meta.mode) | type_bits),
        ("owner", u64::from(node.meta.uid)),
        ("group", u64::from(node.meta.gid)),
        ("links", if node.entries().is_some() { 2 } else { 1 }),
        ("time", node.meta.mtime),
        ("length", size),
        ("device", 0),
        ("device", 0),
        ("major number", u64::from(major)),
        ("minor number", u64::from(minor)),
        ("name length", path.len() as u64 + 1),
        ("checksum", 0),
    ];
    let header = header(&display(path), &fields)?;
    write_padded(path, output, [header, path.to_vec(), vec![0]].concat())?;
    match &node.kind {
        Kind::Symlink(target) => write_padded(path, output, target.clone()),
        Kind::File(_) => write_data(path, node, size, reader, output),
        _ => Ok(()),
    }
}

fn write_data(
    path: &[u8],
    node: &Node,
    size: u64,
    reader: &Reader,
    output: &mut dyn Write,
) -> Result<(), CpioError> {
    let Some(data) = node.file() else { return Ok(()) };
    let mut buffer = Vec::new();
    for start in (0..size).step_by(STEP) {
        let take = usize::try_from(size - start).unwrap_or(STEP).min(STEP);
        buffer.resize(take, 0);
        reader
            .read_at(&data.content, start, &mut buffer)
            .map_err(|source| CpioError::Content { path: display(path), source })?;
        // All steps but the last one are a multiple of 4 bytes, so padding follows the last one only.
        write_padded(path, output, std::mem::take(&mut buffer))?;
    }
    Ok(())
}

fn header(path: &str, fields: &[(&'static str, u64); 13]) -> Result<Vec<u8>, CpioError> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend(b"070701");
    for &(field, value) in fields {
        let value = u32::try_from(value).map_err(|_| CpioError::Field { path: path.into(), field, value })?;
        header.extend(format!("{value:08x}").into_bytes());
    }
    Ok(header)
}

fn write_padded(path: &[u8], output: &mut dyn Write, mut bytes: Vec<u8>) -> Result<(), CpioError> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    output.write_all(&bytes).map_err(|source| CpioError::Output { path: display(path), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{FileData, Meta, Origin};
    use proptest::prelude::*;
    use std::sync::Arc;

    #[derive(Debug, PartialEq)]
    struct Member {
        name: Vec<u8>,
        fields: Vec<u32>,
        data: Vec<u8>,
    }

    /// Reads an archive the way the kernel does: fields by position, everything padded to 4 bytes.
    fn parse(mut bytes: &[u8]) -> Vec<Member> {
        fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
            let (taken, rest) = bytes.split_at(len);
            *bytes = rest;
            taken
        }
        let total = bytes.len();
        let mut members = Vec::new();
        loop {
            assert_eq!(take(&mut bytes, 6), b"070701");
            let fields: Vec<u32> = (0..13)
                .map(|_| u32::from_str_radix(std::str::from_utf8(take(&mut bytes, 8)).unwrap(), 16).unwrap())
                .collect();
            let name = take(&mut bytes, fields[11] as usize);
            assert_eq!(name.last(), Some(&0));
            let name = name[..name.len() - 1].to_vec();
            let align = |bytes: &mut &[u8]| {
                let padding = (4 - (total - bytes.len()) % 4) % 4;
                assert!(take(bytes, padding).iter().all(|byte| *byte == 0));
            };
            align(&mut bytes);
            let data = take(&mut bytes, fields[6] as usize).to_vec();
            align(&mut bytes);
            if name == TRAILER {
                assert!(bytes.is_empty());
                return members;
            }
            members.push(Member { name, fields, data });
        }
    }

    fn archive(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(tree, &Reader::new(), &mut bytes).unwrap();
        bytes
    }

    fn node(kind: Kind) -> Node {
        Node::new(kind, Meta { mode: 0o644, uid: 1, gid: 2, mtime: 3 }, Origin::new("test"))
    }

    fn tree() -> Tree {
        Tree::new(Meta::root(0o755, 3))
    }

    #[test]
    fn an_empty_tree_is_the_trailer_alone() {
        assert_eq!(archive(&tree()).len(), 124);
        assert!(parse(&archive(&tree())).is_empty());
    }

    #[test]
    fn headers_say_type_owner_and_device() {
        let mut tree = tree();
        tree.insert(b"dev/console", node(Kind::CharDevice { major: 5, minor: 1 })).unwrap();
        tree.insert(b"init", node(Kind::file(b"#!".as_slice()))).unwrap();
        let members = parse(&archive(&tree));
        let names: Vec<_> = members.iter().map(|member| member.name.as_slice()).collect();
        assert_eq!(names, [&b"dev"[..], b"dev/console", b"init"]);
        assert_eq!(members[0].fields[..6], [1, 0o040_755, 0, 0, 2, 3]);
        assert_eq!(members[1].fields, [2, 0o020_644, 1, 2, 1, 3, 0, 0, 0, 5, 1, 12, 0]);
        assert_eq!(members[2].fields[1], 0o100_644);
        assert_eq!(members[2].data, b"#!");
    }

    #[test]
    fn what_32_bits_cannot_hold_is_refused() {
        let refuse = |path: &[u8], node: Node| {
            let mut tree = tree();
            tree.insert(path, node).unwrap();
            write(&tree, &Reader::new(), &mut Vec::new()).unwrap_err().to_string()
        };
        let huge = Kind::File(Arc::new(FileData::sparse(1 << 32, vec![])));
        assert_eq!(refuse(b"big", node(huge)), "/big: length 4294967296 does not fit into an initramfs");
        let mut late = node(Kind::Fifo);
        late.meta.mtime = u64::MAX;
        assert!(refuse(b"late", late).starts_with("/late: time"));
        assert!(refuse(TRAILER, node(Kind::Fifo)).starts_with("/TRAILER!!!"));
    }

    #[test]
    fn a_failing_output_is_an_error_with_the_file() {
        let mut tree = tree();
        tree.insert(b"f", node(Kind::file(vec![1; 5000]))).unwrap();
        let mut room = [0; 200];
        let error = write(&tree, &Reader::new(), &mut &mut room[..]).unwrap_err();
        assert!(matches!(error, CpioError::Output { path, .. } if path == "/f"));
    }

    proptest! {
        #[test]
        fn members_come_back_as_they_went_in(
            files in proptest::collection::btree_map("[a-z]{1,9}", (proptest::collection::vec(any::<u8>(), 0..99), any::<bool>()), 0..9)
        ) {
            let mut tree = tree();
            for (name, (data, link)) in &files {
                let kind = if *link { Kind::Symlink(data.clone()) } else { Kind::file(data.clone()) };
                tree.insert(name.as_bytes(), node(kind)).unwrap();
            }
            let bytes = archive(&tree);
            prop_assert_eq!(bytes.len() % 4, 0);
            let found: Vec<_> = parse(&bytes).into_iter().map(|member| (member.name, member.data)).collect();
            let want: Vec<_> = files.into_iter().map(|(name, (data, _))| (name.into_bytes(), data)).collect();
            prop_assert_eq!(found, want);
        }
    }
}
