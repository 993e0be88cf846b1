use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::path::Path;

const TIME: u64 = 1_700_000_000;

fn tree() -> Tree {
    Tree::new(Meta::root(0o755, TIME))
}

fn file(text: &str, origin: &str) -> Node {
    Node::new(Kind::file(text.as_bytes()), Meta::root(0o644, TIME), Origin::new(origin))
}

fn directory(mode: u16, origin: &str) -> Node {
    Node::new(Kind::empty_directory(), Meta::root(mode, TIME), Origin::new(origin))
}

fn names(tree: &Tree) -> Vec<String> {
    tree.walk().map(|(path, _)| String::from_utf8_lossy(&path).into_owned()).collect()
}

#[test]
fn missing_parents_are_made_as_root_0755() {
    let mut tree = tree();
    tree.insert(b"./usr/bin/true", file("", "coreutils")).unwrap();
    let bin = tree.get(b"/usr/bin/").unwrap();
    assert_eq!(bin.meta, Meta::root(0o755, TIME));
    assert!(bin.origin.is_implied());
    assert_eq!(names(&tree), ["", "usr", "usr/bin", "usr/bin/true"]);
}

#[test]
fn two_origins_of_one_file_are_a_conflict_that_names_both() {
    let mut tree = tree();
    tree.insert(b"usr/bin/x", file("same", "one 1.0")).unwrap();
    let error = tree.insert(b"/usr/bin/x", file("same", "two 2.0")).unwrap_err();
    assert_eq!(error.to_string(), "/usr/bin/x comes from one 1.0 (file) and from two 2.0 (file)");
    assert_eq!(tree.replace(b"usr/bin/x", file("ours", "recipe:3")).unwrap(), Inserted::Replaced);
    assert_eq!(tree.get(b"usr/bin/x").unwrap().origin.as_str(), "recipe:3");
}

#[test]
fn directories_merge_and_the_first_named_origin_counts() {
    let mut tree = tree();
    tree.insert(b"var/x/y", file("", "a")).unwrap();
    assert_eq!(tree.insert(b"var/x", directory(0o700, "b")).unwrap(), Inserted::Merged);
    assert_eq!(tree.insert(b"var/x", directory(0o777, "c")).unwrap(), Inserted::Merged);
    let merged = tree.get(b"var/x").unwrap();
    assert_eq!((merged.meta.mode, merged.origin.as_str()), (0o700, "b"));
    assert!(tree.get(b"var/x/y").is_some());
}

#[test]
fn a_file_is_no_parent_and_a_full_directory_is_not_replaced() {
    let mut tree = tree();
    tree.insert(
        b"lib",
        Node::new(Kind::Symlink(b"usr/lib".to_vec()), Meta::root(0o777, 0), Origin::new("base")),
    )
    .unwrap();
    let error = tree.insert(b"lib/x/y", file("", "late")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/lib/x/y from late needs /lib to be a directory, but base brought a symbolic link"
    );
    tree.insert(b"etc/x", file("", "a")).unwrap();
    assert!(matches!(tree.replace(b"etc", file("", "b")), Err(TreeError::DirectoryNotEmpty { .. })));
}

#[test]
fn paths_that_climb_or_hold_nul_are_refused() {
    let mut tree = tree();
    for path in [&b"a/../b"[..], b"..", b"a\0b", &[b'a'; MAX_PATH_BYTES + 1]] {
        assert!(matches!(tree.insert(path, file("", "x")), Err(TreeError::Path { .. })), "{path:?}");
    }
}

#[test]
fn hard_links_share_identity_and_count_once() {
    let mut tree = tree();
    tree.insert(b"a", file("12345", "p")).unwrap();
    tree.hard_link(b"a", b"d/b", Origin::new("p")).unwrap();
    assert!(Arc::ptr_eq(tree.get(b"a").unwrap().file().unwrap(), tree.get(b"d/b").unwrap().file().unwrap()));
    let totals = tree.totals();
    assert_eq!((totals.files, totals.hard_links, totals.bytes), (1, 1, 5));
    assert!(matches!(tree.hard_link(b"d", b"e", Origin::new("p")), Err(TreeError::LinkToDirectory { .. })));
    assert!(matches!(tree.hard_link(b"no", b"e", Origin::new("p")), Err(TreeError::NotFound { .. })));
}

#[test]
fn rename_moves_a_subtree_and_merges_directories() {
    let mut tree = tree();
    tree.insert(b"lib/a", file("", "p")).unwrap();
    tree.insert(b"lib/sub/b", file("", "p")).unwrap();
    tree.insert(b"usr/lib/sub/c", file("", "q")).unwrap();
    tree.rename(b"lib", b"usr/lib").unwrap();
    assert_eq!(
        names(&tree),
        ["", "usr", "usr/lib", "usr/lib/a", "usr/lib/sub", "usr/lib/sub/b", "usr/lib/sub/c"]
    );
    assert!(matches!(tree.rename(b"usr", b"usr/lib/x"), Err(TreeError::IntoItself { .. })));
    assert!(matches!(tree.rename(b"none", b"x"), Err(TreeError::NotFound { .. })));
}

#[test]
fn dropping_spares_kept_paths_and_their_directories() {
    let mut tree = tree();
    for path in ["usr/share/doc/a/copyright", "usr/share/doc/a/README", "usr/share/doc/b/README", "usr/bin/a"]
    {
        tree.insert(path.as_bytes(), file("", "p")).unwrap();
    }
    let is_doc = |path: &[u8]| path.starts_with(b"usr/share/doc");
    assert_eq!(tree.drop_if(&|path| is_doc(path) && !path.ends_with(b"/copyright")), 3);
    assert_eq!(
        names(&tree),
        [
            "",
            "usr",
            "usr/bin",
            "usr/bin/a",
            "usr/share",
            "usr/share/doc",
            "usr/share/doc/a",
            "usr/share/doc/a/copyright"
        ]
    );
    assert_eq!(tree.drop_if(&is_doc), 3);
    assert!(tree.get(b"usr/share/doc").is_none());
}

#[test]
fn sizes_name_the_largest_and_their_origins() {
    let mut tree = tree();
    tree.insert(b"small", file("1", "p")).unwrap();
    tree.insert(b"large", file("12345678", "q")).unwrap();
    assert_eq!(tree.largest(1), [(8, b"large".to_vec(), Origin::new("q"))]);
    assert_eq!(tree.bytes_by_origin()[&Origin::new("p")], 1);
    tree.clamp_mtimes(5);
    assert!(tree.walk().all(|(_, node)| node.meta.mtime == 5));
}

#[test]
fn names_that_are_not_text_are_shown_escaped() {
    assert_eq!(display(b"a/\xff\n"), "/a/\\xff\\n");
    assert_eq!(display(b"./etc/x"), "/etc/x");
    assert_eq!(display(b""), "/");
}

#[test]
fn content_reads_from_memory_files_and_between_pieces() {
    let mut host = tempfile::NamedTempFile::new().unwrap();
    host.write_all(b"0123456789").unwrap();
    let path: Arc<Path> = host.path().into();
    let range = FileData::from_range(path, 2, 5, None);
    let reader = Reader::new();
    assert_eq!(reader.read_all(&range.content, 100).unwrap(), b"23456");
    let pieces = vec![
        Piece { at: 8, content: range.content.clone() },
        Piece { at: 1, content: Content::Bytes(b"ab"[..].into()) },
    ];
    let sparse = FileData::sparse(12, pieces);
    assert_eq!(reader.read_all(&sparse.content, 100).unwrap(), b"\0ab\0\0\0\0\x002345");
    assert!(!sparse.content.may_hold_data(3, 8));
    assert!(sparse.content.may_hold_data(3, 9));
    let mut buffer = [1; 4];
    reader.read_at(&range.content, 3, &mut buffer).unwrap();
    assert_eq!(&buffer, b"56\0\0");
    assert!(matches!(reader.read_all(&sparse.content, 11), Err(ContentError::TooLarge { .. })));
}

#[test]
fn a_range_beyond_its_file_is_an_error_and_never_zeros() {
    let host = tempfile::NamedTempFile::new().unwrap();
    let range = FileData::from_range(host.path().into(), 0, 5, None);
    assert!(matches!(Reader::new().read_all(&range.content, 100), Err(ContentError::Read { .. })));
}

proptest! {
    #[test]
    fn order_of_insertion_does_not_show(paths in proptest::collection::btree_set("[a-c]{1,2}(/[a-c]{1,2}){0,3}", 1..20)) {
        let fill = |order: &mut dyn Iterator<Item = &String>| {
            let mut tree = tree();
            for path in order {
                // A path may be a parent of another one: whichever comes first then wins or is refused.
                let _ = tree.insert(path.as_bytes(), directory(0o755, "p"));
            }
            names(&tree)
        };
        let forward = fill(&mut paths.iter());
        let backward = fill(&mut paths.iter().rev());
        prop_assert_eq!(&forward, &backward);
        let mut sorted = forward.clone();
        sorted.sort_by(|a, b| a.split('/').cmp(b.split('/')));
        prop_assert_eq!(forward, sorted);
    }

    #[test]
    fn sparse_content_reads_like_a_flat_buffer(
        pieces in proptest::collection::vec((0u64..8, 1usize..8), 0..6),
        len in 1u64..80,
        window in (0u64..90, 1usize..40),
    ) {
        let mut flat = [0u8; 200];
        let mut at = 0;
        let mut list = Vec::new();
        for (number, (gap, size)) in pieces.into_iter().enumerate() {
            at += gap;
            let bytes = vec![u8::try_from(number + 1).unwrap(); size];
            let start = usize::try_from(at).unwrap();
            flat[start..start + size].copy_from_slice(&bytes);
            list.push(Piece { at, content: Content::Bytes(bytes.into()) });
            at += size as u64;
        }
        flat[usize::try_from(len).unwrap()..].fill(0);
        let sparse = FileData::sparse(len, list);
        let mut buffer = vec![9; window.1];
        Reader::new().read_at(&sparse.content, window.0, &mut buffer).unwrap();
        let start = usize::try_from(window.0).unwrap();
        prop_assert_eq!(&buffer, &flat[start..start + window.1]);
        let holds = flat[start..start + window.1].iter().any(|&byte| byte != 0);
        prop_assert_eq!(sparse.content.may_hold_data(window.0, window.0 + window.1 as u64), holds);
    }
}
