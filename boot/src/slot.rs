//! Reads one slot and proves it: footer, signature, hashes (SAFETY 9, 11).

use core::fmt;

use sha2::{Digest, Sha256};
use slots::{CommitError, Entry, FOOTER_LEN, Footer, FooterError, Part, Policy};

use crate::machine::Machine;

/// Longest command line that Linux takes on x86, its terminating zero included (`COMMAND_LINE_SIZE`).
pub const COMMAND_LINE_ROOM: usize = 2048;

/// Bytes read at a time where only a hash is wanted: large, because each request of a firmware driver has a high
/// fixed cost.
const HASH_CHUNK: u64 = 1 << 20;

/// Why a slot was not started.
#[derive(Debug)]
pub enum Skip<E> {
    /// Its partition is too small for a footer, or ends outside the disk.
    Bounds,
    /// The footer does not count.
    Footer(FooterError),
    /// A part could not be read.
    Unreadable(&'static str, E),
    /// No memory for a part.
    Memory(&'static str, u64, E),
    /// A part's SHA-256 is not that of the footer.
    Hash(&'static str),
    /// The command line is not one line of ASCII, or too long with what is appended.
    CommandLine,
    /// The firmware refuses the kernel.
    Load(E),
    /// The slot is on trial and its try could not be taken (SAFETY 9).
    Try(CommitError<E>),
    /// The kernel came back.
    Start(E),
}

impl<E: fmt::Display> fmt::Display for Skip<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounds => f.write_str("partition out of bounds"),
            Self::Footer(error) => error.fmt(f),
            Self::Unreadable(part, error) => write!(f, "{part} cannot be read: {error}"),
            Self::Memory(part, bytes, error) => write!(f, "no memory for {part} of {bytes} bytes: {error}"),
            Self::Hash(part) => write!(f, "wrong hash of {part}"),
            Self::CommandLine => f.write_str("command line too long or not one line of ASCII"),
            Self::Load(error) => write!(f, "the firmware refuses the kernel: {error}"),
            Self::Try(error) => write!(f, "on trial, and its try cannot be taken: {error}"),
            Self::Start(error) => write!(f, "the kernel came back: {error}"),
        }
    }
}

/// Place of a slot on the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length.
    pub length: u64,
}

impl Extent {
    /// The place of `entry` on a disk with blocks of `block_size` bytes; `None` when it overflows or has no room for
    /// a footer.
    pub fn of(entry: &Entry, block_size: u32) -> Option<Self> {
        let offset = entry.first_block().checked_mul(u64::from(block_size))?;
        let length = entry.blocks().checked_mul(u64::from(block_size))?;
        offset.checked_add(length)?;
        (length > FOOTER_LEN as u64).then_some(Self { offset, length })
    }
}

/// A slot whose footer, kernel, initramfs and command line are proven. `/usr` is dm-verity's to check.
#[derive(Debug)]
pub struct Verified<B> {
    /// The footer.
    pub footer: Footer,
    /// The kernel, then undefined bytes up to the buffer's end.
    pub kernel: B,
    /// The initramfs, likewise.
    pub initramfs: B,
    /// The signed command line.
    pub command_line: B,
}

impl<B: AsRef<[u8]>> Verified<B> {
    /// The kernel's bytes.
    pub fn kernel_bytes(&self) -> &[u8] {
        content(&self.kernel, self.footer.parts.kernel)
    }

    /// The signed command line.
    ///
    /// # Errors
    /// It is not one line of printable ASCII.
    pub fn command_line_text<E>(&self) -> Result<&str, Skip<E>> {
        let bytes = content(&self.command_line, self.footer.parts.command_line);
        let plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        core::str::from_utf8(bytes).ok().filter(|_| plain).ok_or(Skip::CommandLine)
    }
}

fn content<B: AsRef<[u8]>>(buffer: &B, part: Part) -> &[u8] {
    let length = usize::try_from(part.length).unwrap_or(usize::MAX);
    buffer.as_ref().get(..length).unwrap_or_default()
}

/// Reads the footer and proves it.
///
/// # Errors
/// It cannot be read, or does not count.
pub fn read_footer<M: Machine>(
    machine: &mut M,
    place: Extent,
    policy: &Policy<'_>,
) -> Result<Footer, Skip<M::Error>> {
    let mut block = [0; FOOTER_LEN];
    let footer_at = place.offset + place.length - FOOTER_LEN as u64;
    machine.read(footer_at, &mut block).map_err(|error| Skip::Unreadable("footer", error))?;
    Footer::verify(&block, place.length, policy).map_err(Skip::Footer)
}

/// Reads the footer and, when it counts, the three parts that the loader hands over, and proves them.
///
/// # Errors
/// The first thing that is wrong.
pub fn read_verified<M: Machine>(
    machine: &mut M,
    place: Extent,
    policy: &Policy<'_>,
) -> Result<Verified<M::Buffer>, Skip<M::Error>> {
    let footer = read_footer(machine, place, policy)?;
    if footer.parts.command_line.length >= COMMAND_LINE_ROOM as u64 {
        return Err(Skip::CommandLine);
    }
    let command_line = read_part(machine, place, "command line", footer.parts.command_line)?;
    let kernel = read_part(machine, place, "kernel", footer.parts.kernel)?;
    let initramfs = read_part(machine, place, "initramfs", footer.parts.initramfs)?;
    Ok(Verified { footer, kernel, initramfs, command_line })
}

/// Proves the parts that dm-verity would otherwise check block by block: before a slot runs that nothing else
/// speaks for (SAFETY 9, last resort).
///
/// # Errors
/// A part cannot be read or has another hash.
pub fn verify_rest<M: Machine>(
    machine: &mut M,
    place: Extent,
    footer: &Footer,
) -> Result<(), Skip<M::Error>> {
    for (name, part) in [("usr", footer.parts.usr), ("verity", footer.parts.verity)] {
        let mut hasher = Sha256::new();
        let chunk = usize::try_from(HASH_CHUNK).unwrap_or(FOOTER_LEN);
        let mut buffer = machine.buffer(chunk).map_err(|error| Skip::Memory(name, HASH_CHUNK, error))?;
        let mut done = 0;
        while done < part.length {
            let wanted = (part.length - done).min(HASH_CHUNK);
            let blocks = round_up(wanted, machine.geometry().block_size);
            let target = usize::try_from(blocks).ok().and_then(|length| buffer.as_mut().get_mut(..length));
            let target = target.ok_or(Skip::Bounds)?;
            machine
                .read(place.offset + part.offset + done, target)
                .map_err(|error| Skip::Unreadable(name, error))?;
            let wanted_len = usize::try_from(wanted).unwrap_or(0);
            hasher.update(target.get(..wanted_len).unwrap_or_default());
            done += wanted;
        }
        if hasher.finalize().as_slice() != part.sha256 {
            return Err(Skip::Hash(name));
        }
    }
    Ok(())
}

/// Reads a part in one request, straight to where it stays, and checks its hash.
fn read_part<M: Machine>(
    machine: &mut M,
    place: Extent,
    name: &'static str,
    part: Part,
) -> Result<M::Buffer, Skip<M::Error>> {
    let length = round_up(part.length, machine.geometry().block_size);
    let bytes = usize::try_from(length).map_err(|_| Skip::Bounds)?;
    let mut buffer = machine.buffer(bytes).map_err(|error| Skip::Memory(name, length, error))?;
    let target = buffer.as_mut().get_mut(..bytes).ok_or(Skip::Bounds)?;
    machine.read(place.offset + part.offset, target).map_err(|error| Skip::Unreadable(name, error))?;
    if Sha256::digest(content(&buffer, part)).as_slice() != part.sha256 {
        return Err(Skip::Hash(name));
    }
    Ok(buffer)
}

/// A part lies below the footer, so the rest of its last block is still in the slot.
const fn round_up(length: u64, block_size: u32) -> u64 {
    length.div_ceil(block_size as u64) * block_size as u64
}
