//! Reading at any place of a disk that is stored in compressed blocks.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of decompressed blocks that are kept: readers take small steps, and several of them read at different places.
const CACHE_BYTES: usize = 32 << 20;

/// Something that is read at places, from several threads.
pub trait ReadAt: Send + Sync {
    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    /// The content ends before the buffer does, or cannot be read.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// A block of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub index: u64,
    /// First byte of the disk in it.
    pub start: u64,
    /// Bytes of the disk in it.
    pub len: u64,
}

/// A disk that is read in blocks.
pub trait BlockSource: Send + Sync {
    /// Size of the disk in bytes.
    fn len(&self) -> u64;

    /// The block that holds a byte of the disk; `offset` is below the size.
    fn locate(&self, offset: u64) -> Block;

    /// The content of a block, at least as long as the block; `None` when it is all zeros.
    ///
    /// # Errors
    /// It cannot be read or decompressed.
    fn load(&self, index: u64) -> io::Result<Option<Vec<u8>>>;
}

/// Block number and content.
type Kept = (u64, Arc<Vec<u8>>);

/// Reads at any place, and keeps the blocks used last.
#[derive(Debug)]
pub struct Cached<S> {
    source: S,
    /// The one used last comes first.
    kept: Mutex<VecDeque<Kept>>,
}

impl<S: BlockSource> Cached<S> {
    /// Nothing is read yet.
    pub const fn new(source: S) -> Self {
        Self { source, kept: Mutex::new(VecDeque::new()) }
    }

    /// The content of a block; `None` when it is all zeros.
    fn block(&self, index: u64) -> io::Result<Option<Arc<Vec<u8>>>> {
        if let Some(content) = self.kept(index) {
            return Ok(Some(content));
        }
        // Outside the lock, so that other threads decompress meanwhile.
        let Some(content) = self.source.load(index)?.map(Arc::new) else { return Ok(None) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((index, Arc::clone(&content)));
        while kept.len() > 1 && kept.iter().map(|(_, content)| content.len()).sum::<usize>() > CACHE_BYTES {
            kept.pop_back();
        }
        Ok(Some(content))
    }

    fn kept(&self, index: u64) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let position = kept.iter().position(|(number, _)| *number == index)?;
        let found = kept.remove(position)?;
        let content = Arc::clone(&found.1);
        kept.push_front(found);
        Some(content)
    }
}

impl<S: BlockSource> ReadAt for Cached<S> {
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            if offset >= self.source.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let block = self.source.locate(offset);
            let inside = usize::try_from(offset - block.start).map_err(io::Error::other)?;
            let room = usize::try_from(block.len).unwrap_or(usize::MAX).saturating_sub(inside);
            let (now, later) = buffer.split_at_mut(room.min(buffer.len()));
            if now.is_empty() {
                return Err(io::Error::other("a block without content"));
            }
            match self.block(block.index)? {
                None => now.fill(0),
                Some(content) => {
                    let source = content.get(inside..inside + now.len());
                    now.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
                }
            }
            offset += now.len() as u64;
            buffer = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Blocks of 10 bytes, all with their number as content; odd ones are zeros; 55 bytes in all.
    struct Numbers(AtomicUsize);

    impl BlockSource for Numbers {
        fn len(&self) -> u64 {
            55
        }
        fn locate(&self, offset: u64) -> Block {
            let index = offset / 10;
            Block { index, start: index * 10, len: 10.min(55 - index * 10) }
        }
        fn load(&self, index: u64) -> io::Result<Option<Vec<u8>>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(index.is_multiple_of(2).then(|| vec![index as u8; 10]))
        }
    }

    #[test]
    fn reads_cross_blocks_and_end_at_the_end() {
        let numbers = Cached::new(Numbers(AtomicUsize::new(0)));
        let mut buffer = [9; 14];
        numbers.read_exact_at(&mut buffer, 18).unwrap();
        assert_eq!(buffer, [0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0]);
        numbers.read_exact_at(&mut buffer[..5], 50).unwrap();
        let error = numbers.read_exact_at(&mut buffer[..6], 50).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(numbers.read_exact_at(&mut buffer, u64::MAX).is_err());
        numbers.read_exact_at(&mut [], 500).unwrap();
    }

    #[test]
    fn a_block_is_loaded_once() {
        let numbers = Cached::new(Numbers(AtomicUsize::new(0)));
        for at in 20..30 {
            numbers.read_exact_at(&mut [0], at).unwrap();
        }
        assert_eq!(numbers.source.0.load(Ordering::Relaxed), 1);
    }
}
