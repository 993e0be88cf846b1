//! A log read as a history: which tables there were and when, what was promised, where everything is.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context as _, Result};
use slots::{Entry, Loaded, Table, types};

use super::model::{Behaviour, ModelDisk};
use super::record::{Event, Fact, Log, Mark, Write};
use super::sectors::{Patched, SECTOR_BYTES, Sectors, sectors_of};

/// Sectors of a copy of the table at the end of a disk or an image: the entries and the header.
const COPY_SECTORS: u64 = 33;

/// A table that counted once.
#[derive(Debug, Clone)]
pub struct Version {
    /// The event that brought it.
    pub begun: usize,
    /// The table.
    pub table: Table,
}

/// A promise.
#[derive(Debug, Clone)]
pub struct Promise {
    /// The event that it was given at.
    pub at: usize,
    /// What was promised.
    pub fact: Fact,
    /// The table that counted then.
    pub version: usize,
}

/// A slot of the machine.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Its entry's index.
    pub index: usize,
    /// Its entry, of which the flags do not count.
    pub entry: Entry,
    /// Where it is.
    pub sectors: Range<u64>,
}

/// Where everything is, in sectors.
#[derive(Debug, Clone)]
pub struct Areas {
    /// Protective MBR, both copies of the table, and where the image's own backup was.
    pub tables: Vec<Range<u64>>,
    /// The slots.
    pub slots: Vec<Slot>,
    /// What nobody writes: system partition and OEM.
    pub sealed: Vec<(String, Range<u64>)>,
    /// STATE, or what will be.
    pub state: Option<Range<u64>>,
}

/// What happened.
#[derive(Debug)]
pub struct History {
    /// All tables, the first one that of the image.
    pub versions: Vec<Version>,
    /// All promises, in order.
    pub promises: Vec<Promise>,
    /// Where everything is at the end.
    pub areas: Areas,
    /// The last block of the image as it was built.
    pub old_end: u64,
}

/// The table that counts on a disk.
pub fn table_of(disk: &dyn Sectors, old_end: u64) -> Option<Table> {
    let mut device = ModelDisk::over(disk, Behaviour::default());
    Loaded::read(&mut device, Some(old_end)).current().map(|(table, _)| table.clone())
}

fn touches(range: &Range<u64>, write: &Write) -> bool {
    let sectors = sectors_of(write.offset, write.content.len());
    sectors.start < range.end && range.start < sectors.end
}

impl Areas {
    fn of(table: &Table, size: u64, old_end: u64) -> Self {
        let blocks = size / SECTOR_BYTES;
        let range = |entry: &Entry| entry.first_block()..entry.last_block() + 1;
        let slots = table
            .entries()
            .filter(|(_, entry)| entry.type_guid() == types::USR_X86_64)
            .map(|(index, entry)| Slot { index, entry, sectors: range(&entry) })
            .collect();
        let sealed = table
            .entries()
            .filter(|(_, entry)| matches!(entry.type_guid(), types::ESP | types::BASIC_DATA))
            .map(|(_, entry)| (entry.name().to_string(), range(&entry)))
            .collect();
        let state =
            table.find_name("STATE").or_else(|| table.find_name("STATE-NEW")).map(|(_, entry)| range(&entry));
        let mut tables = vec![0..34, blocks - COPY_SECTORS..blocks];
        // Once STATE lies there, only a disk without any other table would be looked at there.
        if old_end < blocks - COPY_SECTORS && !state.as_ref().is_some_and(|state| state.contains(&old_end)) {
            tables.push(old_end + 1 - COPY_SECTORS..old_end + 1);
        }
        Self { tables, slots, sealed, state }
    }

    /// Whether a write touches a copy of the table.
    pub fn touches_tables(&self, write: &Write) -> bool {
        self.tables.iter().any(|range| touches(range, write))
    }

    /// Whether a write touches a slot.
    pub fn touches_slot(slot: &Slot, write: &Write) -> bool {
        touches(&slot.sectors, write)
    }

    /// Whether a write touches STATE.
    pub fn touches_state(&self, write: &Write) -> bool {
        self.state.as_ref().is_some_and(|state| touches(state, write))
    }
}

impl History {
    /// Reads a log that began on `base`, whose image ends with block `old_end`.
    ///
    /// # Errors
    /// `base` has no table, or the history ends without one.
    pub fn read(base: &dyn Sectors, log: &Log, old_end: u64) -> Result<Self> {
        let first = table_of(base, old_end).context("the image has no partition table")?;
        let blocks = base.size() / SECTOR_BYTES;
        let mut versions = vec![Version { begun: 0, table: first }];
        let mut promises = Vec::new();
        let mut now = Patched::over(base);
        for (at, event) in log.events.iter().enumerate() {
            match event {
                Event::Write(write) => {
                    let places =
                        [0..34, blocks - COPY_SECTORS..blocks, old_end + 1 - COPY_SECTORS..old_end + 1];
                    if !places.iter().any(|range| touches(range, write)) {
                        continue;
                    }
                    now.write(write.offset, &write.content);
                    let table =
                        table_of(&now, old_end).context("the history destroys the partition table")?;
                    if versions.last().is_none_or(|last| !last.table.same_content(&table)) {
                        versions.push(Version { begun: at, table });
                    }
                }
                Event::Mark(Mark::Acknowledged(fact)) => {
                    promises.push(Promise { at, fact: fact.clone(), version: versions.len() - 1 });
                }
                Event::Flush | Event::Mark(_) => {}
            }
        }
        let last = versions.last().context("no table")?;
        let areas = Areas::of(&last.table, base.size(), old_end);
        Ok(Self { versions, promises, areas, old_end })
    }

    /// The newest table that had begun before event `at`.
    pub fn version_before(&self, at: usize) -> usize {
        self.versions.iter().skip(1).take_while(|version| version.begun < at).count()
    }

    /// The table that was promised before event `at`.
    pub fn promised_version(&self, at: usize) -> usize {
        let table = |promise: &&Promise| promise.fact == Fact::Table && promise.at < at;
        self.promises.iter().filter(table).map(|promise| promise.version).max().unwrap_or(0)
    }

    /// Files that were promised before event `at`, with the event.
    pub fn promised_files(&self, at: usize) -> impl Iterator<Item = (&str, usize)> {
        let before = move |promise: &&Promise| promise.at < at;
        self.promises.iter().filter(before).filter_map(|promise| match &promise.fact {
            Fact::File { path, .. } => Some((path.as_str(), promise.at)),
            Fact::Table => None,
        })
    }

    /// All files that were ever promised, with their lines.
    pub fn files(&self) -> Vec<(String, String)> {
        let all: BTreeMap<_, _> = self
            .promises
            .iter()
            .filter_map(|promise| match &promise.fact {
                Fact::File { path, line } => Some((path.clone(), line.clone())),
                Fact::Table => None,
            })
            .collect();
        all.into_iter().collect()
    }

    /// Writes that nobody may do, whatever is lost: to the system partition, to OEM, to the slot that runs, and other bytes into
    /// the protective MBR (SAFETY 2, 18).
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn forbidden(&self, base: &dyn Sectors, log: &Log) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut running: Option<&Slot> = None;
        let mut mbr = [0; 512];
        base.read(0, &mut mbr)?;
        for (at, event) in log.events.iter().enumerate() {
            match event {
                Event::Mark(Mark::PowerOn) => running = None,
                Event::Mark(Mark::Kernel(name)) => {
                    running = self.areas.slots.iter().find(|slot| slot.entry.name().is(name));
                }
                Event::Write(write) => {
                    for (label, range) in &self.areas.sealed {
                        if touches(range, write) {
                            found.push(format!("event {at}: a write to {label}"));
                        }
                    }
                    if running.is_some_and(|slot| Areas::touches_slot(slot, write)) {
                        found.push(format!("event {at}: a write to the slot that runs"));
                    }
                    if write.offset == 0 {
                        let mut written = [0; 512];
                        write.content.read(0, &mut written)?;
                        if written != mbr {
                            found.push(format!("event {at}: another protective MBR"));
                        }
                    }
                }
                Event::Flush | Event::Mark(_) => {}
            }
        }
        Ok(found)
    }
}
