//! STATE over boots: what was written is there, and a larger disk is used (SAFETY 5, 21).

use anyhow::{Context as _, Result};
use ferrite_tests::{DiskFile, Guest, Image, scratch};

use crate::support::{GIB, MIB, options, wait_until_good};

/// Size of the file system on /var in KiB, as `df` tells.
fn var_kib(guest: &mut Guest) -> Result<u64> {
    let text = guest.check("df -P -k /var")?;
    let line = text.lines().find(|line| line.ends_with(" /var")).context("df lists no /var")?;
    Ok(line.split_ascii_whitespace().nth(1).context("df prints no size")?.parse()?)
}

#[test]
fn a_disk_that_is_enlarged_is_regrown_and_keeps_its_files() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    // As people do it: the image on a larger disk, the table where it was built.
    Image::minimal()?.copy_to(&path)?;
    let mut disk = DiskFile::open(&path)?;
    disk.enlarge(GIB)?;
    assert!(!disk.load().is_at_end() && !disk.has("STATE")?);
    let image_disk = Image::inspect(&path)?.disk_guid;

    let mut guest = Guest::start(&path, &options("first-boot"))?;
    guest.wait_for_shell()?;
    wait_until_good(&mut guest)?;
    let first_kib = var_kib(&mut guest)?;
    guest.check("head -c 5000000 /dev/urandom > /var/kept")?;
    let sum = guest.check("sha256sum /var/kept")?;
    guest.poweroff()?;
    assert!(disk.table_is_whole());
    let first = disk.partition("STATE")?;
    assert!(first.end > GIB - 2 * MIB, "STATE ends at {}", first.end);
    let report = Image::inspect(&path)?;
    assert!(report.is_good(), "{:?}", report.problems);
    assert_ne!(report.disk_guid, image_disk, "the first boot makes the disk's GUID random");

    disk.enlarge(2 * GIB)?;
    assert!(!disk.table_is_whole());
    let mut guest = Guest::start(&path, &options("enlarged"))?;
    guest.wait_for_shell()?;
    let second_kib = var_kib(&mut guest)?;
    assert_eq!(guest.check("sha256sum /var/kept")?, sum);
    guest.poweroff()?;
    assert!(disk.table_is_whole(), "both copies, the backup at the new end");
    let second = disk.partition("STATE")?;
    assert_eq!(second.start, first.start);
    assert!(second.end > 2 * GIB - 2 * MIB, "STATE ends at {}", second.end);
    assert!(second_kib > first_kib + 1_000_000, "{first_kib} KiB, then {second_kib} KiB");
    println!("STATE: {first_kib} KiB on a disk of 1 GiB, {second_kib} KiB after it grew to 2 GiB");
    let report = Image::inspect(&path)?;
    assert!(report.is_good(), "{:?}", report.problems);
    Ok(())
}

#[test]
fn a_power_cut_right_after_the_first_boot_leaves_a_machine_that_comes_up_as_itself() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    Image::minimal()?.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &options("cut-first-boot"))?;
    guest.wait_for_shell()?;
    let id = guest.check("cat /etc/machine-id")?;
    // What was not synced is in the guest's memory alone.
    guest.cut_power();

    let mut guest = Guest::start(&path, &options("after-the-cut"))?;
    guest.wait_for_shell()?;
    assert_eq!(guest.check("cat /etc/machine-id")?, id);
    guest.check("grep -qw localhost /etc/hosts")?;
    wait_until_good(&mut guest)?;
    guest.poweroff()
}

/// What the full power-cut sweep found: with a torn block of group descriptors a check deletes the journal, unless it takes them from
/// their backup.
#[test]
fn a_torn_superblock_or_group_descriptor_costs_nothing_that_was_synced_safety_21_26() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::minimal()?.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &options("torn-state"))?;
    guest.wait_for_shell()?;
    // In the middle of what each of them says, in the partition's first two blocks.
    for (what, at) in [("group-descriptors", 4096 + 8), ("superblock", 1024 + 0x200)] {
        guest.check(&format!("mkdir -p /var/kept && echo {what} > /var/kept/{what} && sync"))?;
        guest.cut_power();
        let start = disk.partition("STATE")?.start;
        disk.flip_bit(start + at)?;
        guest = Guest::start(&path, &options("torn-state"))?;
        guest.wait_for_shell()?;
        guest.check("test -s /run/ferrite/state-tool.log && ! test -e /run/ferrite/volatile-state")?;
        assert_eq!(guest.check(&format!("cat /var/kept/{what}"))?.trim(), what);
        guest.check("cat /var/kept/group-descriptors")?;
    }
    wait_until_good(&mut guest)?;
    guest.poweroff()
}

/// What the full power-cut sweep found next: no check finds the journal without its inode, which stands in a block with others, or without its
/// own superblock.
#[test]
fn a_torn_inode_or_superblock_of_the_journal_costs_nothing_that_was_synced_safety_21_26() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    let mut disk = Image::minimal()?.disk(&path, GIB)?;
    let mut guest = Guest::start(&path, &options("torn-journal"))?;
    guest.wait_for_shell()?;
    // The root's inode is in that block, so that the journal has all of it.
    guest.check("mkdir -p /var/kept && echo all > /var/kept/file && touch /var && sync")?;
    guest.cut_power();
    let start = disk.partition("STATE")?.start;
    let inode_table = start + 4096 * u64::from(disk.u32_at(start + 4096 + 8)?);
    disk.garble_block(inode_table)?;
    guest = Guest::start(&path, &options("torn-journal"))?;
    guest.wait_for_shell()?;
    assert_eq!(guest.check("cat /var/kept/file")?.trim(), "all");
    guest.check("! test -e /run/ferrite/state-tool.log && ! test -e /run/ferrite/volatile-state")?;
    guest.check("dmesg | grep 'STATE mounts with its journal back'")?;

    // Files in many transactions, and folders that come and go.
    guest.check(
        "cd /var/kept; for i in $(seq 100); do mkdir -p d$((i % 9)); echo $i | dd of=d$((i % 9))/$i conv=fsync; \
         [ $((i % 7)) -gt 0 ] || rm -r d$(((i + 3) % 9)); done 2> /dev/null; cat d*/* > all; sync all .",
    )?;
    guest.cut_power();
    // The first extent of the journal's inode, the eighth of its table.
    let journal = disk.u32_at(inode_table + 7 * 256 + 0x28 + 12 + 8)?;
    disk.garble_block(start + 4096 * u64::from(journal))?;
    guest = Guest::start(&path, &options("torn-journal"))?;
    guest.wait_for_shell()?;
    guest.check("cd /var/kept && grep -qx 100 all && cat d*/* | cmp - all")?;
    guest.check(
        "! test -e /run/ferrite/volatile-state && dmesg | grep 'back from the transactions in the log'",
    )?;
    guest.check("dmesg | grep 'STATE mounts after e2fsck -f -p'")?;
    wait_until_good(&mut guest)?;
    guest.poweroff()
}
