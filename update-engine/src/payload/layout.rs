//! The blocks of a slot, and which of them have a digest of their own.

use std::ops::Range;

use slots::{Footer, FooterError, Part};

use super::digest::BLOCK;

const BLOCK_U64: u64 = BLOCK as u64;
/// Digests in a block of the hash tree.
pub const FANOUT: u64 = 128;

/// Why a slot cannot travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The footer's places are not those of a slot.
    #[error("the slot's parts are out of place")]
    Places(#[source] FooterError),
    /// A part does not begin where the one before it ends.
    #[error("part '{0}' does not follow the one before it")]
    Gap(&'static str),
    /// The verity part is not a superblock and the tree over `/usr`.
    #[error("the verity part has {found} blocks, the tree over /usr needs {needed}")]
    Tree {
        /// As the footer says.
        found: u64,
        /// As the data demands.
        needed: u64,
    },
    /// More blocks than an index can number.
    #[error("the slot has {0} blocks, 2^31 are the most")]
    TooLarge(u64),
}

/// Where the blocks of a slot are, from its footer. The footer's own block does not belong to them.
///
/// All blocks but those of the hash tree are *listed*: they have a digest in the index, and are numbered without a gap
/// in the order of the slot. The tree follows from the digests of `/usr`, which come first in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    usr_blocks: u32,
    tree_blocks: u32,
    end: u32,
}

impl Layout {
    /// Reads the layout off a footer.
    ///
    /// # Errors
    /// [`LayoutError`]: the builder writes no such slot.
    pub fn of(footer: &Footer) -> Result<Self, LayoutError> {
        footer.check_places(u64::MAX).map_err(LayoutError::Places)?;
        let mut expected = 0;
        for (name, part) in footer.parts.named() {
            if part.offset != expected {
                return Err(LayoutError::Gap(name));
            }
            expected = part.offset.saturating_add(blocks_of(part).saturating_mul(BLOCK_U64));
        }
        let end = expected / BLOCK_U64;
        let usr = footer.verity.data_blocks;
        let tree = levels(usr).iter().sum::<u64>();
        let found = footer.parts.verity.length;
        if found != (tree + 1) * BLOCK_U64 {
            return Err(LayoutError::Tree { found: blocks_of(footer.parts.verity), needed: tree + 1 });
        }
        let fits = |value: u64| u32::try_from(value).ok().filter(|value| *value < 1 << 31);
        match (fits(usr), fits(tree), fits(end)) {
            (Some(usr_blocks), Some(tree_blocks), Some(end)) => Ok(Self { usr_blocks, tree_blocks, end }),
            _ => Err(LayoutError::TooLarge(end)),
        }
    }

    /// Blocks of `/usr`: the first ones of the slot, and of the list.
    pub const fn usr_blocks(&self) -> u32 {
        self.usr_blocks
    }

    /// Blocks of all parts.
    pub const fn blocks(&self) -> u32 {
        self.end
    }

    /// Number of listed blocks.
    pub const fn listed(&self) -> u32 {
        self.end - self.tree_blocks
    }

    /// The blocks of the hash tree, which are not listed. The verity superblock before them is.
    pub const fn tree(&self) -> Range<u32> {
        let start = self.usr_blocks + 1;
        start..start + self.tree_blocks
    }

    /// The block of the slot that is number `listed` of the list.
    pub const fn block_of(&self, listed: u32) -> u32 {
        if listed <= self.usr_blocks { listed } else { listed + self.tree_blocks }
    }

    /// The number of a block in the list; `None` for blocks of the tree and beyond the parts.
    pub fn listed_of(&self, block: u32) -> Option<u32> {
        if block >= self.end || self.tree().contains(&block) {
            return None;
        }
        Some(if block <= self.usr_blocks { block } else { block - self.tree_blocks })
    }
}

const fn blocks_of(part: Part) -> u64 {
    part.length.div_ceil(BLOCK_U64)
}

/// Blocks of each level of the hash tree, the lowest first (`docs/formats/verity.md`). One block of data has no tree.
pub fn levels(data_blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(FANOUT);
        levels.push(blocks);
    }
    levels
}
