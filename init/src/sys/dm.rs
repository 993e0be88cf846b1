//! The ioctl of the device mapper (`linux/dm-ioctl.h`).
#![allow(unsafe_code, reason = "rustix has no device-mapper ioctls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of `struct dm_ioctl`, which every request starts with.
pub const HEADER_LEN: usize = 312;
/// Where the header holds the size of the whole buffer.
pub const DATA_SIZE_AT: usize = 12;

/// Requests of the device mapper that Ferrite makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `DM_DEV_CREATE`
    Create = 3,
    /// `DM_DEV_REMOVE`
    Remove = 4,
    /// `DM_DEV_SUSPEND`; without the suspend flag it resumes.
    Suspend = 6,
    /// `DM_TABLE_LOAD`
    LoadTable = 9,
}

/// Makes one request on `/dev/mapper/control`; the kernel answers in `buffer`.
///
/// # Errors
/// `EINVAL` when `buffer` is shorter than a header or than it says itself; else the kernel's error.
pub fn request(control: BorrowedFd<'_>, request: Request, buffer: &mut [u8]) -> io::Result<()> {
    let told = buffer.get(DATA_SIZE_AT..DATA_SIZE_AT + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let told = told.map_or(usize::MAX, |bytes| u32::from_ne_bytes(bytes) as usize);
    if buffer.len() < HEADER_LEN || told > buffer.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // _IOWR(0xfd, request, struct dm_ioctl)
    let number: u64 = (3 << 30) | ((HEADER_LEN as u64) << 16) | (0xfd << 8) | request as u64;
    // SAFETY: the kernel reads and writes at most `data_size` bytes of the buffer, which was just checked to be no more
    // than its length, and at least a header; the buffer is exclusively borrowed for the call.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), number as _, buffer.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
