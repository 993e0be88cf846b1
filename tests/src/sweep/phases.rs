//! What the machine does while it is recorded.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use boot::trust::Trust;

use super::record::{Fact, Log, Mark, Recorder};
use super::update;
use crate::{Guest, GuestOptions, Image};

/// Size of the recorded disk: the image, and a STATE with backup superblocks in it.
pub const DISK_BYTES: u64 = 768 << 20;

/// Boots that a good slot has before it loses its turn, without the last one.
const MOST_TRIES: usize = 6;

/// How long the recorded history is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Files that are written and synced in each boot.
    pub files: u32,
    /// Boots between the first one and the updates.
    pub more_boots: u32,
    /// Updates, each into the slot that does not run. Before each, boots that end at the loader: six before the first, then one less
    /// each time, so that the tables differ.
    pub updates: usize,
}

/// A recorded history.
#[derive(Debug)]
pub struct Recording {
    /// What happened.
    pub log: Log,
    /// The disk was this image, with zeroes behind it.
    pub image: Image,
    /// The disk's size.
    pub size: u64,
}

/// Records the history of a machine with this image, the smallest one: first boot on a larger disk,
/// files that are synced, boots after power cuts, an update into the other slot by the update engine's code, its trial boot.
///
/// # Errors
/// The machine does not do what it should.
pub fn record(image: &Image, trust: &Trust, folder: &Path, scenario: Scenario) -> Result<Recording> {
    let recorder = Recorder::serve(&image.raw, DISK_BYTES, folder)?;
    recorder.mark(Mark::Phase("first boot"));
    let guest = boot(&recorder, "USR-A", "first", scenario.files)?;
    guest.poweroff()?;
    for number in 0..scenario.more_boots {
        recorder.mark(Mark::Phase("another boot"));
        let guest = boot(&recorder, "USR-A", &format!("more{number}"), scenario.files)?;
        // Odd ones end in a power cut: the next boot has a journal to replay.
        if number % 2 == 0 { guest.cut_power() } else { guest.poweroff()? }
    }
    let (mut running, mut passive) = ("USR-A", "USR-B");
    for number in 0..scenario.updates {
        recorder.mark(Mark::Phase("boots that end at the loader"));
        for _ in number..scenario.updates.min(MOST_TRIES) {
            boot_of_the_loader(&recorder, running)?;
        }
        recorder.mark(Mark::Phase("update"));
        recorder.mark(Mark::PowerOn);
        update::update(&recorder, &image.usr, running, trust)?;
        recorder.mark(Mark::Phase("trial boot"));
        let guest = boot(&recorder, passive, &format!("trial{number}"), scenario.files)?;
        guest.poweroff()?;
        (running, passive) = (passive, running);
    }
    Ok(Recording { log: recorder.log(), image: image.clone(), size: DISK_BYTES })
}

/// A boot whose power is cut when the loader has taken its try.
fn boot_of_the_loader(recorder: &Recorder, slot: &'static str) -> Result<()> {
    recorder.mark(Mark::PowerOn);
    let mut guest = Guest::start_on_server(recorder.socket(), &options())?;
    guest.expect(&format!("ferrite-boot: {slot} "))?;
    recorder.mark(Mark::Acknowledged(Fact::Table));
    guest.cut_power();
    Ok(())
}

fn options() -> GuestOptions {
    GuestOptions { login: Some("root"), memory_mib: 256, ..GuestOptions::named("sweep") }
}

/// One boot until its slot is good, with some files synced before and after that.
fn boot(recorder: &Recorder, slot: &'static str, name: &str, files: u32) -> Result<Guest> {
    recorder.mark(Mark::PowerOn);
    let mut guest = Guest::start_on_server(recorder.socket(), &options())?;
    guest.expect(&format!("ferrite-boot: {slot} "))?;
    recorder.mark(Mark::Acknowledged(Fact::Table));
    recorder.mark(Mark::Kernel(slot));
    guest.wait_for_shell()?;
    // A machine that was reset on the way and fell back would be taken for one on this slot.
    let loaders = guest.console_text().matches("ferrite-boot: USR-").count();
    ensure!(loaders == 1, "{slot} did not come up at once\n{}", guest.kept_log());
    recorder.mark(Mark::Acknowledged(Fact::Table));
    let (before, after) = (files / 2, files - files / 2);
    write_files(recorder, &mut guest, name, 0..before)?;
    guest.check("systemctl start ferrite-mark-good.service")?;
    ensure!(guest.check("systemctl is-active boot-complete.target")?.trim() == "active");
    recorder.mark(Mark::Acknowledged(Fact::Table));
    write_files(recorder, &mut guest, name, before..before + after)?;
    Ok(guest)
}

/// Writes files in three ways that programs have of making one durable.
fn write_files(
    recorder: &Recorder,
    guest: &mut Guest,
    name: &str,
    numbers: std::ops::Range<u32>,
) -> Result<()> {
    for number in numbers {
        let line = format!("acknowledged {name} {number}");
        let path = format!("/synced/{name}-{number}");
        let command = match number % 3 {
            0 => format!("mkdir -p /var/synced && echo {line} | dd of=/var{path} conv=fsync"),
            1 => format!(
                "mkdir -p /var/synced && echo {line} > /var{path}.new && sync && mv /var{path}.new /var{path} && sync"
            ),
            _ => format!(
                "mkdir -p /var/synced && {{ echo {line}; seq 3000; }} | dd of=/var{path} bs=4k conv=fsync"
            ),
        };
        guest.check(&command).with_context(|| format!("writing {path}"))?;
        recorder.mark(Mark::Acknowledged(Fact::File { path, line }));
    }
    Ok(())
}
