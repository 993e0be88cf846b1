//! Digests of 4 KiB blocks, the way dm-verity takes them: SHA-256 of the salt and then the block.

use sha2::{Digest as _, Sha256};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// A block of zeros, of which no slot is free and no payload has one.
pub const ZERO_BLOCK: [u8; BLOCK] = [0; BLOCK];

/// SHA-256 of the slot's salt and a block.
pub type Digest = [u8; 32];

/// Takes digests with one salt.
#[derive(Debug, Clone)]
pub struct BlockHasher {
    salted: Sha256,
    zero: Digest,
}

impl BlockHasher {
    /// A hasher for slots with this salt (one per product, SAFETY 20).
    pub fn new(salt: &[u8]) -> Self {
        let salted = Sha256::new_with_prefix(salt);
        let zero = salted.clone().chain_update(ZERO_BLOCK).finalize().into();
        Self { salted, zero }
    }

    /// The digest of a block; a shorter one counts as filled up with zeros.
    pub fn digest(&self, block: &[u8]) -> Digest {
        if block.len() == BLOCK && block == ZERO_BLOCK {
            return self.zero;
        }
        let missing = ZERO_BLOCK.get(block.len().min(BLOCK)..).unwrap_or_default();
        self.salted.clone().chain_update(block).chain_update(missing).finalize().into()
    }

    /// The digest of [`ZERO_BLOCK`].
    pub const fn zero(&self) -> Digest {
        self.zero
    }
}
