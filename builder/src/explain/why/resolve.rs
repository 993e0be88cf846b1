//! From a path as it is asked for to an entry of the manifest, through links.

use serde::Serialize;

use super::{Bringer, Image, paths};
use crate::build::ManifestFile;

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// A step on the way to a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum Step {
    /// The running system's name of a path in the image: `/etc/motd` is `/usr/etc/motd` there.
    Place {
        /// The path in the running system.
        path: String,
        /// The path in the image.
        leads_to: String,
    },
    /// A symbolic link, at the end of the path or on the way.
    Symlink {
        /// The link's path in the image.
        path: String,
        /// What is in it.
        target: String,
        /// The path to look at next, in the image.
        leads_to: String,
        /// Who brought the link.
        #[serde(flatten)]
        who: Bringer,
        /// Where the recipe makes it: `FILE:LINE`.
        #[serde(skip_serializing_if = "Option::is_none")]
        place: Option<String>,
    },
    /// Another name of a file.
    Hardlink {
        /// The name.
        path: String,
        /// The name that has the content in the manifest.
        leads_to: String,
    },
}

/// Where links end that lead to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeadEnd {
    /// A path that the image does not have.
    NotThere(String),
    /// Links that lead to each other.
    Circle(String),
}

/// The steps from a path, and what is at its end.
#[derive(Debug)]
pub(super) struct Resolved<'m> {
    pub steps: Vec<Step>,
    pub end: Result<&'m ManifestFile, DeadEnd>,
}

/// Follows a path. `..` is taken literally, a missing leading `/` is added.
pub(super) fn resolve<'m>(image: &Image<'m>, query: &str) -> Resolved<'m> {
    let mut steps = Vec::new();
    let asked = paths::normal(query);
    let mut path = place(image, asked.clone(), &mut steps);
    for _ in 0..MOST_LINKS {
        if let Some((link, target)) = first_link(image, &path) {
            // The target is meant in the running system, where /usr/etc/x is /etc/x.
            let base = paths::parent(paths::running(&link.path));
            let rest = path.get(link.path.len()..).unwrap_or_default();
            let next = if target.starts_with('/') {
                format!("{target}{rest}")
            } else {
                format!("{base}/{target}{rest}")
            };
            let next = paths::normal(&next);
            let leads_to = if image.file(&next).is_some() { next } else { paths::in_image(&next) };
            let step = Step::Symlink {
                path: link.path.clone(),
                target: target.to_owned(),
                leads_to: leads_to.clone(),
                who: Bringer::of(link),
                place: None,
            };
            steps.push(step);
            path = leads_to;
            continue;
        }
        let Some(file) = image.file(&path) else {
            return Resolved { steps, end: Err(DeadEnd::NotThere(path)) };
        };
        match (&file.target, file.kind.as_str()) {
            (Some(first), "hardlink") => {
                steps.push(Step::Hardlink { path: path.clone(), leads_to: first.clone() });
                path.clone_from(first);
            }
            _ => return Resolved { steps, end: Ok(file) },
        }
    }
    Resolved { steps, end: Err(DeadEnd::Circle(path)) }
}

/// The path in the image, with a step when it is another one and there is something.
fn place(image: &Image<'_>, path: String, steps: &mut Vec<Step>) -> String {
    let inside = paths::in_image(&path);
    // What a package ships in /var is there only when it is a file: the folders are made at boot.
    let is_there = image.file(&inside).is_some() || first_link(image, &inside).is_some();
    if inside == path || !is_there {
        return if paths::elsewhere(&path).is_some() { path } else { inside };
    }
    steps.push(Step::Place { path, leads_to: inside.clone() });
    inside
}

/// The symbolic link that is met first on the way along `path`.
fn first_link<'m>(image: &Image<'m>, path: &str) -> Option<(&'m ManifestFile, &'m str)> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    ends.filter_map(|end| path.get(..end)).find_map(|prefix| {
        let file = image.file(prefix).filter(|file| file.kind == "symlink")?;
        Some((file, file.target.as_deref()?))
    })
}
