//! What PID 1 does to the machine before the first unit starts, and the helpers behind Ferrite's own units.

pub mod coldplug;

use std::process::ExitCode;

/// What [`setup`] found out about this boot.
#[derive(Debug, Clone, Default)]
pub struct BootInfo {
    /// The slot is not yet successful (`ferrite.trial=1`): PID 1 must reboot when the boot does not get good in time.
    pub trial: bool,
    /// `/var` is a tmpfs because STATE was not usable (SAFETY 22).
    pub volatile_state: bool,
    /// Host name as set in the kernel.
    pub hostname: String,
    /// Lines for the console and the log, loudest problems of the early stage.
    pub warnings: Vec<String>,
}

/// Mounts, host name, machine-id, tmpfiles, console. Never fails: what could not be done is in `warnings`.
pub fn setup() -> BootInfo {
    BootInfo::default()
}

/// Runs `init mark-good`: marks the running slot successful (SAFETY 8).
pub fn mark_good() -> ExitCode {
    ExitCode::FAILURE
}
