//! How two images differ: packages, files, parts of the slot, and how much each change weighs.
//!
//! Weights are room in the slot, so that all changes together are the change of the slot. A file that several packages' files
//! equal counts for the first of them: when that one goes, the next has its bytes, and is listed as [`FileChange::Recounted`].

mod files;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use self::files::compare;
pub use self::files::{ChangedFile, FileChange};
pub use self::text::Report;
use super::{Bringer, Image};
use crate::build::{Manifest, ManifestFile, ManifestPackage};

/// How two images differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Whether nothing differs.
    pub same: bool,
    /// What is said of the image as a whole: name, version, kernel, key.
    pub image: Vec<Field>,
    /// The slot and its parts, those that differ; the slot first.
    pub parts: Vec<PartChange>,
    /// Packages, and what else brings files, by weight of the change.
    pub groups: Vec<Group>,
    /// How many files came, went and changed.
    pub files: Counts,
}

/// Something about an image as a whole that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// As in the manifest.
    pub field: &'static str,
    /// In the first image.
    pub before: String,
    /// In the second.
    pub after: String,
}

/// A part of the slot that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartChange {
    /// `slot`, a part as the manifest names it, `file-system` (what `usr` is besides files' content), or `framing` (alignment and
    /// footer).
    pub name: String,
    /// Bytes in the first image.
    pub before: u64,
    /// Bytes in the second.
    pub after: u64,
    /// The change, in bytes.
    pub delta: i64,
}

/// What happened to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is in the second image alone.
    Added,
    /// It is in the first image alone.
    Removed,
    /// Another version, or another build of it.
    Changed,
    /// The same package, but not the same of its files.
    Files,
}

/// A package, Ferrite or the recipe, and what changed of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Who brings the files.
    #[serde(flatten)]
    pub who: Bringer,
    /// What happened.
    pub change: Change,
    /// Version in the first image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_version: Option<String>,
    /// Version in the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_version: Option<String>,
    /// Bytes in the slot of the first image.
    pub before: u64,
    /// Bytes in the slot of the second.
    pub after: u64,
    /// The change, in bytes.
    pub delta: i64,
    /// How many of its files came, went and changed.
    pub counts: Counts,
    /// Those files, by weight.
    pub files: Vec<ChangedFile>,
}

/// Numbers of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// In the second image alone.
    pub added: u64,
    /// In the first image alone.
    pub removed: u64,
    /// Of other content, kind, owner, mode or target.
    pub changed: u64,
}

impl Diff {
    /// Compares two images.
    pub fn of(before: &Image<'_>, after: &Image<'_>) -> Self {
        let image = fields(before.manifest, after.manifest);
        let parts = parts(before, after);
        let groups = groups(before, after);
        let files = groups.iter().fold(Counts::default(), |sum, group| Counts {
            added: sum.added + group.counts.added,
            removed: sum.removed + group.counts.removed,
            changed: sum.changed + group.counts.changed,
        });
        let same = image.is_empty() && parts.is_empty() && groups.is_empty();
        Self { same, image, parts, groups, files }
    }
}

/// The difference of two numbers of bytes. Beyond 63 bits it is cut off: no disk is that large.
fn delta(before: u64, after: u64) -> i64 {
    let wide = i128::from(after) - i128::from(before);
    i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
}

fn fields(before: &Manifest, after: &Manifest) -> Vec<Field> {
    let list = |image: &Manifest| {
        [
            ("name", image.name.clone()),
            ("version", image.version.clone()),
            ("architecture", image.architecture.clone()),
            ("kernel", image.kernel.clone()),
            ("build_time", image.build_time.to_string()),
            ("root_hash", image.root_hash.clone()),
            ("key_id", image.key_id.clone()),
        ]
    };
    let pairs = list(before).into_iter().zip(list(after));
    pairs
        .filter(|((_, before), (_, after))| before != after)
        .map(|((field, before), (_, after))| Field { field, before, after })
        .collect()
}

fn parts(before: &Image<'_>, after: &Image<'_>) -> Vec<PartChange> {
    let digest = |image: &Image<'_>, name: &str| {
        image.manifest.parts.iter().find(|part| part.name == name).map(|part| part.sha256.clone())
    };
    let mut names = vec!["slot".to_owned(), "usr".to_owned()];
    for (name, _) in before.space.parts.iter().chain(&after.space.parts) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    // The order does not depend on which image comes first.
    if let Some(others) = names.get_mut(2..) {
        others.sort_by_key(|name| {
            (
                ["verity", "kernel", "initramfs", "command_line"].iter().position(|known| known == name),
                name.clone(),
            )
        });
    }
    let mut changes: Vec<PartChange> = names
        .into_iter()
        .filter_map(|name| {
            let (a, b) = (before.space.part(&name).unwrap_or(0), after.space.part(&name).unwrap_or(0));
            let differs = a != b || digest(before, &name) != digest(after, &name);
            differs.then(|| PartChange { name, before: a, after: b, delta: delta(a, b) })
        })
        .collect();
    let rest = [
        ("file-system", before.space.file_system, after.space.file_system),
        ("framing", before.space.framing, after.space.framing),
    ];
    changes.extend(rest.into_iter().filter(|(_, a, b)| a != b).map(|(name, a, b)| PartChange {
        name: name.to_owned(),
        before: a,
        after: b,
        delta: delta(a, b),
    }));
    changes
}

/// The files of a bringer, by path, with their bytes.
type Files<'m> = BTreeMap<&'m str, (&'m ManifestFile, u64)>;

fn files_by_bringer<'m>(image: &Image<'m>) -> BTreeMap<Bringer, Files<'m>> {
    let mut groups: BTreeMap<Bringer, Files<'m>> = BTreeMap::new();
    for (file, bytes) in image.files() {
        groups.entry(Bringer::of(file)).or_default().insert(&file.path, (file, bytes));
    }
    groups
}

fn groups(before: &Image<'_>, after: &Image<'_>) -> Vec<Group> {
    let (old, new) = (files_by_bringer(before), files_by_bringer(after));
    let packages = before.manifest.packages.iter().chain(&after.manifest.packages);
    let mut names: BTreeSet<Bringer> =
        packages.map(|package| Bringer::Package(package.name.clone())).collect();
    names.extend(old.keys().chain(new.keys()).cloned());
    let none = Files::new();
    let mut groups: Vec<Group> = names
        .into_iter()
        .filter_map(|who| {
            let (a, b) = (old.get(&who).unwrap_or(&none), new.get(&who).unwrap_or(&none));
            group(who, (before, a), (after, b))
        })
        .collect();
    groups
        .sort_by(|a, b| b.delta.unsigned_abs().cmp(&a.delta.unsigned_abs()).then_with(|| a.who.cmp(&b.who)));
    groups
}

/// What changed of one bringer's files, if anything did.
fn group(who: Bringer, old: (&Image<'_>, &Files<'_>), new: (&Image<'_>, &Files<'_>)) -> Option<Group> {
    let package = |image: &Image<'_>| match &who {
        Bringer::Package(name) => image.package(name).cloned(),
        _ => None,
    };
    let (before, after) = (package(old.0), package(new.0));
    let files = compare(old.1, new.1);
    let change = match (&before, &after) {
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(a), Some(b)) if !same_build(a, b) => Change::Changed,
        _ if files.is_empty() => return None,
        _ => Change::Files,
    };
    let sum = |files: &Files<'_>| files.values().map(|(_, bytes)| bytes).sum();
    let (before_bytes, after_bytes): (u64, u64) = (sum(old.1), sum(new.1));
    let count = |kind: FileChange| files.iter().filter(|file| file.change == kind).count() as u64;
    let counts = Counts {
        added: count(FileChange::Added),
        removed: count(FileChange::Removed),
        changed: count(FileChange::Changed),
    };
    Some(Group {
        who,
        change,
        before_version: before.map(|package| package.version),
        after_version: after.map(|package| package.version),
        before: before_bytes,
        after: after_bytes,
        delta: delta(before_bytes, after_bytes),
        counts,
        files,
    })
}

fn same_build(a: &ManifestPackage, b: &ManifestPackage) -> bool {
    a.version == b.version && a.sha256 == b.sha256 && a.architecture == b.architecture
}

#[cfg(test)]
mod tests;
