//! States that are booted in the emulator: the model is checked against the machine, and what the machine does while it recovers is
//! recorded and cut again.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use slots::Table;

use super::enumerate::Random;
use super::history::History;
use super::record::{Event, Fact, Log, Mark, Recorder};
use super::run::{Depth, Report, Sample, Subject, remake, sweep};
use super::sectors::{BaseFile, Patched, SECTOR, SECTOR_BYTES, Sectors};
use crate::{DiskFile, Guest, GuestOptions, Image, sparse_copy};

/// Machines that run at once.
const AT_ONCE: usize = 2;

/// Chooses `count` of the samples: from all parts of the history alike, whatever their number of states.
pub fn choose(samples: &[Sample], count: usize, seed: u64) -> Vec<Sample> {
    let mut random = Random(seed);
    let mut by_window: BTreeMap<usize, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_window.entry(sample.window).or_default().push(sample);
    }
    let windows: Vec<usize> = by_window.keys().copied().collect();
    let mut chosen = Vec::new();
    let groups = count.min(windows.len()).max(1);
    for number in 0..count {
        let group = number % groups;
        // The windows of one group lie side by side in the history.
        let (from, to) = (group * windows.len() / groups, (group + 1) * windows.len() / groups);
        let Some(range) = windows.get(from..to.max(from + 1)) else { continue };
        let window = range.get(usize::try_from(random.below(range.len() as u64)).unwrap_or(0));
        let Some(some) = window.and_then(|window| by_window.get_mut(window)) else { continue };
        if some.is_empty() {
            continue;
        }
        let which = usize::try_from(random.below(some.len() as u64)).unwrap_or(0);
        chosen.push(some.swap_remove(which).clone());
    }
    chosen.sort_by_key(|sample| sample.window);
    chosen
}

/// Makes a state a file.
///
/// # Errors
/// The system's.
pub fn materialise(image: &Path, state: &Patched<'_>, path: &Path) -> Result<()> {
    sparse_copy(image, path).context("cannot copy the image")?;
    let file = File::options().write(true).open(path)?;
    file.set_len(state.size())?;
    let mut all = BTreeMap::new();
    state.add_patches(&mut all);
    let mut bytes = [0; SECTOR];
    for (sector, patch) in all {
        patch.read(&mut bytes)?;
        file.write_all_at(&bytes, sector * SECTOR_BYTES)?;
    }
    Ok(())
}

/// What a machine must show.
#[derive(Debug)]
struct Expected {
    sample: Sample,
    path: PathBuf,
    lines: Vec<String>,
}

/// What came of booting samples.
#[derive(Debug, Default)]
pub struct Booted {
    /// Samples that have logged in on the slot that the model says, are good, and have all files that were promised.
    pub good: usize,
    /// Those that have not: why, and where the disk is kept.
    pub bad: Vec<String>,
}

/// Boots samples.
///
/// # Errors
/// A state cannot be made or a machine not be started.
pub fn boot_samples(
    subject: &Subject<'_>,
    image: &Path,
    samples: &[Sample],
    folder: &Path,
    said: &mut dyn FnMut(usize),
) -> Result<Booted> {
    let history = History::read(subject.base, subject.log, subject.image_bytes / SECTOR_BYTES - 1)?;
    let mut waiting = Vec::new();
    let mut booted = Booted::default();
    let mut number = 0;
    remake(subject, samples, |sample, state| {
        number += 1;
        let path = folder.join(format!("boot-{number}.raw"));
        materialise(image, state, &path)?;
        let promised: Vec<_> = history.promised_files(sample.cut).map(|(path, _)| path.to_owned()).collect();
        let lines = history.files().into_iter().filter(|(path, _)| promised.contains(path));
        let lines = lines.map(|(_, line)| line).collect();
        waiting.push(Expected { sample: sample.clone(), path, lines });
        if waiting.len() == AT_ONCE {
            boot_all(&waiting, &mut booted)?;
            waiting.clear();
            said(booted.good);
        }
        Ok(())
    })?;
    boot_all(&waiting, &mut booted)?;
    said(booted.good);
    Ok(booted)
}

fn boot_all(waiting: &[Expected], booted: &mut Booted) -> Result<()> {
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = waiting.iter().map(|one| scope.spawn(move || boot_one(one))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a boot panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    for (one, result) in waiting.iter().zip(results) {
        match result {
            Ok(()) => {
                booted.good += 1;
                std::fs::remove_file(&one.path)?;
            }
            Err(error) => {
                // Another boot of the same state starts from the sample, not from this disk.
                let kept = Image::folder()?.join(format!("sweep-failed-{}.raw", booted.bad.len()));
                std::fs::rename(&one.path, &kept)?;
                booted.bad.push(format!("{:?}: {error:#} (the disk: {})", one.sample, kept.display()));
            }
        }
    }
    Ok(())
}

fn options() -> GuestOptions {
    GuestOptions { login: Some("root"), memory_mib: 256, ..GuestOptions::named("sweep") }
}

fn boot_one(expected: &Expected) -> Result<()> {
    let mut guest = Guest::start(&expected.path, &options())?;
    guest.wait_for_shell()?;
    let line = guest.check("cat /proc/cmdline")?;
    ensure!(
        line.contains(&format!("ferrite.slot={}", expected.sample.slot)),
        "another slot than {}: {line}\n{}",
        expected.sample.slot,
        guest.kept_log()
    );
    guest.check("systemctl start ferrite-mark-good.service")?;
    let found = guest.run("cat /var/synced/* | grep acknowledged")?.text;
    for line in &expected.lines {
        ensure!(found.lines().any(|found| found == line), "{line:?} is gone; there are {found}");
    }
    ensure!(!guest.console_text().contains("VOLATILE"), "STATE is volatile\n{}", guest.kept_log());
    guest.poweroff()?;
    let mut disk = DiskFile::open(&expected.path)?;
    ensure!(disk.table_is_whole(), "the table is not whole after the boot");
    Ok(())
}

/// Boots one sample on a recorded disk and sweeps what its recovery did: the second cut, with the whole machine in it.
///
/// # Errors
/// As [`boot_samples`] and [`sweep`].
pub fn record_recovery(
    subject: &Subject<'_>,
    image: &Path,
    sample: &Sample,
    folder: &Path,
    depth: Depth,
) -> Result<Report> {
    let path = folder.join("recovery.raw");
    remake(subject, std::slice::from_ref(sample), |_, state| materialise(image, state, &path))?;
    let size = subject.base.size();
    let log: Log = {
        let recorder = Recorder::serve(&path, size, folder)?;
        recorder.mark(Mark::PowerOn);
        let mut guest = Guest::start_on_server(recorder.socket(), &options())?;
        guest.expect("ferrite-boot: USR-")?;
        recorder.mark(Mark::Acknowledged(Fact::Table));
        guest.wait_for_shell()?;
        recorder.mark(Mark::Acknowledged(Fact::Table));
        guest.check("systemctl start ferrite-mark-good.service")?;
        recorder.mark(Mark::Acknowledged(Fact::Table));
        guest.cut_power();
        recorder.log()
    };
    let base = BaseFile::new(File::open(&path)?, size)?;
    ensure!(log.events.iter().any(|event| matches!(event, Event::Flush)), "nothing was recorded");
    let stand_ins = subject.stand_ins.of_another_disk();
    let history = History::read(subject.base, subject.log, subject.image_bytes / SECTOR_BYTES - 1)?;
    let tables = history.promised_version(sample.cut)..history.version_before(sample.cut) + 1;
    let earlier: Vec<Table> = history
        .versions
        .get(tables)
        .unwrap_or_default()
        .iter()
        .map(|version| version.table.clone())
        .collect();
    let subject = Subject { base: &base, log: &log, stand_ins: &stand_ins, earlier: &earlier, ..*subject };
    let report = sweep(&subject, depth, &mut |_| {})?;
    std::fs::remove_file(&path)?;
    Ok(report)
}
