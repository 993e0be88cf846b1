//! What can be said about something that is not in the image.

use image_config::diagnostic::did_you_mean;
use image_config::recipe::{KeepModules, Named};
use serde::Serialize;

use super::resolve::{DeadEnd, Step};
use super::{Image, Source};
use crate::explain::paths::{self, Elsewhere};

/// How many similar names are told.
const SIMILAR: usize = 5;

/// Something that is not in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What was asked for.
    pub query: String,
    /// The links that were followed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Why it is not there, as far as that can be told.
    pub reasons: Vec<Reason>,
    /// What is there and has a similar name.
    pub similar: Vec<String>,
}

/// Why something is not in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "lowercase")]
pub enum Reason {
    /// A rule of the recipe keeps it out, should a package bring it.
    Dropped {
        /// The rule's pattern.
        rule: String,
        /// Where it stands: `FILE:LINE`.
        place: Option<String>,
    },
    /// The recipe keeps other kernel modules.
    Module {
        /// Where it says which: `FILE:LINE`.
        place: Option<String>,
    },
    /// Ferrite stands in for the package.
    Provided {
        /// Where the recipe says so: `FILE:LINE`.
        place: Option<String>,
    },
    /// It is made or mounted at boot.
    Runtime,
    /// It is on the state partition.
    State,
    /// The kernel is a part of the slot, beside `/usr`.
    Kernel {
        /// Its release.
        release: String,
    },
    /// Links lead to each other.
    Circle,
    /// A link leads to a path that is not there.
    Dangling {
        /// That path.
        path: String,
    },
    /// No path of the image matches the pattern.
    NoMatch,
    /// Which recipe the image was made of is not known, so nothing can be said about its rules.
    NoRecipe,
}

/// A package that is not there.
pub(super) fn package(image: &Image<'_>, source: Option<Source<'_>>, name: &str) -> Missing {
    let mut reasons = Vec::new();
    if let Some(source) = source
        && source.recipe.provides.iter().any(|provided| provided.name.as_str() == name)
    {
        reasons.push(Reason::Provided { place: source.place(Named::Provided(name)) });
    }
    let names = || image.manifest.packages.iter().map(|package| package.name.as_str());
    let mut similar: Vec<String> = did_you_mean(name, names()).map(str::to_owned).into_iter().collect();
    if name.len() >= 3 {
        similar.extend(names().filter(|other| other.contains(name)).map(str::to_owned));
    }
    similar.extend(files_named(image, name));
    Missing { query: name.to_owned(), steps: Vec::new(), reasons, similar: first_ones(similar) }
}

/// A pattern that nothing matches.
pub(super) fn pattern(query: &str) -> Missing {
    Missing {
        query: query.to_owned(),
        steps: Vec::new(),
        reasons: vec![Reason::NoMatch],
        similar: Vec::new(),
    }
}

/// A path that is not there.
pub(super) fn path(
    image: &Image<'_>,
    source: Option<Source<'_>>,
    query: &str,
    steps: Vec<Step>,
    dead: &DeadEnd,
) -> Missing {
    let (mut reasons, mut similar_ones) = (Vec::new(), Vec::new());
    match dead {
        DeadEnd::Circle(_) => reasons.push(Reason::Circle),
        DeadEnd::NotThere(path) => {
            if steps.iter().any(|step| matches!(step, Step::Symlink { .. })) {
                reasons.push(Reason::Dangling { path: path.clone() });
            }
            let running = paths::running(path);
            let elsewhere = paths::elsewhere(running);
            reasons.extend(elsewhere.map(|elsewhere| match elsewhere {
                Elsewhere::Runtime => Reason::Runtime,
                Elsewhere::State => Reason::State,
                Elsewhere::Boot => Reason::Kernel { release: image.manifest.kernel.clone() },
            }));
            match source {
                // Rules are about what packages bring; the kernel is taken before they apply.
                Some(source) if elsewhere.is_none() => reasons.extend(rule(image, source, running)),
                None if elsewhere.is_none() => reasons.push(Reason::NoRecipe),
                _ => {}
            }
            similar_ones = similar(image, path);
        }
    }
    Missing { query: query.to_owned(), steps, reasons, similar: similar_ones }
}

/// What of the recipe keeps a path out, if anything does.
fn rule(image: &Image<'_>, source: Source<'_>, path: &str) -> Option<Reason> {
    if let Some(rule) = source.recipe.drop.deciding(path).filter(|rule| rule.drops) {
        let place = source.place(Named::DropRule(rule.index));
        return Some(Reason::Dropped { rule: rule.pattern.to_string(), place });
    }
    let modules = format!("/usr/lib/modules/{}/kernel/", image.manifest.kernel);
    let below = path.strip_prefix(modules.as_str())?;
    match &source.recipe.kernel.modules {
        KeepModules::Matching(patterns) if !patterns.iter().any(|pattern| pattern.matches(below)) => {
            Some(Reason::Module { place: source.place(Named::KeptModules) })
        }
        _ => None,
    }
}

/// Paths of the image that might be meant by `path`, a path in the image that is not there: those of the same name elsewhere, else
/// one with a name like it in its folder.
pub fn similar(image: &Image<'_>, path: &str) -> Vec<String> {
    let wanted = paths::name(path);
    if wanted.is_empty() {
        return Vec::new();
    }
    let same: Vec<String> = files_named(image, wanted).collect();
    if !same.is_empty() {
        return first_ones(same);
    }
    let folder = paths::parent(path);
    let files = image.manifest.files.iter();
    let siblings =
        files.filter(|file| paths::parent(&file.path) == folder).map(|file| paths::name(&file.path));
    did_you_mean(wanted, siblings).map(|name| format!("{folder}/{name}")).into_iter().collect()
}

fn files_named<'i>(image: &'i Image<'_>, name: &'i str) -> impl Iterator<Item = String> + 'i {
    let files = image.manifest.files.iter().filter(move |file| paths::name(&file.path) == name);
    files.map(|file| file.path.clone())
}

fn first_ones(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for one in list {
        if !out.contains(&one) && out.len() < SIMILAR {
            out.push(one);
        }
    }
    out
}
