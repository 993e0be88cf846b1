//! The disk: partition table, ESP with the configured loader, OEM, the slot in its partition.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use boot::trust::{ConfiguredKey, Trust, TrustError};
use image_config::recipe::Recipe;
use slots::{Text, TrustedKey};

use super::BuildError;
use super::keys::Keys;
use crate::disk::{self, DiskLayout, DiskSpec, Role};
use crate::esp::{self, FatSpec, loader};
use crate::gptimage;
use crate::guest::GuestPrograms;
use crate::slotimage::{self, SlotImage};
use crate::userdata::Checked;

/// Sizes and name of a recipe's disk.
pub(super) fn disk_spec(recipe: &Recipe) -> DiskSpec {
    DiskSpec {
        esp_bytes: recipe.partitions.esp.bytes(),
        usr_bytes: recipe.partitions.usr.bytes(),
        oem_bytes: recipe.partitions.oem.bytes(),
        ..DiskSpec::new(recipe.name.as_str())
    }
}

/// Writes the disk image to a new file.
///
/// # Errors
/// A part does not fit its place, or the file cannot be written.
#[expect(clippy::too_many_arguments, reason = "what a disk is made of")]
pub(super) fn write_disk(
    path: &Path,
    layout: &DiskLayout,
    recipe: &Recipe,
    programs: &GuestPrograms,
    keys: &Keys,
    slot_file: &File,
    slot: &SlotImage,
    user_data: Option<&Checked>,
) -> Result<(), BuildError> {
    let disk = gptimage::create(path, layout)?;
    let product = recipe.name.as_str();
    let trusted: Vec<_> = keys
        .trusted
        .iter()
        .map(|key| ConfiguredKey { key: TrustedKey(key.to_bytes()), development: key.is_development() })
        .collect();
    let product_text = Text::new(product).map_err(TrustError::Product)?;
    let trust = Trust::new(product_text, layout.bytes, &trusted)?;
    let loader = loader::configure(&programs.loader, &trust)?;
    let esp_files = BTreeMap::from([(esp::LOADER_PATH.to_owned(), loader)]);
    let release = format!("ID=qemu\nVERSION_ID={}\n", recipe.version);
    let mut oem_files = BTreeMap::from([("oem-release".to_owned(), release.into_bytes())]);
    if let Some(user_data) = user_data {
        oem_files.insert(user_data.oem_name.to_owned(), user_data.bytes.clone());
    }
    for (role, label, files) in [(Role::Esp, "EFI-SYSTEM", esp_files), (Role::Oem, "OEM", oem_files)] {
        let partition = layout.partition(role);
        let spec = FatSpec {
            bytes: partition.bytes,
            label,
            volume_id: disk::derived_volume_id(product, role),
            files,
        };
        let volume = esp::fat_volume(&spec)?;
        volume
            .write_to(&disk, partition.offset)
            .map_err(|source| BuildError::Output { path: path.to_owned(), source })?;
    }
    slotimage::install(slot_file, slot, &disk, &layout.partition(Role::UsrA))?;
    Ok(())
}
