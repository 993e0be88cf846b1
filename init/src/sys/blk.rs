//! Telling the kernel of partitions without a re-read of the table (`linux/blkpg.h`): a re-read fails while a partition is
//! in use (SAFETY 5). Giving back loop devices and swaps.
#![allow(unsafe_code, reason = "rustix has none of these calls")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `_IO(0x12, 105)`
const BLKPG: u64 = 0x1269;

/// What to tell the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A partition that it does not know yet.
    Add = 1,
    /// A new length for one that it knows.
    Resize = 3,
}

#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

#[repr(C)]
struct Argument {
    operation: i32,
    flags: i32,
    data_len: i32,
    data: *const Partition,
}

/// Tells the kernel of one partition of `disk`: `number` from 1, `start` and `length` in bytes.
///
/// # Errors
/// The kernel's: `EBUSY` for an overlap or an existing number, `ENXIO` for a number it does not know.
pub fn change_partition(
    disk: BorrowedFd<'_>,
    change: Change,
    number: u32,
    start: u64,
    length: u64,
) -> io::Result<()> {
    let out_of_range = |_| io::Error::from_raw_os_error(libc::ERANGE);
    let partition = Partition {
        start: i64::try_from(start).map_err(out_of_range)?,
        length: i64::try_from(length).map_err(out_of_range)?,
        number: i32::try_from(number).map_err(out_of_range)?,
        names: [0; 128],
    };
    let data_len = i32::try_from(size_of::<Partition>()).map_err(out_of_range)?;
    let argument = Argument { operation: change as i32, flags: 0, data_len, data: &raw const partition };
    // SAFETY: `argument` and the `partition` that it points at have the layout of `linux/blkpg.h`, live until the call
    // returns, and are only read by the kernel.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw const argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes a loop device off its file (`LOOP_CLR_FD`, linux/loop.h); one that is in use goes when its last user does.
///
/// # Errors
/// The kernel's: `ENXIO` when it has no file.
pub fn detach_loop(device: BorrowedFd<'_>) -> io::Result<()> {
    const LOOP_CLR_FD: u64 = 0x4c01;
    // SAFETY: the request takes no argument.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// swapoff(2): reads everything back that was swapped to `path`.
///
/// # Errors
/// The kernel's: `ENOMEM` when memory does not hold it.
pub fn swap_off(path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    // SAFETY: the path is a C string that lives until the call returns.
    let result = unsafe { libc::swapoff(path.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
