//! EROFS, the read-only filesystem of `/usr`: a writer without compression, and a reader.
//!
//! The writer has two passes. [`Plan::new`] is pure: it gives every inode its number and every block of data its
//! address. [`Plan::write_at`] then streams the bytes from where they lie. The format is that of Linux 6.12
//! (`fs/erofs/erofs_fs.h`) and is written down in `docs/formats/erofs.md`, with our choices and their reasons.

mod allocate;
mod collect;
mod data;
mod directory;
mod format;
mod plan;
pub mod reader;
mod write;
mod xattr;

pub use collect::check_entry;
pub use format::{BLOCK_BYTES, Superblock, SuperblockError};
pub use plan::{Options, Plan, PlanError};
pub use write::WriteError;

#[cfg(test)]
mod tests;
