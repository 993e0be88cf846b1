//! The reboot lock: locksmith's semaphore in etcd, so that no more machines of a group reboot at a time than somebody allows.
//!
//! [`semaphore`] is locksmith's JSON and its rules; [`plan`] turns what is in etcd and a wish into one transaction, or into a reason
//! why not; [`agent`] is what a machine does that wants the lock, or wants to be rid of it, over time. All of them are pure. [`shell`]
//! is the thread that talks to etcd, [`ctl`] is `locksmithctl`. `docs/reboots.md` is for those who use it.
//!
//! # Invariants
//! - Every change of the semaphore is one transaction that compares its revision: whoever dies when, there are never more holders
//!   than `max` (unless `max` was lowered, and then there are no new ones).
//! - A machine reboots only right after a transaction of its own has put it among the holders, or has proved that it is one.

pub mod agent;
pub mod plan;
pub mod semaphore;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;

#[cfg(feature = "engine")]
pub mod ctl;
#[cfg(feature = "engine")]
pub mod shell;
