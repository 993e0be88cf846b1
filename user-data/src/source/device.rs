//! Bytes at places: what the readers of file systems need of a device, so that tests hand them arrays.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Something with bytes at offsets.
pub trait ReadAt {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// The device's, or its end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The bytes from `offset` on.
///
/// # Errors
/// As [`ReadAt::read_at`].
pub fn bytes<D: ReadAt + ?Sized>(device: &D, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    device.read_at(&mut buffer, offset)?;
    Ok(buffer)
}
