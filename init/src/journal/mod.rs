//! The journal: what services, the kernel and programs log goes through one writer into files that `journalctl` reads.
//!
//! `native`, `syslog`, `stream` and `kmsg` read what senders say, `intake` adds what is known about them, `keeper` is the
//! writer and `store` the files behind it ([`store::Store`] is all that the rest knows of them); `daemon` is the loop
//! around these and `ports` what PID 1 hands it. `export` is the format, `reader`, `query` and `filter` find entries again.
//!
//! Formats: `docs/formats/journal.md`.

pub mod cat;
pub mod client;
pub mod config;
mod connection;
pub mod context;
pub mod daemon;
pub mod entry;
pub mod export;
pub mod filter;
pub mod folder;
pub mod intake;
pub mod keeper;
pub mod kmsg;
pub mod limit;
pub mod native;
pub mod ports;
pub mod query;
pub mod reader;
pub mod sockets;
pub mod start;
pub mod store;
pub mod stream;
pub mod syslog;
pub mod varlink;

pub use self::query::tail;
