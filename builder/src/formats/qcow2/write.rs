//! Writes a raw disk as qcow2, in one pass: the header's cluster, the compressed clusters one behind the other, the tables.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use debian::progress::Task;

use super::{COMPRESSED, COPIED, Compression, Header, SECTOR};
use crate::formats::FormatError;
use crate::formats::chunks::{Compressed, Cut, Tail, compress};

/// 64 KiB, QEMU's default: a guest's read of 4 KiB costs decompressing one cluster, and larger ones save next to nothing
/// (measured in `docs/formats/qcow2.md`).
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// zstd's level: the last one before its time grows faster than its gain (`docs/formats/qcow2.md`).
pub const LEVEL: i32 = 2;
/// Entries of 8 bytes in a cluster: those of a second-level table, and of a cluster of the table of reference counts.
const ENTRIES: u64 = CLUSTER / 8;
/// Reference counts of 16 bits in a block of them.
const REFCOUNTS: u64 = CLUSTER / 2;
/// Largest disk: the tables of larger ones would want other cluster sizes.
const LARGEST_DISK: u64 = 1 << 44;

/// Writes the first `len` bytes of `raw` as a qcow2 file into `to`, which must be empty. The bytes follow from the content
/// alone. `task` advances by the bytes of data read.
///
/// # Errors
/// Reading or writing fails, or the size is no multiple of 512 or above 16 TiB.
pub fn write(raw: &File, len: u64, to: &File, task: &dyn Task) -> Result<(), FormatError> {
    if !len.is_multiple_of(SECTOR) || len > LARGEST_DISK {
        return Err(FormatError::Size { bytes: len, rule: "a multiple of 512 bytes, up to 16 TiB" });
    }
    let cut = Cut { bytes: CLUSTER, level: LEVEL, checksum: false, tail: Tail::Padded };
    let mut data = Data { end: CLUSTER, tables: BTreeMap::new(), refcounts: vec![1] };
    compress(raw, len, cut, task, |batch| data.append(to, &batch))?;
    data.finish(to, len)?;
    Ok(())
}

/// The file as far as it is written: the first cluster is kept for the header, and the rest is compressed data.
struct Data {
    /// Where the next byte goes.
    end: u64,
    /// Second-level tables by their number; those of zeros are not there.
    tables: BTreeMap<u64, Vec<u64>>,
    /// How often each cluster of the file is used: compressed data lies across them.
    refcounts: Vec<u16>,
}

impl Data {
    fn append(&mut self, to: &File, batch: &[Compressed]) -> io::Result<()> {
        let start = self.end;
        let mut bytes = Vec::new();
        for chunk in batch {
            bytes.extend_from_slice(&chunk.frame);
            self.place(chunk.index, chunk.frame.len() as u64)?;
        }
        to.write_all_at(&bytes, start)
    }

    /// Enters compressed data of `len` bytes at the end of the file as the content of guest cluster `index`.
    fn place(&mut self, index: u64, len: u64) -> io::Result<()> {
        let (offset, end) = (self.end, self.end + len);
        let (first, last) = (offset / SECTOR, (end - 1) / SECTOR);
        let sectors_shift = 62 - (CLUSTER_BITS - 8);
        let descriptor = COMPRESSED | (last - first) << sectors_shift | offset;
        let table = self.tables.entry(index / ENTRIES).or_insert_with(|| vec![0; 1 << (CLUSTER_BITS - 3)]);
        let at = usize::try_from(index % ENTRIES).map_err(io::Error::other)?;
        if let Some(entry) = table.get_mut(at) {
            *entry = descriptor;
        }
        for cluster in offset / CLUSTER..=last * SECTOR / CLUSTER {
            self.use_cluster(cluster)?;
        }
        self.end = end;
        Ok(())
    }

    fn use_cluster(&mut self, cluster: u64) -> io::Result<()> {
        let at = usize::try_from(cluster).map_err(io::Error::other)?;
        if at >= self.refcounts.len() {
            self.refcounts.resize(at + 1, 0);
        }
        // A frame has at least 9 bytes, so no more than 7,282 share a cluster.
        let too_often = || io::Error::other("a cluster of the qcow2 file is used too often");
        let count = self.refcounts.get_mut(at).ok_or_else(too_often)?;
        *count = count.checked_add(1).ok_or_else(too_often)?;
        Ok(())
    }

    /// Writes the tables behind the data: second level, first level, blocks of reference counts, their table; and the header.
    fn finish(mut self, to: &File, disk_bytes: u64) -> io::Result<()> {
        let mut next = self.end.next_multiple_of(CLUSTER);
        let l1_entries = disk_bytes.div_ceil(ENTRIES * CLUSTER).max(1);
        let mut l1 = vec![0; usize::try_from(l1_entries).map_err(io::Error::other)?];
        for (number, table) in &self.tables {
            write_entries(to, next, table)?;
            let entry = usize::try_from(*number).ok().and_then(|number| l1.get_mut(number));
            if let Some(entry) = entry {
                *entry = COPIED | next;
            }
            next += CLUSTER;
        }
        let l1_offset = next;
        write_entries(to, l1_offset, &l1)?;
        next += (l1_entries * 8).next_multiple_of(CLUSTER);

        let refcount_blocks = next;
        let (blocks, table_clusters) = refcount_sizes(next / CLUSTER);
        let refcount_offset = next + blocks * CLUSTER;
        let end = refcount_offset + table_clusters * CLUSTER;
        // Each cluster of the tables is used once; padding behind the data belongs to the data's last cluster.
        self.refcounts.resize(usize::try_from(end / CLUSTER).map_err(io::Error::other)?, 1);
        let counts: Vec<u8> = self.refcounts.iter().flat_map(|count| count.to_be_bytes()).collect();
        to.write_all_at(&counts, refcount_blocks)?;
        let entries: Vec<u64> = (0..blocks).map(|block| refcount_blocks + block * CLUSTER).collect();
        write_entries(to, refcount_offset, &entries)?;
        to.set_len(end)?;
        let header = Header {
            cluster_bits: CLUSTER_BITS,
            disk_bytes,
            l1_entries: u32::try_from(l1_entries).map_err(io::Error::other)?,
            l1_offset,
            refcount_offset,
            refcount_clusters: u32::try_from(table_clusters).map_err(io::Error::other)?,
            compression: Compression::Zstd,
        };
        to.write_all_at(&header.to_bytes(), 0)
    }
}

/// Blocks of reference counts, and clusters of their table, for a file of `used` clusters before them: they count themselves.
fn refcount_sizes(used: u64) -> (u64, u64) {
    let (mut blocks, mut table) = (1, 1);
    loop {
        let needed = (used + blocks + table).div_ceil(REFCOUNTS);
        let needed_table = needed.div_ceil(ENTRIES);
        if (needed, needed_table) == (blocks, table) {
            return (blocks, table);
        }
        (blocks, table) = (needed, needed_table);
    }
}

fn write_entries(to: &File, offset: u64, entries: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    to.write_all_at(&bytes, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_reference_counts_count_themselves() {
        // 32,768 counts in a block, 8,192 blocks in a cluster of the table.
        assert_eq!(refcount_sizes(0), (1, 1));
        assert_eq!(refcount_sizes(32_766), (1, 1));
        assert_eq!(refcount_sizes(32_767), (2, 1));
        assert_eq!(refcount_sizes(2 * 32_768 - 3), (2, 1));
        assert_eq!(refcount_sizes(2 * 32_768 - 2), (3, 1));
        for used in [8_192 * 32_768 - 8_193, 8_192 * 32_768 - 8_192, 8_192 * 32_768, 1 << 29] {
            let (blocks, table) = refcount_sizes(used);
            assert!(blocks * REFCOUNTS >= used + blocks + table, "{used}");
            assert!((blocks - 1) * REFCOUNTS < used + blocks + table, "{used}");
            assert_eq!(table, blocks.div_ceil(ENTRIES), "{used}");
        }
    }

    #[test]
    fn a_cluster_cannot_be_counted_over_its_range() {
        let mut data = Data { end: CLUSTER, tables: BTreeMap::new(), refcounts: vec![u16::MAX] };
        assert!(data.use_cluster(0).is_err());
        assert!(data.use_cluster(3).is_ok());
        assert_eq!(data.refcounts, [u16::MAX, 0, 0, 1]);
    }
}
