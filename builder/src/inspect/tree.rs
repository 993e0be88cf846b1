//! Checks `/usr` block by block against its dm-verity tree, as the kernel would (cryptsetup wiki, "DM-Verity",
//! on-disk format 1). Written apart from the code that makes the tree, so that one checks the other.

use std::io;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use slots::VerityInfo;

use crate::formats::{DiskImage, ReadAt as _};

const BLOCK: u64 = 4096;
const BLOCK_LEN: usize = 4096;
const DIGEST_LEN: usize = 32;
/// Digests in a block of the tree.
const FANOUT: u64 = BLOCK / DIGEST_LEN as u64;
/// Levels above 2^64 blocks do not exist.
const MOST_LEVELS: usize = 10;

/// What is wrong with a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeFault {
    /// Reading failed.
    #[error("cannot be read ({0})")]
    Read(io::Error),
    /// The superblock is not what the footer describes.
    #[error("the superblock's {0} is not that of the footer")]
    Superblock(&'static str),
    /// The part is too short for a tree over so many blocks.
    #[error("too short for its data")]
    Short,
    /// A block does not have the hash that the level above says.
    #[error("block {block} of {} is not what the tree says", level_name(*.level))]
    Block {
        /// 0 is data, 1 the lowest level of the tree.
        level: usize,
        /// Number of the block in its level.
        block: u64,
    },
    /// The top of the tree does not hash to the root hash.
    #[error("wrong root hash")]
    Root,
}

fn level_name(level: usize) -> String {
    if level == 0 { "/usr".to_owned() } else { format!("tree level {level}") }
}

/// Checks superblock, all levels and all data blocks of the slot at `base`.
///
/// # Errors
/// The first fault found.
pub fn verify(file: &DiskImage, base: u64, verity: &VerityInfo, tree_bytes: u64) -> Result<(), TreeFault> {
    let read_block = |offset: u64| {
        let mut block = vec![0; BLOCK_LEN];
        file.read_exact_at(&mut block, base.saturating_add(offset)).map(|()| block).map_err(TreeFault::Read)
    };
    check_superblock(&read_block(verity.superblock_offset)?, verity)?;
    // From the data up: where each level starts and how many blocks it has.
    let mut blocks = vec![verity.data_blocks];
    while blocks.last().is_some_and(|count| *count > 1) && blocks.len() < MOST_LEVELS {
        blocks.push(blocks.last().map_or(0, |count| count.div_ceil(FANOUT)));
    }
    let tree_blocks: u64 = blocks.iter().skip(1).sum();
    if (tree_blocks + 1).saturating_mul(BLOCK) > tree_bytes {
        return Err(TreeFault::Short);
    }
    // The top level stands first, right behind the superblock.
    let mut end = verity.superblock_offset + (tree_blocks + 1) * BLOCK;
    let mut starts = vec![0];
    for count in blocks.iter().skip(1) {
        end -= count * BLOCK;
        starts.push(end);
    }
    let top = read_block(starts.last().copied().unwrap_or(0))?;
    if digest(&verity.salt, &top) != verity.root_hash {
        return Err(TreeFault::Root);
    }
    for level in (1..blocks.len()).rev() {
        let at = |list: &[u64], level: usize| list.get(level).copied().unwrap_or(0);
        let below = Level { start: base + at(&starts, level - 1), blocks: at(&blocks, level - 1) };
        let digests = base + at(&starts, level);
        below.check(file, digests, &verity.salt, level - 1)?;
    }
    Ok(())
}

struct Level {
    start: u64,
    blocks: u64,
}

impl Level {
    /// Compares every block with its digest in the level above, which starts at `digests`.
    fn check(&self, file: &DiskImage, digests: u64, salt: &[u8; 32], level: usize) -> Result<(), TreeFault> {
        (0..self.blocks.div_ceil(FANOUT)).into_par_iter().try_for_each(|group| {
            let first = group * FANOUT;
            let count = (self.blocks - first).min(FANOUT);
            let mut expected = vec![0; BLOCK_LEN];
            file.read_exact_at(&mut expected, digests + group * BLOCK).map_err(TreeFault::Read)?;
            let mut data = vec![0; usize::try_from(count * BLOCK).unwrap_or(0)];
            file.read_exact_at(&mut data, self.start + first * BLOCK).map_err(TreeFault::Read)?;
            let pairs = data.chunks(BLOCK_LEN).zip(expected.chunks(DIGEST_LEN));
            for (block, (bytes, wanted)) in (first..).zip(pairs) {
                if digest(salt, bytes).as_slice() != wanted {
                    return Err(TreeFault::Block { level, block });
                }
            }
            Ok(())
        })
    }
}

fn digest(salt: &[u8; 32], block: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

fn check_superblock(block: &[u8], verity: &VerityInfo) -> Result<(), TreeFault> {
    let field = |from: usize, bytes: &[u8]| block.get(from..from + bytes.len()) == Some(bytes);
    let checks = [
        ("signature", field(0, b"verity\0\0")),
        ("version", field(8, &1u32.to_le_bytes()) && field(12, &1u32.to_le_bytes())),
        ("algorithm", field(32, b"sha256\0")),
        ("block size", field(64, &4096u32.to_le_bytes()) && field(68, &4096u32.to_le_bytes())),
        ("number of blocks", field(72, &verity.data_blocks.to_le_bytes())),
        ("salt", field(80, &32u16.to_le_bytes()) && field(88, &verity.salt)),
    ];
    checks.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(name, _)| Err(TreeFault::Superblock(name)))
}
