//! Where file data goes: whole blocks, each file from a block of its own, equal files once.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::format::{BLOCK_BITS, BLOCK_BYTES};
use crate::tree::{Content, FileData};

/// A chunk table has one 4-byte entry a chunk; at most this many, so that a sparse file of any length stays cheap.
const MAX_CHUNKS: u64 = 1 << 18;
/// Chunks of 1 GiB; larger ones overflow 32-bit arithmetic in readers.
const MAX_CHUNK_BITS: u8 = 30;

/// Blocks of the image that hold a part of one file.
#[derive(Debug, Clone)]
pub(super) struct Extent {
    /// First block in the image.
    pub first_block: u64,
    /// Number of blocks.
    pub blocks: u64,
    pub content: Content,
    /// First byte of the content; what lies behind its end is zero.
    pub offset: u64,
}

/// How a sparse file is cut into chunks of equal size, each of which has data or is a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Log2 of the chunk size in blocks.
    pub bits: u8,
    pub count: u64,
    /// Chunks with data, ascending.
    pub data: Vec<Range<u64>>,
}

/// The chunks of `content`, or `None` when no block of it is known to be a hole.
pub(super) fn find_holes(content: &Content) -> Option<Chunks> {
    let blocks = content.len().div_ceil(BLOCK_BYTES);
    let mut ranges = Vec::new();
    data_blocks(content, 0, content.len(), &mut ranges);
    if merge(&mut ranges, blocks) == blocks {
        return None;
    }
    let edges = ranges.iter().flat_map(|range| [range.start, range.end]).filter(|&edge| edge < blocks);
    let aligned = edges.map(u64::trailing_zeros).min().unwrap_or(u32::MAX);
    let needed = (0..).find(|&bits| blocks.div_ceil(1 << bits) <= MAX_CHUNKS).unwrap_or(0);
    let whole = blocks.next_power_of_two().trailing_zeros();
    let wanted = aligned.min(whole).max(needed);
    let bits = u8::try_from(wanted).unwrap_or(u8::MAX).min(MAX_CHUNK_BITS - BLOCK_BITS);
    let chunk = 1u64 << bits;
    let count = blocks.div_ceil(chunk);
    let mut data: Vec<_> =
        ranges.iter().map(|range| range.start / chunk..range.end.div_ceil(chunk)).collect();
    merge(&mut data, count);
    Some(Chunks { bits, count, data })
}

/// The blocks of a file that `content`, placed at byte `at` and cut at byte `limit`, may fill with data.
fn data_blocks(content: &Content, at: u64, limit: u64, ranges: &mut Vec<Range<u64>>) {
    let end = at.saturating_add(content.len()).min(limit);
    if at >= end {
        return;
    }
    match content {
        Content::Bytes(_) | Content::Range { .. } => {
            ranges.push(at / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES));
        }
        Content::Sparse { pieces, .. } => {
            for piece in pieces.iter() {
                data_blocks(&piece.content, at.saturating_add(piece.at), end, ranges);
            }
        }
    }
}

/// Joins sorted ranges that touch, cuts them at `limit`, and returns how much they cover.
fn merge(ranges: &mut Vec<Range<u64>>, limit: u64) -> u64 {
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        let range = range.start..range.end.min(limit);
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ if range.is_empty() => {}
            _ => merged.push(range),
        }
    }
    *ranges = merged;
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity {
    Digest([u8; 32]),
    Range(Arc<Path>, u64),
}

/// Hands out data blocks in the order of the calls.
#[derive(Debug)]
pub(super) struct DataArea {
    pub next_block: u64,
    pub extents: Vec<Extent>,
    /// First block by content and stored bytes.
    seen: HashMap<(Identity, u64), u64>,
}

impl DataArea {
    pub(super) fn new(first_block: u64) -> Self {
        Self { next_block: first_block, extents: Vec::new(), seen: HashMap::new() }
    }

    /// Stores the first `blocks` blocks of a file, or finds them stored already. Returns their first block.
    pub(super) fn store_file(&mut self, data: &FileData, blocks: u64) -> u64 {
        let identity = match (&data.content, data.sha256) {
            (_, Some(digest)) => Identity::Digest(digest),
            (Content::Bytes(bytes), None) => Identity::Digest(Sha256::digest(bytes).into()),
            (Content::Range { file, offset, .. }, None) => Identity::Range(Arc::clone(file), *offset),
            (Content::Sparse { .. }, None) => return self.store(&data.content, 0, blocks),
        };
        // The length tells ranges with one start apart, and a file stored without its tail from one stored whole.
        let key = (identity, data.len().min(blocks * BLOCK_BYTES));
        if let Some(&first) = self.seen.get(&key) {
            return first;
        }
        let first = self.store(&data.content, 0, blocks);
        self.seen.insert(key, first);
        first
    }

    /// Stores `blocks` blocks of `content` from byte `offset` on, unconditionally.
    pub(super) fn store(&mut self, content: &Content, offset: u64, blocks: u64) -> u64 {
        let first_block = self.next_block;
        self.next_block += blocks;
        self.extents.push(Extent { first_block, blocks, content: content.clone(), offset });
        first_block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Piece;

    const fn span(start: u64, end: u64) -> Range<u64> {
        start..end
    }

    fn sparse(len: u64, pieces: &[(u64, usize)]) -> FileData {
        let piece = |&(at, len): &(u64, usize)| Piece { at, content: Content::Bytes(vec![1; len].into()) };
        FileData::sparse(len, pieces.iter().map(piece).collect())
    }

    #[test]
    fn holes_give_the_largest_chunks_that_part_them_from_data() {
        let holes = |len, pieces: &[(u64, usize)]| find_holes(&sparse(len, pieces).content);
        assert_eq!(holes(1 << 31, &[]), Some(Chunks { bits: 18, count: 2, data: vec![] }));
        assert_eq!(holes(40960, &[(0, 4096)]), Some(Chunks { bits: 0, count: 10, data: vec![span(0, 1)] }));
        assert_eq!(
            holes(65536, &[(16384, 16384)]),
            Some(Chunks { bits: 2, count: 4, data: vec![span(1, 2)] })
        );
        assert_eq!(
            holes(65536, &[(16384, 10), (40960, 1)]),
            Some(Chunks { bits: 0, count: 16, data: vec![4..5, 10..11] })
        );
        assert_eq!(holes(8192, &[(100, 1), (5000, 1)]), None);
        assert_eq!(holes(0, &[]), None);
        assert_eq!(find_holes(&Content::Bytes(vec![0; 9000].into())), None);
    }

    #[test]
    fn a_huge_sparse_file_has_a_small_table() {
        let chunks = find_holes(&sparse(1 << 40, &[(4096, 1), (1 << 39, 5)]).content).unwrap();
        assert!(chunks.count <= MAX_CHUNKS, "{chunks:?}");
        assert_eq!(chunks.data.len(), 2);
    }
}
