//! Updates: what a channel says (`channel`), how a slot image travels (`payload`), and the engine that brings it to
//! the passive slot and hands the machine over to it (`engine`).
//!
//! The library is shared by the publisher (`ferrite publish`), by the channel server and by the machine. Which slot boots
//! next is decided by `slots` alone; this crate never writes a table by itself.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that meets the unexpected should fail on the spot"
    )
)]

#[cfg(any(feature = "engine", feature = "server"))]
pub mod causes;
pub mod channel;
pub mod engine;
#[cfg(feature = "lock")]
pub mod lock;
pub mod payload;
#[cfg(feature = "server")]
pub mod server;
#[cfg(test)]
mod testing;
