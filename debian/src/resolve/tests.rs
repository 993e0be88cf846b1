use super::*;
use crate::index::IndexText;
use proptest::prelude::*;

/// `name version; Field: value; Field: value` a line.
fn index(lines: &[&str]) -> Index {
    let mut text = String::new();
    for line in lines {
        let mut parts = line.split("; ");
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        text += &format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n");
        text.extend(parts.map(|field| format!("{field}\n")));
        text += &format!("Filename: pool/{name}_{version}.deb\nSize: 10\nSHA256: {}\n\n", "0".repeat(64));
    }
    let file =
        IndexText { suite: "trixie".into(), label: "test".to_owned(), text: Arc::new(text.into_bytes()) };
    Index::parse(vec![file]).unwrap()
}

fn run(
    lines: &[&str],
    requests: &[&str],
    provided: &[(&str, Option<&str>)],
) -> Result<Vec<String>, ResolveError> {
    let requests: Vec<Request> = requests.iter().map(|r| r.parse().unwrap()).collect();
    let provided: Vec<Provided> = provided
        .iter()
        .map(|(name, version)| Provided {
            name: (*name).to_owned(),
            version: version.map(|v| v.parse().unwrap()),
        })
        .collect();
    let closure = resolve(&index(lines), &requests, &provided, &Options::default())?;
    Ok(closure.selected.iter().map(|s| s.package.to_string()).collect())
}

#[test]
fn closure_is_sorted_and_takes_the_highest_version_that_fits() {
    let lines =
        ["z 1; Depends: a (>= 1), c", "a 1", "a 3", "a 2", "c 1; Pre-Depends: d (<< 2)", "d 1", "d 2", "e 1"];
    assert_eq!(run(&lines, &["z"], &[]).unwrap(), ["a 3", "c 1", "d 1", "z 1"]);
}

#[test]
fn a_requested_version_wins_over_the_highest() {
    let lines = ["a 1", "a 2", "b 1; Depends: a"];
    assert_eq!(run(&lines, &["b", "a=1"], &[]).unwrap(), ["a 1", "b 1"]);
    let error = run(&lines, &["a=3"], &[]).unwrap_err().to_string();
    assert!(error.contains("no version 3; there is 2 (trixie), 1 (trixie)"), "{error}");
}

#[test]
fn an_alternative_that_is_there_anyway_is_preferred() {
    let lines = ["a 1; Depends: x | y, b", "b 1; Depends: c", "c 1; Depends: y", "x 1", "y 1"];
    assert_eq!(run(&lines, &["a"], &[]).unwrap(), ["a 1", "b 1", "c 1", "y 1"]);
    assert_eq!(run(&lines[..1], &["a"], &[("y", None), ("b", None)]).unwrap(), ["a 1"]);
}

#[test]
fn provided_names_satisfy_by_version_or_always_without_one() {
    let lines = ["a 1; Depends: systemd (>= 250)", "systemd 257; Depends: much", "much 1"];
    assert_eq!(run(&lines, &["a"], &[("systemd", None)]).unwrap(), ["a 1"]);
    assert_eq!(run(&lines, &["a"], &[("systemd", Some("255"))]).unwrap(), ["a 1"]);
    assert_eq!(run(&lines, &["a"], &[("systemd", Some("1"))]).unwrap().len(), 3);
}

#[test]
fn virtual_packages_need_a_version_to_satisfy_one() {
    let lines = [
        "a 1; Depends: v (>= 2)",
        "b 1; Depends: v",
        "p 1; Provides: v; Priority: required",
        "q 1; Provides: v (= 1)",
        "r 1; Provides: v (= 3)",
    ];
    assert_eq!(run(&lines, &["a"], &[]).unwrap(), ["a 1", "r 1"]);
    assert_eq!(run(&lines, &["b"], &[]).unwrap(), ["b 1", "p 1"], "the most important provider first");
}

#[test]
fn a_first_alternative_that_cannot_be_installed_is_passed_over_at_any_depth() {
    let lines = ["a 1; Depends: b | c", "b 1; Depends: d", "d 1; Depends: gone", "c 1"];
    assert_eq!(run(&lines, &["a"], &[]).unwrap(), ["a 1", "c 1"]);
}

#[test]
fn an_older_version_is_used_when_the_newer_cannot_be_installed() {
    let lines = ["a 2; Depends: gone", "a 1", "b 1; Depends: a"];
    assert_eq!(run(&lines, &["b"], &[]).unwrap(), ["a 1", "b 1"]);
}

#[test]
fn cycles_and_self_dependencies_resolve() {
    let lines = ["a 1; Depends: b, a", "b 1; Depends: c | x", "c 1; Pre-Depends: a"];
    assert_eq!(run(&lines, &["a"], &[]).unwrap(), ["a 1", "b 1", "c 1"]);
}

#[test]
fn a_choice_that_conflicts_later_is_taken_back() {
    let lines =
        ["a 1; Depends: x | y, b | bb", "x 1", "y 1", "b 1; Conflicts: x, y", "bb 1", "k 1; Depends: b"];
    assert_eq!(run(&lines, &["a"], &[]).unwrap(), ["a 1", "bb 1", "x 1"]);
    let lines = [
        "a 1; Depends: x | y, z | z2",
        "x 1; Breaks: w (<< 2)",
        "y 1",
        "z 1; Depends: w",
        "w 1",
        "z2 1; Depends: w",
    ];
    assert_eq!(run(&lines, &["a"], &[]).unwrap(), ["a 1", "w 1", "y 1", "z 1"]);
}

#[test]
fn packages_that_exclude_each_other_are_refused_with_both_chains() {
    let lines = ["a 1; Depends: b", "b 1; Conflicts: c (<< 2)", "c 1"];
    let error = run(&lines, &["a", "c"], &[]).unwrap_err().to_string();
    assert!(
        error.contains("c 1: requested") && error.contains("needed as `b` by a, which is requested"),
        "{error}"
    );
    assert!(
        run(&["b 1; Conflicts: v; Provides: v"], &["b"], &[]).is_ok(),
        "a package does not exclude itself"
    );
    let lines = ["b 1; Conflicts: v; Provides: v", "c 1; Provides: v"];
    assert!(matches!(run(&lines, &["b", "c"], &[]), Err(ResolveError::Conflict { .. })));
}

#[test]
fn two_versions_of_one_package_are_not_chosen_together() {
    let lines = ["a 1; Depends: l (= 1)", "b 1; Depends: l (= 2)", "l 1", "l 2"];
    assert!(matches!(run(&lines, &["a", "b"], &[]), Err(ResolveError::Conflict { .. })));
    let lines = ["a 1; Depends: l (= 1)", "b 1; Depends: l", "l 1", "l 2"];
    assert_eq!(run(&lines, &["b", "a"], &[]).unwrap(), ["a 1", "b 1", "l 1"], "the loose one gives way");
}

#[test]
fn unknown_packages_come_with_suggestions() {
    let error = run(&["openssh-server 1"], &["openshh-server"], &[]).unwrap_err().to_string();
    assert_eq!(error, "there is no package \"openshh-server\" in trixie; did you mean openssh-server?");
}

#[test]
fn unsatisfiable_dependencies_are_explained_along_the_chain() {
    let lines = ["a 1; Depends: b | v (>= 2)", "b 1; Depends: c (>= 5), x", "c 4", "x 1", "w 1; Provides: v"];
    let error = run(&lines, &["a"], &[]).unwrap_err().to_string();
    let want = "a cannot be installed:\n  a 1 depends on b | v (>= 2)\n    \
        v: w 1 provides it, but not in such a version\n    b 1 depends on c (>= 5)\n      c: there is only 4";
    assert_eq!(error, want);
}

#[test]
fn foreign_architectures_do_not_satisfy() {
    let lines = ["a 1; Depends: b:any, c:amd64", "b 1", "c 1", "d 1; Depends: b:i386"];
    assert_eq!(run(&lines, &["a"], &[]).unwrap().len(), 3);
    assert!(run(&lines, &["d"], &[]).is_err());
}

#[test]
fn why_leads_from_the_request_to_the_package() {
    let index = index(&["a 1; Depends: b", "b 1; Depends: c | x", "c 1"]);
    let request = "a".parse().unwrap();
    let closure = resolve(&index, &[request], &[], &Options::default()).unwrap();
    let names: Vec<_> = closure.why("c").iter().map(|s| s.package.name.clone()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        matches!(&closure.get("c").unwrap().why, Why::Dependency { dependency, .. } if dependency.to_string() == "c | x")
    );
    assert!(closure.why("zzz").is_empty());
}

#[test]
fn essential_packages_are_added_only_on_request() {
    let index = index(&["a 1", "e 1; Essential: yes"]);
    let request: Request = "a".parse().unwrap();
    let count = |essential| {
        let options = Options { essential, ..Options::default() };
        resolve(&index, std::slice::from_ref(&request), &[], &options).unwrap().selected.len()
    };
    assert_eq!((count(false), count(true)), (1, 2));
}

/// Everything that is chosen has its dependencies met, one version a name, and no two exclude each other.
fn lint(closure: &Closure) {
    let satisfied = |relation: &Relation| {
        closure.selected.iter().map(|s| &s.package).any(|p| {
            (p.name == relation.name && relation.accepts(&p.version))
                || p.provides.iter().any(|v| {
                    v.name == relation.name
                        && v.version.as_ref().map_or(relation.bound.is_none(), |v| relation.accepts(v))
                })
        })
    };
    for selected in &closure.selected {
        let package = &selected.package;
        for dependency in package.depends.iter().chain(&package.pre_depends) {
            assert!(dependency.0.iter().any(satisfied), "{package} lacks {dependency}");
        }
        for relation in package.conflicts.iter().flat_map(|d| &d.0) {
            let other = closure.get(&relation.name).filter(|s| s.package.name != package.name);
            assert!(
                other.is_none_or(|s| !relation.accepts(&s.package.version)),
                "{package} excludes {relation}"
            );
        }
    }
    assert!(closure.selected.windows(2).all(|w| w[0].package.name < w[1].package.name));
}

proptest! {
    #[test]
    fn whatever_resolves_is_consistent_and_the_order_of_the_index_does_not_matter(
        mut lines in prop::collection::vec(
            "[a-h] [1-3](; Depends: [a-j]( \\([<>=]{1} [1-3]\\))?( \\| [a-j])?(, [a-h])?)?(; Conflicts: [a-h])?(; Provides: [ij])?",
            1..14,
        ),
        requests in prop::collection::btree_set("[a-h]", 1..3),
    ) {
        lines.sort();
        lines.dedup_by(|a, b| a[..3] == b[..3]);
        let requests: Vec<Request> = requests.iter().map(|r| r.parse().unwrap()).collect();
        let resolve_lines = |lines: &[String]| {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            resolve(&index(&lines), &requests, &[], &Options::default())
        };
        let one = resolve_lines(&lines);
        lines.reverse();
        let other = resolve_lines(&lines);
        match (one, other) {
            (Ok(one), Ok(other)) => {
                lint(&one);
                let names = |c: &Closure| c.selected.iter().map(|s| s.package.to_string()).collect::<Vec<_>>();
                prop_assert_eq!(names(&one), names(&other));
            }
            (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
            _ => prop_assert!(false, "only one order resolves"),
        }
    }
}

fn packages(lines: &[&str]) -> Vec<Arc<Package>> {
    let index = index(lines);
    index.iter().map(|package| Arc::new(package.unwrap())).collect()
}

fn retrace(lines: &[&str], requests: &[&str], provided: &[&str]) -> Result<Closure, RetraceError> {
    let requests: Vec<Request> = requests.iter().map(|r| r.parse().unwrap()).collect();
    let provided: Vec<Provided> =
        provided.iter().map(|name| Provided { name: (*name).to_owned(), version: None }).collect();
    Closure::retrace(packages(lines), &requests, &provided, "amd64")
}

#[test]
fn the_reasons_of_an_earlier_choice_are_found_again() {
    let lines = ["a 1; Depends: v, s (>= 2)", "b 1; Depends: y | a", "c 1; Depends: b", "v1 1; Provides: v"];
    let closure = retrace(&lines, &["c", "s"], &["s"]).unwrap();
    let chain: Vec<_> = closure.why("v1").iter().map(|s| s.package.name.clone()).collect();
    assert_eq!(chain, ["c", "b", "a", "v1"]);
    assert_eq!(closure.get("c").unwrap().why, Why::Requested);
}

#[test]
fn packages_that_are_no_closure_are_refused() {
    let lines = ["a 1; Depends: b (>= 2)", "b 1", "c 1"];
    let message = |requests: &[&str], lines: &[&str]| retrace(lines, requests, &[]).unwrap_err().to_string();
    assert_eq!(message(&["z"], &lines), "z is asked for, but not among the packages");
    assert_eq!(message(&["a"], &lines), "a needs b (>= 2), which none of the packages is");
    assert_eq!(message(&["b"], &lines[1..]), "nothing needs c");
}

#[test]
fn preferred_versions_are_kept_where_they_fit_and_missing_files_are_not_chosen() {
    let lines = ["a 1", "a 2", "b 1; Depends: a", "b 2; Depends: a (>= 2)", "c 1; Depends: b (>= 2)"];
    let run = |requests: &[&str], without: &[&str]| {
        let index = index(&lines);
        // The fixture gives every package the same digest: one of its own for those that are to be left out.
        let left_out = |package: &Package| without.contains(&package.to_string().as_str());
        let texts: String = index
            .iter()
            .map(|package| package.unwrap())
            .map(|package| {
                let depends: Vec<String> = package.depends.iter().map(ToString::to_string).collect();
                let depends = if depends.is_empty() { String::new() } else { format!("Depends: {}\n", depends.join(", ")) };
                let digest = if left_out(&package) { "1" } else { "0" }.repeat(64);
                format!(
                    "Package: {}\nVersion: {}\nArchitecture: all\n{depends}Filename: x\nSize: 1\nSHA256: {digest}\n\n",
                    package.name, package.version
                )
            })
            .collect();
        let file =
            IndexText { suite: "trixie".into(), label: String::new(), text: Arc::new(texts.into_bytes()) };
        let options = Options {
            preferred: ["a", "b"].map(|name| (name.to_owned(), "1".parse().unwrap())).into(),
            without: ["1".repeat(64).parse().unwrap()].into(),
            ..Options::default()
        };
        let requests: Vec<Request> = requests.iter().map(|r| r.parse().unwrap()).collect();
        let closure = resolve(&Index::parse(vec![file]).unwrap(), &requests, &[], &options).unwrap();
        closure.selected.iter().map(|s| s.package.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(run(&["b"], &[]), ["a 1", "b 1"]);
    assert_eq!(run(&["b"], &["a 1"]), ["a 2", "b 1"]);
    assert_eq!(run(&["b"], &["b 1"]), ["a 2", "b 2"]);
    assert_eq!(run(&["c"], &[]), ["a 2", "b 2", "c 1"], "what is needed wins over what is preferred");
}

#[test]
fn edges_name_what_satisfies_each_dependency_and_reach_every_package() {
    let lines = [
        "a 1; Depends: nothing | v (>= 2), sys (>= 1), x | y, a",
        "p 1; Provides: v",
        "q 1; Provides: v (= 3)",
        "b 1; Pre-Depends: p; Depends: y, foreign:i386 | c",
        "c 1",
        "x 1; Depends: gone",
        "y 1; Depends: b (>= 1)",
    ];
    let provided = [Provided { name: "sys".to_owned(), version: None }];
    let requests = ["a".parse().unwrap()];
    let closure = resolve(&index(&lines), &requests, &provided, &Options::default()).unwrap();
    let names: Vec<_> = closure.selected.iter().map(|s| s.package.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "p", "q", "y"]);
    let edges = closure.edges(&provided, "amd64");
    assert_eq!(edges, [vec!["q", "y"], vec!["c", "p", "y"], vec![], vec![], vec![], vec!["b"]]);
}

#[test]
fn a_package_that_a_dependency_brought_is_one_of_its_edges() {
    // Both provide `v`; the more important one was chosen, and brought the one that comes first by name.
    let lines = [
        "a 1; Depends: v",
        "m 1; Provides: v; Priority: optional",
        "n 1; Provides: v; Priority: required; Depends: m",
    ];
    let closure = resolve(&index(&lines), &["a".parse().unwrap()], &[], &Options::default()).unwrap();
    assert_eq!(closure.edges(&[], "amd64"), [vec!["m", "n"], vec![], vec!["m"]]);
}
