//! Crediting saved randomness to the kernel's pool (`linux/random.h`).
#![allow(unsafe_code, reason = "rustix has no RNDADDENTROPY")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of a saved seed: what the kernel's generator takes for a full key (256 bits) and as much again.
pub const SEED_LEN: usize = 64;

#[repr(C)]
struct PoolInfo {
    entropy_bits: i32,
    len: i32,
    bytes: [u8; SEED_LEN],
}

/// Adds a seed to the pool and credits it in full.
///
/// # Errors
/// The kernel's: `EPERM` without `CAP_SYS_ADMIN`.
pub fn add_entropy(random: BorrowedFd<'_>, seed: &[u8; SEED_LEN]) -> io::Result<()> {
    // _IOW('R', 0x03, int[2])
    const RNDADDENTROPY: u64 = 0x4008_5203;
    let len = i32::try_from(SEED_LEN).unwrap_or(0);
    let info = PoolInfo { entropy_bits: 8 * len, len, bytes: *seed };
    // SAFETY: `info` has the layout of `struct rand_pool_info` with `len` bytes behind it, lives until the call returns,
    // and is only read by the kernel.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &raw const info) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
