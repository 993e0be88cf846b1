//! The machine's side: from a release on a channel to a slot that the loader starts.
//!
//! [`machine`] decides what is done when, without I/O. [`slot`] writes and proves the passive slot in the one order that is
//! safe, [`fill`] brings its blocks together; both work on a [`slots::Device`] and readers, so tests run them against disks
//! that fail and mirrors that lie. The rest is the daemon's shell (feature `engine`): the disk and the network ([`work`]), the
//! threads ([`daemon`]), the command line ([`client`]).

mod ahead;
pub mod blocks;
#[cfg(feature = "engine")]
pub mod client;
pub mod config;
#[cfg(feature = "engine")]
pub mod coordinate;
#[cfg(feature = "engine")]
pub mod daemon;
#[cfg(feature = "engine")]
pub mod drain;
pub mod fill;
mod hashing;
#[cfg(feature = "engine")]
pub mod http;
pub mod machine;
#[cfg(feature = "engine")]
pub mod os;
#[cfg(feature = "engine")]
pub mod past;
pub mod protocol;
pub mod reboot;
pub mod slot;
pub mod state;
pub mod trial;
pub mod window;
#[cfg(feature = "engine")]
pub mod work;

#[cfg(test)]
mod tests;
