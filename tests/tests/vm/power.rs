//! Down and up again in order: everything is given back, whatever holds on to it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use ferrite_tests::{DiskFile, Guest, GuestOptions, Image, Tools, scratch};
use qemu::Ending;

use crate::support::{GIB, options, wait_until_good};

/// What the console says when nothing of the disk is held any more.
const RELEASED: &str = "removed device-mapper usr";

/// Services that do not want to go.
const UNITS: [(&str, &str); 3] = [
    (
        "hung.service",
        "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000; done'\nTimeoutStopSec=3\n",
    ),
    (
        // Its unit leaves its processes alone; they are there until PID 1 ends everything that is left.
        "holder.service",
        "[Service]\nKillMode=none\nTimeoutStopSec=1\n\
         ExecStart=/bin/sh -c 'trap \"\" TERM HUP INT; exec 9>>/var/held; cd /var/lib; while :; do sleep 1000; done'\n",
    ),
    (
        // With mounts of its own.
        "private.service",
        "[Service]\nPrivateTmp=yes\nProtectSystem=strict\nReadWritePaths=/var\nExecStart=/bin/sleep 100000\n",
    ),
];

/// The file system of STATE was unmounted: nothing is to be recovered, nothing to be repaired.
fn state_is_clean(disk: &mut DiskFile, path: &Path) -> Result<()> {
    let place = format!("{}?offset={}", path.display(), disk.partition("STATE")?.start);
    let tools = Tools::of_packages(&["e2fsprogs"])?;
    let check = tools.command("e2fsck")?.args(["-f", "-n", &place]).output()?;
    ensure!(check.status.success(), "e2fsck: {}", String::from_utf8_lossy(&check.stdout));
    let header = tools.command("tune2fs")?.args(["-l", &place]).output()?;
    let text = String::from_utf8_lossy(&header.stdout);
    let state = text.lines().find_map(|line| line.strip_prefix("Filesystem state:"));
    ensure!(state.map(str::trim) == Some("clean") && !text.contains("needs_recovery"), "{text}");
    Ok(())
}

/// The console's last words: all is given back, or what is not and why.
fn everything_was_given_back(guest: &mut Guest) -> Result<String> {
    let console = guest.console_text();
    let line = console.lines().find(|line| line.contains(RELEASED)).map(str::to_owned);
    for sign in ["is in use", "too long", "cannot leave the root", "Kernel panic", "not everything"] {
        ensure!(!console.contains(sign), "{sign}: {}\n{}", guest.vm().console().tail(), guest.kept_log());
    }
    line.ok_or_else(|| anyhow::anyhow!("{}\n{}", guest.vm().console().tail(), guest.kept_log()))
}

#[test]
fn reboot_starts_again_and_the_power_button_ends_the_machine() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::minimal()?.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &options("power"))?;
    guest.expect("ferrite-boot: USR-A")?;
    guest.wait_for_shell()?;
    let first = guest.check("cat /proc/sys/kernel/random/boot_id")?;
    guest.check("echo not synced > /var/note")?;
    guest.vm().console().send("reboot\n")?;
    guest.expect(RELEASED)?;
    guest.expect("ferrite-boot: USR-A")?;
    guest.wait_for_shell()?;
    assert_ne!(guest.check("cat /proc/sys/kernel/random/boot_id")?, first);
    assert_eq!(guest.check("cat /var/note")?.trim(), "not synced");
    let console = guest.console_text();
    for sign in ["Kernel panic", "e2fsck", "recovering journal"] {
        assert!(!console.contains(sign), "the reboot was not clean: {sign}");
    }
    // The button's driver comes with coldplug, which a fast login may overtake.
    wait_until_good(&mut guest)?;
    let ending = guest.vm().powerdown(Duration::from_secs(120))?;
    assert_eq!(ending, Ending::Guest, "the power button\n{}", guest.kept_log());
    everything_was_given_back(&mut guest)?;
    assert!(disk.table_is_whole());
    state_is_clean(&mut disk, &path)
}

#[test]
fn what_holds_on_to_disks_does_not_keep_them() -> Result<()> {
    let recipe = Image::minimal_recipe("ferrite-power", |recipe| {
        let mut recipe =
            recipe.replacen("  modules:\n", "  modules:\n    - drivers/block/loop.ko*\n", 1) + "\nfiles:\n";
        for (name, content) in UNITS {
            // JSON is YAML.
            let file =
                serde_json::json!({ "path": format!("/etc/systemd/system/{name}"), "content": content });
            recipe.push_str(&format!("  - {file}\n"));
        }
        recipe
    })?;
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::of_recipe(&recipe)?.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &options("holders"))?;
    guest.wait_for_shell()?;
    guest.check("systemctl start hung.service holder.service private.service")?;
    // A file system in a file, memory in another one, and a mount over a mount.
    guest
        .check("dd if=/dev/zero of=/var/inner bs=1M count=8 && /usr/sbin/mke2fs -q -t ext4 -F /var/inner")?;
    guest.check("modprobe loop && mkdir -p /run/inner && busybox losetup /dev/loop0 /var/inner")?;
    guest.check("mount /dev/loop0 /run/inner && mount -t tmpfs none /run/inner && echo x > /run/inner/x")?;
    guest.check(
        "dd if=/dev/zero of=/var/swap bs=1M count=8 && busybox mkswap /var/swap && busybox swapon /var/swap",
    )?;
    guest.vm().console().send("poweroff\n")?;
    guest.wait_end("guest-shutdown")?;
    let line = everything_was_given_back(&mut guest)?;
    assert!(line.contains("switched off 1 swap, detached 1 loop device"), "{line}");
    state_is_clean(&mut disk, &path)
}

#[test]
fn ctrl_alt_del_takes_an_emergency_shell_down_in_order() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::minimal()?.disk(&path, GIB)?;
    let options = GuestOptions { exit_on_reboot: true, ..options("emergency") };
    let mut guest = Guest::start(&path, &options)?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    // It takes the console away from the login's shell.
    guest.vm().console().send("systemctl isolate emergency.target\n")?;
    guest.expect("Enter 'help'")?;
    assert_eq!(guest.check("systemctl is-active emergency.service")?.trim(), "active");
    // What the kernel sends on Ctrl-Alt-Del, reboot(2).
    guest.vm().console().send("kill -INT 1\n")?;
    guest.wait_end("guest-reset")?;
    everything_was_given_back(&mut guest)?;
    state_is_clean(&mut disk, &path)
}
