//! Virtual machines: a typed description becomes a QEMU process that never outlives its owner.
//!
//! [`VmSpec`] describes a machine, [`argv`] turns it into a command line without doing anything, [`Emulator`] starts it, and
//! [`Vm`] is the running machine: serial [`Console`], control connection ([`Qmp`]), forwarded ports. The emulator comes from
//! the [`toolbox`], a pinned set of Debian packages that is unpacked in the cache and runs without root, or from the system.
//!
//! What an owner can rely on:
//! - When the owner drops the [`Vm`], panics or is killed, QEMU ends too.
//! - At most as many machines run at once, over all processes of the user, as the host has room for ([`admission`]).
//! - Files and data for the guest never appear on a command line that other users can read.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

pub mod accel;
pub mod admission;
pub mod argv;
mod console;
mod emulator;
mod folder;
pub mod overlay;
pub mod ports;
mod process;
mod qmp;
mod spec;
pub mod switch;
mod sys;
mod terminal;
pub mod toolbox;
mod vm;

pub use admission::{Admission, Demand, admit};
pub use argv::Accelerator;
pub use console::{Console, ConsoleError, plain};
pub use emulator::{Emulator, Firmware, LEAST_VERSION, Notice, Program, SystemError};
pub use folder::{FolderError, VmFolder, remove_leftovers, temporary_root};
pub use qmp::{Event, Qmp, QmpError};
pub use spec::{
    AccelChoice, Boot, Disk, DiskAccess, DiskBus, DiskCache, DiskFault, DiskFormat, DiskWrite, Forward,
    FwCfg, Net, Nic, OnReboot, Serial, Smbios, VmSpec,
};
pub use vm::{Ending, Vm, VmError};
