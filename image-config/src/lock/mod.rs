//! The lock file of a recipe: the very packages that its image is made of.
//!
//! A [`Lock`] is written by `ferrite lock`, when every digest in it was checked against signed indexes. A build whose recipe
//! it matches ([`Lock::differences`]) takes these packages and needs no index at all. `docs/formats/lock.md` has the format
//! and says what happens when recipe and lock, or lock and mirrors, have moved apart.
//!
//! What the recipe asked for stands in the lock as it was written, not as a digest: a lock that does not fit its recipe can
//! then say what the difference is, and two branches that both changed it merge line by line.

mod changes;
mod date;
mod parse;
mod write;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

pub use self::changes::{Change, Changes};
pub use self::date::ReleaseDate;
use crate::diagnostic::Diagnostics;
use crate::recipe::{Component, NameError, PackageName, Provided, Recipe, Suite};
use crate::yaml;

/// The form that this code reads and writes, the number behind `ferrite-lock`.
pub const FORM: u32 = 1;

/// What of a recipe decides which packages its image has. Equal inputs and equal indexes give equal packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Suites in the order of the recipe, each once.
    pub suites: Vec<Suite>,
    /// Components of every suite, in the order of the recipe.
    pub components: Vec<Component>,
    /// Packages that are asked for, the kernel's among them; sorted, each once.
    pub requests: Vec<PackageName>,
    /// What counts as there; sorted by name, each once.
    pub provides: Vec<Provided>,
}

impl Inputs {
    /// Those of a recipe.
    #[must_use]
    pub fn of(recipe: &Recipe) -> Self {
        let requests: BTreeSet<_> = recipe.packages.iter().chain([&recipe.kernel.package]).collect();
        let mut provides = recipe.provides.clone();
        provides.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Self {
            architecture: recipe.architecture.debian_name().to_owned(),
            suites: recipe.debian.suites.clone(),
            components: recipe.debian.components.clone(),
            requests: requests.into_iter().cloned().collect(),
            provides,
        }
    }
}

/// The packages of a recipe, locked.
///
/// Invariants, kept by [`Lock::parse`] and [`Lock::new`]: there is a date for each suite; packages are sorted by name, each
/// name, file and digest once, each of a suite of the lock and of its architecture or `all`; every request is a package or
/// provided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    inputs: Inputs,
    dates: Vec<ReleaseDate>,
    packages: Vec<LockedPackage>,
}

/// One locked package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedPackage {
    /// Its name.
    pub name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// `all` or the lock's architecture.
    pub architecture: String,
    /// The suite whose index named it.
    pub suite: Suite,
    /// Bytes of the `.deb`, at least 1.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Sha256,
    /// Where a mirror has it, below its base.
    pub filename: PoolPath,
}

/// Why packages make no lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LockError(String);

/// Why a lock file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    /// The file cannot be read.
    #[error("cannot read the lock file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is refused; the findings say why and where.
    #[error("{0}")]
    Invalid(Diagnostics),
}

impl Lock {
    /// A lock of these packages, which may come in any order.
    ///
    /// # Errors
    /// [`LockError`] names the first invariant that does not hold.
    pub fn new(
        inputs: Inputs,
        dates: Vec<ReleaseDate>,
        mut packages: Vec<LockedPackage>,
    ) -> Result<Self, LockError> {
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        let lock = Self { inputs, dates, packages };
        if lock.dates.len() != lock.inputs.suites.len() {
            return Err(LockError("there is not one date for each suite".to_owned()));
        }
        match lock.broken_rules().into_iter().next() {
            None => Ok(lock),
            Some(broken) => Err(LockError(broken.problem)),
        }
    }

    /// Validates the bytes of a lock file. `file` is its name in messages.
    ///
    /// # Errors
    /// Every finding, in the order of the lines.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        parse::lock(file, yaml::decode(file, bytes)?)
    }

    /// Reads and validates a lock file; `None` when there is none. The other function of this crate that does I/O, besides
    /// [`Recipe::load`].
    ///
    /// # Errors
    /// [`LockFileError`].
    pub fn load(path: &Path) -> Result<Option<Self>, LockFileError> {
        match fs::read(path) {
            Ok(bytes) => {
                Self::parse(&path.display().to_string(), &bytes).map(Some).map_err(LockFileError::Invalid)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockFileError::Read { path: path.to_owned(), source }),
        }
    }

    /// Where the lock file of a recipe lies: beside it, with the ending `.lock`.
    #[must_use]
    pub fn path_beside(recipe: &Path) -> PathBuf {
        recipe.with_extension("lock")
    }

    /// What the recipe said when the lock was made.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The suites, each with the date of the signed index that its packages were taken from.
    pub fn suites(&self) -> impl Iterator<Item = (&Suite, ReleaseDate)> {
        self.inputs.suites.iter().zip(self.dates.iter().copied())
    }

    /// The packages, sorted by name.
    #[must_use]
    pub fn packages(&self) -> &[LockedPackage] {
        &self.packages
    }

    /// A package, by name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        let found = self.packages.binary_search_by(|package| package.name.as_str().cmp(name)).ok()?;
        self.packages.get(found)
    }

    /// In what the recipe differs from the one that was locked, each difference a sentence of its own without a full stop.
    /// Empty: the lock is for this recipe.
    #[must_use]
    pub fn differences(&self, inputs: &Inputs) -> Vec<String> {
        changes::of_inputs(&self.inputs, inputs)
    }

    /// Rules between lines that do not hold.
    fn broken_rules(&self) -> Vec<BrokenRule> {
        let mut broken = Vec::new();
        let mut seen = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (index, package) in self.packages.iter().enumerate() {
            let mut refuse = |field: Field, problem: String, hint: &str| {
                broken.push(BrokenRule { line: Line::Package(index), field, problem, hint: hint.to_owned() });
            };
            if !seen.0.insert(&package.name) {
                let problem = format!("package {} is locked twice", package.name);
                refuse(Field::Name, problem, "keep one of the lines, or run `ferrite lock`");
            }
            if !seen.1.insert(&package.filename) {
                let problem = format!("the file {} belongs to another package already", package.filename);
                refuse(Field::Filename, problem, "run `ferrite lock`");
            }
            if !seen.2.insert(package.sha256) {
                let problem = format!("the digest of {} is that of another package already", package.name);
                refuse(Field::Digest, problem, "run `ferrite lock`");
            }
            if !self.inputs.suites.contains(&package.suite) {
                let problem =
                    format!("package {} is of suite {}, which the lock lacks", package.name, package.suite);
                refuse(Field::Suite, problem, "the `suite` lines name the suites");
            }
            let architecture = &self.inputs.architecture;
            if package.architecture != "all" && package.architecture != *architecture {
                let problem = format!("package {} is of architecture {}", package.name, package.architecture);
                refuse(Field::Architecture, problem, &format!("this lock is for {architecture} and all"));
            }
        }
        for (index, request) in self.inputs.requests.iter().enumerate() {
            let provided = self.inputs.provides.iter().any(|provided| provided.name == *request);
            if !provided && !seen.0.contains(request) {
                broken.push(BrokenRule {
                    line: Line::Request(index),
                    field: Field::Name,
                    problem: format!("{request} is asked for, but neither locked nor provided"),
                    hint: "run `ferrite lock`".to_owned(),
                });
            }
        }
        broken
    }
}

/// A rule between lines that does not hold, and where that shows.
struct BrokenRule {
    line: Line,
    field: Field,
    problem: String,
    hint: String,
}

/// A line by what it became.
enum Line {
    /// Index among the packages.
    Package(usize),
    /// Index among the requests.
    Request(usize),
}

/// A word of a line.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Architecture,
    Suite,
    Digest,
    Filename,
}

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Reads 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`NameError`] says what else it is.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let refuse = || {
            NameError::new(format!("`{text}` is no SHA-256 digest"))
                .hint(format!("64 hexadecimal digits in lower case; this has {} characters", text.len()))
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(refuse());
        }
        let mut digest = [0; 32];
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = nibble(*high).zip(nibble(*low)).map(|(h, l)| h << 4 | l).ok_or_else(refuse)?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

crate::recipe::word!(
    /// A Debian package's version: letters, digits and `.+-~:`, with a digit first. Its parts and their order are the
    /// business of whoever compares versions.
    PackageVersion,
    check_version
);
crate::recipe::word!(
    /// Path of a file below a mirror's base: relative, no `.`, `..` or empty component, printable ASCII without `\`, `?`,
    /// `#` and `%`, which mean something else in a URL.
    PoolPath,
    check_pool_path
);

fn check_version(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(allowed) {
        return Err(NameError::new(format!("`{text}` is no package version"))
            .hint("a digit first, then letters, digits and `.+-~:`"));
    }
    Ok(())
}

fn check_pool_path(text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_graphic() && !"\\?#%".contains(c);
    let whole = text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !whole || !text.chars().all(allowed) {
        return Err(NameError::new(format!("`{text}` is no path of a mirror's file"))
            .hint("relative to the mirror's base, such as pool/main/b/busybox/busybox_1.37.0-6_amd64.deb"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
