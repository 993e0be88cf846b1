//! Everything Ferrite knows about slots: the boot flags in the GPT, which slot boots next, the order in which a
//! partition table is rewritten, and the signed footer that makes a slot one unit.
//!
//! Boot loader, init, update engine and builder all use this crate, so a bit or an offset has one home. The crate
//! has no allocator and does no I/O of its own: a caller gives it a [`Device`], and the crate decides what is read and written,
//! and where the flushes go. Rules named `SAFETY n` are listed in `docs/SAFETY.md`.
//!
//! Start with [`Loaded::read`] (the table), [`BootOrder`] (the choice) and [`Footer::verify`] (the proof).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation))]

mod bytes;
mod choose;
mod commit;
mod flags;
mod footer;
mod guid;
mod table;
mod text;

pub use choose::{BootOrder, Candidate, MAX_SLOTS, is_candidate};
pub use commit::{CommitError, Device, Loaded, Source};
pub use flags::{FlagsError, SlotFlags, TRIES_FULL};
pub use footer::{
    FOOTER_LEN, FOOTER_VERSION, Footer, FooterError, KeyId, LOADER_VERSION, PART_ALIGNMENT, Part, Parts,
    Policy, SIGNATURE_LEN, SIGNED_LEN, TrustedKey, VerityInfo,
};
pub use guid::Guid;
pub use table::{
    ENTRIES, ENTRIES_IN_USE, ENTRY_LEN, Entry, Geometry, PartitionName, Table, TableError, types,
};
pub use text::{Text, TextError};
