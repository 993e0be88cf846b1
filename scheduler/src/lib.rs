//! The cluster scheduler on etcd: fleet's unit files, commands and API, without the faults that its users complained of.
//!
//! What is decided is apart from what is done. Start reading at [`place`]: a snapshot of the cluster in, tasks with reasons out.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "a test that meets the unexpected should fail on the spot"
    )
)]

pub mod agent;
pub mod api;
pub mod change;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod keys;
pub mod metrics;
pub mod name;
pub mod node;
pub mod picture;
pub mod place;
pub mod requirements;
pub mod snapshot;
pub mod unit_file;

/// Of the programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
