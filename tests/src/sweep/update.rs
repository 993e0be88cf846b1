//! An update of the passive slot by the update engine's own code, over a recorded disk.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use boot::select::ARCHITECTURE;
use boot::trust::Trust;
use slots::{FOOTER_LEN, Loaded, Policy, SlotFlags, Table, TrustedKey};
use update_engine::engine::slot::{SlotWriter, flip};

use super::record::{Fact, Mark, RecordedDevice, Recorder};

/// Bytes of a block of the slot.
const BLOCK: usize = 4096;

/// Marks of the parts of an update, in order; the last one is its end.
pub const PARTS: [&str; 5] =
    ["update: begin", "update: body", "update: seal", "update: flip", "update: done"];

/// Writes the slot image `usr` to the slot that does not run, proves it, and puts it on trial.
///
/// # Errors
/// The engine's.
pub fn update(recorder: &Recorder, usr: &Path, running: &str, trust: &Trust) -> Result<()> {
    let mut disk = recorder.device();
    let (_, entry) = table(&mut disk)?.find_name(running).with_context(|| format!("no {running}"))?;
    let running = entry.unique_guid();
    let keys: Vec<TrustedKey> = trust.keys().map(|configured| configured.key).collect();
    let policy = Policy {
        keys: &keys,
        product: Some(trust.product.as_str()),
        architecture: ARCHITECTURE,
        loader_version: slots::LOADER_VERSION,
        rollback_floor: 0,
    };
    let file = File::open(usr).with_context(|| format!("cannot open {}", usr.display()))?;
    let body = file.metadata()?.len().checked_sub(FOOTER_LEN as u64).context("no slot image")?;
    let mut footer = [0; FOOTER_LEN];
    file.read_exact_at(&mut footer, body)?;
    let [begin, write, seal, turn, done] = PARTS;
    recorder.mark(Mark::Phase(begin));
    let mut writer = SlotWriter::begin(&mut disk, running, &footer, &policy)?;
    recorder.mark(Mark::Acknowledged(Fact::Table));
    recorder.mark(Mark::Phase(write));
    let mut block = [0; BLOCK];
    for number in 0..writer.layout().blocks() {
        file.read_exact_at(&mut block, u64::from(number) * BLOCK as u64)?;
        writer.put(&mut disk, number, &block)?;
    }
    writer.flush(&mut disk)?;
    recorder.mark(Mark::Phase(seal));
    writer.seal(&mut disk, &policy, None, &mut |_| {})?;
    recorder.mark(Mark::Phase(turn));
    flip(&mut disk, running)?;
    recorder.mark(Mark::Acknowledged(Fact::Table));
    recorder.mark(Mark::Phase(done));
    Ok(())
}

fn table(device: &mut RecordedDevice) -> Result<Table> {
    let loaded = Loaded::read(device, None);
    Ok(loaded.current().context("no table")?.0.clone())
}

/// Changes the flags of one slot as loader and init do: one table write.
///
/// # Errors
/// The device's, or there is no such slot.
pub fn change_flags(recorder: &Recorder, name: &str, change: fn(SlotFlags) -> SlotFlags) -> Result<()> {
    let mut device = recorder.device();
    let mut loaded = Loaded::read(&mut device, None);
    let mut table: Table = loaded.current().context("no table")?.0.clone();
    let (index, mut entry) = table.find_name(name).with_context(|| format!("no {name}"))?;
    entry.set_flags(change(entry.flags()));
    table.set_entry(index, entry);
    let committed = loaded.commit(&mut device, &table);
    committed.map_err(|error| anyhow::anyhow!("cannot change the flags: {error}"))?;
    recorder.mark(Mark::Acknowledged(Fact::Table));
    Ok(())
}
