//! The journal's inode that `init` puts back is the one that `mkfs.ext4` made, as e2fsprogs sees it.

use std::fs::File;

use ferrite_tests::scratch;
use init::early::ext4::journal::{Restored, restore};

use super::*;

#[test]
fn e2fsck_finds_no_fault_in_a_journal_whose_inode_is_back() {
    let tools = Tools::of_packages(&["e2fsprogs"]).unwrap();
    let folder = scratch().unwrap();
    let path = folder.path().join("state");
    let file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
    file.set_len(400 * MIB).unwrap();
    let mut mkfs = tools.command("mkfs.ext4").unwrap();
    check(mkfs.args(["-q", "-F", "-b", "4096", "-J", "size=32", "-E", "packed_meta_blocks=1"]).arg(&path));
    let told = |question: &str| check(tools.command("debugfs").unwrap().args(["-R", question]).arg(&path));
    assert_eq!(restore(&file).unwrap(), Restored::Whole);

    // imap says "located at block 51, offset 0x0700".
    let place = told("imap <8>");
    let number = |word: &str| {
        let rest = place.split(word).nth(1).unwrap();
        rest.trim_start_matches("0x").split(|c: char| !c.is_ascii_hexdigit()).next().unwrap().to_owned()
    };
    let block: u64 = number("located at block ").parse().unwrap();
    let offset = u64::from_str_radix(&number("offset "), 16).unwrap();
    let extents = |text: String| text.split("EXTENTS:").nth(1).map(str::to_owned).unwrap();
    let before = extents(told("stat <8>"));
    file.write_all_at(&[0xa5; 256], block * 4096 + offset).unwrap();
    let (code, text) = run(tools.command("e2fsck").unwrap().args(["-f", "-n"]).arg(&path));
    assert_ne!(code, 0, "{text}");

    assert_eq!(restore(&file).unwrap(), Restored::Inode);
    assert_eq!(extents(told("stat <8>")), before);
    check(tools.command("e2fsck").unwrap().args(["-f", "-n"]).arg(&path));
    assert_eq!(restore(&file).unwrap(), Restored::Whole);
}
