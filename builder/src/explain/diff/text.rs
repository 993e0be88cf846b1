//! The comparison for people.

use std::fmt;

use super::{Change, ChangedFile, Counts, Diff, FileChange, Group, PartChange};
use crate::explain::units::{bytes, count, signed};

/// Shows a [`Diff`].
#[derive(Debug, Clone, Copy)]
pub struct Report<'d> {
    /// What to show.
    pub diff: &'d Diff,
    /// Whether with every file.
    pub files: bool,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let diff = self.diff;
        if diff.same {
            return writeln!(f, "the same");
        }
        for field in &diff.image {
            writeln!(f, "{:<12}  {} -> {}", field.field, shortened(&field.before), shortened(&field.after))?;
        }
        if !diff.parts.is_empty() {
            writeln!(f, "\nparts of the slot:")?;
            diff.parts.iter().try_for_each(|part| write_part(f, part))?;
        }
        if !diff.groups.is_empty() {
            writeln!(f, "\npackages: {}", totals(&diff.groups))?;
            diff.groups.iter().try_for_each(|group| self.write_group(f, group))?;
            writeln!(f, "\nfiles: {}", counts(&diff.files))?;
            if !self.files {
                writeln!(f, "--files lists them")?;
            }
        }
        Ok(())
    }
}

impl Report<'_> {
    fn write_group(&self, f: &mut fmt::Formatter<'_>, group: &Group) -> fmt::Result {
        let word = match group.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
            Change::Files => "files",
        };
        write!(f, "{:>12}  {word:<8} {}", signed(group.delta), group.who)?;
        match (&group.before_version, &group.after_version) {
            (Some(before), Some(after)) if before == after && group.change == Change::Changed => {
                write!(f, " {before}, another build")?;
            }
            (Some(before), Some(after)) if before != after => write!(f, " {before} -> {after}")?,
            (Some(version), _) | (None, Some(version)) => write!(f, " {version}")?,
            (None, None) => {}
        }
        writeln!(f, " ({})", counts(&group.counts))?;
        if self.files {
            group.files.iter().try_for_each(|file| write_file(f, file))?;
        }
        Ok(())
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &PartChange) -> fmt::Result {
    let content = if part.delta == 0 { ", other content" } else { "" };
    writeln!(
        f,
        "{:>12}  {:<12} {} -> {}{content}",
        signed(part.delta),
        part.name,
        bytes(part.before),
        bytes(part.after)
    )
}

fn write_file(f: &mut fmt::Formatter<'_>, file: &ChangedFile) -> fmt::Result {
    let letter = match file.change {
        FileChange::Added => "A",
        FileChange::Removed => "D",
        FileChange::Changed => "M",
        FileChange::Recounted => "=",
    };
    write!(f, "{:>16}  {letter} {}", signed(file.delta), file.path)?;
    match file.change {
        FileChange::Changed => writeln!(f, " ({})", file.what.join(", ")),
        FileChange::Recounted => writeln!(f, " (the same, stored elsewhere)"),
        FileChange::Added | FileChange::Removed => writeln!(f),
    }
}

fn totals(groups: &[Group]) -> String {
    let number = |change: Change| groups.iter().filter(|group| group.change == change).count();
    format!(
        "{} added, {} removed, {} changed, {} with other files",
        number(Change::Added),
        number(Change::Removed),
        number(Change::Changed),
        number(Change::Files)
    )
}

fn counts(counts: &Counts) -> String {
    let all = [(counts.added, "added"), (counts.removed, "removed"), (counts.changed, "changed")];
    let some: Vec<_> = all
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", count(*number, "file")))
        .collect();
    if some.is_empty() { "no file differs".to_owned() } else { some.join(", ") }
}

/// Hashes are told apart by their beginnings.
fn shortened(text: &str) -> &str {
    let is_hash = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { text.get(..16).unwrap_or(text) } else { text }
}
