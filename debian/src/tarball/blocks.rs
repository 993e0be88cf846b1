//! The blocks of a tar stream: headers, and the content that follows them.

use std::io::{self, Read};

use tar::Header;

/// Everything in an archive is in blocks of this many bytes (POSIX.1-2024, pax, "ustar Interchange Format").
pub(super) const BLOCK_BYTES: u64 = 512;

/// A tar stream that is read from its start to its end. Reading goes on where it was; [`Blocks::header`] goes to the next entry,
/// whatever of the last one's content was read.
#[derive(Debug)]
pub(super) struct Blocks<R> {
    stream: R,
    /// Bytes read so far.
    position: u64,
    /// Where the next header is.
    next: u64,
}

impl<R: Read> Blocks<R> {
    pub(super) const fn new(stream: R) -> Self {
        Self { stream, position: 0, next: 0 }
    }

    /// Bytes from the start of the archive to the next one that is read.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The next header. `None` at the end: a block of zeros, or of the stream.
    ///
    /// # Errors
    /// The stream fails or ends within an entry, or the header's checksum is wrong.
    pub(super) fn header(&mut self) -> io::Result<Option<Header>> {
        let gap = self.next.saturating_sub(self.position);
        if io::copy(&mut self.by_ref().take(gap), &mut io::sink())? != gap {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut header = Header::new_old();
        let mut filled = 0;
        while let Some(rest) = header.as_mut_bytes().get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.next = self.position;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if header.cksum()? != checksum(header.as_bytes()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    /// Reads a block that belongs to the header before it.
    ///
    /// # Errors
    /// The stream fails or ends.
    pub(super) fn extension(&mut self, block: &mut [u8]) -> io::Result<()> {
        self.read_exact(block)?;
        self.next = self.position;
        Ok(())
    }

    /// The `size` bytes of content that begin here.
    ///
    /// # Errors
    /// No archive can be that long.
    pub(super) fn content(&mut self, size: u64) -> io::Result<io::Take<&mut Self>> {
        let blocks = size.checked_next_multiple_of(BLOCK_BYTES);
        self.next = blocks.and_then(|bytes| self.position.checked_add(bytes)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "an entry is longer than any archive")
        })?;
        Ok(self.by_ref().take(size))
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// The sum of a header's bytes, its checksum field taken for blanks.
fn checksum(header: &[u8]) -> u32 {
    let blank = |at: usize| (148..156).contains(&at);
    let bytes = header.iter().enumerate();
    bytes.map(|(at, byte)| u32::from(if blank(at) { b' ' } else { *byte })).sum()
}
