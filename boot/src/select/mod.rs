//! The boot itself: table, order of slots, proof, try, start (SAFETY 1, 4, 7-9).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use slots::{
    BootOrder, Candidate, CommitError, Entry, Guid, KeyId, LOADER_VERSION, Loaded, Policy, Source, Table,
    TrustedKey,
};

use crate::arguments::{Arguments, Marks};
use crate::machine::Machine;
use crate::slot::{COMMAND_LINE_ROOM, Extent, Skip, Verified, read_footer, read_verified, verify_rest};
use crate::trust::Trust;

/// The architecture whose slots this loader starts.
pub const ARCHITECTURE: &str = "x86_64";

/// Why nothing was started: one line for each thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaveUp {
    /// Lines for the console.
    pub lines: Vec<String>,
}

/// Whether a slot takes its ordinary turn or is all that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Ordinary,
    /// Everything is verified first, and a try that cannot be taken does not matter any more.
    LastResort,
}

/// What became of a slot.
struct Found {
    /// Its index in the table.
    index: usize,
    /// Why it was skipped.
    reason: String,
    /// True when all was well but for its try, which could not be taken.
    untaken_try: bool,
}

/// State of one boot.
struct Boot<'a, M: Machine> {
    machine: &'a mut M,
    trust: &'a Trust,
    keys: Vec<TrustedKey>,
    key_ids: Vec<KeyId>,
    entry_us: u64,
    loaded: Loaded,
    /// Least rollback index that boots.
    floor: u64,
}

/// Boots the machine; comes back only when no slot could be started.
///
/// `entry_us` is the moment of the loader's first instruction, in microseconds since power-on.
pub fn boot<M: Machine>(machine: &mut M, trust: &Trust, entry_us: u64) -> GaveUp {
    let block_size = u64::from(machine.geometry().block_size).max(1);
    let old_end = (trust.image_bytes / block_size).checked_sub(1);
    let loaded = Loaded::read(machine, old_end);
    let keys: Vec<_> = trust.keys().map(|configured| configured.key).collect();
    let key_ids = keys.iter().map(TrustedKey::id).collect();
    let mut boot = Boot { machine, trust, keys, key_ids, entry_us, loaded, floor: 0 };
    boot.repair_table();
    boot.settle_floor();
    boot.run()
}

impl<M: Machine> Boot<'_, M> {
    fn run(&mut self) -> GaveUp {
        let Some(table) = self.loaded.current().map(|(table, _)| table.clone()) else {
            return self.no_table();
        };
        let order = BootOrder::of(&table);
        let mut found = Vec::new();
        for candidate in order.candidates() {
            found.push(self.attempt(&table, candidate, Turn::Ordinary));
        }
        // Nothing better is left: used-up slots, and those whose try could not be taken, if all of them verifies.
        let untaken: Vec<_> = order
            .candidates()
            .filter(|slot| found.iter().any(|seen| seen.index == slot.entry && seen.untaken_try))
            .collect();
        for candidate in order.last_resort().chain(untaken) {
            let seen = self.attempt(&table, candidate, Turn::LastResort);
            found.retain(|earlier| earlier.index != seen.index);
            found.push(seen);
        }
        GaveUp { lines: summary(&table, &found) }
    }

    /// Linux reads the primary alone unless told otherwise, so a bad one is rewritten before it starts (SAFETY 4).
    fn repair_table(&mut self) {
        let Some((_, source)) = self.loaded.current() else { return };
        let wrong = match source {
            Source::Backup => self.loaded.primary().err().map(|error| ("primary", error)),
            Source::Primary => self.loaded.backup().err().map(|error| ("backup", error)),
        };
        let result = self.loaded.repair(self.machine);
        match (wrong, result) {
            (None, Ok(())) => {}
            (Some((copy, error)), Ok(())) => {
                self.say(format!("{copy} partition table {error}: repaired from the other copy"));
            }
            (Some((copy, error)), Err(problem)) => {
                self.say(format!("{copy} partition table {error}: cannot be repaired: {problem}"));
            }
            (None, Err(problem)) => self.say(format!("backup partition table cannot be updated: {problem}")),
        }
    }

    /// Reads the rollback floor, and raises it to the least index of the slots that are known to be good: older releases do not
    /// boot from then on, and the slot that the machine would fall back to does (SAFETY 12). A store that does not work costs
    /// the floor and not the boot.
    fn settle_floor(&mut self) {
        let product = self.trust.product;
        self.floor = match self.machine.rollback_floor(product.as_str()) {
            Ok(floor) => floor,
            Err(error) => {
                return self.say(format!("WARNING: the rollback floor cannot be read, none holds: {error}"));
            }
        };
        let Some(least) = self.least_good_index().filter(|least| *least > self.floor) else { return };
        match self.machine.raise_rollback_floor(product.as_str(), least) {
            Ok(()) => {
                self.say(format!("releases with a rollback index below {least} do not boot any more"));
                self.floor = least;
            }
            Err(error) => self.say(format!("WARNING: the rollback floor {least} cannot be kept: {error}")),
        }
    }

    /// The least rollback index over the slots that are successful and have a valid footer.
    fn least_good_index(&mut self) -> Option<u64> {
        let table = self.loaded.current().map(|(table, _)| table.clone())?;
        let block_size = self.machine.geometry().block_size;
        let mut least = None;
        let good = table
            .entries()
            .filter(|(_, entry)| entry.type_guid() == slots::types::USR_X86_64 && entry.flags().successful());
        for (_, entry) in good {
            let Some(place) = Extent::of(&entry, block_size) else { continue };
            let policy = Policy {
                keys: &self.keys,
                product: Some(self.trust.product.as_str()),
                architecture: ARCHITECTURE,
                loader_version: LOADER_VERSION,
                rollback_floor: 0,
            };
            if let Ok(footer) = read_footer(self.machine, place, &policy) {
                least =
                    Some(least.map_or(footer.rollback_index, |least: u64| least.min(footer.rollback_index)));
            }
        }
        least
    }

    /// One slot, as far as it goes; coming back means that it was skipped, and the console says why.
    fn attempt(&mut self, table: &Table, candidate: Candidate, turn: Turn) -> Found {
        let Some(entry) = table.entry(candidate.entry) else {
            return Found { index: candidate.entry, reason: String::new(), untaken_try: false };
        };
        let Err(skip) = self.start_slot(table, &entry, candidate, turn);
        self.say(format!("{} skipped: {skip}", entry.name()));
        let untaken_try = matches!(skip, Skip::Try(_));
        Found { index: candidate.entry, reason: skip.to_string(), untaken_try }
    }

    fn start_slot(
        &mut self,
        table: &Table,
        entry: &Entry,
        candidate: Candidate,
        turn: Turn,
    ) -> Result<core::convert::Infallible, Skip<M::Error>> {
        let place = Extent::of(entry, self.machine.geometry().block_size).ok_or(Skip::Bounds)?;
        let policy = Policy {
            keys: &self.keys,
            product: Some(self.trust.product.as_str()),
            architecture: ARCHITECTURE,
            loader_version: LOADER_VERSION,
            rollback_floor: self.floor,
        };
        let verified = read_verified(self.machine, place, &policy)?;
        if turn == Turn::LastResort {
            self.say(format!("{} is the last resort: verifying all of it", entry.name()));
            verify_rest(self.machine, place, &verified.footer)?;
        }
        let image = self.machine.load_image(verified.kernel_bytes()).map_err(Skip::Load)?;
        // Once before the try is taken, so that a bad one costs none, and again with the last moment's mark.
        self.command_line(table.disk_guid(), entry, candidate, &verified)?;
        let tries = self.take_try(candidate, turn)?;
        self.announce(entry, &verified, candidate, &tries);
        let command_line = self.command_line(table.disk_guid(), entry, candidate, &verified)?;
        let initramfs_len = usize::try_from(verified.footer.parts.initramfs.length).unwrap_or(0);
        drop(verified.kernel);
        Err(Skip::Start(self.machine.start(image, verified.initramfs, initramfs_len, &command_line)))
    }

    /// Takes a try: written, flushed and read back before the kernel starts (SAFETY 8, 9). Returns words for the console.
    fn take_try(&mut self, candidate: Candidate, turn: Turn) -> Result<String, Skip<M::Error>> {
        match self.write_try(candidate) {
            Ok(tries) => Ok(format!("tries left {tries}")),
            Err(error) if candidate.flags.successful() || turn == Turn::LastResort => {
                Ok(format!("tries unchanged: {error}"))
            }
            Err(error) => Err(Skip::Try(error)),
        }
    }

    fn write_try(&mut self, candidate: Candidate) -> Result<u8, CommitError<M::Error>> {
        let (table, _) = self.loaded.current().ok_or(CommitError::NoTable)?;
        let mut table = table.clone();
        let mut entry = table.entry(candidate.entry).ok_or(CommitError::NoTable)?;
        let flags = entry.flags().after_try();
        if flags != entry.flags() {
            entry.set_flags(flags);
            if !table.set_entry(candidate.entry, entry) {
                return Err(CommitError::BeyondEntriesInUse);
            }
            self.loaded.commit(self.machine, &table)?;
        }
        Ok(flags.tries())
    }

    fn announce(&mut self, entry: &Entry, verified: &Verified<M::Buffer>, candidate: Candidate, tries: &str) {
        let footer = &verified.footer;
        let trial = if candidate.flags.successful() { "" } else { "on trial, " };
        self.say(format!("{} {} {} ({trial}{tries})", entry.name(), footer.product, footer.version));
        if self.trust.is_development(footer.key_id) {
            self.say(
                "WARNING: signed with the published DEVELOPMENT KEY: anybody can make such an image".into(),
            );
        }
    }

    fn command_line(
        &mut self,
        disk: Guid,
        entry: &Entry,
        candidate: Candidate,
        verified: &Verified<M::Buffer>,
    ) -> Result<String, Skip<M::Error>> {
        let signed = verified.command_line_text()?;
        let arguments = Arguments {
            disk,
            slot: entry.unique_guid(),
            trial: !candidate.flags.successful(),
            keys: &self.key_ids,
            floor: self.floor,
            marks: Some(Marks { entry_us: self.entry_us, start_us: self.machine.now_us() }),
        };
        let all = format!("{signed} {arguments}");
        if all.len() < COMMAND_LINE_ROOM { Ok(all) } else { Err(Skip::CommandLine) }
    }

    fn no_table(&self) -> GaveUp {
        let mut lines = Vec::from(["no valid partition table".to_string()]);
        lines.extend(self.loaded.primary().err().map(|error| format!("  primary: {error}")));
        lines.extend(self.loaded.backup().err().map(|error| format!("  backup: {error}")));
        GaveUp { lines }
    }

    fn say(&mut self, line: String) {
        self.machine.say(format_args!("ferrite-boot: {line}"));
    }
}

/// What was found in each slot, those that never boot included.
fn summary(table: &Table, found: &[Found]) -> Vec<String> {
    let mut lines = Vec::from([format!("no slot can be started on disk {}", table.disk_guid())]);
    for (index, entry) in table.entries().filter(|(_, entry)| entry.type_guid() == slots::types::USR_X86_64) {
        let reason = found.iter().find(|seen| seen.index == index).map(|seen| seen.reason.as_str());
        let reason = reason.unwrap_or("never boots");
        lines.push(format!("  {} {}: {reason}", entry.name(), entry.flags()));
    }
    if lines.len() == 1 {
        lines.push("  the table has no slot".to_string());
    }
    lines
}

#[cfg(test)]
mod tests;
