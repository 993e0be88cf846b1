//! The first pass: every inode's number, every block's address, and all metadata, without reading any file.

use super::allocate::Allocator;
use super::collect::{Collected, Inode, collect};
use super::data::{Chunks, DataArea, Extent, find_holes};
use super::directory::Blocks;
use super::format::*;
use super::xattr::{Area, area_count};
use crate::tree::{Content, Kind, Tree};

/// What the caller decides about an image.
#[derive(Debug, Clone)]
pub struct Options {
    /// UUID of the filesystem, in the order of its text.
    pub uuid: [u8; 16],
    /// Volume label: at most 16 bytes.
    pub label: String,
    /// Build time, seconds since 1970. Inodes with just this mtime take half the room.
    pub build_time: u64,
    /// Longest file tail, in bytes, that is stored beside the inode instead of in a block of its own. Each byte
    /// there makes the metadata larger, which changes from release to release.
    pub inline_limit: u32,
}

impl Options {
    /// Options with the usual limit for tails, 1024 bytes.
    pub fn new(uuid: [u8; 16], label: &str, build_time: u64) -> Self {
        Self { uuid, label: label.into(), build_time, inline_limit: 1024 }
    }
}

/// Why a tree cannot become an EROFS image.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages show: paths, lengths in bytes, numbers")]
pub enum PlanError {
    /// A name of more than 255 bytes.
    #[error("{path}: the name has {len} bytes, 255 are the most")]
    NameTooLong { path: String, len: usize },
    /// An empty name, `.`, `..`, or one with `/` or NUL.
    #[error("{path}: not a name that a file can have")]
    Name { path: String },
    /// Mode bits beyond the permissions.
    #[error("{path}: mode {mode:o} has more than permission bits")]
    Mode { path: String, mode: u16 },
    /// The owner or group that means "none".
    #[error("{path}: owner {uid} and group {gid}: 4294967295 stands for no owner")]
    Owner { path: String, uid: u32, gid: u32 },
    /// A symbolic link that the kernel would not follow.
    #[error("{path}: the link target has {len} bytes; it must have 1 to 4095 and no NUL")]
    Target { path: String, len: usize },
    /// A device number beyond 12 bits of major or 20 bits of minor.
    #[error("{path}: device {major}:{minor} does not fit, the largest is 4095:1048575")]
    Device { path: String, major: u32, minor: u32 },
    /// An attribute name without a prefix that the format knows.
    #[error(
        "{path}: extended attribute {name:?} cannot be stored; names begin with user., trusted., security. or are system.posix_acl_*"
    )]
    XattrName { path: String, name: String },
    /// An attribute value that is too long.
    #[error("{path}: extended attribute {name} has {len} bytes, 65535 are the most")]
    XattrValue { path: String, name: String, len: usize },
    /// Too many attributes on one inode.
    #[error("{path}: all extended attributes together take {len} bytes, 262148 are the most")]
    XattrArea { path: String, len: u64 },
    /// Two names of one file that disagree.
    #[error("{first} and {second} are hard links of one file but differ in owner, mode, time or attributes")]
    HardLinksDiffer { first: String, second: String },
    /// A label that is too long.
    #[error("label {label:?} has more than 16 bytes")]
    Label { label: String },
    /// The addresses have 32 bits.
    #[error("the image would have {blocks} blocks of 4096 bytes, 4294967294 are the most")]
    TooLarge { blocks: u64 },
}

/// A file tail that the second pass copies into the metadata.
#[derive(Debug)]
pub(super) struct Tail {
    /// Byte of the head.
    pub at: u64,
    pub content: Content,
    /// First byte of the content.
    pub offset: u64,
    pub bytes: u64,
}

/// A laid-out image, ready to be written. Holds the metadata (some 100 bytes a file), not the data.
#[derive(Debug)]
pub struct Plan {
    /// All blocks before the data, file tails excepted.
    pub(super) head: Vec<u8>,
    pub(super) tails: Vec<Tail>,
    /// Ascending and without gaps from the end of the head to the end of the image.
    pub(super) extents: Vec<Extent>,
    blocks: u64,
    /// For each inode in walk order where its first stored byte is.
    content_at: Vec<Option<u64>>,
}

impl Plan {
    /// Lays out `tree`. Pure: equal trees and options give equal plans, whatever the order in which they were filled.
    pub fn new(tree: &Tree, options: &Options) -> Result<Self, PlanError> {
        let mut label = [0; 16];
        match label.get_mut(..options.label.len()) {
            Some(start) => start.copy_from_slice(options.label.as_bytes()),
            None => return Err(PlanError::Label { label: options.label.clone() }),
        }
        let Collected { inodes, xattrs } = collect(tree)?;
        let (shared_xattrs, areas) = xattrs.finish();
        let mut allocator = Allocator::new(BLOCK_BYTES);
        let placed: Vec<_> = inodes
            .iter()
            .zip(areas)
            .map(|(inode, area)| Placed::new(inode, area, options, &mut allocator))
            .collect();

        let xattr_block = allocator.end().div_ceil(BLOCK_BYTES);
        let mut next_block = xattr_block + (shared_xattrs.len() as u64).div_ceil(BLOCK_BYTES);
        let directory_block = next_block;
        next_block += placed.iter().map(Placed::directory_blocks).sum::<u64>();
        let mut writer = Head {
            bytes: vec![0; size(next_block * BLOCK_BYTES)],
            directory_block,
            data: DataArea::new(next_block),
            tails: Vec::new(),
        };
        writer.put(xattr_block * BLOCK_BYTES, &shared_xattrs);
        let mut content_at = Vec::with_capacity(inodes.len());
        for (index, (inode, place)) in inodes.iter().zip(&placed).enumerate() {
            content_at.push(writer.write_inode(index, inode, place, &placed, options)?);
        }

        let blocks = writer.data.next_block;
        let address = block_address(blocks)?;
        let chunked = placed.iter().any(|place| matches!(place.body, Body::Chunks(_)));
        let superblock = Superblock {
            feature_compat: COMPAT_CHECKSUM | COMPAT_MTIME,
            feature_incompat: if chunked { INCOMPAT_CHUNKS } else { 0 },
            block_bits: BLOCK_BITS,
            // The root is allocated first: slot 128 of the metadata area, which starts at block 0.
            root_nid: u16::try_from(BLOCK_BYTES / SLOT_BYTES).unwrap_or_default(),
            inodes: inodes.len() as u64,
            build_time: options.build_time,
            blocks: address,
            meta_block: 0,
            xattr_block: block_address(xattr_block)?,
            uuid: options.uuid,
            label,
        };
        writer.put(0, &superblock.encode_block());
        let Head { bytes: head, data, tails, .. } = writer;
        Ok(Self { head, tails, extents: data.extents, blocks, content_at })
    }

    /// Length of the image in bytes, a multiple of 4096.
    pub const fn len_bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// Bytes of the image that are not file data in blocks of its own: inodes, directories, attributes, short tails.
    pub const fn metadata_bytes(&self) -> u64 {
        self.head.len() as u64
    }

    /// Number of inodes.
    pub const fn inodes(&self) -> u64 {
        self.content_at.len() as u64
    }

    /// For each inode, in the order of [`Tree::walk`] (a file with several names has one inode, at its first name), the byte of the
    /// image where its content begins: its first whole block, its tail beside the inode when there is no whole block, the first
    /// block with data of a sparse file. `None` for what has no content: empty files, all-hole files, directories, links, devices.
    pub fn content_at(&self) -> &[Option<u64>] {
        &self.content_at
    }
}

/// How an inode's bytes are stored.
#[derive(Debug)]
enum Body {
    /// No bytes: empty files, devices, pipes, sockets.
    None,
    /// All in blocks.
    Plain,
    /// Whole blocks, and the last `u64` bytes beside the inode.
    Inline(u64),
    Chunks(Chunks),
}

/// An inode with its place.
#[derive(Debug)]
struct Placed {
    /// Byte offset in the image.
    at: u64,
    extended: bool,
    size: u64,
    body: Body,
    area: Area,
    /// Type in directory entries.
    file_type: u8,
    blocks: Option<Blocks>,
}

impl Placed {
    fn new(inode: &Inode<'_>, area: Area, options: &Options, allocator: &mut Allocator) -> Self {
        let blocks = inode.node.entries().map(|_| Blocks::new(&inode.entries));
        let size = match &inode.node.kind {
            Kind::Directory(_) => blocks.as_ref().map_or(0, Blocks::size),
            Kind::File(data) => data.len(),
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        let extended = needs_extended(inode, size, options.build_time);
        let base = inode_bytes(extended) + area.bytes();
        let limit = match &inode.node.kind {
            Kind::File(_) => u64::from(options.inline_limit),
            _ => BLOCK_BYTES,
        };
        let body = choose_body(inode, size, limit.min(BLOCK_BYTES.saturating_sub(base)));
        let bytes = match &body {
            Body::None | Body::Plain => base,
            Body::Inline(tail) => base + tail,
            Body::Chunks(chunks) => base + 4 * chunks.count,
        };
        let file_type = dirent_type(type_bits(&inode.node.kind));
        Self { at: allocator.take(bytes), extended, size, body, area, file_type, blocks }
    }

    const fn nid(&self) -> u64 {
        self.at / SLOT_BYTES
    }

    /// Byte after the inode and its attributes.
    fn after_attributes(&self) -> u64 {
        self.at + inode_bytes(self.extended) + self.area.bytes()
    }

    /// Whole blocks that a flat body takes.
    fn flat_blocks(&self) -> u64 {
        match self.body {
            Body::Plain => self.size.div_ceil(BLOCK_BYTES),
            Body::Inline(tail) => (self.size - tail) / BLOCK_BYTES,
            Body::None | Body::Chunks(_) => 0,
        }
    }

    fn directory_blocks(&self) -> u64 {
        if self.blocks.is_some() { self.flat_blocks() } else { 0 }
    }
}

fn needs_extended(inode: &Inode<'_>, size: u64, build_time: u64) -> bool {
    let meta = &inode.node.meta;
    let short = u32::from(u16::MAX);
    meta.mtime != build_time
        || meta.uid > short
        || meta.gid > short
        || inode.nlink > short
        || size > u64::from(u32::MAX)
}

fn choose_body(inode: &Inode<'_>, size: u64, inline_room: u64) -> Body {
    if size == 0 {
        return Body::None;
    }
    if let Kind::File(data) = &inode.node.kind
        && let Some(chunks) = find_holes(&data.content)
    {
        return Body::Chunks(chunks);
    }
    // A tail of a whole block never fits beside its inode.
    let tail = match size % BLOCK_BYTES {
        0 => BLOCK_BYTES,
        tail => tail,
    };
    if tail <= inline_room { Body::Inline(tail) } else { Body::Plain }
}

/// The image's head while it is filled.
struct Head {
    bytes: Vec<u8>,
    directory_block: u64,
    data: DataArea,
    tails: Vec<Tail>,
}

impl Head {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let start = size(at);
        // The head was sized from the same places, so the range exists.
        if let Some(target) = self.bytes.get_mut(start..start + bytes.len()) {
            target.copy_from_slice(bytes);
        } else {
            debug_assert!(false, "place {at} lies outside the head");
        }
    }

    /// Returns where the inode's content begins, as [`Plan::content_at`] has it.
    fn write_inode(
        &mut self,
        index: usize,
        inode: &Inode<'_>,
        place: &Placed,
        all: &[Placed],
        options: &Options,
    ) -> Result<Option<u64>, PlanError> {
        let mut content_at = None;
        let union = match &inode.node.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                encode_device(*major, *minor).unwrap_or_default()
            }
            Kind::Fifo | Kind::Socket => 0,
            Kind::File(data) => match &place.body {
                Body::Chunks(chunks) => {
                    // Chunks with data are stored one after the other from here on.
                    content_at = chunks.data.first().map(|_| self.data.next_block * BLOCK_BYTES);
                    self.store_chunks(&data.content, chunks, place)?
                }
                _ => {
                    if let Body::Inline(bytes) = place.body {
                        let offset = place.size - bytes;
                        let (at, content) = (place.after_attributes(), data.content.clone());
                        content_at = Some(at);
                        self.tails.push(Tail { at, content, offset, bytes });
                    }
                    match place.flat_blocks() {
                        0 => NO_BLOCK,
                        blocks => {
                            let first = self.data.store_file(data, blocks);
                            content_at = Some(first * BLOCK_BYTES);
                            block_address(first)?
                        }
                    }
                }
            },
            Kind::Symlink(target) => match place.body {
                Body::Plain => {
                    let content = Content::Bytes(target.as_slice().into());
                    block_address(self.data.store(&content, 0, place.flat_blocks()))?
                }
                _ => {
                    self.put(place.after_attributes(), target);
                    NO_BLOCK
                }
            },
            Kind::Directory(_) => self.write_directory(inode, place, all)?,
        };
        let raw = RawInode {
            extended: place.extended,
            layout: match place.body {
                Body::None | Body::Plain => LAYOUT_PLAIN,
                Body::Inline(_) => LAYOUT_INLINE,
                Body::Chunks(_) => LAYOUT_CHUNKS,
            },
            xattr_count: area_count(place.area.bytes()),
            mode: type_bits(&inode.node.kind) | inode.node.meta.mode,
            nlink: inode.nlink,
            size: place.size,
            union,
            ino: u32::try_from(index + 1).unwrap_or(u32::MAX),
            uid: inode.node.meta.uid,
            gid: inode.node.meta.gid,
            mtime: if place.extended { inode.node.meta.mtime } else { options.build_time },
        };
        let mut bytes = raw.encode();
        bytes.extend(place.area.encode());
        self.put(place.at, &bytes);
        Ok(content_at)
    }

    fn write_directory(
        &mut self,
        inode: &Inode<'_>,
        place: &Placed,
        all: &[Placed],
    ) -> Result<u32, PlanError> {
        let Some(blocks) = &place.blocks else { return Ok(NO_BLOCK) };
        let bytes = blocks.encode(&inode.entries, |target| {
            all.get(target).map_or((0, 0), |place| (place.nid(), place.file_type))
        });
        let whole = size(place.flat_blocks() * BLOCK_BYTES).min(bytes.len());
        let (in_blocks, beside) = bytes.split_at(whole);
        self.put(place.after_attributes(), beside);
        if in_blocks.is_empty() {
            return Ok(NO_BLOCK);
        }
        let first = self.directory_block;
        self.directory_block += place.flat_blocks();
        self.put(first * BLOCK_BYTES, in_blocks);
        block_address(first)
    }

    /// Writes the table of chunks behind the inode; returns the table's format.
    fn store_chunks(&mut self, content: &Content, chunks: &Chunks, place: &Placed) -> Result<u32, PlanError> {
        let chunk_blocks = 1u64 << chunks.bits;
        let file_blocks = place.size.div_ceil(BLOCK_BYTES);
        let mut table = vec![NO_BLOCK; size(chunks.count)];
        for range in &chunks.data {
            let first = range.start * chunk_blocks;
            let blocks = (range.end * chunk_blocks).min(file_blocks) - first;
            let address = self.data.store(content, first * BLOCK_BYTES, blocks);
            for chunk in range.clone() {
                if let Some(slot) = table.get_mut(size(chunk)) {
                    *slot = block_address(address + (chunk - range.start) * chunk_blocks)?;
                }
            }
        }
        let bytes: Vec<u8> = table.into_iter().flat_map(u32::to_le_bytes).collect();
        self.put(place.after_attributes(), &bytes);
        Ok(u32::from(chunks.bits))
    }
}

const fn type_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory(_) => TYPE_DIRECTORY,
        Kind::File(_) => TYPE_FILE,
        Kind::Symlink(_) => TYPE_SYMLINK,
        Kind::CharDevice { .. } => TYPE_CHAR,
        Kind::BlockDevice { .. } => TYPE_BLOCK,
        Kind::Fifo => TYPE_FIFO,
        Kind::Socket => TYPE_SOCKET,
    }
}

/// A block number in the format's 32 bits; the largest value means "none".
fn block_address(block: u64) -> Result<u32, PlanError> {
    match u32::try_from(block) {
        Ok(address) if address != NO_BLOCK => Ok(address),
        _ => Err(PlanError::TooLarge { blocks: block }),
    }
}

/// A length in memory; the targets that we build for have 64-bit addresses.
pub(super) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
