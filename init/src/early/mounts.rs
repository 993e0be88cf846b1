//! Mounts, with errors that say which one.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

/// A mount that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {kind} on {}", target.display())]
pub struct MountError {
    /// The file system, or what was done instead of mounting one.
    pub kind: &'static str,
    /// Where.
    pub target: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

/// One file system to mount.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// What is mounted; the name of the file system for those without a device.
    pub source: &'a Path,
    /// Where.
    pub target: &'a Path,
    /// Which file system.
    pub kind: &'static str,
    /// Flags of mount(2).
    pub flags: MountFlags,
    /// Options of the file system.
    pub options: &'a CStr,
}

impl Mount<'_> {
    /// Mounts it.
    ///
    /// # Errors
    /// [`MountError`]
    pub fn perform(self) -> Result<(), MountError> {
        rustix::mount::mount(self.source, self.target, self.kind, self.flags, self.options).map_err(|error| {
            MountError { kind: self.kind, target: self.target.to_owned(), source: error.into() }
        })
    }
}

/// Mounts a file system that has no device.
///
/// # Errors
/// [`MountError`]
pub fn mount_virtual(
    kind: &'static str,
    target: &Path,
    flags: MountFlags,
    options: &CStr,
) -> Result<(), MountError> {
    Mount { source: Path::new(kind), target, kind, flags, options }.perform()
}

/// No set-user-ID programs and no devices below this mount.
pub fn harmless() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV
}

/// Mounts the kernel's own trees below `root`: `dev`, `proc`, `sys`.
///
/// # Errors
/// [`MountError`]
pub fn mount_kernel_trees(root: &Path) -> Result<(), MountError> {
    let inert = harmless() | MountFlags::NOEXEC;
    mount_virtual("devtmpfs", &root.join("dev"), MountFlags::NOSUID, c"mode=0755")?;
    mount_virtual("proc", &root.join("proc"), inert, c"")?;
    mount_virtual("sysfs", &root.join("sys"), inert, c"")
}
