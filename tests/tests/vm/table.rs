//! Damaged partition tables (SAFETY 1, 4). EDK2, so OVMF, repairs a bad copy before any loader runs; a firmware that does
//! not leaves that to the loader, which the loader's own tests show.

use anyhow::Result;
use ferrite_tests::{DiskFile, Guest, Image, scratch};

use crate::support::{GIB, MINIMAL, options, wait_until_good};

type Damage = fn(&mut DiskFile) -> Result<()>;

#[test]
fn with_one_copy_of_the_table_zeroed_the_machine_boots_and_both_are_whole_again() -> Result<()> {
    let cases: [(&str, Damage); 2] =
        [("primary", DiskFile::zero_primary_table), ("backup", DiskFile::zero_backup_table)];
    let folder = scratch()?;
    for (copy, damage) in cases {
        let path = folder.path().join(format!("{copy}.raw"));
        let mut disk = Image::minimal()?.disk(&path, GIB)?;
        damage(&mut disk)?;
        let found = disk.load();
        assert_eq!(
            (found.primary().is_err(), found.backup().is_err()),
            (copy == "primary", copy == "backup")
        );
        let mut guest = Guest::start(&path, &options("one-table"))?;
        guest.expect(&format!("ferrite-boot: USR-A {MINIMAL} (tries left 6)"))?;
        guest.wait_for_shell()?;
        wait_until_good(&mut guest)?;
        guest.poweroff()?;
        let report = Image::inspect(&path)?;
        assert!(report.table.as_ref().is_some_and(|table| table.whole), "{copy}: {:?}", report.table);
        assert!(report.is_good(), "{copy}: {:?}", report.problems);
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

#[test]
fn with_both_copies_wrong_nothing_boots_and_nothing_is_written() -> Result<()> {
    let folder = scratch()?;
    let path = folder.path().join("disk.raw");
    Image::minimal()?.copy_to(&path)?;
    let mut disk = DiskFile::open(&path)?;
    disk.zero_primary_table()?;
    disk.zero_backup_table()?;
    let before = std::fs::read(&path)?;
    let mut guest = Guest::start(&path, &options("no-table"))?;
    // The firmware finds no system partition, hence no loader, and shows its own shell.
    let console = guest.expect("UEFI Interactive Shell")?;
    assert!(console.contains("BdsDxe: failed to load Boot0001"), "{console}");
    assert!(!console.contains("ferrite-boot"), "{console}");
    guest.cut_power();
    assert!(std::fs::read(&path)? == before, "somebody wrote to a disk without a table");
    Ok(())
}
