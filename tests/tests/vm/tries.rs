//! Tries and trials: what a boot takes, what a good boot gives back, and who boots when a slot on trial does not prove
//! itself (SAFETY 7-9, 15).

use anyhow::Result;
use ferrite_tests::{Guest, Image, scratch};

use crate::support::{GIB, MINIMAL, disk_with_b, options, running_slot, tries, wait_until_good};

#[test]
fn every_boot_takes_a_try_and_a_complete_one_gives_all_back() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::minimal()?.disk(&path, GIB)?;
    assert_eq!(tries(&mut disk, "USR-A")?, (7, true));
    for left in [6, 5] {
        let mut guest = Guest::start(&path, &options("tries"))?;
        guest.expect(&format!("ferrite-boot: USR-A {MINIMAL} (tries left {left})"))?;
        guest.cut_power();
        assert_eq!(tries(&mut disk, "USR-A")?, (left, true), "on the disk, after the power was cut");
        assert!(disk.table_is_whole());
    }
    let mut guest = Guest::start(&path, &options("tries"))?;
    guest.expect("(tries left 4)")?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    guest.cut_power();
    assert_eq!(tries(&mut disk, "USR-A")?, (7, true), "a complete boot restores the tries");
    assert!(disk.table_is_whole());
    Ok(())
}

#[test]
fn a_slot_on_trial_is_good_once_its_boot_is_complete() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = disk_with_b(&path, 3, 1, false)?;
    let mut guest = Guest::start(&path, &options("trial"))?;
    guest.expect(&format!("ferrite-boot: USR-B {MINIMAL} (on trial, tries left 0)"))?;
    assert_eq!(tries(&mut disk, "USR-B")?, (0, false), "the only try is taken before the kernel starts");
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-B")?);
    guest.poweroff()?;
    assert_eq!(tries(&mut disk, "USR-B")?, (7, true));
    assert_eq!(tries(&mut disk, "USR-A")?, (7, true), "nothing happened to the other slot");
    assert!(disk.table_is_whole());
    Ok(())
}

#[test]
fn a_trial_whose_usr_is_rotten_falls_back_by_itself() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = disk_with_b(&path, 3, 1, false)?;
    // The first block holds the superblock of /usr: the kernel meets the error as soon as it mounts.
    let first = disk.partition("USR-B")?.start;
    disk.flip_bit(first)?;
    let mut guest = Guest::start(&path, &options("rotten-trial"))?;
    guest.expect("ferrite-boot: USR-B")?;
    guest.expect("Kernel panic")?;
    // Without anybody's help: panic=10 resets the machine, and B has no try left.
    guest.expect(&format!("ferrite-boot: USR-A {MINIMAL} (tries left 6)"))?;
    guest.wait_for_shell()?;
    assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-A")?);
    assert_eq!(tries(&mut disk, "USR-B")?, (0, false));
    guest.poweroff()?;
    assert_eq!(Image::inspect(&path)?.boots.as_deref(), Some("USR-A"));
    Ok(())
}

#[test]
fn a_trial_that_is_not_healthy_is_never_marked_good() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    // No room behind the image, so no STATE: /var is volatile, which is no healthy boot (SAFETY 22).
    let image = Image::minimal()?;
    image.copy_to(&path)?;
    let mut disk = ferrite_tests::DiskFile::open(&path)?;
    disk.copy_slot("USR-A", "USR-B")?;
    disk.set_flags("USR-B", 3, 1, false)?;
    let mut guest = Guest::start(&path, &options("unhealthy-trial"))?;
    guest.expect(&format!("ferrite-boot: USR-B {MINIMAL} (on trial, tries left 0)"))?;
    guest.wait_for_shell()?;
    assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-B")?);
    let marked = guest.run("systemctl start ferrite-mark-good.service")?;
    assert_ne!(marked.status, 0, "{marked:?}");
    assert!(guest.console_text().contains("/var is VOLATILE"));
    guest.cut_power();
    assert_eq!(tries(&mut disk, "USR-B")?, (0, false));
    // The next power-on is the other slot's.
    let mut guest = Guest::start(&path, &options("unhealthy-trial"))?;
    guest.expect(&format!("ferrite-boot: USR-A {MINIMAL} (tries left 6)"))?;
    guest.wait_for_shell()?;
    assert_eq!(running_slot(&mut guest)?, disk.partuuid("USR-A")?);
    guest.cut_power();
    Ok(())
}
