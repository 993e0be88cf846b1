//! The passive slot: which one it is, and the order in which it is written (SAFETY 18, 19).
//!
//! Everything goes through [`slots::Device`], the whole disk, so that tests see the table's writes and the slot's in one
//! order, and can lose, tear or refuse any of them. [`SlotWriter`] is one update: [`SlotWriter::begin`] takes the old
//! content's flags and footer away, [`SlotWriter::put`] writes blocks, [`SlotWriter::seal`] proves what is on the disk, writes the
//! footer and proves it again. [`flip`] hands the machine over.

use std::io;
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use slots::{
    CommitError, Device, Entry, FOOTER_LEN, Footer, FooterError, Guid, Loaded, Part, PartitionName, Policy,
    SlotFlags, Table, types,
};

use super::hashing::for_each_digest;
use crate::payload::plan::BlockSet;
use crate::payload::{BLOCK, BlockHasher, Digest, Layout, LayoutError, TreeBuilder};

const BLOCK_U64: u64 = BLOCK as u64;
/// Blocks that are written or read by one request: 1 MiB.
pub(super) const RUN: usize = 256;

/// Why a slot was not touched, or not handed over to.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The disk failed.
    #[error("the disk failed")]
    Io(#[from] io::Error),
    /// The partition table cannot be read or changed.
    #[error("cannot change the partition table")]
    Table(#[source] CommitError<io::Error>),
    /// The table has not exactly one other slot beside the running one.
    #[error("the disk has no two slots, or none of them is {0}")]
    NoPair(Guid),
    /// SAFETY 18.
    #[error("the running slot is not confirmed yet: an update now would destroy the only good one")]
    Unconfirmed,
    /// SAFETY 19.
    #[error("the release needs a slot of {needed} bytes, this one has {available}")]
    TooSmall {
        /// Bytes of parts and footer.
        needed: u64,
        /// Bytes of the partition.
        available: u64,
    },
    /// The footer is not one that this machine's loader would start (SAFETY 11).
    #[error("the slot would not be started by this machine's loader")]
    Footer(#[source] FooterError),
    /// The parts are not those of a slot.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What is on the disk is not what the footer says.
    #[error("{0} of the slot is not what its footer says")]
    Content(&'static str),
}

impl From<CommitError<io::Error>> for SlotError {
    fn from(error: CommitError<io::Error>) -> Self {
        Self::Table(error)
    }
}

/// A slot on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index of its entry in the table.
    pub index: usize,
    /// Its PARTUUID.
    pub guid: Guid,
    /// Its label: `USR-A`.
    pub name: PartitionName,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Its flags when the table was read.
    pub flags: SlotFlags,
}

impl Place {
    fn of(index: usize, entry: &Entry, block_size: u32) -> Option<Self> {
        let offset = entry.first_block().checked_mul(u64::from(block_size))?;
        let length = entry.blocks().checked_mul(u64::from(block_size))?;
        offset.checked_add(length)?;
        let sound = length > FOOTER_LEN as u64 && length.is_multiple_of(BLOCK_U64);
        sound.then_some(Self {
            index,
            guid: entry.unique_guid(),
            name: entry.name(),
            offset,
            length,
            flags: entry.flags(),
        })
    }

    /// Reads from byte `at` of the slot.
    pub(super) fn read<D: Device<Error = io::Error>>(
        &self,
        disk: &mut D,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<(), SlotError> {
        if at + buffer.len() as u64 > self.length {
            return Err(SlotError::Content("the size"));
        }
        Ok(disk.read(self.offset + at, buffer)?)
    }

    const fn footer_at(&self) -> u64 {
        self.offset + self.length - FOOTER_LEN as u64
    }
}

/// The running slot and the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The one whose PARTUUID the loader passed, whatever the priorities say (SAFETY 18).
    pub running: Place,
    /// The passive one.
    pub other: Place,
}

impl Pair {
    /// Finds the slots in a table.
    ///
    /// # Errors
    /// [`SlotError::NoPair`]
    pub fn find(table: &Table, block_size: u32, running: Guid) -> Result<Self, SlotError> {
        let slots = table.entries().filter(|(_, entry)| entry.type_guid() == types::USR_X86_64);
        let places: Option<Vec<Place>> =
            slots.map(|(index, entry)| Place::of(index, &entry, block_size)).collect();
        match places.as_deref() {
            Some([a, b]) if a.guid == running && b.guid != running => Ok(Self { running: *a, other: *b }),
            Some([a, b]) if b.guid == running && a.guid != running => Ok(Self { running: *b, other: *a }),
            _ => Err(SlotError::NoPair(running)),
        }
    }

    /// Reads the table and finds the slots in it.
    ///
    /// # Errors
    /// [`SlotError`]
    pub fn read<D: Device<Error = io::Error>>(disk: &mut D, running: Guid) -> Result<Self, SlotError> {
        let loaded = Loaded::read(disk, None);
        let (table, _) = loaded.current().ok_or(SlotError::Table(CommitError::NoTable))?;
        Self::find(table, disk.geometry().block_size, running)
    }
}

/// Changes the flags of slots in one table write (SAFETY 1). `new` gets the pair as it is on the disk now and returns the flags
/// of the running and of the other slot. The caller holds the disk's lock (SAFETY 3).
fn change_flags<D: Device<Error = io::Error>>(
    disk: &mut D,
    running: Guid,
    new: impl FnOnce(&Pair) -> Result<(SlotFlags, SlotFlags), SlotError>,
) -> Result<Pair, SlotError> {
    let mut loaded = Loaded::read(disk, None);
    let (table, _) = loaded.current().ok_or(SlotError::Table(CommitError::NoTable))?;
    let mut table = table.clone();
    let mut pair = Pair::find(&table, disk.geometry().block_size, running)?;
    let before = (pair.running.flags, pair.other.flags);
    (pair.running.flags, pair.other.flags) = new(&pair)?;
    if (pair.running.flags, pair.other.flags) == before {
        return Ok(pair);
    }
    for place in [pair.running, pair.other] {
        let mut entry = table.entry(place.index).ok_or(SlotError::NoPair(running))?;
        entry.set_flags(place.flags);
        if !table.set_entry(place.index, entry) {
            return Err(SlotError::Table(CommitError::BeyondEntriesInUse));
        }
    }
    loaded.commit(disk, &table)?;
    Ok(pair)
}

fn flags(base: SlotFlags, priority: u8, tries: u8, successful: bool) -> SlotFlags {
    // Both fit four bits: the callers pass constants.
    let with = base.with_priority(priority).and_then(|flags| flags.with_tries(tries));
    with.unwrap_or(base).with_successful(successful)
}

/// Hands the machine over to the other slot, which [`SlotWriter::seal`] or [`verify`] has proven: it boots next, with one
/// try, and falls back to the running slot unless it proves itself. One table write (SAFETY 1, 19).
///
/// # Errors
/// [`SlotError`]; the table is the old one or the new one.
pub fn flip<D: Device<Error = io::Error>>(disk: &mut D, running: Guid) -> Result<Pair, SlotError> {
    change_flags(disk, running, |pair| {
        if !pair.running.flags.successful() {
            return Err(SlotError::Unconfirmed);
        }
        let running = pair.running.flags.with_priority(1).unwrap_or(pair.running.flags);
        Ok((running, flags(pair.other.flags, 2, 1, false)))
    })
}

/// Gives the other slot up: it does not boot any more, the running one comes first.
///
/// # Errors
/// [`SlotError`]; the table is the old one or the new one.
pub fn withdraw<D: Device<Error = io::Error>>(disk: &mut D, running: Guid) -> Result<Pair, SlotError> {
    change_flags(disk, running, |pair| {
        let running = pair.running.flags.with_priority(2).unwrap_or(pair.running.flags);
        Ok((running, flags(pair.other.flags, 0, 0, false)))
    })
}

/// Gives the other slot, which lost its try to something that was not its fault, one more (SAFETY 17).
///
/// # Errors
/// [`SlotError`]; the table is the old one or the new one.
pub fn rearm<D: Device<Error = io::Error>>(disk: &mut D, running: Guid) -> Result<Pair, SlotError> {
    flip(disk, running)
}

/// Reads and verifies the footer of a slot.
///
/// # Errors
/// [`SlotError::Footer`] when it is not one that the machine's loader would start.
pub fn read_footer<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
    policy: &Policy<'_>,
) -> Result<Footer, SlotError> {
    let block = read_footer_bytes(disk, place)?;
    Footer::verify(&block, place.length, policy).map_err(SlotError::Footer)
}

/// Reads what stands in the place of a slot's footer.
///
/// # Errors
/// The disk's.
pub(super) fn read_footer_bytes<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
) -> Result<[u8; FOOTER_LEN], SlotError> {
    let mut block = [0; FOOTER_LEN];
    disk.read(place.footer_at(), &mut block)?;
    Ok(block)
}

/// Verifies all of a slot: footer, `/usr` against the whole tree, the tree itself, the other parts (SAFETY 19).
/// `progress` is told of blocks that were read.
///
/// # Errors
/// [`SlotError`]: the first thing that is wrong.
pub fn verify<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
    policy: &Policy<'_>,
    progress: &mut dyn FnMut(u32),
) -> Result<Footer, SlotError> {
    let footer = read_footer(disk, place, policy)?;
    verify_content(disk, place, &footer, progress)?;
    Ok(footer)
}

fn verify_content<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
    footer: &Footer,
    progress: &mut dyn FnMut(u32),
) -> Result<(), SlotError> {
    let layout = Layout::of(footer)?;
    if u64::from(layout.blocks()) * BLOCK_U64 > place.length - FOOTER_LEN as u64 {
        return Err(SlotError::Content("the size"));
    }
    let hasher = BlockHasher::new(&footer.verity.salt);
    verify_by(disk, place, footer, progress, |disk, progress, each| {
        for_each_digest(disk, place, 0..layout.usr_blocks(), &hasher, |digest| {
            progress(1);
            each(digest)
        })
    })
}

/// Verifies the tree, the root hash over it and the other parts. `leaves` gives the digests of the blocks of `/usr`, which it has seen
/// to be those of the disk.
fn verify_by<D: Device<Error = io::Error>, E: From<SlotError>>(
    disk: &mut D,
    place: &Place,
    footer: &Footer,
    progress: &mut dyn FnMut(u32),
    leaves: impl FnOnce(&mut D, &mut dyn FnMut(u32), &mut dyn FnMut(&Digest) -> Result<(), E>) -> Result<(), E>,
) -> Result<(), E> {
    let layout = Layout::of(footer).map_err(SlotError::from)?;
    let hasher = BlockHasher::new(&footer.verity.salt);
    let mut builder = TreeBuilder::new(hasher, u64::from(layout.usr_blocks()));
    // Of the tree over the data as it is on the disk; the stored tree must be the same (1/128 of the data in size).
    let mut levels = TreeDigest::new(layout.tree());
    leaves(disk, progress, &mut |digest| {
        builder.push(digest, &mut |number, bytes| {
            levels.put(number, bytes);
            Ok(())
        })
    })?;
    if builder.root() != Some(footer.verity.root_hash) {
        return Err(SlotError::Content("/usr").into());
    }
    let mut tree = Sha256::new();
    for_each_block(disk, place, layout.tree(), |block| {
        progress(1);
        tree.update(Sha256::digest(block));
        Ok(())
    })?;
    if tree.finalize().as_slice() != levels.finish() {
        return Err(SlotError::Content("the hash tree").into());
    }
    let parts = footer.parts;
    for (name, part) in [
        ("the kernel", parts.kernel),
        ("the initramfs", parts.initramfs),
        ("the command line", parts.command_line),
    ] {
        if hash_part(disk, place, &part, progress)? != part.sha256 {
            return Err(SlotError::Content(name).into());
        }
    }
    Ok(())
}

/// Digests of the tree's blocks by their number, which come level by level but mixed: 32 bytes a block, 64 KiB for 1 GiB.
struct TreeDigest {
    blocks: Vec<[u8; 32]>,
}

impl TreeDigest {
    fn new(tree: Range<u32>) -> Self {
        Self { blocks: vec![[0; 32]; tree.len()] }
    }

    fn put(&mut self, number: u64, bytes: &[u8; BLOCK]) {
        if let Some(place) = usize::try_from(number).ok().and_then(|number| self.blocks.get_mut(number)) {
            *place = Sha256::digest(bytes).into();
        }
    }

    fn finish(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        self.blocks.iter().for_each(|block| hasher.update(block));
        hasher.finalize().into()
    }
}

fn hash_part<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
    part: &Part,
    progress: &mut dyn FnMut(u32),
) -> Result<[u8; 32], SlotError> {
    let number = |bytes: u64| u32::try_from(bytes.div_ceil(BLOCK_U64)).unwrap_or(u32::MAX);
    let mut hasher = Sha256::new();
    let mut left = part.length;
    for_each_block(disk, place, number(part.offset)..number(part.end()), |block| {
        progress(1);
        let count = usize::try_from(left.min(BLOCK_U64)).unwrap_or(BLOCK);
        hasher.update(block.get(..count).unwrap_or_default());
        left -= count as u64;
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}

/// Where runs of at most [`RUN`] blocks begin in the slot, and their lengths, in bytes.
pub(super) fn runs(range: Range<u32>) -> impl Iterator<Item = (u64, usize)> {
    range.clone().step_by(RUN).map(move |start| {
        let count = usize::try_from(range.end - start).unwrap_or(RUN).min(RUN);
        (u64::from(start) * BLOCK_U64, count * BLOCK)
    })
}

/// Reads blocks of a slot past every cache, [`RUN`] at a time.
pub(super) fn for_each_block<D: Device<Error = io::Error>>(
    disk: &mut D,
    place: &Place,
    range: Range<u32>,
    mut each: impl FnMut(&[u8; BLOCK]) -> Result<(), SlotError>,
) -> Result<(), SlotError> {
    let mut buffer = vec![0; RUN.min(range.len()) * BLOCK];
    for (at, length) in runs(range) {
        let run = buffer.get_mut(..length).unwrap_or_default();
        place.read(disk, at, run)?;
        run.as_chunks::<BLOCK>().0.iter().try_for_each(&mut each)?;
    }
    Ok(())
}

/// An update of the passive slot.
#[derive(Debug)]
pub struct SlotWriter {
    place: Place,
    layout: Layout,
    footer: Footer,
    footer_bytes: Box<[u8; FOOTER_LEN]>,
    run_start: u32,
    run: Vec<u8>,
    /// Blocks of `/usr` that were written and not read back since.
    unread: BlockSet,
}

impl SlotWriter {
    /// Makes the passive slot ready: refuses what must be refused, then takes its flags and its footer away, so that nothing can
    /// boot what is half written (SAFETY 18, 19). The caller holds the disk's lock.
    ///
    /// # Errors
    /// [`SlotError`]; as long as it is not [`SlotError::Io`] or [`SlotError::Table`], nothing was written.
    pub fn begin<D: Device<Error = io::Error>>(
        disk: &mut D,
        running: Guid,
        footer_bytes: &[u8; FOOTER_LEN],
        policy: &Policy<'_>,
    ) -> Result<Self, SlotError> {
        let pair = Pair::read(disk, running)?;
        if !pair.running.flags.successful() {
            return Err(SlotError::Unconfirmed);
        }
        let available = pair.other.length;
        let footer = Footer::verify(footer_bytes, available, policy).map_err(|error| match error {
            // The places of a sound footer do not fit the partition.
            FooterError::Part(_) => Footer::parse(footer_bytes).map_or(SlotError::Footer(error), |footer| {
                let needed = footer.parts.end().next_multiple_of(BLOCK_U64) + FOOTER_LEN as u64;
                if needed > available {
                    SlotError::TooSmall { needed, available }
                } else {
                    SlotError::Footer(error)
                }
            }),
            other => SlotError::Footer(other),
        })?;
        let layout = Layout::of(&footer)?;
        let needed = u64::from(layout.blocks()) * BLOCK_U64 + FOOTER_LEN as u64;
        if needed > available {
            return Err(SlotError::TooSmall { needed, available });
        }
        let pair = change_flags(disk, running, |pair| {
            let running = pair.running.flags.with_priority(2).unwrap_or(pair.running.flags);
            Ok((running, flags(pair.other.flags, 0, 0, false)))
        })?;
        let place = pair.other;
        disk.write(place.footer_at(), &[0; FOOTER_LEN])?;
        disk.flush()?;
        let footer_bytes = Box::new(*footer_bytes);
        let unread = BlockSet::new(layout.usr_blocks());
        Ok(Self { place, layout, footer, footer_bytes, run_start: 0, run: Vec::new(), unread })
    }

    /// Where the slot is.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Its blocks.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What it will say of itself.
    pub const fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Writes a block that was proven. Blocks that follow each other are gathered; [`SlotWriter::flush`] writes what is left.
    ///
    /// # Errors
    /// The disk's; [`SlotError::Content`] for a block that is not the slot's.
    pub fn put<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        block: u32,
        bytes: &[u8; BLOCK],
    ) -> Result<(), SlotError> {
        if block >= self.layout.blocks() {
            return Err(SlotError::Content("the size"));
        }
        let gathered = self.run.len() / BLOCK;
        let follows = u32::try_from(gathered).is_ok_and(|gathered| self.run_start + gathered == block);
        if !follows || gathered >= RUN {
            self.write_run(disk)?;
            self.run_start = block;
        }
        self.run.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) fn write_run<D: Device<Error = io::Error>>(&mut self, disk: &mut D) -> Result<(), SlotError> {
        if !self.run.is_empty() {
            disk.write(self.place.offset + u64::from(self.run_start) * BLOCK_U64, &self.run)?;
            let count = u32::try_from(self.run.len() / BLOCK).unwrap_or(u32::MAX);
            let end = self.run_start.saturating_add(count).min(self.layout.usr_blocks());
            (self.run_start..end).for_each(|block| self.unread.insert(block));
            self.run.clear();
        }
        Ok(())
    }

    /// Makes what was put durable.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush<D: Device<Error = io::Error>>(&mut self, disk: &mut D) -> Result<(), SlotError> {
        self.write_run(disk)?;
        Ok(disk.flush()?)
    }

    /// The blocks of `/usr` that were written and not read back since.
    pub(super) const fn unread(&mut self) -> &mut BlockSet {
        &mut self.unread
    }

    /// Proves the body by the digests of the blocks of `/usr`, which `leaves` has seen to be those of the disk after
    /// [`SlotWriter::flush`]: reads back the tree and the other parts.
    ///
    /// # Errors
    /// [`SlotError`]; those of `leaves`.
    pub(super) fn prove_by<D: Device<Error = io::Error>, E: From<SlotError>>(
        &mut self,
        disk: &mut D,
        leaves: impl FnOnce(&mut dyn FnMut(&Digest) -> Result<(), E>) -> Result<(), E>,
    ) -> Result<Proven, E> {
        verify_by(disk, &self.place, &self.footer, &mut |_| {}, |_, _, each| leaves(each))?;
        Ok(Proven { place: self.place, footer: self.footer })
    }

    /// Reads the body back and proves it, without the footer.
    ///
    /// # Errors
    /// [`SlotError`]
    pub fn verify_body<D: Device<Error = io::Error>>(
        &mut self,
        disk: &mut D,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Proven, SlotError> {
        self.flush(disk)?;
        verify_content(disk, &self.place, &self.footer, progress)?;
        Ok(Proven { place: self.place, footer: self.footer })
    }

    /// Proves the body, unless `proven` says that nobody wrote since it was, writes the footer last, and proves the whole slot as
    /// the loader would (SAFETY 19). [`flip`] comes next.
    ///
    /// # Errors
    /// [`SlotError`]: the slot has no flags, so nothing boots it.
    pub fn seal<D: Device<Error = io::Error>>(
        mut self,
        disk: &mut D,
        policy: &Policy<'_>,
        proven: Option<&Proven>,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Footer, SlotError> {
        let same = |proven: &Proven| proven.place == self.place && proven.footer == self.footer;
        if !(self.run.is_empty() && proven.is_some_and(same)) {
            self.verify_body(disk, progress)?;
        }
        disk.write(self.place.footer_at(), self.footer_bytes.as_slice())?;
        disk.flush()?;
        verify(disk, &self.place, policy, progress)
    }
}

/// That the body of a slot was read back and found right. It holds as long as its owner lets nobody write to the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    place: Place,
    footer: Footer,
}
