//! Our etcdctl beside the one that it stands in for.

mod run;
mod script;

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use self::run::{Side, Whose};

const SCENARIOS: &str = include_str!("../../../etcdctl/scenarios.txt");
/// The test has to be one of at least so many commands.
const LEAST: usize = 120;

#[test]
fn it_does_what_etcdctl_of_api_v2_did() -> Result<()> {
    let scenarios = script::parse(SCENARIOS)?;
    let play = |whose| -> Result<Vec<_>> {
        let side = Side::start(whose)?;
        scenarios.iter().map(|scenario| side.play(scenario)).collect()
    };
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| play(Whose::Debians));
        let ours = play(Whose::Ours);
        (theirs.join(), ours)
    });
    let (theirs, ours) = (theirs.unwrap()?, ours?);

    let (mut equal, mut all) = (0, 0);
    let (mut explained, mut wrong) = (String::new(), String::new());
    for ((scenario, theirs), ours) in scenarios.iter().zip(theirs).zip(ours) {
        for ((call, theirs), (_, ours)) in theirs.into_iter().zip(ours) {
            all += 1;
            equal += usize::from(theirs == ours);
            let place = format!("{}: etcdctl {}", scenario.name, call.line);
            match (theirs == ours, &call.reason) {
                (true, None) => {}
                (false, Some(reason)) => writeln!(explained, "{place}\n    {reason}")?,
                (true, Some(reason)) => writeln!(wrong, "{place}\n    is the same, against: {reason}")?,
                (false, None) => writeln!(wrong, "{place}\n    theirs {theirs:?}\n    ours   {ours:?}")?,
            }
        }
    }
    println!("{explained}{wrong}etcdctl: {equal} of {all}");
    ensure!(all >= LEAST, "only {all} commands");
    ensure!(wrong.is_empty(), "not explained:\n{wrong}");
    Ok(())
}
