//! How the files of one package differ between two images.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Files, delta};
use crate::build::ManifestFile;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileChange {
    /// It is in the second image alone, or another package brings it there.
    Added,
    /// It is in the first image alone, or another package brings it in the second.
    Removed,
    /// Something about it differs; [`ChangedFile::what`] says what.
    Changed,
    /// It is the same, but its bytes count for another file in one of the images, or take another number of blocks.
    Recounted,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedFile {
    /// Its path in the image.
    pub path: String,
    /// What happened.
    pub change: FileChange,
    /// What differs: `content`, `kind`, `mode`, `owner`, `target`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
    /// Bytes in the slot of the first image.
    pub before: u64,
    /// Bytes in the slot of the second.
    pub after: u64,
    /// The change, in bytes.
    pub delta: i64,
}

/// The files that differ, by weight; of equals the first by path.
pub(super) fn compare(old: &Files<'_>, new: &Files<'_>) -> Vec<ChangedFile> {
    let paths: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let mut list: Vec<ChangedFile> = paths
        .into_iter()
        .filter_map(|path| {
            let (a, b) = (old.get(path), new.get(path));
            let (before, after) = (a.map_or(0, |(_, bytes)| *bytes), b.map_or(0, |(_, bytes)| *bytes));
            let what = match (a, b) {
                (Some((a, _)), Some((b, _))) => differences(a, b),
                _ => Vec::new(),
            };
            let change = match (a, b) {
                (None, _) => FileChange::Added,
                (_, None) => FileChange::Removed,
                _ if !what.is_empty() => FileChange::Changed,
                _ if before != after => FileChange::Recounted,
                _ => return None,
            };
            Some(ChangedFile {
                path: path.to_owned(),
                change,
                what,
                before,
                after,
                delta: delta(before, after),
            })
        })
        .collect();
    list.sort_by(|a, b| {
        b.delta.unsigned_abs().cmp(&a.delta.unsigned_abs()).then_with(|| a.path.cmp(&b.path))
    });
    list
}

fn differences(a: &ManifestFile, b: &ManifestFile) -> Vec<&'static str> {
    let differ = [
        ("kind", a.kind != b.kind),
        ("content", a.sha256 != b.sha256 || a.bytes != b.bytes),
        ("target", a.target != b.target),
        ("mode", a.mode != b.mode),
        ("owner", (a.uid, a.gid) != (b.uid, b.gid)),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}
