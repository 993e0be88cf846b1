//! The partition table and the FAT volumes.

use std::fs::File;

use builder::formats::DiskImage;
use builder::inspect::ImageDevice;
use ferrite_tests::scratch;
use slots::{Loaded, SlotFlags};

use super::*;

#[test]
fn sgdisk_finds_no_problem_and_reads_what_inspect_reads() {
    let tools = tools();
    both_images(|image, report| {
        let sgdisk =
            |arguments: &[&str]| check(tools.command("sgdisk").unwrap().args(arguments).arg(&image.raw));
        let verdict = sgdisk(&["-v"]);
        assert!(verdict.contains("No problems found"), "{verdict}");
        for word in ["Warning", "Caution", "Problem:", "invalid"] {
            assert!(!verdict.contains(word), "{verdict}");
        }
        let table = sgdisk(&["-p"]);
        assert!(table.contains(&report.disk_guid.clone().unwrap().to_uppercase()), "{table}");
        assert_eq!(report.partitions.len(), 4);
        for partition in &report.partitions {
            let text = sgdisk(&["-i", &partition.number.to_string()]);
            for expected in [
                format!("Partition name: '{}'", partition.label),
                format!("Partition unique GUID: {}", partition.guid.to_uppercase()),
                format!("First sector: {} ", partition.offset / 512),
                format!("Last sector: {} ", (partition.offset + partition.bytes) / 512 - 1),
                format!("Attribute flags: {}", partition.attributes.trim_start_matches("0x").to_uppercase()),
            ] {
                assert!(text.contains(&expected), "no {expected:?} in\n{text}");
            }
        }
        // The names that sgdisk has for the types.
        for (number, name) in
            [("1", "EFI system partition"), ("2", "Linux x86-64 /usr"), ("4", "Microsoft basic data")]
        {
            let text = sgdisk(&["-i", number]);
            assert!(text.contains(name), "no {name:?} in\n{text}");
        }
    });
}

#[test]
fn a_table_that_sgdisk_made_reads_as_it_was_made() {
    let (tools, folder) = (tools(), scratch().unwrap());
    let path = folder.path().join("disk");
    File::create(&path).unwrap().set_len(64 * MIB).unwrap();
    let guid = "01234567-89ab-cdef-0123-456789abcdef";
    let arguments = [
        "--clear",
        "--disk-guid",
        guid,
        "--new=1:2048:+8M",
        "--typecode=1:ef00",
        "--change-name=1:EFI-SYSTEM",
        "--new=2:0:+16M",
        "--typecode=2:8484e680-a9d6-40f6-b9ed-2d4a1d8b5a3e",
        "--change-name=2:USR-Ä",
        "--attributes=2:set:56",
        "--attributes=2:set:48",
        "--attributes=2:set:54",
        "--new=7:0:0",
    ];
    check(tools.command("sgdisk").unwrap().args(arguments).arg(&path));
    let disk = DiskImage::open(&path).unwrap();
    let loaded = Loaded::read(&mut ImageDevice::new(&disk), None);
    assert!(loaded.is_whole(), "{:?} {:?}", loaded.primary().err(), loaded.backup().err());
    let (table, _) = loaded.current().unwrap();
    assert_eq!(table.disk_guid().to_string(), guid);
    let found: Vec<_> = table.entries().map(|(index, entry)| (index, entry.name().to_string())).collect();
    let expected = [(0, "EFI-SYSTEM"), (1, "USR-Ä"), (6, "Linux filesystem")];
    let found: Vec<_> = found.iter().map(|(index, name)| (*index, name.as_str())).collect();
    // Without a name of its own a new partition has its type's, or none.
    assert_eq!(found[..2], expected[..2]);
    assert_eq!(found[2].0, expected[2].0);
    let usr = table.find_name("USR-Ä").unwrap().1;
    assert_eq!((usr.first_block(), usr.blocks()), (2048 + 16_384, 32_768));
    let flags = SlotFlags::from_attributes((1 << 56) | (1 << 48) | (1 << 54));
    assert_eq!(usr.flags(), flags);
    assert_eq!((flags.priority(), flags.tries(), flags.successful()), (1, 4, true));
}

#[test]
fn fsck_vfat_finds_nothing_in_esp_and_oem() {
    let tools = tools();
    both_images(|image, report| {
        let folder = scratch().unwrap();
        for label in ["EFI-SYSTEM", "OEM"] {
            let path = partition(image, report, label, folder.path());
            let text = check(tools.command("fsck.vfat").unwrap().args(["-n", "-v"]).arg(&path));
            for word in
                ["Dirty", "differ", "Wrong", "orphan", "Reclaim", "Bad", "invalid", "Leaving", "Warning"]
            {
                assert!(!text.contains(word), "{label}: {text}");
            }
            // The root counts, and so do folders.
            let files = if label == "OEM" { ": 2 files, " } else { ": 4 files, " };
            assert!(text.contains(files), "{label}: {text}");
        }
    });
}
