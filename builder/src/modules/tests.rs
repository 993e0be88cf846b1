use debian::cache::Cache;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::tree::{Content, Kind, Meta, Node, Origin};

/// A relocatable ELF file with `.modinfo` and a symbol table, as small as it can be.
fn elf(modinfo: &[&str], symbols: &[&str]) -> Vec<u8> {
    let modinfo: Vec<u8> = modinfo.iter().flat_map(|line| [line.as_bytes(), b"\0"].concat()).collect();
    let mut strings = vec![0];
    let mut table = vec![0; 24];
    for symbol in symbols {
        table.extend((strings.len() as u32).to_le_bytes());
        table.extend([0; 20]);
        strings.extend([symbol.as_bytes(), b"\0"].concat());
    }
    let names = b"\0.modinfo\0.symtab\0.strtab\0.shstrtab\0";
    let mut file = vec![0; 64];
    let mut headers = vec![0; 64];
    let sections =
        [(1u32, 1u32, modinfo, 0u32), (10, 2, table, 3), (18, 3, strings, 0), (26, 3, names.to_vec(), 0)];
    for (name, kind, bytes, link) in sections {
        headers.extend([name.to_le_bytes(), kind.to_le_bytes()].concat());
        headers.extend([0; 16]);
        headers.extend([(file.len() as u64).to_le_bytes(), (bytes.len() as u64).to_le_bytes()].concat());
        headers.extend(link.to_le_bytes());
        headers.extend([0; 20]);
        file.extend(bytes);
    }
    let start = (file.len() as u64).to_le_bytes();
    file.extend(headers);
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[40..48].copy_from_slice(&start);
    file[58..60].copy_from_slice(&64u16.to_le_bytes());
    file[60..62].copy_from_slice(&5u16.to_le_bytes());
    file[62..64].copy_from_slice(&4u16.to_le_bytes());
    file
}

fn module(path: &str, modinfo: &[&str]) -> Module {
    Module::read(path.into(), &elf(modinfo, &[])).unwrap()
}

fn modules(list: &[(&str, &[&str])], builtin: &str) -> Modules {
    let order: String = list.iter().map(|(path, _)| format!("{path}\n")).collect();
    // Given backwards: the order must come from modules.order.
    let list = list.iter().rev().map(|(path, modinfo)| module(path, modinfo)).collect();
    Modules::new(list, &order, builtin).unwrap()
}

fn names(order: Result<Vec<&Module>, OrderError>) -> Vec<&str> {
    order.unwrap().into_iter().map(|module| module.name.as_str()).collect()
}

#[test]
fn a_module_says_what_it_needs_and_serves() {
    let modinfo = [
        "license=GPL",
        "alias=devname:net/tun",
        "alias=char-major-10-200",
        "depends=dm-mod,dm_bufio",
        "softdep=pre: sha256 post: late",
        "firmware=a.bin",
        "vermagic=6.12.0 SMP",
    ];
    let file = elf(&modinfo, &["init_module", "__ksymtab_tun_get_socket", "__ksymtab_a"]);
    let info = ModuleInfo::read(&file).unwrap();
    assert_eq!(info.depends, ["dm_mod", "dm_bufio"]);
    assert_eq!(info.aliases, ["devname:net/tun", "char-major-10-200"]);
    assert_eq!(info.loads_before().collect::<Vec<_>>(), ["sha256"]);
    assert_eq!(info.symbols, ["a", "tun_get_socket"]);
    assert_eq!((info.firmware.len(), info.vermagic.as_str()), (1, "6.12.0 SMP"));
}

#[test]
fn files_that_are_no_modules_are_refused() {
    assert_eq!(ModuleInfo::read(b"#!/bin/sh"), Err(ElfError::Format));
    let mut cut = elf(&["depends="], &[]);
    cut.truncate(cut.len() - 1);
    assert_eq!(ModuleInfo::read(&cut), Err(ElfError::Outside("section table")));
    let mut nameless = elf(&[], &[]);
    let at = nameless.windows(8).position(|window| window == b".modinfo").unwrap();
    nameless[at + 1] = b'x';
    assert_eq!(ModuleInfo::read(&nameless), Err(ElfError::NoModinfo));
}

#[test]
fn tables_follow_modules_order_and_say_all_dependencies() {
    let modules = modules(
        &[
            ("kernel/z/top.ko", &["depends=middle,base", "alias=pci:*", "softdep=pre: base"]),
            ("kernel/a/middle.ko", &["depends=base", "alias=char-major-10-200", "alias=devname:net/tun"]),
            ("kernel/b/base.ko", &["depends="]),
        ],
        "",
    );
    let tables: BTreeMap<_, _> = modules.tables().into_iter().collect();
    assert_eq!(
        tables["modules.dep"],
        "kernel/z/top.ko: kernel/a/middle.ko kernel/b/base.ko\nkernel/a/middle.ko: kernel/b/base.ko\nkernel/b/base.ko:\n"
    );
    assert!(
        tables["modules.alias"]
            .ends_with("alias pci:* top\nalias char-major-10-200 middle\nalias devname:net/tun middle\n")
    );
    assert!(tables["modules.softdep"].ends_with("softdep top pre: base\n"));
    assert!(tables["modules.devname"].ends_with("middle net/tun c10:200\n"));
}

#[test]
fn loading_order_has_dependencies_first_and_skips_what_is_built_in() {
    let modules = modules(
        &[
            ("kernel/virtio_blk.ko", &["depends=virtio,virtio-ring"]),
            ("kernel/virtio-ring.ko", &["depends=virtio"]),
            ("kernel/virtio.ko", &["depends="]),
            ("kernel/dm-verity.ko", &["depends=core", "softdep=pre: sha256 not-there"]),
            ("kernel/sha256-generic.ko", &["alias=sha256", "softdep=pre: dm-verity"]),
        ],
        "kernel/fs/erofs/erofs.ko\nkernel/core.ko\n",
    );
    assert_eq!(
        names(modules.load_order(["virtio-blk", "erofs", "virtio"])),
        ["virtio", "virtio_ring", "virtio_blk"]
    );
    assert_eq!(names(modules.load_order(["dm_verity"])), ["sha256_generic", "dm_verity"]);
    assert_eq!(names(modules.load_order([])), [] as [&str; 0]);
}

#[test]
fn unknown_names_get_a_suggestion_and_missing_or_cyclic_needs_an_error() {
    let modules = modules(
        &[
            ("kernel/virtio_blk.ko", &["depends="]),
            ("kernel/broken.ko", &["depends=gone"]),
            ("kernel/one.ko", &["depends=two"]),
            ("kernel/two.ko", &["depends=one"]),
        ],
        "",
    );
    let error = |name| modules.load_order([name]).unwrap_err().to_string();
    assert_eq!(error("virtoi-blk"), "the kernel has no module \"virtoi-blk\"; did you mean virtio_blk?");
    assert_eq!(error("zzz"), "the kernel has no module \"zzz\"");
    assert_eq!(error("broken"), "module broken depends on gone, which the kernel does not have");
    assert_eq!(error("one"), "module one depends on itself through others");
    assert!(modules.tables()[0].1.contains("kernel/one.ko: kernel/two.ko\n"));
}

#[test]
fn modules_are_found_in_the_tree_of_an_image() {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    let mut put = |path: &str, bytes: Vec<u8>| {
        let node = Node::new(Kind::file(bytes), Meta::root(0o644, 0), Origin::new("kernel"));
        tree.insert(path.as_bytes(), node).unwrap();
    };
    put("usr/lib/modules/6/kernel/b.ko.zst", zstd::encode_all(&elf(&["depends=a"], &[])[..], 1).unwrap());
    put("usr/lib/modules/6/kernel/a.ko", elf(&["depends="], &[]));
    put("usr/lib/modules/6/modules.order", b"kernel/b.ko\nkernel/a.ko\n".to_vec());
    put("usr/lib/modules/6/modules.builtin", b"kernel/fs/ext4/ext4.ko\n".to_vec());
    let cache = tempfile::tempdir().unwrap();
    let parts = Parts::of(&Cache::at(cache.path()));
    let scan = |tree: &Tree, folder: &str| Modules::scan(tree, folder.as_bytes(), &Reader::new(), &parts);
    let modules = scan(&tree, "usr/lib/modules/6").unwrap();
    assert_eq!(modules.tables()[0].1, "kernel/b.ko.zst: kernel/a.ko\nkernel/a.ko:\n");
    assert!(modules.is_builtin("ext4"));
    assert_eq!(modules.get("b").unwrap().plain_path(), "kernel/b.ko");
    assert!(matches!(scan(&tree, "usr/lib/modules/7"), Err(ModulesError::NoFolder { .. })));
    tree.insert(
        b"usr/lib/modules/6/updates/a.ko",
        Node::new(Kind::file(elf(&[], &[])), Meta::root(0o644, 0), Origin::new("x")),
    )
    .unwrap();
    let twice = scan(&tree, "usr/lib/modules/6").unwrap_err();
    assert_eq!(twice.to_string(), "kernel/a.ko and updates/a.ko are both module a");
}

#[test]
fn what_modules_say_is_kept_by_their_content() {
    let cache = tempfile::tempdir().unwrap();
    let parts = Parts::of(&Cache::at(cache.path()));
    let content = elf(&["depends=b"], &[]);
    let digest = Sha256::digest(&content).into();
    let scan = |sha256: Option<[u8; 32]>, content: &[u8]| {
        let mut tree = Tree::new(Meta::root(0o755, 0));
        let data = FileData { content: Content::Bytes(content.into()), sha256 };
        let node = Node::new(Kind::File(Arc::new(data)), Meta::root(0o644, 0), Origin::new("kernel"));
        tree.insert(b"m/kernel/a.ko", node).unwrap();
        Modules::scan(&tree, b"m", &Reader::new(), &parts)
    };
    assert_eq!(scan(Some(digest), &content).unwrap().list()[0].info.depends, ["b"]);
    // Kept, so the content is not read again; another digest, or none, is another module.
    assert_eq!(scan(Some(digest), b"never read").unwrap().list()[0].info.depends, ["b"]);
    assert!(scan(Some([1; 32]), b"no module").is_err());
    assert!(scan(None, b"no module").is_err());
    let kept = scan(Some(digest), &content).unwrap().only(|path| path != "kernel/a.ko");
    assert!(kept.list().is_empty() && kept.get("a").is_none());
}

proptest! {
    #[test]
    fn damaged_modules_are_read_or_refused_but_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = elf(&["depends=a,b", "alias=x"], &["__ksymtab_a"]);
        for (at, byte) in damage {
            let len = file.len();
            file[at.index(len)] = byte;
        }
        file.truncate(cut.index(file.len()) + 1);
        let _ = ModuleInfo::read(&file);
    }

    #[test]
    fn every_module_comes_after_what_it_needs(edges in proptest::collection::vec((0usize..12, 0usize..12), 0..30)) {
        // Edges point to lower numbers only, so there is no cycle.
        let needs = |from: usize| -> String {
            let all: Vec<_> = edges.iter().filter(|(a, b)| a.max(b) == &from && a != b).map(|(a, b)| format!("m{}", a.min(b))).collect();
            format!("depends={}", all.join(","))
        };
        let list: Vec<_> = (0..12).map(|number| module(&format!("m{number}.ko"), &[&needs(number)])).collect();
        let modules = Modules::new(list, "", "").unwrap();
        let order = names(modules.load_order(["m11", "m5", "m7"]));
        for (at, name) in order.iter().enumerate() {
            for needed in &modules.get(name).unwrap().info.depends {
                prop_assert!(order[..at].contains(&needed.as_str()));
            }
        }
        // modules.dep lists users before what they use.
        for line in modules.tables()[0].1.lines() {
            let (_, needed) = line.split_once(':').unwrap();
            let needed: Vec<_> = needed.split_whitespace().map(|path| path.strip_suffix(".ko").unwrap()).collect();
            for (at, name) in needed.iter().enumerate() {
                prop_assert!(modules.get(name).unwrap().info.depends.iter().all(|below| needed[at..].contains(&below.as_str())));
            }
        }
    }
}
