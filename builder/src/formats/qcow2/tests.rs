//! What is written reads back, is the same for any number of threads, and damage is met without panic.

use std::fs::File;
use std::os::unix::fs::FileExt;

use debian::progress::Silent;
use proptest::prelude::*;

use super::*;
use crate::formats::blocks::{Cached, ReadAt as _};
use crate::sparse::tests::{pieces, sparse_file};

const CLUSTER: u64 = 1 << 16;
const DISK: u64 = 3 << 20;

fn written(raw: &File, len: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    write(raw, len, &file, &Silent).unwrap();
    file
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

fn read_back(file: File) -> Vec<u8> {
    let disk = Qcow2::open(file).unwrap();
    let mut bytes = vec![0xaa; disk.disk_bytes() as usize];
    Cached::new(disk).read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Checks a file by its tables alone, apart from the code that reads and writes: every cluster of the file is counted as often
/// as something uses it. Returns how many guest clusters are stored.
fn check_counts(file: &File) -> usize {
    let bytes = bytes_of(file);
    let u64_at = |at: u64| u64::from_be_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let u32_at = |at: u64| u32::from_be_bytes(bytes[at as usize..][..4].try_into().unwrap());
    assert_eq!(bytes.len() as u64 % CLUSTER, 0);
    let clusters = bytes.len() as u64 / CLUSTER;
    let mut uses = vec![0_u16; clusters as usize];
    let mut use_range = |start: u64, end: u64| {
        (start / CLUSTER..end.div_ceil(CLUSTER)).for_each(|cluster| uses[cluster as usize] += 1);
    };
    let (l1, l1_entries) = (u64_at(40), u64::from(u32_at(36)));
    let (counts, count_clusters) = (u64_at(48), u64::from(u32_at(56)));
    use_range(0, 1);
    use_range(l1, l1 + l1_entries * 8);
    use_range(counts, counts + count_clusters * CLUSTER);
    let mut stored = 0;
    for l2 in (0..l1_entries).map(|index| u64_at(l1 + index * 8)).filter(|entry| *entry != 0) {
        assert_eq!(l2 >> 63, 1);
        let l2 = l2 & !COPIED;
        use_range(l2, l2 + CLUSTER);
        for entry in (0..CLUSTER / 8).map(|index| u64_at(l2 + index * 8)).filter(|entry| *entry != 0) {
            assert_eq!(entry >> 62, 1, "every stored cluster is compressed");
            let (offset, sectors) = (entry & ((1 << 54) - 1), entry >> 54 & 0xff);
            use_range(offset, (offset / SECTOR + sectors + 1) * SECTOR);
            stored += 1;
        }
    }
    let blocks: Vec<_> = (0..count_clusters * CLUSTER / 8)
        .map(|index| u64_at(counts + index * 8))
        .filter(|block| *block != 0)
        .collect();
    blocks.iter().for_each(|block| use_range(*block, block + CLUSTER));
    for (cluster, used) in uses.iter().enumerate() {
        let at = blocks[cluster / (CLUSTER as usize / 2)] as usize + cluster % (CLUSTER as usize / 2) * 2;
        let counted = u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap());
        assert_eq!(counted, *used, "cluster {cluster}");
    }
    stored
}

#[test]
fn zeros_take_no_room_and_noise_little_more_than_itself() {
    let (empty, _) = sparse_file(1 << 30, &[]);
    let file = written(&empty, 1 << 30);
    assert_eq!(check_counts(&file), 0);
    // Header, first-level table, counts and their table.
    assert_eq!(file.metadata().unwrap().len(), 4 * CLUSTER);

    // Zeros that are written look like holes.
    let (zeros, _) = sparse_file(DISK, &[(CLUSTER, vec![0; 1 << 20])]);
    let (holes, _) = sparse_file(DISK, &[]);
    assert!(bytes_of(&written(&zeros, DISK)) == bytes_of(&written(&holes, DISK)));

    let mut seed = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(1 << 20)
    .collect();
    let (raw, bytes) = sparse_file(DISK, &[(0, noise)]);
    let file = written(&raw, DISK);
    assert_eq!(check_counts(&file), 16);
    assert!(file.metadata().unwrap().len() <= (1 << 20) + 6 * CLUSTER);
    assert!(read_back(file) == bytes);
}

#[test]
fn a_disk_that_ends_within_a_cluster_reads_to_its_end() {
    let len = 5 * CLUSTER + 512;
    let (raw, bytes) = sparse_file(len, &[(0, vec![1; 100]), (len - 512, vec![2; 512])]);
    let file = written(&raw, len);
    assert_eq!(check_counts(&file), 2);
    let disk = Cached::new(Qcow2::open(file).unwrap());
    let mut end = [0; 512];
    disk.read_exact_at(&mut end, len - 512).unwrap();
    assert_eq!(end, bytes[bytes.len() - 512..]);
    assert!(disk.read_exact_at(&mut end, len - 511).is_err());
}

#[test]
fn sizes_that_are_none_of_a_disk_are_refused() {
    let (raw, _) = sparse_file(1000, &[]);
    let to = tempfile::tempfile().unwrap();
    for len in [1000, (1 << 44) + 512] {
        let error = write(&raw, len, &to, &Silent).unwrap_err().to_string();
        assert!(error.contains(&len.to_string()) && error.contains("16 TiB"), "{error}");
    }
}

#[test]
fn plain_and_zero_clusters_of_others_are_read() {
    let (raw, mut bytes) = sparse_file(DISK, &[(0, vec![7; 200_000])]);
    let file = written(&raw, DISK);
    let end = file.metadata().unwrap().len();
    let header = Header::parse(&bytes_of(&file)).unwrap();
    let mut entry = [0; 8];
    FileExt::read_exact_at(&file, &mut entry, header.l1_offset).unwrap();
    let l2 = u64::from_be_bytes(entry) & OFFSET_MASK;
    file.write_all_at(&vec![9; CLUSTER as usize], end).unwrap();
    file.write_all_at(&(COPIED | end).to_be_bytes(), l2).unwrap();
    file.write_all_at(&(COPIED | end | ZERO).to_be_bytes(), l2 + 8).unwrap();
    bytes[..CLUSTER as usize].fill(9);
    bytes[CLUSTER as usize..2 * CLUSTER as usize].fill(0);
    assert!(read_back(file) == bytes);
}

#[test]
fn damage_is_named_with_its_place() {
    let (raw, _) = sparse_file(DISK, &[(0, b"some text, ".repeat(20_000))]);
    let header = Header::parse(&bytes_of(&written(&raw, DISK))).unwrap();
    let l2 = header.l1_offset - CLUSTER;
    let cases: &[(u64, u64, String)] = &[
        (
            header.l1_offset,
            1 << 40,
            format!("byte {}: the qcow2 file ends before its second-level", 1_u64 << 40),
        ),
        (header.l1_offset, 512, format!("byte {}: wrong entry 0x0000000000000200", header.l1_offset)),
        (l2, 1 << 60, format!("byte {l2}: wrong entry 0x1000000000000000")),
        (l2, 1 << 30, format!("byte {}: the qcow2 file ends before its cluster", 1 << 30)),
        (l2, COMPRESSED | 1 << 30, format!("byte {}: the qcow2 file ends before its compressed", 1 << 30)),
        (l2, COMPRESSED | 5, "byte 5: damaged compressed cluster".to_owned()),
    ];
    for (at, entry, message) in cases {
        let file = written(&raw, DISK);
        file.write_all_at(&entry.to_be_bytes(), *at).unwrap();
        let error = Cached::new(Qcow2::open(file).unwrap()).read_exact_at(&mut [0; 9], 3).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}, not {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(pieces in pieces(DISK)) {
        let (raw, bytes) = sparse_file(DISK, &pieces);
        let file = written(&raw, DISK);
        check_counts(&file);
        prop_assert!(read_back(file) == bytes);
    }

    #[test]
    fn threads_make_no_difference(pieces in pieces(DISK)) {
        let (raw, _) = sparse_file(DISK, &pieces);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bytes_of(&written(&raw, DISK)))
        };
        let one = with(1);
        prop_assert!(one == with(2));
        prop_assert!(one == with(5));
    }

    #[test]
    fn damaged_files_are_read_without_panic(
        pieces in pieces(DISK),
        // Header; any byte of the tables at the end; any byte.
        damage in proptest::collection::vec((0u8..3, any::<u32>(), any::<[u8; 8]>(), 1usize..9), 1..5),
        cut in proptest::option::of(any::<u32>()),
    ) {
        let (raw, _) = sparse_file(DISK, &pieces);
        let file = written(&raw, DISK);
        let len = file.metadata().unwrap().len();
        for (place, at, bytes, count) in damage {
            let at = u64::from(at);
            let at = match place {
                0 => at % 112,
                1 => len - 1 - at % (4 * CLUSTER).min(len),
                _ => at % len,
            };
            file.write_all_at(&bytes[..count], at).unwrap();
        }
        if let Some(cut) = cut {
            file.set_len(u64::from(cut) % len).unwrap();
        }
        if let Ok(disk) = Qcow2::open(file) {
            let len = disk.disk_bytes();
            let disk = Cached::new(disk);
            for at in (0..len.min(DISK)).step_by(4096).chain([len.saturating_sub(512), len / 2]) {
                let _ = disk.read_exact_at(&mut [0; 512], at);
            }
        }
    }
}
