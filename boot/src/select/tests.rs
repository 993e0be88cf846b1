//! The loader against disks in memory.

use super::*;
use crate::trust::ConfiguredKey;
use core::fmt;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use slots::{
    Device, FOOTER_LEN, Footer, Geometry, Guid, Part, PartitionName, Parts, SlotFlags, Text, VerityInfo,
    types,
};

const SLOT_BYTES: u64 = 1 << 20;
const SLOT_A: u64 = 1 << 20;
const SLOT_B: u64 = 2 << 20;
const DISK_BYTES: u64 = 4 << 20;
const KERNEL: &[u8] = b"kernel of this slot";

/// A disk and a firmware that starts nothing but remembers what it was given.
struct Memory {
    block_size: u32,
    bytes: Vec<u8>,
    lines: Vec<String>,
    started: Vec<(Vec<u8>, Vec<u8>, String)>,
    refuses_writes: bool,
    /// Writes are accepted and forgotten: what a lying disk does.
    forgets_writes: bool,
    refuses_images: bool,
    unreadable: Option<core::ops::Range<u64>>,
    /// The firmware's store of variables; `None` when it is broken.
    floor: Option<u64>,
    floor_writes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("device error")
    }
}

impl Device for Memory {
    type Error = Broken;

    fn geometry(&self) -> Geometry {
        Geometry { block_size: self.block_size, blocks: self.bytes.len() as u64 / u64::from(self.block_size) }
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Broken> {
        let end = offset + buffer.len() as u64;
        let block = u64::from(self.block_size);
        assert!(offset.is_multiple_of(block) && end.is_multiple_of(block), "whole blocks");
        if self.unreadable.as_ref().is_some_and(|bad| offset < bad.end && end > bad.start) {
            return Err(Broken);
        }
        buffer.copy_from_slice(self.bytes.get(offset as usize..end as usize).ok_or(Broken)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Broken> {
        assert!((data.len() as u64).is_multiple_of(u64::from(self.block_size)), "whole blocks");
        if self.refuses_writes {
            return Err(Broken);
        }
        if !self.forgets_writes {
            self.bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

impl Machine for Memory {
    type Buffer = Vec<u8>;
    type Image = Vec<u8>;

    fn buffer(&mut self, bytes: usize) -> Result<Vec<u8>, Broken> {
        // Undefined content: a part's end must come from its length, not from zeroes.
        Ok(alloc::vec![0xa5; bytes])
    }

    fn load_image(&mut self, program: &[u8]) -> Result<Vec<u8>, Broken> {
        if self.refuses_images { Err(Broken) } else { Ok(program.to_vec()) }
    }

    fn start(
        &mut self,
        image: Vec<u8>,
        initramfs: Vec<u8>,
        initramfs_len: usize,
        command_line: &str,
    ) -> Broken {
        self.started.push((image, initramfs[..initramfs_len].to_vec(), command_line.to_string()));
        Broken
    }

    fn rollback_floor(&mut self, product: &str) -> Result<u64, Broken> {
        // Each product has a floor of its own.
        self.floor.map(|floor| if product == "ferrite" { floor } else { 0 }).ok_or(Broken)
    }

    fn raise_rollback_floor(&mut self, _product: &str, floor: u64) -> Result<(), Broken> {
        self.floor_writes += 1;
        *self.floor.as_mut().ok_or(Broken)? = floor;
        Ok(())
    }

    fn now_us(&mut self) -> u64 {
        4_000_017
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        self.lines.push(line.to_string());
    }
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn trust() -> Trust {
    let key = TrustedKey(signing_key().verifying_key().to_bytes());
    let keys = [ConfiguredKey { key, development: true }];
    Trust::new(Text::new("ferrite").unwrap(), DISK_BYTES, &keys).unwrap()
}

fn flags(priority: u8, tries: u8, successful: bool) -> SlotFlags {
    let flags = SlotFlags::EMPTY.with_priority(priority).unwrap().with_tries(tries).unwrap();
    flags.with_successful(successful)
}

fn entry(name: &str, offset: u64, block_size: u32, flags: SlotFlags) -> Entry {
    let block = |byte: u64| byte / u64::from(block_size);
    let guid = Guid::from_hash(Sha256::digest(name)[..16].try_into().unwrap());
    Entry::new(
        types::USR_X86_64,
        guid,
        block(offset),
        block(offset + SLOT_BYTES) - 1,
        flags,
        PartitionName::new(name),
    )
}

/// A disk with two good slots of these flags.
fn disk_with(block_size: u32, a: SlotFlags, b: SlotFlags) -> Memory {
    let mut disk = Memory {
        block_size,
        bytes: alloc::vec![0; DISK_BYTES as usize],
        lines: Vec::new(),
        started: Vec::new(),
        refuses_writes: false,
        forgets_writes: false,
        refuses_images: false,
        unreadable: None,
        floor: Some(0),
        floor_writes: 0,
    };
    let first_usable = (1 << 20) / u64::from(block_size);
    let mut blank = Loaded::blank(disk.geometry(), Guid::from_hash([9; 16]), first_usable).unwrap();
    let mut table = blank.current().unwrap().0.clone();
    assert!(table.set_entry(1, entry("USR-A", SLOT_A, block_size, a)));
    assert!(table.set_entry(2, entry("USR-B", SLOT_B, block_size, b)));
    blank.commit(&mut disk, &table).unwrap();
    write_slot(&mut disk, SLOT_A, "1.0", 0);
    write_slot(&mut disk, SLOT_B, "2.0", 0);
    disk
}

fn disk(a: SlotFlags, b: SlotFlags) -> Memory {
    disk_with(512, a, b)
}

fn write_slot(disk: &mut Memory, at: u64, version: &str, rollback_index: u64) {
    let contents: [&[u8]; 5] = [&[1; 8192], &[2; 4096], KERNEL, version.as_bytes(), b"console=ttyS0 gpt"];
    let mut offset = 0;
    let parts = contents.map(|content| {
        let start = (at + offset) as usize;
        disk.bytes[start..start + content.len()].copy_from_slice(content);
        let part = Part { offset, length: content.len() as u64, sha256: Sha256::digest(content).into() };
        offset = (offset + part.length).next_multiple_of(4096);
        part
    });
    let [usr, verity, kernel, initramfs, command_line] = parts;
    let footer = Footer {
        product: Text::new("ferrite").unwrap(),
        version: Text::new(version).unwrap(),
        architecture: Text::new("x86_64").unwrap(),
        minimum_loader: 1,
        rollback_index,
        build_time: 1,
        verity: VerityInfo {
            root_hash: [0; 32],
            salt: [0; 32],
            data_blocks: 2,
            superblock_offset: verity.offset,
        },
        parts: Parts { usr, verity, kernel, initramfs, command_line },
        key_id: TrustedKey(signing_key().verifying_key().to_bytes()).id(),
    };
    let bytes = footer.to_bytes(|signed| signing_key().sign(signed).to_bytes());
    let end = (at + SLOT_BYTES) as usize;
    disk.bytes[end - FOOTER_LEN..end].copy_from_slice(&bytes);
}

/// Byte of the slot's kernel.
const KERNEL_AT: u64 = 3 * 4096;

fn run(disk: &mut Memory) -> Vec<String> {
    boot(disk, &trust(), 3_000_000).lines
}

/// Versions in the order in which they were started (each comes back, so the next one gets its turn).
fn started(disk: &Memory) -> Vec<String> {
    disk.started.iter().map(|(_, initramfs, _)| String::from_utf8(initramfs.clone()).unwrap()).collect()
}

fn tries(disk: &mut Memory, index: usize) -> u8 {
    let loaded = Loaded::read(disk, None);
    assert!(loaded.is_whole(), "both copies are valid and equal");
    loaded.current().unwrap().0.entry(index).unwrap().flags().tries()
}

fn said(disk: &Memory, part: &str) -> bool {
    disk.lines.iter().any(|line| line.contains(part))
}

#[test]
fn a_good_slot_starts_with_its_kernel_initramfs_and_appended_arguments() {
    let mut disk = disk(SlotFlags::FRESH, SlotFlags::EMPTY);
    run(&mut disk);
    let (kernel, initramfs, command_line) = disk.started[0].clone();
    assert_eq!((kernel.as_slice(), initramfs.as_slice()), (KERNEL, b"1.0".as_slice()));
    assert!(command_line.starts_with("console=ttyS0 gpt ferrite.disk=09090909-0909-8909-8909-090909090909 "));
    assert!(command_line.contains(" ferrite.trial=0 ferrite.loader=1,1,"), "{command_line}");
    assert!(command_line.ends_with(" ferrite.marks=3000000,4000017"), "{command_line}");
    assert_eq!(disk.lines[0], "ferrite-boot: USR-A ferrite 1.0 (tries left 6)");
    assert!(said(&disk, "DEVELOPMENT KEY"));
    assert_eq!(tries(&mut disk, 1), 6);
}

#[test]
fn the_rollback_floor_rises_to_the_least_index_of_the_good_slots_safety_12() {
    // An update with a higher index, on trial: the floor stays, or the fallback would be outlawed.
    let mut disk = disk(flags(1, 7, true), flags(2, 1, false));
    write_slot(&mut disk, SLOT_A, "1.0", 3);
    write_slot(&mut disk, SLOT_B, "2.0", 5);
    run(&mut disk);
    assert_eq!((started(&disk), disk.floor), (vec!["2.0".to_string(), "1.0".to_string()], Some(3)));
    assert!(disk.started[0].2.contains(",3 ferrite.marks="), "{}", disk.started[0].2);
    // Both are good: the fallback still counts. It is written only when it grows.
    let writes = disk.floor_writes;
    run(&mut disk);
    assert_eq!(disk.floor_writes, writes);
    // The old one is replaced by a release with the index of the new one.
    let mut disk = self::disk(flags(2, 7, true), flags(1, 7, true));
    write_slot(&mut disk, SLOT_A, "3.0", 6);
    write_slot(&mut disk, SLOT_B, "2.0", 5);
    run(&mut disk);
    assert_eq!(disk.floor, Some(5));
}

#[test]
fn a_slot_below_the_floor_does_not_boot_safety_12() {
    let mut disk = disk(flags(1, 7, true), flags(2, 1, false));
    disk.floor = Some(4);
    write_slot(&mut disk, SLOT_A, "1.0", 4);
    write_slot(&mut disk, SLOT_B, "0.9", 3);
    run(&mut disk);
    assert_eq!(started(&disk), ["1.0"]);
    assert!(said(&disk, "USR-B skipped: rollback index 3 is below the floor 4"));
}

#[test]
fn a_broken_store_of_variables_costs_a_warning_and_no_boot_safety_12() {
    let mut disk = disk(SlotFlags::FRESH, SlotFlags::EMPTY);
    disk.floor = None;
    write_slot(&mut disk, SLOT_A, "1.0", 9);
    run(&mut disk);
    assert_eq!(started(&disk), ["1.0"]);
    assert!(said(&disk, "WARNING: the rollback floor cannot be read"));
}

#[test]
fn an_update_on_trial_goes_first_and_falls_back_in_the_same_power_cycle() {
    let mut disk = disk(flags(1, 7, true), flags(2, 1, false));
    run(&mut disk);
    assert_eq!(started(&disk), ["2.0", "1.0"]);
    assert!(disk.started[0].2.contains("ferrite.trial=1"));
    assert_eq!((tries(&mut disk, 1), tries(&mut disk, 2)), (6, 0));
    assert!(said(&disk, "USR-B skipped: the kernel came back"));
}

#[test]
fn a_bad_primary_is_repaired_before_the_kernel_starts() {
    let mut disk = disk(SlotFlags::FRESH, SlotFlags::EMPTY);
    disk.bytes[512..20 * 512].fill(0);
    run(&mut disk);
    assert_eq!(started(&disk), ["1.0"]);
    assert_eq!(disk.lines[0], "ferrite-boot: primary partition table blank: repaired from the other copy");
    assert_eq!(tries(&mut disk, 1), 6);
}

#[test]
fn a_bad_backup_is_repaired_from_the_primary() {
    let mut disk = disk(SlotFlags::FRESH, SlotFlags::EMPTY);
    let end = disk.bytes.len();
    disk.bytes[end - 33 * 512..].fill(0);
    run(&mut disk);
    assert_eq!(started(&disk), ["1.0"]);
    assert!(said(&disk, "backup partition table blank: repaired from the other copy"));
    assert_eq!(tries(&mut disk, 1), 6);
}

#[test]
fn with_both_copies_wrong_nothing_starts_and_both_reasons_are_given() {
    let mut disk = disk(SlotFlags::FRESH, SlotFlags::EMPTY);
    disk.bytes[512..1024].fill(0);
    let end = disk.bytes.len();
    disk.bytes[end - 500] ^= 1;
    let lines = run(&mut disk);
    assert!(disk.started.is_empty());
    assert_eq!(lines, ["no valid partition table", "  primary: blank", "  backup: wrong header checksum"]);
}

#[test]
fn the_backup_at_the_image_s_old_end_saves_a_disk_that_has_grown() {
    let mut disk = disk(SlotFlags::FRESH, SlotFlags::EMPTY);
    disk.bytes.resize(2 * DISK_BYTES as usize, 0);
    disk.bytes[512..1024].fill(0);
    run(&mut disk);
    assert_eq!(started(&disk), ["1.0"]);
    assert!(said(&disk, "primary partition table blank: repaired"));
    assert!(said(
        &disk,
        "tries unchanged: the disk has grown; its backup partition table is still in block 8191 of 16383"
    ));
}

#[test]
fn a_slot_with_something_wrong_is_skipped_with_the_reason() {
    type Damage = fn(&mut Memory);
    let cases: &[(Damage, &str)] = &[
        (|disk| disk.bytes[(SLOT_A + SLOT_BYTES - 10) as usize] ^= 1, "bad footer: wrong signature"),
        (
            |disk| disk.bytes[(SLOT_A + SLOT_BYTES) as usize - FOOTER_LEN..][..FOOTER_LEN].fill(0),
            "empty (no footer)",
        ),
        (|disk| disk.bytes[(SLOT_A + KERNEL_AT) as usize] ^= 1, "wrong hash of kernel"),
        (|disk| disk.bytes[(SLOT_A + KERNEL_AT + 4096) as usize] ^= 1, "wrong hash of initramfs"),
        (|disk| disk.bytes[(SLOT_A + KERNEL_AT + 8192) as usize] ^= 1, "wrong hash of command line"),
        (
            |disk| disk.unreadable = Some(SLOT_A + KERNEL_AT..SLOT_A + KERNEL_AT + 1),
            "kernel cannot be read: device error",
        ),
        (
            |disk| disk.unreadable = Some(SLOT_A + SLOT_BYTES - 1..SLOT_A + SLOT_BYTES),
            "footer cannot be read: device error",
        ),
    ];
    for (damage, reason) in cases {
        let mut disk = disk(flags(2, 7, true), flags(1, 7, true));
        damage(&mut disk);
        run(&mut disk);
        assert_eq!(started(&disk), ["2.0"], "{reason}");
        assert_eq!(disk.lines[0], format!("ferrite-boot: USR-A skipped: {reason}"));
        assert_eq!(
            (tries(&mut disk, 1), tries(&mut disk, 2)),
            (7, 6),
            "a slot that never started lost no try"
        );
    }
}

#[test]
fn a_kernel_that_the_firmware_refuses_costs_no_try() {
    let mut disk = disk(flags(2, 7, true), SlotFlags::EMPTY);
    disk.refuses_images = true;
    let lines = run(&mut disk);
    assert_eq!(tries(&mut disk, 1), 7);
    assert_eq!(
        lines,
        [
            "no slot can be started on disk 09090909-0909-8909-8909-090909090909",
            "  USR-A priority=2 tries=7 successful=1: the firmware refuses the kernel: device error",
            "  USR-B priority=0 tries=0 successful=0: never boots",
        ]
    );
}

#[test]
fn a_good_slot_starts_although_nothing_can_be_written() {
    let mut disk = disk(flags(1, 7, true), flags(2, 3, false));
    disk.refuses_writes = true;
    run(&mut disk);
    // The one on trial waits: as a last resort it is tried after all, when the good one came back.
    assert_eq!(started(&disk), ["1.0", "2.0"]);
    assert_eq!(
        disk.lines[0],
        "ferrite-boot: USR-B skipped: on trial, and its try cannot be taken: device error"
    );
    assert!(said(&disk, "USR-A ferrite 1.0 (tries unchanged: device error)"));
}

#[test]
fn a_try_that_does_not_read_back_holds_a_trial_back() {
    let mut disk = disk(flags(1, 0, true), flags(2, 3, false));
    disk.forgets_writes = true;
    run(&mut disk);
    assert_eq!(started(&disk)[0], "1.0");
    assert!(said(
        &disk,
        "USR-B skipped: on trial, and its try cannot be taken: partition table reads back differently"
    ));
}

#[test]
fn a_used_up_slot_is_the_last_resort_and_only_when_all_of_it_verifies() {
    let mut whole = disk(SlotFlags::EMPTY, flags(1, 0, false));
    run(&mut whole);
    assert_eq!(started(&whole), ["2.0"]);
    assert!(said(&whole, "USR-B is the last resort: verifying all of it"));

    let mut rotten = disk(SlotFlags::EMPTY, flags(1, 0, false));
    rotten.bytes[SLOT_B as usize + 5000] ^= 1;
    let lines = run(&mut rotten);
    assert!(rotten.started.is_empty());
    assert!(lines[2].ends_with("wrong hash of usr"), "{lines:?}");
}

#[test]
fn slots_of_another_key_or_product_are_refused() {
    let mut disk = disk(SlotFlags::FRESH, SlotFlags::EMPTY);
    let other = ConfiguredKey { key: TrustedKey([8; 32]), development: false };
    let stranger = Trust::new(Text::new("ferrite").unwrap(), 0, &[other]).unwrap();
    assert!(boot(&mut disk, &stranger, 0).lines[1].contains("signed by untrusted key"));
    let own = trust().keys().next().unwrap();
    let product = Trust::new(Text::new("other").unwrap(), 0, &[own]).unwrap();
    assert!(boot(&mut disk, &product, 0).lines[1].contains("belongs to product ferrite"));
    assert!(disk.started.is_empty());
}

#[test]
fn disks_with_4096_byte_blocks_boot_and_count_tries() {
    let mut disk = disk_with(4096, flags(2, 1, false), flags(1, 7, true));
    run(&mut disk);
    assert_eq!(started(&disk), ["1.0", "2.0"]);
    assert_eq!((tries(&mut disk, 1), tries(&mut disk, 2)), (0, 6));
}

#[test]
fn a_disk_without_a_slot_says_so() {
    let mut disk = disk(SlotFlags::EMPTY, SlotFlags::EMPTY);
    let lines = run(&mut disk);
    assert!(lines.iter().skip(1).all(|line| line.ends_with("never boots")), "{lines:?}");
}
