//! Fills the passive slot: from what is there already, from the running slot, from the payload.
//!
//! [`Fill`] is one attempt at one release, in steps that can be repeated: [`Fill::digests`], [`Fill::from_disk`],
//! [`Fill::fetch`]. What was written survives a crash because it is found again: a block that is in its place and has its digest is
//! not fetched, so nothing has to be remembered but what the disk holds.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use slots::{Device, Footer};

use super::hashing::for_each_digest;
use super::slot::{Place, SlotError, SlotWriter, for_each_block};
use crate::payload::chunks::{self, KnownChunks};
use crate::payload::frame::{self, FrameError};
use crate::payload::plan::{self, BlockSet, Request};
use crate::payload::{BLOCK, BlockHasher, Digest, Index, Layout, LocalBlocks, TreeBuilder};

const DIGEST: usize = size_of::<Digest>();
/// Digests that are read in one go.
const RUN: u32 = 256;
/// Blocks that are looked at in one go: 16 MiB, before somebody asks whether to go on.
const LOOK: u32 = 16 * RUN;
/// Blocks of a frame between two questions whether to go on.
const ASK_EVERY: usize = 64;
/// Bytes that are taken from the connection at a time.
const RECEIVE: usize = 64 << 10;

/// Where a payload comes from.
pub trait Source {
    /// Opens a range of the payload. The reader may end early, or fail.
    ///
    /// # Errors
    /// The connection cannot be made, or the server refuses.
    fn open(&mut self, range: Range<u64>) -> io::Result<Box<dyn Read + '_>>;
}

/// Why a slot could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The connection broke or stalled: worth another try.
    #[error("cannot fetch the payload")]
    Transport(#[source] io::Error),
    /// The mirror sent something else than the index says: another mirror may do better.
    #[error("the mirror sent a payload that is not the published one: {0}")]
    Mirror(String),
    /// No mirror can help.
    #[error("the release is broken: {0}")]
    Release(&'static str),
    /// The disk, or what is on it.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The scratch files on STATE.
    #[error("cannot use the folder for downloads")]
    Scratch(#[source] io::Error),
    /// Somebody wants it to stop.
    #[error("stopped")]
    Stopped,
}

/// What the outside wants to know, and whether it still wants to go on.
pub trait Watch {
    /// Called often. False stops the work at the next block.
    fn progress(&mut self, now: Progress) -> bool;
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Bytes that were fetched in this attempt.
    pub fetched: u64,
    /// Bytes that this attempt fetches in all, as far as it is known.
    pub to_fetch: u64,
    /// Blocks of the slot that are right.
    pub blocks_done: u64,
    /// Blocks of the slot.
    pub blocks: u64,
}

/// Where the blocks of an update came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origins {
    /// They were in their place already.
    pub in_place: u64,
    /// Copied from the running slot.
    pub local: u64,
    /// Zeros.
    pub zero: u64,
    /// Fetched.
    pub fetched: u64,
}

/// The running slot, as a source of blocks.
#[derive(Debug)]
struct Running {
    place: Place,
    layout: Layout,
    /// Read ahead: blocks from `first` on.
    first: u32,
    buffer: Vec<u8>,
    /// Blocks that the next read takes.
    ahead: u32,
}

/// Blocks of the running slot that are read at a time: neighbours are usually wanted together, and where two reads follow each other,
/// the next one is twice as long.
const READ_AHEAD: u32 = 32;

impl Running {
    /// One block; `None` when it cannot be read (SAFETY 20).
    fn block<D: Device<Error = io::Error>>(&mut self, disk: &mut D, block: u32) -> Option<&[u8; BLOCK]> {
        let held = u32::try_from(self.buffer.len() / BLOCK).unwrap_or(0);
        if block < self.first || block >= self.first + held {
            let follows = held > 0 && block == self.first + held;
            self.ahead = if follows { (self.ahead * 2).min(RUN) } else { READ_AHEAD };
            let count = self.ahead.min(self.layout.blocks().saturating_sub(block));
            self.buffer.resize(usize::try_from(count).unwrap_or(0) * BLOCK, 0);
            self.first = block;
            let at = self.place.offset + u64::from(block) * BLOCK as u64;
            if disk.read(at, &mut self.buffer).is_err() {
                self.buffer.truncate(BLOCK);
                if disk.read(at, &mut self.buffer).is_err() {
                    self.buffer.clear();
                    return None;
                }
            }
        }
        let at = usize::try_from(block - self.first).unwrap_or(usize::MAX).checked_mul(BLOCK)?;
        self.buffer.get(at..)?.first_chunk::<BLOCK>()
    }
}

/// A list of digests in a scratch file: memory stays small whatever the size of the slot.
#[derive(Debug)]
struct DigestFile {
    file: File,
    first: u32,
    buffer: Vec<u8>,
}

impl DigestFile {
    const fn new(file: File) -> Self {
        Self { file, first: 0, buffer: Vec::new() }
    }

    fn read(&self, range: Range<u32>, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(range.len() * DIGEST, 0);
        self.file.read_exact_at(bytes, u64::from(range.start) * DIGEST as u64)
    }

    fn get(&mut self, number: u32) -> io::Result<Digest> {
        let held = u32::try_from(self.buffer.len() / DIGEST).unwrap_or(0);
        if number < self.first || number >= self.first + held {
            // Past the end of the list there is nothing: take what is there.
            self.buffer.resize(RUN as usize * DIGEST, 0);
            let got = self.file.read_at(&mut self.buffer, u64::from(number) * DIGEST as u64)?;
            self.buffer.truncate(got / DIGEST * DIGEST);
            self.first = number;
        }
        let at = usize::try_from(number - self.first).unwrap_or(usize::MAX).saturating_mul(DIGEST);
        let digest = self.buffer.get(at..).and_then(|rest| rest.first_chunk::<DIGEST>());
        digest.copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// An attempt to fill the passive slot with a release.
#[derive(Debug)]
pub struct Fill<'a> {
    index: &'a Index,
    hasher: BlockHasher,
    digests: DigestFile,
    running: Option<Running>,
    local: LocalBlocks,
    known: KnownChunks,
    local_digests: DigestFile,
    missing: Option<BlockSet>,
    progress: Progress,
    origins: Origins,
}

impl<'a> Fill<'a> {
    /// Begins. `digests` and `scratch` are files for the lists of digests, of the release (kept from attempt to attempt) and of the
    /// running slot. Without `running` (its footer cannot be read) everything is fetched.
    pub fn new(
        index: &'a Index,
        footer: &Footer,
        running: Option<(Place, Layout)>,
        digests: File,
        scratch: File,
    ) -> Self {
        let running = running.map(|(place, layout)| Running {
            place,
            layout,
            first: 0,
            buffer: Vec::new(),
            ahead: READ_AHEAD,
        });
        let progress = Progress { blocks: u64::from(index.layout.listed()), ..Progress::default() };
        Self {
            index,
            hasher: BlockHasher::new(&footer.verity.salt),
            digests: DigestFile::new(digests),
            running,
            local: LocalBlocks::default(),
            known: KnownChunks::default(),
            local_digests: DigestFile::new(scratch),
            missing: None,
            progress,
            origins: Origins::default(),
        }
    }

    /// Where the blocks came from so far.
    pub const fn origins(&self) -> Origins {
        self.origins
    }

    /// Bytes that were fetched so far.
    pub const fn fetched(&self) -> u64 {
        self.progress.fetched
    }

    /// Learns which blocks the running slot has: `/usr` by its own hash tree, the rest by hashing. All of it is a hint.
    ///
    /// # Errors
    /// [`FillError::Scratch`]; what cannot be read of the slot is left out.
    pub fn learn<D: Device<Error = io::Error>>(&mut self, disk: &mut D) -> Result<(), FillError> {
        let Some(running) = &self.running else { return Ok(()) };
        let (place, layout) = (running.place, running.layout);
        let mut list = ListWriter { file: &self.local_digests.file, at: 0, buffer: Vec::new() };
        let mut number = 0;
        let mut take = |digest: &Digest| {
            self.local.push(digest, number);
            self.known.push(digest);
            number += 1;
            list.push(digest)
        };
        let mut problem = Ok(());
        let tree = layout.tree();
        let lowest = layout.usr_blocks().div_ceil(128);
        let mut left = layout.usr_blocks();
        let complete = if tree.is_empty() {
            Ok(())
        } else {
            for_each_block(disk, &place, tree.end.saturating_sub(lowest)..tree.end, |block| {
                for digest in block.as_chunks::<DIGEST>().0.iter().take(usize::try_from(left).unwrap_or(0)) {
                    problem = std::mem::replace(&mut problem, Ok(())).and_then(|()| take(digest));
                    left -= 1;
                }
                Ok(())
            })
        };
        // The numbers of what follows count on a whole list before it.
        if complete.is_ok() && left == 0 {
            for range in [layout.usr_blocks()..layout.usr_blocks() + 1, tree.end..layout.blocks()] {
                let read = for_each_digest(disk, &place, range, &self.hasher, |digest| {
                    problem = std::mem::replace(&mut problem, Ok(())).and_then(|()| take(digest));
                    Ok(())
                });
                if read.is_err() {
                    break;
                }
            }
        }
        problem.and_then(|()| list.finish()).map_err(FillError::Scratch)?;
        self.local.finish();
        self.known.finish();
        Ok(())
    }

    /// Completes the list of digests: from an earlier attempt, from the running slot, from the payload. Then proves it by
    /// the root hash that the footer's signature covers.
    ///
    /// # Errors
    /// [`FillError`]
    pub fn digests(
        &mut self,
        footer: &Footer,
        source: &mut dyn Source,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        let file = |result: io::Result<()>| result.map_err(FillError::Scratch);
        let total = u64::from(self.index.layout.listed()) * DIGEST as u64;
        file(self.digests.file.set_len(total))?;
        let mut buffer = Vec::new();
        let mut has = vec![false; self.index.chunks.len()];
        for (chunk, has) in self.index.chunks.iter().zip(&mut has) {
            let own = chunk.first..chunk.first + u32::from(chunk.digests);
            file(self.digests.read(own, &mut buffer))?;
            *has = chunks::name_of(buffer.as_chunks().0) == chunk.name;
            if let Some(range) = self.known.find(&chunk.name).filter(|_| !*has) {
                file(self.local_digests.read(range, &mut buffer))?;
                *has = chunks::name_of(buffer.as_chunks().0) == chunk.name;
                if *has {
                    file(self.digests.file.write_all_at(&buffer, chunk.range().start))?;
                }
            }
        }
        let requests = plan::chunks(self.index, |number| has.get(number).copied().unwrap_or(false));
        self.progress.to_fetch = self.progress.fetched + plan::bytes(&requests);
        for request in &requests {
            self.fetch_chunks(request, source, watch)?;
        }
        self.prove(footer)
    }

    fn fetch_chunks(
        &mut self,
        request: &Request,
        source: &mut dyn Source,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        let mut reader = source.open(request.range.clone()).map_err(FillError::Transport)?;
        let mut at = request.range.start;
        let mut buffer = Vec::new();
        for chunk in request.pieces.iter().filter_map(|number| self.index.chunks.get(*number)) {
            let range = chunk.range();
            skip(&mut reader, range.start.saturating_sub(at))?;
            buffer.resize(usize::from(chunk.digests) * DIGEST, 0);
            reader.read_exact(&mut buffer).map_err(FillError::Transport)?;
            if chunks::name_of(buffer.as_chunks().0) != chunk.name {
                return Err(FillError::Mirror("a run of digests has another SHA-256".to_owned()));
            }
            self.digests.file.write_all_at(&buffer, range.start).map_err(FillError::Scratch)?;
            self.progress.fetched += range.end - at;
            at = range.end;
            if !watch.progress(self.progress) {
                return Err(FillError::Stopped);
            }
        }
        Ok(())
    }

    fn prove(&mut self, footer: &Footer) -> Result<(), FillError> {
        let usr = self.index.layout.usr_blocks();
        let mut builder = TreeBuilder::new(self.hasher.clone(), u64::from(usr));
        for number in 0..usr {
            let digest = self.digests.get(number).map_err(FillError::Scratch)?;
            let Ok(()) = builder.push(&digest, &mut |_, _| Ok::<(), std::convert::Infallible>(()));
        }
        if builder.root() == Some(footer.verity.root_hash) {
            Ok(())
        } else {
            Err(FillError::Release("its digests do not make the signed root hash"))
        }
    }

    /// Writes everything that needs no network: zeros, blocks of the running slot (hashed again before they are used), the
    /// hash tree. Finds what is in its place already, and what is missing.
    ///
    /// # Errors
    /// [`FillError`]
    pub fn from_disk<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        let layout = self.index.layout;
        let mut missing = BlockSet::new(layout.blocks());
        let target = *writer.place();
        let mut expected = Vec::new();
        let tree = layout.tree();
        for area in [0..tree.start, tree.end..layout.blocks()] {
            for start in area.clone().step_by(LOOK as usize) {
                let end = start.saturating_add(LOOK).min(area.end);
                let first = layout.listed_of(start).ok_or(FillError::Release("its layout is broken"))?;
                let range = first..first + (end - start);
                self.digests.read(range, &mut expected).map_err(FillError::Scratch)?;
                let mut right = Vec::with_capacity(LOOK as usize);
                let mut digests = expected.as_chunks::<DIGEST>().0.iter();
                // Unreadable is as good as wrong: it is written.
                let _ = for_each_digest(disk, &target, start..end, &self.hasher, |digest| {
                    right.push(digests.next() == Some(digest));
                    Ok(())
                });
                right.resize(end as usize - start as usize, false);
                let blocks = (start..end).zip(expected.as_chunks::<DIGEST>().0);
                let wrong: Vec<_> =
                    blocks.zip(&right).filter(|(_, right)| !**right).map(|(wanted, _)| wanted).collect();
                self.origins.in_place += (right.len() - wrong.len()) as u64;
                for run in wrong.chunks(RUN as usize) {
                    self.supply(disk, writer, run, &mut missing)?;
                }
                self.progress.blocks_done =
                    u64::from(layout.listed_of(end - 1).unwrap_or(0)) + 1 - u64::from(missing.len());
                if !watch.progress(self.progress) {
                    return Err(FillError::Stopped);
                }
            }
        }
        self.write_tree(disk, writer)?;
        if plan::uncovered(self.index, &missing) > 0 {
            return Err(FillError::Release("no frame holds some of its blocks"));
        }
        self.missing = Some(missing);
        Ok(())
    }

    /// Writes of these blocks what is zero or in the running slot; the others are missing. The first guess is right nearly always.
    fn supply<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        wanted: &[(u32, &Digest)],
        missing: &mut BlockSet,
    ) -> Result<(), FillError> {
        let zero = self.hasher.zero();
        let mut guesses = vec![0; wanted.len() * BLOCK];
        for ((_, digest), guess) in wanted.iter().zip(guesses.as_chunks_mut::<BLOCK>().0) {
            // Whoever finds nothing leaves zeros, which are wrong as well.
            if **digest != zero
                && let Some(running) = &mut self.running
                && let Some(listed) = self.local.candidates(digest).next()
                && let Some(bytes) = running.block(disk, running.layout.block_of(listed))
            {
                *guess = *bytes;
            }
        }
        let guesses = guesses.as_chunks::<BLOCK>().0;
        for (((block, digest), guess), got) in wanted.iter().zip(guesses).zip(self.hasher.digests(guesses)) {
            if got == **digest {
                *(if got == zero { &mut self.origins.zero } else { &mut self.origins.local }) += 1;
                writer.put(disk, *block, guess)?;
            } else if let Some(bytes) = self.second_guess(disk, digest) {
                self.origins.local += 1;
                writer.put(disk, *block, &bytes)?;
            } else {
                missing.insert(*block);
            }
        }
        Ok(())
    }

    /// Blocks of the running slot that begin alike, or are alike and can be read.
    fn second_guess<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        digest: &Digest,
    ) -> Option<Box<[u8; BLOCK]>> {
        let running = self.running.as_mut()?;
        for listed in self.local.candidates(digest).skip(1) {
            let bytes = running.block(disk, running.layout.block_of(listed));
            if let Some(bytes) = bytes.filter(|bytes| self.hasher.digest(*bytes) == *digest) {
                return Some(Box::new(*bytes));
            }
        }
        None
    }

    fn write_tree<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
    ) -> Result<(), FillError> {
        let layout = self.index.layout;
        let mut builder = TreeBuilder::new(self.hasher.clone(), u64::from(layout.usr_blocks()));
        for number in 0..layout.usr_blocks() {
            let digest = self.digests.get(number).map_err(FillError::Scratch)?;
            builder.push(&digest, &mut |block, bytes| {
                let block = u32::try_from(block).unwrap_or(u32::MAX).saturating_add(layout.tree().start);
                writer.put(disk, block, bytes)
            })?;
        }
        Ok(())
    }

    /// Fetches the frames with missing blocks. May be called again after an error: what was written is not fetched again.
    ///
    /// # Errors
    /// [`FillError`]
    pub fn fetch<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        source: &mut dyn Source,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        let Some(mut missing) = self.missing.take() else {
            return Err(FillError::Release("its blocks were not looked for"));
        };
        let requests = plan::frames(self.index, &missing);
        self.progress.to_fetch = self.progress.fetched + plan::bytes(&requests);
        let result = requests
            .iter()
            .try_for_each(|request| self.fetch_frames(request, disk, writer, source, watch, &mut missing));
        let flushed = writer.flush(disk).map_err(FillError::from);
        self.missing = Some(missing);
        result.and(flushed)
    }

    fn fetch_frames<D: Device<Error = io::Error>>(
        &mut self,
        request: &Request,
        disk: &mut D,
        writer: &mut SlotWriter,
        source: &mut dyn Source,
        watch: &mut dyn Watch,
        missing: &mut BlockSet,
    ) -> Result<(), FillError> {
        let reader = source.open(request.range.clone()).map_err(FillError::Transport)?;
        // A decoder takes three bytes, then many, then three.
        let mut reader = BufReader::with_capacity(RECEIVE, reader);
        let mut at = request.range.start;
        for frame in request.pieces.iter().filter_map(|number| self.index.frames.get(*number)) {
            skip(&mut reader, frame.range.start.saturating_sub(at))?;
            let mut counted = Counted { reader: &mut reader, count: 0, problem: None };
            let (layout, digests) = (self.index.layout, &mut self.digests);
            let mut written = Vec::new();
            let base = self.progress;
            let result = frame::decode(
                frame,
                &mut counted,
                &self.hasher,
                |block| missing.contains(block),
                |block| {
                    let listed = layout.listed_of(block).ok_or(FillError::Release("its layout is broken"))?;
                    digests.get(listed).map_err(FillError::Scratch)
                },
                |block, bytes| {
                    writer.put(disk, block, bytes)?;
                    written.push(block);
                    let now = Progress { blocks_done: base.blocks_done + written.len() as u64, ..base };
                    if !written.len().is_multiple_of(ASK_EVERY) || watch.progress(now) {
                        Ok(())
                    } else {
                        Err(FillError::Stopped)
                    }
                },
            );
            let (count, problem) = (counted.count, counted.problem.take());
            written.iter().for_each(|block| missing.remove(*block));
            self.origins.fetched += written.len() as u64;
            self.progress.blocks_done += written.len() as u64;
            self.progress.fetched += frame.range.start.saturating_sub(at) + count;
            at = frame.range.end;
            match (result, problem) {
                (Ok(()), None) => {}
                (Err(FrameError::Sink(error)), _) => return Err(error),
                (_, Some(problem)) => return Err(FillError::Transport(problem)),
                (Err(_), None) if count < frame.range.end - frame.range.start => {
                    return Err(FillError::Transport(io::ErrorKind::UnexpectedEof.into()));
                }
                (Err(error), None) => return Err(FillError::Mirror(error.to_string())),
            }
            if !watch.progress(self.progress) {
                return Err(FillError::Stopped);
            }
        }
        Ok(())
    }
}

/// Counts the bytes that a decoder takes, and remembers whether the connection failed: the decoder's errors do not tell.
struct Counted<R> {
    reader: R,
    count: u64,
    problem: Option<io::Error>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                if kind != io::ErrorKind::Interrupted {
                    self.problem = Some(error);
                }
                Err(kind.into())
            }
        }
    }
}

struct ListWriter<'a> {
    file: &'a File,
    at: u64,
    buffer: Vec<u8>,
}

impl ListWriter<'_> {
    fn push(&mut self, digest: &Digest) -> io::Result<()> {
        self.buffer.extend_from_slice(digest);
        if self.buffer.len() >= 64 << 10 { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn skip(reader: &mut impl Read, bytes: u64) -> Result<(), FillError> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink()).map_err(FillError::Transport)?;
    if skipped == bytes { Ok(()) } else { Err(FillError::Transport(io::ErrorKind::UnexpectedEof.into())) }
}
