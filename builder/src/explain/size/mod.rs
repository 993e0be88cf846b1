//! What takes the space: a tree of rows whose bytes add up to the slot's.

mod kinds;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::text::Table;
use super::{Bringer, Image, Shared, heaviest, paths, why};
use crate::build::ManifestFile;

/// By what the files of `/usr` are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// By folder.
    Path,
    /// By who brought them.
    Package,
    /// By what they are for: programs, libraries, kernel modules.
    Kind,
}

/// A row: something that takes space, and what it consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// A path, the name of a package, a part of the slot.
    pub name: String,
    /// Bytes in the slot: the sum of its children, when it has any.
    pub bytes: u64,
    /// Files, links and devices in it; folders do not count.
    pub files: u64,
    /// What it consists of, largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Row>,
}

/// What takes the space of a slot, or of something in `/usr`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Size {
    /// The image: name and version.
    pub image: String,
    /// By what files are put together.
    pub by: By,
    /// Bytes of the slot.
    pub slot_bytes: u64,
    /// The tree.
    pub tree: Row,
    /// What the slot holds once for several files, when the tree is of the whole; only the first of them counts in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
}

/// How much of the tree is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels below the first row.
    pub depth: usize,
    /// Rows below each row; the rest becomes one.
    pub top: usize,
}

/// A path that the image does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} is not in the image{}", hint(.similar))]
pub struct NotThere {
    /// As it was asked for.
    pub path: String,
    /// Paths that are there and might be meant.
    pub similar: Vec<String>,
}

fn hint(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("\nhint: there is {}", similar.join(", ")) }
}

impl Size {
    /// The tree of an image, or with `path` (of the running system) of that file or folder.
    ///
    /// # Errors
    /// [`NotThere`].
    pub fn of(image: &Image<'_>, by: By, path: Option<&str>) -> Result<Self, NotThere> {
        let tree = match path {
            None => slot(image, by),
            Some(path) => {
                let below = paths::in_image(&paths::normal(path));
                let files: Vec<_> = image.below(&below).collect();
                if files.is_empty() {
                    let similar = why::similar(image, &below);
                    return Err(NotThere { path: path.to_owned(), similar });
                }
                group(files, by, &below)
            }
        };
        let manifest = image.manifest;
        Ok(Self {
            image: format!("{} {}", manifest.name, manifest.version),
            by,
            slot_bytes: manifest.slot_bytes,
            tree,
            shared: path.is_none().then_some(image.space.shared),
        })
    }

    /// The same with only so many levels and rows; what is left out is summed up in rows of its own.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        limit(&mut self.tree, limits);
        self
    }
}

/// The whole slot: `/usr` and the other parts.
fn slot(image: &Image<'_>, by: By) -> Row {
    let space = &image.space;
    let part = |name: String, bytes: u64| Row { name, bytes, files: 0, children: Vec::new() };
    let mut rows = vec![group(image.files().collect(), by, "/usr")];
    rows.push(part("file system of /usr: inodes, names, attributes".to_owned(), space.file_system));
    rows.extend(space.parts.iter().map(|(name, bytes)| {
        let name = match name.as_str() {
            "verity" => "hash tree of /usr (verity)",
            "command_line" => "command line",
            other => other,
        };
        part(name.to_owned(), *bytes)
    }));
    rows.push(part("alignment and signed footer".to_owned(), space.framing));
    parent("slot".to_owned(), rows)
}

/// Files as one row.
fn group(files: Vec<(&ManifestFile, u64)>, by: By, folder: &str) -> Row {
    match by {
        By::Path => tree(&files, folder),
        By::Package => flat(files, folder, |file| Bringer::of(file).to_string()),
        By::Kind => flat(files, folder, |file| kinds::of(file).to_owned()),
    }
}

/// A row for every folder and file at or below `folder`.
fn tree(files: &[(&ManifestFile, u64)], folder: &str) -> Row {
    #[derive(Default)]
    struct Folder {
        /// Of the entry itself, not of what is below it.
        bytes: u64,
        files: u64,
        children: BTreeMap<String, Folder>,
    }
    fn row(path: String, folder: Folder) -> Row {
        let own = Row { name: path.clone(), bytes: folder.bytes, files: folder.files, children: Vec::new() };
        if folder.children.is_empty() {
            return own;
        }
        let mut rows: Vec<Row> =
            folder.children.into_iter().map(|(name, child)| row(format!("{path}/{name}"), child)).collect();
        // No folder has bytes of its own; a manifest that says otherwise still adds up.
        rows.extend((own.bytes > 0).then_some(own));
        parent(path, rows)
    }
    let mut root = Folder::default();
    for (file, bytes) in files {
        let below = file.path.strip_prefix(folder.trim_end_matches('/')).unwrap_or(&file.path);
        let names = below.split('/').filter(|name| !name.is_empty());
        let at = names.fold(&mut root, |at, name| at.children.entry(name.to_owned()).or_default());
        (at.bytes, at.files) = (at.bytes + bytes, at.files + u64::from(file.kind != "directory"));
    }
    row(folder.to_owned(), root)
}

/// A row for every group, and in it one for every file.
fn flat(files: Vec<(&ManifestFile, u64)>, folder: &str, name: impl Fn(&ManifestFile) -> String) -> Row {
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for (file, bytes) in files.into_iter().filter(|(file, _)| file.kind != "directory") {
        let row = Row { name: file.path.clone(), bytes, files: 1, children: Vec::new() };
        groups.entry(name(file)).or_default().push(row);
    }
    parent(folder.to_owned(), groups.into_iter().map(|(name, rows)| parent(name, rows)).collect())
}

/// A row that consists of others.
fn parent(name: String, mut rows: Vec<Row>) -> Row {
    rows.sort_by(|a, b| heaviest((a.bytes, &a.name), (b.bytes, &b.name)));
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum();
    Row { name, bytes: sum(|row| row.bytes), files: sum(|row| row.files), children: rows }
}

fn limit(row: &mut Row, limits: Limits) {
    let Some(depth) = limits.depth.checked_sub(1) else {
        row.children.clear();
        return;
    };
    // One row in place of one row would say less.
    if row.children.len() > limits.top.saturating_add(1) {
        let rest = row.children.split_off(limits.top);
        let name = format!("({} more)", rest.len());
        row.children.push(Row { children: Vec::new(), ..parent(name, rest) });
    }
    for child in &mut row.children {
        limit(child, Limits { depth, ..limits });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_manifest, file, manifest, other};
    use super::*;

    fn adds_up(row: &Row) -> bool {
        let sum: u64 = row.children.iter().map(|child| child.bytes).sum();
        (row.children.is_empty() || sum == row.bytes) && row.children.iter().all(adds_up)
    }

    fn demo() -> crate::build::Manifest {
        manifest(
            &[("aa", true, &[])],
            vec![
                other("/usr/bin", "directory", None, None),
                file("/usr/bin/x", Some("aa"), 9000),
                file("/usr/bin/y", None, 100),
                other("/usr/bin/z", "symlink", Some("aa"), Some("x")),
                file("/usr/etc/c", Some("aa"), 50),
            ],
        )
    }

    #[test]
    fn rows_are_sorted_by_weight_and_folders_nest() {
        let made = demo();
        let size = Size::of(&Image::new(&made), By::Path, None).unwrap();
        assert_eq!((size.tree.name.as_str(), size.tree.bytes), ("slot", made.slot_bytes));
        let usr = size.tree.children.iter().find(|row| row.name == "/usr").unwrap();
        let rows: Vec<_> = usr.children.iter().map(|row| (row.name.as_str(), row.bytes, row.files)).collect();
        assert_eq!(rows, [("/usr/bin", 12288 + 4096, 3), ("/usr/etc", 4096, 1)]);
        assert_eq!(usr.children[0].children[0].name, "/usr/bin/x");

        let etc = Size::of(&Image::new(&made), By::Package, Some("/etc/")).unwrap();
        assert_eq!((etc.tree.bytes, etc.tree.children[0].name.as_str()), (4096, "aa"));
        let error = Size::of(&Image::new(&made), By::Path, Some("/usr/ben")).unwrap_err();
        assert_eq!(error.to_string(), "/usr/ben is not in the image\nhint: there is /usr/bin");
    }

    #[test]
    fn what_is_left_out_is_summed_up() {
        let made = demo();
        let size = Size::of(&Image::new(&made), By::Path, Some("/")).unwrap();
        let bytes = size.tree.bytes;
        let limited = size.limited(Limits { depth: 2, top: 1 });
        assert!(adds_up(&limited.tree));
        assert_eq!(limited.tree.bytes, bytes);
        let bin = &limited.tree.children[0];
        assert_eq!(bin.children[1], Row { name: "(2 more)".into(), bytes: 4096, files: 2, children: vec![] });
        assert!(bin.children.iter().all(|row| row.children.is_empty()));
    }

    proptest! {
        #[test]
        fn rows_add_up_to_the_slot(manifest in any_manifest(), depth in 0usize..5, top in 0usize..5) {
            let image = Image::new(&manifest);
            for by in [By::Path, By::Package, By::Kind] {
                let size = Size::of(&image, by, None).unwrap();
                prop_assert!(adds_up(&size.tree));
                prop_assert_eq!(size.tree.bytes, manifest.slot_bytes);
                let limited = size.limited(Limits { depth, top });
                prop_assert!(adds_up(&limited.tree));
                prop_assert_eq!(limited.tree.bytes, manifest.slot_bytes);
            }
        }
    }
}
