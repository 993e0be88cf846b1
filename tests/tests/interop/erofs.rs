//! File systems of the hardest files there are.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use builder::erofs::{Options, Plan};
use builder::tree::{Content, FileData, Inserted, Kind, Meta, Node, Origin, Piece, Reader, Tree};
use ferrite_tests::scratch;

use super::*;

const TIME: u64 = 1_750_000_000;

fn node(kind: Kind, mode: u16) -> Node {
    Node::new(kind, Meta::root(mode, TIME), Origin::new("test"))
}

fn write_erofs(tree: &Tree, path: &Path) {
    let plan = Plan::new(tree, &Options::new([7; 16], "hard", TIME)).unwrap();
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    plan.write_at(&file, 0, &Reader::new()).unwrap();
    assert_eq!(file.metadata().unwrap().len(), plan.len_bytes());
}

/// A file of 32 MiB with 5000 bytes at each of these places.
fn sparse(places: &[u64]) -> Kind {
    let piece = |at: &u64| Piece { at: *at, content: Content::Bytes(vec![0xab; 5000].into()) };
    Kind::File(Arc::new(FileData::sparse(32 << 20, places.iter().map(piece).collect())))
}

/// Names, contents and links that any user may make.
fn plain_tree() -> Tree {
    let mut tree = Tree::new(Meta::root(0o755, TIME));
    let mut put =
        |path: &[u8], kind: Kind| assert_eq!(tree.insert(path, node(kind, 0o644)).unwrap(), Inserted::New);
    put(b"not-utf8-\xff\xfe\x80", Kind::file(b"bytes".as_slice()));
    put(b"new\nline", Kind::file(b"x".as_slice()));
    put(&[b'n'; 255], Kind::file(b"long name".as_slice()));
    put(b"loop/a", Kind::Symlink(b"b".to_vec()));
    put(b"loop/b", Kind::Symlink(b"a".to_vec()));
    put(b"long-link", Kind::Symlink([b"t/".repeat(2047), b"t".to_vec()].concat()));
    for len in [0, 1, 4095, 4096, 4097, 8191, 1 << 20, (3 << 20) + 17] {
        let bytes: Vec<u8> = (0..len).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        put(format!("sizes/{len}").as_bytes(), Kind::file(bytes));
    }
    put(b"sparse", sparse(&[0, 20 << 20, (32 << 20) - 5000]));
    for number in 0..3000 {
        put(format!("many/name-{number:05}").as_bytes(), Kind::file(number.to_string().into_bytes()));
    }
    tree.insert(b"empty", node(Kind::empty_directory(), 0o755)).unwrap();
    tree.insert(b"set-uid", node(Kind::file(vec![1; 9000]), 0o4755)).unwrap();
    tree.insert(b"set-gid", node(Kind::file(vec![2; 9000]), 0o2755)).unwrap();
    for name in [&b"links/one"[..], b"links/two", b"elsewhere"] {
        tree.hard_link(b"sizes/4097", name, Origin::new("test")).unwrap();
    }
    tree
}

/// What only root may make as well: devices, owners, set-id bits, attributes.
fn hard_tree() -> Tree {
    let mut tree = plain_tree();
    // fsck.erofs extracts such a file without its last hole: checked here, but not extracted.
    tree.insert(b"hole-at-the-end", node(sparse(&[0, 20 << 20]), 0o644)).unwrap();
    tree.insert(b"nothing-but-a-hole", node(sparse(&[]), 0o644)).unwrap();
    tree.insert(b"dev/null", node(Kind::CharDevice { major: 1, minor: 3 }, 0o666)).unwrap();
    tree.insert(b"dev/big", node(Kind::BlockDevice { major: 4095, minor: 1_048_575 }, 0o600)).unwrap();
    tree.insert(b"dev/pipe", node(Kind::Fifo, 0o600)).unwrap();
    tree.insert(b"dev/socket", node(Kind::Socket, 0o600)).unwrap();
    tree.insert(b"bin/sudo", node(Kind::file(vec![1; 9000]), 0o4755)).unwrap();
    tree.insert(b"bin/agent", node(Kind::file(vec![2; 9000]), 0o2755)).unwrap();
    tree.insert(b"tmp", node(Kind::empty_directory(), 0o1777)).unwrap();
    let mut owned = node(Kind::file(b"owned".as_slice()), 0o600);
    (owned.meta.uid, owned.meta.gid) = (u32::MAX - 1, 70_000);
    tree.insert(b"owned", owned).unwrap();
    let mut capable = node(Kind::file(vec![3; 100]), 0o755);
    capable.xattrs.insert(
        b"security.capability".to_vec(),
        vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    capable.xattrs.insert(b"user.comment".to_vec(), b"hello".repeat(300));
    tree.insert(b"bin/ping", capable.clone()).unwrap();
    tree.insert(b"bin/ping6", capable).unwrap();
    let mut folder = node(Kind::empty_directory(), 0o755);
    folder.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    tree.insert(b"opaque", folder).unwrap();
    tree
}

#[test]
fn fsck_erofs_accepts_the_hard_cases() {
    let (tools, folder) = (tools(), scratch().unwrap());
    let path = folder.path().join("hard.erofs");
    write_erofs(&hard_tree(), &path);
    assert_eq!(check(tools.command("fsck.erofs").unwrap().arg(&path)), "");
    // What its sibling says of single files.
    let about =
        |name: &str| check(tools.command("dump.erofs").unwrap().arg(format!("--path={name}")).arg(&path));
    let sudo = about("/bin/sudo");
    // It shows no more than nine bits of the mode.
    assert!(sudo.contains("Access: 0755/rwxr-xr-x") && sudo.contains("Size: 9000"), "{sudo}");
    let owned = about("/owned");
    assert!(owned.contains("Uid: 4294967294") && owned.contains("Gid: 70000"), "{owned}");
    let ping = about("/bin/ping");
    assert!(ping.contains("Xattr size:") && !ping.contains("Xattr size: 0"), "{ping}");
    assert!(about("/hole-at-the-end").contains("Size: 33554432"), "{}", about("/hole-at-the-end"));
    assert!(about("/elsewhere").contains("Links: 4"), "{}", about("/elsewhere"));
}

#[test]
fn fsck_erofs_extracts_what_went_in() {
    let (tools, folder) = (tools(), scratch().unwrap());
    let (path, out) = (folder.path().join("plain.erofs"), folder.path().join("out"));
    let tree = plain_tree();
    write_erofs(&tree, &path);
    check(
        tools
            .command("fsck.erofs")
            .unwrap()
            .arg(format!("--extract={}", out.display()))
            .args(["--no-preserve-owner", "--preserve-perms"])
            .arg(&path),
    );
    let mut paths = BTreeSet::from([PathBuf::new()]);
    for (path, node) in tree.walk().skip(1) {
        let path = Path::new(std::ffi::OsStr::from_bytes(&path)).to_owned();
        let found = fs::symlink_metadata(out.join(&path)).unwrap();
        match &node.kind {
            Kind::File(data) => {
                let want = Reader::new().read_all(&data.content, 1 << 30).unwrap();
                let bytes = fs::read(out.join(&path)).unwrap();
                let differs = bytes.iter().zip(&want).position(|(found, want)| found != want);
                assert_eq!((bytes.len(), differs), (want.len(), None), "{}", path.display());
                assert_eq!((found.mode() & 0o7777) as u16, node.meta.mode, "{}", path.display());
                assert_eq!(found.mtime() as u64, TIME);
            }
            Kind::Symlink(target) => {
                assert_eq!(fs::read_link(out.join(&path)).unwrap().as_os_str().as_bytes(), target);
            }
            _ => assert!(found.is_dir()),
        }
        paths.insert(path);
    }
    let inode = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
    assert_eq!(inode("links/one"), inode("sizes/4097"));
    // Nothing came out that did not go in.
    let mut folders = vec![out.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            assert!(paths.contains(entry.path().strip_prefix(&out).unwrap()), "{:?}", entry.path());
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
}
