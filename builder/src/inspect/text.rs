//! The report for people.

use std::fmt;

use crate::formats::Format;

use super::report::{PartReport, Report, SignatureState, SlotReport, TableReport};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if self.format == Format::Raw { String::new() } else { format!(" ({})", self.format) };
        writeln!(f, "{}: {} image{format}, {}", self.image, self.kind, size(self.bytes))?;
        if let Some(guid) = &self.disk_guid {
            writeln!(f, "disk GUID  {guid}")?;
        }
        if let Some(table) = &self.table {
            writeln!(f, "table      {}", table_line(table))?;
        }
        self.write_loader(f)?;
        self.write_partitions(f)?;
        for (label, slot) in &self.slots {
            write_slot(f, label, slot)?;
        }
        writeln!(f)?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        writeln!(f, "verdict: {}", self.verdict)
    }
}

impl Report {
    fn write_loader(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(loader) = &self.loader else { return Ok(()) };
        write!(f, "loader     {}", size(loader.bytes as u64))?;
        if let Some(product) = &loader.product {
            write!(f, ", starts {product}")?;
        }
        for key in &loader.keys {
            let id = key.id.get(..16).unwrap_or(&key.id);
            write!(f, ", trusts {id}{}", if key.development { " (DEVELOPMENT KEY)" } else { "" })?;
        }
        writeln!(f)
    }

    fn write_partitions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.partitions.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:>2}  {:<12} {:>12} {:>12}  {:<20} PARTUUID", "#", "label", "start", "size", "type")?;
        for row in &self.partitions {
            let (start, bytes) = (size(row.offset), size(row.bytes));
            writeln!(
                f,
                "{:>2}  {:<12} {start:>12} {bytes:>12}  {:<20} {}",
                row.number, row.label, row.r#type, row.guid
            )?;
        }
        Ok(())
    }
}

fn write_slot(f: &mut fmt::Formatter<'_>, label: &str, slot: &SlotReport) -> fmt::Result {
    write!(f, "\n{label}")?;
    if let (Some(priority), Some(tries), Some(successful)) = (slot.priority, slot.tries, slot.successful) {
        write!(f, "  priority={priority} tries={tries} successful={}", u8::from(successful))?;
    }
    if slot.empty {
        return writeln!(f, "  empty");
    }
    writeln!(f)?;
    if let (Some(product), Some(version), Some(architecture)) =
        (&slot.product, &slot.version, &slot.architecture)
    {
        writeln!(
            f,
            "  image      {product} {version} {architecture}, built at {} (Unix time), loader >= {}, rollback index {}",
            slot.build_time.unwrap_or(0),
            slot.minimum_loader.unwrap_or(0),
            slot.rollback_index.unwrap_or(0)
        )?;
    }
    let state = match slot.signature {
        SignatureState::Valid => "valid",
        SignatureState::UnknownKey => "by a key that is not trusted",
        SignatureState::Wrong => "WRONG",
        SignatureState::Absent => "none",
    };
    let key = slot.key_id.as_deref().unwrap_or("-");
    writeln!(
        f,
        "  signature  {state}, key {key}{}",
        if slot.development_key { " (DEVELOPMENT KEY)" } else { "" }
    )?;
    for part in &slot.parts {
        write_part(f, part)?;
    }
    if let Some(verity) = &slot.verity {
        writeln!(f, "  verity     root hash {}", verity.root_hash)?;
        writeln!(f, "             salt      {}", verity.salt)?;
        let state = checked(verity.verified);
        writeln!(
            f,
            "             --data-blocks={} --hash-offset={}  {state}",
            verity.data_blocks, verity.hash_offset
        )?;
    }
    if let Some(line) = &slot.command_line {
        writeln!(f, "  arguments  {}", line.escape_default())?;
    }
    for problem in &slot.problems {
        writeln!(f, "  problem    {problem}")?;
    }
    Ok(())
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &PartReport) -> fmt::Result {
    let hash = part.sha256.get(..16).unwrap_or(&part.sha256);
    let state = checked(part.verified);
    writeln!(
        f,
        "  part       {:<12} offset {:>11}  length {:>11}  sha256 {hash}..  {state}",
        part.name, part.offset, part.length
    )
}

const fn checked(verified: Option<bool>) -> &'static str {
    match verified {
        Some(true) => "verified",
        Some(false) => "WRONG",
        None => "not checked (--verify)",
    }
}

fn table_line(table: &TableReport) -> String {
    let copy = |error: &Option<String>| error.clone().unwrap_or_else(|| "valid".to_owned());
    let whole = if table.whole { "" } else { "; NOT WHOLE" };
    format!("primary {}, backup {}{whole}", copy(&table.primary.error), copy(&table.backup.error))
}

fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    if bytes >= MIB && bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else if bytes >= MIB {
        let tenths = bytes.saturating_mul(10) / MIB;
        format!("{}.{} MiB", tenths / 10, tenths % 10)
    } else if bytes >= KIB {
        format!("{} KiB", bytes / KIB)
    } else {
        format!("{bytes} B")
    }
}
