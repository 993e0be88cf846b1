//! `.raw.zst`: the raw disk in zstd frames of their own, with the table of frames of zstd's seekable format at the end.
//!
//! `zstd -d` unpacks it, for the table is a frame that decompressors skip; readers that know the table go to any place.
//! `docs/formats/raw-zst.md` has the byte table. The format: `contrib/seekable_format/zstd_seekable_compression_format.md` of
//! zstd, version 0.1.0. Numbers are little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use debian::progress::Task;

use super::FormatError;
use super::blocks::{Block, BlockSource};
use super::chunks::{Compressed, Cut, Tail, compress, decompress, zero_frame};

/// The first four bytes of a zstd frame.
pub const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Of the skippable frame with the table.
const TABLE_MAGIC: u32 = 0x184d_2a5e;
/// The last four bytes of the file.
const FOOTER_MAGIC: u32 = 0x8f92_eab1;
/// Number of frames, descriptor, magic.
const FOOTER_LEN: u64 = 9;
/// Magic and length of the skippable frame.
const SKIPPABLE_HEADER_LEN: u64 = 8;
/// The descriptor's bit for checksums in the table: entries of 12 bytes in place of 8. We write none, the frames have them.
const TABLE_CHECKSUMS: u8 = 0x80;
/// Descriptor bits that must be zero.
const RESERVED: u8 = 0x7c;
/// The specification's limit.
const MOST_FRAMES: u64 = 0x0800_0000;
/// Content of a frame that is read: what one step of a reader may cost.
const LARGEST_FRAME: u32 = 16 << 20;
/// The frame around it: content that does not get smaller takes three bytes more for each 128 KiB.
const LARGEST_COMPRESSED: u32 = 17 << 20;

/// Frames of 1 MiB: larger ones save less than 2 %, and smaller ones do not keep more processors busy.
const FRAME: u64 = 1 << 20;
const CUT: Cut = Cut { bytes: FRAME, level: 3, checksum: true, tail: Tail::Short };

/// Writes the first `len` bytes of `raw` into `to`, which must be empty. The bytes follow from the content alone; zeros cost
/// neither reading nor compressing. `task` advances by the bytes of data read.
///
/// # Errors
/// Reading or writing fails; the disk has more than 128 TiB.
pub fn write(raw: &File, len: u64, to: &File, task: &dyn Task) -> Result<(), FormatError> {
    if len.div_ceil(FRAME) > MOST_FRAMES {
        return Err(FormatError::Size { bytes: len, rule: "at most 128 TiB" });
    }
    let mut frames = Frames { end: 0, len, sizes: Vec::new(), zeros: zero_frame(CUT, FRAME)? };
    compress(raw, len, CUT, task, |batch| frames.append(to, batch))?;
    frames.finish(to)?;
    Ok(())
}

struct Frames {
    /// Where the next byte goes.
    end: u64,
    /// Size of the disk.
    len: u64,
    /// Compressed sizes of the frames so far.
    sizes: Vec<u32>,
    /// The frame of a chunk of zeros.
    zeros: Vec<u8>,
}

impl Frames {
    fn append(&mut self, to: &File, batch: Vec<Compressed>) -> io::Result<()> {
        for chunk in batch {
            self.append_zeros(to, chunk.index)?;
            self.append_frame(to, &chunk.frame)?;
        }
        Ok(())
    }

    /// Frames of zeros up to chunk `index`.
    fn append_zeros(&mut self, to: &File, index: u64) -> io::Result<()> {
        let target = usize::try_from(index).map_err(io::Error::other)?;
        let size = u32::try_from(self.zeros.len()).map_err(io::Error::other)?;
        while self.sizes.len() < target {
            // Some at a time: a disk can have millions.
            let count = (target - self.sizes.len()).min(4096);
            let frames = self.zeros.repeat(count);
            to.write_all_at(&frames, self.end)?;
            self.end += frames.len() as u64;
            self.sizes.resize(self.sizes.len() + count, size);
        }
        Ok(())
    }

    fn append_frame(&mut self, to: &File, frame: &[u8]) -> io::Result<()> {
        to.write_all_at(frame, self.end)?;
        self.end += frame.len() as u64;
        self.sizes.push(u32::try_from(frame.len()).map_err(io::Error::other)?);
        Ok(())
    }

    /// Writes what zeros the disk ends with and the table.
    fn finish(mut self, to: &File) -> io::Result<()> {
        self.append_zeros(to, self.len / FRAME)?;
        let short = self.len % FRAME;
        if short > 0 && (self.sizes.len() as u64) < self.len.div_ceil(FRAME) {
            let frame = zero_frame(CUT, short)?;
            self.append_frame(to, &frame)?;
        }
        to.write_all_at(&self.table()?, self.end)
    }

    fn table(&self) -> io::Result<Vec<u8>> {
        let count = u32::try_from(self.sizes.len()).map_err(io::Error::other)?;
        let content = u64::from(count) * 8 + FOOTER_LEN;
        let mut out = TABLE_MAGIC.to_le_bytes().to_vec();
        out.extend(u32::try_from(content).map_err(io::Error::other)?.to_le_bytes());
        for (start, size) in (0..).step_by(1 << 20).zip(&self.sizes) {
            let bytes = u32::try_from(FRAME.min(self.len - start)).map_err(io::Error::other)?;
            out.extend(size.to_le_bytes());
            out.extend(bytes.to_le_bytes());
        }
        out.extend(count.to_le_bytes());
        out.push(0); // descriptor: no checksums in the table
        out.extend(FOOTER_MAGIC.to_le_bytes());
        Ok(out)
    }
}

/// Why a compressed disk cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RawZstError {
    /// The system's.
    #[error("cannot read the table of zstd frames")]
    Io(#[from] io::Error),
    /// No table: the file was made by plain `zstd`.
    #[error("it has no table of zstd frames at its end, so nothing but its start can be read")]
    NoTable,
    /// The table says what cannot be.
    #[error("byte {offset}: wrong {what} in the table of zstd frames")]
    Table {
        /// Place in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl RawZstError {
    /// What a user can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoTable => "unpack it with `zstd -d FILE` and use the raw image",
            _ => "the file is damaged: `zstd -t FILE` says more; build or fetch the image anew",
        }
    }
}

/// An open `.raw.zst` file.
#[derive(Debug)]
pub struct RawZst {
    file: File,
    frames: Vec<Frame>,
    disk_bytes: u64,
}

/// Places of a frame in the file and of its content on the disk.
#[derive(Debug, Clone, Copy)]
struct Frame {
    offset: u64,
    compressed: u32,
    start: u64,
    bytes: u32,
}

impl RawZst {
    /// Reads the table of frames.
    ///
    /// # Errors
    /// The file cannot be read, has no table, or one that contradicts itself or the file.
    pub fn open(file: File) -> Result<Self, RawZstError> {
        let file_bytes = file.metadata()?.len();
        let footer_at = file_bytes.checked_sub(FOOTER_LEN).ok_or(RawZstError::NoTable)?;
        let footer: [u8; 9] = read(&file, footer_at)?;
        let [a, b, c, d, descriptor, magic @ ..] = footer;
        if u32::from_le_bytes(magic) != FOOTER_MAGIC {
            return Err(RawZstError::NoTable);
        }
        let wrong = |offset, what| RawZstError::Table { offset, what };
        if descriptor & RESERVED != 0 {
            return Err(wrong(footer_at + 4, "descriptor"));
        }
        let entry_len = if descriptor & TABLE_CHECKSUMS == 0 { 8 } else { 12 };
        let count = u64::from(u32::from_le_bytes([a, b, c, d]));
        let table_len = count * entry_len;
        let table_at = footer_at.checked_sub(table_len).filter(|at| *at >= SKIPPABLE_HEADER_LEN);
        let table_at =
            table_at.filter(|_| count <= MOST_FRAMES).ok_or_else(|| wrong(footer_at, "number of frames"))?;
        let [a, b, c, d, length @ ..] = read::<8>(&file, table_at - SKIPPABLE_HEADER_LEN)?;
        let frame = (u32::from_le_bytes([a, b, c, d]), u64::from(u32::from_le_bytes(length)));
        if frame != (TABLE_MAGIC, table_len + FOOTER_LEN) {
            return Err(wrong(table_at - SKIPPABLE_HEADER_LEN, "frame header"));
        }
        let mut table = vec![0; usize::try_from(table_len).map_err(io::Error::other)?];
        file.read_exact_at(&mut table, table_at)?;
        let entry_bytes = usize::try_from(entry_len).map_err(io::Error::other)?;
        let mut frames = Vec::with_capacity(table.len() / entry_bytes);
        let (mut offset, mut start) = (0, 0);
        for (at, entry) in (table_at..).step_by(entry_bytes).zip(table.chunks_exact(entry_bytes)) {
            let Some([a, b, c, d, bytes @ ..]) = entry.first_chunk::<8>() else { continue };
            let (compressed, bytes) = (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes(*bytes));
            if bytes > LARGEST_FRAME || compressed > LARGEST_COMPRESSED {
                return Err(wrong(at, "frame size (16 MiB at most are read)"));
            }
            // Empty frames would share their place with the next one.
            if bytes > 0 {
                frames.push(Frame { offset, compressed, start, bytes });
            }
            offset += u64::from(compressed);
            start += u64::from(bytes);
        }
        if offset != table_at - SKIPPABLE_HEADER_LEN {
            return Err(wrong(table_at, "sum of the frames"));
        }
        Ok(Self { file, frames, disk_bytes: start })
    }
}

impl RawZst {
    /// Size of the disk in bytes.
    pub const fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }
}

fn read<const N: usize>(file: &File, offset: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset).map(|()| bytes)
}

impl BlockSource for RawZst {
    fn len(&self) -> u64 {
        self.disk_bytes
    }

    fn locate(&self, offset: u64) -> Block {
        let index = self.frames.partition_point(|frame| frame.start <= offset).saturating_sub(1);
        let frame = self.frames.get(index);
        let (start, len) = frame.map_or((0, 0), |frame| (frame.start, u64::from(frame.bytes)));
        Block { index: index as u64, start, len }
    }

    fn load(&self, index: u64) -> io::Result<Option<Vec<u8>>> {
        let frame = usize::try_from(index).ok().and_then(|index| self.frames.get(index));
        let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut data = vec![0; usize::try_from(frame.compressed).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut data, frame.offset)?;
        let mut content = vec![0; usize::try_from(frame.bytes).map_err(io::Error::other)?];
        decompress(&data, &mut content).map_err(|error| {
            io::Error::new(error.kind(), format!("byte {}: damaged zstd frame: {error}", frame.offset))
        })?;
        Ok(Some(content))
    }
}
