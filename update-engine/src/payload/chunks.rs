//! How the list of digests is cut into chunks: by what stands in it, so that the chunks of two releases are the same
//! wherever their blocks are, also when everything behind a changed file has moved.
//!
//! A machine has the list of the slot that it runs, cuts it the same way, and fetches only chunks that it does not have.

use std::collections::HashMap;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::digest::Digest;

/// Most digests of a chunk.
pub const MAX_CHUNK: u16 = 512;
/// A chunk ends behind a digest whose first byte has none of these bits: behind every 64th one on average. Fewer digests
/// a chunk would make the index longer, more would make each change dearer.
const CUT_MASK: u8 = 0x3f;

/// Cuts a list as it comes. Part of the format: writer and machine must agree.
#[derive(Debug, Default)]
pub struct Cutter {
    length: u16,
}

impl Cutter {
    /// Takes the next digest; true when the chunk ends behind it. The last chunk ends with the list.
    pub fn ends_behind(&mut self, digest: &Digest) -> bool {
        self.length += 1;
        let ends = digest.first().is_some_and(|byte| byte & CUT_MASK == 0) || self.length == MAX_CHUNK;
        if ends {
            self.length = 0;
        }
        ends
    }
}

/// SHA-256 of a chunk's digests, one after the other.
pub fn name_of(digests: &[Digest]) -> Digest {
    let mut hasher = Sha256::new();
    for digest in digests {
        hasher.update(digest);
    }
    hasher.finalize().into()
}

/// The chunks of a list, as ranges of it.
pub fn cut(digests: &[Digest]) -> Vec<Range<usize>> {
    let mut cutter = Cutter::default();
    let (mut chunks, mut start) = (Vec::new(), 0);
    for (index, digest) in digests.iter().enumerate() {
        if cutter.ends_behind(digest) {
            chunks.push(start..index + 1);
            start = index + 1;
        }
    }
    if start < digests.len() {
        chunks.push(start..digests.len());
    }
    chunks
}

/// Where the chunks of a list are that comes piece by piece: names to ranges of the list.
#[derive(Debug)]
pub struct KnownChunks {
    cutter: Cutter,
    hasher: Sha256,
    start: u32,
    end: u32,
    places: HashMap<Digest, Range<u32>>,
}

impl Default for KnownChunks {
    fn default() -> Self {
        Self { cutter: Cutter::default(), hasher: Sha256::new(), start: 0, end: 0, places: HashMap::new() }
    }
}

impl KnownChunks {
    /// Takes the next digest of the list.
    pub fn push(&mut self, digest: &Digest) {
        self.hasher.update(digest);
        self.end = self.end.saturating_add(1);
        if self.cutter.ends_behind(digest) {
            self.close();
        }
    }

    /// The list is at its end.
    pub fn finish(&mut self) {
        if self.start < self.end {
            self.close();
        }
    }

    fn close(&mut self) {
        let name = std::mem::replace(&mut self.hasher, Sha256::new()).finalize().into();
        self.places.entry(name).or_insert(self.start..self.end);
        self.start = self.end;
    }

    /// Where the digests of a chunk stand in the list.
    pub fn find(&self, name: &Digest) -> Option<Range<u32>> {
        self.places.get(name).cloned()
    }
}
