//! One scenario, two machines: Ferrite's PID 1 and Debian's systemd run the same unit files, and what both leave behind is compared.
//!
//! `docs/conformance.md` says what a scenario looks like and what is compared.

mod compare;
mod exchange;
mod machines;
mod reference;
mod scenario;
mod traces;

use std::path::PathBuf;

use anyhow::Result;
use builder::guest;

pub use compare::{Comparison, KnownDifferences, score_in};
pub use machines::{ferrite, systemd};
pub use scenario::{Scenario, load_all, table};
pub use traces::Traces;

/// Where scenarios, guest programs and the recorded traces of systemd are.
///
/// # Errors
/// The checkout is not to be found.
pub fn folder() -> Result<PathBuf> {
    Ok(guest::source_folder()?.join("tests/conformance"))
}
