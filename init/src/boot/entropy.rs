//! The seed that carries randomness from one boot to the next, so that keys made early in a boot are not guessable.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::sys::random::{SEED_LEN, add_entropy};

/// Where STATE keeps it.
pub const FILE: &str = "/var/lib/ferrite/random-seed";

/// Feeds the saved seed to the kernel, after a new one has taken its place on disk: no seed is ever credited twice.
///
/// # Errors
/// What failed; the kernel then has only its own sources, as at a first boot.
pub fn refresh() -> io::Result<()> {
    let saved: Option<[u8; SEED_LEN]> = std::fs::read(FILE).ok().and_then(|bytes| bytes.try_into().ok());
    let Some(seed) = saved else { return save(Durability::Eventually) };
    let mut random = OpenOptions::new().write(true).open("/dev/urandom")?;
    // Mixed in without credit first, so that the new seed depends on the old one even when the kernel has gathered nothing yet.
    random.write_all(&seed)?;
    save(Durability::Now)?;
    add_entropy(random.as_fd(), &seed)
}

/// When a seed must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before [`save`] returns.
    Now,
    /// When the kernel writes it by itself: a first boot has nothing to protect, and waits for no disk.
    Eventually,
}

/// Replaces the seed by a new one; also worth doing when the machine goes down.
///
/// The file is overwritten in place: 64 bytes in one sector are not torn, and no journal is waited for.
///
/// # Errors
/// The file cannot be written.
pub fn save(durability: Durability) -> io::Result<()> {
    let mut seed = [0_u8; SEED_LEN];
    // Not waiting for the pool to fill: a weak seed is still mixed with whatever the next boot gathers.
    getrandom(&mut seed, GetRandomFlags::INSECURE)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(FILE)?;
    file.write_all_at(&seed, 0)?;
    if durability == Durability::Now { file.sync_data() } else { Ok(()) }
}
