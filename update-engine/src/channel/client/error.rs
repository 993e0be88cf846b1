//! Why an update of the metadata was refused.

use crate::channel::metadata::{Date, MetadataError, Role};

/// A refusal: which file, and why.
#[derive(Debug, thiserror::Error)]
#[error("{name} is refused")]
pub struct ClientError {
    /// The metadata file.
    pub name: String,
    /// Why.
    #[source]
    pub reason: Reason,
}

impl ClientError {
    pub(super) fn new(name: &str, reason: Reason) -> Self {
        Self { name: name.to_owned(), reason }
    }

    /// Whether asking again, another mirror, or after the clock has been set cannot help.
    ///
    /// Whatever a single mirror sends may be that mirror's fault. What is certain is expiry by a clock that was set: the
    /// publisher has let the metadata expire, or somebody keeps newer metadata from this machine.
    pub fn is_final(&self) -> bool {
        matches!(self.reason, Reason::Expired { certain: true, .. })
    }

    /// One word for reports and tests.
    pub fn kind(&self) -> &'static str {
        match self.reason {
            Reason::Missing => "missing",
            Reason::TooLong { .. } => "too-long",
            Reason::Length { .. } => "length",
            Reason::Hash => "hash",
            Reason::Malformed(_) => "malformed",
            Reason::Signatures { .. } => "signatures",
            Reason::RolledBack { .. } => "rolled-back",
            Reason::Version { .. } => "version",
            Reason::Expired { certain: true, .. } => "expired",
            Reason::Expired { certain: false, .. } => "expired-by-unset-clock",
            Reason::Unfinished => "unfinished",
        }
    }
}

/// What is wrong with a metadata file.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The server does not have it.
    #[error("the server does not have it")]
    Missing,
    /// More bytes than allowed: endless data.
    #[error("it is longer than {max_bytes} bytes")]
    TooLong {
        /// The most that would have been read.
        max_bytes: u64,
    },
    /// Not the length that the signed list says.
    #[error("it has {found} bytes, {listed} are listed")]
    Length {
        /// The length in the list.
        listed: u64,
        /// The file's length.
        found: u64,
    },
    /// Not the hash that the signed list says.
    #[error("its SHA-256 is not the listed one")]
    Hash,
    /// It cannot be read.
    #[error("it is malformed")]
    Malformed(#[source] MetadataError),
    /// Too few keys have signed.
    #[error("{valid} of {threshold} keys for {role} of root {root_version} have signed it")]
    Signatures {
        /// How many different keys have signed.
        valid: usize,
        /// How many must.
        threshold: u32,
        /// Whose keys they must be.
        role: Role,
        /// By which root.
        root_version: u64,
    },
    /// An older version than the machine has seen: replayed.
    #[error("it has version {found}, but version {trusted} was there before")]
    RolledBack {
        /// The version that was seen.
        trusted: u64,
        /// The version now.
        found: u64,
    },
    /// Not the version that it must have: files of different moments.
    #[error("it has version {found} and must have {listed}")]
    Version {
        /// The version that it must have.
        listed: u64,
        /// The version that it has.
        found: u64,
    },
    /// It has expired.
    #[error("it has expired on {expires}{}", if *certain { "" } else { ", by a clock that has not been set" })]
    Expired {
        /// When.
        expires: Date,
        /// The time that was gone by (Unix seconds).
        now: u64,
        /// Whether the time is known for sure (SAFETY 25). If not, try again once the clock is synchronised.
        certain: bool,
    },
    /// The client was used in the wrong order.
    #[error("the update is not at its end")]
    Unfinished,
}
