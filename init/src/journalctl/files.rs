//! The files behind the journal: boots, sizes, vacuum.

use std::io::{self, Write};

use super::options::Options;
use super::output::{Format, size};
use super::{Failure, time};
use crate::journal::entry::Stamp;
use crate::journal::folder;
use crate::journal::query::{Journal, boots};
use crate::journal::store::delete_surplus;

/// `--list-boots`
pub fn list_boots(journal: &Journal, options: &Options) -> Result<u8, Failure> {
    let found = boots(journal)?;
    if found.is_empty() {
        eprintln!("No journal files were found.");
        return Ok(0);
    }
    let mut out = io::stdout().lock();
    let place =
        |number: usize| i64::try_from(number).unwrap_or(0) - i64::try_from(found.len()).unwrap_or(0) + 1;
    if matches!(options.format, Format::Json | Format::JsonPretty) {
        let rows = found.iter().enumerate().map(|(number, boot)| {
            serde_json::json!({
                "index": place(number),
                "boot_id": boot.id.to_string(),
                "first_entry": boot.first.stamp.realtime,
                "last_entry": boot.last.stamp.realtime,
            })
        });
        let rows = serde_json::Value::Array(rows.collect());
        let text = if options.format == Format::Json { rows.to_string() } else { format!("{rows:#}") };
        writeln!(out, "{text}")?;
        return Ok(0);
    }
    let stamp = |micros| time::full(micros, options.utc, false);
    let width = found.iter().map(|boot| stamp(boot.first.stamp.realtime).len()).max().unwrap_or(0);
    if !options.quiet {
        writeln!(out, "{:>3} {:32} {:width$} LAST ENTRY", "IDX", "BOOT ID", "FIRST ENTRY")?;
    }
    for (number, boot) in found.iter().enumerate() {
        let (first, last) = (stamp(boot.first.stamp.realtime), stamp(boot.last.stamp.realtime));
        writeln!(out, "{:>3} {} {first:width$} {last}", place(number), boot.id)?;
    }
    Ok(0)
}

fn used(journal: &Journal) -> usize {
    let bytes = journal.files().iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// `--disk-usage`
pub fn disk_usage(journal: &Journal) -> Result<u8, Failure> {
    let used = size(used(journal));
    writeln!(io::stdout(), "Archived and active journals take up {used} in the file system.")?;
    Ok(0)
}

/// `--header`
pub fn header(journal: &Journal) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    for file in journal.files() {
        writeln!(
            out,
            "File path: {}\nFile number: {}\nBoot ID: {}\nDisk usage: {}\n",
            file.path.display(),
            file.number,
            file.boot,
            size(usize::try_from(file.size).unwrap_or(usize::MAX))
        )?;
    }
    Ok(0)
}

/// `--vacuum-size`, `--vacuum-time`, `--vacuum-files`: the newest file of a folder is written to and stays.
pub fn vacuum(journal: &Journal, options: &Options) -> Result<u8, Failure> {
    let allowed = options.vacuum_size.unwrap_or(u64::MAX);
    let now = Stamp::now().realtime;
    let oldest = options.vacuum_time.map_or(0, |span| now.saturating_sub(span));
    for path in journal.folders() {
        let mut files = folder::list(path)?;
        let Some(active) = files.pop() else { continue };
        let surplus = options.vacuum_files.map_or(0, |most| (files.len() + 1).saturating_sub(most.max(1)));
        let (many, rest) = files.split_at_checked(surplus).unwrap_or((&files, &[]));
        let problem =
            |error: io::Error| Failure::Text(format!("Failed to vacuum {}: {error}", path.display()));
        let mut deleted = delete_surplus(many, 0, u64::MAX).map_err(problem)?;
        deleted.extend(delete_surplus(rest, allowed.saturating_sub(active.size), oldest).map_err(problem)?);
        let freed = deleted.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        for file in &deleted {
            let bytes = size(usize::try_from(file.size).unwrap_or(usize::MAX));
            eprintln!("Deleted archived journal {} ({bytes}).", file.path.display());
        }
        let freed = size(usize::try_from(freed).unwrap_or(usize::MAX));
        eprintln!("Vacuuming done, freed {freed} of archived journals from {}.", path.display());
    }
    Ok(0)
}
