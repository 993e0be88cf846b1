//! Releases that panic and that hang: the machine comes back by itself and says why (SAFETY 16, 17), and a good slot that rots
//! loses its turn (SAFETY 8).

use anyhow::{Context as _, Result};
use ferrite_tests::channel::{Channel, FileServer};
use ferrite_tests::{Guest, Image, scratch};

use super::{configure, options, os_version, release};
use crate::support::{GIB, MINIMAL, disk_with_b, running_slot, wait_until_good};

const NAME: &str = "ferrite-sick";

/// A release with a service that does something bad to the machine.
fn service(command: &str) -> String {
    format!(
        "
files:
  - path: /usr/lib/systemd/system/sick.service
    content: |
      [Service]
      Type=oneshot
      ExecStart=/bin/sh -c '{command}'
      [Install]
      WantedBy=multi-user.target
units:
  enable: [sick.service]
"
    )
}

/// Publishes a release, lets the machine take it, and waits until the machine is back on 1.0.0 and has said why.
fn goes_back(
    guest: &mut Guest,
    channel: &mut Channel,
    image: &Image,
    version: &str,
    signs: &[&str],
    reason: &str,
) -> Result<()> {
    channel.publish(image)?;
    let staged = guest.check("update_engine_client update")?;
    assert!(staged.contains(&format!("{version} is staged")), "{staged}");
    guest.reboot()?;
    guest.expect(&format!("{NAME} {version} (on trial, tries left 0)"))?;
    for sign in signs {
        guest.expect(sign)?;
    }
    guest.expect(&format!("{NAME} 1.0.0 (tries left 6)"))?;
    guest.wait_for_shell()?;
    guest.line_with(&format!("ROLLED BACK from {version} to 1.0.0: {reason}"))?;
    wait_until_good(guest)?;
    assert_eq!(os_version(guest)?, "1.0.0");
    let history = guest.check("update_engine_client history")?;
    assert!(history.contains("rollback") && history.contains(reason), "{history}");
    // It is not taken again.
    let again = guest.run("update_engine_client update")?;
    assert!(!again.text.contains("is staged"), "{}", again.text);
    Ok(())
}

#[test]
fn releases_that_panic_or_hang_are_left_with_the_reason_safety_16_17() -> Result<()> {
    let folder = scratch()?;
    let mut channel = Channel::new(&folder.path().join("channel"))?;
    let server = FileServer::start(&folder.path().join("channel"))?;
    let path = folder.path().join("disk.raw");
    let mut disk = release(NAME, "1.0.0", "")?.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    configure(&mut guest, &server)?;

    let panics = release(NAME, "1.1.0", &service("echo c > /proc/sysrq-trigger"))?;
    let reason = "kernel panic - not syncing";
    goes_back(&mut guest, &mut channel, &panics, "1.1.0", &["Kernel panic"], reason)?;
    // The firmware's store is empty again, and the record is on STATE.
    guest.check("cat /var/lib/systemd/pstore/*/dmesg-* | grep 'Kernel panic'")?;
    assert_eq!(guest.check("ls /sys/fs/pstore")?.trim(), "");

    // PID 1 itself stops, and with it what feeds the watchdog.
    let freeze = "mkdir /sys/fs/cgroup/ice; echo 1 > /sys/fs/cgroup/ice/cgroup.procs; echo 1 > /sys/fs/cgroup/ice/cgroup.freeze";
    let hangs = release(NAME, "1.2.0", &service(freeze))?;
    goes_back(&mut guest, &mut channel, &hangs, "1.2.0", &[], "the watchdog reset the machine")?;

    // A module of the initramfs that does not come back for days: benchmarks of a cipher.
    let recipe = Image::minimal_recipe(NAME, |recipe| {
        recipe
            .replacen("version: 0.1.0\n", "version: 1.3.0\n", 1)
            .replacen(
                "efi_pstore.pstore_disable=0",
                "efi_pstore.pstore_disable=0 tcrypt.mode=200 tcrypt.sec=100000",
                1,
            )
            .replacen("modules: [i6300esb, ", "modules: [i6300esb, tcrypt, ", 1)
    })?;
    let hangs = Image::of_recipe(&recipe)?;
    goes_back(&mut guest, &mut channel, &hangs, "1.3.0", &[], "the watchdog reset the machine")?;
    guest.poweroff()?;
    assert!(disk.table_is_whole());
    Ok(())
}

#[test]
fn a_good_slot_that_rots_under_pid_1_loses_its_turn_safety_8() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = disk_with_b(&path, 1, 7, true)?;
    disk.set_flags("USR-A", 2, 2, true)?;
    // The first block of PID 1's program is found by its first bytes, of which no other program has the same.
    let mut guest = Guest::start(&path, &options())?;
    guest.wait_for_shell()?;
    let dump = guest.check("od -An -v -tx1 -N64 /usr/lib/ferrite/init")?;
    let bytes = dump.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16));
    let start = bytes.collect::<Result<Vec<u8>, _>>().context("od")?;
    assert!(start.len() == 64 && start.starts_with(b"\x7fELF"), "{dump}");
    guest.cut_power();
    // The slot's initramfs, behind /usr, has the same program.
    let at = *disk.find_all("USR-A", &start)?.first().context("the program is not in the slot")?;
    // Behind the header, in the same block.
    disk.flip_bit(at + 2000)?;
    disk.set_flags("USR-A", 2, 2, true)?;

    let mut guest = Guest::start(&path, &options())?;
    for left in [1, 0] {
        guest.expect(&format!("ferrite-boot: USR-A {MINIMAL} (tries left {left})"))?;
        guest.expect("Kernel panic")?;
    }
    guest.expect(&format!("ferrite-boot: USR-B {MINIMAL} (tries left 6)"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-B")?);
    assert!(guest.console_text().contains("the boot before this one ended in a kernel panic"));
    guest.poweroff()?;
    assert_eq!(Image::inspect(&path)?.boots.as_deref(), Some("USR-B"));
    Ok(())
}
