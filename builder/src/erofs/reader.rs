//! Reads uncompressed EROFS images: for `inspect`, for comparing images, and to check the writer.
//!
//! Total: any bytes give a result or an error, in bounded time and memory.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::*;
use super::plan::size;
use super::{directory, xattr};
use crate::tree::Xattrs;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The first block is none of EROFS, or of one that we do not read.
    #[error("no EROFS image that can be read")]
    Superblock(#[from] SuperblockError),
    /// The bytes are not there.
    #[error("cannot read {len} bytes at {offset} of the EROFS image")]
    Source {
        /// Byte of the image.
        offset: u64,
        /// Length in bytes.
        len: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A structure contradicts the format.
    #[error("inode {nid} of the EROFS image is damaged: {what}")]
    Damaged {
        /// The inode's number.
        nid: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Bytes of an image, wherever they are.
pub trait Source {
    /// Fills `buffer` from byte `offset` of the image on.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let found = usize::try_from(offset).ok().and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

/// An image inside a file, such as a slot of a disk.
#[derive(Debug)]
pub struct Region<'f> {
    /// The file.
    pub file: &'f File,
    /// Where the image starts, in bytes.
    pub base: u64,
}

impl Source for Region<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = self.base.checked_add(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        FileExt::read_exact_at(self.file, buffer, at)
    }
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum FileType {
    File,
    Directory,
    Symlink,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Socket,
}

/// One inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub nid: u64,
    /// Its type.
    pub file_type: FileType,
    /// Permission bits with setuid, setgid, sticky.
    pub mode: u16,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: u64,
    /// Length in bytes.
    pub size: u64,
    raw: RawInode,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode's number.
    pub nid: u64,
}

/// An opened image.
#[derive(Debug)]
pub struct Image<S> {
    source: S,
    superblock: Superblock,
}

impl<S: Source> Image<S> {
    /// Reads and checks the superblock.
    pub fn open(source: S) -> Result<Self, ReadError> {
        let mut block = [0; 1 << BLOCK_BITS];
        read(&source, 0, &mut block)?;
        Ok(Self { superblock: Superblock::decode(&block)?, source })
    }

    /// The superblock.
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The root directory.
    pub fn root(&self) -> Result<Inode, ReadError> {
        self.inode(u64::from(self.superblock.root_nid))
    }

    /// The inode with number `nid`.
    pub fn inode(&self, nid: u64) -> Result<Inode, ReadError> {
        let damaged = |what| ReadError::Damaged { nid, what };
        let at = self.inode_offset(nid).ok_or(damaged("its number is out of range"))?;
        let mut bytes = [0; 64];
        let (short, long) = bytes.split_at_mut(32);
        read(&self.source, at, short)?;
        if short.first().is_some_and(|format| format & 1 == 1) {
            read(&self.source, at + 32, long)?;
        }
        let raw = RawInode::decode(&bytes, self.superblock.build_time).ok_or(damaged("cut short"))?;
        let (major, minor) = decode_device(raw.union);
        let file_type = match raw.mode & TYPE_MASK {
            TYPE_FILE => FileType::File,
            TYPE_DIRECTORY => FileType::Directory,
            TYPE_SYMLINK => FileType::Symlink,
            TYPE_CHAR => FileType::CharDevice { major, minor },
            TYPE_BLOCK => FileType::BlockDevice { major, minor },
            TYPE_FIFO => FileType::Fifo,
            TYPE_SOCKET => FileType::Socket,
            _ => return Err(damaged("its type is unknown")),
        };
        let (mode, nlink, uid, gid) = (raw.mode & 0o7777, raw.nlink, raw.uid, raw.gid);
        Ok(Inode { nid, file_type, mode, nlink, uid, gid, mtime: raw.mtime, size: raw.size, raw })
    }

    /// Fills `buffer` with the inode's bytes from `offset` on; beyond its end with zeros.
    pub fn read_at(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() && at < inode.size {
            let in_block = BLOCK_BYTES - at % BLOCK_BYTES;
            let step = in_block.min(inode.size - at).min(rest.len() as u64);
            let (part, later) = rest.split_at_mut(size(step));
            match self.locate(inode, at)? {
                Some(place) => read(&self.source, place, part)?,
                None => part.fill(0),
            }
            rest = later;
            at += step;
        }
        rest.fill(0);
        Ok(())
    }

    /// The names in a directory, `.` and `..` left out, in the order on disk.
    pub fn read_dir(&self, inode: &Inode) -> Result<Vec<DirEntry>, ReadError> {
        let damaged = |what| ReadError::Damaged { nid: inode.nid, what };
        if inode.file_type != FileType::Directory {
            return Err(damaged("it is no directory"));
        }
        let mut found = Vec::new();
        let mut at = 0;
        self.check_stored(inode)?;
        while at < inode.size {
            let mut block = vec![0; size(BLOCK_BYTES.min(inode.size - at))];
            self.read_at(inode, at, &mut block)?;
            at += BLOCK_BYTES;
            let entries = directory::decode_block(&block).ok_or(damaged("a directory block is malformed"))?;
            let named = entries.into_iter().filter(|(_, _, name)| name != b"." && name != b"..");
            found.extend(named.map(|(nid, _, name)| DirEntry { name, nid }));
        }
        Ok(found)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, inode: &Inode) -> Result<Vec<u8>, ReadError> {
        if inode.file_type != FileType::Symlink || inode.size > BLOCK_BYTES {
            return Err(ReadError::Damaged { nid: inode.nid, what: "it is no link of at most 4096 bytes" });
        }
        let mut target = vec![0; size(inode.size)];
        self.read_at(inode, 0, &mut target)?;
        Ok(target)
    }

    /// The extended attributes.
    pub fn xattrs(&self, inode: &Inode) -> Result<Xattrs, ReadError> {
        let damaged = || ReadError::Damaged { nid: inode.nid, what: "its extended attributes are malformed" };
        let bytes = xattr::area_bytes(inode.raw.xattr_count);
        if bytes == 0 {
            return Ok(Xattrs::new());
        }
        let start = self.inode_offset(inode.nid).ok_or_else(damaged)? + inode_bytes(inode.raw.extended);
        let mut area = vec![0; size(bytes)];
        read(&self.source, start, &mut area)?;
        let (shared, mut all) = xattr::decode_area(&area).ok_or_else(damaged)?;
        for id in shared {
            let at = u64::from(self.superblock.xattr_block) * BLOCK_BYTES + 4 * u64::from(id);
            let mut head = [0; 4];
            read(&self.source, at, &mut head)?;
            let (name_len, value_len) = (head.first().copied().unwrap_or(0), le16(&head, 2).unwrap_or(0));
            let mut record = vec![0; 4 + usize::from(name_len) + usize::from(value_len)];
            read(&self.source, at, &mut record)?;
            let (name, value, _) = xattr::decode_record(&record).ok_or_else(damaged)?;
            all.insert(name, value);
        }
        Ok(all)
    }

    /// All names with their inodes, parents first, the root with an empty path.
    pub fn walk(&self) -> Result<Vec<(Vec<u8>, Inode)>, ReadError> {
        let mut found = vec![(Vec::new(), self.root()?)];
        let mut directories = HashSet::from([found.first().map_or(0, |(_, root)| root.nid)]);
        let mut next = 0;
        while let Some((path, inode)) = found.get(next).cloned() {
            next += 1;
            if inode.file_type != FileType::Directory {
                continue;
            }
            for entry in self.read_dir(&inode)? {
                let child = self.inode(entry.nid)?;
                // A directory has one name. Without this check a cycle would never end.
                if child.file_type == FileType::Directory && !directories.insert(entry.nid) {
                    return Err(ReadError::Damaged { nid: entry.nid, what: "it is in two directories" });
                }
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                found.push(([path.as_slice(), separator, &entry.name].concat(), child));
            }
        }
        Ok(found)
    }

    fn inode_offset(&self, nid: u64) -> Option<u64> {
        nid.checked_mul(SLOT_BYTES)?.checked_add(u64::from(self.superblock.meta_block) * BLOCK_BYTES)
    }

    /// Directories are stored in full, so one longer than the image is damaged.
    fn check_stored(&self, inode: &Inode) -> Result<(), ReadError> {
        if inode.size > u64::from(self.superblock.blocks) * BLOCK_BYTES {
            return Err(ReadError::Damaged { nid: inode.nid, what: "it is longer than the image" });
        }
        Ok(())
    }

    /// The image's byte for byte `at` of the inode, good to the end of the block; `None` in a hole.
    fn locate(&self, inode: &Inode, at: u64) -> Result<Option<u64>, ReadError> {
        let damaged = |what| ReadError::Damaged { nid: inode.nid, what };
        let raw = &inode.raw;
        let beside = self
            .inode_offset(inode.nid)
            .map(|start| start + inode_bytes(raw.extended) + xattr::area_bytes(raw.xattr_count))
            .ok_or(damaged("its number is out of range"))?;
        let (block, in_block) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
        let flat = u64::from(raw.union) * BLOCK_BYTES;
        match raw.layout {
            LAYOUT_INLINE if block == (inode.size - 1) / BLOCK_BYTES => Ok(Some(beside + in_block)),
            LAYOUT_PLAIN | LAYOUT_INLINE => {
                flat.checked_add(at).map(Some).ok_or(damaged("its length is out of range"))
            }
            LAYOUT_CHUNKS => {
                if raw.union & !0x1f != 0 {
                    return Err(damaged("its chunks are of a format that is not supported"));
                }
                let (chunk, inside) = (block >> raw.union, block & ((1 << raw.union) - 1));
                let mut entry = [0; 4];
                let entry_at = chunk.checked_mul(4).and_then(|offset| offset.checked_add(beside));
                read(&self.source, entry_at.ok_or(damaged("its length is out of range"))?, &mut entry)?;
                let address = u32::from_le_bytes(entry);
                let place = (u64::from(address) + inside) * BLOCK_BYTES + in_block;
                Ok((address != NO_BLOCK).then_some(place))
            }
            _ => Err(damaged("its layout is compressed or unknown")),
        }
    }
}

fn read(source: &impl Source, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
    let len = buffer.len();
    source.read_exact_at(offset, buffer).map_err(|source| ReadError::Source { offset, len, source })
}
