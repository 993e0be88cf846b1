//! Text to validated types: image recipes, their lock files, systemd unit files, and user-data (cloud-config, Ignition, scripts).
//!
//! Everything here is pure but two functions, [`recipe::Recipe::load`] and [`lock::Lock::load`], which read a file. What is
//! deliberately absent: fetching packages, reading the extra files that a recipe names, running units.
//!
//! Where to start reading: [`recipe::Recipe`] for what an image is made of, [`lock::Lock`] for its packages, [`unit::UnitFile`] for unit files, [`user_data::UserData`] for user-data,
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

pub mod civil;
pub mod cloud_config;
pub mod diagnostic;
pub mod ignition;
pub mod json;
pub mod lock;
pub mod recipe;
pub mod tree;
pub mod unit;
pub mod user_data;
pub mod yaml;
