//! A whole run: record, sweep, boot, mutate, and one line at the end.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use boot::trust::{ConfiguredKey, Trust};
use builder::signing::PublicKey;
use slots::{Text, TrustedKey};

use super::boots;
use super::enumerate::{Limits, Random};
use super::history::History;
use super::mutants;
use super::phases::{Recording, Scenario, record};
use super::run::{Depth, Report, Subject, sweep};
use super::sectors::{BaseFile, SECTOR_BYTES};
use super::standin::StandIns;
use crate::Image;

/// A sweep says how far it is no more often than this.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// How much a run does.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What is recorded.
    pub scenario: Scenario,
    /// What is enumerated.
    pub depth: Depth,
    /// States that are booted.
    pub boots: usize,
    /// States of the first boot whose recovery is recorded in the emulator and swept in turn.
    pub recoveries: usize,
    /// For everything that is chosen at random.
    pub seed: u64,
}

impl Plan {
    /// The whole run.
    pub const fn full(seed: u64) -> Self {
        let second = Limits { exhaustive: 6, random: 20, tears: 6, with: 2, pairs: 2, seed };
        Self {
            scenario: Scenario { files: 6, more_boots: 3, updates: 7 },
            depth: Depth {
                tables: Limits { exhaustive: 10, random: 200, tears: 40, with: 4, pairs: 3, seed },
                state: Limits { exhaustive: 6, random: 20, tears: 1, with: 1, pairs: 0, seed },
                state_share: 2,
                second: Some(second),
                from: 0,
                until_fault: false,
            },
            boots: 60,
            recoveries: 3,
            seed,
        }
    }

    /// The part that every test run does.
    pub const fn bounded(seed: u64) -> Self {
        let second = Limits { exhaustive: 4, random: 2, tears: 2, with: 1, pairs: 0, seed };
        Self {
            scenario: Scenario { files: 2, more_boots: 0, updates: 1 },
            depth: Depth {
                tables: Limits { exhaustive: 6, random: 10, tears: 6, with: 2, pairs: 2, seed },
                state: Limits { exhaustive: 1, random: 2, tears: 0, with: 1, pairs: 0, seed },
                state_share: 2,
                second: Some(second),
                from: 0,
                until_fault: false,
            },
            boots: 8,
            recoveries: 0,
            seed,
        }
    }
}

/// The figures of a run; `Display` is its last line (SAFETY 30).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Distinct states.
    pub states: usize,
    /// States in which nothing boots.
    pub unbootable: usize,
    /// States in which a promise is broken.
    pub durability_lost: usize,
    /// Distinct states of a second cut.
    pub depth2: usize,
    /// States that were booted in the emulator.
    pub booted: usize,
    /// Mutants.
    pub mutants: usize,
    /// Those that were caught.
    pub caught: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sweep: states={} unbootable={} durability_lost={} depth2={} booted={} mutants={} caught={}",
            self.states,
            self.unbootable,
            self.durability_lost,
            self.depth2,
            self.booted,
            self.mutants,
            self.caught
        )
    }
}

impl Summary {
    /// Whether all is as it must be.
    pub const fn holds(&self) -> bool {
        self.unbootable == 0 && self.durability_lost == 0 && self.mutants == self.caught
    }

    fn add(&mut self, report: &Report) {
        self.unbootable += report.unbootable;
        self.durability_lost += report.durability_lost;
    }
}

/// Whom the loader of an image of the tests trusts.
///
/// # Errors
/// There is no development key, or the image cannot be looked at.
pub fn trust_of(image: &Image) -> Result<Trust> {
    let product = Text::new(image.recipe.name.as_str()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let key = TrustedKey(PublicKey::development()?.to_bytes());
    let bytes = std::fs::metadata(&image.raw)?.len();
    Trust::new(product, bytes, &[ConfiguredKey { key, development: true }])
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// Runs `plan` with the smallest image, working in `folder`; `say` hears how it goes.
///
/// # Errors
/// Something does not work; what does not hold is in the figures, and in what was said.
pub fn run(plan: &Plan, image: &Image, folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Summary> {
    let begun = Instant::now();
    let mut tell = |text: String| say(&format!("[{:>5.0} s] {text}", begun.elapsed().as_secs_f64()));
    let mut summary = Summary::default();
    let found = mutants::on_bench(folder)?;
    count_mutants(&found, &mut summary, &mut tell);
    tell(format!("{} mutants of the small disk, {} caught", summary.mutants, summary.caught));

    let trust = trust_of(image)?;
    let recording = record(image, &trust, folder, plan.scenario)?;
    let (writes, flushes, bytes) = recording.log.figures();
    tell(format!("recorded {writes} writes of {} MiB and {flushes} flushes", bytes >> 20));
    let base = BaseFile::new(File::open(&recording.image.raw)?, recording.size)?;
    let stand_ins = StandIns::new(trust, slot_bytes(&recording, &base, &trust)?, folder);
    let subject = Subject {
        base: &base,
        log: &recording.log,
        image_bytes: trust.image_bytes,
        trust: &trust,
        stand_ins: &stand_ins,
        earlier: &[],
        folder: Some(folder),
    };
    let mut told = Instant::now();
    let report = sweep(&subject, plan.depth, &mut |report| {
        if told.elapsed() >= BETWEEN_LINES {
            told = Instant::now();
            tell(format!("{} windows, {} states so far", report.windows, report.states));
        }
    })?;
    say_report(&report, &mut tell);
    summary.states = report.states;
    summary.depth2 = report.second;
    summary.add(&report);

    let found = mutants::on_machine(&subject, plan.seed)?;
    count_mutants(&found, &mut summary, &mut tell);
    recover(plan, &subject, &recording, &report, folder, &mut summary, &mut tell)?;

    let samples = boots::choose(&report.samples, plan.boots, plan.seed);
    let mut said = |booted: usize| tell(format!("{booted} states booted"));
    let booted = boots::boot_samples(&subject, &recording.image.raw, &samples, folder, &mut said)?;
    summary.booted = booted.good;
    summary.unbootable += booted.bad.len();
    booted.bad.iter().for_each(|bad| tell(format!("BOOT FAILED: {bad}")));
    Ok(summary)
}

/// Records how the machine itself recovers from cuts of its first boot, and cuts that.
fn recover(
    plan: &Plan,
    subject: &Subject<'_>,
    recording: &Recording,
    report: &Report,
    folder: &Path,
    summary: &mut Summary,
    tell: &mut dyn FnMut(String),
) -> Result<()> {
    let history = History::read(subject.base, subject.log, subject.image_bytes / SECTOR_BYTES - 1)?;
    let named = history.versions.iter().find(|version| version.table.find_name("STATE").is_some());
    let ready = named.context("no STATE in the history")?.begun;
    let early: Vec<_> = report.samples.iter().filter(|sample| sample.cut <= ready + 2).cloned().collect();
    let mut random = Random(plan.seed);
    for sample in boots::choose(&early, plan.recoveries, random.next()) {
        let depth = Depth { second: None, ..plan.depth };
        let found = boots::record_recovery(subject, &recording.image.raw, &sample, folder, depth)?;
        tell(format!("recovery of window {}: {} states", sample.window, found.states));
        say_report(&found, tell);
        summary.depth2 += found.states;
        summary.add(&found);
    }
    Ok(())
}

fn slot_bytes(recording: &Recording, base: &BaseFile, trust: &Trust) -> Result<u64> {
    let history = History::read(base, &recording.log, trust.image_bytes / SECTOR_BYTES - 1)?;
    let lengths: Vec<_> = history
        .areas
        .slots
        .iter()
        .map(|slot| (slot.sectors.end - slot.sectors.start) * SECTOR_BYTES)
        .collect();
    match lengths.as_slice() {
        [a, b] if a == b => Ok(*a),
        other => bail!("two slots of the same size are expected, not {other:?}"),
    }
}

fn count_mutants(found: &[mutants::Mutant], summary: &mut Summary, tell: &mut dyn FnMut(String)) {
    for mutant in found {
        summary.mutants += 1;
        match &mutant.caught {
            Some(fault) => {
                summary.caught += 1;
                tell(format!("mutant caught: {}: {fault}", mutant.name));
            }
            None => tell(format!("MUTANT NOT CAUGHT: {}", mutant.name)),
        }
    }
}

fn say_report(report: &Report, tell: &mut dyn FnMut(String)) {
    tell(format!(
        "{} windows, {} choices, {} distinct states ({} needed a repair of STATE), {} of a second cut",
        report.windows, report.choices, report.states, report.repaired, report.second
    ));
    for found in &report.faults {
        tell(format!("FAULT in {found}"));
    }
}
