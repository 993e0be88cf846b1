//! Whole trees of files that a recipe adds: folders and tar archives of the machine that builds.
//!
//! A tree becomes a list of nodes, parents before what is in them; where they go and who owns them is
//! [`crate::rootfs`]'s business. Contents stay where they are until the image is written; compressed archives are unpacked beside the
//! image for that time.

mod archive;
mod folder;

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use debian::tarball::TarError;
use debian::temporary::Temporary;
use image_config::recipe::{ExtraTree, Recipe};

pub use self::archive::node;
use crate::parts::Key;
use crate::tree::{Node, Origin};

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreesError {
    /// The system refused something.
    #[error("cannot {action} {}, which is of the tree {tree} of the recipe", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The tree's source, as the recipe has it.
        tree: String,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a folder nor named like an archive.
    #[error("the tree {} is no folder, and its name does not end in .tar, .tar.gz, .tar.xz or .tar.zst", path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// Something that only a running program can make.
    #[error("the tree {tree} has the socket {}, which is of no use without the program that made it", path.display())]
    Socket {
        /// The file.
        path: PathBuf,
        /// The tree's source, as the recipe has it.
        tree: String,
    },
    /// An archive that cannot be read, or has something in it that no image can have.
    #[error("the tree {} is no archive that an image can be made of", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TarError,
    },
    /// Somebody wrote to it while it was read.
    #[error("a tree of the recipe has changed during the build")]
    Changed,
}

/// Nodes by their paths from the root of a tree, without a slash at the start, parents first. A folder's node has no entries: what is in it
/// follows with paths of its own.
pub type Entries = Vec<(Vec<u8>, Node)>;

/// A tree that was read.
#[derive(Debug)]
pub struct SourceTree<'r> {
    /// What the recipe says of it.
    pub spec: &'r ExtraTree,
    /// What is in it. Nodes of a folder of this machine have owner and time 0, which are the image's to decide.
    pub entries: Entries,
    /// Whether owners and times are those of an archive.
    pub is_archive: bool,
}

impl SourceTree<'_> {
    /// The tree's source, as the recipe has it.
    pub fn name(&self) -> String {
        self.spec.source.display().to_string()
    }

    /// Who brings the tree's files.
    pub fn origin(&self) -> Origin {
        origin(self.spec)
    }
}

fn origin(spec: &ExtraTree) -> Origin {
    Origin::new(&format!("the recipe's tree {}", spec.source.display()))
}

/// The trees of a recipe. What was unpacked for them goes with this.
#[derive(Debug)]
pub struct Trees<'r> {
    list: Vec<SourceTree<'r>>,
    signature: [u8; 32],
    recipe: &'r Recipe,
    _unpacked: Vec<Temporary>,
}

impl<'r> Trees<'r> {
    /// Reads all trees of a recipe. `scratch` is a folder with room for the content of compressed archives.
    ///
    /// # Errors
    /// [`TreesError`] names the file.
    pub fn read(recipe: &'r Recipe, scratch: &Path) -> Result<Self, TreesError> {
        let mut trees =
            Self { list: Vec::new(), signature: signature(recipe), recipe, _unpacked: Vec::new() };
        for spec in &recipe.trees {
            let (path, tree) = (recipe.folder.join(&spec.source), spec.source.display().to_string());
            let metadata = fs::metadata(&path).map_err(io_error("read", &path, &tree))?;
            let (entries, is_archive) = if metadata.is_dir() {
                (folder::read(&path, &tree, &origin(spec))?, false)
            } else {
                let (entries, unpacked) = archive::read(&path, &tree, &origin(spec), scratch)?;
                trees._unpacked.extend(unpacked);
                (entries, true)
            };
            trees.list.push(SourceTree { spec, entries, is_archive });
        }
        Ok(trees)
    }

    /// The trees, in the order of the recipe.
    pub fn list(&self) -> &[SourceTree<'r>] {
        &self.list
    }

    /// Makes sure that nobody wrote to the trees since they were read.
    ///
    /// # Errors
    /// [`TreesError::Changed`].
    pub fn still_the_same(&self) -> Result<(), TreesError> {
        if signature(self.recipe) == self.signature { Ok(()) } else { Err(TreesError::Changed) }
    }
}

/// Tells whether the trees of a recipe have changed, without reading any file: by what the system says of each. Copies of a folder
/// have another signature.
pub fn signature(recipe: &Recipe) -> [u8; 32] {
    let mut key = Key::new("trees 1");
    for spec in &recipe.trees {
        let root = recipe.folder.join(&spec.source);
        let listed = fs::metadata(&root).and_then(|metadata| match metadata.is_dir() {
            true => folder::list(&root).map_err(|(_, error)| error),
            false => Ok(vec![(Vec::new(), metadata)]),
        });
        // A tree that cannot be read fails the build with a message of its own.
        for (path, metadata) in listed.unwrap_or_default() {
            key.add(&path);
            key.add(&stamp(&metadata));
        }
        key.add(b"end");
    }
    key.digest()
}

/// Changes with a file's content (its times do), mode, attributes and links (the time of the last change of the inode does).
fn stamp(metadata: &Metadata) -> Vec<u8> {
    let numbers = [
        u64::from(metadata.mode()),
        metadata.ino(),
        metadata.size(),
        metadata.mtime().cast_unsigned(),
        metadata.mtime_nsec().cast_unsigned(),
        metadata.ctime().cast_unsigned(),
        metadata.ctime_nsec().cast_unsigned(),
    ];
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Adds what was tried with which file to an error.
fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
    tree: &'a str,
) -> impl FnOnce(io::Error) -> TreesError + 'a {
    move |source| TreesError::Io { action, path: path.to_owned(), tree: tree.to_owned(), source }
}

/// The bytes of a path of this machine.
fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
pub(crate) mod tests;
