//! The initramfs stage: modules, verity, STATE, switch root.
//!
//! Runs as PID 1 of the initramfs, strictly in order, and ends in the `init` of the verified `/usr`. Start reading at
//! [`run`]. What can go wrong in STATE costs persistence ([`state`]); everything else ends in [`console::give_up`].

pub mod cmdline;
pub mod console;
pub mod disk;
pub mod ext4;
pub mod modules;
pub mod mounts;
pub mod root;
pub mod state;
pub mod state_plan;
pub mod uevent;
pub mod verity;
pub mod watchdog;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use slots::Guid;

use crate::boot::{clock, marks};
use cmdline::{CommandLine, Verity};
use console::{Level, chain, give_up, say};
use disk::{Disk, DiskError, Wanted};
use watchdog::{FD_VARIABLE, Watchdog, feed};

/// The list of modules exists in the initramfs only.
const MODULE_LIST: &str = "/lib/modules/load";
/// How long the disk may take to appear after its driver was loaded: spinning disks behind a controller take ten seconds,
/// and the watchdog (60 s) must not strike first, so that the reason is on the console.
const DISK_LIMIT: Duration = Duration::from_secs(40);
/// Present when `/var` is volatile; holds the reason.
pub const VOLATILE_FLAG: &str = "/run/ferrite/volatile-state";
/// Holds the kernel's name of the disk with the running slot (`vda`). Programs of the running system take this disk and no other:
/// slots of different disks may have the same PARTUUID, and the disk GUID changes at first boot (SAFETY 6).
pub const DISK_NAME: &str = "/run/ferrite/disk";
/// Problems of this stage that belong on the login screen, one a line.
pub const WARNINGS: &str = "/run/ferrite/early-warnings";

/// Why the boot cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EarlyError {
    /// The command line lacks what the loader and the builder put there.
    #[error("kernel command line has no usable {0}=")]
    Missing(&'static str),
    /// The kernel's trees.
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    /// The disk with the slot.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It never came.
    #[error("no disk has {wanted} after {} seconds; disks: {seen}", limit.as_secs())]
    NoDisk {
        /// What was booted from.
        wanted: Wanted,
        /// How long it was waited for.
        limit: Duration,
        /// Names of the disks that are there.
        seen: String,
    },
    /// Waiting failed.
    #[error("cannot listen for devices")]
    Uevent(#[source] io::Error),
    /// The slot is not on the disk.
    #[error("disk {disk} has no partition {slot}")]
    NoSlot {
        /// Name of the disk.
        disk: String,
        /// PARTUUID that the loader chose.
        slot: Guid,
    },
    /// dm-verity.
    #[error(transparent)]
    Verity(#[from] verity::VerityError),
    /// The new root.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// Not even a tmpfs for `/var`.
    #[error("no /var at all")]
    NoVar(#[source] state::StateError),
    /// The image's own init does not start.
    #[error("cannot execute {}", crate::INIT_PATH)]
    Exec(#[source] io::Error),
}

/// Whether this process is PID 1 of the initramfs.
pub fn is_initramfs() -> bool {
    Path::new(MODULE_LIST).exists()
}

/// Runs the stage. Does not return: it ends in the image's init, or in a reboot.
pub fn run() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        say(Level::Emergency, format_args!("BOOT FAILED: {panic}"));
    }));
    let Err(error) = stage();
    give_up(&chain(&error))
}

fn stage() -> Result<std::convert::Infallible, EarlyError> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    mounts::mount_kernel_trees(Path::new("/"))?;
    mounts::mount_virtual("tmpfs", Path::new("/run"), mounts::harmless(), c"mode=0755")?;
    console::unlimit();
    marks::begin();
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let line = CommandLine::parse(&text);
    for problem in &line.problems {
        say(Level::Warning, format_args!("malformed on the kernel command line: {problem}"));
    }
    let events = uevent::Uevents::open().map_err(EarlyError::Uevent)?;
    let mut watchdog = modules::load_all(&text);
    if let Some(image) = &line.image {
        clock::apply_floor(image.build_time);
    }
    let slot = line.slot.ok_or(EarlyError::Missing("ferrite.slot"))?;
    let verity = line.verity.as_ref().ok_or(EarlyError::Missing("ferrite.verity"))?;
    let wanted = line.disk.map_or(Wanted::Slot(slot), Wanted::Disk);
    let (disk, node) = find_slot(&events, wanted, slot)?;
    note(DISK_NAME, &disk);
    feed(&mut watchdog);
    let root = Path::new(root::SYSROOT);
    mount_slot(root, &node, verity)?;
    marks::record("usr");
    feed(&mut watchdog);
    bring_up_state(&disk, root, &mut watchdog)?;
    root::mount_etc(root);
    feed(&mut watchdog);
    enter(root, watchdog)
}

/// Waits for the disk and returns its name and the slot's device.
fn find_slot(events: &uevent::Uevents, wanted: Wanted, slot: Guid) -> Result<(String, PathBuf), EarlyError> {
    let deadline = Instant::now() + DISK_LIMIT;
    let mut disk = loop {
        // Looked for before each wait: the events that count may have come before this call.
        if let Some(disk) = disk::find(wanted)? {
            break disk;
        }
        if !events.wait_for_block(deadline).map_err(EarlyError::Uevent)? {
            let seen = disk::whole_disks()?.join(" ");
            return Err(EarlyError::NoDisk { wanted, limit: DISK_LIMIT, seen });
        }
    };
    let number = slot_number(&mut disk, slot)?;
    // The table was read by us a moment ago, the kernel's partition devices may still be on their way.
    let node = loop {
        match disk::partition_node(disk.name(), number) {
            Ok(node) => break node,
            Err(error) => {
                if !events.wait_for_block(deadline).map_err(EarlyError::Uevent)? {
                    return Err(error.into());
                }
            }
        }
    };
    Ok((disk.name().to_owned(), node))
}

fn slot_number(disk: &mut Disk, slot: Guid) -> Result<u32, EarlyError> {
    let (_, table) = disk.load()?;
    let found = table.find_unique(slot).and_then(|(index, _)| u32::try_from(index + 1).ok());
    found.ok_or_else(|| EarlyError::NoSlot { disk: disk.name().to_owned(), slot })
}

fn mount_slot(root: &Path, node: &Path, verity: &Verity) -> Result<(), EarlyError> {
    let device = verity::open(node, verity)?;
    root::create(root)?;
    Ok(root::mount_usr(root, &device)?)
}

/// Mounts STATE, or a volatile `/var` in its place, with as much noise as there can be (SAFETY 22).
fn bring_up_state(disk: &str, root: &Path, watchdog: &mut Option<Watchdog>) -> Result<(), EarlyError> {
    let Err(error) = state::bring_up(disk, root, watchdog) else { return Ok(()) };
    let reason = chain(&error);
    say(Level::Emergency, format_args!("STATE is not usable: {reason}"));
    say(Level::Emergency, "/var is VOLATILE: everything written in this boot is lost at the next");
    note(VOLATILE_FLAG, &reason);
    note(WARNINGS, &format!("STATE is not usable, /var is volatile: {reason}"));
    // A half-mounted STATE would hide below the tmpfs.
    let target = root.join("var");
    if rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH).is_ok() {
        say(Level::Notice, "unmounted the unusable STATE");
    }
    state::volatile(root).map_err(EarlyError::NoVar)
}

fn note(path: &str, text: &str) {
    if let Err(error) = std::fs::write(path, format!("{text}\n")) {
        say(Level::Error, format_args!("cannot write {path}: {error}"));
    }
}

fn enter(root: &Path, watchdog: Option<Watchdog>) -> Result<std::convert::Infallible, EarlyError> {
    root::switch(root)?;
    let mut command = Command::new(crate::INIT_PATH);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin");
    if let Some(number) = watchdog.as_ref().and_then(Watchdog::survive) {
        command.env(FD_VARIABLE, number.to_string());
    }
    Err(EarlyError::Exec(command.exec()))
}
