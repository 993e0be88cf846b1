//! How a slot image travels: a signed index, and a payload of zstd frames of which a machine fetches those that it
//! needs (`docs/formats/payload.md`).
//!
//! Start reading at [`Index`]. [`Layout`] knows the blocks of a slot, [`chunks`] how the list of their digests is cut,
//! [`plan`] (pure) what a machine must fetch, [`frame`] how a frame becomes proven blocks. The publisher's side is
//! [`write`](mod@write). Nothing here does I/O but through `Read`, and nothing believes a length before it was compared with a limit.
//! Deliberately absent: differences between two given releases. The index serves any release that a machine may run.

pub mod chunks;
mod digest;
pub mod frame;
mod index;
mod layout;
mod local;
pub mod plan;
#[cfg(test)]
mod tests;
mod tree;
mod varint;
#[cfg(any(test, feature = "publisher"))]
pub mod write;

pub use self::digest::{BLOCK, BlockHasher, Digest, ZERO_BLOCK};
pub use self::index::{Chunk, Frame, Index, IndexError, MAX_INDEX_BYTES};
pub use self::layout::{FANOUT, Layout, LayoutError, levels};
pub use self::local::LocalBlocks;
pub use self::tree::{TreeBuilder, root_of};

/// Blocks of the largest frame: 8 MiB. The decoder's memory, and what a cut connection can cost, are bounded by it.
pub const MAX_FRAME_BLOCKS: u32 = 2048;
