use super::*;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use boot::trust::{ConfiguredKey, Trust};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use slots::{Text, TrustedKey};

use crate::disk::{DiskLayout, DiskSpec, Role};
use crate::esp::{FatSpec, LOADER_PATH, fat_volume};
use crate::formats::{self, Format};
use crate::gptimage;
use crate::signing::{SlotSigner, hex};
use crate::slotimage::{self, Identity, SlotImage, SlotParts, Source};

const USR_BLOCKS: u64 = 300;

/// A tree over 300 blocks made the plain way: three leaf blocks, a root block.
fn tree(data: &[u8], salt: &[u8; 32]) -> (Vec<u8>, [u8; 32]) {
    let hash =
        |block: &[u8]| -> [u8; 32] { Sha256::new().chain_update(salt).chain_update(block).finalize().into() };
    let level = |data: &[u8]| {
        let mut digests: Vec<u8> = data.chunks(4096).flat_map(hash).collect();
        digests.resize(digests.len().next_multiple_of(4096), 0);
        digests
    };
    let leaves = level(data);
    let top = level(&leaves);
    let mut part = vec![0; 4096];
    part[..8].copy_from_slice(b"verity\0\0");
    (part[8], part[12]) = (1, 1);
    part[32..38].copy_from_slice(b"sha256");
    part[64..68].copy_from_slice(&4096u32.to_le_bytes());
    part[68..72].copy_from_slice(&4096u32.to_le_bytes());
    part[72..80].copy_from_slice(&USR_BLOCKS.to_le_bytes());
    part[80] = 32;
    part[88..120].copy_from_slice(salt);
    part.extend(&top);
    part.extend(&leaves);
    (part, hash(&top))
}

fn write_slot_file(path: &Path) -> SlotImage {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    let usr: Vec<u8> = (0..USR_BLOCKS * 4096).map(|n| (n / 7) as u8).collect();
    file.write_all_at(&usr, 0).unwrap();
    let salt = [3; 32];
    let (verity, root_hash) = tree(&usr, &salt);
    let line = format!("quiet ferrite.verity={},{},{USR_BLOCKS},{}", hex(&root_hash), hex(&salt), usr.len());
    let identity = Identity {
        product: "ferrite",
        version: "1.0",
        architecture: "x86_64",
        minimum_loader: 1,
        rollback_index: 0,
        build_time: 7,
    };
    let parts = SlotParts {
        usr: Source::InPlace { bytes: usr.len() as u64 },
        verity: Source::Bytes(&verity),
        kernel: Source::Bytes(b"kernel"),
        initramfs: Source::Bytes(b"initramfs"),
        command_line: Source::Bytes(line.as_bytes()),
        root_hash,
        salt,
    };
    slotimage::assemble(&file, &identity, &parts, &SlotSigner::development().unwrap()).unwrap()
}

/// A PE file that has a key section and nothing else.
fn loader_file(image_bytes: u64) -> Vec<u8> {
    let key = TrustedKey(SlotSigner::development().unwrap().public().to_bytes());
    let keys = [ConfiguredKey { key, development: true }];
    let trust = Trust::new(Text::new("ferrite").unwrap(), image_bytes, &keys).unwrap();
    let mut file = vec![0; 0x200];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file[0x40..0x44].copy_from_slice(b"PE\0\0");
    file[0x46] = 1;
    file[0x58..0x60].copy_from_slice(b".ferrkey");
    file[0x68..0x6c].copy_from_slice(&4096u32.to_le_bytes());
    file[0x6c..0x70].copy_from_slice(&0x200u32.to_le_bytes());
    file.extend(trust.to_bytes());
    file
}

struct Disk {
    _folder: tempfile::TempDir,
    path: PathBuf,
    layout: DiskLayout,
    image: SlotImage,
}

fn disk() -> Disk {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    let spec = DiskSpec { usr_bytes: 4 << 20, ..DiskSpec::new("ferrite") };
    let layout = DiskLayout::plan(&spec).unwrap();
    let file = gptimage::create(&path, &layout).unwrap();
    let esp = layout.partition(Role::Esp);
    let files = BTreeMap::from([(LOADER_PATH.to_owned(), loader_file(layout.bytes))]);
    let volume = FatSpec { bytes: esp.bytes, label: "EFI-SYSTEM", volume_id: 1, files };
    fat_volume(&volume).unwrap().write_to(&file, esp.offset).unwrap();
    let slot_path = folder.path().join("slot.usr");
    let image = write_slot_file(&slot_path);
    slotimage::install(&File::open(slot_path).unwrap(), &image, &file, &layout.partition(Role::UsrA))
        .unwrap();
    Disk { _folder: folder, path, layout, image }
}

impl Disk {
    fn flip(&self, at: u64) {
        let file = File::options().read(true).write(true).open(&self.path).unwrap();
        let mut byte = [0];
        FileExt::read_exact_at(&file, &mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    fn slot_a(&self) -> u64 {
        self.layout.partition(Role::UsrA).offset
    }
}

#[test]
fn a_good_disk_boots_and_everything_verifies() {
    let disk = disk();
    let report = inspect(&disk.path, true).unwrap();
    assert!(report.is_good(), "{report}");
    assert_eq!(report.verdict, "boots USR-A (ferrite 1.0); signed with the published DEVELOPMENT KEY");
    let slot = &report.slots["USR-A"];
    assert_eq!((slot.priority, slot.tries, slot.successful), (Some(2), Some(7), Some(true)));
    assert!(slot.parts.iter().all(|part| part.verified == Some(true)));
    assert_eq!(slot.verity.as_ref().unwrap().verified, Some(true));
    assert!(report.slots["USR-B"].empty);
    assert_eq!(report.partitions.len(), 4);
    assert!(report.loader.unwrap().keys[0].development);
}

#[test]
fn a_slot_image_is_explained_like_a_slot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slot.usr");
    write_slot_file(&path);
    let report = inspect(&path, true).unwrap();
    assert!(report.is_good(), "{report}");
    assert!(report.verdict.starts_with("a valid slot image of ferrite 1.0"), "{}", report.verdict);
}

#[test]
fn every_kind_of_damage_is_named() {
    type At = fn(&Disk) -> u64;
    let cases: &[(At, bool, &str)] = &[
        (
            |disk| disk.slot_a() + 5 * 4096,
            true,
            "USR-A: hash tree: block 5 of /usr is not what the tree says",
        ),
        (
            |disk| disk.slot_a() + (USR_BLOCKS + 2) * 4096,
            true,
            "USR-A: hash tree: block 0 of tree level 1 is not what the tree says",
        ),
        (|disk| disk.slot_a() + (USR_BLOCKS + 1) * 4096, true, "USR-A: hash tree: wrong root hash"),
        (|disk| disk.slot_a() + USR_BLOCKS * 4096 + 72, true, "number of blocks is not that of the footer"),
        (|disk| disk.slot_a() + disk.image.footer.parts.kernel.offset, false, "USR-A: wrong hash of kernel"),
        (
            |disk| disk.slot_a() + disk.image.footer.parts.command_line.offset + 30,
            false,
            "the command line does not say",
        ),
        (|disk| disk.slot_a() + (4 << 20) - 1, false, "USR-A: bad footer: wrong signature"),
        (|_| 512 + 16, false, "primary partition table: wrong header checksum"),
        (|disk| disk.layout.bytes - 1024, false, "backup partition table: wrong checksum of the entries"),
    ];
    for (at, verify, message) in cases {
        let disk = disk();
        disk.flip(at(&disk));
        let report = inspect(&disk.path, *verify).unwrap();
        assert!(report.problems.iter().any(|problem| problem.contains(message)), "{message}: {report}");
        assert!(!report.is_good());
    }
}

#[test]
fn json_has_partitions_and_slots() {
    let disk = disk();
    let json = serde_json::to_value(inspect(&disk.path, false).unwrap()).unwrap();
    assert_eq!(json["partitions"][1]["label"], "USR-A");
    assert_eq!(json["slots"]["USR-A"]["tries"], 7);
    assert_eq!(json["slots"]["USR-A"]["signature"], "valid");
    assert_eq!(json["slots"]["USR-A"]["parts"][0]["verified"], serde_json::Value::Null);
    assert_eq!(json["slots"]["USR-A"]["verity"]["hash_offset"], USR_BLOCKS * 4096);
}

#[test]
fn other_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "not an image").unwrap();
    let error = inspect(&path, false).unwrap_err().to_string();
    assert!(error.contains("notes.txt") && error.contains("neither"), "{error}");
    assert!(matches!(inspect(&folder.path().join("absent"), false), Err(InspectError::Open(_))));
}

#[test]
fn every_format_shows_the_same_disk() {
    let disk = disk();
    let plain = inspect(&disk.path, true).unwrap();
    let raw = File::open(&disk.path).unwrap();
    let identity = formats::Identity::new("ferrite", "1.0", "", 0);
    for format in Format::ALL {
        let path = disk.path.with_extension("other");
        let to = File::create(&path).unwrap();
        format.write(&raw, &to, &identity, &debian::progress::Silent).unwrap();
        let found = inspect(&path, true).unwrap();
        assert!(found.is_good(), "{format}: {found}");
        assert_eq!((found.format, found.bytes), (format, disk.layout.bytes));
        let without_name = |report: &Report, format: Format| {
            report.to_string().replace(&report.image, "").replace(&format!(" ({format})"), "")
        };
        assert_eq!(without_name(&found, format), without_name(&plain, Format::Raw));
        assert_eq!(found.to_string().lines().next().unwrap().contains("(qcow2)"), format == Format::Qcow2);
    }
}

#[test]
fn damage_behind_compression_is_found() {
    let disk = disk();
    let raw = File::open(&disk.path).unwrap();
    let path = disk.path.with_extension("qcow2");
    let to = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    formats::qcow2::write(&raw, disk.layout.bytes, &to, &debian::progress::Silent).unwrap();
    // Without their magic no frames can be decompressed; the first one stays, for it has the partition table.
    let bytes = fs::read(&path).unwrap();
    for at in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&formats::rawzst::MAGIC)).skip(1) {
        to.write_all_at(&[0; 4], at as u64).unwrap();
    }
    let report = inspect(&path, true).unwrap();
    assert!(!report.is_good() && report.partitions.len() == 4, "{report}");
    assert!(report.problems.iter().any(|problem| problem.contains("damaged compressed cluster")), "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn damaged_disks_are_reported_without_panic(
        damage in proptest::collection::vec((0u8..6, 0u64..8192, any::<[u8; 16]>()), 1..6),
    ) {
        let disk = disk();
        let file = File::options().write(true).open(&disk.path).unwrap();
        let esp = disk.layout.partition(Role::Esp).offset;
        let slot_end = disk.slot_a() + (4 << 20);
        for (place, at, bytes) in &damage {
            let base = match place {
                0 => 0,
                1 => disk.layout.bytes - 20_000,
                2 => slot_end - 4096,
                // Boot block, then the first FAT and the root folder of the ESP.
                3 => esp,
                4 => esp + 16 * 1024,
                _ => disk.slot_a() + USR_BLOCKS * 4096,
            };
            file.write_all_at(bytes, base + at).unwrap();
        }
        let _ = inspect(&disk.path, true).map(|report| report.to_string());
    }
}
