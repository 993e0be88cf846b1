//! Client for Debian archives: signed indexes, dependency closure, packages.
//!
//! Used by `builder` for the packages of an image, by `qemu` for its toolbox and by the tests for the standard tools.
//! Everything that comes from a mirror is checked before it is used: the signature of `InRelease` against pinned keys,
//! the indexes and packages against the digests that it vouches for. No maintainer script is ever run.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use debian::{archive::{Archive, Config}, cache::Cache, mirrors::MirrorSet, progress::Silent, unpack::Integrity};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mirrors = MirrorSet::discover(&[], &[], Path::new("/"));
//! let config = Config::debian("trixie", &mirrors, Cache::from_env())?; // .offline, .architecture, ... are fields
//! let archive = Archive::open(config, Arc::new(Silent))?;
//! let closure = archive.resolve(&["etcd-server".parse()?, "bash=5.2.37-2".parse()?], &[])?;
//! for unpacked in archive.unpack(&closure.packages(), Integrity::Full)? {
//!     for entry in &unpacked.entries { /* offsets into unpacked.data, an uncompressed tar */ }
//! }
//! archive.fetch_closure_to_dir(&["gdisk".parse()?], &[], Path::new("/tmp/tools"))?; // in one step, to a new folder
//! # Ok(()) }
//! ```
//!
//! | module | has |
//! |---|---|
//! | [`archive`] | [`archive::Archive`]: open, resolve, fetch, unpack; [`archive::Config`] |
//! | [`resolve`] | [`resolve::resolve`]: requests and provided names to a [`resolve::Closure`] with the reason for each package |
//! | [`unpack`] | [`unpack::Unpacked`]: a package's entries, contents and control files, from the cache |
//! | [`tarball`] | [`tarball::Entry`] and the rules for entries |
//! | [`extract`] | writing packages to a folder as an ordinary user |
//! | [`package`], [`relation`], [`version`], [`digest`] | what indexes are made of |
//! | [`index`] | packages by name and by what they provide |
//! | [`mirrors`] | where archives are |
//! | [`cache`] | the folder that keeps downloads, by SHA-256 |
//! | [`signature`], [`release`] | who signed an index, and what it says |
//! | [`http`] | downloads: mirrors in turn, retries, resuming |
//! | [`progress`] | how long work is reported |
//! | [`temporary`] | what is under construction, and its end when the process is told to end |
//! | [`deb822`], [`ar`], [`compression`] | formats |
//!
//! Deliberately absent: running scripts, `dpkg`'s database, source packages, `Recommends`, more than one architecture at
//! a time, printing.

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
pub mod temporary;
#[cfg(test)]
mod testing;
pub mod unpack;
pub mod version;
