//! Files with holes: where their data is, and copies that stay sparse.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Bytes that are copied at a time where the system cannot copy by itself.
const CHUNK: usize = 1 << 20;

/// The parts of `range` that hold data, in order; what lies between them reads as zeros. A file system that knows no holes says that all is
/// data. `range` must lie within the file.
///
/// # Errors
/// The system's.
pub fn data_ranges(file: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < range.end => start,
            Ok(_) | Err(Errno::NXIO) => break,
            // Neither does every file system know holes, nor every kind of file.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(range.end),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => range.end,
            Err(error) => return Err(error.into()),
        };
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

/// The numbers of the chunks of `chunk` bytes that touch one of these ranges, each once and in order.
pub fn chunks_of(ranges: &[Range<u64>], chunk: u64) -> impl Iterator<Item = u64> {
    let mut next = 0;
    ranges.iter().filter(|range| !range.is_empty()).flat_map(move |range| {
        let first = (range.start / chunk).max(next);
        next = next.max(range.end.div_ceil(chunk));
        first..next
    })
}

/// Copies the data of a range of one file to byte `at` of another, where there must be a hole. The system does the copying where it can:
/// file systems that can share blocks then do. `copied` hears of bytes of data as they are done.
///
/// # Errors
/// The system's.
pub fn copy(from: &File, range: Range<u64>, to: &File, at: u64, copied: impl Fn(u64)) -> io::Result<()> {
    for data in data_ranges(from, range.clone())? {
        let target = at + (data.start - range.start);
        let done = copy_by_system(from, &data, to, target, &copied)?;
        copy_by_hand(from, data.start + done..data.end, to, target + done, &copied)?;
    }
    Ok(())
}

/// Lets the system copy; returns how far it got. Two file systems, an old kernel or an odd file are no error: the rest is copied by hand.
fn copy_by_system(
    from: &File,
    data: &Range<u64>,
    to: &File,
    at: u64,
    copied: &impl Fn(u64),
) -> io::Result<u64> {
    let mut done = 0;
    while done < data.end - data.start {
        let (mut source, mut target) = (data.start + done, at + done);
        let wanted = usize::try_from(data.end - source).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), wanted) {
            Ok(0) => break,
            Ok(count) => {
                done += count as u64;
                copied(count as u64);
            }
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::IO | Errno::FBIG | Errno::DQUOT)) => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn copy_by_hand(from: &File, data: Range<u64>, to: &File, at: u64, copied: &impl Fn(u64)) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(data.end - data.start).unwrap_or(CHUNK).min(CHUNK)];
    let mut done = 0;
    while data.start + done < data.end {
        let wanted = usize::try_from(data.end - data.start - done).unwrap_or(CHUNK).min(CHUNK);
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        from.read_exact_at(chunk, data.start + done)?;
        to.write_all_at(chunk, at + done)?;
        done += wanted as u64;
        copied(wanted as u64);
    }
    Ok(())
}

/// True when all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // In lanes that the compiler turns into vector instructions: an early exit at every byte would prevent it.
    bytes.chunks(64).all(|lane| lane.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Sparse files for the tests of this crate.
#[cfg(test)]
pub mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;

    use super::*;

    /// A sparse file of `len` bytes: each piece is (offset, content), holes elsewhere; and the same bytes in memory.
    pub fn sparse_file(len: u64, pieces: &[(u64, Vec<u8>)]) -> (File, Vec<u8>) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        let mut bytes = vec![0; len as usize];
        for (at, content) in pieces {
            let at = at % len;
            let fits = &content[..content.len().min((len - at) as usize)];
            file.write_all_at(fits, at).unwrap();
            bytes[at as usize..][..fits.len()].copy_from_slice(fits);
        }
        (file, bytes)
    }

    /// Pieces for a sparse file: runs of one byte, zeros among them, text that compresses and noise that does not.
    pub fn pieces(len: u64) -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
        let run = (0u8..4, 1usize..150_000).prop_map(|(byte, count)| vec![byte, 0, 7, 7][..1].repeat(count));
        let text = (1usize..9_000).prop_map(|count| b"the same again and again, ".repeat(count / 20 + 1));
        let noise = (any::<u64>(), 1usize..150_000).prop_map(|(seed, count)| {
            let mut state = seed | 1;
            let step = |state: &mut u64| {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                *state as u8
            };
            (0..count).map(|_| step(&mut state)).collect()
        });
        proptest::collection::vec((0..len, prop_oneof![run, text, noise]), 0..6)
    }

    #[test]
    fn holes_are_found_and_skipped() {
        let (file, _) = sparse_file(64 << 20, &[(1 << 20, vec![1; 4096]), (33 << 20, vec![2; 8192])]);
        let ranges = data_ranges(&file, 0..64 << 20).unwrap();
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        // A file system without holes would make every byte data; none of those that tests run on does.
        assert!(total < 4 << 20, "{ranges:?}");
        assert!(ranges.iter().any(|range| range.contains(&(1 << 20))), "{ranges:?}");
        assert!(ranges.iter().any(|range| range.contains(&((33 << 20) + 8191))), "{ranges:?}");
        assert_eq!(data_ranges(&file, 0..0).unwrap(), []);
        let cut = data_ranges(&file, 0..(33 << 20) + 1).unwrap();
        assert_eq!(cut.last().unwrap().end, (33 << 20) + 1);
    }

    #[test]
    fn a_copy_has_the_holes() {
        let (from, bytes) = sparse_file(64 << 12, &[(0, vec![1; 8192]), (40 << 12, vec![2; 4096])]);
        let to = tempfile::tempfile().unwrap();
        to.set_len(64 << 12).unwrap();
        copy(&from, 0..64 << 12, &to, 0, |_| {}).unwrap();
        let mut read = vec![0; bytes.len()];
        to.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes);
        // In units of 512 bytes: as many as the file has, and what the file system keeps beside them.
        assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks() + 8);
    }

    #[test]
    fn chunks_are_named_once() {
        let chunks = |ranges: &[Range<u64>]| chunks_of(ranges, 10).collect::<Vec<_>>();
        assert_eq!(chunks(&[]), [0; 0]);
        assert_eq!(chunks(&[0..1, 1..9, 12..13, 35..50]), [0, 1, 3, 4]);
        assert_eq!(chunks(&[5..25, 25..30, 39..41]), [0, 1, 2, 3, 4]);
        assert_eq!(chunks(&[7..7, 8..9]), [0]);
    }

    #[test]
    fn zero_is_told_from_almost_zero() {
        for len in [0, 1, 63, 64, 65, 4096] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            if let Some(last) = bytes.last_mut() {
                *last = 1;
                assert!(!is_zero(&bytes));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn any_range_is_copied_to_any_place(
            pieces in pieces(3 << 20), start in 0u64..3 << 20, len in 0u64..3 << 20, at in 0u64..10_000, by_hand in any::<bool>(),
        ) {
            let (file, bytes) = sparse_file(3 << 20, &pieces);
            let range = start..(start + len).min(3 << 20);
            let copied = Cell::new(0);
            let count = |count| copied.set(copied.get() + count);
            let to = tempfile::tempfile().unwrap();
            to.set_len(at + range.end - range.start).unwrap();
            if by_hand {
                copy_by_hand(&file, range.clone(), &to, at, &count).unwrap();
                prop_assert_eq!(copied.get(), range.end - range.start);
            } else {
                copy(&file, range.clone(), &to, at, count).unwrap();
                let data = data_ranges(&file, range.clone()).unwrap();
                prop_assert_eq!(copied.get(), data.iter().map(|range| range.end - range.start).sum::<u64>());
            }
            let mut read = vec![0; (range.end - range.start) as usize];
            to.read_exact_at(&mut read, at).unwrap();
            prop_assert!(read == bytes[range.start as usize..range.end as usize]);
        }
    }
}
