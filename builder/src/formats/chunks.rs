//! A disk cut into chunks of one size that are compressed on all processors and come out in order.
//!
//! Each chunk is a zstd frame of its own, so the bytes follow from the content alone, whatever the number of threads. Memory
//! is bounded by two batches of frames and one chunk of input a thread, however large the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use debian::progress::Task;
use rayon::prelude::*;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound, find_frame_compressed_size, get_error_name};

use crate::sparse::{chunks_of, data_ranges, is_zero};

/// Bytes of input whose frames wait to be written: enough to keep many processors busy, little enough to count for nothing.
const BATCH_BYTES: u64 = 8 << 20;

/// How a disk is cut and compressed.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Bytes of a chunk.
    pub bytes: u64,
    /// zstd's level.
    pub level: i32,
    /// Whether frames end with a checksum of their content.
    pub checksum: bool,
    /// What the last chunk looks like when the disk ends within it.
    pub tail: Tail,
}

/// The last chunk of a disk whose size is no multiple of the chunks'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// It has the bytes that there are.
    Short,
    /// Zeros make it as long as the others.
    Padded,
}

/// A chunk that is not all zeros.
#[derive(Debug)]
pub struct Compressed {
    /// Number of the chunk.
    pub index: u64,
    /// Its zstd frame.
    pub frame: Vec<u8>,
}

/// Compresses the chunks of the first `len` bytes that are not all zeros and hands them to `sink` in order, a batch at a time.
/// `task` advances by the bytes of data read.
///
/// # Errors
/// What reading says, or `sink`.
pub fn compress(
    raw: &File,
    len: u64,
    cut: Cut,
    task: &dyn Task,
    mut sink: impl FnMut(Vec<Compressed>) -> io::Result<()> + Send,
) -> io::Result<()> {
    let encoders = Encoders::new(cut);
    let ranges = data_ranges(raw, 0..len)?;
    let mut chunks = chunks_of(&ranges, cut.bytes);
    let batch_chunks = usize::try_from(BATCH_BYTES / cut.bytes).unwrap_or(1).max(1);
    let mut ready = Vec::new();
    loop {
        let batch: Vec<u64> = chunks.by_ref().take(batch_chunks).collect();
        // One batch is compressed while the one before is written.
        let (compressed, written) = rayon::join(
            || compress_batch(raw, len, &encoders, &batch, task),
            || sink(std::mem::take(&mut ready)),
        );
        written?;
        if batch.is_empty() {
            return Ok(());
        }
        ready = compressed?;
    }
}

fn compress_batch(
    raw: &File,
    len: u64,
    encoders: &Encoders,
    batch: &[u64],
    task: &dyn Task,
) -> io::Result<Vec<Compressed>> {
    let compress_one = |index: &u64| {
        let start = index * encoders.cut.bytes;
        let present = encoders.cut.bytes.min(len - start);
        let frame = encoders.frame(present, |input| raw.read_exact_at(input, start))?;
        task.advance(present);
        Ok(frame.map(|frame| Compressed { index: *index, frame }))
    };
    batch.par_iter().filter_map(|index| compress_one(index).transpose()).collect()
}

/// Compression contexts with their buffers, taken and given back: making one costs more than a small chunk does.
struct Encoders {
    cut: Cut,
    idle: Mutex<Vec<Encoder>>,
}

struct Encoder {
    context: Compressor<'static>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Encoders {
    const fn new(cut: Cut) -> Self {
        Self { cut, idle: Mutex::new(Vec::new()) }
    }

    /// The frame of a chunk with `present` bytes that `fill` reads; `None` when they are all zero.
    fn frame(
        &self,
        present: u64,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Option<Vec<u8>>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut encoder = idle.map_or_else(|| Encoder::new(self.cut), Ok)?;
        let frame = encoder.frame(self.cut, present, fill)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
        Ok(frame)
    }
}

impl Encoder {
    fn new(cut: Cut) -> io::Result<Self> {
        let mut context = Compressor::new(cut.level)?;
        context.set_parameter(CParameter::ChecksumFlag(cut.checksum))?;
        let bytes = usize::try_from(cut.bytes).map_err(io::Error::other)?;
        Ok(Self {
            context,
            input: Vec::with_capacity(bytes),
            output: Vec::with_capacity(compress_bound(bytes)),
        })
    }

    fn frame(
        &mut self,
        cut: Cut,
        present: u64,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Option<Vec<u8>>> {
        let present = usize::try_from(present).map_err(io::Error::other)?;
        self.input.resize(present, 0);
        fill(&mut self.input)?;
        if is_zero(&self.input) {
            return Ok(None);
        }
        if cut.tail == Tail::Padded {
            self.input.resize(usize::try_from(cut.bytes).map_err(io::Error::other)?, 0);
        }
        self.output.clear();
        self.context.compress_to_buffer(&self.input, &mut self.output)?;
        Ok(Some(self.output.clone()))
    }
}

/// The frame of `bytes` zeros under the same rules.
///
/// # Errors
/// What zstd says.
pub fn zero_frame(cut: Cut, bytes: u64) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(cut)?;
    let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    encoder.context.compress_to_buffer(&zeros, &mut encoder.output)?;
    Ok(encoder.output)
}

/// Decompresses the frame at the start of `data` into all of `content`; what follows it is not looked at.
///
/// # Errors
/// There is no whole frame, it is damaged, or it holds more or fewer bytes.
pub fn decompress(data: &[u8], content: &mut [u8]) -> io::Result<()> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let len = find_frame_compressed_size(data).map_err(|code| damaged(get_error_name(code)))?;
    let frame = data.get(..len).ok_or_else(|| damaged("the frame ends too early"))?;
    let wanted = content.len();
    let found = zstd::bulk::decompress_to_buffer(frame, content)?;
    if found == wanted { Ok(()) } else { Err(damaged("the frame holds too little")) }
}
