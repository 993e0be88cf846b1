//! The hash tree over `/usr`, made from the digests of its blocks as they come, in little memory.

use super::digest::{BLOCK, BlockHasher, Digest};
use super::layout::{FANOUT, levels};

/// One level while it is being filled.
#[derive(Debug)]
struct Level {
    /// Block of the tree that is being filled, counted from the tree's first.
    block: u64,
    filled: usize,
    bytes: Box<[u8; BLOCK]>,
}

/// Makes the tree's blocks from the digests of the data, in order. Holds one block a level.
#[derive(Debug)]
pub struct TreeBuilder {
    hasher: BlockHasher,
    /// The lowest first.
    levels: Vec<Level>,
    expected: u64,
    seen: u64,
    root: Option<Digest>,
}

impl TreeBuilder {
    /// A tree over so many blocks of data.
    pub fn new(hasher: BlockHasher, data_blocks: u64) -> Self {
        let counts = levels(data_blocks);
        // On disk the top level comes first.
        let mut start = counts.iter().sum::<u64>();
        let level = |count: &u64| {
            start -= count;
            Level { block: start, filled: 0, bytes: Box::new([0; BLOCK]) }
        };
        let levels = counts.iter().map(level).collect();
        Self { hasher, levels, expected: data_blocks, seen: 0, root: None }
    }

    /// Takes the digest of the next block of data. `emit` gets each block of the tree that is complete, with its number
    /// in the tree.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn push<E>(
        &mut self,
        digest: &Digest,
        emit: &mut impl FnMut(u64, &[u8; BLOCK]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.seen += 1;
        let last = self.seen == self.expected;
        let mut carried = Some(*digest);
        for level in &mut self.levels {
            if let Some(digest) = carried.take()
                && let Some(place) = level.bytes.get_mut(level.filled..level.filled + digest.len())
            {
                place.copy_from_slice(&digest);
                level.filled += digest.len();
            }
            if level.filled < BLOCK && !last {
                return Ok(());
            }
            emit(level.block, &level.bytes)?;
            carried = Some(self.hasher.digest(level.bytes.as_slice()));
            level.block += 1;
            level.filled = 0;
            level.bytes.fill(0);
        }
        if last {
            self.root = carried;
        }
        Ok(())
    }

    /// The root hash; `None` unless exactly the promised number of digests came.
    pub fn root(&self) -> Option<Digest> {
        self.root.filter(|_| self.seen == self.expected)
    }
}

/// The root hash over a list of digests.
pub fn root_of(hasher: &BlockHasher, digests: &[Digest]) -> Option<Digest> {
    let mut builder = TreeBuilder::new(hasher.clone(), digests.len() as u64);
    let mut ignore = |_: u64, _: &[u8; BLOCK]| Ok::<(), std::convert::Infallible>(());
    for digest in digests {
        let Ok(()) = builder.push(digest, &mut ignore);
    }
    builder.root()
}

const _: () = assert!(FANOUT * 32 == BLOCK as u64);
