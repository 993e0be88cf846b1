use super::reader::{FileType, Image, ReadError};
use super::*;
use crate::tree::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const TIME: u64 = 1_750_000_000;

fn options() -> Options {
    Options::new([9; 16], "usr", TIME)
}

fn tree() -> Tree {
    Tree::new(Meta::root(0o755, TIME))
}

fn node(kind: Kind) -> Node {
    Node::new(kind, Meta::root(0o644, TIME), Origin::new("test"))
}

fn write(tree: &Tree) -> Vec<u8> {
    let plan = Plan::new(tree, &options()).unwrap();
    let mut bytes = Vec::new();
    plan.write_to(&mut bytes, &Reader::new()).unwrap();
    assert_eq!(bytes.len() as u64, plan.len_bytes());
    bytes
}

/// Everything that a tree says about one path, with hard links as the list of all names.
#[derive(Debug, PartialEq)]
struct Seen {
    what: String,
    meta: Meta,
    xattrs: Xattrs,
    content: Vec<u8>,
    names: Vec<Vec<u8>>,
}

fn expected(tree: &Tree) -> BTreeMap<Vec<u8>, Seen> {
    let mut names: BTreeMap<*const FileData, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, node) in tree.walk() {
        if let Some(data) = node.file() {
            names.entry(Arc::as_ptr(data)).or_default().push(path);
        }
    }
    let see = |(path, node): (Vec<u8>, &Node)| {
        let (what, content) = match &node.kind {
            Kind::File(data) => ("File".into(), Reader::new().read_all(&data.content, 1 << 30).unwrap()),
            Kind::Symlink(target) => ("Symlink".into(), target.clone()),
            Kind::Directory(_) => ("Directory".into(), vec![]),
            Kind::Fifo => ("Fifo".into(), vec![]),
            Kind::Socket => ("Socket".into(), vec![]),
            other => (format!("{other:?}"), vec![]),
        };
        let names = node.file().map_or(vec![path.clone()], |data| names[&Arc::as_ptr(data)].clone());
        (path, Seen { what, meta: node.meta, xattrs: node.xattrs.clone(), content, names })
    };
    tree.walk().map(see).collect()
}

fn found(bytes: &[u8]) -> BTreeMap<Vec<u8>, Seen> {
    let image = Image::open(bytes).unwrap();
    let all = image.walk().unwrap();
    let mut names: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for (path, inode) in &all {
        names.entry(inode.nid).or_default().push(path.clone());
    }
    for names in names.values_mut() {
        names.sort_by(|a, b| a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/')));
    }
    let see = |(path, inode): (Vec<u8>, reader::Inode)| {
        let mut content = Vec::new();
        if matches!(inode.file_type, FileType::File | FileType::Symlink) {
            content.resize(inode.size as usize, 1);
            image.read_at(&inode, 0, &mut content).unwrap();
        }
        if inode.file_type != FileType::Directory {
            assert_eq!(inode.nlink as usize, names[&inode.nid].len(), "links of {path:?}");
        }
        let meta = Meta { mode: inode.mode, uid: inode.uid, gid: inode.gid, mtime: inode.mtime };
        let (what, xattrs) = (format!("{:?}", inode.file_type), image.xattrs(&inode).unwrap());
        let names = names[&inode.nid].clone();
        (path, Seen { what, meta, xattrs, content, names })
    };
    all.into_iter().map(see).collect()
}

fn assert_round_trip(tree: &Tree) -> Vec<u8> {
    let bytes = write(tree);
    assert_eq!(found(&bytes), expected(tree));
    bytes
}

#[test]
fn an_empty_tree_is_a_root_directory() {
    let bytes = assert_round_trip(&tree());
    let image = Image::open(&bytes[..]).unwrap();
    assert_eq!(image.superblock().inodes, 1);
    assert_eq!(image.superblock().label_text(), "usr");
    assert_eq!(image.root().unwrap().nlink, 2);
}

#[test]
fn all_file_types_round_trip() {
    let mut tree = tree();
    let kinds = [
        Kind::empty_directory(),
        Kind::file(b"".as_slice()),
        Kind::file(b"short".as_slice()),
        Kind::file(vec![7; 4096]),
        Kind::file(vec![8; 4097]),
        Kind::file(vec![9; 8191]),
        Kind::Symlink(b"x".to_vec()),
        Kind::Symlink(vec![b'y'; 4095]),
        Kind::Symlink(vec![b'z'; 4000]),
        Kind::CharDevice { major: 4095, minor: 1_048_575 },
        Kind::BlockDevice { major: 8, minor: 17 },
        Kind::Fifo,
        Kind::Socket,
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        tree.insert(format!("d/{number}").as_bytes(), node(kind)).unwrap();
    }
    tree.hard_link(b"d/4", b"e/link", Origin::new("test")).unwrap();
    tree.hard_link(b"d/4", b"a", Origin::new("test")).unwrap();
    assert_round_trip(&tree);
}

#[test]
fn owners_modes_and_times_beyond_16_bits_round_trip() {
    let mut tree = tree();
    let metas = [
        Meta { mode: 0o7777, uid: u32::MAX - 1, gid: 70_000, mtime: TIME },
        Meta { mode: 0o4755, uid: 65_535, gid: 65_535, mtime: TIME },
        Meta { mode: 0, uid: 65_536, gid: 0, mtime: TIME },
        Meta { mode: 0o2755, uid: 0, gid: 0, mtime: u64::MAX },
    ];
    for (number, meta) in metas.into_iter().enumerate() {
        let node = Node::new(Kind::file(b"x".as_slice()), meta, Origin::new("test"));
        tree.insert(number.to_string().as_bytes(), node).unwrap();
    }
    assert_round_trip(&tree);
}

#[test]
fn attributes_up_to_the_limits_round_trip() {
    let mut tree = tree();
    for (number, len) in [0, 1, 20, 4000, 5000, 65_535].into_iter().enumerate() {
        let mut file = node(Kind::file(vec![1; 100]));
        file.xattrs.insert(b"security.capability".to_vec(), vec![5; 20]);
        file.xattrs.insert(b"user.long".to_vec(), vec![6; len]);
        file.xattrs.insert([b"user.".as_slice(), &[b'n'; 250]].concat(), vec![]);
        tree.insert(format!("f{number}").as_bytes(), file).unwrap();
    }
    let mut both = node(Kind::Symlink(b"target".to_vec()));
    both.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    both.xattrs.insert(b"user.big".to_vec(), vec![1; 4090]);
    tree.insert(b"link", both).unwrap();
    let mut full = node(Kind::empty_directory());
    full.xattrs = (0..4).map(|n| (format!("user.{n}").into_bytes(), vec![n; 65_515])).collect();
    full.xattrs.insert(b"system.posix_acl_default".to_vec(), vec![2; 52]);
    tree.insert(b"dir", full).unwrap();
    let many = |n: u32| (format!("user.{n:04}").into_bytes(), n.to_le_bytes().to_vec());
    for name in ["many1", "many2"] {
        let mut file = node(Kind::empty_directory());
        file.xattrs = (0..400).map(many).collect();
        tree.insert(name.as_bytes(), file).unwrap();
    }
    assert_round_trip(&tree);
}

#[test]
fn names_sort_by_bytes_whatever_they_hold() {
    let mut tree = tree();
    for name in [
        &b"!before"[..],
        b"-x",
        b".hidden",
        b"..x",
        b"0",
        b"\xff\xfe",
        b"\x01",
        "\u{e9}".as_bytes(),
        &[b'n'; 255],
    ] {
        tree.insert(name, node(Kind::Fifo)).unwrap();
    }
    let bytes = assert_round_trip(&tree);
    let image = Image::open(&bytes[..]).unwrap();
    let names: Vec<_> =
        image.read_dir(&image.root().unwrap()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.is_sorted());
}

#[test]
fn seventy_thousand_files_in_one_directory_round_trip() {
    let mut tree = tree();
    for number in 0..70_000 {
        tree.insert(format!("many/file-with-a-name-{number}").as_bytes(), node(Kind::Fifo)).unwrap();
    }
    assert_round_trip(&tree);
}

#[test]
fn holes_cost_nothing_and_read_as_zeros() {
    let mut tree = tree();
    let piece = |at, byte| Piece { at, content: Content::Bytes(vec![byte; 5000].into()) };
    let sparse = FileData::sparse(6 << 30, vec![piece(4096, 1), piece(5 << 30, 2)]);
    tree.insert(b"sparse", node(Kind::File(Arc::new(sparse)))).unwrap();
    tree.insert(b"hole", node(Kind::File(Arc::new(FileData::sparse(2 << 30, vec![]))))).unwrap();
    tree.insert(b"tail", node(Kind::File(Arc::new(FileData::sparse(8195, vec![piece(4097, 3)]))))).unwrap();
    let bytes = write(&tree);
    assert!(bytes.len() < 8 << 20, "{}", bytes.len());
    let image = Image::open(&bytes[..]).unwrap();
    let inodes: BTreeMap<_, _> = image.walk().unwrap().into_iter().collect();
    let at = |name: &[u8], offset: u64| {
        let mut byte = [9];
        image.read_at(&inodes[name], offset, &mut byte).unwrap();
        byte[0]
    };
    assert_eq!(inodes[&b"sparse"[..]].size, 6 << 30);
    let data = [
        (0, 0),
        (4095, 0),
        (4096, 1),
        (9095, 1),
        (9096, 0),
        (5 << 30, 2),
        ((5 << 30) + 4999, 2),
        ((5 << 30) + 5000, 0),
    ];
    for (offset, want) in data {
        assert_eq!(at(b"sparse", offset), want, "{offset}");
    }
    assert_eq!((at(b"hole", 0), at(b"hole", (2 << 30) - 1)), (0, 0));
    assert_eq!((at(b"tail", 4096), at(b"tail", 4097), at(b"tail", 8194)), (0, 3, 3));
}

#[test]
fn equal_files_share_their_blocks() {
    let mut tree = tree();
    tree.insert(b"a", node(Kind::file(vec![1; 100_000]))).unwrap();
    let one = write(&tree).len();
    tree.insert(b"b", node(Kind::file(vec![1; 100_000]))).unwrap();
    assert_eq!(assert_round_trip(&tree).len(), one);
}

#[test]
fn what_the_format_cannot_hold_is_refused_with_its_path() {
    let refuse = |path: &[u8], node: Node| {
        let mut tree = tree();
        tree.insert(path, node).unwrap();
        Plan::new(&tree, &options()).unwrap_err().to_string()
    };
    let long = [b"usr/".as_slice(), &[b'n'; 256]].concat();
    assert!(refuse(&long, node(Kind::Fifo)).starts_with("/usr/nnn"));
    assert!(refuse(&long, node(Kind::Fifo)).ends_with("the name has 256 bytes, 255 are the most"));
    assert!(
        refuse(b"l", node(Kind::Symlink(vec![b'x'; 4096]))).starts_with("/l: the link target has 4096 bytes")
    );
    assert!(refuse(b"l", node(Kind::Symlink(vec![]))).starts_with("/l: "));
    assert!(refuse(b"d", node(Kind::CharDevice { major: 4096, minor: 0 })).starts_with("/d: device 4096:0"));
    let mut nobody = node(Kind::Fifo);
    nobody.meta.gid = u32::MAX;
    assert!(refuse(b"n", nobody).starts_with("/n: owner 0 and group 4294967295"));
    let mut odd = node(Kind::Fifo);
    odd.xattrs.insert(b"btrfs.compression".to_vec(), vec![]);
    assert!(refuse(b"x", odd).starts_with("/x: extended attribute \"btrfs.compression\""));
    let label = Options { label: "seventeen letters".into(), ..options() };
    assert!(matches!(Plan::new(&tree(), &label), Err(PlanError::Label { .. })));
}

#[test]
fn hard_links_that_disagree_are_refused() {
    let mut tree = tree();
    tree.insert(b"a", node(Kind::file(b"x".as_slice()))).unwrap();
    tree.hard_link(b"a", b"b", Origin::new("test")).unwrap();
    tree.get_mut(b"b").unwrap().meta.mode = 0o4755;
    assert!(matches!(Plan::new(&tree, &options()), Err(PlanError::HardLinksDiffer { .. })));
}

#[test]
fn parallel_and_sequential_writing_give_the_same_bytes() {
    let mut tree = tree();
    for number in 0..40u32 {
        let content: Vec<u8> =
            (0..number * 9001).map(|n| if n % 20_000 > 9_000 { 0 } else { (n * number) as u8 }).collect();
        tree.insert(format!("f{number}").as_bytes(), node(Kind::file(content))).unwrap();
    }
    let want = write(&tree);
    let plan = Plan::new(&tree, &options()).unwrap();
    let file = tempfile::tempfile().unwrap();
    plan.write_at(&file, 8192, &Reader::new()).unwrap();
    let mut bytes = vec![1; want.len()];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 8192).unwrap();
    assert!(bytes == want);
    let image = Image::open(reader::Region { file: &file, base: 8192 }).unwrap();
    assert_eq!(image.walk().unwrap().len(), 41);
}

#[test]
fn a_changed_file_leaves_the_data_of_others_in_equal_blocks() {
    let build = |len: usize| {
        let mut tree = tree();
        tree.insert(b"a", node(Kind::file(vec![1; len]))).unwrap();
        tree.insert(b"b", node(Kind::file((0..50_000u32).map(|n| ((n * n) >> 8) as u8).collect::<Vec<_>>())))
            .unwrap();
        write(&tree)
    };
    let (old, new) = (build(5000), build(60_000));
    let blocks: std::collections::HashSet<_> = old.chunks(4096).collect();
    let kept = new.chunks(4096).filter(|block| blocks.contains(block)).count();
    assert!(kept >= 13, "{kept}");
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let sizes = prop_oneof![0usize..100, 900usize..1200, 3900usize..4300, 0usize..30_000];
    let piece = (0u64..60_000, 1usize..9000, any::<u8>());
    prop_oneof![
        4 => (sizes, any::<u8>()).prop_map(|(len, byte)| Kind::file(vec![byte; len])),
        1 => (0u64..100_000, proptest::collection::vec(piece, 0..3)).prop_map(|(len, pieces)| {
            let mut at = 0;
            let pieces = pieces.into_iter().map(|(gap, len, byte)| {
                let piece = Piece { at: at + gap, content: Content::Bytes(vec![byte; len].into()) };
                at += gap + len as u64;
                piece
            }).collect();
            Kind::File(Arc::new(FileData::sparse(len, pieces)))
        }),
        2 => Just(Kind::empty_directory()),
        1 => proptest::collection::vec(1u8.., 1..4095).prop_map(Kind::Symlink),
        1 => (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => Just(Kind::Fifo),
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    let name = prop_oneof!["user\\.[a-z]{1,9}", Just("security.capability".to_string())];
    let xattrs = proptest::collection::btree_map(
        name.prop_map(String::into_bytes),
        prop_oneof![proptest::collection::vec(0u8..3, 0..4), proptest::collection::vec(0u8..3, 0..3000)],
        0..3,
    );
    let meta =
        (0u16..0o10000, prop_oneof![0u32..3, 0..u32::MAX], 0u32..3, prop_oneof![Just(TIME), any::<u64>()]);
    (any_kind(), xattrs, meta).prop_map(|(kind, xattrs, (mode, uid, gid, mtime))| Node {
        xattrs,
        ..Node::new(kind, Meta { mode, uid, gid, mtime }, Origin::new("test"))
    })
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let path = "[ -~]{1,12}(/[a-c]{1,3}){0,3}"
        .prop_filter("no '..'", |path| !path.split('/').any(|name| name == ".."));
    let entries = proptest::collection::vec((path, any_node()), 0..40);
    (entries, proptest::collection::vec((any::<prop::sample::Index>(), "[a-z]{9}"), 0..4)).prop_map(
        |(entries, links)| {
            let mut tree = tree();
            for (path, node) in entries {
                let _ = tree.insert(path.as_bytes(), node); // a parent may be a file already
            }
            let files: Vec<_> =
                tree.walk().filter(|(_, node)| node.file().is_some()).map(|(path, _)| path).collect();
            for (index, name) in links {
                if !files.is_empty() {
                    let _ = tree.hard_link(
                        files[index.index(files.len())].as_slice(),
                        name.as_bytes(),
                        Origin::new("test"),
                    );
                }
            }
            tree
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_round_trips(tree in any_tree()) {
        let bytes = write(&tree);
        prop_assert_eq!(found(&bytes), expected(&tree));
    }

    #[test]
    fn damaged_images_are_read_or_refused_but_never_panic(
        tree in any_tree(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write(&tree);
        let metadata = Plan::new(&tree, &options()).unwrap().metadata_bytes() as usize;
        for (at, byte) in damage {
            bytes[4096 + at.index(metadata - 4096)] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(4096));
        let read = || -> Result<(), ReadError> {
            let image = Image::open(&bytes[..])?;
            for (_, inode) in image.walk()? {
                let _ = image.xattrs(&inode);
                let _ = image.read_link(&inode);
                let _ = image.read_at(&inode, inode.size.saturating_sub(5000), &mut [0; 6000]);
            }
            Ok(())
        };
        let _ = read();
    }
}
