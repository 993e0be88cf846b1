//! Ferrite's PID 1 against Debian's systemd, scenario by scenario (`docs/conformance.md`).

use std::fs;

use anyhow::{Context as _, Result, bail};
use ferrite_tests::conformance::{
    Comparison, KnownDifferences, Scenario, Traces, ferrite, folder, load_all, score_in, systemd, table,
};

/// First lines of `reference.txt`.
const HEAD: &str = "# The traces of Debian's systemd. Written by the ignored test `record_the_reference` (docs/conformance.md).\n";

/// How often a scenario runs before it is held to differ: seconds of a busy host are in some traces, a difference of ours is there each
/// time.
const RUNS: u32 = 3;

/// The scenarios; where `FERRITE_CONFORMANCE` is set, those whose name holds one of its words (between commas).
fn scenarios() -> Result<Vec<Scenario>> {
    let mut scenarios = load_all(&folder()?)?;
    if let Ok(words) = std::env::var("FERRITE_CONFORMANCE") {
        scenarios.retain(|scenario| words.split(',').any(|word| scenario.name.contains(word)));
    }
    Ok(scenarios)
}

fn reference() -> Result<Traces> {
    let path = folder()?.join("reference.txt");
    Ok(Traces::parse(&fs::read_to_string(&path).with_context(|| path.display().to_string())?))
}

fn names(scenarios: &[Scenario]) -> impl Iterator<Item = &str> {
    scenarios.iter().map(|scenario| scenario.name.as_str())
}

#[test]
fn our_traces_are_those_of_systemd() -> Result<()> {
    let (scenarios, reference) = (scenarios()?, reference()?);
    let file = folder()?.join("known-differences.txt");
    let known = KnownDifferences::parse(&file.display().to_string(), &fs::read_to_string(&file)?)?;
    let all = std::env::var_os("FERRITE_CONFORMANCE").is_none();
    let known = if all { known } else { known.only(names(&scenarios)) };
    let mut found = ferrite(&scenarios)?;
    let mut comparison = Comparison::new(names(&scenarios), &reference, &found);
    for _ in 1..RUNS {
        let unlisted = known.unlisted(&comparison);
        if unlisted.is_empty() {
            break;
        }
        for (name, text) in comparison.different.iter().filter(|(name, _)| unlisted.contains(name)) {
            println!("once more: {name} (- systemd, + Ferrite)\n{text}");
        }
        let again: Vec<Scenario> =
            scenarios.iter().filter(|scenario| unlisted.contains(&scenario.name)).cloned().collect();
        found.0.extend(ferrite(&again)?.0);
        comparison = Comparison::new(names(&scenarios), &reference, &found);
    }
    println!("{}", comparison.score());
    let mut problems = known.contradictions(&comparison);
    if all {
        let readme = fs::read_to_string(folder()?.join("../../README.md"))?;
        let told = score_in(&readme);
        if told.as_ref() != Some(&comparison.score()) {
            problems.push(format!("README.md says {told:?}, but it is {:?}", comparison.score()));
        }
    }
    if !problems.is_empty() {
        bail!("{}\n{}", problems.join("\n"), comparison.score());
    }
    Ok(())
}

#[test]
fn every_recorded_trace_has_a_scenario_and_every_scenario_a_trace() -> Result<()> {
    let (scenarios, reference) = (load_all(&folder()?)?, reference()?);
    assert!(names(&scenarios).eq(reference.0.keys().map(String::as_str)), "run `record_the_reference`");
    Ok(())
}

#[test]
fn the_table_of_scenarios_is_theirs() -> Result<()> {
    let told = fs::read_to_string(folder()?.join("scenarios.md"))?;
    assert!(told.ends_with(&table(&load_all(&folder()?)?)), "run `record_the_reference`");
    Ok(())
}

/// Fails when traces are not what was recorded before: the second of two runs tells whether scenarios depend on chance.
#[test]
#[ignore = "writes tests/conformance/reference.txt; takes minutes"]
fn record_the_reference() -> Result<()> {
    let scenarios = scenarios()?;
    let found = systemd(&scenarios)?;
    let path = folder()?.join("reference.txt");
    let before = if path.exists() { reference()? } else { Traces::default() };
    let mut all = before.clone();
    all.0.extend(found.0.clone());
    let existing: Vec<String> = load_all(&folder()?)?.into_iter().map(|scenario| scenario.name).collect();
    all.0.retain(|name, _| existing.contains(name));
    fs::write(&path, format!("{HEAD}{all}"))?;
    let rows = table(&load_all(&folder()?)?);
    fs::write(
        folder()?.join("scenarios.md"),
        format!("# Scenarios of the conformance test (docs/conformance.md)\n\n{rows}"),
    )?;
    let changed = Comparison::new(names(&scenarios), &before, &found);
    for (name, text) in &changed.different {
        println!("{name} (- recorded before, + now):\n{text}");
    }
    assert!(changed.different.is_empty(), "{} traces are new or changed", changed.different.len());
    Ok(())
}
