//! The judge (SAFETY 27): what a state does at power-on, and whether that is what was promised.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use boot::trust::Trust;
use slots::{BootOrder, Loaded, Table};

use super::enumerate::{Choice, Left, Limits, choices};
use super::ext4::Outcome;
use super::history::{Areas, History, Version, table_of};
use super::machine::{PoweredOn, Started, Variables, power_on};
use super::model::{Behaviour, ModelDisk, Op};
use super::readers::{self, Seen};
use super::record::Write;
use super::sectors::{Content, Patch, Patched, SECTOR_BYTES, Sectors, bytes_hash, read_vec};
use super::standin::{Class, StandIns};

/// Circumstances of a fault.
const SECOND: &str = "after a second cut";

/// What is wrong with a state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing boots, or what boots is damaged.
    Unbootable(String),
    /// Something that was promised is gone.
    DurabilityLost(String),
}

impl Fault {
    /// The same with the circumstances in front.
    fn after(self, circumstances: &str) -> Self {
        match self {
            Self::Unbootable(words) => Self::Unbootable(format!("{circumstances}: {words}")),
            Self::DurabilityLost(words) => Self::DurabilityLost(format!("{circumstances}: {words}")),
        }
    }
}

/// What a power-on of a state with this table and these slots comes to.
#[derive(Debug)]
pub struct Verdict {
    /// What was started.
    pub started: Option<Started>,
    /// What is wrong, after a second cut too.
    pub faults: Vec<Fault>,
}

/// Everything that does not change from state to state.
#[derive(Debug)]
pub struct Judge<'a> {
    /// Whom the loader trusts.
    pub trust: &'a Trust,
    /// The last block of the image as built.
    pub old_end: u64,
    /// Where everything is.
    pub areas: &'a Areas,
    /// Every table that was written.
    pub versions: &'a [Version],
    /// Tables that were written before the log began.
    pub earlier: &'a [Table],
    /// Slots by class.
    pub stand_ins: &'a StandIns,
    /// How much is tried of the second cut; none for no second cut.
    pub second: Option<Limits>,
    verdicts: Mutex<HashMap<u64, Arc<Verdict>>>,
    second_keys: Mutex<HashSet<u64>>,
    /// Results of checks of STATE, by what the partition holds.
    pub by_bytes: Mutex<HashMap<u64, Outcome>>,
    /// The same by what can be read of it.
    pub by_content: Mutex<HashMap<u64, Outcome>>,
}

/// Takes a lock; what another thread left behind is whole, since values are only added.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A state of the table and the slots, as firmware and loader will read it.
#[derive(Debug)]
pub struct Front<'a> {
    /// The table that counts.
    pub table: Option<Table>,
    /// The state with verified slots replaced by small ones.
    pub shown: Patched<'a>,
    /// For each slot with a priority, what it is.
    pub classes: Vec<(usize, Class)>,
    /// A hash of all that will be read.
    pub key: u64,
}

impl<'a> Judge<'a> {
    /// A judge that has seen nothing.
    pub fn new(
        trust: &'a Trust,
        old_end: u64,
        history: &'a History,
        earlier: &'a [Table],
        stand_ins: &'a StandIns,
        second: Option<Limits>,
    ) -> Self {
        Self {
            trust,
            old_end,
            areas: &history.areas,
            versions: &history.versions,
            earlier,
            stand_ins,
            second,
            verdicts: Mutex::default(),
            second_keys: Mutex::default(),
            by_bytes: Mutex::default(),
            by_content: Mutex::default(),
        }
    }

    /// How many distinct states the second cut has had so far.
    pub fn second_states(&self) -> usize {
        lock(&self.second_keys).len()
    }

    /// Looks at table and slots of a state. `slot_hash` tells the hash of a slot's content, by its place in `areas.slots`.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn front<'s>(&self, state: &'s dyn Sectors, slot_hash: impl Fn(usize) -> u64) -> Result<Front<'s>> {
        let table = table_of(state, self.old_end);
        let mut shown = Patched::over(state);
        let mut classes = Vec::new();
        let mut key = self.table_hash(state)?;
        for (place, slot) in self.areas.slots.iter().enumerate() {
            let flags = table.as_ref().and_then(|table| table.entry(slot.index)).map(|entry| entry.flags());
            if flags.is_none_or(|flags| flags.priority() == 0) {
                continue;
            }
            let class = self.stand_ins.class(state, &slot.sectors, slot_hash(place))?;
            if class.accepted && class.verified {
                self.stand_ins.cover(&mut shown, &slot.sectors, class.rollback_index)?;
            }
            key = bytes_hash(format!("{key} {place} {class:?}").as_bytes());
            if !class.accepted {
                // The loader says why, and reads the footer for it.
                let footer = read_vec(state, (slot.sectors.end - 8) * SECTOR_BYTES, 4096)?;
                key ^= bytes_hash(&footer);
            }
            classes.push((slot.index, class));
        }
        Ok(Front { table, shown, classes, key })
    }

    fn table_hash(&self, state: &dyn Sectors) -> Result<u64> {
        let mut all = Vec::new();
        for range in &self.areas.tables {
            let length = usize::try_from((range.end - range.start) * SECTOR_BYTES)?;
            all.extend(read_vec(state, range.start * SECTOR_BYTES, length)?);
        }
        Ok(bytes_hash(&all))
    }

    /// Judges table and slots, of which table number `promised` or a newer one must count, when the firmware keeps the rollback
    /// floor `floor`; the same ones only once.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn verdict(&self, front: &Front<'_>, promised: usize, floor: u64) -> Result<Arc<Verdict>> {
        let key = bytes_hash(format!("{} {promised} {floor}", front.key).as_bytes());
        if let Some(known) = lock(&self.verdicts).get(&key) {
            return Ok(Arc::clone(known));
        }
        let verdict = Arc::new(self.look(front, promised, floor)?);
        lock(&self.verdicts).insert(key, Arc::clone(&verdict));
        Ok(verdict)
    }

    fn look(&self, front: &Front<'_>, promised: usize, floor: u64) -> Result<Verdict> {
        let power = power_on(&front.shown, self.trust, Behaviour::default(), Variables::Floor(floor))?;
        let mut faults = Vec::new();
        let after = table_of(&power.disk, self.old_end);
        faults.extend(started_what_was_due(front.table.as_ref(), &front.classes, &power));
        faults.extend(readers_agree(&power.disk, after.as_ref())?.map(Fault::Unbootable));
        if let (Some(before), Some(after), Some(started)) = (&front.table, &after, &power.started) {
            faults.extend(try_was_taken(before, after, started));
        }
        if let (Some(table), None) = (&front.table, faults.first()) {
            faults.extend(self.with_write_errors(front, table)?);
            faults.extend(self.with_lost_variables(front, floor)?);
        }
        if let (Some(limits), Some(after), None) = (&self.second, &after, faults.first()) {
            // Not older than promised, or what the loader has made of it.
            let mut due: Vec<&Table> = vec![after];
            due.extend(
                self.versions.get(promised..).unwrap_or_default().iter().map(|version| &version.table),
            );
            due.extend(self.earlier.iter().filter(|_| promised == 0));
            // A disk whose flushes do nothing may cost a promise, never a boot (SAFETY 10); and with one write torn, not with two.
            // From a whole table only: where an earlier cut has cost one copy, such a firmware can cost the other.
            let lying = Limits { pairs: 0, ..*limits };
            let whole = is_whole(&front.shown);
            let axes = [(Some(due.as_slice()), limits), (None, &lying)];
            for (due, limits) in axes.into_iter().take(if whole { 2 } else { 1 }) {
                faults.extend(self.second_cut(front, &power, due, limits)?);
            }
        }
        Ok(Verdict { started: power.started, faults })
    }

    /// A disk that takes no writes at all: a good slot starts all the same, one on trial does not (SAFETY 9). With a bad primary on top
    /// of that, EDK2 cannot even show the system partition.
    fn with_write_errors(&self, front: &Front<'_>, table: &Table) -> Result<Option<Fault>> {
        let behaviour = Behaviour { refuses_writes: true, ..Behaviour::default() };
        if readers::linux_primary(&front.shown)?.is_none() {
            return Ok(None);
        }
        let power = power_on(&front.shown, self.trust, behaviour, Variables::Floor(0))?;
        let good = |index: &usize| table.entry(*index).is_some_and(|entry| entry.flags().successful());
        let any_good = front.classes.iter().any(|(index, class)| class.verified && good(index));
        Ok(match &power.started {
            None => {
                Some(Fault::Unbootable(format!("a disk that takes no writes: {}", power.lines.join("; "))))
            }
            Some(started) if started.trial && any_good => {
                Some(Fault::Unbootable("a slot on trial was started without taking its try".to_owned()))
            }
            Some(_) => None,
        })
    }

    /// The firmware's variables were lost, or can be neither read nor written: no floor, the same slot (SAFETY 12).
    fn with_lost_variables(&self, front: &Front<'_>, floor: u64) -> Result<Option<Fault>> {
        let lost = (floor > 0).then_some(Variables::Floor(0));
        for variables in [Variables::Broken].into_iter().chain(lost) {
            let power = power_on(&front.shown, self.trust, Behaviour::default(), variables)?;
            let fault = started_what_was_due(front.table.as_ref(), &front.classes, &power);
            if let Some(fault) = fault {
                return Ok(Some(fault.after("with lost variables")));
            }
        }
        Ok(None)
    }

    /// The power fails again while firmware and loader recover (SAFETY 28), with flushes that work, and then a table of `due` must count,
    /// or with flushes that do nothing (SAFETY 10).
    fn second_cut(
        &self,
        front: &Front<'_>,
        first: &PoweredOn<'_>,
        due: Option<&[&Table]>,
        limits: &Limits,
    ) -> Result<Vec<Fault>> {
        let mut durable = front.shown.clone();
        let mut window: Vec<&Write> = Vec::new();
        let mut faults = Vec::new();
        for op in first.ops.iter().map(Some).chain([None]) {
            match op {
                Some(Op::Write(write)) => window.push(write),
                Some(Op::Flush) if due.is_none() => {}
                Some(Op::Flush) | None => {
                    let variables = Variables::Floor(first.floor);
                    faults.extend(self.second_window(front, &durable, &window, due, limits, variables)?);
                    for write in window.drain(..) {
                        durable.write(write.offset, &write.content);
                    }
                }
            }
        }
        Ok(faults)
    }

    fn second_window(
        &self,
        front: &Front<'_>,
        durable: &Patched<'_>,
        window: &[&Write],
        due: Option<&[&Table]>,
        limits: &Limits,
        variables: Variables,
    ) -> Result<Option<Fault>> {
        let shapes: Vec<_> = window.iter().map(|write| shape(write)).collect();
        for choice in choices(&shapes, limits) {
            let mut state = Patched::over(durable);
            for (sector, patch) in patches(window, &choice) {
                state.put(sector, patch);
            }
            let table = table_of(&state, self.old_end);
            let is = |due: &[&Table]| {
                table.as_ref().is_some_and(|table| due.iter().any(|one| one.same_content(table)))
            };
            if due.is_some_and(|due| !is(due)) {
                let words = "a table that is older than promised, or nobody's";
                return Ok(Some(Fault::DurabilityLost(words.to_owned()).after(SECOND)));
            }
            let key = format!("{} {:?} {variables:?}", self.table_hash(&state)?, front.classes);
            let key = bytes_hash(key.as_bytes());
            if !lock(&self.second_keys).insert(key) {
                continue;
            }
            let power = power_on(&state, self.trust, Behaviour::default(), variables)?;
            let fault = started_what_was_due(table.as_ref(), &front.classes, &power);
            if let Some(fault) = fault {
                return Ok(Some(fault.after(SECOND)));
            }
        }
        Ok(None)
    }
}

fn is_whole(disk: &dyn Sectors) -> bool {
    Loaded::read(&mut ModelDisk::over(disk, Behaviour::default()), None).is_whole()
}

/// First sector and number of sectors.
pub fn shape(write: &Write) -> (u64, u64) {
    (write.offset / SECTOR_BYTES, write.content.len() / SECTOR_BYTES)
}

/// The sectors that a choice leaves on the disk.
pub fn patches(window: &[&Write], choice: &Choice) -> Vec<(u64, Patch)> {
    let mut all = Vec::new();
    let mut put = |write: &Write, left: &dyn Fn(u64, u64) -> Left| {
        let (first, count) = shape(write);
        for index in 0..count {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            match left(first, index) {
                Left::Old => {}
                // The protective MBR has no second copy for firmware to turn to: a disk that destroys it while the same bytes are written
                // again makes every change of a table unsafe (`docs/sweep.md`, "Left out").
                Left::Garbage | Left::Zeroes if first + index == 0 => {}
                Left::New => all.push((first + index, Patch::Of(write.content.clone(), number))),
                Left::Garbage => all.push((first + index, Patch::Garbage(0xb1))),
                Left::Zeroes => all.push((first + index, Patch::Of(Content::Zeroes(SECTOR_BYTES), 0))),
            }
        }
    };
    for kept in &choice.kept {
        if let Some(write) = window.get(*kept) {
            put(write, &|_, _| Left::New);
        }
    }
    for (torn, tear) in &choice.torn {
        if let Some(write) = window.get(*torn) {
            put(write, &|first, index| tear.left(first, index));
        }
    }
    all
}

/// The slot that the table puts first was started; it and every other one that the loader would accept is whole (SAFETY 19).
fn started_what_was_due(
    table: Option<&Table>,
    classes: &[(usize, Class)],
    power: &PoweredOn<'_>,
) -> Option<Fault> {
    let Some(table) = table else { return Some(Fault::Unbootable("no valid partition table".to_owned())) };
    let lines = power.lines.join("; ");
    let Some(started) = &power.started else {
        return Some(Fault::Unbootable(format!("nothing was started: {lines}")));
    };
    if let Some((index, _)) = classes.iter().find(|(_, class)| class.accepted && !class.verified) {
        return Some(Fault::Unbootable(format!("the loader would start entry {index}, which is damaged")));
    }
    let order = BootOrder::of(table);
    let first = order.candidates().chain(order.last_resort()).next();
    let due = first.and_then(|first| table.entry(first.entry)).map(|entry| entry.unique_guid().to_string());
    (due.as_deref() != Some(started.slot.as_str()))
        .then(|| Fault::DurabilityLost(format!("the first choice was not started: {lines}")))
}

/// A slot on trial is started only after its try was taken (SAFETY 9).
fn try_was_taken(before: &Table, after: &Table, started: &Started) -> Option<Fault> {
    let find = |table: &Table| {
        table.entries().map(|(_, entry)| entry).find(|entry| entry.unique_guid().to_string() == started.slot)
    };
    let (old, new) = (find(before)?.flags(), find(after)?.flags());
    let ok = !started.trial || old.tries() == 0 || new.tries() + 1 == old.tries();
    (!ok).then(|| Fault::DurabilityLost(format!("on trial, and its try was not taken: {old}, then {new}")))
}

/// After the recovery, every reader finds the same partitions; else says who does not.
fn readers_agree(disk: &Patched<'_>, table: Option<&Table>) -> Result<Option<String>> {
    let Some(table) = table else { return Ok(None) };
    let ours: Vec<Seen> = sorted(
        table
            .entries()
            .map(|(_, entry)| Seen {
                kind: entry.type_guid().to_disk(),
                unique: entry.unique_guid().to_disk(),
                first: entry.first_block(),
                last: entry.last_block(),
                attributes: entry.flags().to_attributes(),
            })
            .collect(),
    );
    let linux = readers::linux(disk)?.map(sorted);
    if linux.as_ref() != Some(&ours) {
        return Ok(Some(format!("Linux reads {linux:?}, not {ours:?}")));
    }
    let crate_reads = readers::gpt_crate(disk).map(sorted);
    if crate_reads.as_ref() != Some(&ours) {
        return Ok(Some(format!("the gpt crate reads {crate_reads:?}, not {ours:?}")));
    }
    Ok(None)
}

fn sorted(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by_key(|one| one.first);
    seen
}

/// The bytes of a state's STATE partition, by the check that was made of them; makes it when there is none.
///
/// # Errors
/// The check cannot be made.
pub fn state_outcome(
    judge: &Judge<'_>,
    bytes_key: u64,
    check: impl FnOnce(&dyn Fn(u64) -> Option<Outcome>) -> Result<Outcome>,
) -> Result<Outcome> {
    if let Some(known) = lock(&judge.by_bytes).get(&bytes_key) {
        return Ok(known.clone());
    }
    let known = |content: u64| lock(&judge.by_content).get(&content).cloned();
    let outcome = check(&known).context("cannot check STATE")?;
    lock(&judge.by_content).entry(outcome.content).or_insert_with(|| outcome.clone());
    lock(&judge.by_bytes).insert(bytes_key, outcome.clone());
    Ok(outcome)
}
