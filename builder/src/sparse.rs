//! Files with holes: what of them is data, and copying only that.

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

/// Copies the data of a range of one file to byte `at` of another, where there must be a hole. The system does the copying where it can:
/// file systems that can share blocks then do.
///
/// # Errors
/// The system's.
pub fn copy(from: &File, range: Range<u64>, to: &File, at: u64) -> io::Result<()> {
    for data in data_ranges(from, range.clone())? {
        let target = at + (data.start - range.start);
        let done = copy_by_system(from, &data, to, target)?;
        copy_by_hand(from, data.start + done..data.end, to, target + done)?;
    }
    Ok(())
}

/// Lets the system copy; returns how far it got. Two file systems, an old kernel or an odd file are no error: the rest is copied by hand.
fn copy_by_system(from: &File, data: &Range<u64>, to: &File, at: u64) -> io::Result<u64> {
    let mut done = 0;
    while done < data.end - data.start {
        let (mut source, mut target) = (data.start + done, at + done);
        let wanted = usize::try_from(data.end - source).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), wanted) {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::IO | Errno::FBIG | Errno::DQUOT)) => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn copy_by_hand(from: &File, data: Range<u64>, to: &File, at: u64) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(data.end - data.start).unwrap_or(CHUNK).min(CHUNK)];
    let mut done = 0;
    while data.start + done < data.end {
        let wanted = usize::try_from(data.end - data.start - done).unwrap_or(CHUNK).min(CHUNK);
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        from.read_exact_at(chunk, data.start + done)?;
        to.write_all_at(chunk, at + done)?;
        done += wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;

    use super::*;

    /// A file of 64 blocks with data in those that are named.
    fn file(blocks: &[u64]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * 4096).unwrap();
        for block in blocks {
            file.write_all_at(&[*block as u8 + 1; 4096], block * 4096).unwrap();
        }
        file
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn holes_are_neither_read_nor_written() {
        let from = file(&[0, 1, 40]);
        let found = data_ranges(&from, 4096..64 * 4096).unwrap();
        assert!(found.first().is_some_and(|data| data.start == 4096), "{found:?}");
        let to = file(&[]);
        copy(&from, 0..64 * 4096, &to, 0).unwrap();
        assert_eq!(content(&from), content(&to));
        // In units of 512 bytes, whatever the block size: three blocks of the file and what the file system keeps beside them.
        assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks() + 8);
    }

    proptest! {
        #[test]
        fn any_range_is_copied_to_any_place(
            blocks in proptest::collection::vec(0u64..64, 0..20),
            start in 0u64..64 * 4096, len in 0u64..64 * 4096, at in 0u64..10_000, by_hand in any::<bool>(),
        ) {
            let from = file(&blocks);
            let range = start..(start + len).min(64 * 4096);
            let to = tempfile::tempfile().unwrap();
            to.set_len(at + range.end - range.start).unwrap();
            if by_hand { copy_by_hand(&from, range.clone(), &to, at) } else { copy(&from, range.clone(), &to, at) }.unwrap();
            let want = &content(&from)[range.start as usize..range.end as usize];
            prop_assert_eq!(&content(&to)[at as usize..], want);
        }
    }
}
