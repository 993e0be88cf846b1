//! The files of an image: packages, what their scripts would have done, Ferrite's own programs, the recipe's wishes.

mod accounts;
mod alternatives;
mod effects;
mod identity;
mod kernel;
mod layout;
mod pam;
mod recipe_files;
mod recipe_trees;
mod staging;
mod units;

use std::path::Path;

use debian::unpack::Unpacked;
use image_config::recipe::Recipe;

pub use self::accounts::{AccountError, Accounts};
pub use self::kernel::{KernelError, KernelParts};
use self::staging::Staging;
pub use self::staging::StagingError;
use crate::guest::GuestPrograms;
use crate::parts::Parts;
use crate::signing::PublicKey;
use crate::tree::Tree;
use crate::trees::SourceTree;

/// Why the files could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// Two things collide, or something cannot be read.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The kernel, its modules or the initramfs.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The recipe enables a unit that the image does not have.
    #[error("the recipe names unit {unit}, which no package of the image ships (is its package missing?)")]
    NoUnit {
        /// The unit.
        unit: String,
    },
    /// The accounts of a Debian system are missing.
    #[error("no package brings /usr/share/base-passwd/{file}: add base-passwd to the recipe's packages")]
    NoMasters {
        /// The missing file.
        file: &'static str,
    },
}

/// The files of a slot.
#[derive(Debug)]
pub struct Rootfs {
    /// Root is `/usr`.
    pub usr: Tree,
    /// The kernel and its initramfs.
    pub kernel: KernelParts,
    /// What whoever builds should know.
    pub notes: Vec<String>,
}

/// Time of the youngest file of all packages, Unix seconds: the same for the same packages, whoever builds when.
pub fn youngest(packages: &[Unpacked]) -> u64 {
    packages.iter().flat_map(|package| &package.entries).map(|entry| entry.mtime).max().unwrap_or(0)
}

/// What of an image is Ferrite's own.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The programs.
    pub programs: &'a GuestPrograms,
    /// The folder of the units on this machine.
    pub units: &'a Path,
    /// Root metadata of the channel that the update engine believes.
    pub channel_root: &'a [u8],
    /// Keys that the loader is given.
    pub slot_keys: &'a [PublicKey],
}

/// Puts the files together.
///
/// # Errors
/// [`RootfsError`]; each names the path and who brought it.
pub fn assemble(
    recipe: &Recipe,
    packages: &[Unpacked],
    trees: &[SourceTree<'_>],
    own: &Own<'_>,
    build_time: u64,
    parts: &Parts,
) -> Result<Rootfs, RootfsError> {
    let replace = recipe.replace.iter().map(|path| path.to_string().into_bytes());
    let mut staging = Staging::new(build_time, replace);
    for package in packages {
        staging.add_package(package)?;
    }
    let mut accounts = masters(&staging)?;
    identity::write(&mut staging, recipe)?;
    identity::install_programs(&mut staging, own)?;
    identity::install_trust(&mut staging, own)?;
    effects::apply(&mut staging, &mut accounts)?;
    recipe_files::add_accounts(&mut staging, &mut accounts, recipe).map_err(StagingError::from)?;
    recipe_trees::add(&mut staging, &accounts, trees)?;
    recipe_files::add_files(&mut staging, &accounts, recipe)?;
    accounts.settle_root_shell(staging.has(b"usr/bin/bash"));
    effects::write_accounts(&mut staging, &accounts)?;
    units::enable(&mut staging, &recipe.units)?;
    effects::shell_link(&mut staging)?;
    let boot = staging.tree_mut().remove(b"boot");
    staging.tree_mut().drop_if(&|path| recipe.drop.drops(&String::from_utf8_lossy(path)));
    let mut split = layout::split(staging, boot)?;
    let kernel = kernel::prepare(recipe, &mut split.usr, &split.boot, &own.programs.init, build_time, parts)?;
    Ok(Rootfs { usr: split.usr, kernel, notes: split.notes })
}

/// The files of packages as they lie in a system with a merged `/usr`, and nothing else: what another system than an image is
/// made of.
///
/// # Errors
/// Two packages ship one path, or one ships something outside `/usr`, `/etc`, `/var`, `/boot`.
pub fn merge(packages: &[Unpacked], build_time: u64) -> Result<Tree, StagingError> {
    let mut staging = Staging::new(build_time, []);
    for package in packages {
        staging.add_package(package)?;
    }
    Ok(staging.into_parts().0)
}

fn masters(staging: &Staging) -> Result<Accounts, RootfsError> {
    let read = |file: &'static str| {
        let text = staging.text(format!("usr/share/base-passwd/{file}").as_bytes())?;
        text.ok_or(RootfsError::NoMasters { file })
    };
    let accounts = Accounts::from_masters(&read("passwd.master")?, &read("group.master")?);
    Ok(accounts.map_err(StagingError::from)?)
}
