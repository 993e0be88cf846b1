//! What the tests of whole images share: images, an emulator, the standard tools, and machines that are talked to.
//!
//! Everything is made by the first test that needs it and reused by the others, in other processes too.

mod guest;
mod images;
mod tools;

pub use guest::{Guest, GuestOptions, Output, scratch};
pub use images::{Image, sparse_copy};
pub use tools::Tools;
