//! How much of the slot each file takes.
//!
//! EROFS stores a file in whole blocks, or its last bytes beside its inode, and equal files once. The manifest says where each
//! file begins; blocks are handed out without gaps, so where the next one begins says how much was stored. The rest of the file
//! system is its own: inodes, names, attributes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::build::Manifest;
use crate::erofs::BLOCK_BYTES;

/// The slot, divided up: files, what else the file system of `/usr` needs, and the other parts. Everything together is
/// `slot_bytes`, whatever the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Bytes of each file, in the order of the manifest's files. Of files that share their blocks the first has them.
    pub files: Vec<u64>,
    /// Bytes of the file system of `/usr` that are no file's content: inodes, names, attributes, the superblock.
    pub file_system: u64,
    /// Bytes of the parts of the slot but `usr`, by name, in the slot's order.
    pub parts: Vec<(String, u64)>,
    /// Bytes of the slot that belong to no part: alignment and the signed footer.
    pub framing: u64,
    /// Bytes of the slot.
    pub slot: u64,
    /// What is stored once for several files.
    pub shared: Shared,
}

/// Content that several files have and the slot holds once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// How many files' blocks are another file's.
    pub files: u64,
    /// Bytes that those would take.
    pub bytes: u64,
}

impl Space {
    /// Divides up the slot of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let mut left = manifest.slot_bytes;
        let mut take = |wanted: u64| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        // The parts come first: what a manifest claims beyond its slot is not counted.
        let mut usr = None;
        let mut parts = Vec::new();
        for part in &manifest.parts {
            let bytes = take(part.bytes);
            if part.name == "usr" && usr.is_none() {
                usr = Some((part.offset, bytes));
            } else {
                parts.push((part.name.clone(), bytes));
            }
        }
        let framing = left;
        let (start, bytes) = usr.unwrap_or_default();
        let (files, shared, file_system) = divide(manifest, start, bytes);
        Self { files, file_system, parts, framing, slot: manifest.slot_bytes, shared }
    }

    /// Bytes of the file system of `/usr`.
    pub fn usr(&self) -> u64 {
        self.file_system + self.files.iter().sum::<u64>()
    }

    /// Bytes of a part of the slot by its name.
    pub fn part(&self, name: &str) -> Option<u64> {
        match name {
            "slot" => Some(self.slot),
            "usr" => Some(self.usr()),
            _ => self.parts.iter().find(|(part, _)| part == name).map(|(_, bytes)| *bytes),
        }
    }
}

/// Bytes of each file, what is shared, and what is left of the file system's `bytes`, which begin at `start` of the slot.
fn divide(manifest: &Manifest, start: u64, bytes: u64) -> (Vec<u64>, Shared, u64) {
    let end = start.saturating_add(bytes);
    let stored = |file: &crate::build::ManifestFile| {
        let (offset, len) = (file.offset?, file.bytes?);
        (file.kind == "file" && len > 0 && (start..end).contains(&offset)).then_some((offset, len))
    };
    // Where content begins, each with whether a file has been given it.
    let mut places: BTreeMap<u64, bool> =
        manifest.files.iter().filter_map(stored).map(|(offset, _)| (offset, false)).collect();
    let next: BTreeMap<u64, u64> =
        places.keys().copied().zip(places.keys().skip(1).copied().chain([end])).collect();
    let (mut left, mut shared) = (bytes, Shared::default());
    let mut files = Vec::with_capacity(manifest.files.len());
    for file in &manifest.files {
        let Some((offset, len)) = stored(file) else {
            files.push(0);
            continue;
        };
        let room = next.get(&offset).map_or(0, |next| next - offset);
        let (blocks, beside_inode) = Stored::of(offset, len, room).parts();
        let given = places.insert(offset, true).unwrap_or_default();
        if given {
            shared = Shared { files: shared.files + 1, bytes: shared.bytes.saturating_add(blocks) };
        }
        let taken = (if given { 0 } else { blocks }).saturating_add(beside_inode).min(left);
        left -= taken;
        files.push(taken);
    }
    (files, shared, left)
}

/// How a file of some length is stored.
struct Stored {
    blocks: u64,
    beside_inode: u64,
}

impl Stored {
    /// A file of `len` bytes that begins at `offset`, with `room` bytes until other content begins.
    fn of(offset: u64, len: u64, room: u64) -> Self {
        if !offset.is_multiple_of(BLOCK_BYTES) {
            // Blocks are aligned: this is a file that lies whole beside its inode.
            return Self { blocks: 0, beside_inode: len.min(room) };
        }
        let wanted = len.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        let blocks = wanted.min(room - room % BLOCK_BYTES);
        let missing = len.saturating_sub(blocks);
        // What is missing is the file's tail; a whole block or more is a hole.
        Self { blocks, beside_inode: if missing < BLOCK_BYTES { missing } else { 0 } }
    }

    const fn parts(&self) -> (u64, u64) {
        (self.blocks, self.beside_inode)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_manifest, file, manifest};
    use super::*;

    #[test]
    fn blocks_tails_holes_and_shared_content_are_told_apart() {
        let at = |path: &str, offset: u64, bytes: u64| {
            let mut one = file(path, Some("p"), bytes);
            one.offset = Some(offset);
            one
        };
        let mut made = manifest(
            &[("p", true, &[])],
            vec![
                at("/usr/small", 4200, 100),        // beside its inode
                at("/usr/two-blocks", 8192, 5500),  // the second block is not full
                at("/usr/tail", 16384, 4196),       // a block, and 100 bytes beside the inode
                at("/usr/tail-again", 16384, 4196), // the same block, a tail of its own
                at("/usr/sparse", 20480, 1 << 31),  // one block of data
                at("/usr/last", 24576, 10),
            ],
        );
        made.parts[0].bytes = 28672;
        let space = Space::of(&made);
        assert_eq!(space.files, [100, 8192, 4196, 100, 4096, 4096]);
        assert_eq!(space.shared, Shared { files: 1, bytes: 4096 });
        assert_eq!(space.usr(), 28672);
    }

    proptest! {
        #[test]
        fn everything_adds_up_to_the_slot(manifest in any_manifest()) {
            let space = Space::of(&manifest);
            let parts: u64 = space.parts.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(space.usr() + parts + space.framing, manifest.slot_bytes);
            prop_assert_eq!(space.files.len(), manifest.files.len());
        }
    }
}
