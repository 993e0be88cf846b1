//! The publisher's side: a slot image becomes an index and a payload.
//!
//! Deterministic: every frame is compressed by one thread with fixed parameters, and frames only depend on the slot and on
//! how its blocks are grouped; the number of threads changes nothing.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;
use slots::{FOOTER_LEN, Footer, FooterError, Part};
use zstd::zstd_safe::CParameter;

use super::MAX_FRAME_BLOCKS;
use super::chunks;
use super::digest::{BLOCK, BlockHasher, Digest, ZERO_BLOCK};
use super::index::{Chunk, Frame, Index};
use super::layout::{Layout, LayoutError};
use super::tree::root_of;

/// The level of compression. Numbers: `docs/formats/payload.md`.
pub const LEVEL: i32 = 19;
/// The decoder's window: a frame refers to bytes at most so far back (log2).
const WINDOW_LOG: u32 = 23;
/// Frames of small things hold at most so many blocks (512 KiB).
const FRAME_BLOCKS: u32 = 128;
/// Frames that are in memory at a time, in units of the largest one.
const BATCH: usize = 8;

/// Blocks of the slot that change together, such as the files of one package: they share frames. Order counts, overlaps do
/// not.
pub type Group = Vec<Range<u32>>;

/// Why there is no payload.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The slot image cannot be read.
    #[error("cannot read the slot image")]
    Read(#[source] io::Error),
    /// The payload cannot be written.
    #[error("cannot write the payload")]
    Write(#[source] io::Error),
    /// The image has no footer.
    #[error("not a slot image")]
    Footer(#[source] FooterError),
    /// It cannot travel.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// `/usr` is not what the footer says.
    #[error("the slot image is damaged: /usr does not have the footer's root hash")]
    Damaged,
    /// The compressor failed.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
}

/// Writes the payload of the slot image `slot` (a `.usr` file) and returns its index. `done` is told of blocks that are
/// done.
///
/// # Errors
/// [`WriteError`]
pub fn write(
    slot: &File,
    groups: &[Group],
    payload: &mut impl Write,
    done: impl FnMut(u32),
) -> Result<Index, WriteError> {
    write_at_level(slot, groups, LEVEL, payload, done)
}

/// The same with another level of compression, for payloads that do not travel far.
///
/// # Errors
/// [`WriteError`]
pub fn write_at_level(
    slot: &File,
    groups: &[Group],
    level: i32,
    payload: &mut impl Write,
    mut done: impl FnMut(u32),
) -> Result<Index, WriteError> {
    let length = slot.metadata().map_err(WriteError::Read)?.len();
    let mut footer_bytes = Box::new([0; FOOTER_LEN]);
    let footer_at = length.checked_sub(FOOTER_LEN as u64).ok_or(WriteError::Footer(FooterError::Magic))?;
    slot.read_exact_at(footer_bytes.as_mut_slice(), footer_at).map_err(WriteError::Read)?;
    let footer = Footer::parse(&footer_bytes).map_err(WriteError::Footer)?;
    let layout = Layout::of(&footer)?;
    let hasher = BlockHasher::new(&footer.verity.salt);
    let digests = digests(slot, &layout, &footer, &hasher)?;
    let usr = digests.get(..usize_of(layout.usr_blocks())).unwrap_or_default();
    if root_of(&hasher, usr) != Some(footer.verity.root_hash) {
        return Err(WriteError::Damaged);
    }
    for digest in &digests {
        payload.write_all(digest).map_err(WriteError::Write)?;
    }
    let is_zero = |block: u32| {
        layout.listed_of(block).and_then(|listed| digests.get(usize_of(listed))) == Some(&hasher.zero())
    };
    let plan = frames(&layout, &footer, groups, is_zero);
    let mut index = Index {
        footer_bytes,
        layout,
        payload_bytes: (digests.len() * size_of::<Digest>()) as u64,
        chunks: named_chunks(&digests),
        frames: Vec::with_capacity(plan.len()),
    };
    for batch in plan.chunks(BATCH) {
        let compressed: Vec<Vec<u8>> = batch
            .par_iter()
            .map(|extents| compress(slot, &footer, extents, level))
            .collect::<Result<_, _>>()?;
        for (extents, bytes) in batch.iter().zip(compressed) {
            payload.write_all(&bytes).map_err(WriteError::Write)?;
            let start = index.payload_bytes;
            index.payload_bytes += bytes.len() as u64;
            let frame = Frame { range: start..index.payload_bytes, extents: extents.clone() };
            done(frame.blocks());
            index.frames.push(frame);
        }
    }
    payload.flush().map_err(WriteError::Write)?;
    Ok(index)
}

fn digests(
    slot: &File,
    layout: &Layout,
    footer: &Footer,
    hasher: &BlockHasher,
) -> Result<Vec<Digest>, WriteError> {
    let numbers = (0..layout.listed()).into_par_iter();
    numbers
        .map_init(
            || [0; BLOCK],
            |buffer, listed| {
                read_block(slot, footer, layout.block_of(listed), buffer)?;
                Ok(hasher.digest(buffer))
            },
        )
        .collect()
}

/// Reads a block; bytes between two parts count as zeros, whatever the file has there.
fn read_block(slot: &File, footer: &Footer, block: u32, buffer: &mut [u8; BLOCK]) -> Result<(), WriteError> {
    let at = u64::from(block) * BLOCK as u64;
    let parts = footer.parts.named();
    let part = parts.iter().find(|(_, part)| part.offset <= at && at < part.end());
    let length = part.map_or(0, |(_, part)| usize::try_from(part.end() - at).unwrap_or(BLOCK).min(BLOCK));
    buffer.fill(0);
    slot.read_exact_at(buffer.get_mut(..length).unwrap_or_default(), at).map_err(WriteError::Read)
}

fn named_chunks(digests: &[Digest]) -> Vec<Chunk> {
    let named = |range: Range<usize>| {
        let content = digests.get(range.clone()).unwrap_or_default();
        Chunk {
            name: chunks::name_of(content),
            first: u32::try_from(range.start).unwrap_or(u32::MAX),
            digests: u16::try_from(content.len()).unwrap_or(u16::MAX),
        }
    };
    chunks::cut(digests).into_iter().map(named).collect()
}

/// Which blocks share a frame. Groups come first, in their order: a large one has frames of its own, cut only where they would
/// be too large, small ones share a frame. Blocks of zeros are in no frame.
///
/// What no group has follows: first what every release changes (the file system's own blocks, the verity superblock, the
/// command line) in small frames, so that kernel and initramfs, which follow, are not fetched for its sake.
fn frames(
    layout: &Layout,
    footer: &Footer,
    groups: &[Group],
    is_zero: impl Fn(u32) -> bool,
) -> Vec<Vec<Range<u32>>> {
    let blocks = |part: Part| {
        let number = |bytes: u64| u32::try_from(bytes.div_ceil(BLOCK as u64)).unwrap_or(u32::MAX);
        number(part.offset)..number(part.end())
    };
    let parts = &footer.parts;
    let hot: Group = vec![0..layout.usr_blocks() + 1, blocks(parts.command_line)];
    let cold = [vec![blocks(parts.kernel)], vec![blocks(parts.initramfs)]];
    // Whether a group may share a frame with the one before it.
    let named = groups.iter().map(|group| (group, MAX_FRAME_BLOCKS, true));
    let cold = cold.iter().map(|group| (group, MAX_FRAME_BLOCKS, false));
    let all = named.chain([(&hot, FRAME_BLOCKS, false)]).chain(cold);
    let mut taken = vec![false; usize_of(layout.blocks())];
    let (mut frames, mut open) = (Vec::new(), Builder::default());
    for (group, limit, shares) in all {
        let mut own = Vec::new();
        for block in group.iter().cloned().flatten() {
            let Some(place) = taken.get_mut(usize_of(block)) else { continue };
            if *place || layout.listed_of(block).is_none() || is_zero(block) {
                continue;
            }
            *place = true;
            own.push(block);
        }
        let blocks = u32::try_from(own.len()).unwrap_or(u32::MAX);
        if open.blocks > 0 && (!shares || open.blocks.saturating_add(blocks) > FRAME_BLOCKS) {
            frames.push(std::mem::take(&mut open).extents);
        }
        for block in own {
            if open.blocks == limit {
                frames.push(std::mem::take(&mut open).extents);
            }
            open.push(block);
        }
    }
    if open.blocks > 0 {
        frames.push(open.extents);
    }
    frames
}

#[derive(Default)]
struct Builder {
    extents: Vec<Range<u32>>,
    blocks: u32,
}

impl Builder {
    fn push(&mut self, block: u32) {
        self.blocks += 1;
        match self.extents.last_mut() {
            Some(last) if last.end == block => last.end += 1,
            _ => self.extents.push(block..block + 1),
        }
    }
}

fn compress(slot: &File, footer: &Footer, extents: &[Range<u32>], level: i32) -> Result<Vec<u8>, WriteError> {
    let mut content = Vec::new();
    let mut buffer = ZERO_BLOCK;
    for block in extents.iter().cloned().flatten() {
        read_block(slot, footer, block, &mut buffer)?;
        content.extend_from_slice(&buffer);
    }
    let mut compressor = zstd::bulk::Compressor::new(level).map_err(WriteError::Compress)?;
    let parameters = [
        CParameter::WindowLog(WINDOW_LOG),
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ];
    for parameter in parameters {
        compressor.set_parameter(parameter).map_err(WriteError::Compress)?;
    }
    compressor.compress(&content).map_err(WriteError::Compress)
}

fn usize_of(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
