//! qcow2, QEMU's disk format (`docs/interop/qcow2.rst` of QEMU): written with zstd-compressed clusters, and read.
//!
//! `docs/formats/qcow2.md` has the byte table of what is written and the reasons. Start with [`Header`].

mod header;
mod read;
mod write;

pub use self::header::{Compression, Header, HeaderFault};
pub use self::read::{Qcow2, Qcow2Error};
pub use self::write::{LEVEL, write};

/// The first four bytes of every file.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// A table entry's bits that are an offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Second level: the cluster is compressed, and the rest of the entry is a descriptor of its own kind.
const COMPRESSED: u64 = 1 << 62;
/// First and second level: the reference count is exactly one.
const COPIED: u64 = 1 << 63;
/// Second level: the cluster reads as zeros, wherever the entry points.
const ZERO: u64 = 1;
/// Compressed data is counted in sectors.
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests;
