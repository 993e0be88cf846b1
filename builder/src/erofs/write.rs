//! The second pass: streams a planned image to its place.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rayon::prelude::*;

use super::data::Extent;
use super::format::BLOCK_BYTES;
use super::plan::{Plan, size};
use crate::tree::{ContentError, Reader};

/// Bytes that one thread reads and writes at a time. Memory: two such buffers a thread at most.
const WINDOW_BYTES: u64 = 2 << 20;
const ZEROS: [u8; 1 << 12] = [0; 1 << 12];

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file's bytes could not be had.
    #[error("cannot read what goes into the EROFS image")]
    Content(#[from] ContentError),
    /// The target failed, or is full.
    #[error("cannot write the EROFS image at byte {offset}")]
    Output {
        /// Byte of the image.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Plan {
    /// Writes the image to `file` from byte `base` on, with all threads of the rayon pool. Blocks of zeros are not
    /// written: the region must read as zeros before (a new file does), and stays sparse there. A regular file that
    /// is too short is extended.
    pub fn write_at(&self, file: &File, base: u64, reader: &Reader) -> Result<(), WriteError> {
        let end = base.saturating_add(self.len_bytes());
        extend(file, end).map_err(|source| WriteError::Output { offset: self.len_bytes(), source })?;
        let head = self.render_head(reader)?;
        let put = |offset: u64, bytes: &[u8]| {
            write_sparse(file, base.saturating_add(offset), bytes)
                .map_err(|source| WriteError::Output { offset, source })
        };
        put(0, &head)?;
        let windows: Vec<u64> = self.windows().collect();
        windows.into_par_iter().try_for_each_init(Vec::new, |buffer, start| {
            self.read_window(start, buffer, reader)?;
            put(start, buffer)
        })
    }

    /// Writes the image to `output` from its first byte to its last.
    pub fn write_to(&self, output: &mut dyn Write, reader: &Reader) -> Result<(), WriteError> {
        let mut put = |offset: u64, bytes: &[u8]| {
            output.write_all(bytes).map_err(|source| WriteError::Output { offset, source })
        };
        put(0, &self.render_head(reader)?)?;
        let mut buffer = Vec::new();
        for start in self.windows() {
            self.read_window(start, &mut buffer, reader)?;
            put(start, &buffer)?;
        }
        Ok(())
    }

    /// First bytes of the windows that the data is written in.
    fn windows(&self) -> impl Iterator<Item = u64> {
        let step = size(WINDOW_BYTES);
        (self.metadata_bytes()..self.len_bytes()).step_by(step)
    }

    /// The metadata with the file tails in it.
    fn render_head(&self, reader: &Reader) -> Result<Vec<u8>, WriteError> {
        let mut head = self.head.clone();
        for tail in &self.tails {
            let start = size(tail.at);
            if let Some(target) = head.get_mut(start..start + size(tail.bytes)) {
                reader.read_at(&tail.content, tail.offset, target)?;
            }
        }
        Ok(head)
    }

    /// Fills `buffer` with the image's bytes from `start` on, to the window's or the image's end.
    fn read_window(&self, start: u64, buffer: &mut Vec<u8>, reader: &Reader) -> Result<(), WriteError> {
        let end = (start + WINDOW_BYTES).min(self.len_bytes());
        buffer.clear();
        buffer.resize(size(end - start), 0);
        let first = self.extents.partition_point(|extent| extent_end(extent) <= start);
        for extent in self.extents.iter().skip(first) {
            let begins = extent.first_block * BLOCK_BYTES;
            if begins >= end {
                break;
            }
            let (from, to) = (begins.max(start), extent_end(extent).min(end));
            if let Some(target) = buffer.get_mut(size(from - start)..size(to - start)) {
                reader.read_at(&extent.content, extent.offset + (from - begins), target)?;
            }
        }
        Ok(())
    }
}

const fn extent_end(extent: &Extent) -> u64 {
    (extent.first_block + extent.blocks) * BLOCK_BYTES
}

/// Block devices have no length of this kind and are left as they are.
fn extend(file: &File, end: u64) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() < end {
        file.set_len(end)?;
    }
    Ok(())
}

/// Writes the runs of blocks that are not all zeros.
fn write_sparse(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut at = offset;
    for run in bytes.chunks(ZEROS.len()).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let len: usize = run.iter().map(|block| block.len()).sum();
        if !run.first().is_some_and(|block| is_zero(block)) {
            let start = size(at - offset);
            file.write_all_at(bytes.get(start..start + len).unwrap_or_default(), at)?;
        }
        at += len as u64;
    }
    Ok(())
}

fn is_zero(block: &[u8]) -> bool {
    ZEROS.get(..block.len()) == Some(block)
}
