//! The links by which units are enabled.

use std::fs;
use std::path::{Path, PathBuf};

use image_config::unit::UnitName;

use super::{is_mask, link_target, read_folder, unit_name_of};

/// A link in a folder of unit files, or in one of its `.wants`, `.requires` and `.upholds` folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Where it is.
    pub path: PathBuf,
    /// The name that it has.
    pub name: UnitName,
    /// Where it leads.
    pub target: PathBuf,
    /// Whether it lies in a `.wants` or like folder.
    pub in_group: bool,
}

impl Link {
    /// Whether it concerns a unit: bears its name, or leads to its file.
    pub fn is_of(&self, unit: &UnitName) -> bool {
        let file = self.target.file_name().and_then(|file| file.to_str());
        let template = unit.template();
        // An instance's file is its template, which other instances have too.
        &self.name == unit
            || template.is_none() && file == Some(unit.as_str())
            || self.name.instance() == unit.instance() && file == template.as_ref().map(UnitName::as_str)
    }

    /// Whether it gives the unit another name (and is neither a mask nor the unit's own file).
    pub fn is_alias(&self) -> bool {
        !self.in_group && self.target.file_name().and_then(|file| file.to_str()) != Some(self.name.as_str())
    }
}

/// All links of a folder that are no masks.
pub(super) fn links(folder: &Path) -> Vec<Link> {
    let mut found = Vec::new();
    collect(folder, false, &mut found);
    for path in read_folder(folder) {
        let is_group =
            path.extension().is_some_and(|end| end == "wants" || end == "requires" || end == "upholds");
        if is_group && fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            collect(&path, true, &mut found);
        }
    }
    found
}

fn collect(folder: &Path, in_group: bool, found: &mut Vec<Link>) {
    for path in read_folder(folder) {
        if let (Ok(Some(target)), Some(name)) = (link_target(&path), unit_name_of(&path))
            && !is_mask(&path)
        {
            found.push(Link { path, name, target, in_group });
        }
    }
}
