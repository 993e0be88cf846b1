//! What the tests of the minimal image share.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ferrite_tests::{DiskFile, Guest, GuestOptions, Image};

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
/// The product of `recipes/minimal.yaml`, as the loader names it.
pub const MINIMAL: &str = "ferrite-minimal 0.1.0";

/// A machine of the minimal image: root is logged in, because the image has no sudo.
pub fn options(name: &'static str) -> GuestOptions {
    GuestOptions { login: Some("root"), memory_mib: 256, ..GuestOptions::named(name) }
}

/// A disk with the minimal image in both slots, of which A is fresh and B has the flags that are given.
pub fn disk_with_b(path: &Path, priority: u8, tries: u8, successful: bool) -> Result<DiskFile> {
    let mut disk = Image::minimal()?.disk(path, GIB)?;
    disk.copy_slot("USR-A", "USR-B")?;
    disk.set_flags("USR-B", priority, tries, successful)?;
    Ok(disk)
}

/// The PARTUUID of the slot that the loader chose, as the running system knows it.
pub fn running_slot(guest: &mut Guest) -> Result<String> {
    let line = guest.check("cat /proc/cmdline")?;
    let slot = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("ferrite.slot="));
    Ok(slot.unwrap_or_default().to_owned())
}

/// Waits until this boot has proved itself and its slot is marked.
pub fn wait_until_good(guest: &mut Guest) -> Result<()> {
    guest.check("systemctl start ferrite-mark-good.service")?;
    assert_eq!(guest.check("systemctl is-active boot-complete.target")?.trim(), "active");
    Ok(())
}

/// What a slot's flags say: tries left, and whether a boot was good.
pub fn tries(disk: &mut DiskFile, slot: &str) -> Result<(u8, bool)> {
    let flags = disk.flags(slot)?;
    Ok((flags.tries(), flags.successful()))
}

/// For a recipe: a service that `boot-complete.target` waits for, and that fails. Whoever takes it enables it.
pub fn failing_member(unit: &str) -> String {
    format!(
        "
files:
  - path: /usr/lib/systemd/system/{unit}
    content: |
      [Service]
      Type=oneshot
      ExecStart=/bin/false
      [Install]
      WantedBy=multi-user.target
"
    )
}

/// Waits for something outside a machine.
pub fn wait_for(mut done: impl FnMut() -> bool, what: &str) -> Result<()> {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > Duration::from_secs(240) {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
