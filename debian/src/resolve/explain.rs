//! Says why something cannot be resolved, as a chain a person can follow.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::graph::Graph;
use super::{Chosen, Request, ResolveError, Why};
use crate::index::{Index, IndexError, PackageId};
use crate::relation::{Dependency, Relation};

/// Deeper chains are cut: the end that matters is nearly always near.
const MAX_DEPTH: usize = 8;
/// Candidates that are explained for one dependency.
const MAX_CANDIDATES: usize = 4;

/// The error for a request that no index has.
pub(super) fn unknown(index: &Index, request: &Request) -> Result<ResolveError, IndexError> {
    let existing = index.find(&request.name)?;
    Ok(match &request.version {
        Some(version) if !existing.is_empty() => ResolveError::UnknownVersion {
            name: request.name.clone(),
            version: version.clone(),
            available: existing.iter().map(|p| format!("{} ({})", p.version, p.suite)).collect(),
        },
        _ => ResolveError::UnknownPackage {
            name: request.name.clone(),
            suites: index.suites().join(", "),
            similar: index.similar(&request.name),
        },
    })
}

/// The error for a request whose candidates have all failed.
pub(super) fn unsatisfiable(
    graph: &mut Graph<'_>,
    request: &Request,
    candidates: &[PackageId],
) -> Result<ResolveError, IndexError> {
    let mut explanation = String::new();
    let mut seen = HashSet::new();
    for id in candidates.iter().take(MAX_CANDIDATES) {
        failed_package(graph, *id, 1, &mut seen, &mut explanation)?;
    }
    Ok(ResolveError::Unsatisfiable {
        request: request.to_string(),
        explanation: explanation.trim_end().to_owned(),
    })
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:width$}{text}", "", width = depth * 2);
}

/// Why a package has failed: its first dependency that nothing satisfies.
fn failed_package(
    graph: &mut Graph<'_>,
    id: PackageId,
    depth: usize,
    seen: &mut HashSet<PackageId>,
    out: &mut String,
) -> Result<(), IndexError> {
    let package = graph.package(id)?.clone();
    if !seen.insert(id) || depth > MAX_DEPTH {
        line(out, depth, &format!("{package} cannot be installed (as above)"));
        return Ok(());
    }
    if graph.is_banned(id) {
        line(out, depth, &format!("{package} excludes something else that is needed"));
        return Ok(());
    }
    for dependency in package.pre_depends.iter().chain(&package.depends) {
        if graph.is_provided(dependency) {
            continue;
        }
        let candidates = graph.candidates(dependency)?;
        if candidates.iter().all(|id| graph.has_failed(*id)) {
            line(out, depth, &format!("{package} depends on {dependency}"));
            return failed_dependency(graph, dependency, &candidates, depth + 1, seen, out);
        }
    }
    line(out, depth, &format!("{package} cannot be installed"));
    Ok(())
}

fn failed_dependency(
    graph: &mut Graph<'_>,
    dependency: &Dependency,
    candidates: &[PackageId],
    depth: usize,
    seen: &mut HashSet<PackageId>,
    out: &mut String,
) -> Result<(), IndexError> {
    for relation in &dependency.0 {
        let has_candidate = {
            let alone = Dependency(vec![relation.clone()]);
            !graph.candidates(&alone)?.is_empty()
        };
        if !has_candidate {
            let reason = nothing_fits(graph, relation)?;
            line(out, depth, &reason);
        }
    }
    for id in candidates.iter().take(MAX_CANDIDATES) {
        failed_package(graph, *id, depth, seen, out)?;
    }
    if let Some(more) = candidates.len().checked_sub(MAX_CANDIDATES).filter(|n| *n > 0) {
        line(out, depth, &format!("and {more} more that fail as well"));
    }
    Ok(())
}

/// Why no package at all is a candidate for a relation.
fn nothing_fits(graph: &mut Graph<'_>, relation: &Relation) -> Result<String, IndexError> {
    if !graph.concerns(relation) {
        return Ok(format!("{relation} is for another architecture"));
    }
    let mut versions = Vec::new();
    for id in graph.versions(&relation.name)? {
        versions.push(graph.package(id)?.version.to_string());
    }
    if !versions.is_empty() {
        return Ok(format!("{}: there is only {}", relation.name, versions.join(", ")));
    }
    let unversioned = Relation::named(&relation.name);
    if let Some(id) = graph.providers(&unversioned)?.first() {
        let package = graph.package(*id)?;
        return Ok(format!("{}: {package} provides it, but not in such a version", relation.name));
    }
    let similar = graph.index.similar(&relation.name);
    let hint = if similar.is_empty() { String::new() } else { format!(" (there is {})", similar.join(", ")) };
    Ok(format!("{}: there is no such package, and none provides it{hint}", relation.name))
}

/// The error for two packages that exclude each other.
pub(super) fn clash(
    graph: &Graph<'_>,
    chosen: &Chosen,
    first: PackageId,
    second: PackageId,
    why: &Why,
) -> ResolveError {
    let name = |id: PackageId| graph.known(id).map(ToString::to_string).unwrap_or_default();
    let mut explanation = String::new();
    let first_why = chosen.order.iter().find(|(id, _)| *id == first).map(|(_, why)| why);
    for (id, why) in [(first, first_why), (second, Some(why))] {
        line(&mut explanation, 1, &format!("{}: {}", name(id), chain(graph, chosen, why)));
    }
    ResolveError::Conflict {
        first: name(first),
        second: name(second),
        explanation: explanation.trim_end().to_owned(),
    }
}

/// `needed as b (>= 1) by a, which was requested`.
fn chain(graph: &Graph<'_>, chosen: &Chosen, why: Option<&Why>) -> String {
    let mut text = String::new();
    let mut why = why;
    // Whoever needs a package was chosen before it: no cycle, but a bound costs nothing.
    for _ in 0..chosen.order.len() + 1 {
        match why {
            Some(Why::Dependency { by, dependency }) => {
                let _ = write!(text, "needed as `{dependency}` by {by}, which is ");
                let id = chosen.by_name.get(by).filter(|id| graph.known(**id).is_some());
                why = chosen.order.iter().find(|(known, _)| Some(known) == id).map(|(_, why)| why);
            }
            Some(Why::Essential) => {
                text.push_str("essential");
                break;
            }
            Some(Why::Requested) | None => {
                text.push_str("requested");
                break;
            }
        }
    }
    text
}
