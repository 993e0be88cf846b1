use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::sparse::tests::pieces;
use crate::tree::{Content, FileData, Kind, Reader};

/// A recipe in `folder` with these lines under `trees:`.
pub fn recipe(folder: &Path, trees: &str) -> Recipe {
    let text = format!(
        "name: demo\nversion: 0.1.0\narchitecture: x86_64\ndebian: {{suites: [trixie]}}\npackages: []\n\
         kernel: {{package: linux-image-cloud-amd64}}\ninitramfs: {{modules: [virtio_blk]}}\ntrees:\n{trees}"
    );
    Recipe::parse("r.yaml", text.as_bytes(), folder).unwrap_or_else(|error| panic!("{error}"))
}

fn get<'a>(tree: &'a SourceTree<'_>, path: &[u8]) -> &'a Node {
    let found = tree.entries.iter().find(|(name, _)| name == path);
    &found.unwrap_or_else(|| panic!("no {}", path.escape_ascii())).1
}

fn data(node: &Node) -> &Arc<FileData> {
    node.file().unwrap()
}

fn content(node: &Node) -> Vec<u8> {
    Reader::new().read_all(&data(node).content, 1 << 30).unwrap()
}

#[test]
fn a_folder_is_read_as_it_is_and_no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("overlay");
    let at = |name: &[u8]| root.join(std::ffi::OsStr::from_bytes(name));
    fs::create_dir_all(at(b"usr/a")).unwrap();
    fs::create_dir_all(at(b"usr/b/empty")).unwrap();
    fs::write(at(b"usr/a/tool"), "tool").unwrap();
    fs::set_permissions(at(b"usr/a/tool"), Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(at(b"usr/a/tool"), at(b"usr/b/same")).unwrap();
    fs::write(at(b"usr/a/other"), "tool").unwrap();
    fs::write(at(b"usr/caf\xe9"), "latin").unwrap();
    symlink("y", at(b"usr/x")).unwrap();
    symlink("x", at(b"usr/y")).unwrap();
    symlink("/etc", at(b"usr/out")).unwrap();
    mknodat(CWD, at(b"usr/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let recipe = recipe(folder.path(), "  - source: overlay\n");
    let trees = Trees::read(&recipe, folder.path()).unwrap();
    let [tree] = trees.list() else { panic!() };
    let names: Vec<_> = tree.entries.iter().map(|(name, _)| name.as_slice()).collect();
    let expected: [&[u8]; 12] = [
        b"usr",
        b"usr/a",
        b"usr/a/other",
        b"usr/a/tool",
        b"usr/b",
        b"usr/b/empty",
        b"usr/b/same",
        b"usr/caf\xe9",
        b"usr/out",
        b"usr/pipe",
        b"usr/x",
        b"usr/y",
    ];
    assert_eq!(names, expected, "parents first, bytes in order, nothing of /etc");
    let (tool, same) = (get(tree, b"usr/a/tool"), get(tree, b"usr/b/same"));
    assert_eq!((tool.meta.mode, tool.meta.uid, tool.meta.mtime), (0o4751, 0, 0));
    assert!(Arc::ptr_eq(data(tool), data(same)), "two names of one file");
    assert!(!Arc::ptr_eq(data(tool), data(get(tree, b"usr/a/other"))));
    assert_eq!(data(tool).sha256, Some(Sha256::digest("tool").into()));
    assert_eq!(content(get(tree, b"usr/caf\xe9")), b"latin");
    assert!(matches!(&get(tree, b"usr/x").kind, Kind::Symlink(target) if target == b"y"));
    assert!(matches!(get(tree, b"usr/pipe").kind, Kind::Fifo));
    assert!(get(tree, b"usr/b/empty").entries().unwrap().is_empty());
    assert!(!tree.is_archive);
}

#[test]
fn attributes_that_were_set_on_purpose_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("overlay");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("x"), "").unwrap();
    match setxattr(root.join("x"), "user.note", b"a\0b", XattrFlags::empty()) {
        Err(error) => {
            return eprintln!("SKIPPED: the file system of {} has no attributes: {error}", root.display());
        }
        Ok(()) => setxattr(&root, "user.of-the-root", b"", XattrFlags::empty()).unwrap(),
    }
    let recipe = recipe(folder.path(), "  - source: overlay\n");
    let trees = Trees::read(&recipe, folder.path()).unwrap();
    let found = &get(&trees.list()[0], b"x").xattrs;
    assert_eq!(found.iter().collect::<Vec<_>>(), [(&b"user.note".to_vec(), &b"a\0b".to_vec())]);
}

#[test]
fn what_cannot_be_a_tree_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let failure = |source: &str| {
        let recipe = recipe(folder.path(), &format!("  - source: {source}\n"));
        Trees::read(&recipe, folder.path()).unwrap_err()
    };
    let missing = failure("nowhere").to_string();
    assert!(missing.starts_with("cannot read ") && missing.contains("nowhere"), "{missing}");
    fs::write(folder.path().join("a.zip"), "PK").unwrap();
    assert!(matches!(failure("a.zip"), TreesError::Form { .. }));
    fs::write(folder.path().join("a.tar"), [b'x'; 600]).unwrap();
    assert!(matches!(failure("a.tar"), TreesError::Archive { .. }));
    fs::write(folder.path().join("a.tar.xz"), "no xz").unwrap();
    assert!(matches!(failure("a.tar.xz"), TreesError::Io { .. }));
    let root = folder.path().join("sockets");
    fs::create_dir(&root).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("s")).unwrap();
    assert!(failure("sockets").to_string().contains("the socket "));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.as_bytes().starts_with(b".")), "{left:?}");
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, content: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_uid(12);
        header.set_gid(13);
        header.set_mtime(1_000);
        header.set_device_major(7).unwrap();
        header.set_device_minor(9).unwrap();
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_path(name).unwrap();
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    add(tar::EntryType::Directory, "./", b"", "");
    add(tar::EntryType::Regular, "./usr/x", b"content of x", "");
    add(tar::EntryType::Link, "usr/again", b"", "usr/x");
    add(tar::EntryType::Char, "usr/null", b"", "");
    add(tar::EntryType::Link, "usr/zero", b"", "usr/null");
    builder.into_inner().unwrap()
}

#[test]
fn archives_are_read_in_every_compression_and_what_was_unpacked_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (root, scratch) = (folder.path().join("recipes"), folder.path().join("scratch"));
    [&root, &scratch].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let plain = archive();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let forms = [
        ("a.tar", plain.clone()),
        ("a.tar.gz", gzip.finish().unwrap()),
        ("a.tar.xz", xz.finish().unwrap()),
        ("a.tar.zst", zstd::encode_all(&plain[..], 1).unwrap()),
    ];
    for (name, bytes) in forms {
        fs::write(root.join(name), bytes).unwrap();
        let recipe = recipe(&root, &format!("  - source: {name}\n"));
        let trees = Trees::read(&recipe, &scratch).unwrap();
        let [tree] = trees.list() else { panic!() };
        assert!(tree.is_archive);
        let names: Vec<_> = tree.entries.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        assert_eq!(names, ["usr/x", "usr/again", "usr/null", "usr/zero"], "{name}");
        let x = get(tree, b"usr/x");
        assert_eq!(
            (content(x), x.meta.uid, x.meta.gid, x.meta.mtime),
            (b"content of x".to_vec(), 12, 13, 1000)
        );
        assert!(Arc::ptr_eq(data(x), data(get(tree, b"usr/again"))));
        assert!(matches!(get(tree, b"usr/zero").kind, Kind::CharDevice { major: 7, minor: 9 }));
        drop(trees);
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn every_change_of_a_tree_is_noticed_and_reading_is_none() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 7] = [
        ("content of the same length", |root| fs::write(root.join("d/x"), "y").unwrap()),
        ("content at the same time", |root| {
            let time = fs::metadata(root.join("d/x")).unwrap().modified().unwrap();
            fs::write(root.join("d/x"), "z").unwrap();
            File::options().append(true).open(root.join("d/x")).unwrap().set_modified(time).unwrap();
        }),
        ("mode", |root| fs::set_permissions(root.join("d/x"), Permissions::from_mode(0o600)).unwrap()),
        ("new file", |root| fs::write(root.join("d/new"), "").unwrap()),
        ("other name", |root| fs::rename(root.join("d/new"), root.join("d/neu")).unwrap()),
        ("another link", |root| fs::hard_link(root.join("d/x"), root.join("link")).unwrap()),
        ("no folder any more", |root| fs::remove_dir_all(root).unwrap()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("overlay");
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("d/x"), "x").unwrap();
    let recipe = recipe(folder.path(), "  - source: overlay\n");
    for (what, change) in changes {
        let trees = Trees::read(&recipe, folder.path()).unwrap();
        trees.still_the_same().unwrap();
        change(&root);
        assert!(matches!(trees.still_the_same(), Err(TreesError::Changed)), "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn zeros_are_holes_whatever_the_file_system_knows(len in 1u64..3 << 20, pieces in pieces(3 << 20)) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("overlay");
        fs::create_dir(&root).unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(len).unwrap();
        let mut bytes = vec![0; len as usize];
        for (at, part) in pieces {
            let at = at % len;
            let part = &part[..part.len().min((len - at) as usize)];
            sparse.write_all_at(part, at).unwrap();
            bytes[at as usize..][..part.len()].copy_from_slice(part);
        }
        fs::write(root.join("dense"), &bytes).unwrap();
        let recipe = recipe(folder.path(), "  - source: overlay\n");
        let trees = Trees::read(&recipe, folder.path()).unwrap();
        let [sparse, dense] = ["sparse", "dense"].map(|name| get(&trees.list()[0], name.as_bytes()));
        let spans = |node: &Node| match &data(node).content {
            Content::Sparse { pieces, .. } => pieces.iter().map(|piece| (piece.at, piece.content.len())).collect(),
            _ => vec![(0, len)],
        };
        prop_assert_eq!(spans(sparse), spans(dense));
        prop_assert_eq!(data(sparse).sha256, Some(Sha256::digest(&bytes).into()));
        prop_assert!(content(sparse) == bytes && content(dense) == bytes);
        for chunk in (0..len / 65_536).map(|chunk| chunk * 65_536) {
            let is_zero = bytes[chunk as usize..][..65_536].iter().all(|byte| *byte == 0);
            prop_assert_eq!(data(sparse).content.may_hold_data(chunk, chunk + 65_536), !is_zero);
        }
    }
}
