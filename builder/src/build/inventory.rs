//! What an image is made of, for people and for tools: the texts of `manifest.json` and `sbom.cdx.json`.

use std::collections::BTreeMap;

use debian::digest::Digest;
use debian::unpack::UnpackError;
use image_config::recipe::Recipe;

use super::manifest::{self, Sources};
use crate::explain::budget::{self, BudgetError};
use crate::guest::GuestPrograms;
use crate::packages::Supply;
use crate::rootfs::Rootfs;
use crate::sbom::crates::LinkedProgram;
use crate::sbom::{self, Program};
use crate::signing::hex;
use crate::slotimage::SlotImage;
use crate::tree::ContentError;
use crate::{json, licence};

/// Why an image could not be described.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A copyright file.
    #[error("cannot read the licences of the packages")]
    Licences(#[from] UnpackError),
    /// A file of the image.
    #[error("cannot describe the files of the image")]
    Files(#[from] ContentError),
    /// The image outgrows its recipe's budgets, or one of those is for nothing.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The text.
    #[error("cannot write it as JSON")]
    Json(#[from] serde_json::Error),
}

/// A slot and where the content of each inode of its `/usr` is.
#[derive(Debug)]
pub struct Slot<'a> {
    /// The slot.
    pub image: &'a SlotImage,
    /// As [`crate::erofs::Plan::content_at`] says.
    pub content_at: &'a [Option<u64>],
}

/// The texts that describe an image.
#[derive(Debug)]
pub struct Inventory {
    /// `manifest.json`.
    pub manifest: Vec<u8>,
    /// `sbom.cdx.json`.
    pub sbom: Vec<u8>,
    /// Root hash of `/usr`, hexadecimal.
    pub root_hash: String,
}

/// Describes an image, unless it outgrows its recipe's budgets.
///
/// # Errors
/// [`InventoryError`].
pub fn make(
    recipe: &Recipe,
    supply: &Supply,
    files: &Rootfs,
    programs: &GuestPrograms,
    slot: &Slot<'_>,
    build_time: u64,
) -> Result<Inventory, InventoryError> {
    let licences = licence::of_packages(&supply.unpacked)?;
    let manifest = manifest::collect(&Sources {
        recipe,
        packages: manifest::source_packages(supply, &licences),
        usr: &files.usr,
        content_at: slot.content_at,
        kernel: &files.kernel.release,
        slot: slot.image,
        build_time,
    })?;
    budget::check(&recipe.budgets, &manifest)?;
    let names = supply.unpacked.iter().map(|unpacked| unpacked.package.name.clone());
    let licences: BTreeMap<_, _> = names.zip(licences).collect();
    let distribution = recipe.debian.suites.first().map(ToString::to_string).unwrap_or_default();
    let sbom = sbom::document(&sbom::Sources {
        manifest: &manifest,
        licences: &licences,
        distribution: &distribution,
        programs: &own_programs(programs),
    })?;
    Ok(Inventory { manifest: json::to_lines(&manifest)?, sbom, root_hash: manifest.root_hash })
}

/// Ferrite's own programs in the image.
fn own_programs(programs: &GuestPrograms) -> [Program; 5] {
    let described = |description, bytes: &[u8], linked: &LinkedProgram| Program {
        description,
        sha256: hex(&Digest::of(bytes).0),
        linked: linked.clone(),
    };
    let init = "Ferrite's PID 1, with systemctl and the other names it goes by";
    let user_data = "what finds user-data and carries it out";
    let update_engine = "Ferrite's update engine, update_engine_client, locksmithctl and etcdctl";
    let fleetd = "Ferrite's scheduler, fleetd and fleetctl";
    let loader = "Ferrite's boot loader, before its keys are put in";
    [
        described(init, &programs.init, &programs.init_crates),
        described(user_data, &programs.user_data, &programs.user_data_crates),
        described(update_engine, &programs.update_engine, &programs.update_engine_crates),
        described(fleetd, &programs.fleetd, &programs.fleetd_crates),
        described(loader, &programs.loader, &programs.loader_crates),
    ]
}
