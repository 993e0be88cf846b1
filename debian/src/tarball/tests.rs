use super::*;
use crate::testing::{Item, tar};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Vec<Entry>, TarError> {
    entries(bytes, hash_content)
}

fn shown(error: TarError) -> String {
    error.to_string()
}

#[test]
fn every_kind_is_read_with_offset_and_digest() {
    let bytes = tar(&[
        Item::Dir("./"),
        Item::Dir("./usr//bin/"),
        Item::File("./usr/bin/a", b"hello", 0o104_755),
        Item::Hard("usr/bin/b", "./usr/bin/a"),
        Item::Link("usr/bin/c", "../x"),
    ]);
    let found = read(&bytes).unwrap();
    let paths: Vec<_> = found.iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect();
    assert_eq!(paths, ["usr/bin", "usr/bin/a", "usr/bin/b", "usr/bin/c"], "the root folder is left out");
    let EntryKind::File { offset, size, sha256 } = found[1].kind else { panic!() };
    let at = usize::try_from(offset).unwrap();
    assert_eq!((&bytes[at..at + 5], size, sha256), (&b"hello"[..], 5, Digest::of(b"hello")));
    assert_eq!((found[1].mode, found[1].mtime), (0o4755, 1_000_000));
    assert_eq!(found[2].kind, EntryKind::HardLink(b"usr/bin/a".to_vec()));
    assert_eq!(found[3].kind, EntryKind::Symlink(b"../x".to_vec()));
}

#[test]
fn paths_that_leave_the_tree_are_refused_by_name() {
    let cases = [
        (Item::File("/etc/passwd", b"", 0o644), "\"/etc/passwd\": the path is absolute"),
        (Item::File("a/../../b", b"", 0o644), "\"a/../../b\": the path has a `..`"),
        (Item::File("./", b"", 0o644), "the path is empty"),
        (Item::Dir(".."), "the path has a `..`"),
        (Item::Hard("a", "/etc/passwd"), "the path is absolute"),
        (Item::Hard("a", "../b"), "the path has a `..`"),
        (Item::Hard("a", "b"), "no earlier file of the package"),
        (Item::Link("a", ""), "the path is empty"),
    ];
    for (item, want) in cases {
        let message = read(&tar(&[item])).map_err(shown).unwrap_err();
        assert!(message.contains(want), "{message:?} has {want:?}");
    }
}

/// A header of any type in front of the entry that it describes.
fn described(kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_path("described").unwrap();
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
    let mut out = builder.into_inner().unwrap();
    out.truncate(out.len() - 1024);
    out.extend(tar(&[Item::File("short", b"x", 0o644)]));
    out
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let length =
            (1..).find(|digits| (body.len() + digits).to_string().len() == *digits).unwrap() + body.len();
        out.extend([length.to_string().as_bytes(), &body].concat());
    }
    out
}

#[test]
fn gnu_long_names_and_pax_records_describe_the_next_entry() {
    let long = "d/".repeat(100) + "file";
    let found = read(&described(tar::EntryType::GNULongName, format!("{long}\0").as_bytes())).unwrap();
    assert_eq!(found[0].path, long.as_bytes());
    let records: &[(&str, &[u8])] = &[
        ("path", b"./from/pax"),
        ("uid", b"70000"),
        ("mtime", b"17.25"),
        ("SCHILY.xattr.security.capability", b"\x01\x00\x00\x02\n\x00"),
    ];
    let found = read(&described(tar::EntryType::XHeader, &pax(records))).unwrap();
    assert_eq!((found[0].path.as_slice(), found[0].uid, found[0].mtime), (&b"from/pax"[..], 70_000, 17));
    assert_eq!(found[0].xattrs, [(b"security.capability".to_vec(), b"\x01\x00\x00\x02\n\x00".to_vec())]);
}

#[test]
fn records_cannot_smuggle_paths_or_sizes_in() {
    for (records, want) in [
        (pax(&[("path", b"/abs")]), "absolute"),
        (pax(&[("path", b"a/../b")]), "`..`"),
        (pax(&[("path", b"a\0b")]), "NUL"),
        (pax(&[("size", b"512")]), "PAX size is out of range"),
    ] {
        let message = read(&described(tar::EntryType::XHeader, &records)).map_err(shown).unwrap_err();
        assert!(message.contains(want), "{message:?} has {want:?}");
    }
    let huge = vec![b'x'; 20 << 10];
    assert!(matches!(read(&described(tar::EntryType::GNULongName, &huge)), Err(TarError::Range { .. })));
}

#[test]
fn kinds_that_packages_do_not_have_and_truncated_archives_are_refused() {
    assert!(matches!(read(&described(tar::EntryType::GNUSparse, b"")), Err(TarError::Kind { .. })));
    let bytes = tar(&[Item::File("a", &[7; 2000], 0o644)]);
    assert!(matches!(read(&bytes[..1500]), Err(TarError::Read(_))));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_changed_bytes_never_panic_and_never_leave_the_tree(
        changes in prop::collection::vec((0usize..3000, any::<u8>()), 1..6),
        fix_checksum: bool,
    ) {
        let mut bytes = described(tar::EntryType::XHeader, &pax(&[("path", b"usr/x"), ("mtime", b"5")]));
        let length = bytes.len();
        for (at, byte) in changes {
            bytes[at % length] = byte;
        }
        if fix_checksum {
            for start in (0..length).step_by(512) {
                let block = &mut bytes[start..start + 512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        for entry in read(&bytes).unwrap_or_default() {
            prop_assert!(!entry.path.is_empty() && !entry.path.starts_with(b"/"));
            prop_assert!(entry.path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
        }
    }
}
