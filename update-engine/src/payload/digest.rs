//! Digests of 4 KiB blocks, the way dm-verity takes them: SHA-256 of the salt and then the block.

use std::num::NonZero;
use std::thread;

use sha2::{Digest as _, Sha256};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// A block of zeros, of which no slot is free and no payload has one.
pub const ZERO_BLOCK: [u8; BLOCK] = [0; BLOCK];

/// More threads would only wait for the disk, and the machine has other work.
const MOST_THREADS: usize = 4;
/// Blocks that a thread is worth.
const WORTH: usize = 32;

/// SHA-256 of the slot's salt and a block.
pub type Digest = [u8; 32];

/// Takes digests with one salt.
#[derive(Debug, Clone)]
pub struct BlockHasher {
    salted: Sha256,
    zero: Digest,
    threads: usize,
}

/// By words: the machine's libc compares byte by byte.
fn is_zero_block(block: &[u8]) -> bool {
    let (words, rest) = block.as_chunks::<16>();
    block.len() == BLOCK && rest.is_empty() && words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
}

impl BlockHasher {
    /// A hasher for slots with this salt (one per product, SAFETY 20).
    pub fn new(salt: &[u8]) -> Self {
        let salted = Sha256::new_with_prefix(salt);
        let zero = salted.clone().chain_update(ZERO_BLOCK).finalize().into();
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        Self { salted, zero, threads }
    }

    /// The digest of a block; a shorter one counts as filled up with zeros.
    pub fn digest(&self, block: &[u8]) -> Digest {
        if is_zero_block(block) {
            return self.zero;
        }
        let missing = ZERO_BLOCK.get(block.len().min(BLOCK)..).unwrap_or_default();
        self.salted.clone().chain_update(block).chain_update(missing).finalize().into()
    }

    /// Threads that it takes digests with when it is given many blocks.
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// The digests of blocks, in their order, taken on several processors.
    pub fn digests(&self, blocks: &[[u8; BLOCK]]) -> Vec<Digest> {
        let take = |blocks: &[[u8; BLOCK]]| blocks.iter().map(|block| self.digest(block)).collect::<Vec<_>>();
        let threads = self.threads.min(blocks.len() / WORTH);
        if threads < 2 {
            return take(blocks);
        }
        thread::scope(|scope| {
            let mut shares = blocks.chunks(blocks.len().div_ceil(threads));
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> = shares.map(|share| scope.spawn(move || take(share))).collect();
            let mut digests = take(own);
            for other in others {
                match other.join() {
                    Ok(more) => digests.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            digests
        })
    }

    /// The digest of [`ZERO_BLOCK`].
    pub const fn zero(&self) -> Digest {
        self.zero
    }
}
