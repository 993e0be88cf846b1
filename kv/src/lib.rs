//! The etcd v3 client that Ferrite's daemons share: ranges, transactions, leases and watches over etcd's own JSON gateway
//! (`docs/decisions/0006-etcd-by-its-json-gateway.md`), blocking, without an asynchronous runtime of its own.
//!
//! What is decided is apart from what is done: [`failover`] chooses endpoints, [`backoff`] says how long to wait, [`watch`] says
//! where a watch goes on, [`lease`] when a lease is renewed and when it is lost. None of them does I/O; time and chance are
//! arguments. [`client`] and [`watch::Watch`] are the shell around them. Start reading at [`Client`].
//!
//! Behind the feature `etcdctl`, `ctl` is the command line of etcd's API v2 on the v3 store.
//!
//! Absent on purpose: caching, reconciliation and retries of writes whose outcome is unknown. The caller of a write that may or
//! may not have happened ([`Error::Unknown`]) is the only one who knows how to find out.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that meets the unexpected should fail on the spot"
    )
)]

pub mod backoff;
pub mod client;
pub mod cluster;
pub mod config;
#[cfg(feature = "etcdctl")]
pub mod ctl;
pub mod failover;
pub mod lease;
pub mod message;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod tls;
pub mod watch;

pub use self::client::{Client, Error};
pub use self::cluster::Member;
pub use self::config::{Config, Credentials, TlsFiles};
pub use self::message::{
    Compare, Event, EventKind, KeyRange, KeyValue, LeaseId, Op, OpResult, Revision, TimeToLive, Transaction,
    TransactionResult,
};
