//! The parts of a slot: file system, hash tree, initramfs.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use builder::inspect::{Report, VerityReport};
use builder::verity;
use ferrite_tests::scratch;

use super::*;

/// The slot that boots in a file of its own, and how to open its `/usr`.
fn usr_slot(image: &Image, report: &Report, folder: &Path) -> (PathBuf, u64, VerityReport) {
    let path = partition(image, report, "USR-A", folder);
    let slot = &report.slots["USR-A"];
    let usr = slot.parts.iter().find(|part| part.offset == 0).unwrap();
    (path, usr.length, slot.verity.clone().unwrap())
}

#[test]
fn fsck_erofs_finds_nothing_in_usr() {
    let tools = tools();
    both_images(|image, report| {
        let folder = scratch().unwrap();
        let (slot, bytes, _) = usr_slot(image, report, folder.path());
        let usr = folder.path().join("usr");
        extract(&slot, 0, bytes, &usr);
        let text = check(tools.command("fsck.erofs").unwrap().arg(&usr));
        assert_eq!(text, "");
    });
}

#[test]
fn veritysetup_accepts_usr_and_no_bit_may_differ() {
    let tools = tools();
    both_images(|image, report| {
        let folder = scratch().unwrap();
        let (slot, usr_bytes, verity) = usr_slot(image, report, folder.path());
        // Through the JSON that a script would read.
        let json = serde_json::to_value(report).unwrap();
        let printed = &json["slots"]["USR-A"]["verity"];
        let root = printed["root_hash"].as_str().unwrap().to_owned();
        let offset = format!("--hash-offset={}", printed["hash_offset"].as_u64().unwrap());
        let verify = |root: &str| {
            run(tools
                .command("veritysetup")
                .unwrap()
                .arg("verify")
                .args([&slot, &slot])
                .arg(root)
                .arg(&offset))
        };
        assert_eq!(verify(&root), (0, String::new()));
        let dump = check(tools.command("veritysetup").unwrap().arg("dump").arg(&slot).arg(&offset));
        assert!(dump.contains(&verity.salt) && dump.contains(&format!("{}", verity.data_blocks)), "{dump}");
        let other = format!("{}{}", if root.starts_with('0') { '1' } else { '0' }, &root[1..]);
        assert_ne!(verify(&other).0, 0);
        let tree = verity.hash_offset + 4096;
        let tree_end = verity.hash_offset + verity::tree_len(verity.data_blocks);
        // First, middle and last of the data; the top of the tree, its lowest level.
        for at in [1024, usr_bytes / 2, usr_bytes - 1, tree, tree + 31, tree + 4096 + 5, tree_end - 4096] {
            with_flipped_bit(&slot, at, || {
                let (code, text) = verify(&root);
                assert_ne!(code, 0, "a flipped bit at {at} of {tree_end} was not found: {text}");
            });
        }
        assert_eq!(verify(&root).0, 0, "the bits are back");
    });
}

#[test]
fn a_hash_tree_of_veritysetup_is_ours() {
    let (tools, folder) = (tools(), scratch().unwrap());
    let salt = "00112233445566778899aabbccddeeff";
    // No level, one, and three with a partly filled last block each.
    for blocks in [1_u64, 128, 16_500] {
        let path = folder.path().join(format!("data-{blocks}"));
        let file = File::create_new(&path).unwrap();
        file.set_len(blocks * 4096).unwrap();
        for block in (0..blocks).step_by(3) {
            file.write_all_at(&block.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes(), block * 4096 + 9)
                .unwrap();
        }
        let text = check(
            tools
                .command("veritysetup")
                .unwrap()
                .arg("format")
                .args([&path, &path])
                .arg(format!("--hash-offset={}", blocks * 4096))
                .arg(format!("--data-blocks={blocks}"))
                .arg(format!("--salt={salt}")),
        );
        let root = text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim();
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(root.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        }
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let superblock = verity::verify(&file, 0, blocks, blocks * 4096, &hash).unwrap();
        assert_eq!(superblock.salt.len(), 16);
        // And from the same data, salt and UUID, the very same bytes.
        let len = verity::tree_len(blocks) as usize;
        let mut theirs = vec![0; len];
        file.read_exact_at(&mut theirs, blocks * 4096).unwrap();
        let ours_at = blocks * 4096 + len as u64;
        assert_eq!(verity::write_tree(&file, 0, &superblock, ours_at).unwrap(), hash);
        let mut ours = vec![0; len];
        file.read_exact_at(&mut ours, ours_at).unwrap();
        assert!(ours == theirs, "{blocks} blocks");
    }
}

#[test]
fn cpio_lists_exactly_the_files_of_the_initramfs() {
    let tools = tools();
    both_images(|image, report| {
        let folder = scratch().unwrap();
        let slot = report.slots["USR-A"].clone();
        let part = slot.parts.iter().find(|part| part.name == "initramfs").unwrap();
        let offset = report.partitions[1].offset + part.offset;
        let archive = folder.path().join("initramfs");
        extract(&image.raw, offset, part.length, &archive);
        let cpio = |arguments: &[&str]| {
            let output = tools
                .command("cpio")
                .unwrap()
                .args(arguments)
                .stdin(File::open(&archive).unwrap())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            // "N blocks" is all that it says on stderr.
            let talk = String::from_utf8(output.stderr).unwrap();
            assert!(talk.trim_end().ends_with("blocks") && talk.lines().count() == 1, "{talk}");
            String::from_utf8(output.stdout).unwrap()
        };
        let listing = cpio(&["-t"]);
        let load = cpio(&["-i", "--to-stdout", "lib/modules/load"]);
        let modules: Vec<_> = load.lines().map(|line| line.trim_start_matches('/')).collect();
        let place = |name: &str| modules.iter().position(|module| module.ends_with(name)).unwrap();
        assert!(place("/i6300esb.ko") < place("/virtio_blk.ko"), "the watchdog comes first: {load}");
        let mut expected: BTreeSet<String> =
            ["init", "dev/console", "dev/null", "proc", "sys", "run", "sysroot", "lib/modules/load"]
                .map(str::to_owned)
                .into();
        expected.extend(modules.iter().map(|module| {
            if module.starts_with("lib/modules/") {
                (*module).to_owned()
            } else {
                format!("lib/modules/{module}")
            }
        }));
        for path in expected.clone() {
            let parents = Path::new(&path).ancestors().skip(1).filter(|path| path.parent().is_some());
            expected.extend(parents.map(|path| path.display().to_string()));
        }
        let found: BTreeSet<String> = listing.lines().map(str::to_owned).collect();
        assert_eq!(found, expected);
        assert_eq!(listing.lines().count(), found.len(), "a name is there twice");
        let long = cpio(&["-t", "-v", "-n"]);
        let line = |name: &str| long.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
        assert!(line(" init").starts_with("-rwxr-xr-x   1 0        0"), "{long}");
        let console = line(" dev/console");
        assert!(console.starts_with("crw") && console.contains("  5,   1 "), "{console}");
    });
}
