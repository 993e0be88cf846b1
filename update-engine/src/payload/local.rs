//! Which digests the running slot has, and where: a hint that costs eight bytes a block.

use super::digest::Digest;

/// Bits of a block's number in an entry; the rest is the beginning of its digest.
const NUMBER_BITS: u32 = 24;
/// Most blocks that are remembered: 2^20, a slot of 4 GiB, in 8 MiB of memory. Blocks beyond that count as missing, and are
/// fetched.
const MAX_ENTRIES: usize = 1 << 20;

/// Finds blocks of the running slot by their digests. Only the first 40 bits are kept, so what it finds is a guess: whoever
/// uses a block must read it and take its digest (SAFETY 20).
#[derive(Debug, Default)]
pub struct LocalBlocks {
    entries: Vec<u64>,
    sorted: bool,
}

impl LocalBlocks {
    /// Remembers that listed block `number` of the running slot should have this digest.
    pub fn push(&mut self, digest: &Digest, number: u32) {
        if number < 1 << NUMBER_BITS && self.entries.len() < MAX_ENTRIES {
            self.entries.push(prefix(digest) | u64::from(number));
            self.sorted = false;
        }
    }

    /// Makes it ready to be asked.
    pub fn finish(&mut self) {
        self.entries.sort_unstable();
        self.sorted = true;
    }

    /// Listed blocks of the running slot that may have this digest, most one or none.
    pub fn candidates(&self, digest: &Digest) -> impl Iterator<Item = u32> + '_ {
        debug_assert!(self.sorted || self.entries.is_empty(), "finish() comes first");
        let wanted = prefix(digest);
        let from = self.entries.partition_point(|entry| *entry < wanted);
        let mask = (1_u64 << NUMBER_BITS) - 1;
        let fitting = self.entries.get(from..).unwrap_or_default().iter();
        // Equal blocks have equal digests: a few tries are enough to find one that can be read.
        let fitting = fitting.take_while(move |entry| **entry & !mask == wanted).take(4);
        fitting.map(move |entry| u32::try_from(entry & mask).unwrap_or(0))
    }
}

fn prefix(digest: &Digest) -> u64 {
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    u64::from_be_bytes(first) & !((1 << NUMBER_BITS) - 1)
}
