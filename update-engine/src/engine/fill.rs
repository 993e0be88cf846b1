//! Fills the passive slot: from what is there already, from the running slot, from the payload.
//!
//! [`Fill`] is one attempt at one release: [`Fill::learn`], [`Fill::digests`], [`Fill::bring`], [`Fill::prove`]. What was written
//! survives a crash because the next attempt finds it: a block that is in its place and has its digest is not fetched, so nothing has to
//! be remembered but what the disk holds.
//!
//! The line is what is scarce, so it is not waited with. Where the slot was sealed before, its old hash tree tells which blocks neither
//! slot can have ([`Before`]): those are fetched at once, and what the disk has is looked at, copied and read back meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use slots::{Device, Footer};

use super::ahead::Ahead;
use super::blocks::{Before, DIGEST, DigestFile, ListWriter, RUN, Running, leaves, runs_with};
use super::hashing::for_each_digest;
use super::slot::{Place, Proven, SlotError, SlotWriter};
use crate::payload::chunks::{self, KnownChunks};
use crate::payload::frame::{self, FrameError};
use crate::payload::plan::{self, BlockSet, Request};
use crate::payload::{BLOCK, BlockHasher, Digest, Index, Layout, LocalBlocks, TreeBuilder};

/// Blocks that are looked at in one go: 4 MiB, about what waits in [`Ahead`] meanwhile. Then somebody asks whether to go on.
const LOOK: u32 = 4 * RUN;
/// Blocks that are read back in one go, while the line brings others: 16 MiB, so that the disk is not told to flush too often. Slots of
/// tests are small.
const READ_BACK: u32 = if cfg!(test) { 32 } else { 16 * RUN };
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
    fn open(&mut self, range: Range<u64>) -> io::Result<Box<dyn Read + Send>>;
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

/// An attempt to fill the passive slot with a release.
#[derive(Debug)]
pub struct Fill<'a> {
    index: &'a Index,
    hasher: BlockHasher,
    digests: DigestFile,
    running: Option<Running>,
    before: Option<Before>,
    local: LocalBlocks,
    known: KnownChunks,
    local_digests: DigestFile,
    /// Parts of the slot that were not looked at yet.
    windows: VecDeque<Range<u32>>,
    /// Blocks that are fetched without a look.
    asked: BlockSet,
    /// Blocks that are to be fetched.
    missing: BlockSet,
    /// Blocks of `/usr` that were read from their place and are right.
    right: BlockSet,
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
        let running = running.map(|(place, layout)| Running::new(place, layout));
        let progress = Progress { blocks: u64::from(index.layout.listed()), ..Progress::default() };
        let (tree, blocks) = (index.layout.tree(), index.layout.blocks());
        let areas = [0..tree.start, tree.end..blocks];
        let windows = areas.into_iter().flat_map(|area| {
            let end = area.end;
            area.step_by(LOOK as usize).map(move |start| start..start.saturating_add(LOOK).min(end))
        });
        Self {
            index,
            hasher: BlockHasher::new(&footer.verity.salt),
            digests: DigestFile::new(digests),
            running,
            before: None,
            local: LocalBlocks::default(),
            known: KnownChunks::default(),
            local_digests: DigestFile::new(scratch),
            windows: windows.collect(),
            asked: BlockSet::new(blocks),
            missing: BlockSet::new(blocks),
            right: BlockSet::new(index.layout.usr_blocks()),
            progress,
            origins: Origins::default(),
        }
    }

    /// The same with a hint at what need not be looked at in the passive slot.
    #[must_use]
    pub fn with_hint(mut self, before: Option<Before>) -> Self {
        self.before = before;
        self
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
        let mut list = ListWriter::new(&self.local_digests.file);
        let mut number = 0;
        let mut take = |digest: &Digest| {
            self.local.push(digest, number);
            self.known.push(digest);
            number += 1;
            list.push(digest)
        };
        let (mut problem, mut left) = (Ok(()), layout.usr_blocks());
        let tree = layout.tree();
        let complete = leaves(disk, &place, &layout, |digest| {
            problem = std::mem::replace(&mut problem, Ok(())).and_then(|()| take(digest));
            left -= 1;
            Ok(())
        });
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
        self.prove_digests(footer)
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

    fn prove_digests(&mut self, footer: &Footer) -> Result<(), FillError> {
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

    /// Brings every block to its place: leaves what is there, copies what the running slot has (hashed again before it is used), fetches
    /// the rest, makes the hash tree.
    ///
    /// # Errors
    /// [`FillError`]; the next attempt finds what was written.
    pub fn bring<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        source: &mut dyn Source,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        let brought = self
            .ask_by_hint()
            .and_then(|()| self.fetch(disk, writer, source, watch))
            .and_then(|()| self.look_at_the_rest(disk, writer, watch))
            .and_then(|()| self.fetch(disk, writer, source, watch));
        let flushed = writer.flush(disk).map_err(FillError::from);
        brought.and(flushed)
    }

    fn look_at_the_rest<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        while let Some(window) = self.windows.pop_front() {
            self.look_at(disk, writer, window)?;
            if !watch.progress(self.progress) {
                return Err(FillError::Stopped);
            }
        }
        self.write_tree(disk, writer)?;
        match plan::uncovered(self.index, &self.missing) {
            0 => Ok(()),
            _ => Err(FillError::Release("no frame holds some of its blocks")),
        }
    }

    /// Finds the blocks of `/usr` that neither slot can have, by what is known of both.
    fn ask_by_hint(&mut self) -> Result<(), FillError> {
        let Some(before) = &self.before else { return Ok(()) };
        let zero = self.hasher.zero();
        for block in 0..self.index.layout.usr_blocks() {
            let digest = self.digests.get(block).map_err(FillError::Scratch)?;
            let here = before.may_have(block, &digest) || self.local.candidates(&digest).next().is_some();
            if !here && digest != zero {
                self.asked.insert(block);
                self.missing.insert(block);
            }
        }
        Ok(())
    }

    /// Looks at a part of the slot, but for what is fetched anyway: leaves or copies what the disk has, and finds what is missing. Returns
    /// how many blocks that were.
    fn look_at<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        window: Range<u32>,
    ) -> Result<u32, FillError> {
        if window.clone().all(|block| self.asked.contains(block)) {
            return Ok(0);
        }
        let mut expected = Vec::new();
        let first =
            self.index.layout.listed_of(window.start).ok_or(FillError::Release("its layout is broken"))?;
        let listed = first..first + (window.end - window.start);
        self.digests.read(listed, &mut expected).map_err(FillError::Scratch)?;
        let right = self.look(disk, writer.place(), window.clone(), expected.as_chunks().0);
        let blocks = window.zip(expected.as_chunks::<DIGEST>().0).zip(right);
        let blocks: Vec<_> = blocks.filter(|((block, _), _)| !self.asked.contains(*block)).collect();
        let wrong: Vec<_> = blocks.iter().filter(|(_, right)| !right).map(|(wanted, _)| *wanted).collect();
        self.origins.in_place += (blocks.len() - wrong.len()) as u64;
        let before = self.missing.len();
        for run in wrong.chunks(RUN as usize) {
            self.supply(disk, writer, run)?;
        }
        self.progress.blocks_done += blocks.len() as u64 - u64::from(self.missing.len() - before);
        Ok(u32::try_from(blocks.len()).unwrap_or(u32::MAX))
    }

    /// Which of these blocks of the passive slot are right already. What the hint rules out is not read.
    fn look<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        target: &Place,
        blocks: Range<u32>,
        expected: &[Digest],
    ) -> Vec<bool> {
        let usr = self.index.layout.usr_blocks();
        let of = |block: u32| usize::try_from(block - blocks.start).ok().and_then(|at| expected.get(at));
        let worth = runs_with(blocks.clone(), |block| match &self.before {
            // The superblock of the tree stands behind /usr, and is as cheap to write.
            Some(before) if block <= usr => of(block).is_some_and(|digest| before.may_have(block, digest)),
            _ => true,
        });
        let mut right = vec![false; blocks.len()];
        for run in worth {
            let mut numbers = run.clone();
            // Unreadable is as good as wrong: it is written.
            let _ = for_each_digest(disk, target, run, &self.hasher, |digest| {
                let Some(block) = numbers.next().filter(|block| of(*block) == Some(digest)) else {
                    return Ok(());
                };
                let at = usize::try_from(block - blocks.start).ok();
                if let Some(right) = at.and_then(|at| right.get_mut(at)) {
                    *right = true;
                }
                if block < usr {
                    self.right.insert(block);
                }
                Ok(())
            });
        }
        right
    }

    /// Writes of these blocks what is zero or in the running slot; the others are missing. The first guess is right nearly always.
    fn supply<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        wanted: &[(u32, &Digest)],
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
                self.missing.insert(*block);
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

    /// Fetches the frames with missing blocks.
    fn fetch<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        source: &mut dyn Source,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        let requests = plan::frames(self.index, &self.missing);
        self.progress.to_fetch = self.progress.fetched + plan::bytes(&requests);
        requests.iter().try_for_each(|request| self.fetch_frames(request, disk, writer, source, watch))
    }

    fn fetch_frames<D: Device<Error = io::Error>>(
        &mut self,
        request: &Request,
        disk: &mut D,
        writer: &mut SlotWriter,
        source: &mut dyn Source,
        watch: &mut dyn Watch,
    ) -> Result<(), FillError> {
        let reader = source.open(request.range.clone()).and_then(Ahead::new).map_err(FillError::Transport)?;
        // A decoder takes three bytes, then many, then three.
        let mut reader = BufReader::with_capacity(RECEIVE, reader);
        let mut at = request.range.start;
        for frame in request.pieces.iter().filter_map(|number| self.index.frames.get(*number)) {
            skip(&mut reader, frame.range.start.saturating_sub(at))?;
            let mut counted = Counted { reader: &mut reader, count: 0, problem: None };
            let (layout, digests, missing) = (self.index.layout, &mut self.digests, &self.missing);
            let mut written = Vec::new();
            let base = self.progress;
            let decoded = frame::decode(
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
            written.iter().for_each(|block| self.missing.remove(*block));
            self.origins.fetched += written.len() as u64;
            self.progress.blocks_done += written.len() as u64;
            self.progress.fetched += frame.range.start.saturating_sub(at) + count;
            at = frame.range.end;
            match (decoded, problem) {
                (Ok(()), None) => {}
                (Err(FrameError::Sink(error)), _) => return Err(error),
                (_, Some(problem)) => return Err(FillError::Transport(problem)),
                (Err(_), None) if count < frame.range.end - frame.range.start => {
                    return Err(FillError::Transport(io::ErrorKind::UnexpectedEof.into()));
                }
                (Err(error), None) => return Err(FillError::Mirror(error.to_string())),
            }
            // Whoever ends now loses no whole frame.
            writer.write_run(disk)?;
            self.go_on(disk, writer)?;
            if !watch.progress(self.progress) {
                return Err(FillError::Stopped);
            }
        }
        Ok(())
    }

    /// Does some of what needs no line, while that brings what comes next.
    fn go_on<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
    ) -> Result<(), FillError> {
        if writer.unread().len() >= READ_BACK {
            return self.read_back(disk, writer, READ_BACK);
        }
        let mut blocks = 0;
        while blocks < LOOK
            && let Some(window) = self.windows.pop_front()
        {
            blocks += self.look_at(disk, writer, window)?;
        }
        Ok(())
    }

    /// Makes durable what was written, and reads about `most` blocks of `/usr` back that were written and not read since.
    fn read_back<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
        most: u32,
    ) -> Result<(), FillError> {
        writer.flush(disk)?;
        let (place, usr) = (*writer.place(), self.index.layout.usr_blocks());
        let (mut expected, mut read) = (Vec::new(), 0);
        for run in runs_with(0..usr, |block| writer.unread().contains(block)) {
            for start in run.clone().step_by(LOOK as usize) {
                if read >= most {
                    return Ok(());
                }
                let blocks = start..start.saturating_add(LOOK).min(run.end);
                read += blocks.end - blocks.start;
                self.digests.read(blocks.clone(), &mut expected).map_err(FillError::Scratch)?;
                let mut pairs = blocks.clone().zip(expected.as_chunks::<DIGEST>().0);
                for_each_digest(disk, &place, blocks, &self.hasher, |digest| {
                    let Some((block, expected)) = pairs.next() else { return Ok(()) };
                    if expected == digest {
                        self.right.insert(block);
                    } else if writer.unread().contains(block) {
                        return Err(SlotError::Content("/usr"));
                    }
                    writer.unread().remove(block);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Proves the body of the slot, after [`Fill::bring`]: every block was read back from the disk, the tree over them and the other
    /// parts are (SAFETY 19).
    ///
    /// # Errors
    /// [`FillError`]
    pub fn prove<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        writer: &mut SlotWriter,
    ) -> Result<Proven, FillError> {
        self.read_back(disk, writer, u32::MAX)?;
        let usr = self.index.layout.usr_blocks();
        if self.right.len() < usr {
            return Err(SlotError::Content("/usr").into());
        }
        writer.prove_by(disk, |each| {
            (0..usr).try_for_each(|number| each(&self.digests.get(number).map_err(FillError::Scratch)?))
        })
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

fn skip(reader: &mut impl Read, bytes: u64) -> Result<(), FillError> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink()).map_err(FillError::Transport)?;
    if skipped == bytes { Ok(()) } else { Err(FillError::Transport(io::ErrorKind::UnexpectedEof.into())) }
}
