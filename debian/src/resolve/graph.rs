//! Which packages can be installed at all, choices and conflicts aside.
//!
//! A package cannot be installed when one of its dependencies has no candidate that can. Only the first candidate of
//! a dependency is looked into; the next one when that fails, and then whoever relied on it. So the packages behind
//! alternatives that nobody needs are never read. What is left is the greatest fixed point: cycles hold themselves
//! up, as they do in dpkg.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::{Options, Provided, Request, ResolveError, Why, explain};
use crate::index::{Index, IndexError, PackageId};
use crate::package::Package;
use crate::relation::{Dependency, Relation};
use crate::version::Version;

/// A dependency while its candidates are tried.
struct Edge {
    candidates: Vec<PackageId>,
    /// The candidate that is relied on.
    active: usize,
}

struct Node {
    edges: Vec<Edge>,
    failed: bool,
}

/// Whether a relation speaks of packages that can be installed here.
pub(super) fn concerns(relation: &Relation, architecture: &str) -> bool {
    let qualifier = relation.qualifier.as_deref();
    let here = qualifier.is_none_or(|q| q == "any" || q == "native" || q == architecture);
    here && relation.applies_to(architecture)
}

/// Whether a dependency is satisfied without a package, or nothing needs to satisfy it.
pub(super) fn is_provided(provided: &[Provided], dependency: &Dependency, architecture: &str) -> bool {
    let satisfied = |relation: &Relation| {
        provided.iter().any(|p| {
            p.name == relation.name && p.version.as_ref().is_none_or(|version| relation.accepts(version))
        })
    };
    let mut applying = dependency.0.iter().filter(|r| r.applies_to(architecture)).peekable();
    applying.peek().is_none() || applying.any(satisfied)
}

/// Whether a package provides what a relation asks for.
pub(super) fn provides(package: &Package, relation: &Relation) -> bool {
    package.provides.iter().filter(|p| p.name == relation.name).any(|p| match &p.version {
        Some(version) => relation.accepts(version),
        None => relation.bound.is_none(),
    })
}

/// Packages that were looked into, on top of an index.
pub(super) struct Graph<'a> {
    pub index: &'a Index,
    provided: &'a [Provided],
    options: &'a Options,
    /// Requested versions: no other version of these is a candidate.
    pins: BTreeMap<String, Version>,
    packages: HashMap<PackageId, Arc<Package>>,
    nodes: HashMap<PackageId, Node>,
    /// For a package, the packages and their edges whose active candidate is, or was, this one.
    relied_on_by: HashMap<PackageId, Vec<(PackageId, usize)>>,
    banned: HashSet<PackageId>,
    roots: HashSet<PackageId>,
}

impl<'a> Graph<'a> {
    pub fn new(
        index: &'a Index,
        provided: &'a [Provided],
        options: &'a Options,
        wanted: &[(Request, Why)],
    ) -> Self {
        let pin = |(request, _): &(Request, Why)| Some((request.name.clone(), request.version.clone()?));
        Self {
            index,
            provided,
            options,
            pins: wanted.iter().filter_map(pin).collect(),
            packages: HashMap::new(),
            nodes: HashMap::new(),
            relied_on_by: HashMap::new(),
            banned: HashSet::new(),
            roots: HashSet::new(),
        }
    }

    /// The packages that the requests mean: of each the highest version that can be installed.
    pub fn roots(&mut self, wanted: &[(Request, Why)]) -> Result<Vec<(PackageId, Why)>, ResolveError> {
        let mut roots = Vec::new();
        for (request, why) in wanted {
            let is_provided = self.provided.iter().any(|p| {
                p.name == request.name
                    && request.version.as_ref().is_none_or(|v| p.version.as_ref() == Some(v))
            });
            let candidates = self.versions(&request.name)?;
            if candidates.is_empty() {
                if is_provided {
                    continue;
                }
                return Err(explain::unknown(self.index, request)?);
            }
            let mut found = None;
            for id in &candidates {
                if self.is_installable(*id)? {
                    found = Some(*id);
                    break;
                }
            }
            let Some(id) = found else { return Err(explain::unsatisfiable(self, request, &candidates)?) };
            self.roots.insert(id);
            roots.push((id, why.clone()));
        }
        Ok(roots)
    }

    /// Whether the package was asked for by name.
    pub fn is_root(&self, id: PackageId) -> bool {
        self.roots.contains(&id)
    }

    pub fn is_banned(&self, id: PackageId) -> bool {
        self.banned.contains(&id)
    }

    /// The package, read once.
    pub fn package(&mut self, id: PackageId) -> Result<&Arc<Package>, IndexError> {
        use std::collections::hash_map::Entry;
        Ok(match self.packages.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(Arc::new(self.index.package(id)?)),
        })
    }

    /// The package, if it was read already.
    pub fn known(&self, id: PackageId) -> Option<&Arc<Package>> {
        self.packages.get(&id)
    }

    /// Whether the relation speaks of packages that can be installed here.
    pub fn concerns(&self, relation: &Relation) -> bool {
        concerns(relation, &self.options.architecture)
    }

    /// Whether something that is there without a package satisfies the dependency, or nothing needs to.
    pub fn is_provided(&self, dependency: &Dependency) -> bool {
        is_provided(self.provided, dependency, &self.options.architecture)
    }

    /// Whether the options have the package in the choice.
    fn is_there(&self, package: &Package) -> bool {
        let pinned = self.pins.get(&package.name).is_none_or(|pin| *pin == package.version);
        pinned && !self.options.without.contains(&package.sha256)
    }

    /// The order in which versions of one package are tried: a preferred one, then the highest.
    fn better_first(&self, a: &Package, b: &Package) -> Ordering {
        let preferred = |p: &Package| self.options.preferred.get(&p.name) == Some(&p.version);
        preferred(b).cmp(&preferred(a)).then_with(|| b.version.cmp(&a.version))
    }

    /// Stanzas of the package that may be used, the best version first.
    pub fn versions(&mut self, name: &str) -> Result<Vec<PackageId>, IndexError> {
        let mut found = Vec::new();
        for id in self.index.named(name) {
            let package = Arc::clone(self.package(id)?);
            let here = package.architecture == "all" || package.architecture == self.options.architecture;
            if here && self.is_there(&package) {
                found.push((id, package));
            }
        }
        found.sort_by(|(_, a), (_, b)| self.better_first(a, b));
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }

    /// Packages that provide what the relation asks for, by priority, name and version.
    pub fn providers(&mut self, relation: &Relation) -> Result<Vec<PackageId>, IndexError> {
        let mut found = Vec::new();
        for id in self.index.providers(&relation.name) {
            let package = Arc::clone(self.package(id)?);
            if self.is_there(&package) && provides(&package, relation) {
                found.push((id, package));
            }
        }
        found.sort_by(|(_, a), (_, b)| {
            (a.priority, &a.name).cmp(&(b.priority, &b.name)).then_with(|| self.better_first(a, b))
        });
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }

    /// What could satisfy a dependency, the preferred first: alternatives in their order, of each the package itself
    /// before those that provide it.
    pub fn candidates(&mut self, dependency: &Dependency) -> Result<Vec<PackageId>, IndexError> {
        let mut candidates = Vec::new();
        for relation in dependency.0.iter().filter(|r| self.concerns(r)).collect::<Vec<_>>() {
            for id in self.versions(&relation.name)? {
                if relation.accepts(&self.package(id)?.version) {
                    candidates.push(id);
                }
            }
            candidates.extend(self.providers(relation)?);
        }
        let mut seen = HashSet::new();
        candidates.retain(|id| seen.insert(*id));
        Ok(candidates)
    }

    /// Whether the package and, through some choice, all that it needs can be installed.
    pub fn is_installable(&mut self, id: PackageId) -> Result<bool, IndexError> {
        self.explore(id)?;
        Ok(!self.has_failed(id))
    }

    /// As far as it is known.
    pub fn has_failed(&self, id: PackageId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.failed)
    }

    /// Forgets what was found out and takes packages out of the choice.
    pub fn start_over(&mut self, banned: &[PackageId]) {
        self.banned = banned.iter().copied().collect();
        self.nodes.clear();
        self.relied_on_by.clear();
        self.roots.clear();
    }

    fn explore(&mut self, id: PackageId) -> Result<(), IndexError> {
        self.work_off(VecDeque::from([id]))
    }

    fn work_off(&mut self, mut to_explore: VecDeque<PackageId>) -> Result<(), IndexError> {
        while let Some(id) = to_explore.pop_front() {
            if self.nodes.contains_key(&id) {
                continue;
            }
            let package = Arc::clone(self.package(id)?);
            let mut edges = Vec::new();
            for dependency in package.pre_depends.iter().chain(&package.depends) {
                if !self.is_provided(dependency) {
                    edges.push(Edge { candidates: self.candidates(dependency)?, active: 0 });
                }
            }
            let count = edges.len();
            self.nodes.insert(id, Node { edges, failed: false });
            let settled = (0..count).all(|edge| self.settle(id, edge, &mut to_explore));
            if !settled || self.is_banned(id) {
                self.fail(id, &mut to_explore);
            }
        }
        Ok(())
    }

    /// Moves an edge to its first candidate that has not failed. `false` when there is none.
    fn settle(&mut self, id: PackageId, edge: usize, to_explore: &mut VecDeque<PackageId>) -> bool {
        loop {
            let Some(place) = self.nodes.get(&id).and_then(|node| node.edges.get(edge)) else { return true };
            let Some(candidate) = place.candidates.get(place.active).copied() else { return false };
            if !self.has_failed(candidate) && !self.is_banned(candidate) {
                self.relied_on_by.entry(candidate).or_default().push((id, edge));
                if !self.nodes.contains_key(&candidate) {
                    to_explore.push_back(candidate);
                }
                return true;
            }
            if let Some(place) = self.nodes.get_mut(&id).and_then(|node| node.edges.get_mut(edge)) {
                place.active += 1;
            }
        }
    }

    /// Marks a package, and whoever has nothing else to rely on, as not installable.
    fn fail(&mut self, id: PackageId, to_explore: &mut VecDeque<PackageId>) {
        let mut failed = vec![id];
        while let Some(id) = failed.pop() {
            match self.nodes.get_mut(&id) {
                Some(node) if !node.failed => node.failed = true,
                _ => continue,
            }
            for (by, edge) in self.relied_on_by.remove(&id).unwrap_or_default() {
                if !self.has_failed(by) && !self.settle(by, edge, to_explore) {
                    failed.push(by);
                }
            }
        }
    }
}
