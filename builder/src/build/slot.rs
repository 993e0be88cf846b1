//! The slot: file system, hash tree, kernel, initramfs, command line, footer.

use std::fs::File;

use image_config::recipe::Recipe;
use sha2::{Digest as _, Sha256};
use slots::VerityInfo;

use super::BuildError;
use super::steps::Steps;
use crate::disk::{self, DiskLayout, Role};
use crate::erofs::{self, Plan};
use crate::rootfs::Rootfs;
use crate::signing::SlotSigner;
use crate::slotimage::{self, Identity, SlotImage, SlotParts, Source};
use crate::tree::{Reader, Tree, display};
use crate::verity;

const MIB: f64 = 1_048_576.0;

/// Writes the slot file: file system, hash tree, kernel, initramfs, command line, footer. Returns with it where the content of each
/// inode of `/usr` is ([`Plan::content_at`]).
pub(super) fn write_slot(
    file: &File,
    recipe: &Recipe,
    files: &Rootfs,
    signer: &SlotSigner,
    layout: &DiskLayout,
    build_time: u64,
    steps: &mut Steps,
) -> Result<(SlotImage, Vec<Option<u64>>), BuildError> {
    let product = recipe.name.as_str();
    let plan = Plan::new(
        &files.usr,
        &erofs::Options::new(disk::derived_guid(product, "erofs").to_disk(), "usr", build_time),
    )?;
    let usr_bytes = plan.len_bytes();
    let salt = salt(product);
    let command_line_room = [0; 2048];
    let mut parts = SlotParts {
        usr: Source::InPlace { bytes: usr_bytes },
        verity: Source::InPlace { bytes: verity::tree_len(usr_bytes / erofs::BLOCK_BYTES) },
        kernel: Source::Bytes(&files.kernel.kernel),
        initramfs: Source::Bytes(&files.kernel.initramfs),
        command_line: Source::Bytes(&command_line_room),
        root_hash: [0; 32],
        salt,
    };
    let room = layout.partition(Role::UsrA).bytes;
    slotimage::check_fits(slotimage::slot_bytes(&parts), room)
        .map_err(|problem| BuildError::TooLarge { problem, largest: largest(&files.usr) })?;
    steps.measure("file system", || plan.write_at(file, 0, &Reader::new()))?;
    let superblock = verity::Superblock {
        uuid: disk::derived_guid(product, "verity").to_disk(),
        data_blocks: usr_bytes / erofs::BLOCK_BYTES,
        salt: salt.to_vec(),
    };
    parts.root_hash = steps.measure("hash tree", || verity::write_tree(file, 0, &superblock, usr_bytes))?;
    let opened_by = VerityInfo {
        root_hash: parts.root_hash,
        salt,
        data_blocks: superblock.data_blocks,
        superblock_offset: usr_bytes,
    };
    let command_line = command_line(recipe, &opened_by, build_time);
    parts.command_line = Source::Bytes(command_line.as_bytes());
    let identity = Identity {
        product,
        version: recipe.version.as_str(),
        architecture: recipe.architecture.name(),
        minimum_loader: recipe.minimum_loader,
        rollback_index: u64::from(recipe.rollback_index),
        build_time,
    };
    let slot = steps.measure("slot", || slotimage::assemble(file, &identity, &parts, signer))?;
    Ok((slot, plan.content_at().to_vec()))
}

/// Fixed per product: another salt would make every block look new to an update (SAFETY 20).
fn salt(product: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"ferrite verity salt\0").chain_update(product).finalize().into()
}

fn command_line(recipe: &Recipe, verity: &VerityInfo, build_time: u64) -> String {
    format!(
        "{} gpt panic=10 oops=panic {} ferrite.image={},{},{build_time}",
        recipe.kernel.command_line,
        slotimage::verity_argument(verity),
        recipe.name,
        recipe.version,
    )
}

fn largest(tree: &Tree) -> String {
    let lines = tree.largest(10).into_iter().map(|(bytes, path, origin)| {
        format!("  {:>8.1} MiB  /usr{} ({origin})", bytes as f64 / MIB, display(&path))
    });
    lines.collect::<Vec<_>>().join("\n")
}
