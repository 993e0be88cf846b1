//! Client for Debian archives.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic"))]

pub mod ar;
pub mod archive;
pub mod cache;
pub mod compression;
pub mod deb822;
pub mod digest;
pub mod extract;
pub mod http;
pub mod index;
pub mod mirrors;
pub mod package;
pub mod progress;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod signature;
pub mod tarball;
pub mod unpack;
pub mod version;
