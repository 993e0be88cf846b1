//! The tree while it is being filled: what packages brought, what Ferrite and the recipe added, and what is to be
//! made on STATE at boot. Paths are those of the running system (`etc/motd`), without a leading `/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use debian::tarball::EntryKind;
use debian::unpack::Unpacked;

use super::accounts::AccountError;
use crate::erofs::PlanError;
use crate::tree::{ContentError, Kind, Meta, Node, Origin, Reader, Tree, TreeError, display};
use crate::trees;

/// Largest file that is read whole: configuration, templates, busybox. Nothing read here comes near it.
const READ_LIMIT: u64 = 64 << 20;
/// Folders at the top that the image makes itself; packages may bring them, empty.
const OWN_TOP: [&str; 14] =
    ["dev", "proc", "sys", "run", "tmp", "home", "root", "media", "mnt", "srv", "opt", "bin", "sbin", "lib"];

/// Why the tree could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Two origins collide, or a path is no path.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A user or group.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A file's bytes cannot be read.
    #[error("cannot read {path} of the image")]
    Content {
        /// The path in the image.
        path: String,
        /// Why.
        source: ContentError,
    },
    /// A text file is not UTF-8.
    #[error("{path} is not UTF-8")]
    NotText {
        /// The path in the image.
        path: String,
    },
    /// A package brings something outside `/usr`, `/etc`, `/var` and `/boot`.
    #[error(
        "{package} brings {path}: an image has only /usr, /etc and /var (drop it in the recipe, or leave the package out)"
    )]
    Outside {
        /// The package and its version.
        package: String,
        /// The path.
        path: String,
    },
    /// A tree of the recipe brings something where an image has nothing of that kind.
    #[error("the tree {tree} of the recipe brings {path}: {rule}")]
    TreePlace {
        /// The tree's source.
        tree: String,
        /// The path in the running system.
        path: String,
        /// What to do instead.
        rule: &'static str,
    },
    /// A tree of the recipe brings something beyond the limits of Linux or EROFS.
    #[error("the tree {tree} of the recipe brings what no image can hold")]
    TreeEntry {
        /// The tree's source.
        tree: String,
        /// Which path, and the limit.
        source: PlanError,
    },
    /// A file of the recipe cannot be read from the machine that builds.
    #[error("cannot read {}, the source of {path}", file.display())]
    HostFile {
        /// The path in the image.
        path: String,
        /// The file on this machine.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The tree and what belongs to it.
#[derive(Debug)]
pub struct Staging {
    tree: Tree,
    reader: Reader,
    /// Time of everything that Ferrite adds, Unix seconds.
    build_time: u64,
    /// Maintainer scripts (`postinst`) by package.
    scripts: BTreeMap<String, String>,
    packages: BTreeSet<String>,
    replace: BTreeSet<Vec<u8>>,
    tmpfiles: Vec<String>,
    notes: Vec<String>,
}

impl Staging {
    /// An empty tree. `replace` are the paths where ours win over a package's.
    pub fn new(build_time: u64, replace: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            tree: Tree::new(Meta::root(0o755, build_time)),
            reader: Reader::new(),
            build_time,
            scripts: BTreeMap::new(),
            packages: BTreeSet::new(),
            replace: replace.into_iter().map(|path| merged_path(&path)).collect(),
            tmpfiles: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds the files of a package.
    ///
    /// # Errors
    /// Another package ships one of its paths, or it ships something outside `/usr`, `/etc`, `/var`, `/boot`.
    pub fn add_package(&mut self, unpacked: &Unpacked) -> Result<(), StagingError> {
        let name = &unpacked.package.name;
        let label = unpacked.package.to_string();
        let origin = Origin::new(&label);
        self.packages.insert(name.clone());
        if let Some(script) = unpacked.control.get("postinst") {
            self.scripts.insert(name.clone(), String::from_utf8_lossy(script).into_owned());
        }
        let data: Arc<Path> = Arc::from(unpacked.data.as_path());
        for entry in &unpacked.entries {
            let path = merged_path(&entry.path);
            if !self.belongs(&path, &entry.kind, &label)? {
                continue;
            }
            if let EntryKind::HardLink(target) = &entry.kind {
                self.tree.hard_link(&merged_path(target), &path, origin.clone())?;
            } else if let Some(node) = trees::node(entry, &data, &origin) {
                self.tree.insert(&path, node)?;
            }
        }
        Ok(())
    }

    /// Whether a package's path goes into the tree; folders that every system has are left out.
    fn belongs(&self, path: &[u8], kind: &EntryKind, label: &str) -> Result<bool, StagingError> {
        let mut components = path.split(|byte| *byte == b'/');
        let top = String::from_utf8_lossy(components.next().unwrap_or_default()).into_owned();
        let is_top = components.next().is_none();
        match top.as_str() {
            "" => Ok(false),
            "usr" | "etc" | "var" | "boot" => Ok(!is_top || matches!(kind, EntryKind::Directory)),
            // The links that make up a merged /usr, and empty folders.
            _ if is_top && matches!(kind, EntryKind::Symlink(_)) => Ok(false),
            _ if matches!(kind, EntryKind::Directory) && OWN_TOP.contains(&top.as_str()) => Ok(false),
            _ => Err(StagingError::Outside { package: label.to_owned(), path: display(path) }),
        }
    }

    /// Whether a package is in the image.
    pub fn has_package(&self, name: &str) -> bool {
        self.packages.contains(name)
    }

    /// Maintainer scripts by package, in the order of names.
    pub fn scripts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.scripts.iter().map(|(name, script)| (name.as_str(), script.as_str()))
    }

    /// The tree.
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The tree, to change.
    pub const fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// Whether a path exists.
    pub fn has(&self, path: &[u8]) -> bool {
        self.tree.get(path).is_some()
    }

    /// Reads a text file; `None` when there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    pub fn text(&self, path: &[u8]) -> Result<Option<String>, StagingError> {
        let Some(data) = self.tree.get(path).and_then(Node::file) else { return Ok(None) };
        let bytes = self
            .reader
            .read_all(&data.content, READ_LIMIT)
            .map_err(|source| StagingError::Content { path: display(path), source })?;
        String::from_utf8(bytes).map(Some).map_err(|_| StagingError::NotText { path: display(path) })
    }

    /// The text files of a folder whose names end in `suffix`, with their absolute paths, in the order of names.
    ///
    /// # Errors
    /// As [`Staging::text`].
    pub fn texts_in(&self, folder: &[u8], suffix: &str) -> Result<Vec<(String, String)>, StagingError> {
        let Some(entries) = self.tree.get(folder).and_then(Node::entries) else { return Ok(Vec::new()) };
        let mut texts = Vec::new();
        for name in entries.keys().filter(|name| name.ends_with(suffix.as_bytes())) {
            let path = [folder, b"/", name].concat();
            if let Some(text) = self.text(&path)? {
                texts.push((display(&path), text));
            }
        }
        Ok(texts)
    }

    /// Adds a node of Ferrite's or the recipe's; it wins over a package's when the recipe's `replace` names its path.
    ///
    /// # Errors
    /// The path is taken and not named in `replace`.
    pub fn add(&mut self, path: &[u8], node: Node) -> Result<(), StagingError> {
        let path = merged_path(path);
        let wins = self.replace.contains(&path);
        if wins {
            self.tree.replace(&path, node)?
        } else {
            self.tree.insert(&path, node)?
        };
        Ok(())
    }

    /// Adds a file of Ferrite's own.
    ///
    /// # Errors
    /// As [`Staging::add`].
    pub fn own_file(
        &mut self,
        path: &str,
        bytes: impl Into<Arc<[u8]>>,
        mode: u16,
    ) -> Result<(), StagingError> {
        let node = Node::new(Kind::file(bytes), Meta::root(mode, self.build_time), ferrite());
        self.add(path.as_bytes(), node)
    }

    /// Adds a file of Ferrite's own unless something is there.
    ///
    /// # Errors
    /// As [`Staging::add`].
    pub fn own_file_if_absent(&mut self, path: &str, bytes: Vec<u8>, mode: u16) -> Result<(), StagingError> {
        if self.has(path.as_bytes()) { Ok(()) } else { self.own_file(path, bytes, mode) }
    }

    /// Adds a symbolic link of Ferrite's own.
    ///
    /// # Errors
    /// As [`Staging::add`].
    pub fn own_link(&mut self, path: &str, target: &str) -> Result<(), StagingError> {
        let meta = Meta::root(0o777, self.build_time);
        self.add(path.as_bytes(), Node::new(Kind::Symlink(target.as_bytes().to_vec()), meta, ferrite()))
    }

    /// Adds a symbolic link of Ferrite's own unless something is there.
    ///
    /// # Errors
    /// As [`Staging::add`].
    pub fn own_link_if_absent(&mut self, path: &str, target: &str) -> Result<(), StagingError> {
        if self.has(&merged_path(path.as_bytes())) { Ok(()) } else { self.own_link(path, target) }
    }

    /// Something to make on STATE or `/run` at boot: a line of `tmpfiles.d`.
    pub fn tmpfiles_line(&mut self, line: String) {
        self.tmpfiles.push(line);
    }

    /// Takes the collected `tmpfiles.d` lines.
    pub fn take_tmpfiles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.tmpfiles)
    }

    /// Something that whoever builds should know.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Time of everything that Ferrite adds, Unix seconds.
    pub const fn build_time(&self) -> u64 {
        self.build_time
    }

    /// The tree and the notes.
    pub fn into_parts(self) -> (Tree, Vec<String>) {
        (self.tree, self.notes)
    }
}

/// The origin of what Ferrite itself adds.
pub fn ferrite() -> Origin {
    Origin::new("ferrite")
}

/// A path as it is in an image with a merged `/usr`: no leading `/` or `./`, `/bin/sh` is `usr/bin/sh`. Paths that the tree
/// would refuse (`..`) stay as they are, and are refused there.
pub fn merged_path(path: &[u8]) -> Vec<u8> {
    let mut rest = path;
    loop {
        rest = match rest {
            [b'.', b'/', tail @ ..] | [b'/', tail @ ..] => tail,
            _ => break,
        };
    }
    let top = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
    let below = rest.len() > top.len();
    if below && matches!(top, b"bin" | b"sbin" | b"lib" | b"lib64") {
        [b"usr/", rest].concat()
    } else {
        rest.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_an_unmerged_system_go_into_usr() {
        for (path, merged) in [
            ("./bin/sh", "usr/bin/sh"),
            ("/lib64/ld.so", "usr/lib64/ld.so"),
            ("bin", "bin"),
            ("library/x", "library/x"),
            ("etc/passwd", "etc/passwd"),
        ] {
            assert_eq!(merged_path(path.as_bytes()), merged.as_bytes(), "{path}");
        }
    }

    #[test]
    fn ours_win_only_where_the_recipe_says_so() {
        let mut staging = Staging::new(0, [b"/etc/motd".to_vec()]);
        let theirs = || Node::new(Kind::file(*b"theirs"), Meta::root(0o644, 0), Origin::new("p 1"));
        staging.tree_mut().insert(b"etc/motd", theirs()).unwrap();
        staging.tree_mut().insert(b"etc/issue", theirs()).unwrap();
        staging.own_file("etc/motd", b"ours".to_vec(), 0o644).unwrap();
        let error = staging.own_file("etc/issue", b"ours".to_vec(), 0o644).unwrap_err();
        assert_eq!(error.to_string(), "/etc/issue comes from p 1 (file) and from ferrite (file)");
        assert_eq!(staging.text(b"etc/motd").unwrap().as_deref(), Some("ours"));
    }
}
