//! From tree to list of inodes: hard links joined, names and types checked against the format's limits.

use std::collections::{HashMap, btree_map};
use std::sync::Arc;

use super::directory::Entry;
use super::format::encode_device;
use super::plan::PlanError;
use super::xattr::{Pool, Refusal};
use crate::tree::{FileData, Kind, Node, Tree, display};

const MAX_NAME_BYTES: usize = 255;
/// `PATH_MAX` without the final NUL.
const MAX_TARGET_BYTES: usize = 4095;

/// One inode in walk order; index 0 is the root.
#[derive(Debug)]
pub(super) struct Inode<'t> {
    pub node: &'t Node,
    pub nlink: u32,
    /// Sorted, with `.` and `..`; empty for what is no directory.
    pub entries: Vec<Entry<'t>>,
}

#[derive(Debug, Default)]
pub(super) struct Collected<'t> {
    pub inodes: Vec<Inode<'t>>,
    pub xattrs: Pool,
}

/// Checks everything about one entry that does not depend on others: the names in its path, its type, its owner, its attributes.
///
/// # Errors
/// The same as [`super::Plan::new`] would say, for a path that need not be one of `/usr`.
pub fn check_entry(path: &[u8], node: &Node) -> Result<(), PlanError> {
    for name in path.split(|&byte| byte == b'/') {
        check_name(name, path)?;
    }
    check_node(node, path)?;
    Pool::default().add(&node.xattrs).map_err(|refusal| refused(refusal, path))
}

fn check_node(node: &Node, path: &[u8]) -> Result<(), PlanError> {
    check_kind(&node.kind, path)?;
    if node.meta.mode > 0o7777 {
        return Err(PlanError::Mode { path: display(path), mode: node.meta.mode });
    }
    let (uid, gid) = (node.meta.uid, node.meta.gid);
    if uid == u32::MAX || gid == u32::MAX {
        return Err(PlanError::Owner { path: display(path), uid, gid });
    }
    Ok(())
}

struct Open<'t> {
    index: usize,
    path_len: usize,
    entries: btree_map::Iter<'t, Vec<u8>, Node>,
}

/// Lists the inodes of `tree` in walk order.
pub(super) fn collect(tree: &Tree) -> Result<Collected<'_>, PlanError> {
    let mut collected = Collected::default();
    let mut links: HashMap<*const FileData, (usize, Vec<u8>)> = HashMap::new();
    let mut path = Vec::new();
    let mut stack = Vec::new();
    collected.add(tree.root(), 0, &path)?;
    if let Some(entries) = tree.root().entries() {
        stack.push(Open { index: 0, path_len: 0, entries: entries.iter() });
    }
    while let Some(open) = stack.last_mut() {
        path.truncate(open.path_len);
        let Some((name, node)) = open.entries.next() else {
            stack.pop();
            continue;
        };
        let parent = open.index;
        path.push(b'/');
        path.extend_from_slice(name);
        check_name(name, &path)?;
        let known = node.file().and_then(|data| links.get(&Arc::as_ptr(data)));
        let index = match known {
            Some((index, first)) => collected.link(*index, node, first, &path)?,
            None => collected.add(node, parent, &path)?,
        };
        if let (Some(data), true) = (node.file(), known.is_none()) {
            links.insert(Arc::as_ptr(data), (index, path.clone()));
        }
        collected.enter(parent, Entry { name, inode: index }, node);
        if let Some(entries) = node.entries() {
            stack.push(Open { index, path_len: path.len(), entries: entries.iter() });
        }
    }
    for inode in &mut collected.inodes {
        // "." and ".." are sorted like all names: "!x" and "-x" come before them.
        inode.entries.sort_unstable_by_key(|entry| entry.name);
    }
    Ok(collected)
}

impl<'t> Collected<'t> {
    fn add(&mut self, node: &'t Node, parent: usize, path: &[u8]) -> Result<usize, PlanError> {
        check_node(node, path)?;
        self.xattrs.add(&node.xattrs).map_err(|refusal| refused(refusal, path))?;
        let index = self.inodes.len();
        let (nlink, entries) = match &node.kind {
            Kind::Directory(_) => {
                (2, vec![Entry { name: b".", inode: index }, Entry { name: b"..", inode: parent }])
            }
            _ => (1, Vec::new()),
        };
        self.inodes.push(Inode { node, nlink, entries });
        Ok(index)
    }

    fn link(&mut self, index: usize, node: &Node, first: &[u8], path: &[u8]) -> Result<usize, PlanError> {
        let differ = || PlanError::HardLinksDiffer { first: display(first), second: display(path) };
        let inode = self.inodes.get_mut(index).ok_or_else(differ)?;
        if inode.node.meta != node.meta || inode.node.xattrs != node.xattrs {
            return Err(differ());
        }
        inode.nlink = inode.nlink.saturating_add(1);
        Ok(index)
    }

    fn enter(&mut self, parent: usize, entry: Entry<'t>, node: &Node) {
        if let Some(directory) = self.inodes.get_mut(parent) {
            directory.entries.push(entry);
            // The subdirectory's ".." is a link to its parent.
            directory.nlink = directory.nlink.saturating_add(u32::from(node.entries().is_some()));
        }
    }
}

fn check_name(name: &[u8], path: &[u8]) -> Result<(), PlanError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(PlanError::NameTooLong { path: display(path), len: name.len() });
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&byte| byte == b'/' || byte == 0)
    {
        return Err(PlanError::Name { path: display(path) });
    }
    Ok(())
}

fn check_kind(kind: &Kind, path: &[u8]) -> Result<(), PlanError> {
    match *kind {
        Kind::Symlink(ref target)
            if target.is_empty() || target.contains(&0) || target.len() > MAX_TARGET_BYTES =>
        {
            Err(PlanError::Target { path: display(path), len: target.len() })
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }
            if encode_device(major, minor).is_none() =>
        {
            Err(PlanError::Device { path: display(path), major, minor })
        }
        _ => Ok(()),
    }
}

fn refused(refusal: Refusal, path: &[u8]) -> PlanError {
    let path = display(path);
    match refusal {
        Refusal::Name(name) => PlanError::XattrName { path, name: name.escape_ascii().to_string() },
        Refusal::Value(name, len) => {
            PlanError::XattrValue { path, name: name.escape_ascii().to_string(), len }
        }
        Refusal::Area(len) => PlanError::XattrArea { path, len },
    }
}
