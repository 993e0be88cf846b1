//! STATE: made at first boot, mounted, repaired, grown. Never formatted once its entry says `STATE` (SAFETY 21).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::MountFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use slots::{Entry, Guid, Loaded, Table};

use super::console::{Level, chain, say};
use super::disk::{Disk, DiskError, partition_node, size_of_node};
use super::ext4::Superblock;
use super::ext4::journal::{self, Restored};
use super::mounts::{Mount, MountError};
use super::root::{self, RootError};
use super::state_plan::{FreshGuids, Plan, plan, relabelled};
use super::watchdog::{Watchdog, feed};
use crate::sys::blk::{Change, change_partition};
use crate::sys::child::chrooted;

/// Longest check of a file system that the watchdog waits for: e2fsck reads about 1 TiB of metadata-heavy ext4 in that
/// time on a slow disk. After it the machine is reset, and the next boot goes on checking.
const CHECK_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How often the watchdog is fed while a tool runs: a sixth of its time.
const FEED_EVERY: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// What the tools said, for the log.
const TOOL_OUTPUT: &str = "/run/ferrite/state-tool.log";

/// Checks of a file system that does not mount, in this order. First the primary superblock and group descriptors are taken from
/// their backups: when a power cut has torn one of them, the journal has the right one, but a check that reads the torn one does
/// not find the journal, and deletes it with all that is in it (e2fsprogs 1.47.2, `-p` too). Then as `fsck` at boot does, then
/// answering yes. Answering yes comes twice: a run that begins with a backup superblock and a journal to replay may end in an error and
/// leave a primary superblock behind, with which the next one succeeds. Blocks are of 4 KiB, which is what we make.
const CHECKS: &[&[&str]] = &[
    &["-p", "-b", "32768", "-B", "4096"],
    &["-p"],
    &["-f", "-y", "-b", "32768", "-B", "4096"],
    &["-f", "-y"],
    &["-f", "-y"],
    &["-f", "-y", "-b", "98304", "-B", "4096"],
];

/// The check before those when the journal's superblock was made again: its log is replayed from further back than need be.
const FULL_CHECK: &[&str] = &["-f", "-p"];

/// How STATE is made: tables and journal are zeroed later by the kernel, the disk is not discarded block by block, and the
/// journal has room for what etcd and a container runtime write, not for a file server.
const MKFS: &[&str] = &[
    "-q",
    "-F",
    "-t",
    "ext4",
    "-L",
    "STATE",
    "-b",
    "4096",
    "-m",
    "1",
    "-J",
    "size=32",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard,packed_meta_blocks=1",
];

/// Why there is no STATE in this boot.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk or its table.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No place for it.
    #[error("no room for STATE: {free} bytes are free behind the last partition")]
    NoRoom {
        /// Bytes.
        free: u64,
    },
    /// The table has no entry where the plan put one.
    #[error("partition table lost entry {index}")]
    Lost {
        /// Index from 0.
        index: usize,
    },
    /// The kernel was not told.
    #[error("kernel did not take partition {number}")]
    Partition {
        /// Number from 1.
        number: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A tool of the image could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Its path in the image.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A tool of the image failed.
    #[error("{program} failed with {status}: {said}")]
    Tool {
        /// Its path in the image.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// The last line that it wrote.
        said: String,
    },
    /// The file system.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its folders.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Making the fresh file system durable.
    #[error("cannot sync the new STATE")]
    Sync(#[source] io::Error),
}

/// Makes STATE ready and mounts it on `root/var`.
///
/// # Errors
/// [`StateError`]: the caller boots with a volatile `/var` (SAFETY 22).
pub fn bring_up(disk: &str, root: &Path, watchdog: &mut Option<Watchdog>) -> Result<(), StateError> {
    let mut disk = Disk::open_locked(disk)?;
    let (mut loaded, mut table) = disk.load()?;
    if !loaded.is_at_end() {
        say(
            Level::Notice,
            format_args!("{} has grown: moving the backup partition table to its end", disk.name()),
        );
        if let Err(error) = disk.grow(&mut loaded) {
            // An existing STATE is usable all the same; a new one is refused by the table's own rules.
            say(Level::Error, chain(&error));
        }
        (loaded, table) = disk.load()?;
    }
    let target = root.join("var");
    match plan(&table, loaded.geometry(), fresh_guids()) {
        Plan::NoRoom { free } => Err(StateError::NoRoom { free }),
        Plan::Create { table, index } => {
            disk.commit(&mut loaded, &table)?;
            tell_kernel(&disk, &loaded, &table, index, Change::Add)?;
            format_and_commit(&mut disk, &mut loaded, &table, index, root, watchdog)
        }
        Plan::Format { table: longer, index } => {
            say(Level::Notice, "an earlier first boot was cut short: formatting STATE-NEW again");
            let table = lengthen(&mut disk, &mut loaded, table, longer, index)?;
            format_and_commit(&mut disk, &mut loaded, &table, index, root, watchdog)
        }
        Plan::Use { table: longer, index } => {
            if let Err(error) = lengthen(&mut disk, &mut loaded, table, longer, index) {
                say(Level::Error, format_args!("STATE keeps its size: {}", chain(&error)));
            }
            let node = partition_node(disk.name(), number_of(index))?;
            // Nothing below needs the table: a check may take long, and others may want the lock.
            drop(disk);
            mount_or_repair(&node, &target, root, watchdog)?;
            grow_file_system(&node, &target);
            Ok(root::prepare_var(&target)?)
        }
    }
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

fn fresh_guids() -> FreshGuids {
    FreshGuids { disk: Guid::from_random(random()), state: Guid::from_random(random()) }
}

fn random() -> [u8; 16] {
    let mut bytes = [0_u8; 16];
    if let Err(error) = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        say(Level::Error, format_args!("no random numbers: {error}"));
    }
    bytes
}

/// Writes the longer table, if there is one, and tells the kernel.
fn lengthen(
    disk: &mut Disk,
    loaded: &mut Loaded,
    table: Table,
    longer: Option<Box<Table>>,
    index: usize,
) -> Result<Table, StateError> {
    let Some(longer) = longer else { return Ok(table) };
    say(Level::Notice, "lengthening STATE to the end of the disk");
    disk.commit(loaded, &longer)?;
    tell_kernel(disk, loaded, &longer, index, Change::Resize)?;
    Ok(*longer)
}

fn tell_kernel(
    disk: &Disk,
    loaded: &Loaded,
    table: &Table,
    index: usize,
    change: Change,
) -> Result<(), StateError> {
    use std::os::fd::AsFd;
    let entry: Entry = table.entry(index).filter(Entry::is_used).ok_or(StateError::Lost { index })?;
    let block = u64::from(loaded.geometry().block_size);
    let (start, length) = (entry.first_block() * block, entry.blocks() * block);
    let number = number_of(index);
    change_partition(disk.file().as_fd(), change, number, start, length)
        .map_err(|source| StateError::Partition { number, source })
}

/// Formats the partition, mounts and fills it, makes all of it durable, and only then calls it STATE.
fn format_and_commit(
    disk: &mut Disk,
    loaded: &mut Loaded,
    table: &Table,
    index: usize,
    root: &Path,
    watchdog: &mut Option<Watchdog>,
) -> Result<(), StateError> {
    let node = partition_node(disk.name(), number_of(index))?;
    let mut arguments = MKFS.to_vec();
    let node_text = node.to_string_lossy();
    arguments.push(&node_text);
    run_tool(root, "/usr/sbin/mkfs.ext4", &arguments, watchdog, |code| code == 0)?;
    File::open(&node).and_then(|device| device.sync_all()).map_err(StateError::Sync)?;
    let target = root.join("var");
    mount_ext4(&node, &target)?;
    root::prepare_var(&target)?;
    let sync = File::open(&target).and_then(|var| rustix::fs::syncfs(&var).map_err(io::Error::from));
    sync.map_err(StateError::Sync)?;
    let ready = relabelled(table, index).ok_or(StateError::Lost { index })?;
    disk.commit(loaded, &ready)?;
    say(Level::Notice, format_args!("STATE is {}", node.display()));
    Ok(())
}

fn mount_ext4(node: &Path, target: &Path) -> Result<(), MountError> {
    // Read-only after an inconsistency: the next boot's check repairs it, and nothing makes it worse until then.
    let options = c"errors=remount-ro";
    Mount { source: node, target, kind: "ext4", flags: MountFlags::empty(), options }.perform()
}

fn mount_or_repair(
    node: &Path,
    target: &Path,
    root: &Path,
    watchdog: &mut Option<Watchdog>,
) -> Result<(), StateError> {
    let doubtful = Superblock::read(node).ok().flatten().is_none_or(|superblock| superblock.has_errors);
    let mut last = if doubtful {
        say(Level::Warning, format_args!("STATE ({}) needs a check", node.display()));
        None
    } else {
        match mount_ext4(node, target) {
            Ok(()) => return Ok(()),
            Err(error) => {
                say(Level::Error, format_args!("STATE does not mount, checking it: {}", chain(&error)));
                Some(StateError::from(error))
            }
        }
    };
    let restored = restored_journal(node);
    if restored == Restored::Inode && !doubtful {
        match mount_ext4(node, target) {
            Ok(()) => {
                say(Level::Notice, "STATE mounts with its journal back");
                return Ok(());
            }
            Err(error) => last = Some(StateError::from(error)),
        }
    }
    let full = (restored == Restored::Superblock).then_some(&FULL_CHECK);
    let node_text = node.to_string_lossy();
    for options in full.into_iter().chain(CHECKS) {
        let mut arguments = options.to_vec();
        arguments.push(&node_text);
        // Bits 1 and 2: errors corrected, reboot advised (only for a mounted file system).
        let checked = run_tool(root, "/usr/sbin/e2fsck", &arguments, watchdog, |code| code & !3 == 0);
        let outcome = checked.and_then(|()| mount_ext4(node, target).map_err(StateError::from));
        match outcome {
            Ok(()) => {
                say(Level::Notice, format_args!("STATE mounts after e2fsck {}", options.join(" ")));
                return Ok(());
            }
            Err(error) => {
                say(
                    Level::Error,
                    format_args!("STATE after e2fsck {}: {}", options.join(" "), chain(&error)),
                );
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or(StateError::Lost { index: 0 }))
}

/// Puts back what finds the journal and reads it (SAFETY 21): a check that does not find a journal deletes it.
fn restored_journal(node: &Path) -> Restored {
    let device = OpenOptions::new().read(true).write(true).open(node);
    match device.and_then(|device| journal::restore(&device)) {
        Ok(restored) => {
            let what = match restored {
                Restored::Inode => {
                    "the inode of STATE's journal was torn; it is back from the superblock's copy"
                }
                Restored::Superblock => {
                    "the superblock of STATE's journal was torn; it is back from the transactions in the log"
                }
                Restored::Whole | Restored::Unknown => return restored,
            };
            say(Level::Warning, what);
            restored
        }
        Err(error) => {
            say(Level::Error, format_args!("cannot look at the journal of STATE: {error}"));
            Restored::Unknown
        }
    }
}

/// Lets the mounted file system fill its partition. The kernel does this for any ext4, and a failure costs nothing but room.
fn grow_file_system(node: &Path, target: &Path) {
    let wanted = || -> Result<Option<u64>, DiskError> {
        let bytes = size_of_node(node)?;
        Ok(Superblock::read(node).ok().flatten().and_then(|superblock| superblock.growth(bytes)))
    };
    let blocks = match wanted() {
        Ok(Some(blocks)) => blocks,
        Ok(None) => return,
        Err(error) => {
            return say(Level::Warning, format_args!("size of STATE is unknown: {}", chain(&error)));
        }
    };
    let grown = File::open(target).and_then(|var| Ok(rustix::fs::ext4_ioc_resize_fs(&var, blocks)?));
    match grown {
        Ok(()) => say(Level::Notice, format_args!("STATE grown to {blocks} blocks")),
        Err(error) => say(Level::Warning, format_args!("cannot grow STATE to {blocks} blocks: {error}")),
    }
}

/// Runs a tool of the image and waits for it, feeding the watchdog up to [`CHECK_LIMIT`].
fn run_tool(
    root: &Path,
    program: &'static str,
    arguments: &[&str],
    watchdog: &mut Option<Watchdog>,
    accepts: impl Fn(i32) -> bool,
) -> Result<(), StateError> {
    let failed = |source| StateError::Run { program, source };
    let output = OpenOptions::new().create(true).append(true).open(TOOL_OUTPUT).map_err(failed)?;
    let mut child = chrooted(root, program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output)
        .spawn()
        .map_err(failed)?;
    let pidfd =
        pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
    let begun = Instant::now();
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&FEED_EVERY));
        if begun.elapsed() < CHECK_LIMIT {
            feed(watchdog);
        }
        if !matches!(ready, Ok(0) | Err(rustix::io::Errno::INTR)) {
            break;
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.code().is_some_and(accepts) {
        return Ok(());
    }
    let said = std::fs::read_to_string(TOOL_OUTPUT).unwrap_or_default();
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("(nothing)").trim().to_owned();
    Err(StateError::Tool { program, status: status.to_string(), said })
}

/// A `/var` that lasts until the machine goes down.
///
/// # Errors
/// [`StateError`]: not even that is possible.
pub fn volatile(root: &Path) -> Result<(), StateError> {
    let target: PathBuf = root.join("var");
    super::mounts::mount_virtual("tmpfs", &target, super::mounts::harmless(), c"mode=0755")?;
    Ok(root::prepare_var(&target)?)
}
