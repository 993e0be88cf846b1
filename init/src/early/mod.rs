//! The initramfs stage: modules, verity, STATE, switch root.

use std::process::ExitCode;

/// Whether this process is PID 1 of the initramfs: the module list is only there.
pub fn is_initramfs() -> bool {
    std::path::Path::new("/lib/modules/load").exists()
}

/// Runs the stage; returns only on failure.
pub fn run() -> ExitCode {
    ExitCode::FAILURE
}
