//! The system calls that rustix has no safe form of. Every `unsafe` block of this crate is in this module.
