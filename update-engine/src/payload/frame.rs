//! From the bytes of a frame to blocks, each proven before anybody sees it.

use std::io::{self, Read};

use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::FrameDecoderError;

use super::digest::{BLOCK, BlockHasher, Digest};
use super::index::Frame;

/// The largest window that a frame may ask for: a frame's own largest size.
const MAX_WINDOW: u64 = super::MAX_FRAME_BLOCKS as u64 * BLOCK as u64;
const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// Blocks whose digests are taken at once: 1 MiB.
const RUN: usize = 256;
/// Magic, descriptor, window, dictionary id and content size, each at its longest (RFC 8878, 3.1.1.1).
const LONGEST_HEADER: usize = 18;

/// Why a frame came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum FrameError<E> {
    /// The frame's header promises something else than the index: another size, a window beyond the limit, a dictionary.
    #[error("the frame's header does not fit the index")]
    Header,
    /// The bytes are no zstd.
    #[error("the frame cannot be decompressed")]
    Decoder(#[source] FrameDecoderError),
    /// The source ended or failed, or the bytes are no zstd.
    #[error("the frame cannot be read")]
    Read(#[source] io::Error),
    /// A block has another digest than the signed list.
    #[error("block {block} of the slot is not what the index says")]
    Block {
        /// The block.
        block: u32,
    },
    /// Whoever takes the blocks failed.
    #[error(transparent)]
    Sink(E),
}

/// Decompresses a frame from `source` (at most the frame's own bytes are read) and gives each block that `wanted` names to
/// `sink`, after its digest was found to be `expected`'s. Memory: the frame's window, at most 8 MiB, and 1 MiB of
/// blocks.
///
/// # Errors
/// [`FrameError`]; blocks that `sink` got before are good.
pub fn decode<E>(
    frame: &Frame,
    source: &mut impl Read,
    hasher: &BlockHasher,
    mut wanted: impl FnMut(u32) -> bool,
    mut expected: impl FnMut(u32) -> Result<Digest, E>,
    mut sink: impl FnMut(u32, &[u8; BLOCK]) -> Result<(), E>,
) -> Result<(), FrameError<E>> {
    let length = frame.range.end - frame.range.start;
    let mut bytes = source.take(length);
    let mut header = [0; LONGEST_HEADER];
    let got = read_some(&mut bytes, &mut header).map_err(FrameError::Read)?;
    let header = header.get(..got).unwrap_or_default();
    check_header(header, u64::from(frame.blocks()) * BLOCK as u64).ok_or(FrameError::Header)?;
    let mut decoder = StreamingDecoder::new(header.chain(&mut bytes)).map_err(FrameError::Decoder)?;
    let mut run = Run { numbers: Vec::new(), bytes: Vec::new() };
    let mut block = [0; BLOCK];
    for number in frame.extents.iter().cloned().flatten() {
        let read = decoder.read_exact(&mut block);
        if read.is_ok() && wanted(number) {
            run.numbers.push(number);
            run.bytes.extend_from_slice(&block);
        }
        if read.is_err() || run.numbers.len() >= RUN {
            run.give(hasher, &mut expected, &mut sink)?;
        }
        read.map_err(FrameError::Read)?;
    }
    run.give(hasher, &mut expected, &mut sink)?;
    drop(decoder);
    // The next frame begins where this one's bytes end, whatever the decoder made of them.
    io::copy(&mut bytes, &mut io::sink()).map_err(FrameError::Read)?;
    Ok(())
}

/// Blocks that are decompressed and not proven yet.
struct Run {
    numbers: Vec<u32>,
    bytes: Vec<u8>,
}

impl Run {
    fn give<E>(
        &mut self,
        hasher: &BlockHasher,
        expected: &mut impl FnMut(u32) -> Result<Digest, E>,
        sink: &mut impl FnMut(u32, &[u8; BLOCK]) -> Result<(), E>,
    ) -> Result<(), FrameError<E>> {
        let blocks = self.bytes.as_chunks::<BLOCK>().0;
        for ((number, block), digest) in self.numbers.iter().zip(blocks).zip(hasher.digests(blocks)) {
            if digest != expected(*number).map_err(FrameError::Sink)? {
                return Err(FrameError::Block { block: *number });
            }
            sink(*number, block).map_err(FrameError::Sink)?;
        }
        self.numbers.clear();
        self.bytes.clear();
        Ok(())
    }
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match source.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Checks what decides about memory and length before the decoder sees the frame (RFC 8878, 3.1.1.1).
fn check_header(header: &[u8], content: u64) -> Option<()> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (descriptor, mut rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = descriptor & 3 != 0;
    if u32::from_le_bytes(*magic) != ZSTD_MAGIC || dictionary {
        return None;
    }
    let mut window = content;
    if !single_segment {
        let (byte, after) = rest.split_first()?;
        rest = after;
        let base = 1_u64 << (10 + (byte >> 3));
        window = base + base / 8 * u64::from(byte & 7);
    }
    let little = |count: usize| {
        let bytes = rest.get(..count)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let stated = match (descriptor >> 6, single_segment) {
        (0, true) => little(1)?,
        (1, _) => little(2)? + 256,
        (2, _) => little(4)?,
        (3, _) => little(8)?,
        _ => return None,
    };
    (stated == content && window <= MAX_WINDOW).then_some(())
}
