//! `DevicePolicy=` and `DeviceAllow=`: a program in the kernel that is asked at each use of a device node.
//!
//! The program is attached to the unit's control group, so that it holds for whatever the unit starts.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use image_config::unit::{DevicePolicy, DeviceRule, ResourceControl, Sandbox};
use rustix::fs::{Mode, OFlags};

use crate::boot::glob;
use crate::sys::bpf::{self, DeviceAccess, DeviceKind};

/// What `DevicePolicy=closed` leaves open, systemd.resource-control(5).
const STANDARD: [(u32, Option<u32>); 8] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(2)), // ptmx
    (136, None),  // pts
];

/// The policy in force: `PrivateDevices=` closes the rest, and so does any `DeviceAllow=`; `ProtectClock=` adds clocks.
fn policy(control: &ResourceControl, sandbox: &Sandbox) -> Option<(bool, Vec<DeviceRule>)> {
    let mut rules = control.device_allow.clone();
    if sandbox.protect_clock {
        let clocks = DeviceRule { device: "char-rtc".to_owned(), read: true, write: false, make: false };
        rules.push(clocks);
    }
    match control.device_policy {
        DevicePolicy::Strict => Some((false, rules)),
        DevicePolicy::Closed => Some((true, rules)),
        DevicePolicy::Auto if sandbox.private_devices || !rules.is_empty() => Some((true, rules)),
        DevicePolicy::Auto => None,
    }
}

/// A program and the group that it is for.
#[derive(Debug)]
pub(super) struct Restriction {
    group: OwnedFd,
    program: Vec<bpf::Instruction>,
}

impl Restriction {
    /// What the settings ask for, if anything.
    pub fn plan(control: &ResourceControl, sandbox: &Sandbox, group: Option<&Path>) -> Option<Restriction> {
        let (standard, rules) = policy(control, sandbox)?;
        let group =
            rustix::fs::open(group?, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .ok()?;
        let classes = fs::read_to_string("/proc/devices").unwrap_or_default();
        let open = |(major, minor)| DeviceAccess {
            kind: DeviceKind::Character,
            major: Some(major),
            minor,
            read: true,
            write: true,
            make: true,
        };
        let mut allowed: Vec<DeviceAccess> = if standard { STANDARD.map(open).to_vec() } else { Vec::new() };
        allowed.extend(rules.iter().flat_map(|rule| resolve(rule, &classes)));
        Some(Restriction { group, program: bpf::device_program(&allowed) })
    }

    /// Lets the program hold from now on. A kernel without it enforces nothing, as under systemd.
    pub fn attach(self) {
        let _not_in_this_kernel = bpf::restrict_devices(self.group.as_fd(), &self.program);
    }
}

/// A rule as numbers; a device or class that is not there is none.
fn resolve(rule: &DeviceRule, classes: &str) -> Vec<DeviceAccess> {
    let access = |kind, major, minor| DeviceAccess {
        kind,
        major,
        minor,
        read: rule.read,
        write: rule.write,
        make: rule.make,
    };
    let class = [("char-", DeviceKind::Character), ("block-", DeviceKind::Block)]
        .into_iter()
        .find_map(|(prefix, kind)| Some((kind, rule.device.strip_prefix(prefix)?)));
    if let Some((kind, pattern)) = class {
        if pattern == "*" {
            return vec![access(kind, None, None)];
        }
        return majors(classes, kind, pattern)
            .into_iter()
            .map(|major| access(kind, Some(major), None))
            .collect();
    }
    let Ok(found) = fs::metadata(&rule.device) else { return Vec::new() };
    let kind = match found.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return Vec::new(),
    };
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    vec![access(kind, Some(major), Some(minor))]
}

/// Major numbers of the classes in `/proc/devices` that match a pattern, or the number that the pattern is.
fn majors(classes: &str, wanted: DeviceKind, pattern: &str) -> Vec<u32> {
    if let Ok(number) = pattern.parse() {
        return vec![number];
    }
    let mut kind = None;
    let mut found = Vec::new();
    for line in classes.lines() {
        match line {
            "Character devices:" => kind = Some(DeviceKind::Character),
            "Block devices:" => kind = Some(DeviceKind::Block),
            line if kind == Some(wanted) => {
                if let Some((number, name)) = line.trim().split_once(' ')
                    && glob::matches(pattern.as_bytes(), name.as_bytes())
                {
                    found.extend(number.parse::<u32>().ok());
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: &str = "Character devices:\n  1 mem\n  4 tty\n  4 ttyS\n248 pps\n249 ptp\n\nBlock devices:\n  8 sd\n249 virtblk\n";

    fn rule(device: &str) -> DeviceRule {
        DeviceRule { device: device.to_owned(), read: true, write: false, make: false }
    }

    #[test]
    fn classes_are_found_by_name_and_pattern() {
        assert_eq!(majors(CLASSES, DeviceKind::Character, "pps"), [248]);
        assert_eq!(majors(CLASSES, DeviceKind::Block, "virt*"), [249]);
        assert_eq!(majors(CLASSES, DeviceKind::Character, "tty*"), [4, 4]);
        assert_eq!(majors(CLASSES, DeviceKind::Character, "13"), [13]);
        assert!(majors(CLASSES, DeviceKind::Block, "pps").is_empty());
        let null = &resolve(&rule("/dev/null"), CLASSES)[0];
        assert_eq!((null.kind, null.major, null.minor), (DeviceKind::Character, Some(1), Some(3)));
        assert!(resolve(&rule("/dev/none-such"), CLASSES).is_empty());
    }

    #[test]
    fn other_settings_close_devices_too() {
        let control = ResourceControl::default();
        assert_eq!(policy(&control, &Sandbox::default()), None);
        let private = Sandbox { private_devices: true, ..Sandbox::default() };
        assert_eq!(policy(&control, &private), Some((true, Vec::new())));
        let clock = Sandbox { protect_clock: true, ..Sandbox::default() };
        assert_eq!(policy(&control, &clock), Some((true, vec![rule("char-rtc")])));
        let strict = ResourceControl { device_policy: DevicePolicy::Strict, ..control };
        assert_eq!(policy(&strict, &Sandbox::default()), Some((false, Vec::new())));
    }
}
