//! Answers about a built image from its manifest alone: why something is in it ([`why`]), what takes its space ([`size`]), how
//! two differ ([`diff`]), and whether it keeps within its recipe's limits ([`budget`]).
//!
//! All of it is pure: manifests and recipes in, plain data out, which `Display` renders for people and serde for scripts. Bytes
//! are room in the slot, as [`space`] works it out, so that everything adds up to the slot.

pub mod budget;
pub mod diff;
mod graph;
mod paths;
pub mod size;
mod space;
mod units;
pub mod why;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

pub use self::graph::Graph;
pub use self::space::{Shared, Space};
use crate::build::{Manifest, ManifestFile, ManifestPackage};

/// Who brought a file of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bringer {
    /// A package, by its name.
    Package(String),
    /// Ferrite itself: its programs and units, and what it makes in place of the packages' scripts.
    Ferrite,
    /// The recipe: `files:`, `trees:` and `applets:`.
    Recipe,
    /// Nobody by name: folders that only lead to what is below them.
    Nobody,
}

impl Bringer {
    /// Who brought `file`.
    pub fn of(file: &ManifestFile) -> Self {
        match (&file.package, file.origin.as_deref()) {
            (Some(package), _) => Self::Package(package.clone()),
            (None, Some("ferrite")) => Self::Ferrite,
            (None, Some("recipe")) => Self::Recipe,
            (None, _) => Self::Nobody,
        }
    }
}

impl fmt::Display for Bringer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Package(name) => name,
            Self::Ferrite => "(Ferrite itself)",
            Self::Recipe => "(the recipe)",
            Self::Nobody => "(nobody)",
        })
    }
}

impl Serialize for Bringer {
    /// `{"package": NAME}`, or `{"origin": "ferrite"}` and the like: the keys of a manifest's files.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match self {
            Self::Package(name) => ("package", Some(name.as_str())),
            Self::Ferrite => ("origin", Some("ferrite")),
            Self::Recipe => ("origin", Some("recipe")),
            Self::Nobody => ("origin", None),
        };
        BTreeMap::from([(key, value)]).serialize(serializer)
    }
}

/// A manifest with what questions about it need: files by path, packages by name, and the room that each file takes.
#[derive(Debug)]
pub struct Image<'m> {
    /// The manifest.
    pub manifest: &'m Manifest,
    /// The room that things take in the slot.
    pub space: Space,
    files: BTreeMap<&'m str, usize>,
    packages: BTreeMap<&'m str, &'m ManifestPackage>,
}

impl<'m> Image<'m> {
    /// Indexes a manifest.
    pub fn new(manifest: &'m Manifest) -> Self {
        Self {
            manifest,
            space: Space::of(manifest),
            files: manifest.files.iter().enumerate().map(|(at, file)| (file.path.as_str(), at)).collect(),
            packages: manifest.packages.iter().map(|package| (package.name.as_str(), package)).collect(),
        }
    }

    /// The file with this path in the image (`/usr/etc/motd`).
    pub fn file(&self, path: &str) -> Option<&'m ManifestFile> {
        self.manifest.files.get(*self.files.get(path)?)
    }

    /// The package with this name.
    pub fn package(&self, name: &str) -> Option<&'m ManifestPackage> {
        self.packages.get(name).copied()
    }

    /// Each file with the bytes that it takes in the slot, in the manifest's order.
    pub fn files(&self) -> impl Iterator<Item = (&'m ManifestFile, u64)> {
        self.manifest.files.iter().zip(self.space.files.iter().copied())
    }

    /// The files at or below `path` in the image, with their bytes.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&'m ManifestFile, u64)> {
        self.files().filter(move |(file, _)| paths::is_at_or_below(&file.path, path))
    }
}

/// What a package, or another bringer, has in a set of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contribution {
    /// Who.
    #[serde(flatten)]
    pub who: Bringer,
    /// Bytes in the slot.
    pub bytes: u64,
    /// How many files, links and devices; folders do not count.
    pub files: u64,
}

/// Sums up who brought `files`, largest first. Folders have no bytes and count nowhere.
fn contributions<'m>(files: impl Iterator<Item = (&'m ManifestFile, u64)>) -> Vec<Contribution> {
    let mut sums: BTreeMap<Bringer, (u64, u64)> = BTreeMap::new();
    for (file, bytes) in files.filter(|(file, _)| file.kind != "directory") {
        let sum = sums.entry(Bringer::of(file)).or_default();
        *sum = (sum.0 + bytes, sum.1 + 1);
    }
    let mut list: Vec<_> =
        sums.into_iter().map(|(who, (bytes, files))| Contribution { who, bytes, files }).collect();
    list.sort_by(|a, b| heaviest((a.bytes, &a.who), (b.bytes, &b.who)));
    list
}

/// The order of lists by weight: more bytes first, names decide between equals.
fn heaviest<N: Ord>(a: (u64, N), b: (u64, N)) -> Ordering {
    b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1))
}

#[cfg(test)]
mod testing;
