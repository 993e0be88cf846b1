//! Who needs whom in a closure: what `resolve` decided, read back from its result.

use std::collections::{BTreeMap, BTreeSet};

use super::{Closure, Provided, Selected, Why};
use crate::relation::{Dependency, Relation};
use crate::version::Version;

impl Closure {
    /// For each package, in the order of the closure, the names of the packages that its `Depends` and `Pre-Depends` are satisfied
    /// by, sorted. `provided` and `architecture` are those that the closure was resolved with.
    ///
    /// Of a dependency with alternatives the first that holds counts, unless the package is here because of another one: so each
    /// package can be reached from the requested ones. What `provided` satisfies gives no edge.
    pub fn edges<'a>(&'a self, provided: &[Provided], architecture: &str) -> Vec<Vec<&'a str>> {
        let mut providers: BTreeMap<&str, Vec<(&str, Option<&Version>)>> = BTreeMap::new();
        for Selected { package, .. } in &self.selected {
            for provide in &package.provides {
                let provider = (package.name.as_str(), provide.version.as_ref());
                providers.entry(&provide.name).or_default().push(provider);
            }
        }
        let closure = Satisfiers { closure: self, providers, provided, architecture };
        self.selected.iter().map(|selected| closure.needed_by(selected)).collect()
    }
}

struct Satisfiers<'a, 'o> {
    closure: &'a Closure,
    /// Provided name: by which package, in which version.
    providers: BTreeMap<&'a str, Vec<(&'a str, Option<&'a Version>)>>,
    provided: &'o [Provided],
    architecture: &'o str,
}

impl<'a> Satisfiers<'a, '_> {
    fn needed_by(&self, selected: &'a Selected) -> Vec<&'a str> {
        let package = &selected.package;
        let dependencies = package.pre_depends.iter().chain(&package.depends);
        let mut names: BTreeSet<&str> =
            dependencies.filter_map(|dependency| self.first(dependency)).collect();
        let brought = self
            .closure
            .selected
            .iter()
            .filter(|other| matches!(&other.why, Why::Dependency { by, .. } if *by == package.name));
        names.extend(brought.map(|other| other.package.name.as_str()));
        names.remove(package.name.as_str());
        names.into_iter().collect()
    }

    /// The package that satisfies the first alternative which holds; none when something that is no package does.
    fn first(&self, dependency: &'a Dependency) -> Option<&'a str> {
        let applying = dependency.0.iter().filter(|relation| self.concerns(relation));
        let mut found = applying.filter_map(|relation| self.satisfied_by(relation));
        match found.next()? {
            Satisfier::Package(name) => Some(name),
            Satisfier::Provided => None,
        }
    }

    /// Whether the relation speaks of packages that can be installed here.
    fn concerns(&self, relation: &Relation) -> bool {
        let qualifier = relation.qualifier.as_deref();
        let here = qualifier.is_none_or(|q| q == "any" || q == "native" || q == self.architecture);
        here && relation.applies_to(self.architecture)
    }

    fn satisfied_by(&self, relation: &'a Relation) -> Option<Satisfier<'a>> {
        let named = self.closure.get(&relation.name).filter(|named| relation.accepts(&named.package.version));
        if let Some(named) = named {
            return Some(Satisfier::Package(&named.package.name));
        }
        let fits =
            |version: Option<&Version>| version.map_or(relation.bound.is_none(), |v| relation.accepts(v));
        let mut providers = self.providers.get(relation.name.as_str()).into_iter().flatten();
        if let Some((name, _)) = providers.find(|(_, version)| fits(*version)) {
            return Some(Satisfier::Package(name));
        }
        let is_provided = |provided: &Provided| {
            provided.name == relation.name && provided.version.as_ref().is_none_or(|v| relation.accepts(v))
        };
        self.provided.iter().any(is_provided).then_some(Satisfier::Provided)
    }
}

/// What makes a relation hold.
enum Satisfier<'a> {
    Package(&'a str),
    /// Something that is no package.
    Provided,
}
