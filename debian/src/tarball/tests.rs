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
        (Item::Hard("a", "b"), "no earlier file of the archive"),
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

/// A ustar header as it is on the wire, its checksum right whatever `change` does, with its content.
fn raw(kind: u8, name: &[u8], content: &[u8], change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(9);
    header.set_size(content.len() as u64);
    change(&mut header);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn keep(_: &mut tar::Header) {}

/// What a file with holes reads as.
fn expand(archive: &[u8], kind: &EntryKind) -> Vec<u8> {
    let EntryKind::Sparse { size, pieces } = kind else { panic!("{kind:?}") };
    let mut out = vec![0; usize::try_from(*size).unwrap()];
    for Piece { at, len, offset } in pieces {
        let [at, len, offset] = [*at, *len, *offset].map(|number| usize::try_from(number).unwrap());
        out[at..at + len].copy_from_slice(&archive[offset..offset + len]);
    }
    out
}

/// A file of 9000 bytes with data at 512 to 1524 and at its end, in every form that there is: name, archive.
fn sparse_archives(data: &[u8; 1024 + 8]) -> Vec<(&'static str, Vec<u8>)> {
    let last = raw(b'0', b"last", b"x", keep);
    let record = |records: &[(&str, &[u8])], content: &[u8]| {
        [raw(b'x', b"pax", &pax(records), keep), raw(b'0', b"GNUSparseFile.0/s", content, keep), last.clone()]
            .concat()
    };
    let place = |list: &mut tar::GnuSparseHeader, at: u64, len: u64| {
        list.set_offset(at);
        list.set_length(len);
    };
    let old = raw(b'S', b"s", data, |header| {
        let gnu = header.as_gnu_mut().unwrap();
        place(&mut gnu.sparse[0], 512, 1024);
        place(&mut gnu.sparse[1], 8992, 8);
        gnu.set_real_size(9000);
    });
    // The second place in a block of its own.
    let extended = raw(b'S', b"s", b"", |header| {
        header.set_size(data.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        place(&mut gnu.sparse[0], 512, 1024);
        gnu.set_real_size(9000);
        gnu.set_is_extended(true);
    });
    let mut more = tar::GnuExtSparseHeader::new();
    place(&mut more.sparse[0], 8992, 8);
    place(&mut more.sparse[1], 9000, 0);
    let mut content = data.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    let mut map = b"2\n512\n1024\n8992\n8\n".to_vec();
    map.resize(512, 0);
    vec![
        ("old", [old, last.clone()].concat()),
        ("old, extended", [extended, more.as_bytes().to_vec(), content, last.clone()].concat()),
        (
            "0.0",
            record(
                &[
                    ("path", b"s"),
                    ("GNU.sparse.size", b"9000"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.offset", b"512"),
                    ("GNU.sparse.numbytes", b"1024"),
                    ("GNU.sparse.offset", b"8992"),
                    ("GNU.sparse.numbytes", b"8"),
                ],
                data,
            ),
        ),
        (
            "0.1",
            record(
                &[
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.size", b"9000"),
                    ("GNU.sparse.map", b"512,1024,8992,8"),
                ],
                data,
            ),
        ),
        (
            "1.0",
            record(
                &[
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"9000"),
                ],
                &[map, data.to_vec()].concat(),
            ),
        ),
    ]
}

#[test]
fn files_with_holes_are_read_in_every_form_and_packages_have_none() {
    let data: [u8; 1032] = std::array::from_fn(|at| u8::try_from(at % 251).unwrap() + 1);
    let mut want = vec![0; 9000];
    want[512..1536].copy_from_slice(&data[..1024]);
    want[8992..].copy_from_slice(&data[1024..]);
    for (form, archive) in sparse_archives(&data) {
        let found = tree_entries(&archive[..]).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!((found[0].path.as_slice(), found[1].path.as_slice()), (&b"s"[..], &b"last"[..]), "{form}");
        assert!(expand(&archive, &found[0].kind) == want, "{form}: {:?}", found[0].kind);
        let refused = read(&archive).unwrap_err();
        assert!(matches!(refused, TarError::Kind { .. }), "{form}: {refused}");
    }
    let hole = raw(b'x', b"pax", &pax(&[("GNU.sparse.size", b"2147483648"), ("GNU.sparse.map", b"")]), keep);
    let found = tree_entries(&[hole, raw(b'0', b"h", b"", keep)].concat()[..]).unwrap();
    assert_eq!(found[0].kind, EntryKind::Sparse { size: 1 << 31, pieces: Vec::new() });
}

#[test]
fn maps_that_lie_are_refused() {
    let one = |records: &[(&str, &[u8])], content: &[u8]| {
        let archive = [raw(b'x', b"pax", &pax(records), keep), raw(b'0', b"s", content, keep)].concat();
        tree_entries(&archive[..]).map_err(shown).unwrap_err()
    };
    for map in
        ["0,8,4,8", "0,8,96,8", "0,9", "8,8,0,8", "0,8,8", "x,8", "0,8,18446744073709551615,8", "-1,16"]
    {
        let message = one(&[("GNU.sparse.size", b"100"), ("GNU.sparse.map", map.as_bytes())], &[1; 16]);
        assert!(message.ends_with("its map of holes is out of range"), "{map}: {message}");
    }
    let version = |minor: &'static [u8]| {
        [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", minor), ("GNU.sparse.realsize", b"9")]
    };
    assert!(one(&version(b"0"), b"99999999999999999999999\n").contains("map of holes"));
    assert!(one(&version(b"0"), b"1\n0\n").contains("map of holes"));
    assert!(one(&version(b"1"), b"1\n0\n").contains("unknown form"));
}

#[test]
fn trees_have_what_packages_have_not() {
    let long = [b"d/".repeat(60), b"caf\xe9".to_vec()].concat();
    let archive = [
        raw(b'2', b"link", b"", |header| header.as_old_mut().linkname[..2].copy_from_slice(b"to")),
        raw(b'1', b"same", b"", |header| header.as_old_mut().linkname[..4].copy_from_slice(b"link")),
        raw(b'3', b"null", b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }),
        raw(b'6', b"pipe", b"", keep),
        raw(b'x', b"pax", &pax(&[("path", &long), ("SCHILY.xattr.user.a", &[0xff; 60_000])]), keep),
        raw(b'0', b"x", b"content", |header| header.set_mode(0o6755)),
    ]
    .concat();
    let found = tree_entries(&archive[..]).unwrap();
    assert_eq!(found[1].kind, EntryKind::HardLink(b"link".to_vec()));
    assert_eq!(found[2].kind, EntryKind::CharDevice { major: 1, minor: 3 });
    assert_eq!(found[3].kind, EntryKind::Fifo);
    assert_eq!((&found[4].path, found[4].mode), (&long, 0o6755));
    assert_eq!(found[4].xattrs, [(b"user.a".to_vec(), vec![0xff; 60_000])]);
    let message = read(&archive).map_err(shown).unwrap_err();
    assert!(message.contains("no earlier file of the archive"), "packages link to files alone: {message}");
}

#[test]
fn sizes_that_no_header_can_hold_come_from_the_record() {
    let huge = raw(b'x', b"pax", &pax(&[("size", b"8589934592")]), keep);
    let archive = [huge, raw(b'0', b"x", b"", keep)].concat();
    // Eight GiB are announced and do not come.
    assert!(matches!(read(&archive), Err(TarError::Read(_))));
}

/// Takes every block for a header, with a right checksum.
fn fix_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
        let _ = read(&bytes);
        let _ = tree_entries(&bytes[..]);
    }

    #[test]
    fn any_map_lies_within_the_file_and_the_archive(
        form in 0usize..5, changes in prop::collection::vec((0usize..3000, any::<u8>()), 0..5),
    ) {
        let (_, mut bytes) = sparse_archives(&[7; 1032]).swap_remove(form);
        let length = bytes.len();
        for (at, byte) in changes {
            bytes[at % length] = byte;
        }
        fix_checksums(&mut bytes);
        for entry in tree_entries(&bytes[..]).unwrap_or_default() {
            if let EntryKind::Sparse { size, pieces } = entry.kind {
                let mut last = 0;
                for Piece { at, len, offset } in pieces {
                    prop_assert!(len > 0 && at >= last && at + len <= size && offset + len <= length as u64);
                    last = at + len;
                }
            }
        }
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
            fix_checksums(&mut bytes);
        }
        for entry in read(&bytes).unwrap_or_default() {
            prop_assert!(!entry.path.is_empty() && !entry.path.starts_with(b"/"));
            prop_assert!(entry.path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
        }
    }
}
