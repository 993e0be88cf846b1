//! The boot loader's decisions, without the firmware: they run in tests on the host. `main.rs` puts UEFI underneath.
//!
//! Absent on purpose: file systems (a slot is read as raw bytes), menus, settings that are not signed (SAFETY 13).
//! Start with [`select::boot`] (the whole boot) and [`trust`] (whom this loader believes).
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that fails by panicking is a test that fails"
    )
)]

extern crate alloc;

pub mod arguments;
pub mod machine;
pub mod select;
pub mod slot;
pub mod trust;
