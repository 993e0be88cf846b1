//! Where blocks and digests lie: the running slot, what the passive one held before, lists in scratch files.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use slots::{Device, Footer};

use super::slot::{Place, SlotError, for_each_block, read_footer_bytes};
use crate::payload::{BLOCK, Digest, FANOUT, Layout};

/// Bytes of a digest.
pub(super) const DIGEST: usize = size_of::<Digest>();
/// Digests that are read in one go.
pub(super) const RUN: u32 = 256;

/// The running slot, as a source of blocks.
#[derive(Debug)]
pub(super) struct Running {
    pub place: Place,
    pub layout: Layout,
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
    pub const fn new(place: Place, layout: Layout) -> Self {
        Self { place, layout, first: 0, buffer: Vec::new(), ahead: READ_AHEAD }
    }

    /// One block; `None` when it cannot be read (SAFETY 20).
    pub fn block<D: Device<Error = io::Error>>(&mut self, disk: &mut D, block: u32) -> Option<&[u8; BLOCK]> {
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
pub(super) struct DigestFile {
    pub file: File,
    first: u32,
    buffer: Vec<u8>,
}

impl DigestFile {
    pub const fn new(file: File) -> Self {
        Self { file, first: 0, buffer: Vec::new() }
    }

    pub fn read(&self, range: Range<u32>, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(range.len() * DIGEST, 0);
        self.file.read_exact_at(bytes, u64::from(range.start) * DIGEST as u64)
    }

    pub fn get(&mut self, number: u32) -> io::Result<Digest> {
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

/// Writes such a list from its beginning.
pub(super) struct ListWriter<'a> {
    file: &'a File,
    at: u64,
    buffer: Vec<u8>,
}

impl<'a> ListWriter<'a> {
    pub const fn new(file: &'a File) -> Self {
        Self { file, at: 0, buffer: Vec::new() }
    }

    pub fn push(&mut self, digest: &Digest) -> io::Result<()> {
        self.buffer.extend_from_slice(digest);
        if self.buffer.len() >= 64 << 10 { self.finish() } else { Ok(()) }
    }

    pub fn finish(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Gives the digests of the blocks of `/usr`, in their order, as the lowest level of a slot's hash tree has them on the disk.
///
/// # Errors
/// [`SlotError`]: of what could not be read, or of `each`. All digests before it have been given.
pub(super) fn leaves<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
    layout: &Layout,
    mut each: impl FnMut(&Digest) -> Result<(), SlotError>,
) -> Result<(), SlotError> {
    let tree = layout.tree();
    if tree.is_empty() {
        return Ok(());
    }
    let lowest = u64::from(layout.usr_blocks()).div_ceil(FANOUT);
    let lowest = u32::try_from(lowest).unwrap_or(u32::MAX);
    let mut left = usize::try_from(layout.usr_blocks()).unwrap_or(0);
    for_each_block(disk, place, tree.end.saturating_sub(lowest)..tree.end, |block| {
        let digests = block.as_chunks::<DIGEST>().0;
        let own = digests.get(..left.min(digests.len())).unwrap_or_default();
        left -= own.len();
        own.iter().try_for_each(&mut each)
    })
}

/// What the passive slot held before an update took its footer away, by the hash tree that it had: a hint at which blocks need not be
/// looked at, because others were there. Four bytes a block.
#[derive(Debug)]
pub struct Before {
    heads: Vec<u32>,
}

/// Most blocks that are remembered: a slot of 4 GiB, in 4 MiB of memory. Larger ones are looked at whole.
const MOST_HEADS: u32 = 1 << 20;

impl Before {
    /// Reads the hint; `None` when the slot was not sealed, so that anything may be in it.
    pub fn read<D: Device<Error = io::Error>>(disk: &mut D, place: &Place) -> Option<Self> {
        let footer = Footer::parse(&read_footer_bytes(disk, place).ok()?).ok()?;
        // Its signature is not asked for: a footer that lies costs bytes or time, as long as it does not cost memory.
        let layout = Layout::of(&footer).ok()?;
        let fits = u64::from(layout.blocks()) * BLOCK as u64 <= place.length;
        if !fits || layout.usr_blocks() > MOST_HEADS {
            return None;
        }
        let mut heads = Vec::new();
        let read = leaves(disk, place, &layout, |digest| {
            heads.push(head(digest));
            Ok(())
        });
        read.ok().map(|()| Self { heads })
    }

    /// Whether a block of `/usr` may be in its place. Whoever believes it takes the block's digest.
    pub(super) fn may_have(&self, block: u32, digest: &Digest) -> bool {
        let held = usize::try_from(block).ok().and_then(|block| self.heads.get(block));
        held.is_some_and(|held| *held == head(digest))
    }
}

fn head(digest: &Digest) -> u32 {
    digest.first_chunk().map_or(0, |head| u32::from_ne_bytes(*head))
}

/// The runs of [`RUN`] blocks that have a block for which `wanted` holds, those that follow each other as one.
pub(super) fn runs_with(blocks: Range<u32>, mut wanted: impl FnMut(u32) -> bool) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for start in blocks.clone().step_by(RUN as usize) {
        let end = start.saturating_add(RUN).min(blocks.end);
        if (start..end).any(&mut wanted) {
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(start..end),
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_what_is_wanted_and_little_else() {
        let wanted = |numbers: &'static [u32]| move |block: u32| numbers.contains(&block);
        assert_eq!(runs_with(0..1000, wanted(&[])), []);
        assert_eq!(runs_with(0..1000, wanted(&[0, 255, 600])), [0..256, 512..768]);
        assert_eq!(runs_with(100..1000, wanted(&[99, 355, 356, 999, 1000])), [100..612, 868..1000]);
    }
}
