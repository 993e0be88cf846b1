//! The disk by which host and guest exchange: an archive of scenarios at its start, traces from the middle on.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use builder::cpio;
use builder::tree::{Kind, Meta, Reader, Tree};

use super::scenario::{Scenario, add};
use super::traces::Traces;

/// First byte of the traces; `guest/runner` has the same number in sectors.
const TRACES_AT: u64 = 64 << 20;
/// Bytes of the disk.
const DISK_BYTES: u64 = 96 << 20;

/// Makes the disk; `guest` is the folder of the programs that run the scenarios.
pub(super) fn write(path: &Path, guest: &Path, scenarios: &[&Scenario]) -> Result<()> {
    let mut tree = Tree::new(Meta::root(0o755, 0));
    let bin = guest.join("bin");
    for folder in [guest, &bin] {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let source = entry?.path();
            if source.is_file() {
                let name = source.strip_prefix(guest)?.to_string_lossy().into_owned();
                add(&mut tree, &name, Kind::file(fs::read(&source)?), 0o755)?;
            }
        }
    }
    for scenario in scenarios {
        scenario.add_to(&mut tree)?;
    }
    let mut file = BufWriter::new(File::create(path)?);
    cpio::write(&tree, &Reader::new(), &mut file)?;
    file.flush()?;
    file.into_inner()?.set_len(DISK_BYTES)?;
    Ok(())
}

/// What the guest has written so far.
pub(super) fn read(path: &Path) -> Result<Traces> {
    let mut bytes = vec![0; usize::try_from(DISK_BYTES - TRACES_AT)?];
    File::open(path)?.read_exact_at(&mut bytes, TRACES_AT)?;
    Ok(Traces::parse(&String::from_utf8_lossy(&bytes)))
}
