//! dm-verity hash trees, as `veritysetup format` writes them: version 1, SHA-256, blocks of 4096 bytes, salt before
//! the data. Bytes: `docs/formats/verity.md`.
//!
//! The area is one block with the superblock, then the tree from its top level down. The root hash is that of the
//! top level's only block (of the data block itself when there is but one).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use update_engine::payload::FANOUT;
pub use update_engine::payload::levels;

/// Size of data and hash blocks in bytes.
pub const BLOCK_BYTES: u64 = 4096;
const DIGEST_BYTES: usize = 32;
const BLOCK: usize = 4096;
/// The superblock has room for this much salt.
pub const MAX_SALT_BYTES: usize = 256;
const SUPERBLOCK_BYTES: usize = 512;
const SIGNATURE: &[u8; 8] = b"verity\0\0";

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Why a tree could not be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// Reading failed.
    #[error("cannot read {len} bytes at {offset}")]
    Read {
        /// Byte of the file.
        offset: u64,
        /// Length in bytes.
        len: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write the hash tree at {offset}")]
    Write {
        /// Byte of the file.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No data block, or more than an address can tell.
    #[error("{0} data blocks cannot be hashed")]
    DataBlocks(u64),
    /// A salt that the superblock has no room for.
    #[error("the salt has {0} bytes, {MAX_SALT_BYTES} are the most")]
    SaltTooLong(usize),
    /// The block is no verity superblock that we read.
    #[error("no usable dm-verity superblock: {0}")]
    Superblock(&'static str),
    /// The data is longer than the area before the tree.
    #[error("the superblock speaks of {found} data blocks, the image has {expected}")]
    Length {
        /// As stored.
        found: u64,
        /// As the caller says.
        expected: u64,
    },
    /// The bytes are not those that were hashed.
    #[error("{0} does not match its hash")]
    Mismatch(BadBlock),
}

/// The first block that does not match, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// The top of the tree does not have the root hash.
    #[error("the top of the hash tree")]
    Root,
    /// A block of the tree, counted from the start of the tree, the superblock excluded.
    #[error("block {0} of the hash tree")]
    Tree(u64),
    /// A block of data.
    #[error("data block {0}")]
    Data(u64),
}

/// What the superblock says beside the constants of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// UUID in the order of its text.
    pub uuid: [u8; 16],
    /// Number of data blocks.
    pub data_blocks: u64,
    /// Hashed before each block; at most [`MAX_SALT_BYTES`].
    pub salt: Vec<u8>,
}

impl Superblock {
    /// The block as it is stored.
    pub fn encode(&self) -> Result<Vec<u8>, VerityError> {
        let too_long = || VerityError::SaltTooLong(self.salt.len());
        if self.salt.len() > MAX_SALT_BYTES {
            return Err(too_long());
        }
        let mut block = SIGNATURE.to_vec();
        block.extend(1u32.to_le_bytes()); // version of the superblock
        block.extend(1u32.to_le_bytes()); // hash type: salt first, digests packed
        block.extend(self.uuid);
        block.extend(b"sha256");
        block.resize(64, 0);
        block.extend(4096u32.to_le_bytes());
        block.extend(4096u32.to_le_bytes());
        block.extend(self.data_blocks.to_le_bytes());
        block.extend(u16::try_from(self.salt.len()).map_err(|_| too_long())?.to_le_bytes());
        block.extend([0; 6]);
        block.extend(&self.salt);
        block.resize(BLOCK, 0);
        Ok(block)
    }

    /// Reads the superblock from the start of `block`, which has at least 512 bytes.
    pub fn decode(block: &[u8]) -> Result<Self, VerityError> {
        let bytes: &[u8; SUPERBLOCK_BYTES] =
            block.first_chunk().ok_or(VerityError::Superblock("cut short"))?;
        let field = |at: usize, len: usize| bytes.get(at..at + len).unwrap_or_default();
        if field(0, 8) != SIGNATURE {
            return Err(VerityError::Superblock("no signature"));
        }
        let four_kib = 4096u32.to_le_bytes();
        let expected: [(usize, &[u8], &'static str); 5] = [
            (8, &[1, 0, 0, 0], "version is not 1"),
            (12, &[1, 0, 0, 0], "hash type is not 1"),
            (32, b"sha256\0", "algorithm is not sha256"),
            (64, &four_kib, "data blocks are not of 4096 bytes"),
            (68, &four_kib, "hash blocks are not of 4096 bytes"),
        ];
        for (at, want, complaint) in expected {
            if field(at, want.len()) != want {
                return Err(VerityError::Superblock(complaint));
            }
        }
        let data_blocks = field(72, 8).try_into().map(u64::from_le_bytes);
        let salt_len = field(80, 2).try_into().map(u16::from_le_bytes);
        let (Ok(data_blocks), Ok(salt_len), Ok(uuid)) = (data_blocks, salt_len, field(16, 16).try_into())
        else {
            return Err(VerityError::Superblock("cut short"));
        };
        if usize::from(salt_len) > MAX_SALT_BYTES {
            return Err(VerityError::Superblock("salt is too long"));
        }
        Ok(Self { uuid, data_blocks, salt: field(88, usize::from(salt_len)).to_vec() })
    }

    fn hasher(&self) -> Sha256 {
        Sha256::new_with_prefix(&self.salt)
    }
}

/// Bytes of the superblock's block and the tree over `data_blocks` blocks.
pub fn tree_len(data_blocks: u64) -> u64 {
    (1 + levels(data_blocks).iter().sum::<u64>()) * BLOCK_BYTES
}

/// Hashes the data at `data_offset` of `file`, which `superblock` describes, writes superblock and tree at
/// `tree_offset` (the area of [`tree_len`] bytes may not overlap the data), and returns the root hash. Works with all
/// threads of the rayon pool; holds the tree (1/128 of the data) in memory.
pub fn write_tree(
    file: &File,
    data_offset: u64,
    superblock: &Superblock,
    tree_offset: u64,
) -> Result<Hash, VerityError> {
    let mut area = superblock.encode()?;
    let (root, tree) = hash_tree(file, data_offset, superblock)?;
    area.extend(tree);
    file.write_all_at(&area, tree_offset)
        .map_err(|source| VerityError::Write { offset: tree_offset, source })?;
    Ok(root)
}

/// The root hash and the tree's bytes, top level first, without the superblock.
pub fn hash_tree(
    file: &File,
    data_offset: u64,
    superblock: &Superblock,
) -> Result<(Hash, Vec<u8>), VerityError> {
    let data_blocks = superblock.data_blocks;
    let address_end = data_blocks.checked_mul(BLOCK_BYTES).and_then(|len| len.checked_add(data_offset));
    if data_blocks == 0 || address_end.is_none() {
        return Err(VerityError::DataBlocks(data_blocks));
    }
    let hasher = superblock.hasher();
    let mut digests = hash_data(file, data_offset, data_blocks, &hasher)?;
    let mut upward = Vec::new();
    while digests.len() > DIGEST_BYTES {
        digests.resize(digests.len().next_multiple_of(BLOCK), 0);
        let next: Vec<u8> = digests.par_chunks(BLOCK).flat_map_iter(|block| digest(&hasher, block)).collect();
        upward.push(std::mem::replace(&mut digests, next));
    }
    let root = digests.as_slice().try_into().map_err(|_| VerityError::DataBlocks(data_blocks))?;
    upward.reverse();
    Ok((root, upward.concat()))
}

/// Digests of all data blocks, one after the other.
fn hash_data(file: &File, offset: u64, blocks: u64, hasher: &Sha256) -> Result<Vec<u8>, VerityError> {
    let zero = digest(hasher, &[0; BLOCK]);
    let groups: Vec<Vec<u8>> = (0..blocks.div_ceil(FANOUT))
        .into_par_iter()
        .map_init(Vec::new, |buffer: &mut Vec<u8>, group| {
            let first = group * FANOUT;
            buffer.resize(to_usize((blocks - first).min(FANOUT) * BLOCK_BYTES), 0);
            read(file, offset + first * BLOCK_BYTES, buffer)?;
            // Most images end in padding and have files of zeros: their digest is known.
            let of = |block: &[u8]| if block == [0; BLOCK] { zero } else { digest(hasher, block) };
            Ok(buffer.chunks_exact(BLOCK).flat_map(of).collect())
        })
        .collect::<Result<_, VerityError>>()?;
    Ok(groups.concat())
}

/// Checks tree and data against `root` and returns the superblock. `data_blocks` is how many the caller knows the
/// data to have (a superblock is not signed); the first bad block is an error, the tree before the data.
pub fn verify(
    file: &File,
    data_offset: u64,
    data_blocks: u64,
    tree_offset: u64,
    root: &Hash,
) -> Result<Superblock, VerityError> {
    let mut block = [0; BLOCK];
    read(file, tree_offset, &mut block)?;
    let superblock = Superblock::decode(&block)?;
    if superblock.data_blocks != data_blocks || data_blocks == 0 {
        return Err(VerityError::Length { found: superblock.data_blocks, expected: data_blocks });
    }
    let (computed_root, computed) = hash_tree(file, data_offset, &superblock)?;
    let mut stored = vec![0; computed.len()];
    read(file, tree_offset.saturating_add(BLOCK_BYTES), &mut stored)?;
    if computed == stored {
        let what = if stored.is_empty() { BadBlock::Data(0) } else { BadBlock::Root };
        return if computed_root == *root { Ok(superblock) } else { Err(VerityError::Mismatch(what)) };
    }
    Err(VerityError::Mismatch(first_bad(&superblock, root, &stored, &computed)))
}

/// The first block on the way down that its parent, as stored, does not vouch for. `computed` is the tree over the
/// data as it is, which differs from `stored`.
fn first_bad(superblock: &Superblock, root: &Hash, stored: &[u8], computed: &[u8]) -> BadBlock {
    let hasher = superblock.hasher();
    let blocks: Vec<&[u8]> = stored.chunks(BLOCK).collect();
    if blocks.first().map(|top| digest(&hasher, top)) != Some(*root) {
        return BadBlock::Root;
    }
    // Digests of the levels above the lowest, padding left out, are those of the next level's blocks in order.
    let counts: Vec<usize> = levels(superblock.data_blocks).into_iter().rev().map(to_usize).collect();
    let mut parent = 0;
    let mut child = 1;
    for pair in counts.windows(2) {
        let (Some(parents), Some(children)) = (pair.first(), pair.get(1)) else { break };
        let vouched = blocks.iter().skip(parent).take(*parents).flat_map(|block| block.chunks(DIGEST_BYTES));
        for (index, want) in vouched.take(*children).enumerate() {
            if blocks.get(child + index).is_none_or(|block| digest(&hasher, block) != *want) {
                return BadBlock::Tree((child + index) as u64);
            }
        }
        parent += parents;
        child += children;
    }
    // The tree is whole, so the lowest level's difference is the data's.
    let lowest = parent * BLOCK;
    let digests = |tree: &[u8]| -> Vec<Vec<u8>> {
        tree.get(lowest..).unwrap_or_default().chunks(DIGEST_BYTES).map(<[u8]>::to_vec).collect()
    };
    let differs = digests(stored).iter().zip(&digests(computed)).position(|(a, b)| a != b);
    differs.map_or(BadBlock::Root, |index| BadBlock::Data(index as u64))
}

fn digest(hasher: &Sha256, block: &[u8]) -> Hash {
    hasher.clone().chain_update(block).finalize().into()
}

fn read(file: &File, offset: u64, buffer: &mut [u8]) -> Result<(), VerityError> {
    let len = buffer.len();
    file.read_exact_at(buffer, offset).map_err(|source| VerityError::Read { offset, len, source })
}

/// A length in memory; the targets that we build for have 64-bit addresses.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn superblock(data_blocks: u64) -> Superblock {
        Superblock { uuid: [3; 16], data_blocks, salt: b"salt of the product".to_vec() }
    }

    /// A file of `blocks` blocks, each different, every third one zeros.
    fn image(blocks: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        for block in (0..blocks).filter(|block| block % 3 != 2) {
            file.write_all_at(&[(block % 200) as u8 + 1; BLOCK], block * BLOCK_BYTES).unwrap();
            file.write_all_at(&block.to_le_bytes(), block * BLOCK_BYTES).unwrap();
        }
        file.set_len(blocks * BLOCK_BYTES).unwrap();
        file
    }

    #[test]
    fn sizes_are_those_of_the_format() {
        assert_eq!(levels(1), [] as [u64; 0]);
        assert_eq!(levels(2), [1]);
        assert_eq!(levels(128), [1]);
        assert_eq!(levels(129), [2, 1]);
        assert_eq!(levels(128 * 128 + 1), [129, 2, 1]);
        assert_eq!(tree_len(129), 4 * 4096);
    }

    #[test]
    fn one_block_is_its_own_root() {
        let file = image(1);
        let (root, tree) = hash_tree(&file, 0, &superblock(1)).unwrap();
        let mut block = b"salt of the product".to_vec();
        block.extend(0u64.to_le_bytes());
        block.extend([1; BLOCK - 8]);
        assert_eq!((root, tree.len()), (Sha256::digest(block).into(), 0));
    }

    #[test]
    fn every_flipped_bit_is_found_where_it_is() {
        let blocks = 300;
        let file = image(blocks);
        let tree_at = blocks * BLOCK_BYTES;
        let root = write_tree(&file, 0, &superblock(blocks), tree_at).unwrap();
        assert_eq!(file.metadata().unwrap().len(), tree_at + tree_len(blocks));
        assert_eq!(verify(&file, 0, blocks, tree_at, &root).unwrap(), superblock(blocks));
        let cases = [
            (0, BadBlock::Data(0)),
            (127 * BLOCK_BYTES + 4095, BadBlock::Data(127)),
            (128 * BLOCK_BYTES, BadBlock::Data(128)),
            (299 * BLOCK_BYTES + 9, BadBlock::Data(299)),
            (tree_at + BLOCK_BYTES, BadBlock::Root),
            (tree_at + 2 * BLOCK_BYTES, BadBlock::Tree(1)),
            (tree_at + 4 * BLOCK_BYTES + 44 * 32, BadBlock::Tree(3)),
        ];
        for (at, want) in cases {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
            let found = verify(&file, 0, blocks, tree_at, &root);
            assert!(matches!(found, Err(VerityError::Mismatch(bad)) if bad == want), "{at}: {found:?}");
            file.write_all_at(&byte, at).unwrap();
        }
        assert!(matches!(
            verify(&file, 0, blocks, tree_at, &[0; 32]),
            Err(VerityError::Mismatch(BadBlock::Root))
        ));
        assert!(matches!(
            verify(&file, 0, 299, tree_at, &root),
            Err(VerityError::Length { found: 300, expected: 299 })
        ));
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let file = image(1);
        assert!(matches!(hash_tree(&file, 0, &superblock(0)), Err(VerityError::DataBlocks(0))));
        assert!(matches!(hash_tree(&file, 0, &superblock(u64::MAX / 8)), Err(VerityError::DataBlocks(_))));
        assert!(matches!(hash_tree(&file, 0, &superblock(2)), Err(VerityError::Read { .. })));
        let long = Superblock { salt: vec![0; 257], ..superblock(1) };
        assert!(matches!(long.encode(), Err(VerityError::SaltTooLong(257))));
    }

    proptest! {
        #[test]
        fn superblocks_round_trip(uuid in any::<[u8; 16]>(), data_blocks in any::<u64>(), salt in proptest::collection::vec(any::<u8>(), 0..=256)) {
            let superblock = Superblock { uuid, data_blocks, salt };
            prop_assert_eq!(Superblock::decode(&superblock.encode().unwrap()).unwrap(), superblock);
        }

        #[test]
        fn any_bytes_decode_or_not_but_never_panic(at in 0usize..512, byte in any::<u8>(), len in 0usize..600) {
            let mut block = superblock(7).encode().unwrap();
            block[at] = byte;
            block.truncate(len);
            let _ = Superblock::decode(&block);
        }
    }
}
