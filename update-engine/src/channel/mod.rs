//! What a channel folder says, and why it is believed: TUF 1.0 metadata, releases, rollouts, reports.
//!
//! A channel folder holds plain files that any HTTP server can serve: signed metadata in `metadata/`, slot images as
//! payloads in `targets/`. The metadata is that of The Update Framework (<https://theupdateframework.github.io/specification/>,
//! version 1.0), so that other TUF clients can check it; what Ferrite adds is in the `custom` fields of targets
//! (`docs/formats/channel.md`).
//!
//! Everything here is without I/O. Where to start reading: [`Client`] is the machine's side, [`Release`] what it
//! learns, [`offer`] which release a machine takes, [`sign`] what the publisher writes.
//! Deliberately absent: delegations (a channel folder has one publisher), hashes other than SHA-256, signatures other
//! than Ed25519.

pub mod canonical;
pub mod client;
pub mod key;
pub mod metadata;
pub mod offer;
pub mod release;
pub mod report;
pub mod sign;

pub use self::client::{
    Answer, Client, ClientError, Clock, FileRequest, Limits, Progress, Trusted, Verified,
};
pub use self::offer::{Machine, Offer, Verdict, offer};
pub use self::release::{
    ChannelName, Placement, Release, Rollout, StateFormat, TargetFile, Version, Withdrawal,
};

/// Subfolder of the metadata in a channel folder, and in its URL.
pub const METADATA_FOLDER: &str = "metadata";
/// Subfolder of the payloads.
pub const TARGETS_FOLDER: &str = "targets";
