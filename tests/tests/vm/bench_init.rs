//! Ferrite's PID 1 beside systemd in one VM spec: boot, memory, rate of starts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use builder::guest;
use ferrite_tests::conformance::{Traces, ferrite, load_all, systemd};

/// Most that PID 1 may take with 100 services running.
const PSS_KIB: u64 = 8 << 10;

/// The figures `NAME NUMBER` of all benchmarks.
fn figures(traces: &Traces) -> BTreeMap<String, u64> {
    let lines = traces.0.values().flat_map(|block| block.lines());
    lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)))
        .collect()
}

#[test]
#[ignore = "measures, for which the machine must be idle"]
fn init_beside_systemd() -> Result<()> {
    let benchmarks = load_all(&guest::source_folder()?.join("tests/benchmarks"))?;
    let (ours, theirs) = (ferrite(&benchmarks)?, systemd(&benchmarks)?);
    let (ours, theirs) = (figures(&ours), figures(&theirs));
    println!("\n{:26} {:>9} {:>9}", "", "ferrite", "systemd");
    for (name, figure) in &ours {
        let other = theirs.get(name).map_or_else(|| "-".to_owned(), u64::to_string);
        println!("{name:26} {figure:>9} {other:>9}");
    }
    for figures in [&ours, &theirs] {
        assert_eq!(figures.get("running"), Some(&100), "not all services run: {figures:?}");
        assert_eq!(figures.get("status"), Some(&0), "not all units started: {figures:?}");
    }
    let pss = ours.get("pss_kib_with_100_services").context("no memory figure")?;
    assert!(*pss <= PSS_KIB, "PID 1 takes {pss} KiB with 100 services");
    Ok(())
}
