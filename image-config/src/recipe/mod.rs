//! What an image is made of: the recipe, validated.
//!
//! A [`Recipe`] holds no loose strings: whoever has one can use every value without checking it again. The path is
//! text, `raw` (shapes as written), `validate` (rules, all broken ones reported together), `Recipe`.
//! `docs/recipe.md` is the reference of every key.

mod budget;
mod drop;
mod names;
mod places;
mod raw;
mod sizes;
mod validate;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

pub use self::budget::{Budget, Part, Subject};
pub use self::drop::{DropRule, DropRules, Pattern};
pub(crate) use self::names::word;
pub use self::names::{
    AccountName, Component, ImagePath, ImageVersion, MirrorUrl, ModuleName, NameError, PackageName,
    ProductName, Suite,
};
pub use self::places::{Named, position};
pub use self::sizes::{ByteSize, MIB, PartitionSize};
use crate::diagnostic::Diagnostics;
use crate::unit::UnitName;
use crate::yaml;

/// An image's recipe: everything that decides its content but the packages' exact versions (those are the lock
/// file's business).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Name of the product.
    pub name: ProductName,
    /// Version of the image.
    pub version: ImageVersion,
    /// What processors it runs on.
    pub architecture: Architecture,
    /// Where packages come from.
    pub debian: DebianSources,
    /// Packages asked for, in the order written, each once; their dependencies come along.
    pub packages: Vec<PackageName>,
    /// What Ferrite itself supplies in place of Debian packages.
    pub provides: Vec<Provided>,
    /// Paths where our file wins over a package's; anything else shipped twice is an error.
    pub replace: Vec<ImagePath>,
    /// What is left out of the packages' files.
    pub drop: DropRules,
    /// Extra files, in the order written, each path once; the links of `applets` are among them.
    pub files: Vec<ExtraFile>,
    /// Whole folders and archives to add, in the order written.
    pub trees: Vec<ExtraTree>,
    /// Users, each name and uid once.
    pub users: Vec<User>,
    /// Groups besides the users' own ones, each name and gid once (users' own gids included).
    pub groups: Vec<Group>,
    /// The kernel.
    pub kernel: Kernel,
    /// Modules that the initramfs loads, in this order; the builder adds what they depend on.
    pub initramfs_modules: Vec<ModuleName>,
    /// Sizes of the partitions that are part of the image.
    pub partitions: Partitions,
    /// What may take how much room, each subject once; a build that outgrows one is refused.
    pub budgets: Vec<Budget>,
    /// What starts.
    pub units: Units,
    /// Who signs, and whom the machine trusts.
    pub keys: Keys,
    /// User-data for the OEM partition, for machines that get none otherwise. Relative to `folder`, like [`FileSource::Host`].
    pub user_data: Option<PathBuf>,
    /// Rollback index of the slot footer: raised deliberately, when older images must not boot any more.
    pub rollback_index: u32,
    /// The least loader version that can boot this image.
    pub minimum_loader: u32,
    /// Folder that relative paths of the recipe ([`FileSource::Host`], [`ExtraTree`], [`Keys`], `user_data`) start from.
    pub folder: PathBuf,
}

/// What processors an image runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit PC.
    X86_64,
}

impl Architecture {
    /// As in file names, `uname -m` and the recipe: `x86_64`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
        }
    }

    /// Debian's name of it: `amd64`.
    #[must_use]
    pub fn debian_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianSources {
    /// Suites, at least one. Where two have a package, the higher version wins; the order only breaks ties.
    pub suites: Vec<Suite>,
    /// Components of every suite, at least one; `main` when the recipe is silent.
    pub components: Vec<Component>,
    /// Mirrors of the main archive, tried in order. Empty: the builder chooses.
    pub mirrors: Vec<MirrorUrl>,
    /// Mirrors of the security archive ([`Suite::is_security`]), tried in order. Empty: the builder chooses.
    pub security_mirrors: Vec<MirrorUrl>,
    /// Base of the archive that has what mirrors have dropped. `None`: the builder chooses.
    pub snapshot: Option<MirrorUrl>,
}

/// A Debian package that Ferrite stands in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The package's name.
    pub name: PackageName,
    /// The Debian version that it counts as; without one it satisfies only dependencies that name no version.
    pub version: Option<String>,
}

/// A file, link or folder that the recipe adds. Paths are those of the running system (`/etc/motd`, not
/// `/usr/etc/motd`) and lie in `/usr` or `/etc`; folders may also lie in `/var`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraFile {
    /// Where it goes.
    pub path: ImagePath,
    /// What it is.
    pub source: FileSource,
    /// Its owner and group; `root:root` unless written.
    pub owner: Owner,
    /// Permission bits, 0 to 0o7777: as written, or 0o644 for files, 0o755 for folders, 0o777 for links.
    pub mode: u16,
}

/// What an extra file consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// The text in the recipe.
    Inline(String),
    /// A regular file on the machine that builds; relative to [`Recipe::folder`], never leading out of it.
    Host(PathBuf),
    /// A symbolic link to this target, which need not exist.
    Symlink(String),
    /// An empty folder.
    Directory,
}

/// A folder or tar archive of the machine that builds, whose files the recipe adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraTree {
    /// The folder or archive; relative to [`Recipe::folder`], never leading out of it.
    pub source: PathBuf,
    /// The folder of the image that the tree's files go to, in `/usr`, `/etc` or (folders only) `/var`. `None`: the root, so
    /// that the tree has `usr` and `etc` itself.
    pub to: Option<ImagePath>,
    /// Who owns all of it. `None`: root what comes from a folder, whose owners mean nothing in the image; from an archive what
    /// it says.
    pub owner: Option<Owner>,
}

/// Owner and group of an extra file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Account,
    /// The group.
    pub group: Account,
}

/// A user or group as a recipe names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name: of the recipe's own or of the packages' users, which only the builder knows.
    Name(AccountName),
}

/// A user of the image. No recipe can give one a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: AccountName,
    /// 1 to 59999.
    pub uid: u32,
    /// Primary group.
    pub group: PrimaryGroup,
    /// Supplementary groups, each once.
    pub groups: Vec<AccountName>,
    /// Home folder. Made at first boot by whoever needs it, not part of the image.
    pub home: ImagePath,
    /// Login shell.
    pub shell: ImagePath,
    /// Full name or description; no `:`.
    pub gecos: String,
}

/// A user's primary group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrimaryGroup {
    /// A group of the user's name, made for it, with this gid (1 to 59999).
    Own {
        /// The group's number.
        gid: u32,
    },
    /// A group that the recipe or a package makes.
    Existing(AccountName),
}

/// A group of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: AccountName,
    /// 1 to 59999.
    pub gid: u32,
}

/// The kernel of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The package that brings it, or one that depends on that.
    pub package: PackageName,
    /// The recipe's part of the command line: one line of printable ASCII, no parameter that the builder or the
    /// loader sets.
    pub command_line: String,
    /// Which of its modules `/usr` keeps.
    pub modules: KeepModules,
}

/// Which kernel modules the image's `/usr` keeps for loading at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepModules {
    /// Every one.
    All,
    /// Those whose path below `/usr/lib/modules/RELEASE/kernel` matches one of these, and what they depend on.
    Matching(Vec<Pattern>),
}

/// Sizes of the partitions in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions {
    /// EFI system partition; 64 MiB unless written, at least that for FAT32.
    pub esp: PartitionSize,
    /// Each of the two slots; 1 GiB unless written.
    pub usr: PartitionSize,
    /// Platform defaults; 16 MiB unless written.
    pub oem: PartitionSize,
}

/// What starts in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// Enabled as their `[Install]` sections say.
    pub enable: Vec<UnitName>,
    /// Linked to `/dev/null`.
    pub mask: Vec<UnitName>,
    /// What `default.target` points at.
    pub default: UnitName,
}

/// Signing and trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Who signs the image.
    pub signing: SigningKey,
    /// Public keys that the loader trusts besides the signer's: files, relative to [`Recipe::folder`].
    pub trusted: Vec<PathBuf>,
    /// Root metadata of the channel whose releases machines take: a file, relative to [`Recipe::folder`]. Without one machines trust a
    /// channel that is signed by the development key.
    pub channel: Option<PathBuf>,
}

/// Who signs the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// The committed development key: everybody has it, so it protects nobody, and everything says so.
    Development,
    /// A private key file, relative to [`Recipe::folder`].
    File(PathBuf),
}

/// Why a recipe could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {}", path.display())]
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

impl Recipe {
    /// Reads and validates a recipe file: the one function of this crate that does I/O.
    ///
    /// Files that the recipe names are not read; [`Recipe::folder`] is where they start from.
    ///
    /// # Errors
    /// [`RecipeError::Read`] when the file cannot be read, [`RecipeError::Invalid`] with every finding otherwise.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let bytes = fs::read(path).map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Self::parse(&path.display().to_string(), &bytes, &folder).map_err(RecipeError::Invalid)
    }

    /// Validates a recipe's bytes. `file` is its name in messages, `folder` what its relative paths start from.
    ///
    /// # Errors
    /// Mistakes of shape (syntax, unknown keys, wrong types) one at a time, broken rules all together.
    pub fn parse(file: &str, bytes: &[u8], folder: &Path) -> Result<Self, Diagnostics> {
        let text = yaml::decode(file, bytes)?;
        let raw: raw::Recipe = yaml::parse(file, text)?;
        validate::recipe(file, text, raw, folder)
    }

    /// Stem of the image's file names: `NAME-VERSION-ARCHITECTURE`.
    #[must_use]
    pub fn file_stem(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.architecture)
    }
}

#[cfg(test)]
mod tests;
