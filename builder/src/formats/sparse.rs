//! Files with holes: where their data is, and copies that stay sparse.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

/// Bytes that are copied at once where the system cannot copy by itself.
const CHUNK: usize = 1 << 20;

/// The ranges of the first `len` bytes that are no holes, in order and apart from each other. What is between them reads as
/// zeros; what is in them may, for a file system decides how finely it keeps holes: what a format says of zeros must follow
/// from the bytes.
///
/// # Errors
/// The system's.
pub fn data_ranges(file: &File, len: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < len => start,
            // No data behind here.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = fs::seek(file, SeekFrom::Hole(start))?.min(len);
        if end <= start {
            return Err(io::Error::other("the file changed while it was read"));
        }
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

/// Copies the first `len` bytes of a file into an empty one and leaves its holes out: shares the blocks where the file system
/// can, else copies in the kernel, else by hand. `copied` hears of bytes of data as they are done.
///
/// # Errors
/// The system's.
pub fn copy(from: &File, to: &File, len: u64, copied: impl Fn(u64)) -> io::Result<()> {
    if from.metadata()?.len() == len && fs::ioctl_ficlone(to, from).is_ok() {
        copied(data_ranges(from, len)?.iter().map(|range| range.end - range.start).sum());
        return Ok(());
    }
    to.set_len(len)?;
    for range in data_ranges(from, len)? {
        copy_range(from, to, range, &copied)?;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, range: Range<u64>, copied: &impl Fn(u64)) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let (mut source, mut target) = (at, at);
        let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let done = match fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), wanted) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            // Two file systems, or one that cannot.
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                let mut buffer = vec![0; wanted.min(CHUNK)];
                from.read_exact_at(&mut buffer, at)?;
                to.write_all_at(&buffer, at)?;
                buffer.len()
            }
            Err(error) => return Err(error.into()),
        };
        at += done as u64;
        copied(done as u64);
    }
    Ok(())
}

/// True when all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // In lanes that the compiler turns into vector instructions: an early exit at every byte would prevent it.
    bytes.chunks(64).all(|lane| lane.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
pub mod tests {
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
        let ranges = data_ranges(&file, 64 << 20).unwrap();
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        // A file system without holes would make every byte data; none of those that tests run on does.
        assert!(total < 4 << 20, "{ranges:?}");
        assert!(ranges.iter().any(|range| range.contains(&(1 << 20))), "{ranges:?}");
        assert!(ranges.iter().any(|range| range.contains(&((33 << 20) + 8191))), "{ranges:?}");
        assert_eq!(data_ranges(&file, 0).unwrap(), []);
        let cut = data_ranges(&file, (33 << 20) + 1).unwrap();
        assert_eq!(cut.last().unwrap().end, (33 << 20) + 1);
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
        fn a_copy_is_equal(pieces in pieces(3 << 20), len in 1u64..(3 << 20)) {
            let (file, bytes) = sparse_file(3 << 20, &pieces);
            let copied = std::cell::Cell::new(0);
            let to = tempfile::tempfile().unwrap();
            copy(&file, &to, len, |count| copied.set(copied.get() + count)).unwrap();
            let mut read = vec![0; len as usize];
            to.read_exact_at(&mut read, 0).unwrap();
            prop_assert!(read == bytes[..len as usize]);
            prop_assert_eq!(to.metadata().unwrap().len(), len);
            let ranges = data_ranges(&file, len).unwrap();
            prop_assert_eq!(copied.get(), ranges.iter().map(|range| range.end - range.start).sum::<u64>());
        }
    }
}
