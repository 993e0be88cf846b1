//! Why something is in an image: the package that brought a path, and the chain of dependencies that brought the package.

mod missing;
mod resolve;
mod text;

use image_config::recipe::{ImagePath, Named, Pattern, Recipe, position};
use serde::Serialize;

pub use self::missing::{Missing, Reason, similar};
pub use self::resolve::Step;
use super::{Bringer, Contribution, Graph, Image, contributions, paths};
use crate::build::{ManifestFile, ManifestPackage};

/// The recipe of an image, for answers that point at its lines.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its text.
    pub text: &'a str,
    /// What to call it: its path as given.
    pub file: &'a str,
}

impl Source<'_> {
    /// `FILE:LINE` of what the recipe says.
    fn place(&self, what: Named<'_>) -> Option<String> {
        position(self.text, what).map(|at| format!("{}:{}", self.file, at.line))
    }

    /// `FILE:LINE` of what brings a path that the recipe brings: its line, else the tree, when there is one alone that can have it.
    fn adds(&self, path: &str) -> Option<String> {
        let goes_to = |to: &Option<ImagePath>| match to {
            Some(to) => {
                path.strip_prefix(to.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            None => true,
        };
        let mut trees = self.recipe.trees.iter().enumerate().filter(|(_, tree)| goes_to(&tree.to));
        let only = trees.next().filter(|_| trees.next().is_none());
        self.place(Named::File(path)).or_else(|| self.place(Named::Tree(only?.0)))
    }
}

/// Why something is in an image, or that it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Answer {
    /// A package.
    Package(PackageAnswer),
    /// A path, after the links that lead to it.
    Path(PathAnswer),
    /// The paths that match a pattern.
    Pattern(PatternAnswer),
    /// Nothing in the image.
    Missing(Missing),
}

/// A package of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageAnswer {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// What it takes in the slot, in bytes.
    pub bytes: u64,
    /// Its files, links and devices.
    pub files: u64,
    /// How it came in; `None` when nothing that the recipe asks for leads to it.
    pub chain: Option<Chain>,
    /// Who needs it directly, in the order of names.
    pub needed_by: Vec<Need>,
    /// What would go with it; only when everything is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<Without>,
}

/// A chain of dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// The packages: the first is one that the recipe asks for, each needs the next one.
    pub packages: Vec<String>,
    /// Where the recipe asks for the first: `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// A package that needs another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Its name.
    pub package: String,
    /// How it came in itself.
    pub chain: Option<Chain>,
}

/// What would go with a package, with the dependencies as this image satisfies them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Without {
    /// Packages that the recipe asks for and that cannot do without it.
    pub given_up: Vec<String>,
    /// All packages that would go.
    pub packages: Vec<String>,
    /// What they take in the slot, in bytes.
    pub bytes: u64,
}

/// A path of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathAnswer {
    /// How the path that was asked for leads to this one.
    pub steps: Vec<Step>,
    /// The path in the image.
    pub path: String,
    /// `file`, `directory` and so on, as in the manifest.
    pub kind: String,
    /// Who brought it.
    #[serde(flatten)]
    pub by: By,
    /// What it takes in the slot, in bytes; a folder with all that is in it.
    pub bytes: u64,
    /// Of a folder: who brought what is in it, by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<Share>,
}

/// The paths that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PatternAnswer {
    /// The pattern.
    pub pattern: String,
    /// Who brought what matches, by weight.
    pub content: Vec<Share>,
    /// Every path that matches, in the manifest's order.
    pub matches: Vec<Match>,
    /// Whether all of them are wanted in the text.
    #[serde(skip)]
    pub all: bool,
}

/// A path that matches a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The path in the image.
    pub path: String,
    /// Who brought it.
    #[serde(flatten)]
    pub who: Bringer,
    /// What it takes in the slot, in bytes.
    pub bytes: u64,
}

/// Who brought a path, and why they are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct By {
    /// Who.
    #[serde(flatten)]
    pub who: Bringer,
    /// The package's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why the package is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// Where the recipe says it, for what the recipe brought: `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Where the recipe's `replace:` lets it win over a package's: `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// What somebody brought of several files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Who, and how much.
    #[serde(flatten)]
    pub part: Contribution,
    /// Why the package is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
}

/// How much of an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// How it came in.
    Chain,
    /// Also who else needs it, and what would go with it.
    All,
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct PatternError {
    /// What is wrong.
    pub problem: String,
}

/// Answers for one image.
#[derive(Debug)]
pub struct Why<'a> {
    image: &'a Image<'a>,
    graph: Graph<'a>,
    source: Option<Source<'a>>,
}

impl<'a> Why<'a> {
    /// Answers for `image`, which was made of `source`, if that is known.
    pub fn new(image: &'a Image<'a>, source: Option<Source<'a>>) -> Self {
        Self { image, graph: Graph::of(image.manifest), source }
    }

    /// Why `query` is in the image: a path when it has a `/`, a pattern of paths when it also has `*`, `?` or `[` and is no
    /// path of the image, else a package (`libc6`, `libc6:amd64`).
    ///
    /// # Errors
    /// The pattern cannot be read.
    pub fn answer(&self, query: &str, detail: Detail) -> Result<Answer, PatternError> {
        if !query.contains('/') {
            let name = query.split(':').next().unwrap_or(query);
            return Ok(match self.image.package(name) {
                Some(package) => Answer::Package(self.package(package, detail)),
                None => Answer::Missing(missing::package(self.image, self.source, name)),
            });
        }
        let found = resolve::resolve(self.image, query);
        match found.end {
            Ok(file) => Ok(Answer::Path(self.path(found.steps, file))),
            Err(_) if found.steps.is_empty() && query.contains(['*', '?', '[']) => {
                self.pattern(query, detail)
            }
            Err(dead) => {
                Ok(Answer::Missing(missing::path(self.image, self.source, query, found.steps, &dead)))
            }
        }
    }

    fn package(&self, package: &'a ManifestPackage, detail: Detail) -> PackageAnswer {
        let name = package.name.as_str();
        let sum = |names: &[&str]| {
            let files = self.image.files().filter(|(file, _)| {
                file.package.as_deref().is_some_and(|package| names.contains(&package))
                    && file.kind != "directory"
            });
            files.fold((0, 0), |(sum, count), (_, bytes)| (sum + bytes, count + 1))
        };
        let (bytes, files) = sum(&[name]);
        let without = (detail == Detail::All).then(|| {
            let removal = self.graph.without(name);
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Without {
                given_up: owned(&removal.given_up),
                packages: owned(&removal.gone),
                bytes: sum(&removal.gone).0,
            }
        });
        let needed_by = self.graph.needed_by(name);
        PackageAnswer {
            package: name.to_owned(),
            version: package.version.clone(),
            bytes,
            files,
            chain: self.chain(name),
            needed_by: needed_by
                .map(|other| Need { package: other.to_owned(), chain: self.chain(other) })
                .collect(),
            without,
        }
    }

    fn path(&self, steps: Vec<Step>, file: &ManifestFile) -> PathAnswer {
        let steps = steps.into_iter().map(|step| self.placed(step)).collect();
        let content = if file.kind == "directory" {
            // The folder itself is no content, and has no bytes.
            self.shares(self.image.below(&file.path).filter(|(below, _)| below.path != file.path))
        } else {
            Vec::new()
        };
        PathAnswer {
            steps,
            path: file.path.clone(),
            kind: file.kind.clone(),
            by: self.by(file),
            bytes: self.image.below(&file.path).map(|(_, bytes)| bytes).sum(),
            content,
        }
    }

    fn pattern(&self, query: &str, detail: Detail) -> Result<Answer, PatternError> {
        let absolute = if query.starts_with('/') { query.to_owned() } else { format!("/{query}") };
        let pattern = Pattern::parse(&paths::in_image(&absolute)).map_err(|error| {
            let hint = error.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            PatternError { problem: format!("{}{hint}", error.problem) }
        })?;
        let matching = || self.image.files().filter(|(file, _)| pattern.matches(&file.path));
        if matching().next().is_none() {
            return Ok(Answer::Missing(missing::pattern(query)));
        }
        let matches = matching()
            .map(|(file, bytes)| Match { path: file.path.clone(), who: Bringer::of(file), bytes })
            .collect();
        let (content, all) = (self.shares(matching()), detail == Detail::All);
        Ok(Answer::Pattern(PatternAnswer { pattern: query.to_owned(), content, matches, all }))
    }

    fn shares<'m>(&self, files: impl Iterator<Item = (&'m ManifestFile, u64)>) -> Vec<Share> {
        let chain = |who: &Bringer| match who {
            Bringer::Package(name) => self.chain(name),
            _ => None,
        };
        contributions(files).into_iter().map(|part| Share { chain: chain(&part.who), part }).collect()
    }

    fn chain(&self, name: &str) -> Option<Chain> {
        let packages = self.graph.chain(name)?;
        let first = packages.first()?;
        let place = self.source.and_then(|source| source.place(Named::Package(first)));
        Some(Chain { packages: packages.into_iter().map(str::to_owned).collect(), place })
    }

    fn by(&self, file: &ManifestFile) -> By {
        let who = Bringer::of(file);
        let path = paths::running(&file.path);
        let said = |what: Named<'_>| self.source.and_then(|source| source.place(what));
        let place = self.source.filter(|_| who == Bringer::Recipe).and_then(|source| source.adds(path));
        let ours = matches!(who, Bringer::Recipe | Bringer::Ferrite);
        let replaces = if ours { said(Named::Replaced(path)) } else { None };
        let (version, chain) = match &who {
            Bringer::Package(name) => {
                (self.image.package(name).map(|package| package.version.clone()), self.chain(name))
            }
            _ => (None, None),
        };
        By { who, version, chain, place, replaces }
    }

    /// A step with the line of the recipe that made its link.
    fn placed(&self, mut step: Step) -> Step {
        if let Step::Symlink { path, who: Bringer::Recipe, place, .. } = &mut step {
            *place = self.source.and_then(|source| source.adds(paths::running(path)));
        }
        step
    }
}

#[cfg(test)]
mod tests;
