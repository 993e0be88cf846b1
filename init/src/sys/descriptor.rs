//! Descriptors of kinds that rustix has no safe form of: message queues, sockets of virtual machines, comparison.
#![allow(unsafe_code, reason = "mq_open(3), kcmp(2) and the address of vsock(7) have no safe form in rustix")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens a message queue for reading without waiting, and makes it if there is none: mq_open(3). The name has no slash. Without
/// `limits` (messages, bytes of one) the kernel's defaults hold.
///
/// # Errors
/// The kernel's: `EINVAL` for limits that it does not allow.
pub fn open_message_queue(name: &CStr, mode: u32, limits: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    // SAFETY: a structure of plain numbers, for which zeros are a value.
    let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
    let limits = limits.map(|(messages, bytes)| {
        attributes.mq_maxmsg = messages.into();
        attributes.mq_msgsize = bytes.into();
        &raw const attributes
    });
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_CREAT;
    // SAFETY: the name ends with a NUL, the attributes outlive the call, and the kernel only reads both.
    let queue = check(unsafe {
        libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags, mode, limits.unwrap_or(std::ptr::null()))
    })?;
    let queue = i32::try_from(queue).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(queue) })
}

/// Removes the name of a message queue.
///
/// # Errors
/// The kernel's.
pub fn unlink_message_queue(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with a NUL.
    check(unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) }).map(drop)
}

/// Binds a socket of vsock(7); without a context id to any.
///
/// # Errors
/// The kernel's.
pub fn bind_vsock(socket: BorrowedFd<'_>, cid: Option<u32>, port: u32) -> io::Result<()> {
    // SAFETY: a structure of plain numbers, for which zeros are a value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).map_err(io::Error::other)?;
    address.svm_cid = cid.unwrap_or(libc::VMADDR_CID_ANY);
    address.svm_port = port;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_vm>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of a live structure, from which the kernel only reads.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }.into()).map(drop)
}

/// Whether two descriptors of this process are of one open file: kcmp(2). False where the kernel does not tell.
pub fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: i32 = 0;
    let pid = std::process::id();
    // SAFETY: all arguments are plain numbers.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd()) == 0 }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn copies_are_the_same_and_others_are_not() {
        let (one, other) =
            (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/null").unwrap());
        let copy = one.try_clone().unwrap();
        assert!(!is_same(one.as_fd(), other.as_fd()));
        // A kernel without kcmp, or a sandbox that forbids it, says no to everything.
        let knows = is_same(one.as_fd(), one.as_fd());
        assert_eq!(is_same(one.as_fd(), copy.as_fd()), knows);
    }

    #[test]
    fn a_message_queue_is_made_once_and_removed() {
        let name = std::ffi::CString::new(format!("ferrite-test-{}", std::process::id())).unwrap();
        match open_message_queue(&name, 0o600, Some((3, 100))) {
            Ok(_queue) => {
                open_message_queue(&name, 0o600, None).unwrap();
                unlink_message_queue(&name).unwrap();
                assert!(unlink_message_queue(&name).is_err());
            }
            // Not every kernel has them.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}"),
        }
    }
}
