//! Places for inodes in the metadata area.

use super::format::{BLOCK_BYTES, SLOT_BYTES};

/// Gaps that are remembered for later inodes; more would cost time and gain nothing.
const MAX_GAPS: usize = 64;

/// Hands out places of whole slots. What fits in one block never crosses a block boundary (the kernel refuses inline
/// data that does); what is larger starts a block. Gaps left that way are filled by later, smaller inodes.
#[derive(Debug)]
pub(super) struct Allocator {
    end: u64,
    gaps: Vec<(u64, u64)>,
}

impl Allocator {
    /// Starts at byte `start`, a multiple of the slot size.
    pub(super) const fn new(start: u64) -> Self {
        Self { end: start, gaps: Vec::new() }
    }

    /// The byte after the last place.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// A place for `bytes`, as byte offset.
    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.next_multiple_of(SLOT_BYTES);
        let fitting = self.gaps.iter_mut().enumerate().find(|(_, (_, room))| *room >= bytes);
        if let Some((index, (at, room))) = fitting {
            let place = *at;
            *at += bytes;
            *room -= bytes;
            if *room == 0 {
                self.gaps.remove(index);
            }
            return place;
        }
        let used = self.end % BLOCK_BYTES;
        if used != 0 && used + bytes > BLOCK_BYTES {
            if self.gaps.len() == MAX_GAPS {
                self.gaps.remove(0);
            }
            self.gaps.push((self.end, BLOCK_BYTES - used));
            self.end += BLOCK_BYTES - used;
        }
        let place = self.end;
        self.end += bytes;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_do_not_overlap_and_small_ones_stay_in_one_block(sizes in proptest::collection::vec(1u64..6000, 1..300)) {
            let mut allocator = Allocator::new(4096);
            let mut places: Vec<_> = sizes.iter().map(|&size| (allocator.take(size), size)).collect();
            for &(at, size) in &places {
                prop_assert!(at % 32 == 0 && at >= 4096 && at + size <= allocator.end());
                let whole = if size <= 4096 { at / 4096 == (at + size - 1) / 4096 } else { at % 4096 == 0 };
                prop_assert!(whole);
            }
            places.sort_unstable();
            prop_assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        }
    }
}
