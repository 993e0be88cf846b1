//! Manifests made by hand, for the tests of this folder.

use proptest::prelude::*;

use crate::build::{MANIFEST_SCHEMA, Manifest, ManifestFile, ManifestPackage, ManifestPart};
use crate::erofs::BLOCK_BYTES;

/// A file of a package, or of Ferrite when `package` is `None`; its offset is for [`manifest`] to set.
pub(super) fn file(path: &str, package: Option<&str>, bytes: u64) -> ManifestFile {
    ManifestFile {
        path: path.to_owned(),
        path_hex: None,
        kind: "file".to_owned(),
        package: package.map(str::to_owned),
        origin: package.is_none().then(|| "ferrite".to_owned()),
        mode: "0644".to_owned(),
        uid: 0,
        gid: 0,
        bytes: Some(bytes),
        sha256: Some(format!("{bytes:064x}")),
        offset: None,
        target: None,
        target_hex: None,
    }
}

/// Something else than a file.
pub(super) fn other(path: &str, kind: &str, package: Option<&str>, target: Option<&str>) -> ManifestFile {
    ManifestFile {
        kind: kind.to_owned(),
        bytes: None,
        sha256: None,
        target: target.map(str::to_owned),
        ..file(path, package, 0)
    }
}

/// A manifest of packages (name, requested, dependencies) and files; files without an offset get blocks of their own.
pub(super) fn manifest(packages: &[(&str, bool, &[&str])], mut files: Vec<ManifestFile>) -> Manifest {
    let mut next = 2 * BLOCK_BYTES;
    for file in files.iter_mut().filter(|file| file.bytes.is_some_and(|bytes| bytes > 0)) {
        if file.offset.is_none() {
            file.offset = Some(next);
            next += file.bytes.unwrap().div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        }
    }
    let part = |name: &str, offset: u64, bytes: u64| ManifestPart {
        name: name.to_owned(),
        offset,
        bytes,
        sha256: format!("{bytes:064x}"),
    };
    let parts = vec![
        part("usr", 0, next),
        part("verity", next, 8192),
        part("kernel", next + 8192, 10_000),
        part("initramfs", next + 20_480, 5_000),
        part("command_line", next + 28_672, 100),
    ];
    let package = |&(name, requested, depends): &(&str, bool, &[&str])| ManifestPackage {
        name: name.to_owned(),
        version: "1".to_owned(),
        architecture: "amd64".to_owned(),
        source: name.to_owned(),
        source_version: "1".to_owned(),
        sha256: String::new(),
        bytes: 1,
        installed_bytes: 1,
        licences: vec!["MIT".to_owned()],
        requested,
        depends: depends.iter().map(|name| (*name).to_owned()).collect(),
    };
    Manifest {
        schema: MANIFEST_SCHEMA,
        name: "demo".to_owned(),
        version: "1".to_owned(),
        architecture: "x86_64".to_owned(),
        build_time: 0,
        inputs: String::new(),
        kernel: "6.12.0-cloud-amd64".to_owned(),
        root_hash: String::new(),
        key_id: String::new(),
        slot_bytes: next + 28_672 + 8192,
        parts,
        packages: packages.iter().map(package).collect(),
        files,
    }
}

/// Manifests of few names and any numbers, so that two of them often meet; also such as no build would write.
pub(super) fn any_manifest() -> impl Strategy<Value = Manifest> {
    let name = || prop::sample::select(vec!["aa", "bb", "cc", "dd", "ee", "ff"]);
    let package = (any::<bool>(), prop::collection::btree_set(name(), 0..4), 1u8..3).prop_map(
        |(requested, depends, version)| (requested, depends.into_iter().collect::<Vec<_>>(), version),
    );
    let packages = prop::collection::btree_map(name(), package, 0..6);
    let small = prop_oneof![Just(0u64), 1u64..20_000, any::<u64>()];
    let offset = prop_oneof![
        Just(None),
        (0u64..8).prop_map(|block| Some(block * BLOCK_BYTES)),
        any::<u64>().prop_map(Some)
    ];
    let path = "/usr/(bin|lib|etc)/[a-c]{1,2}(/[ab])?";
    let kind = prop::sample::select(vec!["file", "file", "file", "directory", "symlink", "hardlink"]);
    let content =
        (kind, prop::option::of(name()), small.clone(), offset, prop::option::of("\\.\\./[a-c]{1,2}"));
    let files = prop::collection::btree_map(path, content, 0..12);
    (packages, files, prop::collection::vec(small, 3)).prop_map(|(packages, files, sizes)| {
        let files = files
            .into_iter()
            .map(|(path, (kind, package, bytes, offset, target))| {
                let mut made = other(&path, kind, package, target.as_deref().filter(|_| kind != "file"));
                if kind == "file" {
                    made = ManifestFile { offset, ..file(&path, package, bytes) };
                }
                made
            })
            .collect();
        let listed: Vec<_> = packages
            .iter()
            .map(|(name, (requested, depends, _))| (*name, *requested, depends.as_slice()))
            .collect();
        let mut made = manifest(&listed, Vec::new());
        for package in &mut made.packages {
            package.version = packages[package.name.as_str()].2.to_string();
        }
        made.files = files;
        made.parts[0].bytes = sizes[0];
        made.parts[2].bytes = sizes[1];
        // Beyond this, differences do not fit 64 bits; no disk is that large.
        made.slot_bytes = sizes[2] & (i64::MAX as u64);
        made
    })
}
