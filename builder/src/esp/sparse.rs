//! A volume in memory that holds only the pages that are not zero.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Bytes of a page: the block size of the file systems that keep the sparse image file.
const PAGE: usize = 4096;

/// A fixed number of bytes, zero until written. FAT formatting zeroes whole tables; here that costs nothing, neither
/// memory nor blocks of the image file.
#[derive(Default)]
pub struct SparseVolume {
    len: u64,
    position: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl std::fmt::Debug for SparseVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SparseVolume")
            .field("len", &self.len)
            .field("pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}

impl SparseVolume {
    /// A volume of `len` zero bytes.
    pub fn new(len: u64) -> Self {
        Self { len, ..Self::default() }
    }

    /// Size in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True for a volume of no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the volume into `file` at `offset`. The bytes there must be zero already: holes stay holes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_to(&self, file: &File, offset: u64) -> io::Result<()> {
        for (number, page) in &self.pages {
            let start = number * PAGE as u64;
            let room = usize::try_from(self.len.saturating_sub(start)).unwrap_or(PAGE).min(PAGE);
            let bytes = page.get(..room).unwrap_or_default();
            file.write_all_at(bytes, offset + start)?;
        }
        Ok(())
    }

    /// All 512-byte sectors of the pages that are not zero.
    pub(super) fn sectors_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.pages.values_mut().flat_map(|page| page.chunks_exact_mut(512))
    }

    /// The page and the place in it of `position`, and the bytes left in page and volume.
    fn locate(&self, position: u64) -> (u64, usize, usize) {
        let page = PAGE as u64;
        let inside = usize::try_from(position % page).unwrap_or(0);
        let left = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        (position / page, inside, left.min(PAGE - inside))
    }
}

impl Read for SparseVolume {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (number, inside, room) = self.locate(self.position);
        let count = room.min(buffer.len());
        let Some(target) = buffer.get_mut(..count) else { return Ok(0) };
        match self.pages.get(&number).and_then(|page| page.get(inside..inside + count)) {
            Some(source) => target.copy_from_slice(source),
            None => target.fill(0),
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for SparseVolume {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let (number, inside, room) = self.locate(self.position);
        let count = room.min(buffer.len());
        let Some(source) = buffer.get(..count) else { return Ok(0) };
        let needed = self.pages.contains_key(&number) || source.iter().any(|byte| *byte != 0);
        if needed {
            let page = self.pages.entry(number).or_insert_with(|| Box::new([0; PAGE]));
            if let Some(target) = page.get_mut(inside..inside + count) {
                target.copy_from_slice(source);
            }
        }
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SparseVolume {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.len.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    proptest! {
        #[test]
        fn behaves_like_a_plain_buffer_of_the_same_size(
            writes in proptest::collection::vec((0u64..20_000, proptest::collection::vec(0u8..3, 0..9000)), 0..8),
        ) {
            const LEN: usize = 20_000;
            let mut sparse = SparseVolume::new(LEN as u64);
            let mut plain = Cursor::new(vec![0u8; LEN]);
            for (at, bytes) in &writes {
                let fits = &bytes[..bytes.len().min(LEN - *at as usize)];
                sparse.seek(SeekFrom::Start(*at)).unwrap();
                sparse.write_all(fits).unwrap();
                plain.seek(SeekFrom::Start(*at)).unwrap();
                plain.write_all(fits).unwrap();
            }
            let mut read = Vec::new();
            sparse.rewind().unwrap();
            sparse.read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read, plain.get_ref());

            let file = tempfile::tempfile().unwrap();
            file.set_len(1000 + LEN as u64).unwrap();
            sparse.write_to(&file, 1000).unwrap();
            let mut stored = vec![0; LEN];
            file.read_exact_at(&mut stored, 1000).unwrap();
            prop_assert_eq!(&stored, plain.get_ref());
            prop_assert_eq!(file.metadata().unwrap().len(), 1000 + LEN as u64);
        }
    }

    #[test]
    fn writing_past_the_end_is_an_error() {
        let mut volume = SparseVolume::new(10);
        assert!(volume.write_all(&[1; 11]).is_err());
        assert!(volume.seek(SeekFrom::Current(-20)).is_err());
    }
}
