//! The system calls that rustix has no safe form of. Every `unsafe` block of this crate is in this module.

pub mod blk;
pub mod bpf;
pub mod child;
pub mod descriptor;
pub mod descriptors;
pub mod dm;
pub mod launch;
pub mod localtime;
pub mod loopback;
pub mod packet;
pub mod random;
pub mod setup;
pub mod signals;
pub mod socket_option;
pub mod spawn;
pub mod terminal;
pub mod tsc;
pub mod watchdog;
