//! Starting a program of the image while `/` is still the initramfs.
#![allow(unsafe_code, reason = "Command::pre_exec is unsafe, and there is no other way to chroot a child")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A command that changes its root to `root` before it executes `program` (a path inside `root`).
pub fn chrooted(root: &Path, program: &str) -> Command {
    let root = root.to_owned();
    let mut command = Command::new(program);
    // SAFETY: between fork and exec the closure only makes two system calls on memory that was allocated before the fork;
    // `chroot` with a path this short copies it to the stack and does not allocate.
    unsafe {
        command.pre_exec(move || {
            rustix::process::chroot(root.as_path())?;
            rustix::process::chdir(c"/")?;
            Ok(())
        });
    }
    command
}
