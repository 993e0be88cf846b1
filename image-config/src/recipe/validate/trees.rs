//! Rules of whole trees of files.

use std::path::{Component, PathBuf};

use super::super::names::NameError;
use super::super::{ExtraTree, ImagePath, raw};
use super::files::{Place, host_path, owner, path_in_image};
use super::{Check, steps};
use crate::yaml::Step;

/// Trees in the order written; the same source goes to the same place once.
pub(super) fn trees(check: &mut Check<'_>, raw: &[raw::Tree]) -> Vec<ExtraTree> {
    let mut out: Vec<ExtraTree> = Vec::with_capacity(raw.len());
    for (index, entry) in raw.iter().enumerate() {
        let source = check.word(steps!["trees", index, "source"], &entry.source, source);
        let to = match &entry.to {
            Some(text) => check.word(steps!["trees", index, "to"], text, place),
            None => Some(None),
        };
        let owner = match &entry.owner {
            Some(text) => check.word(steps!["trees", index, "owner"], text, owner).map(Some),
            None => Some(None),
        };
        let (Some(source), Some(to), Some(owner)) = (source, to, owner) else { continue };
        if out.iter().any(|other| other.source == source && other.to == to) {
            let message = format!("`{}` goes to the same place twice", entry.source);
            check.error(steps!["trees", index, "source"], message, Some("remove one of them".to_owned()));
            continue;
        }
        out.push(ExtraTree { source, to, owner });
    }
    out
}

/// A folder or archive beside the recipe, in one spelling.
fn source(text: &str) -> Result<PathBuf, NameError> {
    let path: PathBuf =
        host_path(text)?.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    if path.as_os_str().is_empty() {
        return Err(NameError::new("the recipe's own folder, which has the recipe in it, cannot be a tree")
            .hint("put the files into a folder beside the recipe"));
    }
    Ok(path)
}

/// Where a tree goes; `None` is the root, whose `usr` and `etc` the tree then has itself.
fn place(text: &str) -> Result<Option<ImagePath>, NameError> {
    if text == "/" { Ok(None) } else { path_in_image(text, Place::Folder).map(Some) }
}
