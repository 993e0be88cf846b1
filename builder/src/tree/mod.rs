//! The files of an image, in memory: names, owners, modes and where the bytes come from, but not the bytes.
//!
//! Packages and recipe lines are inserted one after the other; two of them shipping one path is an error that names
//! both. Everything walks in byte order of path components, so that a tree filled in any order writes one image.

mod content;
mod node;
mod path;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

pub use content::{Content, ContentError, FileData, Piece, Reader};
pub use node::{Entries, Kind, Meta, Node, Origin, Xattrs};
pub use path::{MAX_PATH_BYTES, PathError, display, escape, normalise};

/// Why a tree operation was refused. Paths are shown absolute.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path cannot name a file of an image.
    #[error("path {path:?} cannot be in an image")]
    Path {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// Two origins bring one path, and neither was told to win.
    #[error("{path} comes from {first} ({first_kind}) and from {second} ({second_kind})")]
    Conflict {
        /// The path both bring.
        path: String,
        /// Who brought it first.
        first: Origin,
        /// What the first one is.
        first_kind: &'static str,
        /// Who brought it again.
        second: Origin,
        /// What the second one is.
        second_kind: &'static str,
    },
    /// A parent of the path is not a directory.
    #[error("{path} from {origin} needs {parent} to be a directory, but {holder} brought a {kind}")]
    NotADirectory {
        /// The path being inserted.
        path: String,
        /// Who brings it.
        origin: Origin,
        /// The parent in the way.
        parent: String,
        /// Who brought the parent.
        holder: Origin,
        /// What the parent is.
        kind: &'static str,
    },
    /// The path does not exist.
    #[error("{path} does not exist")]
    NotFound {
        /// The missing path.
        path: String,
    },
    /// A hard link to something that cannot have one.
    #[error("{path} from {origin} cannot be a hard link to {target}: that is a {kind}")]
    LinkToDirectory {
        /// The new name.
        path: String,
        /// Who brings it.
        origin: Origin,
        /// The existing name.
        target: String,
        /// What it is.
        kind: &'static str,
    },
    /// A directory with entries would be lost.
    #[error("{path} is a directory with entries ({origin}) and cannot be replaced by a {kind}")]
    DirectoryNotEmpty {
        /// The directory.
        path: String,
        /// Who brought it.
        origin: Origin,
        /// What should take its place.
        kind: &'static str,
    },
    /// A directory would be moved into itself.
    #[error("{from} cannot be moved to {to}, which is inside it")]
    IntoItself {
        /// The directory.
        from: String,
        /// Where it should have gone.
        to: String,
    },
}

/// What an insertion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The path is new.
    New,
    /// A directory was there already: its entries stay, and the first origin's metadata counts (as with dpkg),
    /// unless the directory had only been implied.
    Merged,
    /// Something was there and gave way ([`Tree::replace`] only).
    Replaced,
}

/// What a tree weighs. Hard links count once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Further names of files counted above.
    pub hard_links: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, pipes and sockets.
    pub special: u64,
    /// Sum of file lengths, holes included, in bytes.
    pub bytes: u64,
}

/// The files of one image. The root is a directory; paths may be given with or without a leading `/` or `./`.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Node,
}

impl Tree {
    /// An empty tree whose root directory has `meta`. Implied directories get 0755 root:root and the root's mtime.
    pub const fn new(meta: Meta) -> Self {
        Self { root: Node::new(Kind::empty_directory(), meta, Origin::implied()) }
    }

    /// The root directory.
    pub const fn root(&self) -> &Node {
        &self.root
    }

    /// The node at `path`; symbolic links are not followed.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        let mut node = &self.root;
        for name in normalise(path).ok()? {
            node = node.entries()?.get(name)?;
        }
        Some(node)
    }

    /// The node at `path`, to change; symbolic links are not followed.
    pub fn get_mut(&mut self, path: &[u8]) -> Option<&mut Node> {
        let mut node = &mut self.root;
        for name in normalise(path).ok()? {
            let Kind::Directory(entries) = &mut node.kind else { return None };
            node = entries.get_mut(name)?;
        }
        Some(node)
    }

    /// Puts `node` at `path`, making missing parents. Two directories merge; anything else that is there already is
    /// a [`TreeError::Conflict`], also when the bytes are equal (dpkg refuses that too). A directory node brings its
    /// entries along only when the path is new; merging takes its metadata alone.
    pub fn insert(&mut self, path: &[u8], node: Node) -> Result<Inserted, TreeError> {
        self.put(path, node, false)
    }

    /// Like [`Tree::insert`], but `node` wins over what is there: for the paths that a recipe lists under `replace:`.
    /// A directory with entries is never lost this way.
    pub fn replace(&mut self, path: &[u8], node: Node) -> Result<Inserted, TreeError> {
        self.put(path, node, true)
    }

    /// Gives the file (or device, or symbolic link) at `existing` a second name `path`.
    pub fn hard_link(&mut self, existing: &[u8], path: &[u8], origin: Origin) -> Result<Inserted, TreeError> {
        let Some(target) = self.get(existing) else {
            return Err(TreeError::NotFound { path: display(existing) });
        };
        if target.entries().is_some() {
            return Err(TreeError::LinkToDirectory {
                path: display(path),
                origin,
                target: display(existing),
                kind: target.kind.noun(),
            });
        }
        let node = Node { origin, ..target.clone() };
        self.insert(path, node)
    }

    /// Takes `path` and all below it out of the tree. The root cannot be removed.
    pub fn remove(&mut self, path: &[u8]) -> Option<Node> {
        let mut names = normalise(path).ok()?;
        let last = names.pop()?;
        let mut node = &mut self.root;
        for name in names {
            let Kind::Directory(entries) = &mut node.kind else { return None };
            node = entries.get_mut(name)?;
        }
        match &mut node.kind {
            Kind::Directory(entries) => entries.remove(last),
            _ => None,
        }
    }

    /// Moves `from` with all below it to `to`. Where both are directories, the entries are merged one by one under
    /// the rules of [`Tree::insert`]; after a conflict the tree is incomplete and must be dropped.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), TreeError> {
        let (source, target) = (components(from)?, components(to)?);
        if source == target {
            return Ok(());
        }
        if target.starts_with(&source) {
            return Err(TreeError::IntoItself { from: display(from), to: display(to) });
        }
        let Some(node) = self.remove(from) else {
            return Err(TreeError::NotFound { path: display(from) });
        };
        self.graft(target.join(&b"/"[..]), node)
    }

    fn graft(&mut self, to: Vec<u8>, mut node: Node) -> Result<(), TreeError> {
        if let Kind::Directory(entries) = &mut node.kind
            && self.get(&to).is_some_and(|there| there.entries().is_some())
        {
            let entries = std::mem::take(entries);
            self.insert(&to, node)?;
            for (name, child) in entries {
                self.graft(path::join(&to, &name), child)?;
            }
            return Ok(());
        }
        self.insert(&to, node).map(|_| ())
    }

    fn put(&mut self, path: &[u8], node: Node, wins: bool) -> Result<Inserted, TreeError> {
        let mut names = components(path)?;
        let Some(last) = names.pop() else {
            return put_over(&mut self.root, path, node, wins);
        };
        let mtime = self.root.meta.mtime;
        let mut at = &mut self.root;
        let mut walked = Vec::new();
        for name in names {
            at = child_directory(at, name, &mut walked, mtime, path, &node.origin)?;
        }
        let parent = (at.origin.clone(), at.kind.noun());
        let Kind::Directory(entries) = &mut at.kind else {
            return Err(not_a_directory(parent, &walked, path, &node.origin));
        };
        match entries.get_mut(last) {
            Some(there) => put_over(there, path, node, wins),
            None => {
                entries.insert(last.to_vec(), node);
                Ok(Inserted::New)
            }
        }
    }

    /// All nodes, parents before their entries, entries in byte order of their names, as (path without a leading
    /// `/`, node). The root comes first, with an empty path.
    pub const fn walk(&self) -> Walk<'_> {
        Walk { first: Some(&self.root), path: Vec::new(), stack: Vec::new() }
    }

    /// Calls `change` on every node, in no particular order: to clamp times, or to shift owners.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut Node)) {
        let mut todo = vec![&mut self.root];
        while let Some(node) = todo.pop() {
            change(node);
            if let Kind::Directory(entries) = &mut node.kind {
                todo.extend(entries.values_mut());
            }
        }
    }

    /// Lowers every mtime that is later than `latest`, in seconds since 1970.
    pub fn clamp_mtimes(&mut self, latest: u64) {
        self.change_all(|node| node.meta.mtime = node.meta.mtime.min(latest));
    }

    /// Removes what `drops` says true to, by path without a leading `/`; returns how many nodes went. A directory goes
    /// only when nothing is left in it.
    pub fn drop_if(&mut self, drops: &dyn Fn(&[u8]) -> bool) -> u64 {
        prune(&mut self.root, &mut Vec::new(), drops)
    }

    /// What the tree weighs.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut seen = HashSet::new();
        for (_, node) in self.walk() {
            match &node.kind {
                Kind::Directory(_) => totals.directories += 1,
                Kind::Symlink(_) => totals.symlinks += 1,
                Kind::File(data) if seen.insert(Arc::as_ptr(data)) => {
                    totals.files += 1;
                    totals.bytes = totals.bytes.saturating_add(data.len());
                }
                Kind::File(_) => totals.hard_links += 1,
                _ => totals.special += 1,
            }
        }
        totals
    }

    /// Bytes of regular files by who brought them (hard links count once, for the first name in walk order).
    pub fn bytes_by_origin(&self) -> BTreeMap<Origin, u64> {
        let mut sums: BTreeMap<Origin, u64> = BTreeMap::new();
        let mut seen = HashSet::new();
        for (_, node) in self.walk() {
            if let Some(data) = node.file()
                && seen.insert(Arc::as_ptr(data))
            {
                let sum = sums.entry(node.origin.clone()).or_default();
                *sum = sum.saturating_add(data.len());
            }
        }
        sums
    }

    /// The `count` largest regular files, largest first, as (length in bytes, path, origin).
    pub fn largest(&self, count: usize) -> Vec<(u64, Vec<u8>, Origin)> {
        let mut all: Vec<_> = self
            .walk()
            .filter_map(|(path, node)| node.file().map(|data| (data.len(), path, node.origin.clone())))
            .collect();
        all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        all.truncate(count);
        all
    }
}

fn components(path: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    normalise(path).map_err(|source| TreeError::Path { path: display(path), source })
}

fn not_a_directory(
    (holder, kind): (Origin, &'static str),
    walked: &[u8],
    path: &[u8],
    origin: &Origin,
) -> TreeError {
    TreeError::NotADirectory {
        path: display(path),
        origin: origin.clone(),
        parent: display(walked),
        holder,
        kind,
    }
}

/// The directory `name` in `at`, made when missing. `walked` is the path of `at` and becomes that of the result.
fn child_directory<'t>(
    at: &'t mut Node,
    name: &[u8],
    walked: &mut Vec<u8>,
    mtime: u64,
    path: &[u8],
    origin: &Origin,
) -> Result<&'t mut Node, TreeError> {
    let (holder, kind) = (at.origin.clone(), at.kind.noun());
    let Kind::Directory(entries) = &mut at.kind else {
        return Err(not_a_directory((holder, kind), walked, path, origin));
    };
    walked.push(b'/');
    walked.extend_from_slice(name);
    let implied = || Node::new(Kind::empty_directory(), Meta::root(0o755, mtime), Origin::implied());
    Ok(entries.entry(name.to_vec()).or_insert_with(implied))
}

fn put_over(there: &mut Node, path: &[u8], mut node: Node, wins: bool) -> Result<Inserted, TreeError> {
    match (&mut there.kind, &mut node.kind) {
        (Kind::Directory(old), Kind::Directory(_)) => {
            if there.origin.is_implied() || wins {
                node.kind = Kind::Directory(std::mem::take(old));
                *there = node;
            }
            Ok(Inserted::Merged)
        }
        (Kind::Directory(old), _) if wins && !old.is_empty() => Err(TreeError::DirectoryNotEmpty {
            path: display(path),
            origin: there.origin.clone(),
            kind: node.kind.noun(),
        }),
        _ if wins => {
            *there = node;
            Ok(Inserted::Replaced)
        }
        _ => Err(TreeError::Conflict {
            path: display(path),
            first: there.origin.clone(),
            first_kind: there.kind.noun(),
            second: node.origin,
            second_kind: node.kind.noun(),
        }),
    }
}

fn prune(node: &mut Node, path: &mut Vec<u8>, drops: &dyn Fn(&[u8]) -> bool) -> u64 {
    let Kind::Directory(entries) = &mut node.kind else { return 0 };
    let mut gone = 0;
    entries.retain(|name, child| {
        let parent_len = path.len();
        if parent_len > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        gone += prune(child, path, drops);
        let is_full = child.entries().is_some_and(|below| !below.is_empty());
        let stays = is_full || !drops(path);
        path.truncate(parent_len);
        gone += u64::from(!stays);
        stays
    });
    gone
}

impl Node {
    /// The node and all below it as [`Tree::walk`] gives them, with paths relative to it.
    pub const fn walk(&self) -> Walk<'_> {
        Walk { first: Some(self), path: Vec::new(), stack: Vec::new() }
    }
}

/// Depth-first walk in byte order; see [`Tree::walk`].
#[derive(Debug)]
pub struct Walk<'t> {
    first: Option<&'t Node>,
    path: Vec<u8>,
    stack: Vec<(usize, std::collections::btree_map::Iter<'t, Vec<u8>, Node>)>,
}

impl<'t> Iterator for Walk<'t> {
    type Item = (Vec<u8>, &'t Node);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.first.take() {
            if let Some(entries) = root.entries() {
                self.stack.push((0, entries.iter()));
            }
            return Some((Vec::new(), root));
        }
        loop {
            let (parent_len, entries) = self.stack.last_mut()?;
            self.path.truncate(*parent_len);
            let Some((name, node)) = entries.next() else {
                self.stack.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            if let Some(below) = node.entries() {
                self.stack.push((self.path.len(), below.iter()));
            }
            return Some((self.path.clone(), node));
        }
    }
}

#[cfg(test)]
mod tests;
