//! Down and up again in order.

use std::time::Duration;

use anyhow::Result;
use ferrite_tests::{Guest, Image, scratch};
use qemu::Ending;

use crate::support::{GIB, options, wait_until_good};

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
    assert!(disk.table_is_whole());
    Ok(())
}
