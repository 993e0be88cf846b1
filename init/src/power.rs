//! The last steps of a shutdown, after all units have stopped: ending what is left, giving back the disks, reboot(2).

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::RebootCommand;

use crate::boot::entropy;
use crate::supervisor::PowerAction;
use crate::sys::signals;

/// How long processes outside all units may take after SIGTERM. They had no stop command to begin with.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may take to bury them after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// Rounds of unmounting: each may free what is mounted below.
const UNMOUNT_ROUNDS: usize = 8;

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

/// Ends all processes, unmounts what is on disk and takes the machine down. PID 1 itself runs from `/usr`, which is
/// read-only by nature (dm-verity), so that it alone may stay mounted.
pub fn finish(action: PowerAction) -> ! {
    end_processes();
    // What this boot has gathered is worth more than the seed that it began with.
    if let Err(error) = entropy::save(entropy::Durability::Now) {
        say(&format!("the random seed stays the old one: {error}"));
    }
    rustix::fs::sync();
    unmount_disks();
    rustix::fs::sync();
    say(match action {
        PowerAction::PowerOff => "Powering off",
        PowerAction::Reboot => "Rebooting",
        PowerAction::Halt => "Halting",
    });
    if let Err(error) = rustix::system::reboot(command(action)) {
        say(&format!("reboot(2): {error}"));
    }
    // The end of PID 1 panics the kernel, and `panic=10` on the command line reboots.
    std::process::exit(1)
}

/// Takes the machine down without a sync and without ending anything: for those who ask for just that.
pub fn immediately(action: PowerAction) {
    if let Err(error) = rustix::system::reboot(command(action)) {
        say(&format!("reboot(2): {error}"));
    }
}

fn command(action: PowerAction) -> RebootCommand {
    match action {
        PowerAction::PowerOff => RebootCommand::PowerOff,
        PowerAction::Reboot => RebootCommand::Restart,
        PowerAction::Halt => RebootCommand::Halt,
    }
}

/// SIGTERM to everybody, a moment, SIGKILL to the rest.
fn end_processes() {
    for (signal, patience) in [(libc::SIGTERM, TERM_PATIENCE), (libc::SIGKILL, KILL_PATIENCE)] {
        if !others_are_left() {
            return;
        }
        signals::send_all(signal);
        signals::send_all(libc::SIGCONT);
        let until = Instant::now() + patience;
        while others_are_left() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a process of user space is left besides this one. Kernel threads have no executable.
fn others_are_left() -> bool {
    while signals::reap_any().is_some() {}
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().any(|pid| pid != 1 && fs::read_link(format!("/proc/{pid}/exe")).is_ok())
}

/// Unmounts everything with a disk behind it, deepest first; what is in use is at least made read-only.
fn unmount_disks() {
    for round in 0..UNMOUNT_ROUNDS {
        let points = disk_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        if points.is_empty() {
            return;
        }
        let mut progress = false;
        for point in points.iter().rev() {
            progress |= unmount(point.as_str(), UnmountFlags::NOFOLLOW).is_ok();
        }
        if !progress {
            if round > 0 || points.iter().all(|point| point == "/usr") {
                // Nothing moves any more: keep what is left from being written to.
                for point in points.iter().rev().filter(|point| *point != "/usr") {
                    match mount_remount(point.as_str(), MountFlags::RDONLY, c"") {
                        Ok(()) => say(&format!("{point} is in use, made read-only")),
                        Err(error) => {
                            say(&format!("{point} is in use and cannot be made read-only: {error}"))
                        }
                    }
                }
            }
            return;
        }
    }
}

/// Mount points of file systems on disks, in the order of mounting: proc_pid_mountinfo(5). The root and its like stay.
fn disk_mounts(mountinfo: &str) -> Vec<String> {
    let mut points = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let kind = after.split(' ').next().unwrap_or("");
        let Some(point) = before.split(' ').nth(4) else { continue };
        if point != "/" && !KERNEL_KINDS.contains(&kind) {
            points.push(unescape(point));
        }
    }
    points
}

/// Octal escapes of mountinfo: space, tab, newline, backslash.
pub fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn say(text: &str) {
    if let Ok(mut console) = fs::OpenOptions::new().write(true).open("/dev/console") {
        // There is nobody left to complain to.
        let _lost = console.write_all(format!("         {text}\r\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_with_a_disk_behind_them_are_unmounted_in_reverse_order() {
        let text = "\
21 1 0:20 / / ro - tmpfs tmpfs ro
22 21 0:21 / /proc rw,nosuid shared:1 - proc proc rw
23 21 254:0 / /usr ro,relatime - erofs /dev/dm-0 ro
24 21 254:5 / /var rw,relatime shared:5 - ext4 /dev/vda5 rw
25 21 0:30 / /etc rw - overlay overlay rw,lowerdir=/usr/etc
26 24 7:0 / /var/lib/a\\040b rw - ext4 /dev/loop0 rw
malformed
";
        assert_eq!(disk_mounts(text), ["/usr", "/var", "/etc", "/var/lib/a b"]);
    }
}
