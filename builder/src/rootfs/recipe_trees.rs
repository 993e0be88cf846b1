//! The recipe's own trees: folders and archives.

use super::accounts::Accounts;
use super::layout;
use super::staging::{Staging, StagingError};
use crate::erofs;
use crate::tree::{Kind, Meta, Node, display};
use crate::trees::SourceTree;

/// Adds the recipe's trees. A folder that is there already stays as it is, and what the tree has in it is added.
///
/// # Errors
/// A path is taken and not in `replace`, lies where an image has nothing, or is beyond a limit of Linux or EROFS; an owner does not
/// exist.
pub fn add(staging: &mut Staging, accounts: &Accounts, trees: &[SourceTree<'_>]) -> Result<(), StagingError> {
    for tree in trees {
        let owner = tree.spec.owner.as_ref().map(|owner| accounts.owner(owner)).transpose()?;
        let to = tree.spec.to.as_ref().map(|to| to.as_str().trim_start_matches('/').as_bytes());
        if let Some(to) = to {
            let (uid, gid) = owner.unwrap_or_default();
            let meta = Meta { mode: 0o755, uid, gid, mtime: staging.build_time() };
            put(staging, tree, to, Node::new(Kind::empty_directory(), meta, tree.origin()))?;
        }
        for (path, node) in &tree.entries {
            let mut node = node.clone();
            if !tree.is_archive {
                node.meta.mtime = staging.build_time();
            }
            if let Some((uid, gid)) = owner {
                (node.meta.uid, node.meta.gid) = (uid, gid);
            }
            let path = to.map_or_else(|| path.clone(), |to| [to, b"/", path].concat());
            put(staging, tree, &path, node)?;
        }
    }
    Ok(())
}

fn put(staging: &mut Staging, tree: &SourceTree<'_>, path: &[u8], node: Node) -> Result<(), StagingError> {
    let is_folder = node.entries().is_some();
    if let Some(rule) = broken_rule(path, is_folder) {
        return Err(StagingError::TreePlace { tree: tree.name(), path: display(path), rule });
    }
    erofs::check_entry(path, &node)
        .map_err(|source| StagingError::TreeEntry { tree: tree.name(), source })?;
    // Made by the image, whatever a tree has in their place for the sake of what lies below.
    let is_made = path.iter().all(|byte| *byte != b'/') || layout::makes_at_boot(path);
    if is_folder && is_made { Ok(()) } else { staging.add(path, node) }
}

/// Why a path cannot be brought by a tree, if it cannot: the rules of `files:`, said of what lies in a tree.
fn broken_rule(path: &[u8], is_folder: bool) -> Option<&'static str> {
    let mut components = path.split(|byte| *byte == b'/');
    let (top, second) = (components.next().unwrap_or_default(), components.next());
    match top {
        b"usr" if second == Some(b"etc") => {
            Some("/usr/etc is where the image stores /etc: put it into `etc` of the tree")
        }
        b"usr" | b"etc" if second.is_some() || is_folder => None,
        b"var" if !is_folder => Some(
            "/var is made when the machine boots, so only folders can be there: ship the file in /usr, and copy it from there",
        ),
        b"var" if !path.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'%') => {
            Some("folders in /var have names of printable ASCII without blanks and %")
        }
        b"var" => None,
        b"bin" | b"sbin" | b"lib" | b"lib64" => {
            Some("at the top of a running system that is a link into /usr: put it into `usr` of the tree")
        }
        _ => {
            Some("an image has only /usr, /etc and folders in /var: the rest is made when the machine boots")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use image_config::recipe::Recipe;

    use super::*;
    use crate::tree::Origin;
    use crate::trees::Trees;

    const PASSWD: &str = "root:*:0:0:root:/root:/bin/sh\nweb:*:33:34:web:/nonexistent:/usr/sbin/nologin\n";
    const GROUP: &str = "root:*:0:\nweb:*:34:\n";

    fn add_trees(folder: &Path, trees: &str, replace: &[&str]) -> Result<Staging, StagingError> {
        let mut staging = Staging::new(1000, replace.iter().map(|path| path.as_bytes().to_vec()));
        let package = |kind: Kind| Node::new(kind, Meta::root(0o711, 5), Origin::new("p 1"));
        staging.tree_mut().insert(b"usr/share", package(Kind::empty_directory())).unwrap();
        staging.tree_mut().insert(b"etc/motd", package(Kind::file(*b"theirs"))).unwrap();
        let accounts = Accounts::from_masters(PASSWD, GROUP).unwrap();
        let recipe: Recipe = crate::trees::tests::recipe(folder, trees);
        let trees = Trees::read(&recipe, folder).unwrap();
        add(&mut staging, &accounts, trees.list()).map(|()| staging)
    }

    fn file(folder: &Path, path: &str) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "ours").unwrap();
    }

    #[test]
    fn a_tree_is_added_where_it_belongs_and_folders_that_are_there_stay() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "o/usr/share/x");
        file(folder.path(), "p/y");
        fs::create_dir_all(folder.path().join("o/var/lib/demo")).unwrap();
        let lines = "  - source: o\n  - {source: p, to: /etc/demo, owner: \"web:7\"}\n";
        let staging = add_trees(folder.path(), lines, &[]).unwrap();
        let get = |path: &[u8]| staging.tree().get(path).unwrap();
        assert_eq!(get(b"usr/share").origin.as_str(), "p 1");
        assert_eq!(get(b"usr/share").meta.mode, 0o711);
        let x = get(b"usr/share/x");
        assert_eq!(
            (x.meta.uid, x.meta.gid, x.meta.mtime, x.origin.as_str()),
            (0, 0, 1000, "the recipe's tree o")
        );
        for path in [&b"etc/demo"[..], b"etc/demo/y"] {
            assert_eq!((get(path).meta.uid, get(path).meta.gid), (33, 7));
        }
        assert!(get(b"var/lib").origin.is_implied(), "the image makes it in its own way");
        assert!(!get(b"var/lib/demo").origin.is_implied());
    }

    #[test]
    fn a_path_that_is_taken_needs_the_recipes_word() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "o/etc/motd");
        let lines = "  - source: o\n";
        let message = add_trees(folder.path(), lines, &[]).unwrap_err().to_string();
        assert_eq!(message, "/etc/motd comes from p 1 (file) and from the recipe's tree o (file)");
        let staging = add_trees(folder.path(), lines, &["/etc/motd"]).unwrap();
        assert_eq!(staging.tree().get(b"etc/motd").unwrap().origin.as_str(), "the recipe's tree o");
        let twice = add_trees(folder.path(), "  - source: o\n  - {source: o/etc, to: /etc}\n", &[]);
        assert!(twice.is_err());
        let nobody = add_trees(folder.path(), "  - {source: o, owner: \"nobody:web\"}\n", &[]).unwrap_err();
        assert!(matches!(nobody, StagingError::Account(_)), "{nobody}");
    }

    #[test]
    fn what_no_image_has_is_refused_with_what_to_do() {
        for (path, rule) in [
            ("opt/x", "an image has only /usr"),
            ("bin/x", "put it into `usr` of the tree"),
            ("usr/etc/x", "put it into `etc` of the tree"),
            ("var/lib/x", "only folders"),
            ("var/a b/x", "without blanks"),
            ("usr", "an image has only /usr"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            file(folder.path(), &format!("o/{path}"));
            let message = add_trees(folder.path(), "  - source: o\n", &[]).unwrap_err().to_string();
            assert!(
                message.starts_with("the tree o of the recipe brings /") && message.contains(rule),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_beyond_the_limits_is_refused_with_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let archive = |change: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
            let mut builder = tar::Builder::new(Vec::new());
            change(&mut builder);
            fs::write(folder.path().join("a.tar"), builder.into_inner().unwrap()).unwrap();
            let error = add_trees(folder.path(), "  - {source: a.tar, to: /usr/x}\n", &[]).unwrap_err();
            let StagingError::TreeEntry { source, .. } = error else { panic!("{error}") };
            source.to_string()
        };
        let header = || {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            header
        };
        let name = archive(&|builder| {
            builder.append_data(&mut header(), "n".repeat(256), &b""[..]).unwrap();
        });
        assert!(
            name.starts_with("/usr/x/nnn") && name.ends_with("the name has 256 bytes, 255 are the most"),
            "{name}"
        );
        let target = archive(&|builder| {
            let mut link = header();
            link.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut link, "l", "t/".repeat(2048)).unwrap();
        });
        assert!(target.starts_with("/usr/x/l: the link target has 4096 bytes"), "{target}");
        for (key, len, message) in [
            (
                "SCHILY.xattr.user.big",
                65_536,
                "extended attribute user.big has 65536 bytes, 65535 are the most",
            ),
            ("SCHILY.xattr.odd.name", 1, "extended attribute \"odd.name\" cannot be stored"),
        ] {
            let refused = archive(&|builder| {
                builder.append_pax_extensions([(key, &vec![1; len][..])]).unwrap();
                builder.append_data(&mut header(), "f", &b""[..]).unwrap();
            });
            assert!(refused.contains(message), "{refused}");
        }
        let device = archive(&|builder| {
            let mut node = header();
            node.set_entry_type(tar::EntryType::Char);
            node.set_device_major(4096).unwrap();
            node.set_device_minor(0).unwrap();
            builder.append_data(&mut node, "d", &b""[..]).unwrap();
        });
        assert!(device.contains("device 4096:0 does not fit"), "{device}");
    }
}
