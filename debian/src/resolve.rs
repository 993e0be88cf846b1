//! Which packages a set of requests needs.
//!
//! Two passes. The first follows every alternative that could be reached and finds out, without choosing anything,
//! which packages can be installed at all. The second chooses: requests first, then dependencies that leave no
//! choice, and only then those that do, so that an alternative which is there anyway is preferred to a new one. A
//! choice that turns out to conflict with a package that has no substitute is banned and the passes run again.

mod edges;
mod explain;
mod graph;
mod retrace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::digest::Digest;
use crate::index::{Index, IndexError, PackageId};
use crate::package::Package;
use crate::relation::{Dependency, Relation};
use crate::version::{Version, VersionError};

use graph::Graph;
pub use retrace::RetraceError;

/// A package that is asked for by name, in one version or in the highest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Package name.
    pub name: String,
    /// The only acceptable version.
    pub version: Option<Version>,
}

impl FromStr for Request {
    type Err = VersionError;

    /// `name` or `name=version`.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        match text.split_once('=') {
            None => Ok(Self { name: text.trim().to_owned(), version: None }),
            Some((name, version)) => {
                Ok(Self { name: name.trim().to_owned(), version: Some(version.trim().parse()?) })
            }
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            None => f.write_str(&self.name),
            Some(version) => write!(f, "{}={version}", self.name),
        }
    }
}

/// Something that is there without a package: dependencies on it are satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// Package or virtual package.
    pub name: String,
    /// Its version. `None` satisfies every version: whoever says so vouches for it.
    pub version: Option<Version>,
}

/// How to resolve.
#[derive(Debug, Clone)]
pub struct Options {
    /// The architecture that is installed for.
    pub architecture: String,
    /// Adds the packages marked essential to the requests, which dpkg assumes to be everywhere. Off by default: an
    /// image names what it wants.
    pub essential: bool,
    /// Versions that are tried before higher ones, by package: those of an earlier choice.
    pub preferred: BTreeMap<String, Version>,
    /// Packages that are not there, whatever the index says, by the digest of their file.
    pub without: BTreeSet<Digest>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            architecture: "amd64".to_owned(),
            essential: false,
            preferred: BTreeMap::new(),
            without: BTreeSet::new(),
        }
    }
}

/// Why a package is in the closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It was asked for.
    Requested,
    /// It is essential, and the options ask for such.
    Essential,
    /// Another package needs it.
    Dependency {
        /// Name of that package.
        by: String,
        /// The dependency, as written there.
        dependency: Dependency,
    },
}

/// A chosen package and the reason.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The package.
    pub package: Arc<Package>,
    /// What brought it in first.
    pub why: Why,
}

/// Packages that satisfy each other, sorted by name; each name once.
#[derive(Debug, Clone, Default)]
pub struct Closure {
    /// The packages.
    pub selected: Vec<Selected>,
}

/// Requests that cannot be satisfied.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No package of that name.
    #[error("there is no package {name:?} in {suites}{}", hint(similar))]
    UnknownPackage {
        /// The name.
        name: String,
        /// The suites that were searched.
        suites: String,
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// The package exists, but not in that version.
    #[error("package {name:?} has no version {version}; there is {}", available.join(", "))]
    UnknownVersion {
        /// The name.
        name: String,
        /// The version that was asked for.
        version: Version,
        /// The versions that exist.
        available: Vec<String>,
    },
    /// A dependency that nothing satisfies.
    #[error("{request} cannot be installed:\n{explanation}")]
    Unsatisfiable {
        /// The request.
        request: String,
        /// The chain from the request to the dependency, with why each candidate fails; one step a line.
        explanation: String,
    },
    /// Two packages that exclude each other are both needed.
    #[error("{first} and {second} exclude each other, but both are needed:\n{explanation}")]
    Conflict {
        /// The package that was chosen first.
        first: String,
        /// The one that does not go with it.
        second: String,
        /// Why each is needed; one step a line.
        explanation: String,
    },
    /// The index itself.
    #[error(transparent)]
    Index(#[from] IndexError),
}

fn hint(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; did you mean {}?", similar.join(", ")) }
}

impl Closure {
    /// The packages without their reasons.
    pub fn packages(&self) -> Vec<Arc<Package>> {
        self.selected.iter().map(|s| Arc::clone(&s.package)).collect()
    }

    /// A package, by name.
    pub fn get(&self, name: &str) -> Option<&Selected> {
        let found = self.selected.binary_search_by(|s| s.package.name.as_str().cmp(name)).ok()?;
        self.selected.get(found)
    }

    /// The chain that brought a package in, from the request to the package itself.
    pub fn why(&self, name: &str) -> Vec<&Selected> {
        let mut chain = Vec::new();
        let mut current = self.get(name);
        while let Some(selected) = current {
            chain.push(selected);
            current = match &selected.why {
                // A package was chosen after the one that needs it: the chain has no cycle.
                Why::Dependency { by, .. } => self.get(by),
                Why::Requested | Why::Essential => None,
            };
        }
        chain.reverse();
        chain
    }

    /// Bytes to fetch for all packages.
    pub fn download_bytes(&self) -> u64 {
        self.selected.iter().map(|s| s.package.size).sum()
    }
}

/// How often a choice may be taken back. Real closures need none or one; the bound keeps hostile ones finite.
const MAX_ATTEMPTS: usize = 200;

/// Finds the packages that satisfy the requests and all dependencies of what is chosen (`Depends` and
/// `Pre-Depends`). Among the versions of a package the highest that fits wins.
///
/// # Errors
/// Unknown names (with suggestions) and versions; dependencies that nothing satisfies and packages that exclude each
/// other, with the chain that needs them.
pub fn resolve(
    index: &Index,
    requests: &[Request],
    provided: &[Provided],
    options: &Options,
) -> Result<Closure, ResolveError> {
    let mut wanted: Vec<(Request, Why)> = requests.iter().map(|r| (r.clone(), Why::Requested)).collect();
    if options.essential {
        let essential = index.essential()?.into_iter().filter(|p| !provided.iter().any(|x| x.name == p.name));
        wanted.extend(essential.map(|p| (Request { name: p.name, version: None }, Why::Essential)));
    }
    let mut graph = Graph::new(index, provided, options, &wanted);
    // Sets of packages to do without, the most promising last. What is reported in the end is the first error: the
    // later ones come from the attempts to get round it.
    let mut to_try = vec![Vec::new()];
    let mut first_error = None;
    for _ in 0..MAX_ATTEMPTS {
        let Some(banned) = to_try.pop() else { break };
        graph.start_over(&banned);
        let error = match attempt(&mut graph, &wanted) {
            Ok(Ok(closure)) => return Ok(closure),
            Err(ResolveError::Index(error)) => return Err(error.into()),
            Err(error) => error,
            Ok(Err(clash)) => {
                to_try.extend(clash.substitutable.into_iter().map(|id| [banned.as_slice(), &[id]].concat()));
                clash.error
            }
        };
        first_error.get_or_insert(error);
    }
    Err(first_error.unwrap_or_else(|| unreachable!("the first attempt has resolved or failed")))
}

/// An attempt that ended at two packages that exclude each other.
struct Clash {
    error: ResolveError,
    /// Those of them that were not asked for: something else might do in their place.
    substitutable: Vec<PackageId>,
}

fn attempt(graph: &mut Graph<'_>, wanted: &[(Request, Why)]) -> Result<Result<Closure, Clash>, ResolveError> {
    let roots = graph.roots(wanted)?;
    let mut chosen = Chosen::default();
    match chosen.run(graph, roots) {
        Ok(()) => Ok(Ok(chosen.into_closure(graph))),
        Err(Stop::Failed(error)) => Err(error.into()),
        Err(Stop::Clash { first, second, why }) => Ok(Err(Clash {
            error: explain::clash(graph, &chosen, first, second, &why),
            substitutable: [first, second].into_iter().filter(|id| !graph.is_root(*id)).collect(),
        })),
    }
}

/// What is chosen so far.
#[derive(Default)]
struct Chosen {
    order: Vec<(PackageId, Why)>,
    by_name: BTreeMap<String, PackageId>,
    /// Provided name: by which package, in which version.
    provides: BTreeMap<String, Vec<(PackageId, Option<Version>)>>,
    /// Name: relations of chosen packages that exclude it.
    excludes: BTreeMap<String, Vec<(PackageId, Relation)>>,
    /// Dependencies with more than one way to satisfy them.
    waiting: VecDeque<(PackageId, Dependency)>,
}

/// Why choosing stopped.
enum Stop {
    /// `second`, needed for `why`, does not go with `first`, which is chosen already.
    Clash {
        first: PackageId,
        second: PackageId,
        why: Why,
    },
    Failed(IndexError),
}

impl From<IndexError> for Stop {
    fn from(error: IndexError) -> Self {
        Self::Failed(error)
    }
}

/// Whether a dependency may be decided when there are several ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decide {
    OnlyForced,
    Always,
}

impl Chosen {
    /// Chooses from the roots on, breadth first; dependencies with a choice wait until none without one is left.
    fn run(&mut self, graph: &mut Graph<'_>, roots: Vec<(PackageId, Why)>) -> Result<(), Stop> {
        for (id, why) in roots {
            self.choose(graph, id, why)?;
        }
        let mut next = 0;
        loop {
            while let Some((id, _)) = self.order.get(next) {
                let (id, package) = (*id, Arc::clone(graph.package(*id)?));
                next += 1;
                for dependency in package.pre_depends.iter().chain(&package.depends) {
                    if !self.follow(graph, id, dependency, Decide::OnlyForced)? {
                        self.waiting.push_back((id, dependency.clone()));
                    }
                }
            }
            let Some((by, dependency)) = self.waiting.pop_front() else { return Ok(()) };
            self.follow(graph, by, &dependency, Decide::Always)?;
        }
    }

    /// Satisfies one dependency; says whether it is satisfied now.
    fn follow(
        &mut self,
        graph: &mut Graph<'_>,
        by: PackageId,
        dependency: &Dependency,
        decide: Decide,
    ) -> Result<bool, Stop> {
        if graph.is_provided(dependency) || self.satisfies(graph, dependency) {
            return Ok(true);
        }
        let candidates = graph.candidates(dependency)?;
        let mut usable = Vec::new();
        let mut clash = None;
        for id in candidates {
            if !graph.is_installable(id)? {
                continue;
            }
            match self.clash_with(graph, id)? {
                None => usable.push(id),
                Some(first) => {
                    clash.get_or_insert((first, id));
                }
            }
            if decide == Decide::Always && !usable.is_empty() {
                break;
            }
        }
        let why = Why::Dependency { by: graph.package(by)?.name.clone(), dependency: dependency.clone() };
        let Some(best) = usable.first().copied() else {
            // Every chosen package is installable, so there was a candidate, and it clashed.
            let (first, second) = clash.unwrap_or((by, by));
            return Err(Stop::Clash { first, second, why });
        };
        let name = &graph.package(best)?.name.clone();
        let mut forced = true;
        for id in &usable {
            forced &= graph.package(*id)?.name == *name;
        }
        if decide == Decide::OnlyForced && !forced {
            return Ok(false);
        }
        self.choose(graph, best, why)?;
        Ok(true)
    }

    fn satisfies(&self, graph: &mut Graph<'_>, dependency: &Dependency) -> bool {
        let mut relations = dependency.0.iter().filter(|r| graph.concerns(r));
        relations.any(|relation| {
            let named = self.by_name.get(&relation.name).and_then(|id| graph.known(*id));
            named.is_some_and(|package| relation.accepts(&package.version))
                || self.provider(relation).is_some()
        })
    }

    /// A chosen package that provides what the relation asks for.
    fn provider(&self, relation: &Relation) -> Option<PackageId> {
        let providers = self.provides.get(&relation.name)?;
        let fits = |version: &Option<Version>| match version {
            Some(version) => relation.accepts(version),
            None => relation.bound.is_none(),
        };
        providers.iter().find(|(_, version)| fits(version)).map(|(id, _)| *id)
    }

    /// The chosen package that does not go with this one: another version of it, or one of the two excludes the
    /// other (`Conflicts`, `Breaks`).
    fn clash_with(&self, graph: &mut Graph<'_>, id: PackageId) -> Result<Option<PackageId>, IndexError> {
        let package = Arc::clone(graph.package(id)?);
        if let Some(same) = self.by_name.get(&package.name) {
            return Ok((*same != id).then_some(*same));
        }
        let excluded = |name: &str, version: Option<&Version>| {
            let relations = self.excludes.get(name).map(Vec::as_slice).unwrap_or_default();
            let hit = relations.iter().find(|(_, relation)| match version {
                Some(version) => relation.accepts(version),
                None => relation.bound.is_none(),
            });
            hit.map(|(by, _)| *by)
        };
        let by_others = excluded(&package.name, Some(&package.version));
        let by_others =
            by_others.or_else(|| package.provides.iter().find_map(|p| excluded(&p.name, p.version.as_ref())));
        if by_others.is_some() {
            return Ok(by_others);
        }
        for relation in package.conflicts.iter().flat_map(|d| &d.0).filter(|r| graph.concerns(r)) {
            if let Some(other) = self.by_name.get(&relation.name)
                && graph.known(*other).is_some_and(|p| relation.accepts(&p.version))
            {
                return Ok(Some(*other));
            }
            if let Some(other) = self.provider(relation) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    fn choose(&mut self, graph: &mut Graph<'_>, id: PackageId, why: Why) -> Result<(), Stop> {
        if let Some(first) = self.clash_with(graph, id)? {
            return Err(Stop::Clash { first, second: id, why });
        }
        let package = Arc::clone(graph.package(id)?);
        if self.by_name.insert(package.name.clone(), id).is_some() {
            return Ok(());
        }
        self.order.push((id, why));
        for provide in &package.provides {
            self.provides.entry(provide.name.clone()).or_default().push((id, provide.version.clone()));
        }
        for relation in package.conflicts.iter().flat_map(|d| &d.0).filter(|r| graph.concerns(r)) {
            self.excludes.entry(relation.name.clone()).or_default().push((id, relation.clone()));
        }
        Ok(())
    }

    fn into_closure(self, graph: &Graph<'_>) -> Closure {
        let select = |(id, why)| Some(Selected { package: Arc::clone(graph.known(id)?), why });
        let mut selected: Vec<Selected> = self.order.into_iter().filter_map(select).collect();
        selected.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        Closure { selected }
    }
}

#[cfg(test)]
mod tests;
