//! The reasons for packages that were chosen earlier.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::graph::{concerns, is_provided, provides};
use super::{Closure, Provided, Request, Selected, Why};
use crate::package::Package;
use crate::relation::Dependency;

/// Packages that are no closure of the requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetraceError {
    /// A package that was asked for.
    #[error("{0} is asked for, but not among the packages")]
    NotThere(String),
    /// A dependency.
    #[error("{by} needs {dependency}, which none of the packages is")]
    Unsatisfied {
        /// Name of the package.
        by: String,
        /// Its dependency.
        dependency: String,
    },
    /// A package too many.
    #[error("nothing needs {0}")]
    Unneeded(String),
}

impl Closure {
    /// The closure that packages which were chosen earlier make, with the reason for each found out anew: the request, else
    /// the first package that needs it, going from the requests breadth first. Names must be unique.
    ///
    /// # Errors
    /// A request or dependency that none of them satisfies; a package that nothing needs.
    pub fn retrace(
        packages: Vec<Arc<Package>>,
        requests: &[Request],
        provided: &[Provided],
        architecture: &str,
    ) -> Result<Self, RetraceError> {
        let by_name: BTreeMap<&str, &Arc<Package>> = packages.iter().map(|p| (p.name.as_str(), p)).collect();
        let mut reasons: BTreeMap<&str, Why> = BTreeMap::new();
        let mut to_visit = VecDeque::new();
        for request in requests {
            match by_name.get(request.name.as_str()) {
                Some(package) => {
                    if reasons.insert(&package.name, Why::Requested).is_none() {
                        to_visit.push_back(*package);
                    }
                }
                None if provided.iter().any(|p| p.name == request.name) => {}
                None => return Err(RetraceError::NotThere(request.name.clone())),
            }
        }
        while let Some(package) = to_visit.pop_front() {
            for dependency in package.pre_depends.iter().chain(&package.depends) {
                if is_provided(provided, dependency, architecture) {
                    continue;
                }
                let satisfying = satisfying(&packages, &by_name, dependency, architecture);
                if satisfying.is_empty() {
                    let by = package.name.clone();
                    return Err(RetraceError::Unsatisfied { by, dependency: dependency.to_string() });
                }
                for needed in satisfying {
                    let why = || Why::Dependency { by: package.name.clone(), dependency: dependency.clone() };
                    reasons.entry(&needed.name).or_insert_with(|| {
                        to_visit.push_back(needed);
                        why()
                    });
                }
            }
        }
        let select = |package: &Arc<Package>| match reasons.get(package.name.as_str()) {
            Some(why) => Ok(Selected { package: Arc::clone(package), why: why.clone() }),
            None => Err(RetraceError::Unneeded(package.name.clone())),
        };
        let mut selected = packages.iter().map(select).collect::<Result<Vec<_>, _>>()?;
        selected.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        Ok(Self { selected })
    }
}

/// All packages that satisfy a dependency, in the order of its alternatives: whoever chose them may have had any in mind.
fn satisfying<'a>(
    packages: &'a [Arc<Package>],
    by_name: &BTreeMap<&str, &'a Arc<Package>>,
    dependency: &Dependency,
    architecture: &str,
) -> Vec<&'a Arc<Package>> {
    let mut found = Vec::new();
    for relation in dependency.0.iter().filter(|relation| concerns(relation, architecture)) {
        let named = by_name.get(relation.name.as_str()).copied();
        found.extend(named.filter(|package| relation.accepts(&package.version)));
        found.extend(packages.iter().filter(|package| provides(package, relation)));
    }
    found
}
