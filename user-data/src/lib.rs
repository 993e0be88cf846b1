//! User-data on the machine: where it comes from, and what it makes of the machine.
//!
//! A program of its own, beside PID 1's: it brings parsers, an HTTP client and TLS, which neither the initramfs nor a process that
//! lives as long as the machine should carry (`docs/decisions/0004-user-data-program.md`). What texts mean is decided in
//! `image-config`; here they are found ([`source`]), fetched ([`fetch`]) and carried out ([`apply`]). Start reading at [`boot`].
//!
//! Deliberately absent: a daemon, and anything that is done to a running machine later than its boot.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that panics is a test that fails"
    )
)]

pub mod addresses;
pub mod apply;
pub mod boot;
pub mod fetch;
pub mod journey;
pub mod network;
pub mod report;
pub mod search;
pub mod source;
pub mod store;
