use std::io::Write as _;

use proptest::prelude::*;

use super::super::{MAGIC, u16_at, u32_at};
use super::*;

const BLOCK: usize = 4096;
const TABLE: u8 = 5;
const JOURNAL_AT: u32 = 6;
const JOURNAL_BLOCKS: u16 = 2;

/// The first blocks of a file system with a journal of two blocks in one extent, by the kernel's documentation of the fields. Its
/// inode is not there, its superblock is.
fn file_system() -> Vec<u8> {
    let mut bytes = vec![0; 8 * BLOCK];
    let superblock = &mut bytes[1024..2048];
    for (at, value) in [
        (0x04, 1000),
        (0x18, 2),
        (0x5c, 0x4),
        (0x60, 0x80),
        (0x64, 0x400),
        (0xe0, 8),
        (0x14c, u32::from(JOURNAL_BLOCKS) << 12),
        (0x10c + 20, JOURNAL_AT),
    ] {
        superblock[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    for (at, value) in
        [(0x38, MAGIC), (0x58, 256), (0x10c, 0xf30a), (0x10e, 1), (0x110, 4), (0x11c, JOURNAL_BLOCKS)]
    {
        superblock[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
    }
    superblock[0xfd] = 1;
    superblock[0xfe] = 64;
    let sum = crc32c(!0, &superblock[..0x3fc]);
    superblock[0x3fc..].copy_from_slice(&sum.to_le_bytes());
    let seed = crc32c(!0, &superblock[0x68..0x78]);
    let descriptor = &mut bytes[BLOCK..BLOCK + 64];
    descriptor[8] = TABLE;
    let sum = crc32c(crc32c(seed, &[0; 4]), descriptor);
    descriptor[0x1e..0x20].copy_from_slice(&sum.to_le_bytes()[..2]);
    // One without a checksum.
    let journal = &mut bytes[JOURNAL_AT as usize * BLOCK..];
    journal[..8].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 4]);
    bytes
}

fn restored(bytes: &[u8]) -> (Restored, Vec<u8>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let what = restore(&file).unwrap();
    let mut after = vec![0; bytes.len()];
    file.read_exact_at(&mut after, 0).unwrap();
    (what, after)
}

#[test]
fn crc32c_has_its_check_value() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
}

#[test]
fn a_torn_inode_is_back_and_a_whole_one_stays() {
    let torn = file_system();
    let (what, whole) = restored(&torn);
    assert_eq!(what, Restored::Inode);
    let at = usize::from(TABLE) * BLOCK + 7 * 256;
    let inode = &whole[at..at + 256];
    let head = (u16_at(inode, 0), u32_at(inode, 4), u32_at(inode, 0x1c));
    assert_eq!(head, (Some(0o100_600), Some(8192), Some(16)));
    assert_eq!(inode[0x28..0x64], torn[1024 + 0x10c..1024 + 0x148]);
    // Nothing else was written, and nothing is the second time.
    assert_eq!((&whole[..at], &whole[at + 256..]), (&torn[..at], &torn[at + 256..]));
    assert_eq!(restored(&whole), (Restored::Whole, whole.clone()));
}

#[test]
fn nothing_is_written_by_a_torn_superblock_or_descriptor() {
    for at in [1024 + 0x200, BLOCK + 40] {
        let mut bytes = file_system();
        bytes[at] ^= 1;
        assert_eq!(restored(&bytes), (Restored::Unknown, bytes.clone()));
    }
}

#[test]
fn a_torn_superblock_of_an_empty_log_stays_as_it_is() {
    let (_, mut bytes) = restored(&file_system());
    bytes[JOURNAL_AT as usize * BLOCK] = 0;
    assert_eq!(restored(&bytes), (Restored::Unknown, bytes.clone()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        superblock in proptest::collection::vec(any::<u8>(), SUPERBLOCK_LEN),
        descriptor in proptest::array::uniform32(any::<u8>()),
    ) {
        let mut superblock: [u8; SUPERBLOCK_LEN] = superblock.try_into().unwrap();
        Layout::parse(&superblock);
        // The fields that are looked at first say the right thing, and the checksum holds.
        let sane: [(usize, &[u8]); 6] = [
            (0x38, &[0x53, 0xef]),
            (0x58, &[0, 1]),
            (0xfd, &[1, 64, 0]),
            (0xe0, &[8, 0, 0, 0]),
            (0x10c, &[0x0a, 0xf3, 2, 0]),
            (0x112, &[0, 0]),
        ];
        for (at, value) in sane {
            superblock[at..at + value.len()].copy_from_slice(value);
        }
        (superblock[0x5c], superblock[0x60], superblock[0x65]) = (0xff, 0xff, 0xff);
        superblock[0x18..0x1c].fill(0);
        let sum = crc32c(!0, &superblock[..0x3fc]);
        superblock[0x3fc..].copy_from_slice(&sum.to_le_bytes());
        let layout = Layout::parse(&superblock).unwrap();
        let descriptor: Vec<u8> = descriptor.iter().chain(&descriptor).copied().collect();
        layout.inode_at(&descriptor.try_into().unwrap());
        layout.journal_blocks();
        prop_assert!(inode::is_whole(&layout, &inode::of_journal(&layout)));
    }
}
