//! The machine's side: from a release on a channel to a slot that the loader starts.
//!
//! [`slot`] writes and proves the passive slot in the one order that is safe, [`fill`] brings the blocks together. Both
//! work on a [`slots::Device`] and readers, so tests run them against disks that fail and mirrors that lie.

pub mod fill;
pub mod slot;

#[cfg(test)]
mod tests;
