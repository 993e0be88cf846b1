//! User-data: what somebody hands to a machine at its start, in any format, to one plan of what to do.
//!
//! The way is: bytes from a source; [`UserData::read`] unpacks them and finds out what they are; [`UserData::addresses`] says which of the
//! machine's addresses the text uses, so that they can be waited for; [`UserData::plan`] makes the [`MachinePlan`], or says which other
//! configurations must be fetched first. All of it is pure, bounded in time and memory, and tells every problem at once.
//!
//! `docs/user-data.md` is the reference of formats and keys.

pub mod assignments;
pub mod encoding;
mod format;
mod mime;
pub mod plan;
mod read;
pub mod report;
pub mod resource;
pub(crate) mod shell;
pub mod source;
pub(crate) mod steps;
pub mod substitute;

use std::collections::BTreeMap;

pub use self::format::{Format, LARGEST};
use self::plan::FetchPolicy;
pub use self::plan::MachinePlan;
pub use self::read::{Part, UserData};
use self::resource::Resource;
use crate::diagnostic::Diagnostics;

/// What is known of the machine when a plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Its addresses.
    pub addresses: Addresses,
    /// What the source of the user-data says beside it.
    pub metadata: Metadata,
    /// Resources that an earlier [`Outcome::Fetch`] asked for, as they came ([`Resource::accept`] has accepted them).
    pub fetched: BTreeMap<Resource, Vec<u8>>,
}

/// The machine's addresses, as text: what `$private_ipv4` and its kin become. `None` becomes the empty text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// `$private_ipv4`.
    pub private_ipv4: Option<String>,
    /// `$public_ipv4`.
    pub public_ipv4: Option<String>,
    /// `$private_ipv6`.
    pub private_ipv6: Option<String>,
    /// `$public_ipv6`.
    pub public_ipv6: Option<String>,
}

/// One of the machine's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `$private_ipv4`.
    PrivateIpv4,
    /// `$public_ipv4`.
    PublicIpv4,
    /// `$private_ipv6`.
    PrivateIpv6,
    /// `$public_ipv6`.
    PublicIpv6,
}

/// What a source of user-data says of the machine beside it. What the user-data says itself wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The host name.
    pub hostname: Option<String>,
    /// SSH keys of the user `core`.
    pub ssh_authorized_keys: Vec<String>,
}

/// What comes of user-data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A plan, and what should be looked at nevertheless.
    Plan(MachinePlan, Diagnostics),
    /// The text has mistakes and is not applied. What is left of it is a plan that lets its author in: host name and SSH keys.
    Refused(MachinePlan, Diagnostics),
    /// These resources must be fetched first, in this way; put them into [`Facts::fetched`] and ask again. That happens at most
    /// [`DEEPEST_MERGE`] times.
    Fetch(Vec<Resource>, FetchPolicy),
}

/// How often one configuration may name another that names another.
pub const DEEPEST_MERGE: usize = 16;

#[cfg(test)]
mod tests;
