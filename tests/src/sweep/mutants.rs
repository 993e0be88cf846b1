//! Mutations (SAFETY 29): histories in which a flush is missing or two ordered writes are swapped. The sweep must find a fault in
//! every one; where two guards cover each other, the other one is switched off, and with it alone nothing may be wrong.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use boot::trust::{ConfiguredKey, Trust};
use builder::signing::PublicKey;
use slots::{Entry, Geometry, Guid, Loaded, PartitionName, SlotFlags, Text, TrustedKey, types};

use super::enumerate::Limits;
use super::history::History;
use super::record::{Event, Fact, Log, Mark, Recorder};
use super::run::{Depth, Report, Subject, sweep};
use super::sectors::{BaseFile, SECTOR_BYTES};
use super::standin::{StandIns, small_slot};
use super::update::{PARTS, change_flags, update};

const MIB: u64 = 1 << 20;
/// Bytes of the small image, and of the larger disk that it is on.
const IMAGE_BYTES: u64 = 6 * MIB;
const DISK_BYTES: u64 = 8 * MIB;
/// Mark of the change at the end of the history, which is not mutated.
const TAIL: &str = "tail";
const LIMITS: Limits = Limits { exhaustive: 6, random: 40, tears: 12, with: 4, pairs: 3, seed: 29 };
/// Until a fault is found; no second cut.
const UNTIL_FAULT: Depth =
    Depth { tables: LIMITS, state: LIMITS, state_share: 1, second: None, from: 0, until_fault: true };
/// For histories without a mutation.
const WITH_SECOND_CUT: Depth =
    Depth { second: Some(Limits { random: 4, tears: 4, with: 2, pairs: 2, ..LIMITS }), ..UNTIL_FAULT };

/// A mutant and what became of it.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// What was done.
    pub name: String,
    /// The fault that was found.
    pub caught: Option<String>,
}

/// A small disk without a machine: all that `slots` and the order of an update do, and nothing that needs a kernel.
#[derive(Debug)]
pub struct Bench {
    base: BaseFile,
    trust: Trust,
    stand_ins: StandIns,
    folder: PathBuf,
    usr: [PathBuf; 2],
}

impl Bench {
    /// Makes the disk in `folder`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(folder: &Path) -> Result<Self> {
        let product = Text::new("bench").map_err(|error| anyhow::anyhow!("{error}"))?;
        let key = PublicKey::development()?;
        let keys = [ConfiguredKey { key: TrustedKey(key.to_bytes()), development: true }];
        let trust = Trust::new(product, IMAGE_BYTES, &keys).map_err(|error| anyhow::anyhow!("{error}"))?;
        let stand_ins = StandIns::new(trust, MIB, folder);
        let usr = [folder.join("first.usr"), folder.join("second.usr")];
        for (path, (blocks, rollback_index)) in usr.iter().zip([(40, 1), (50, 2)]) {
            let writes = small_slot(product, MIB, blocks, rollback_index)?;
            let file = File::create(path)?;
            let (footer, parts) = writes.split_last().context("no footer")?;
            let mut end = 0;
            for (offset, content) in parts {
                let mut bytes = vec![0; usize::try_from(content.len())?];
                content.read(0, &mut bytes)?;
                file.write_all_at(&bytes, *offset)?;
                end = offset + content.len();
            }
            let mut bytes = vec![0; 4096];
            footer.1.read(0, &mut bytes)?;
            file.write_all_at(&bytes, end)?;
        }
        let image = folder.join("bench.raw");
        make_image(&image, &usr[0])?;
        let base = BaseFile::new(File::open(&image)?, DISK_BYTES)?;
        Ok(Self { base, trust, stand_ins, folder: folder.to_owned(), usr })
    }

    /// The whole history: the disk grows, a boot takes a try and is good, an update to B, its trial, an update back to A, which then
    /// holds an older release that once was good.
    ///
    /// # Errors
    /// The system's.
    pub fn history(&self) -> Result<Log> {
        let folder = tempfile::tempdir_in(&self.folder)?;
        let recorder = Recorder::serve(&self.folder.join("bench.raw"), DISK_BYTES, folder.path())?;
        recorder.mark(Mark::PowerOn);
        let mut device = recorder.device();
        let mut loaded = Loaded::read(&mut device, None);
        loaded.grow(&mut device).map_err(|error| anyhow::anyhow!("{error}"))?;
        recorder.mark(Mark::Acknowledged(Fact::Table));
        for running in ["USR-A", "USR-B"] {
            recorder.mark(Mark::Loader);
            // Two boots without a good one between, so that no two tables in a row are the same as an earlier one.
            change_flags(&recorder, running, SlotFlags::after_try)?;
            change_flags(&recorder, running, SlotFlags::after_try)?;
            change_flags(&recorder, running, SlotFlags::marked_good)?;
            update(&recorder, &self.usr[1], running, &self.trust)?;
        }
        // Something must come behind a flush for its absence to be seen.
        recorder.mark(Mark::Phase(TAIL));
        recorder.mark(Mark::Loader);
        change_flags(&recorder, "USR-A", SlotFlags::after_try)?;
        Ok(recorder.log())
    }

    /// Sweeps a history of this disk.
    ///
    /// # Errors
    /// As [`sweep`].
    pub fn sweep(&self, log: &Log, depth: Depth) -> Result<Report> {
        let subject = Subject {
            base: &self.base,
            log,
            image_bytes: IMAGE_BYTES,
            trust: &self.trust,
            stand_ins: &self.stand_ins,
            earlier: &[],
            folder: None,
        };
        sweep(&subject, depth, &mut |_| {})
    }

    fn caught(&self, log: &Log) -> Result<Option<String>> {
        Ok(first_fault(&self.sweep(log, UNTIL_FAULT)?))
    }
}

fn first_fault(report: &Report) -> Option<String> {
    report.faults.first().map(ToString::to_string)
}

fn make_image(path: &Path, usr: &Path) -> Result<()> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    file.set_len(IMAGE_BYTES)?;
    drop(file);
    let mut disk = crate::DiskFile::open(path)?;
    let mut mbr = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        mbr.get_mut(at..at + bytes.len()).unwrap_or_default().copy_from_slice(bytes);
    };
    put(450, &[0xee]);
    put(454, &1_u32.to_le_bytes());
    put(458, &u32::try_from(IMAGE_BYTES / SECTOR_BYTES - 1)?.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    slots::Device::write(&mut disk, 0, &mbr)?;
    let geometry = Geometry { block_size: 512, blocks: IMAGE_BYTES / SECTOR_BYTES };
    let mut blank = Loaded::blank(geometry, Guid::from_hash([9; 16]), 2048).context("blank")?;
    let mut table = blank.current().context("blank")?.0.clone();
    let entries = [
        ("EFI-SYSTEM", types::ESP, SlotFlags::EMPTY),
        ("USR-A", types::USR_X86_64, SlotFlags::FRESH),
        ("USR-B", types::USR_X86_64, SlotFlags::EMPTY),
        ("OEM", types::BASIC_DATA, SlotFlags::EMPTY),
    ];
    for (index, (name, kind, flags)) in entries.into_iter().enumerate() {
        let first = 2048 * (index as u64 + 1);
        let unique = Guid::from_hash([0x20 + u8::try_from(index)?; 16]);
        table
            .set_entry(index, Entry::new(kind, unique, first, first + 2047, flags, PartitionName::new(name)));
    }
    blank.commit(&mut disk, &table).map_err(|error| anyhow::anyhow!("{error}"))?;
    // The first release, as the builder puts it there.
    let image = std::fs::read(usr)?;
    let (body, footer) = image.split_at_checked(image.len() - 4096).context("no slot image")?;
    slots::Device::write(&mut disk, 2 * MIB, body)?;
    slots::Device::write(&mut disk, 3 * MIB - 4096, footer)?;
    Ok(())
}

/// The log without one of its events.
fn without(log: &Log, events: &[usize]) -> Log {
    let kept = log.events.iter().enumerate().filter(|(at, _)| !events.contains(at));
    Log { events: kept.map(|(_, event)| event.clone()).collect() }
}

fn flushes(log: &Log) -> Vec<usize> {
    let all = log.events.iter().enumerate();
    all.filter(|(_, event)| matches!(event, Event::Flush)).map(|(at, _)| at).collect()
}

/// Flushes that have something to flush, each with those that follow it without a write in between and would do in its place.
fn effective_flushes(log: &Log) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut written = false;
    for (at, event) in log.events.iter().enumerate() {
        match event {
            Event::Write(_) => written = true,
            Event::Flush if written => {
                groups.push(vec![at]);
                written = false;
            }
            Event::Flush => groups.last_mut().into_iter().for_each(|group| group.push(at)),
            Event::Mark(_) => {}
        }
    }
    groups
}

/// What stands before a flush, for its name.
fn before_flush(log: &Log, flush: usize) -> String {
    let mut writes = log.events.iter().take(flush).rev();
    let found = writes.find_map(|event| match event {
        Event::Write(write) => Some(format!("{} bytes at {}", write.content.len(), write.offset)),
        Event::Flush | Event::Mark(_) => None,
    });
    found.unwrap_or_default()
}

/// The events of an update's steps.
#[derive(Debug, Clone)]
struct Steps {
    clear_flags: Vec<Event>,
    zero_footer: Vec<Event>,
    body: Vec<Event>,
    footer: Vec<Event>,
    flip: Vec<Event>,
    /// What was before, and what comes behind.
    around: (Vec<Event>, Vec<Event>),
}

impl Steps {
    /// Those of the last update of a log.
    fn of(log: &Log) -> Result<Self> {
        let place = |part: &str| {
            let mut events = log.events.iter();
            let found =
                events.rposition(|event| matches!(event, Event::Mark(Mark::Phase(name)) if *name == part));
            found.with_context(|| format!("no {part}"))
        };
        let [begin, body, seal, flip, done] = PARTS;
        let (begin, body, seal) = (place(begin)?, place(body)?, place(seal)?);
        let (flip, done) = (place(flip)?, place(done)?);
        let part = |from: usize, to: usize| log.events.get(from..to).unwrap_or_default().to_vec();
        // A mark and a flush, the table's primary and backup, each with its flush; then the footer's zeroes with theirs and the promise.
        Ok(Self {
            clear_flags: part(begin, begin + 6),
            zero_footer: part(begin + 6, body),
            body: part(body, seal),
            footer: part(seal, flip),
            flip: part(flip, done),
            around: (part(0, begin), part(done, log.events.len())),
        })
    }

    fn log(&self, order: &[&[Event]]) -> Log {
        let (before, behind) = (self.around.0.as_slice(), self.around.1.as_slice());
        let events = [before].into_iter().chain(order.iter().copied()).chain([behind]);
        Log { events: events.flatten().cloned().collect() }
    }
}

/// All mutants of the small disk.
///
/// # Errors
/// The system's; or a history without a mutation has a fault, so that being caught would mean nothing.
pub fn on_bench(folder: &Path) -> Result<Vec<Mutant>> {
    let bench = Bench::new(folder)?;
    let right = bench.history()?;
    let steps = Steps::of(&right)?;
    let (clear, zero, body) = (&steps.clear_flags[..], &steps.zero_footer[..], &steps.body[..]);
    let (footer, flip) = (&steps.footer[..], &steps.flip[..]);
    // With the flags of the slot left as they are, only footer and order protect it.
    let unguarded = steps.log(&[zero, body, footer, flip]);
    for (name, log) in [("as it is", &right), ("without clearing flags", &unguarded)] {
        let fault = first_fault(&bench.sweep(log, WITH_SECOND_CUT)?);
        ensure!(fault.is_none(), "the history {name} has a fault of its own: {fault:?}");
    }
    let mut mutants = missing_flushes(&bench, &right, &unguarded)?;
    let orders: [(&str, &[&[Event]]); 5] = [
        ("flip before the footer", &[clear, zero, body, flip, footer]),
        ("flip before anything", &[clear, flip, zero, body, footer]),
        ("body before the flags are cleared", &[body, clear, zero, footer, flip]),
        ("footer before the body (flags not cleared)", &[zero, footer, body, flip]),
        ("body before the old footer is zeroed (flags not cleared)", &[body, zero, footer, flip]),
    ];
    for (name, order) in orders {
        mutants.push(Mutant { name: name.to_owned(), caught: bench.caught(&steps.log(order))? });
    }
    mutants.push(growth_in_wrong_order(&bench, &right)?);
    mutants.push(stale_backup(&bench, &right)?);
    Ok(mutants)
}

/// Each flush left out in turn; one that other guards cover is left out of the history in which they are off. The first update is
/// left as it is: it fills an empty slot, in which there is nothing old to be taken for new.
fn missing_flushes(bench: &Bench, right: &Log, unguarded: &Log) -> Result<Vec<Mutant>> {
    let phase = |part: &str| {
        let mut events = right.events.iter();
        events.position(|event| matches!(event, Event::Mark(Mark::Phase(name)) if *name == part)).unwrap_or(0)
    };
    let (first_update, tail) = (phase(PARTS[0])..phase(PARTS[4]), phase(TAIL));
    let groups = effective_flushes(right);
    // Of the growth, those behind the primary and behind the wiping of the old backup: as long as the new backup is there, nobody reads
    // what they protect, and without it the growth is wrong in any order.
    let covered: Vec<usize> = groups.iter().skip(1).take(2).flatten().copied().collect();
    // Behind a backup, when another flush comes before the next change of the table: that one does in its place.
    let changes_table = |flush: usize| {
        let mut behind = right.events.iter().skip(flush + 1);
        let next = behind.find(|event| matches!(event, Event::Write(_)));
        matches!(next, Some(Event::Write(write)) if write.offset == 0)
    };
    let is_backup = |flush: usize| before_flush(right, flush).starts_with("16896 ");
    let from_end = |log: &Log, group: &[usize]| log.events.len() - group.first().copied().unwrap_or(0);
    let others = effective_flushes(unguarded);
    let mut mutants = Vec::new();
    for group in groups {
        let Some(flush) = group.first().copied() else { continue };
        let replaced = is_backup(flush) && !changes_table(flush);
        if first_update.contains(&flush) || flush > tail || covered.contains(&flush) || replaced {
            continue;
        }
        let name = format!("no flush after {}", before_flush(right, flush));
        let caught = bench.caught(&without(right, &group))?;
        if caught.is_some() {
            mutants.push(Mutant { name, caught });
            continue;
        }
        // The steps behind the flags are the same in both, counted from the end.
        let place = from_end(right, &group);
        let other = others.iter().find(|other| from_end(unguarded, other) == place);
        let caught = match other {
            Some(other) => bench.caught(&without(unguarded, other))?,
            None => None,
        };
        mutants.push(Mutant { name: format!("{name} (flags not cleared)"), caught });
    }
    Ok(mutants)
}

/// The primary points to the end of the disk before there is a backup (SAFETY 5).
fn growth_in_wrong_order(bench: &Bench, right: &Log) -> Result<Mutant> {
    let writes: Vec<usize> = right
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event, Event::Write(_)))
        .map(|(at, _)| at)
        .take(2)
        .collect();
    let [backup, primary] = writes.as_slice() else { anyhow::bail!("no growth") };
    let mut log = right.clone();
    log.events.swap(*backup, *primary);
    Ok(Mutant { name: "growth: primary before the new backup".to_owned(), caught: bench.caught(&log)? })
}

/// A change of the table while the backup still holds an older one, without making them equal first (SAFETY 1). The older one is what
/// a cut before the last write of an earlier change leaves.
fn stale_backup(bench: &Bench, right: &Log) -> Result<Mutant> {
    let history = History::read(&bench.base, right, IMAGE_BYTES / SECTOR_BYTES - 1)?;
    let last = DISK_BYTES / SECTOR_BYTES - 33;
    // Of the second change, leave out the backup's write and its flush: the machine was cut there, and came up again.
    let second = history.versions.get(3).context("too few changes")?.begun;
    let is_backup =
        |event: &Event| matches!(event, Event::Write(write) if write.offset == last * SECTOR_BYTES);
    let events = right.events.iter().enumerate().skip(second);
    let at = events.clone().find(|(_, event)| is_backup(event)).map(|(at, _)| at).context("no backup")?;
    let log = without(right, &[at, at + 1]);
    Ok(Mutant {
        name: "a change while the backup is stale, without making it equal".to_owned(),
        caught: bench.caught(&log)?,
    })
}

/// Mutants of a recorded machine: STATE's commit record, and files that were synced.
///
/// # Errors
/// As [`sweep`].
pub fn on_machine(subject: &Subject<'_>, seed: u64) -> Result<Vec<Mutant>> {
    let old_end = subject.image_bytes / SECTOR_BYTES - 1;
    let history = History::read(subject.base, subject.log, old_end)?;
    let begun = |name: &str| {
        let named = history.versions.iter().find(|version| version.table.find_name(name).is_some());
        named.map(|version| version.begun).with_context(|| format!("no {name} in the history"))
    };
    let (new, ready) = (begun("STATE-NEW")?, begun("STATE")?);
    let between = |from: usize, to: usize| -> Vec<usize> {
        flushes(subject.log).into_iter().filter(|at| (from..to).contains(at)).collect()
    };
    let limits = Limits { exhaustive: 4, random: 10, tears: 2, with: 2, pairs: 0, seed };
    let mut mutants = Vec::new();
    let mut look = |name: String, mut log: Log, from: usize, to: usize| -> Result<()> {
        log.events.truncate(to);
        let mutated = Subject { log: &log, ..*subject };
        let depth =
            Depth { tables: limits, state: limits, state_share: 1, second: None, from, until_fault: true };
        mutants.push(Mutant { name, caught: first_fault(&sweep(&mutated, depth, &mut |_| {})?) });
        Ok(())
    };
    // The flushes of the change to STATE-NEW stay: two behind its first write.
    let formatting: Vec<usize> = between(new, ready).into_iter().skip(2).collect();
    let removed = formatting.len();
    look(
        "STATE is named before its file system is flushed".to_owned(),
        without(subject.log, &formatting),
        new + 1,
        ready + 4 - removed,
    )?;
    let mut previous = ready;
    for promise in &history.promises {
        if let Fact::File { path, .. } = &promise.fact
            && promise.at > ready
        {
            let gone = between(previous, promise.at);
            let name = format!("{path} without its flushes");
            look(name, without(subject.log, &gone), previous, promise.at + 1 - gone.len())?;
        }
        previous = promise.at;
    }
    Ok(mutants)
}
