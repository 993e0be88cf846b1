//! Text to validated types: image recipes, their lock files and systemd unit files.
//!
//! Everything here is pure but two functions, [`recipe::Recipe::load`] and [`lock::Lock::load`], which read a file. What is
//! deliberately absent: fetching packages, reading the extra files that a recipe names, running units.
//!
//! Where to start reading: [`recipe::Recipe`] for what an image is made of, [`lock::Lock`] for its packages, [`unit::UnitFile`] for unit files,
//! [`diagnostic::Diagnostic`] for how a mistake in a text is told to its author.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that meets the unexpected should fail on the spot"
    )
)]

mod civil;
pub mod diagnostic;
pub mod lock;
pub mod recipe;
pub mod unit;
pub mod user_data;
pub mod yaml;
