//! Giving back what holds disks: mounts, swaps, loop devices, mappings of the device mapper.
//!
//! Each may hold another (a loop device its file's file system, a file system its mapping), so what the kernel tells is looked
//! at anew after each round, until nothing is left or nothing moves. What is to be done is worked out by [`plan`] alone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

use super::{limited, say};
use crate::early::verity;
use crate::sys::blk;

/// How long one step may take: an unmount writes the journal of its file system.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long is waited without anything moving. The kernel may still be taking apart what killed processes had.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all of it may take: with the last sync it stays below the watchdog's 60 s.
const LIMIT: Duration = Duration::from_secs(40);
/// Between two rounds in which nothing moves.
const PAUSE: Duration = Duration::from_millis(50);

/// File systems without a disk behind them, which nobody misses.
const KERNEL_KINDS: [&str; 12] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "ramfs",
    "rootfs",
    "cgroup2",
    "securityfs",
    "efivarfs",
    "pstore",
    "bpf",
];
/// File systems whose other end may be gone with the network or with a process: they are detached, not waited for.
const REMOTE_KINDS: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "virtiofs"];

/// What is to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything; all mounts at and below a folder.
    Below(&'static str),
    /// File systems with a disk behind them, but `/` and `/usr`, which this program runs from.
    Disks,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    point: String,
    kind: String,
}

impl Mounted {
    fn is_remote(&self) -> bool {
        REMOTE_KINDS.contains(&self.kind.as_str()) || self.kind.starts_with("fuse")
    }

    fn has_disk(&self) -> bool {
        !KERNEL_KINDS.contains(&self.kind.as_str())
    }
}

/// What is still held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    /// In the order of the kernel's table.
    mounts: Vec<Mounted>,
    /// Paths of devices and files.
    swaps: Vec<String>,
    /// `loop0`
    loops: Vec<String>,
    /// Minor numbers and names.
    mappings: Vec<(u32, String)>,
}

impl Held {
    fn observe(scope: Scope) -> Held {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut held = Held { mounts: mounts(&table, scope), ..Held::default() };
        if scope == Scope::Disks {
            return held;
        }
        held.swaps = swaps(&fs::read_to_string("/proc/swaps").unwrap_or_default());
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let (name, folder) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            if let Some(minor) = name.strip_prefix("dm-").and_then(|minor| minor.parse().ok()) {
                let mapping = fs::read_to_string(folder.join("dm/name")).unwrap_or_default();
                held.mappings.push((minor, mapping.trim_end_matches('\n').to_owned()));
            } else if folder.join("loop/backing_file").exists() {
                held.loops.push(name);
            }
        }
        held
    }

    fn is_empty(&self) -> bool {
        *self == Held::default()
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Unmount { point: String, detached: bool },
    SwapOff(String),
    DetachLoop(String),
    RemoveMapping(String),
}

/// One round, in its order: the deepest mounts first, of those at one point the last; the youngest mapping first, which may lie
/// on an older one.
fn plan(held: &Held) -> Vec<Step> {
    let depth = |mount: &Mounted| mount.point.split('/').filter(|part| !part.is_empty()).count();
    let mut mounts: Vec<&Mounted> = held.mounts.iter().rev().collect();
    mounts.sort_by_key(|mount| std::cmp::Reverse(depth(mount)));
    let mut mappings = held.mappings.clone();
    mappings.sort_unstable_by(|one, other| other.cmp(one));
    let unmounts = mounts
        .into_iter()
        .map(|mount| Step::Unmount { point: mount.point.clone(), detached: mount.is_remote() });
    let swaps = held.swaps.iter().cloned().map(Step::SwapOff);
    let loops = held.loops.iter().cloned().map(Step::DetachLoop);
    let mappings = mappings.into_iter().map(|(_, name)| Step::RemoveMapping(name));
    unmounts.chain(swaps).chain(loops).chain(mappings).collect()
}

impl Step {
    fn perform(&self) -> io::Result<()> {
        match self {
            Step::Unmount { point, detached } => {
                let mut flags = UnmountFlags::NOFOLLOW;
                flags.set(UnmountFlags::DETACH, *detached);
                Ok(unmount(point.as_str(), flags)?)
            }
            Step::SwapOff(path) => blk::swap_off(path),
            Step::DetachLoop(name) => blk::detach_loop(File::open(Path::new("/dev").join(name))?.as_fd()),
            Step::RemoveMapping(name) => verity::remove(name),
        }
    }
}

/// What was given back, for the console.
#[derive(Debug, Default, PartialEq, Eq)]
struct Released {
    mounts: usize,
    swaps: usize,
    loops: usize,
    mappings: Vec<String>,
}

impl Released {
    fn count(&mut self, step: Step) {
        match step {
            Step::Unmount { .. } => self.mounts += 1,
            Step::SwapOff(_) => self.swaps += 1,
            Step::DetachLoop(_) => self.loops += 1,
            Step::RemoveMapping(name) => self.mappings.push(name),
        }
    }

    /// `Unmounted 21 file systems, detached 1 loop device, removed device-mapper usr`
    fn text(&self) -> String {
        let number =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let mut text = format!("Unmounted {}", number(self.mounts, "file system"));
        if self.swaps > 0 {
            text += &format!(", switched off {}", number(self.swaps, "swap"));
        }
        if self.loops > 0 {
            text += &format!(", detached {}", number(self.loops, "loop device"));
        }
        if !self.mappings.is_empty() {
            text += &format!(", removed device-mapper {}", self.mappings.join(" "));
        }
        text
    }
}

/// Gives everything back that can be, and tells the console; what stays mounted is at least made read-only.
pub fn all(scope: Scope) {
    let end = Instant::now() + LIMIT;
    let mut until = Instant::now() + PATIENCE;
    let mut released = Released::default();
    // Steps that hung once are not tried again.
    let mut hung = BTreeSet::new();
    let held = loop {
        let held = Held::observe(scope);
        let steps: Vec<Step> = plan(&held).into_iter().filter(|step| !hung.contains(step)).collect();
        let mut moves = false;
        for step in steps {
            if Instant::now() >= end {
                break;
            }
            match limited::run(STEP_LIMIT, &mut || false, || step.perform()) {
                Ok(()) => {
                    moves = true;
                    released.count(step);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => drop(hung.insert(step)),
                // In use: by what comes later in this round, or by what the kernel has not buried yet.
                Err(_) => {}
            }
        }
        if held.is_empty() || Instant::now() >= end || (!moves && Instant::now() >= until) {
            break held;
        }
        if moves {
            until = Instant::now() + PATIENCE;
        } else {
            std::thread::sleep(PAUSE);
        }
    };
    say(&released.text());
    tell_left(&held);
}

/// What nobody could give back.
fn tell_left(held: &Held) {
    for mount in held.mounts.iter().rev() {
        if !mount.has_disk() || mount.is_remote() {
            say(&format!("{} ({}) is in use", mount.point, mount.kind));
            continue;
        }
        let made = limited::run(STEP_LIMIT / 2, &mut || false, || {
            Ok(mount_remount(mount.point.as_str(), MountFlags::RDONLY, c"")?)
        });
        match made {
            Ok(()) => say(&format!("{} is in use, made read-only", mount.point)),
            Err(error) => say(&format!("{} is in use and cannot be made read-only: {error}", mount.point)),
        }
    }
    let devices = held.swaps.iter().chain(&held.loops).chain(held.mappings.iter().map(|(_, name)| name));
    for device in devices {
        say(&format!("{device} is in use"));
    }
}

/// The mounts of a scope: proc_pid_mountinfo(5).
fn mounts(table: &str, scope: Scope) -> Vec<Mounted> {
    let mut all = Vec::new();
    for line in table.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let kind = after.split(' ').next().unwrap_or("").to_owned();
        let Some(point) = before.split(' ').nth(4) else { continue };
        let mount = Mounted { point: unescape(point), kind };
        let wanted = match scope {
            Scope::Below(folder) => Path::new(&mount.point).starts_with(folder),
            Scope::Disks => mount.has_disk() && !["/", "/usr"].contains(&mount.point.as_str()),
        };
        if wanted {
            all.push(mount);
        }
    }
    all
}

/// Paths in proc_swaps(5), behind a line of titles.
fn swaps(table: &str) -> Vec<String> {
    table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).map(unescape).collect()
}

/// Octal escapes of the kernel's tables: space, tab, newline, backslash.
pub fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
20 1 0:19 / / rw - tmpfs shutdown rw
21 20 0:19 / /oldroot/run rw,nosuid - tmpfs tmpfs rw
22 20 0:20 / /oldroot ro - tmpfs tmpfs ro
23 22 254:0 / /oldroot/usr ro,relatime - erofs /dev/dm-0 ro
24 22 254:5 / /oldroot/var rw,relatime - ext4 /dev/vda5 rw
25 22 0:30 / /oldroot/etc rw - overlay overlay rw,lowerdir=/usr/etc
26 24 7:0 / /oldroot/var/lib/a\\040b rw - ext4 /dev/loop0 rw
27 24 0:50 / /oldroot/var/share rw - nfs4 server:/ rw
28 24 0:51 / /oldroot/var/share rw - fuse.sshfs s: rw
29 20 0:5 / /oldroots rw - devtmpfs dev rw
malformed
";

    #[test]
    fn the_deepest_mounts_go_first_and_of_two_at_one_point_the_upper_one() {
        let held = Held {
            mounts: mounts(TABLE, Scope::Below("/oldroot")),
            swaps: swaps("Filename Type Size\n/var/a\\040swap file 1\n"),
            loops: vec!["loop0".to_owned()],
            mappings: vec![(0, "usr".to_owned()), (10, "data".to_owned()), (9, "below".to_owned())],
        };
        let step = |point: &str, detached| Step::Unmount { point: point.to_owned(), detached };
        let want = [
            step("/oldroot/var/lib/a b", false),
            step("/oldroot/var/share", true),
            step("/oldroot/var/share", true),
            step("/oldroot/etc", false),
            step("/oldroot/var", false),
            step("/oldroot/usr", false),
            step("/oldroot/run", false),
            step("/oldroot", false),
            Step::SwapOff("/var/a swap".to_owned()),
            Step::DetachLoop("loop0".to_owned()),
            Step::RemoveMapping("data".to_owned()),
            Step::RemoveMapping("below".to_owned()),
            Step::RemoveMapping("usr".to_owned()),
        ];
        assert_eq!(plan(&held), want);
        assert!(plan(&Held::default()).is_empty());
    }

    #[test]
    fn without_a_new_root_only_disks_are_given_back_and_not_the_one_below_us() {
        let table = TABLE.replace("/oldroot/", "/");
        let points: Vec<String> = mounts(&table, Scope::Disks).into_iter().map(|mount| mount.point).collect();
        assert_eq!(points, ["/var", "/etc", "/var/lib/a b", "/var/share", "/var/share"]);
    }

    #[test]
    fn the_console_is_told_in_one_line() {
        let mut released = Released::default();
        let unmount = |point: &str| Step::Unmount { point: point.to_owned(), detached: false };
        released.count(unmount("/a"));
        assert_eq!(released.text(), "Unmounted 1 file system");
        released.count(unmount("/b"));
        released.count(Step::DetachLoop("loop0".to_owned()));
        released.count(Step::SwapOff("/c".to_owned()));
        released.count(Step::RemoveMapping("usr".to_owned()));
        assert_eq!(
            released.text(),
            "Unmounted 2 file systems, switched off 1 swap, detached 1 loop device, removed device-mapper usr"
        );
    }
}
