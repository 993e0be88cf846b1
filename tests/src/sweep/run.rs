//! The sweep over one log: window by window, every choice a state, every state judged.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use boot::trust::Trust;
use rayon::prelude::*;
use slots::Table;

use super::enumerate::{Choice, Limits, Random, choices};
use super::ext4::{Checker, StateFile};
use super::history::{Areas, History};
use super::judge::{Fault, Judge, patches, shape, state_outcome};
use super::machine::{Variables, power_on};
use super::model::Behaviour;
use super::record::{Event, Log, Mark, Write};
use super::sectors::{Patch, Patched, SECTOR, SECTOR_BYTES, Sectors, sector_hash};
use super::standin::StandIns;

/// Choices that are judged before the next are made, and the same where the first fault ends it.
const BATCH: usize = 512;
const SMALL_BATCH: usize = 16;
/// Faults that are kept with their words.
const KEPT_FAULTS: usize = 40;

/// How thorough a sweep is.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// Windows that touch the partition tables or the slots.
    pub tables: Limits,
    /// Windows that touch STATE as well or alone.
    pub state: Limits,
    /// Of those that touch STATE and no table, one in so many.
    pub state_share: u64,
    /// The second cut; none for no second cut.
    pub second: Option<Limits>,
    /// Begins with the window that ends behind this event.
    pub from: usize,
    /// Ends at the first fault.
    pub until_fault: bool,
}

/// What is swept.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The disk at the beginning of the log.
    pub base: &'a dyn Sectors,
    /// What happened.
    pub log: &'a Log,
    /// Size of the image as built, in bytes.
    pub image_bytes: u64,
    /// Whom the loader trusts.
    pub trust: &'a Trust,
    /// Slots by class.
    pub stand_ins: &'a StandIns,
    /// Tables that were written before the log began, and may count as long as none was promised.
    pub earlier: &'a [Table],
    /// Where files are worked on; none when the disk has no STATE.
    pub folder: Option<&'a Path>,
}

impl std::fmt::Debug for dyn Sectors + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a disk of {} bytes", self.size())
    }
}

/// A state that was judged, for those who want to make it again.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The number of the window, counted from 0 in the order of the log.
    pub window: usize,
    /// What survived of the window's writes that matter.
    pub choice: Choice,
    /// PARTUUID of the slot that the model starts.
    pub slot: String,
    /// The event before which the power was cut.
    pub cut: usize,
}

/// A fault, and the state that shows it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The number of the window, as in [`Sample`].
    pub window: usize,
    /// What survived of the window's writes that matter.
    pub choice: Choice,
    /// Those writes: first byte on the disk and length.
    pub writes: Vec<(u64, u64)>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "window {}: {:?}: {:?} of writes", self.window, self.fault, self.choice)?;
        self.writes.iter().try_for_each(|(offset, length)| write!(f, " {offset:#x}+{length:#x}"))
    }
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Report {
    /// Windows with writes that matter.
    pub windows: usize,
    /// Choices that were judged.
    pub choices: usize,
    /// Distinct states.
    pub states: usize,
    /// Distinct states of the second cut.
    pub second: usize,
    /// States in which nothing boots.
    pub unbootable: usize,
    /// States in which a promise is broken.
    pub durability_lost: usize,
    /// States whose STATE was whole only after a repair of more than its journal.
    pub repaired: usize,
    /// The first faults.
    pub faults: Vec<Found>,
    /// Distinct states to make again.
    pub samples: Vec<Sample>,
}

impl Report {
    /// True when nothing is wrong.
    pub const fn is_clean(&self) -> bool {
        self.unbootable == 0 && self.durability_lost == 0
    }
}

/// Where the sweep is in the log.
struct Durable<'a> {
    layer: Patched<'a>,
    /// For each slot, a hash of its content.
    slots: Vec<u64>,
    state: u64,
    file: Option<StateFile>,
}

struct Judged {
    key: (u64, u64),
    faults: Vec<Fault>,
    repaired: bool,
    slot: String,
}

/// One window: the writes between two flushes, and what the tables may be in it.
struct Window<'w> {
    number: usize,
    /// Event of each write that matters.
    events: Vec<usize>,
    writes: Vec<&'w Write>,
    versions: Range<usize>,
    /// The event that ends it.
    end: usize,
}

struct Sweep<'a> {
    subject: &'a Subject<'a>,
    history: &'a History,
    judge: Judge<'a>,
    checker: Option<Checker>,
    depth: Depth,
    /// The rollback floor that each loader of the log leaves behind, with its event.
    floors: Vec<(usize, u64)>,
    report: Report,
    keys: HashSet<(u64, u64)>,
}

/// Sweeps a log; `window_done` sees the report grow.
///
/// # Errors
/// The base or a file cannot be read, a tool cannot be run.
pub fn sweep(subject: &Subject<'_>, depth: Depth, window_done: &mut dyn FnMut(&Report)) -> Result<Report> {
    let old_end = subject.image_bytes / SECTOR_BYTES - 1;
    let history = History::read(subject.base, subject.log, old_end)?;
    let checker = match (subject.folder, &history.areas.state) {
        (Some(folder), Some(_)) => Some(Checker::new(folder, history.files())?),
        _ => None,
    };
    let judge =
        Judge::new(subject.trust, old_end, &history, subject.earlier, subject.stand_ins, depth.second);
    let mut sweep = Sweep {
        subject,
        history: &history,
        judge,
        checker,
        depth,
        floors: floors(subject)?,
        report: Report::default(),
        keys: HashSet::new(),
    };
    for words in history.forbidden(subject.base, subject.log)? {
        sweep.report.unbootable += 1;
        let nothing = Choice { kept: Vec::new(), torn: Vec::new() };
        let fault = Fault::Unbootable(words);
        sweep.report.faults.push(Found { window: 0, choice: nothing, writes: Vec::new(), fault });
    }
    sweep.run(window_done)?;
    Ok(sweep.report)
}

/// Runs the loader wherever the log says that one ran, for the rollback floor that it keeps.
fn floors(subject: &Subject<'_>) -> Result<Vec<(usize, u64)>> {
    let mut now = Patched::over(subject.base);
    let mut floors = Vec::new();
    let mut floor = 0;
    if !subject.log.events.iter().any(|event| matches!(event, Event::Mark(Mark::Loader))) {
        return Ok(floors);
    }
    for (at, event) in subject.log.events.iter().enumerate() {
        match event {
            Event::Write(write) => now.write(write.offset, &write.content),
            Event::Mark(Mark::Loader) => {
                let variables = Variables::Floor(floor);
                floor = power_on(&now, subject.trust, Behaviour::default(), variables)?.floor;
                floors.push((at, floor));
            }
            Event::Flush | Event::Mark(_) => {}
        }
    }
    Ok(floors)
}

/// Calls `visit` for each window with the disk as it is for certain before it; ends early when that says so.
fn walk<'a>(
    subject: &Subject<'a>,
    history: &History,
    file: Option<StateFile>,
    mut visit: impl FnMut(&Window<'_>, &Durable<'_>) -> Result<bool>,
) -> Result<()> {
    let areas = &history.areas;
    let mut durable =
        Durable { layer: Patched::over(subject.base), slots: vec![0; areas.slots.len()], state: 0, file };
    let mut begin = 0;
    let mut number = 0;
    let events = &subject.log.events;
    for end in 0..=events.len() {
        let ends = match events.get(end) {
            None | Some(Event::Flush | Event::Mark(Mark::PowerOn)) => true,
            Some(Event::Write(_) | Event::Mark(_)) => false,
        };
        if !ends {
            continue;
        }
        let all: Vec<(usize, &Write)> = (begin..end)
            .filter_map(|at| match events.get(at) {
                Some(Event::Write(write)) => Some((at, write)),
                _ => None,
            })
            .collect();
        let versions = history.version_before(begin)..history.version_before(end) + 1;
        let (events, writes) =
            all.iter().filter(|(_, write)| matters(history, &versions, write)).copied().unzip();
        let window = Window { number, events, writes, versions, end };
        if !window.writes.is_empty() && !visit(&window, &durable)? {
            return Ok(());
        }
        durable.fold(areas, &all)?;
        number += 1;
        begin = end;
    }
    Ok(())
}

/// Whether anybody could read what a write wrote, whichever of these tables counts.
fn matters(history: &History, versions: &Range<usize>, write: &Write) -> bool {
    let areas = &history.areas;
    let mut tables =
        history.versions.get(versions.clone()).unwrap_or_default().iter().map(|version| &version.table);
    areas.touches_tables(write)
        || areas.slots.iter().any(|slot| {
            Areas::touches_slot(slot, write)
                && tables
                    .clone()
                    .any(|table| table.entry(slot.index).is_some_and(|entry| entry.flags().priority() > 0))
        })
        || areas.touches_state(write) && tables.any(|table| table.find_name("STATE").is_some())
}

/// How the hash of a region changes when sectors are replaced.
fn hash_change<'p>(
    below: &dyn Sectors,
    region: &Range<u64>,
    patches: impl Iterator<Item = (u64, &'p Patch)>,
) -> Result<u64> {
    let (mut change, mut old, mut new) = (0, [0; SECTOR], [0; SECTOR]);
    for (sector, patch) in patches.filter(|(sector, _)| region.contains(sector)) {
        below.read(sector * SECTOR_BYTES, &mut old)?;
        patch.read(&mut new)?;
        if old != new {
            change ^= sector_hash(sector, &old) ^ sector_hash(sector, &new);
        }
    }
    Ok(change)
}

impl Durable<'_> {
    fn fold(&mut self, areas: &Areas, writes: &[(usize, &Write)]) -> Result<()> {
        for (_, write) in writes {
            let mut one = Patched::over(&self.layer);
            one.write(write.offset, &write.content);
            let changed = || one.patches().iter().map(|(sector, patch)| (*sector, patch));
            for (slot, hash) in areas.slots.iter().zip(&mut self.slots) {
                if Areas::touches_slot(slot, write) {
                    *hash ^= hash_change(&self.layer, &slot.sectors, changed())?;
                }
            }
            if let Some(state) = &areas.state
                && areas.touches_state(write)
            {
                self.state ^= hash_change(&self.layer, state, changed())?;
                if let Some(file) = &self.file {
                    file.apply(changed())?;
                }
            }
            self.layer.write(write.offset, &write.content);
        }
        Ok(())
    }
}

impl Sweep<'_> {
    fn run(&mut self, window_done: &mut dyn FnMut(&Report)) -> Result<()> {
        let file = match (self.subject.folder, &self.history.areas.state) {
            (Some(folder), Some(state)) => {
                Some(StateFile::new(folder.join("state"), state.clone(), self.subject.base)?)
            }
            _ => None,
        };
        let (subject, history) = (self.subject, self.history);
        walk(subject, history, file, |window, durable| {
            let goes_on = self.window(window, durable)?;
            self.report.states = self.keys.len();
            self.report.second = self.judge.second_states();
            window_done(&self.report);
            Ok(goes_on)
        })
    }

    fn window(&mut self, window: &Window<'_>, durable: &Durable<'_>) -> Result<bool> {
        if window.end <= self.depth.from {
            return Ok(true);
        }
        let areas = &self.history.areas;
        let state_alone = !window.writes.iter().any(|write| areas.touches_tables(write));
        let mut random = Random(self.depth.state.seed ^ window.number as u64);
        if state_alone && random.below(self.depth.state_share) != 0 {
            return Ok(true);
        }
        self.report.windows += 1;
        let shapes: Vec<_> = window.writes.iter().map(|write| shape(write)).collect();
        let touches_state = window.writes.iter().any(|write| self.history.areas.touches_state(write));
        let limits = if touches_state { self.depth.state } else { self.depth.tables };
        let limits = Limits { seed: limits.seed ^ window.number as u64, ..limits };
        let all = choices(&shapes, &limits);
        let batch = if self.depth.until_fault { SMALL_BATCH } else { BATCH };
        for batch in all.chunks(batch) {
            let judged: Vec<Judged> =
                batch.par_iter().map(|choice| self.judge(window, durable, choice)).collect::<Result<_>>()?;
            for (choice, judged) in batch.iter().zip(judged) {
                self.note(window, choice, judged);
            }
            if self.depth.until_fault && !self.report.is_clean() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn note(&mut self, window: &Window<'_>, choice: &Choice, judged: Judged) {
        let report = &mut self.report;
        report.choices += 1;
        let new = self.keys.insert(judged.key);
        if new {
            report.repaired += usize::from(judged.repaired);
            let cut = cut_of(window, choice);
            let slot = judged.slot;
            report.samples.push(Sample { window: window.number, choice: choice.clone(), slot, cut });
        }
        if judged.faults.iter().any(|fault| matches!(fault, Fault::Unbootable(_))) {
            report.unbootable += 1;
        }
        if judged.faults.iter().any(|fault| matches!(fault, Fault::DurabilityLost(_))) {
            report.durability_lost += 1;
        }
        for fault in judged.faults {
            if report.faults.len() < KEPT_FAULTS {
                let writes = window.writes.iter().map(|write| (write.offset, write.content.len())).collect();
                report.faults.push(Found { window: window.number, choice: choice.clone(), writes, fault });
            }
        }
    }

    fn judge(&self, window: &Window<'_>, durable: &Durable<'_>, choice: &Choice) -> Result<Judged> {
        let areas = &self.history.areas;
        let mut state = Patched::over(&durable.layer);
        for (sector, patch) in patches(&window.writes, choice) {
            state.put(sector, patch);
        }
        let changed = || state.patches().iter().map(|(sector, patch)| (*sector, patch));
        let mut slots = durable.slots.clone();
        for (slot, hash) in areas.slots.iter().zip(&mut slots) {
            *hash ^= hash_change(&durable.layer, &slot.sectors, changed())?;
        }
        // Two slots with the same history are still two.
        let slot_hash = |place: usize| {
            slots.get(place).copied().unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place as u64
        };
        let front = self.judge.front(&state, slot_hash)?;
        let cut = cut_of(window, choice);
        let promised = self.history.promised_version(cut);
        let floor = self.floors.iter().rfind(|(at, _)| *at < cut).map_or(0, |(_, floor)| *floor);
        let verdict = self.judge.verdict(&front, promised, floor)?;
        let mut faults = verdict.faults.clone();
        let mut key = (front.key, 0);
        let mut repaired = false;
        if let Some(table) = &front.table {
            faults.extend(self.version_is_due(table, window, promised));
            if let (true, Some(checker), Some(file), Some(region)) =
                (table.find_name("STATE").is_some(), &self.checker, &durable.file, &areas.state)
            {
                let bytes = durable.state ^ hash_change(&durable.layer, region, changed())?;
                let outcome =
                    state_outcome(&self.judge, bytes, |known| checker.check(file, state.patches(), known))?;
                key.1 = outcome.content ^ outcome.check.map_or(u64::MAX, |check| check as u64) | 1;
                repaired = outcome.check != Some(0);
                if outcome.check.is_none() {
                    faults.push(Fault::DurabilityLost(
                        "STATE does not mount and cannot be repaired".to_owned(),
                    ));
                }
                for (path, _) in self.history.promised_files(cut) {
                    let there = checker.index_of(path).and_then(|index| outcome.holds.get(index));
                    if there != Some(&true) {
                        faults.push(Fault::DurabilityLost(format!("{path} was synced and is gone")));
                    }
                }
            }
        }
        let slot = verdict.started.as_ref().map(|started| started.slot.clone()).unwrap_or_default();
        Ok(Judged { key, faults, repaired, slot })
    }

    /// The table is one of those that were written, and not older than what was promised.
    fn version_is_due(&self, table: &Table, window: &Window<'_>, promised: usize) -> Option<Fault> {
        let versions = self.history.versions.get(..window.versions.end).unwrap_or_default();
        match versions.iter().rposition(|version| version.table.same_content(table)) {
            None if promised == 0
                && self.subject.earlier.iter().any(|earlier| earlier.same_content(table)) =>
            {
                None
            }
            None => Some(Fault::DurabilityLost("a table that nobody wrote".to_owned())),
            Some(version) if version < promised => Some(Fault::DurabilityLost(format!(
                "table {version} counts, and table {promised} was promised"
            ))),
            Some(_) => None,
        }
    }
}

/// The event before which the power was cut: when the last torn write was under way, if nothing behind it is on the disk, else just before
/// the flush was done.
fn cut_of(window: &Window<'_>, choice: &Choice) -> usize {
    let last = choice.torn.last().map(|(torn, _)| *torn);
    let latest = last.filter(|torn| choice.kept.last().is_none_or(|kept| kept < torn));
    latest.and_then(|torn| window.events.get(torn)).copied().unwrap_or(window.end)
}

/// Makes the states of samples again, one after the other in the order of the log, and hands each over as a layer over the base.
///
/// # Errors
/// As [`sweep`], and what `take` fails with.
pub fn remake(
    subject: &Subject<'_>,
    samples: &[Sample],
    mut take: impl FnMut(&Sample, &Patched<'_>) -> Result<()>,
) -> Result<()> {
    let history = History::read(subject.base, subject.log, subject.image_bytes / SECTOR_BYTES - 1)?;
    walk(subject, &history, None, |window, durable| {
        for sample in samples.iter().filter(|sample| sample.window == window.number) {
            let mut state = Patched::over(&durable.layer);
            for (sector, patch) in patches(&window.writes, &sample.choice) {
                state.put(sector, patch);
            }
            take(sample, &state)?;
        }
        Ok(true)
    })
}
