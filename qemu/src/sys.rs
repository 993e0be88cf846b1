//! The two things that need `unsafe`: what a child does between fork and exec, and one KVM call that returns a descriptor.
#![allow(unsafe_code, reason = "kernel interfaces without a safe wrapper; each use says why it is sound")]

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;

/// Makes the child that `command` starts receive `signal` when the thread that starts it ends, and not start at all when the
/// parent is gone already.
///
/// The kernel ties this to the *thread* that forked, so only a thread that lives as long as the process may start the child.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed. It makes two system calls
    // by rustix's raw backend, and allocates nothing: `io::Error::from` on an errno stores an integer.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(signal))?;
            // The parent may have ended before the call above.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from(rustix::io::Errno::CHILD));
            }
            Ok(())
        });
    }
}

/// Asks KVM for an empty virtual machine and drops it again.
///
/// # Errors
/// The kernel's refusal.
pub fn create_kvm_vm(kvm: &File) -> io::Result<()> {
    // SAFETY: `CreateVm` describes KVM_CREATE_VM as the kernel's documentation does; `kvm` is open for the whole call.
    let vm = unsafe { rustix::ioctl::ioctl(kvm, CreateVm) }?;
    drop(vm);
    Ok(())
}

/// `KVM_CREATE_VM`: `_IO(KVMIO, 0x01)`, argument 0 (default machine type), returns a file descriptor
/// (Linux `Documentation/virt/kvm/api.rst`, 4.2).
struct CreateVm;

// SAFETY: the opcode takes an integer argument (0, passed as a null pointer) and touches no memory of ours; on success its
// result is a new file descriptor that nobody else owns.
unsafe impl rustix::ioctl::Ioctl for CreateVm {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        rustix::ioctl::opcode::none(0xae, 0x01)
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        output: rustix::ioctl::IoctlOutput,
        _: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        // SAFETY: see the impl: a non-negative result is a descriptor made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(output) })
    }
}
