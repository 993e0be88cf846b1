//! The bounded part of the power-cut sweep (SAFETY 26-30); `docs/sweep.md` has the whole run.

use anyhow::Result;
use ferrite_tests::sweep::campaign::{Plan, run};
use ferrite_tests::{Image, scratch};

/// Other seeds try other states; this one is everybody's.
const SEED: u64 = 26;

#[test]
fn no_power_cut_of_the_sweep_makes_a_machine_unbootable_or_loses_what_was_promised() -> Result<()> {
    let folder = scratch()?;
    let mut lines = Vec::new();
    let plan = Plan::bounded(SEED);
    let summary = run(&plan, &Image::minimal()?, folder.path(), &mut |line| lines.push(line.to_owned()))?;
    let lines = lines.join("\n");
    assert!(summary.holds(), "{summary}\n{lines}");
    assert!(summary.states >= 300 && summary.depth2 >= 500, "{summary}\n{lines}");
    assert!(summary.mutants >= 25, "{summary}\n{lines}");
    assert_eq!(summary.booted, plan.boots, "{lines}");
    println!("{summary}");
    Ok(())
}
