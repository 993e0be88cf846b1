//! The journal's superblock, from the transactions in the log.
//!
//! It says at which block and with which transaction a replay begins. The kernel writes it at the first transaction after a mount and whenever
//! it frees room in the log. When it is torn, every transaction from the newest back, as long as none is missing, is replayed: of those before the one
//! that it named, everything is in place already and comes back as it was, or is revoked by a later one. A mount, and a replay, skip a number, so
//! that no transaction of an earlier mount is among them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::layout::Layout;
use super::{Restored, crc32c};

const MAGIC: u32 = 0xc03b_3998;
/// Kinds of blocks.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK: u32 = 4;
const REVOKE: u32 = 5;
/// Revoked blocks, block numbers of 64 bits, checksums of the third version: what the kernel sets with checksums of metadata.
const INCOMPAT: u32 = 0x1 | 0x2 | 0x10;
const CHECKSUM_CRC32C: u32 = 4;
/// Bytes of the superblock; it stands at the beginning of its block.
const SUPERBLOCK_LEN: usize = 1024;
const CHECKSUM_AT: usize = 0xfc;
/// Where a commit block has its checksum; others have it in their last four bytes.
const COMMIT_CHECKSUM_AT: usize = 0x10;

/// A replay of the log begins at this block of the journal with this transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    block: u32,
    sequence: u32,
}

/// Makes the superblock again if it is torn; [`Restored::Whole`], [`Restored::Superblock`] or [`Restored::Unknown`]. Does not sync.
pub fn restore(device: &File, layout: &Layout) -> io::Result<Restored> {
    let Some(blocks) = layout.journal_blocks() else { return Ok(Restored::Unknown) };
    let Ok(block_len) = usize::try_from(layout.block_size) else { return Ok(Restored::Unknown) };
    let mut block = vec![0; block_len];
    let mut log = Log { seed: crc32c(!0, &layout.uuid), commits: BTreeMap::new(), others: BTreeMap::new() };
    for (number, place) in (0_u32..).zip(&blocks) {
        device.read_exact_at(&mut block, place * layout.block_size)?;
        if number > 0 {
            log.take(number, &block);
        } else if is_whole(&block) {
            return Ok(Restored::Whole);
        }
    }
    let (Ok(length), Some(first)) = (u32::try_from(blocks.len()), blocks.first()) else {
        return Ok(Restored::Unknown);
    };
    let Some(start) = log.start(length) else { return Ok(Restored::Unknown) };
    device.write_all_at(&superblock(layout, length, start, block_len), first * layout.block_size)?;
    Ok(Restored::Superblock)
}

/// What was found in a log.
struct Log {
    seed: u32,
    /// Block of the journal for each transaction that was committed.
    commits: BTreeMap<u32, u32>,
    /// Blocks with which a transaction may begin.
    others: BTreeMap<u32, Vec<u32>>,
}

impl Log {
    /// Notes a block, if it is one of the log's own and whole.
    fn take(&mut self, number: u32, block: &[u8]) {
        let (Some(MAGIC), Some(kind), Some(sequence)) = (be32(block, 0), be32(block, 4), be32(block, 8))
        else {
            return;
        };
        let at = match kind {
            COMMIT => COMMIT_CHECKSUM_AT,
            DESCRIPTOR | REVOKE => block.len().saturating_sub(4),
            _ => return,
        };
        if be32(block, at) != checksum(self.seed, block, at) {
            return;
        }
        if kind == COMMIT {
            self.commits.insert(sequence, number);
        } else {
            self.others.entry(sequence).or_default().push(number);
        }
    }

    /// Where the oldest transaction begins from which on none is missing, in a journal of `length` blocks, of which the first is not
    /// part of the ring.
    fn start(&self, length: u32) -> Option<Start> {
        let (mut sequence, mut commit) = self.commits.last_key_value().map(|(one, two)| (*one, *two))?;
        while let Some((before, block)) =
            sequence.checked_sub(1).and_then(|before| self.commits.get_key_value(&before))
        {
            (sequence, commit) = (*before, *block);
        }
        // Backwards from its commit, around the ring.
        let ring = length.checked_sub(1)?;
        let before_commit = |block: &u32| (commit + ring - *block) % ring;
        let first =
            self.others.get(&sequence).and_then(|blocks| blocks.iter().copied().max_by_key(before_commit));
        Some(Start { block: first.unwrap_or(commit), sequence })
    }
}

fn superblock(layout: &Layout, length: u32, start: Start, block_len: usize) -> Vec<u8> {
    let mut block = vec![0; block_len];
    let block_size = u32::try_from(block_len).unwrap_or_default();
    for (at, value) in [
        (0x00, MAGIC),
        (0x04, SUPERBLOCK),
        (0x0c, block_size),
        (0x10, length),
        (0x14, 1),
        (0x18, start.sequence),
        (0x1c, start.block),
        (0x28, INCOMPAT),
        (0x40, 1),
        (0x50, CHECKSUM_CRC32C << 24),
    ] {
        put(&mut block, at, &value.to_be_bytes());
    }
    put(&mut block, 0x30, &layout.uuid);
    let sum = block.get(..SUPERBLOCK_LEN).and_then(|covered| checksum(!0, covered, CHECKSUM_AT));
    put(&mut block, CHECKSUM_AT, &sum.unwrap_or_default().to_be_bytes());
    block
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = block.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Whether the kernel would read this superblock; one without a checksum is believed.
fn is_whole(block: &[u8]) -> bool {
    let checksum_kind = block.get(0x50).copied().map(u32::from);
    be32(block, 0) == Some(MAGIC)
        && be32(block, 4) == Some(SUPERBLOCK)
        && (checksum_kind != Some(CHECKSUM_CRC32C)
            || block.get(..SUPERBLOCK_LEN).and_then(|covered| checksum(!0, covered, CHECKSUM_AT))
                == be32(block, CHECKSUM_AT))
}

/// The checksum of a block in which it stands at `at`, and counts as zeroes.
fn checksum(seed: u32, block: &[u8], at: usize) -> Option<u32> {
    let sum = crc32c(crc32c(seed, block.get(..at)?), &[0; 4]);
    Some(crc32c(sum, block.get(at + 4..)?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: u32 = 64;

    /// A log into which transactions were written one after the other, as long as told, and around the ring; then its tail was lost.
    fn written(lengths: &[u32], first: u32) -> (Log, Vec<(u32, u32, u32)>) {
        let mut ring: Vec<Option<(u32, u32)>> = vec![None; LENGTH as usize];
        let mut head = 1;
        let mut transactions = Vec::new();
        for (sequence, length) in (first..).zip(lengths) {
            let begin = head;
            for place in 0..=*length {
                let kind = if place == *length { COMMIT } else { DESCRIPTOR };
                ring[head as usize] = Some((kind, sequence));
                head = if head + 1 == LENGTH { 1 } else { head + 1 };
            }
            transactions.push((sequence, begin, *length));
        }
        let mut log = Log { seed: 0, commits: BTreeMap::new(), others: BTreeMap::new() };
        for (number, block) in (0..).zip(ring) {
            match block {
                Some((COMMIT, sequence)) => drop(log.commits.insert(sequence, number)),
                Some((_, sequence)) => log.others.entry(sequence).or_default().push(number),
                None => {}
            }
        }
        (log, transactions)
    }

    #[test]
    fn a_log_without_a_commit_has_no_start() {
        let log = Log { seed: 0, commits: BTreeMap::new(), others: BTreeMap::from([(3, vec![5])]) };
        assert_eq!(log.start(LENGTH), None);
    }

    #[test]
    fn transactions_of_an_earlier_mount_are_left_out() {
        let (mut log, _) = written(&[3, 3, 3, 3], 10);
        log.commits.remove(&11);
        assert_eq!(log.start(LENGTH), Some(Start { block: 9, sequence: 12 }));
    }

    proptest! {
        #[test]
        fn a_replay_begins_with_all_that_is_left_of_the_oldest(lengths in proptest::collection::vec(0_u32..9, 1..60)) {
            let (log, transactions) = written(&lengths, 7);
            let start = log.start(LENGTH).unwrap();
            // What is in the ring: the newest transactions that fit into it together, and perhaps the end of one more.
            let mut room = LENGTH - 1;
            let whole: Vec<_> = transactions.iter().rev().take_while(|(_, _, length)| {
                let fits = *length < room;
                room = room.saturating_sub(length + 1);
                fits
            }).collect();
            let (oldest, begin, _) = **whole.last().unwrap();
            if start.sequence == oldest {
                prop_assert_eq!(start.block, begin);
            } else {
                prop_assert_eq!(start.sequence + 1, oldest, "one that lost its beginning");
            }
        }

        #[test]
        fn any_block_is_read_without_panic(mut block in proptest::collection::vec(any::<u8>(), 0..5000), kind in 0_u32..7) {
            let mut log = Log { seed: 1, commits: BTreeMap::new(), others: BTreeMap::new() };
            log.take(1, &block);
            is_whole(&block);
            put(&mut block, 0, &MAGIC.to_be_bytes());
            put(&mut block, 4, &kind.to_be_bytes());
            log.take(1, &block);
            is_whole(&block);
        }
    }
}
