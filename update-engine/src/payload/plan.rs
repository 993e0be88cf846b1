//! What a machine must fetch. Pure: sets of blocks and chunks to ranges of the payload.

use std::ops::Range;

use super::index::Index;

/// A set of blocks: one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSet {
    words: Vec<u64>,
    count: u32,
}

impl BlockSet {
    /// An empty set that blocks below `blocks` can be put into.
    pub fn new(blocks: u32) -> Self {
        Self { words: vec![0; usize::try_from(blocks.div_ceil(64)).unwrap_or(0)], count: 0 }
    }

    /// Puts a block in; blocks beyond the end are left out.
    pub fn insert(&mut self, block: u32) {
        if let Some(word) = self.words.get_mut(usize::try_from(block / 64).unwrap_or(usize::MAX)) {
            let bit = 1 << (block % 64);
            self.count += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Takes a block out.
    pub fn remove(&mut self, block: u32) {
        if let Some(word) = self.words.get_mut(usize::try_from(block / 64).unwrap_or(usize::MAX)) {
            let bit = 1 << (block % 64);
            self.count -= u32::from(*word & bit != 0);
            *word &= !bit;
        }
    }

    /// Whether a block is in it.
    pub fn contains(&self, block: u32) -> bool {
        let word = self.words.get(usize::try_from(block / 64).unwrap_or(usize::MAX));
        word.is_some_and(|word| word & (1 << (block % 64)) != 0)
    }

    /// How many blocks are in it.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Pieces of the payload that lie together and are fetched by one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Bytes of the payload.
    pub range: Range<u64>,
    /// Numbers of the wanted pieces (chunks or frames) in it, in order. What lies between them is fetched in vain.
    pub pieces: Vec<usize>,
}

/// Bytes that are fetched in vain rather than asking again: what a request costs in headers and in waiting on an ordinary
/// line.
pub const GAP: u64 = 2 << 10;
/// Bytes of the longest request. Of a connection that is given up no more is lost than what is on its way; between two requests the
/// line is idle.
pub const LONGEST: u64 = 256 << 20;

/// The frames that hold missing blocks, as requests.
pub fn frames(index: &Index, missing: &BlockSet) -> Vec<Request> {
    let wanted = index.frames.iter().enumerate().filter(|(_, frame)| {
        frame.extents.iter().any(|extent| extent.clone().any(|block| missing.contains(block)))
    });
    merge(wanted.map(|(number, frame)| (number, frame.range.clone())))
}

/// The chunks that `has` does not have, as requests.
pub fn chunks(index: &Index, has: impl Fn(usize) -> bool) -> Vec<Request> {
    let wanted = index.chunks.iter().enumerate().filter(|(number, _)| !has(*number));
    merge(wanted.map(|(number, chunk)| (number, chunk.range())))
}

/// Missing blocks that no frame holds: the payload of such an index can never make the slot.
pub fn uncovered(index: &Index, missing: &BlockSet) -> u32 {
    let covered = index.frames.iter().flat_map(|frame| frame.extents.iter().cloned().flatten());
    let covered = covered.filter(|block| missing.contains(*block)).count();
    missing.len() - u32::try_from(covered).unwrap_or(u32::MAX).min(missing.len())
}

/// Merges pieces, which come in order and do not overlap, into requests.
fn merge(pieces: impl Iterator<Item = (usize, Range<u64>)>) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for (number, range) in pieces {
        match requests.last_mut() {
            Some(last) if range.start - last.range.end <= GAP && range.end - last.range.start <= LONGEST => {
                last.range.end = range.end;
                last.pieces.push(number);
            }
            _ => requests.push(Request { range, pieces: vec![number] }),
        }
    }
    requests
}

/// Bytes of all requests.
pub fn bytes(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.range.end - request.range.start).sum()
}
