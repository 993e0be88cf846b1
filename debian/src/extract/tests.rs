use super::*;
use crate::cache::Cache;
use crate::digest::Digest;
use crate::package::Package;
use crate::progress::Silent;
use crate::testing::{Item, deb};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Extracts packages given as (name, further fields, items) and returns the folder that holds `out`.
fn run(packages: &[(&str, &str, &[Item<'_>])]) -> (tempfile::TempDir, Result<(), ExtractError>) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path().join("cache"));
    let unpack = |(name, extra, items): &(&str, &str, &[Item<'_>])| {
        let deb = deb(name, "1", items);
        let file = folder.path().join(format!("{name}.deb"));
        fs::write(&file, &deb).unwrap();
        let text = format!(
            "Package: {name}\nVersion: 1\nArchitecture: all\n{extra}Filename: pool/a.deb\nSize: 1\nSHA256: {}\n",
            Digest::of(&deb)
        );
        let package = Arc::new(Package::parse(text.as_bytes(), 0, &"trixie".into()).unwrap());
        Unpacked::create(&cache, &package, &file).unwrap()
    };
    let unpacked: Vec<Unpacked> = packages.iter().map(unpack).collect();
    let result = extract(&unpacked, &folder.path().join("out"), &Silent);
    (folder, result)
}

#[test]
fn trees_are_merged_into_usr_with_links_and_modes() {
    let (folder, result) = run(&[
        (
            "a",
            "",
            &[
                Item::Dir("./bin/"),
                Item::File("./bin/tool", b"#!", 0o4555),
                Item::Hard("./bin/again", "./bin/tool"),
            ],
        ),
        (
            "b",
            "",
            &[
                Item::Dir("./usr/lib/"),
                Item::File("./usr/lib/x.so.1", b"so", 0o644),
                Item::Link("./lib/x.so", "x.so.1"),
            ],
        ),
        (
            "c",
            "",
            &[
                Item::Link("./bin", "usr/bin"),
                Item::Link("./etc/abs", "/usr/bin/tool"),
                Item::File("./deep/in/file", b"", 0o600),
            ],
        ),
    ]);
    result.unwrap();
    let out = folder.path().join("out");
    let tool = fs::metadata(out.join("usr/bin/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.nlink(), tool.mtime()), (0o755, 2, 1_000_000));
    assert_eq!(fs::read_link(out.join("bin")).unwrap(), Path::new("usr/bin"));
    assert_eq!(fs::read(out.join("lib/x.so")).unwrap(), b"so", "through both links");
    assert_eq!(fs::read_link(out.join("etc/abs")).unwrap(), Path::new("/usr/bin/tool"), "as it stands");
    assert!(out.join("deep/in/file").is_file());
    assert!(!out.join("sbin").exists());
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let (_folder, result) = run(&[
        ("a", "", &[Item::Link("./usr/x", target)]),
        ("b", "", &[Item::File("./usr/x/evil", b"", 0o644)]),
    ]);
    let message = result.unwrap_err().to_string();
    assert_eq!(message, "package b 1 has \"usr/x/evil\", but \"usr/x\" is no folder");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn different_files_under_one_path_are_refused_unless_one_package_replaces_the_other() {
    let (one, two): (&[Item<'_>], &[Item<'_>]) =
        (&[Item::File("./etc/f", b"1", 0o644)], &[Item::File("./etc/f", b"2", 0o644)]);
    let message = run(&[("a", "", one), ("b", "", two)]).1.unwrap_err().to_string();
    assert_eq!(message, "\"etc/f\" is in package a 1 and, different, in package b 1");
    assert!(run(&[("a", "", one), ("b", "", one)]).1.is_ok(), "the same content is no conflict");
    for packages in
        [[("a", "", one), ("b", "Replaces: a\n", two)], [("b", "Replaces: a\n", two), ("a", "", one)]]
    {
        let (folder, result) = run(&packages);
        result.unwrap();
        assert_eq!(fs::read(folder.path().join("out/etc/f")).unwrap(), b"2");
    }
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x"), b"").unwrap();
    assert!(matches!(extract(&[], folder.path(), &Silent), Err(ExtractError::NotEmpty(_))));
}
