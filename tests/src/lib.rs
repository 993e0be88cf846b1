//! What the tests of whole images share: images, an emulator, the standard tools, and machines that are talked to.
//!
//! Everything is made by the first test that needs it and reused by the others, in other processes too.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails by panicking is a test that fails"
    )
)]

pub mod bench;
pub mod budgets;
pub mod channel;
pub mod conformance;
mod disk;
pub mod etcd;
mod guest;
pub mod hard_cases;
pub mod history;
mod http;
mod images;
mod iso;
pub mod sweep;
mod tools;

pub use disk::DiskFile;
pub use guest::{Guest, GuestOptions, Output, scratch};
pub use http::{FileServer, post_json, post_json_within};
pub use images::{Image, sparse_copy, write_whole};
pub use iso::joliet;
pub use tools::Tools;
