//! Who needs whom. Debian's dependencies have cycles (libc6 and libgcc-s1), so nothing here follows a package twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::build::Manifest;

/// The packages of an image and their dependencies.
#[derive(Debug)]
pub struct Graph<'m> {
    requested: BTreeSet<&'m str>,
    depends: BTreeMap<&'m str, BTreeSet<&'m str>>,
    needed_by: BTreeMap<&'m str, BTreeSet<&'m str>>,
}

impl<'m> Graph<'m> {
    /// The graph of a manifest. A dependency on a package that the image does not have is none.
    pub fn of(manifest: &'m Manifest) -> Self {
        let names: BTreeSet<&str> = manifest.packages.iter().map(|package| package.name.as_str()).collect();
        let mut depends: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut needed_by: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for package in &manifest.packages {
            let name = package.name.as_str();
            let known = package
                .depends
                .iter()
                .map(String::as_str)
                .filter(|other| names.contains(other) && *other != name);
            for other in known {
                depends.entry(name).or_default().insert(other);
                needed_by.entry(other).or_default().insert(name);
            }
        }
        let requested = manifest.packages.iter().filter(|package| package.requested);
        Self { requested: requested.map(|package| package.name.as_str()).collect(), depends, needed_by }
    }

    /// The shortest way from a package that the recipe asks for to `name`, both included; of several the first by name. `None`
    /// when no such way leads there.
    pub fn chain(&self, name: &str) -> Option<Vec<&'m str>> {
        let mut came_from: BTreeMap<&str, Option<&'m str>> =
            self.requested.iter().map(|&root| (root, None)).collect();
        let mut todo: VecDeque<&'m str> = self.requested.iter().copied().collect();
        while let Some(package) = todo.pop_front() {
            if package == name {
                let mut chain = vec![package];
                let mut at = package;
                while let Some(&Some(previous)) = came_from.get(at) {
                    chain.push(previous);
                    at = previous;
                }
                chain.reverse();
                return Some(chain);
            }
            for &next in self.depends.get(package).into_iter().flatten() {
                came_from.entry(next).or_insert_with(|| {
                    todo.push_back(next);
                    Some(package)
                });
            }
        }
        None
    }

    /// The packages that need `name` directly, in the order of names.
    pub fn needed_by(&self, name: &str) -> impl Iterator<Item = &'m str> {
        self.needed_by.get(name).into_iter().flatten().copied()
    }

    /// What would go with `name`: the requested packages that cannot do without it, and everything that nothing else needs then.
    ///
    /// Dependencies count as they are satisfied in this image: that another package could stand in is for the resolver to know.
    pub fn without(&self, name: &'m str) -> Removal<'m> {
        let needing = reach(&self.needed_by, [name]);
        let given_up: BTreeSet<_> = self.requested.intersection(&needing).copied().collect();
        let kept = reach(&self.depends, self.requested.difference(&needing).copied());
        let now = reach(&self.depends, self.requested.iter().copied());
        let mut gone: BTreeSet<_> = now.difference(&kept).copied().collect();
        // What no request leads to, but needs the package, goes too.
        gone.extend(needing);
        Removal { given_up: given_up.into_iter().collect(), gone: gone.into_iter().collect() }
    }
}

/// What would go with a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal<'m> {
    /// Requested packages that need it, itself included, in the order of names.
    pub given_up: Vec<&'m str>,
    /// All that would go, itself included, in the order of names.
    pub gone: Vec<&'m str>,
}

/// Everything that `edges` lead to from `from`, `from` included.
fn reach<'m>(
    edges: &BTreeMap<&'m str, BTreeSet<&'m str>>,
    from: impl IntoIterator<Item = &'m str>,
) -> BTreeSet<&'m str> {
    let mut seen: BTreeSet<&str> = from.into_iter().collect();
    let mut todo: Vec<&str> = seen.iter().copied().collect();
    while let Some(package) = todo.pop() {
        for &next in edges.get(package).into_iter().flatten() {
            if seen.insert(next) {
                todo.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_manifest, manifest};
    use super::*;

    #[test]
    fn the_shortest_chain_is_shown_and_cycles_do_not_matter() {
        let made = manifest(
            &[
                ("curl", true, &["libcurl"]),
                ("libc6", false, &["libgcc"]),
                ("libcurl", false, &["libssl", "libc6"]),
                ("libgcc", false, &["libc6"]),
                ("libssl", false, &["libc6", "not-there"]),
                ("ssh", true, &["libssl", "ssh"]),
                ("stray", false, &["stray-too"]),
                ("stray-too", false, &["stray"]),
            ],
            vec![],
        );
        let graph = Graph::of(&made);
        assert_eq!(graph.chain("curl").unwrap(), ["curl"]);
        assert_eq!(graph.chain("libssl").unwrap(), ["ssh", "libssl"]);
        assert_eq!(graph.chain("libgcc").unwrap(), ["curl", "libcurl", "libc6", "libgcc"]);
        assert_eq!(graph.chain("stray"), None);
        assert_eq!(graph.chain("nothing"), None);
        assert_eq!(graph.needed_by("libc6").collect::<Vec<_>>(), ["libcurl", "libgcc", "libssl"]);

        let removal = graph.without("libcurl");
        assert_eq!((removal.given_up, removal.gone), (vec!["curl"], vec!["curl", "libcurl"]));
        let removal = graph.without("libgcc");
        assert_eq!(removal.given_up, ["curl", "ssh"]);
        assert_eq!(removal.gone, ["curl", "libc6", "libcurl", "libgcc", "libssl", "ssh"]);
        assert_eq!(graph.without("stray").gone, ["stray", "stray-too"]);
    }

    proptest! {
        #[test]
        fn chains_end_and_are_made_of_dependencies(manifest in any_manifest()) {
            let graph = Graph::of(&manifest);
            for package in &manifest.packages {
                let removal = graph.without(&package.name);
                prop_assert!(removal.gone.contains(&package.name.as_str()));
                let Some(chain) = graph.chain(&package.name) else { continue };
                prop_assert_eq!(*chain.last().unwrap(), package.name.as_str());
                let find = |name: &str| manifest.packages.iter().find(|package| package.name == name).unwrap();
                prop_assert!(find(chain[0]).requested);
                for pair in chain.windows(2) {
                    prop_assert!(find(pair[0]).depends.iter().any(|name| name == pair[1]));
                }
                // Whoever asks for the package needs it.
                prop_assert!(removal.given_up.contains(&chain[0]));
            }
        }
    }
}
