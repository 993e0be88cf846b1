//! How the blocks of a slot are grouped when it travels: what a release changes together shares frames of the payload
//! (`docs/formats/payload.md`).

use std::collections::BTreeMap;
use std::ops::Range;

use update_engine::payload::write::Group;

use crate::build::{Manifest, ManifestFile};
use crate::erofs::BLOCK_BYTES;

/// The program that `/usr` and the initramfs both have.
const INIT: &str = "/usr/lib/ferrite/init";

/// The groups of an image: `init` with the initramfs, then the files of each package, by the packages' names.
pub fn groups(manifest: &Manifest) -> Vec<Group> {
    let mut first = Group::new();
    let mut packages: BTreeMap<&str, Group> = BTreeMap::new();
    for file in &manifest.files {
        let Some(blocks) = blocks_of(file) else { continue };
        if file.path == INIT {
            first.push(blocks);
            continue;
        }
        let owner = file.package.as_deref().or(file.origin.as_deref()).unwrap_or_default();
        packages.entry(owner).or_default().push(blocks);
    }
    // Behind the program, so that the archive's copy of it is found in the compressor's window.
    let initramfs = manifest.parts.iter().find(|part| part.name == "initramfs");
    first.extend(initramfs.and_then(|part| range(part.offset, part.bytes)));
    std::iter::once(first).chain(packages.into_values()).collect()
}

/// The blocks that are the file's own: not tails beside inodes.
pub(crate) fn blocks_of(file: &ManifestFile) -> Option<Range<u32>> {
    let (offset, bytes) = (file.offset?, file.bytes?);
    if file.kind != "file" || !offset.is_multiple_of(BLOCK_BYTES) {
        return None;
    }
    range(offset, bytes)
}

fn range(offset: u64, bytes: u64) -> Option<Range<u32>> {
    let start = u32::try_from(offset / BLOCK_BYTES).ok()?;
    let end = u32::try_from(offset.checked_add(bytes)?.div_ceil(BLOCK_BYTES)).ok()?;
    (start < end).then_some(start..end)
}
