//! The index of a payload: bytes to checked values and back (`docs/formats/payload.md`).

use std::ops::Range;

use slots::{FOOTER_LEN, Footer, FooterError};

use super::chunks::MAX_CHUNK;
use super::digest::{BLOCK, Digest};
use super::layout::{Layout, LayoutError};
use super::{MAX_FRAME_BLOCKS, varint};

/// A longer index is refused before it is fetched. One of a slot of 148 MB has about 35 KB.
pub const MAX_INDEX_BYTES: u64 = 4 << 20;

const MAGIC: &[u8; 8] = b"FERRINDX";
const VERSION: u32 = 1;
const HEADER_LEN: usize = BLOCK;
const FIELDS_LEN: usize = 32;
const TABLES_AT: usize = HEADER_LEN + FOOTER_LEN;
/// SHA-256 of a chunk and the number of its digests.
const CHUNK_LEN: usize = 34;
/// Compression may make a frame longer, but not by more than this and a 64th: no writer stores worse than raw.
const FRAME_OVERHEAD: u64 = 1024;

/// Why an index is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Shorter or longer than its tables.
    #[error("the index has {found} bytes, its tables need {needed}")]
    Length {
        /// Bytes there are.
        found: u64,
        /// Bytes there must be; a lower bound if the index is cut off before its tables.
        needed: u64,
    },
    /// Not an index.
    #[error("no index of a payload: no magic")]
    Magic,
    /// A form of the future.
    #[error("the index has version {0}, this reads {VERSION}")]
    Version(u32),
    /// Bytes set that must be zero; the offset.
    #[error("unexpected value at byte {0} of the index")]
    Layout(usize),
    /// The slot's footer is not one.
    #[error("the index has a bad slot footer")]
    Footer(#[source] FooterError),
    /// The footer describes no slot that can travel.
    #[error("the slot in the index cannot travel")]
    Slot(#[source] LayoutError),
    /// The chunks do not cover the list of digests.
    #[error("the chunks have {found} digests, the slot has {needed}")]
    Digests {
        /// In all chunks.
        found: u64,
        /// Listed blocks of the slot.
        needed: u64,
    },
    /// A chunk of no digest, or too many; its number.
    #[error("chunk {0} has an impossible number of digests")]
    Chunk(usize),
    /// A frame that cannot be: its number.
    #[error("frame {0} is malformed")]
    Frame(usize),
    /// A frame holds a block that it cannot hold, or that an earlier one holds.
    #[error(
        "frame {frame} holds block {block}, which is of the hash tree, beyond the slot or in an earlier frame"
    )]
    Block {
        /// The frame.
        frame: usize,
        /// The block of the slot.
        block: u64,
    },
    /// The lengths do not add up to the payload.
    #[error("chunks and frames have {found} bytes, the payload {stated}")]
    Payload {
        /// The sum.
        found: u64,
        /// As the index says.
        stated: u64,
    },
}

/// A run of digests of listed blocks, as the payload has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// SHA-256 of its digests.
    pub name: Digest,
    /// Number of the first of them in the list.
    pub first: u32,
    /// How many there are.
    pub digests: u16,
}

impl Chunk {
    /// Its bytes in the payload, which begins with all digests in order.
    pub fn range(&self) -> Range<u64> {
        let digest = size_of::<Digest>() as u64;
        let start = u64::from(self.first) * digest;
        start..start + u64::from(self.digests) * digest
    }
}

/// A zstd frame of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its bytes in the payload.
    pub range: Range<u64>,
    /// The blocks of the slot that it holds, in this order.
    pub extents: Vec<Range<u32>>,
}

impl Frame {
    /// Number of its blocks, at most [`MAX_FRAME_BLOCKS`].
    pub fn blocks(&self) -> u32 {
        self.extents.iter().map(|extent| extent.end - extent.start).sum()
    }
}

/// What an index says. Whoever has it must have compared the file's SHA-256 with signed metadata, and must verify the
/// footer with [`Footer::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The slot's footer, as it will stand on the disk.
    pub footer_bytes: Box<[u8; FOOTER_LEN]>,
    /// The blocks of the slot.
    pub layout: Layout,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// The digests, cut into chunks.
    pub chunks: Vec<Chunk>,
    /// The frames, in the order of the payload.
    pub frames: Vec<Frame>,
}

impl Index {
    /// Reads an index. Total: any bytes give a value or an error, in memory that the length of `bytes` bounds.
    ///
    /// # Errors
    /// [`IndexError`]; what is returned is consistent in itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let (fields, footer_bytes, tables) = split(bytes)?;
        if fields.get(..8) != Some(MAGIC) {
            return Err(IndexError::Magic);
        }
        let u32_at = |at: usize| u32::from_le_bytes(array(fields, at));
        if u32_at(8) != VERSION {
            return Err(IndexError::Version(u32_at(8)));
        }
        if fields.get(FIELDS_LEN..).is_none_or(|rest| rest.iter().any(|byte| *byte != 0)) {
            return Err(IndexError::Layout(FIELDS_LEN));
        }
        let [chunks, frames, table] =
            [12, 16, 20].map(|at| usize::try_from(u32_at(at)).unwrap_or(usize::MAX));
        let payload_bytes = u64::from_le_bytes(array(fields, 24));
        let footer = Footer::parse(footer_bytes).map_err(IndexError::Footer)?;
        let layout = Layout::of(&footer).map_err(IndexError::Slot)?;
        let needed = chunks.saturating_mul(CHUNK_LEN).saturating_add(table);
        if tables.len() != needed {
            let needed = needed.saturating_add(TABLES_AT) as u64;
            return Err(IndexError::Length { found: bytes.len() as u64, needed });
        }
        let (chunk_table, frame_table) = tables.split_at(chunks.saturating_mul(CHUNK_LEN));
        let chunks = read_chunks(chunk_table, layout.listed())?;
        let digests_end = u64::from(layout.listed()) * size_of::<Digest>() as u64;
        let (frames, end) = read_frames(frame_table, frames, &layout, digests_end)?;
        if end != payload_bytes {
            return Err(IndexError::Payload { found: end, stated: payload_bytes });
        }
        Ok(Self { footer_bytes: Box::new(*footer_bytes), layout, payload_bytes, chunks, frames })
    }

    /// The slot's footer, not verified.
    ///
    /// # Errors
    /// Never: [`Index::parse`] has read it before.
    pub fn footer(&self) -> Result<Footer, FooterError> {
        Footer::parse(&self.footer_bytes)
    }

    /// The index as a file.
    #[cfg(any(test, feature = "publisher"))]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut previous_end = 0_i64;
        for frame in &self.frames {
            varint::put(&mut frames, frame.range.end - frame.range.start);
            varint::put(&mut frames, frame.extents.len() as u64);
            for extent in &frame.extents {
                varint::put(&mut frames, varint::zigzag(i64::from(extent.start) - previous_end));
                varint::put(&mut frames, u64::from(extent.end - extent.start));
                previous_end = i64::from(extent.end);
            }
        }
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(count(self.chunks.len()));
        bytes.extend(count(self.frames.len()));
        bytes.extend(count(frames.len()));
        bytes.extend(self.payload_bytes.to_le_bytes());
        bytes.resize(HEADER_LEN, 0);
        bytes.extend_from_slice(self.footer_bytes.as_slice());
        for chunk in &self.chunks {
            bytes.extend(chunk.name);
            bytes.extend(chunk.digests.to_le_bytes());
        }
        bytes.extend(frames);
        bytes
    }
}

/// Header, footer and the tables behind them.
type Areas<'a> = (&'a [u8], &'a [u8; FOOTER_LEN], &'a [u8]);

fn split(bytes: &[u8]) -> Result<Areas<'_>, IndexError> {
    let short = || IndexError::Length { found: bytes.len() as u64, needed: TABLES_AT as u64 };
    let (fields, rest) = bytes.split_at_checked(HEADER_LEN).ok_or_else(short)?;
    let (footer, tables) = rest.split_first_chunk::<FOOTER_LEN>().ok_or_else(short)?;
    Ok((fields, footer, tables))
}

fn read_chunks(table: &[u8], listed: u32) -> Result<Vec<Chunk>, IndexError> {
    let mut chunks = Vec::with_capacity(table.len() / CHUNK_LEN);
    let mut first = 0_u64;
    for (number, entry) in table.chunks_exact(CHUNK_LEN).enumerate() {
        let digests = u16::from_le_bytes(array(entry, 32));
        if !(1..=MAX_CHUNK).contains(&digests) {
            return Err(IndexError::Chunk(number));
        }
        let at = u32::try_from(first).map_err(|_| IndexError::Chunk(number))?;
        chunks.push(Chunk { name: array(entry, 0), first: at, digests });
        first += u64::from(digests);
    }
    let needed = u64::from(listed);
    if first == needed { Ok(chunks) } else { Err(IndexError::Digests { found: first, needed }) }
}

fn read_frames(
    mut table: &[u8],
    count: usize,
    layout: &Layout,
    start: u64,
) -> Result<(Vec<Frame>, u64), IndexError> {
    let (mut frames, mut at, mut previous_end) = (Vec::new(), start, 0);
    let mut held = vec![false; usize::try_from(layout.blocks()).unwrap_or(0)];
    for number in 0..count {
        let malformed = IndexError::Frame(number);
        let length = varint::take(&mut table).ok_or(malformed)?;
        let extents = read_extents(&mut table, number, layout, &mut previous_end, &mut held)?;
        let frame = Frame { range: at..at.checked_add(length).ok_or(malformed)?, extents };
        let raw = u64::from(frame.blocks()) * BLOCK as u64;
        if length == 0 || length > raw + raw / 64 + FRAME_OVERHEAD {
            return Err(malformed);
        }
        at = frame.range.end;
        frames.push(frame);
    }
    if table.is_empty() { Ok((frames, at)) } else { Err(IndexError::Frame(count)) }
}

fn read_extents(
    table: &mut &[u8],
    frame: usize,
    layout: &Layout,
    previous_end: &mut u32,
    held: &mut [bool],
) -> Result<Vec<Range<u32>>, IndexError> {
    let malformed = IndexError::Frame(frame);
    let count = varint::take(table).ok_or(malformed)?;
    // Each has at least a block.
    if count == 0 || count > u64::from(MAX_FRAME_BLOCKS) {
        return Err(malformed);
    }
    let (mut extents, mut blocks) = (Vec::new(), 0);
    for _ in 0..count {
        let step = varint::unzigzag(varint::take(table).ok_or(malformed)?);
        let start = u32::try_from(i64::from(*previous_end).saturating_add(step)).map_err(|_| malformed)?;
        let length = varint::take(table).and_then(|length| u32::try_from(length).ok()).ok_or(malformed)?;
        let end = start.checked_add(length).ok_or(malformed)?;
        blocks += length.min(MAX_FRAME_BLOCKS + 1);
        if length == 0 || blocks > MAX_FRAME_BLOCKS {
            return Err(malformed);
        }
        for block in start..end {
            let wrong = IndexError::Block { frame, block: u64::from(block) };
            layout.listed_of(block).ok_or(wrong)?;
            let place = usize::try_from(block).ok().and_then(|block| held.get_mut(block)).ok_or(wrong)?;
            if std::mem::replace(place, true) {
                return Err(wrong);
            }
        }
        extents.push(start..end);
        *previous_end = end;
    }
    Ok(extents)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    // The callers have checked the lengths.
    found.copied().unwrap_or([0; N])
}
