//! `init health`: is this boot a good one? Runs before `boot-complete.target`, and so before the slot is marked good.
//!
//! What counts is local (SAFETY 15): a usable STATE, the network configured, sshd, the update engine and etcd running. A unit counts if this
//! boot is meant to start it. etcd tells that it is ready, and answers anybody, only when its cluster has a quorum, which is other
//! machines' business: a process that has run for [`STEADY`] counts as well, whatever became of those before it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::control::{Client, ClientError, Method, UnitView};
use crate::early::VOLATILE_FLAG;
use crate::early::console::{Level, say};

/// Units whose failure makes a boot bad.
pub const MEMBERS: [&str; 4] =
    ["ferrite-network.service", "ssh.service", "update-engine.service", "etcd.service"];
/// How long a process must have run to count although its unit is not up yet.
const STEADY: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// After this the boot counts as bad; PID 1's own deadline for unconfirmed boots comes first.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is to be thought of a member.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Wait,
    Bad(String),
}

/// Runs `init health`: 0 when the boot is good, 1 with a line for each reason when it is not.
pub fn run() -> ExitCode {
    if Path::new(VOLATILE_FLAG).exists() {
        complain("the state partition is not usable, /var is volatile");
        return ExitCode::FAILURE;
    }
    let begin = Instant::now();
    let mut seen = Seen::default();
    loop {
        let verdicts: Result<Vec<Verdict>, ClientError> =
            MEMBERS.iter().map(|unit| look(unit, &mut seen)).collect();
        match verdicts {
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
            Ok(verdicts) if verdicts.iter().all(|verdict| *verdict == Verdict::Good) => {
                return ExitCode::SUCCESS;
            }
            Ok(verdicts) => {
                let reasons = verdicts.iter().filter_map(|verdict| match verdict {
                    Verdict::Bad(reason) => Some(reason),
                    Verdict::Good | Verdict::Wait => None,
                });
                let reasons: Vec<&String> = reasons.collect();
                if !reasons.is_empty() || begin.elapsed() > PATIENCE {
                    reasons.iter().for_each(|reason| complain(reason));
                    return ExitCode::FAILURE;
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Says why the boot is not good: in the log, and on the console, where a machine that falls back has nothing else to show.
fn complain(reason: &str) {
    eprintln!("{reason}");
    say(Level::Error, format_args!("this boot is not healthy: {reason}"));
}

/// Since when each unit has had its main process.
#[derive(Debug, Default)]
struct Seen(BTreeMap<&'static str, (u32, Instant)>);

impl Seen {
    /// How long `process` has been the unit's main process, as far as was looked.
    fn age(&mut self, unit: &'static str, process: u32) -> Duration {
        let (known, since) = self.0.entry(unit).or_insert_with(|| (process, Instant::now()));
        if *known != process {
            (*known, *since) = (process, Instant::now());
        }
        since.elapsed()
    }
}

fn look(unit: &'static str, seen: &mut Seen) -> Result<Verdict, ClientError> {
    let answer = Client::connect()?.call(Method::Show { unit: unit.to_owned() })?;
    Ok(answer.units.first().map_or(Verdict::Good, |view| judge(view, seen.age(unit, view.main_pid))))
}

/// `age` is how long the main process has run.
fn judge(view: &UnitView, age: Duration) -> Verdict {
    match view.active.as_str() {
        "active" | "reloading" => Verdict::Good,
        "failed" => Verdict::Bad(format!("{} has failed: {} {}", view.name, view.result, view.reason)),
        "activating" if view.main_pid != 0 && age >= STEADY => Verdict::Good,
        "inactive" if view.job.is_none() => Verdict::Good, // this boot is not meant to start it
        _ => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_meant_to_run_and_does_not_makes_a_boot_bad() {
        let view = |active: &str, job: Option<&str>, main_pid: u32| UnitView {
            name: "etcd.service".to_owned(),
            active: active.to_owned(),
            job: job.map(str::to_owned),
            main_pid,
            ..UnitView::default()
        };
        let later = Duration::from_secs(30);
        assert_eq!(judge(&view("active", None, 5), Duration::ZERO), Verdict::Good);
        assert_eq!(judge(&view("inactive", None, 0), Duration::ZERO), Verdict::Good);
        assert_eq!(judge(&view("inactive", Some("start"), 0), later), Verdict::Wait);
        assert_eq!(judge(&view("activating", Some("start"), 5), Duration::ZERO), Verdict::Wait);
        assert_eq!(judge(&view("activating", Some("start"), 5), later), Verdict::Good);
        // Between two processes.
        assert_eq!(judge(&view("activating", None, 0), later), Verdict::Wait);
        assert!(matches!(judge(&view("failed", None, 0), later), Verdict::Bad(_)));
    }

    #[test]
    fn a_process_that_takes_the_place_of_another_is_young() {
        let mut seen = Seen::default();
        seen.age("etcd.service", 5);
        std::thread::sleep(Duration::from_millis(20));
        assert!(seen.age("etcd.service", 5) >= Duration::from_millis(20));
        assert!(seen.age("etcd.service", 6) < Duration::from_millis(20));
    }
}
