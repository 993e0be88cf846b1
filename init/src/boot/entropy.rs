//! The seed that carries randomness from one boot to the next, so that keys made early in a boot are not guessable.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use super::identity::replace;
use crate::sys::random::{SEED_LEN, add_entropy};

/// Where STATE keeps it.
pub const FILE: &str = "/var/lib/ferrite/random-seed";

/// Feeds the saved seed to the kernel, after a new one has taken its place on disk: no seed is ever used twice.
///
/// # Errors
/// What failed; the kernel then has only its own sources, as at a first boot.
pub fn refresh() -> io::Result<()> {
    let saved: Option<[u8; SEED_LEN]> = std::fs::read(FILE).ok().and_then(|bytes| bytes.try_into().ok());
    let mut random = OpenOptions::new().write(true).open("/dev/urandom")?;
    if let Some(seed) = &saved {
        // Mixed in without credit, so that the new seed depends on the old one even when the kernel has gathered nothing yet.
        random.write_all(seed)?;
    }
    save()?;
    saved.map_or(Ok(()), |seed| add_entropy(random.as_fd(), &seed))
}

/// Replaces the seed by a new one; also worth doing when the machine goes down.
///
/// # Errors
/// The file cannot be written.
pub fn save() -> io::Result<()> {
    let mut seed = [0_u8; SEED_LEN];
    // Not waiting for the pool to fill: a weak seed is still mixed with whatever the next boot gathers.
    getrandom(&mut seed, GetRandomFlags::INSECURE)?;
    replace(Path::new(FILE), 0o600, &seed)
}
