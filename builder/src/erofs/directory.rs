//! Directory blocks: an array of entries, then their names, sorted by bytes as the kernel's binary search needs.

use super::format::{BLOCK_BYTES, DIRENT_BYTES, le16, le64};

/// One name in a directory, before inode numbers are known. `inode` indexes the caller's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'t> {
    pub name: &'t [u8],
    pub inode: usize,
}

/// How the sorted entries of a directory spread over blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks {
    /// Number of entries in each block.
    counts: Vec<usize>,
    /// Used bytes of the last block.
    pub last_bytes: u64,
}

impl Blocks {
    pub(super) fn new(entries: &[Entry<'_>]) -> Self {
        let mut blocks = Self::default();
        let mut used = u64::MAX;
        for entry in entries {
            let need = (DIRENT_BYTES + entry.name.len()) as u64;
            match blocks.counts.last_mut() {
                Some(count) if used + need <= BLOCK_BYTES => {
                    *count += 1;
                    used += need;
                }
                _ => {
                    blocks.counts.push(1);
                    used = need;
                }
            }
        }
        blocks.last_bytes = used;
        blocks
    }

    /// Length of the directory as its inode states it.
    pub(super) fn size(&self) -> u64 {
        (self.counts.len() as u64).saturating_sub(1) * BLOCK_BYTES + self.last_bytes
    }

    /// The directory's bytes: whole blocks, and at the end the used bytes of the last one.
    pub(super) fn encode(&self, entries: &[Entry<'_>], describe: impl Fn(usize) -> (u64, u8)) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut rest = entries;
        for &count in &self.counts {
            bytes.resize(bytes.len().next_multiple_of(1 << 12), 0);
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = later;
            let mut name_offset = now.len() * DIRENT_BYTES;
            for entry in now {
                let (nid, file_type) = describe(entry.inode);
                bytes.extend(nid.to_le_bytes());
                // A block has 4096 bytes, so the offset fits.
                bytes.extend(u16::try_from(name_offset).unwrap_or(u16::MAX).to_le_bytes());
                bytes.extend([file_type, 0]);
                name_offset += entry.name.len();
            }
            now.iter().for_each(|entry| bytes.extend(entry.name));
        }
        bytes
    }
}

/// One entry read back: inode number, file type, name.
pub(super) type Found = (u64, u8, Vec<u8>);

/// Reads one directory block (cut to the directory's size). `None` when it is malformed.
pub(super) fn decode_block(block: &[u8]) -> Option<Vec<Found>> {
    let first = usize::from(le16(block, 8)?);
    if first == 0 || !first.is_multiple_of(DIRENT_BYTES) || first > block.len() {
        return None;
    }
    let count = first / DIRENT_BYTES;
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        let at = index * DIRENT_BYTES;
        let start = usize::from(le16(block, at + 8)?);
        let name = if index + 1 < count {
            block.get(start..usize::from(le16(block, at + DIRENT_BYTES + 8)?))?
        } else {
            let rest = block.get(start..)?;
            rest.get(..rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len()))?
        };
        if start < first || name.is_empty() || name.len() > 255 {
            return None;
        }
        found.push((le64(block, at)?, *block.get(at + 10)?, name.to_vec()));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_survive_the_blocks(names in proptest::collection::btree_set(proptest::collection::vec(1u8.., 1..=255), 1..200)) {
            let names: Vec<_> = names.into_iter().collect();
            let entries: Vec<_> = names.iter().enumerate().map(|(inode, name)| Entry { name, inode }).collect();
            let blocks = Blocks::new(&entries);
            let bytes = blocks.encode(&entries, |inode| (inode as u64 + 5, 1));
            prop_assert_eq!(bytes.len() as u64, blocks.size());
            let found: Vec<_> = bytes.chunks(4096).flat_map(|block| decode_block(block).unwrap()).collect();
            let want: Vec<_> = names.into_iter().enumerate().map(|(inode, name)| (inode as u64 + 5, 1, name)).collect();
            prop_assert_eq!(found, want);
        }

        #[test]
        fn any_bytes_decode_or_not_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_block(&bytes);
        }
    }
}
