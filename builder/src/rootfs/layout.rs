//! From the tree of a running system to the tree of the EROFS: `/usr` with the defaults of `/etc` in it, and what
//! belongs to `/var` as instructions for the first boot.

use super::staging::{Staging, StagingError};
use crate::tree::{Kind, Meta, Node, Tree, display};

/// Folders of `/var` that every image has, besides those of its packages.
const VAR_FOLDERS: [&str; 14] = [
    "d /var/cache 0755 root root -",
    "d /var/home 0755 root root -",
    "d /var/lib 0755 root root -",
    "d /var/lib/ferrite 0755 root root -",
    "d /var/local 0755 root root -",
    "d /var/log 0755 root root -",
    "d /var/mail 2775 root mail -",
    "d /var/opt 0755 root root -",
    "d /var/roothome 0700 root root -",
    "d /var/spool 0755 root root -",
    "d /var/srv 0755 root root -",
    "d /var/tmp 1777 root root -",
    "L /var/run - - - - ../run",
    "L /var/lock - - - - ../run/lock",
];
/// Where files that packages ship in `/var` wait in the image to be copied at the first boot.
const FACTORY: &str = "usr/share/factory";
/// The file of all these instructions.
const TMPFILES: &str = "usr/lib/tmpfiles.d/ferrite-state.conf";

/// Whether this is a folder of `/var` that every image makes at boot, whoever brings it or not; the path has no leading slash.
pub fn makes_at_boot(path: &[u8]) -> bool {
    VAR_FOLDERS
        .iter()
        .filter_map(|line| line.split(' ').nth(1)?.strip_prefix('/'))
        .any(|made| made.as_bytes() == path)
}

/// The files of `/boot`, taken out of the tree, and the tree of the EROFS.
#[derive(Debug)]
pub struct Split {
    /// Root is `/usr`.
    pub usr: Tree,
    /// Root is `/boot`.
    pub boot: Tree,
    /// What whoever builds should know.
    pub notes: Vec<String>,
}

/// Splits the tree; `boot` was taken out of it before. Everything is clamped to the build time.
///
/// # Errors
/// A package ships a path that this needs.
pub fn split(mut staging: Staging, boot: Option<Node>) -> Result<Split, StagingError> {
    let build_time = staging.build_time();
    state_instructions(&mut staging)?;
    let meta = Meta::root(0o755, build_time);
    if staging.has(b"etc") {
        staging.tree_mut().rename(b"etc", b"usr/etc")?;
    }
    let (mut tree, notes) = staging.into_parts();
    tree.clamp_mtimes(build_time);
    let usr = subtree(tree.remove(b"usr"), meta)?;
    let boot = subtree(boot, meta)?;
    Ok(Split { usr, boot, notes })
}

/// Turns `/var` into lines of `tmpfiles.d`, and its files into the factory's.
fn state_instructions(staging: &mut Staging) -> Result<(), StagingError> {
    let mut lines: Vec<String> = VAR_FOLDERS.iter().map(|line| (*line).to_owned()).collect();
    let mut moved = Vec::new();
    for (path, node) in staging.tree().walk() {
        if !path.starts_with(b"var/") {
            continue;
        }
        let shown = display(&path);
        // A space or a specifier would end or change the path; no package has such names in /var.
        if !shown.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') {
            staging_note(&mut moved, &path);
            continue;
        }
        let Meta { mode, uid, gid, .. } = node.meta;
        match &node.kind {
            Kind::Directory(_) if node.origin.is_implied() => {}
            Kind::Directory(_) => lines.push(format!("d {shown} {mode:04o} {uid} {gid} -")),
            Kind::Symlink(target) => {
                lines.push(format!("L {shown} - - - - {}", String::from_utf8_lossy(target)))
            }
            Kind::File(_) => {
                lines.push(format!("C {shown} {mode:04o} {uid} {gid} - /{FACTORY}{shown}"));
                moved.push((path.clone(), true));
            }
            _ => staging_note(&mut moved, &path),
        }
    }
    for (path, keep) in moved {
        if keep {
            let target = [FACTORY.as_bytes(), b"/", &path].concat();
            staging.tree_mut().rename(&path, &target)?;
        } else {
            staging.note(format!("{}: cannot be made on STATE at boot, left out", display(&path)));
        }
    }
    staging.tree_mut().remove(b"var");
    lines.extend(staging.take_tmpfiles());
    // Parents first; of two lines for one path the package's or recipe's own (the later one) counts.
    let mut by_path = std::collections::BTreeMap::new();
    for line in lines {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        by_path.insert(path, line);
    }
    let mut text =
        String::from("# Made by the builder: what the image's packages and its recipe need on STATE.\n");
    for line in by_path.into_values() {
        text.push_str(&line);
        text.push('\n');
    }
    staging.own_file(TMPFILES, text.into_bytes(), 0o644)
}

fn staging_note(moved: &mut Vec<(Vec<u8>, bool)>, path: &[u8]) {
    moved.push((path.to_vec(), false));
}

/// A tree of its own from a node that was taken out of another; an empty one when there was none.
fn subtree(node: Option<Node>, meta: Meta) -> Result<Tree, StagingError> {
    let mut tree = Tree::new(meta);
    if let Some(Node { kind: Kind::Directory(entries), .. }) = node {
        for (name, child) in entries {
            tree.insert(&name, child)?;
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Origin;

    fn staging() -> Staging {
        let mut staging = Staging::new(1000, []);
        let tree = staging.tree_mut();
        let package = Origin::new("p 1");
        let mut add = |path: &str, kind: Kind| {
            tree.insert(path.as_bytes(), Node::new(kind, Meta::root(0o750, 5000), package.clone())).unwrap();
        };
        add("usr/bin/x", Kind::file(*b"x"));
        add("etc/x.conf", Kind::file(*b"c"));
        add("var/lib/x", Kind::empty_directory());
        add("var/lib/x/seed", Kind::file(*b"s"));
        add("var/cache", Kind::empty_directory());
        staging
    }

    #[test]
    fn etc_becomes_defaults_and_var_becomes_instructions() {
        let split = split(staging(), None).unwrap();
        assert!(split.usr.get(b"etc/x.conf").is_some());
        assert!(split.usr.get(b"share/factory/var/lib/x/seed").is_some());
        let node = split.usr.get(b"lib/tmpfiles.d/ferrite-state.conf").unwrap();
        let bytes = crate::tree::Reader::new().read_all(&node.file().unwrap().content, 1 << 20).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("d /var/lib/x 0750 0 0 -\n"), "{text}");
        assert!(text.contains("C /var/lib/x/seed 0750 0 0 - /usr/share/factory/var/lib/x/seed\n"), "{text}");
        assert!(text.contains("d /var/cache 0750 0 0 -\n") && !text.contains("d /var/cache 0755"), "{text}");
    }

    #[test]
    fn nothing_is_younger_than_the_build() {
        let split = split(staging(), None).unwrap();
        assert!(split.usr.walk().all(|(_, node)| node.meta.mtime <= 1000));
    }
}
