use super::*;
use crate::boot::tmpfiles::parse::{Specifiers, parse};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn apply(root: &Path, lines: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let items = parse("t", lines, &Specifiers::default(), &mut warnings);
    assert_eq!(warnings, []);
    let target = Target::open(root).unwrap();
    items.iter().filter_map(|item| target.apply(item).err()).map(|error| error.to_string()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn folders_and_files_get_their_modes_whatever_the_umask() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir(root.join("old")).unwrap();
    assert_eq!(
        apply(root, "d /a/b 1777\nf /a/x 0666 - - - hi\\n\nd /old 0700\nd /plain\nf /a/x - - - - other"),
        [""; 0]
    );
    assert_eq!((mode(&root.join("a")), mode(&root.join("a/b"))), (0o755, 0o1777));
    assert_eq!(
        (mode(&root.join("a/x")), mode(&root.join("old")), mode(&root.join("plain"))),
        (0o666, 0o700, 0o755)
    );
    assert_eq!(fs::read_to_string(root.join("a/x")).unwrap(), "hi\n");
}

#[test]
fn links_replace_only_when_told() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir_all(root.join("tree/deep")).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    assert_eq!(
        apply(
            root,
            "L /file - - - - t\nL+ /tree - - - - t\nL /new - - - - t\nL? /no - - - - none\nL? /yes - - - - file"
        ),
        [""; 0]
    );
    assert!(root.join("file").is_file());
    assert_eq!(fs::read_link(root.join("tree")).unwrap(), Path::new("t"));
    assert_eq!(fs::read_link(root.join("new")).unwrap(), Path::new("t"));
    assert!(fs::symlink_metadata(root.join("no")).is_err());
    assert_eq!(fs::read_link(root.join("yes")).unwrap(), Path::new("file"));
}

#[test]
fn files_are_never_written_through_a_link() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("victim"), "safe").unwrap();
    symlink("victim", root.join("trap")).unwrap();
    let errors = apply(root, "F /trap - - - - gone\nw /trap - - - - gone");
    assert_eq!(errors.len(), 2);
    apply(root, "f /trap 0777 - - - gone\nz /trap 0777");
    assert_eq!(fs::read_to_string(root.join("victim")).unwrap(), "safe");
    assert_ne!(mode(&root.join("victim")), 0o777);
}

#[test]
fn trees_are_copied_once() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir_all(root.join("usr/share/factory/etc/pam.d")).unwrap();
    fs::write(root.join("usr/share/factory/etc/pam.d/login"), "new").unwrap();
    assert_eq!(apply(root, "C /etc/pam.d\nC /etc/absent"), [""; 0]);
    assert_eq!(fs::read_to_string(root.join("etc/pam.d/login")).unwrap(), "new");
    fs::write(root.join("etc/pam.d/login"), "mine").unwrap();
    assert_eq!(apply(root, "C /etc/pam.d"), [""; 0]);
    assert_eq!(fs::read_to_string(root.join("etc/pam.d/login")).unwrap(), "mine");
}

#[test]
fn patterns_adjust_append_and_remove_what_exists() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir_all(root.join("d/sub")).unwrap();
    for name in ["a.log", "b.log", "c.txt", "sub/x"] {
        fs::write(root.join("d").join(name), "1").unwrap();
    }
    assert_eq!(
        apply(root, "z /d/*.log 0600\nw+ /d/?.log - - - - 2\nr /d/c*\nZ /d/sub 0700\nz /none/* 0600\nD /e"),
        [""; 0]
    );
    assert_eq!((mode(&root.join("d/a.log")), mode(&root.join("d/b.log"))), (0o600, 0o600));
    assert_eq!(fs::read_to_string(root.join("d/b.log")).unwrap(), "12");
    assert!(!root.join("d/c.txt").exists());
    assert_eq!(mode(&root.join("d/sub/x")), 0o700);
}

#[test]
fn an_emptied_folder_loses_its_content_and_nothing_behind_links() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir_all(root.join("run/deep/er")).unwrap();
    fs::create_dir_all(root.join("kept")).unwrap();
    fs::write(root.join("kept/file"), "x").unwrap();
    symlink("../kept", root.join("run/link")).unwrap();
    assert_eq!(apply(root, "D /run 0700"), [""; 0]);
    assert_eq!(fs::read_dir(root.join("run")).unwrap().count(), 0);
    assert!(root.join("kept/file").exists());
}

#[test]
fn an_unknown_owner_is_named_and_nothing_is_made() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(apply(root.path(), "d /x 0755 nobody-here"), ["no user or group 'nobody-here'"]);
    assert!(!root.path().join("x").exists());
}
