//! Explains an image: table, partitions, slots, signatures, hashes; and says whether it would boot.
//!
//! Reads whatever it is given: damaged images are what it is for, so every finding is a value in the [`Report`], and an
//! error only says that there is nothing to report on.

mod loader;
mod report;
mod slot;
mod text;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use slots::{BootOrder, Device, Entry, FOOTER_LEN, Footer, FooterError, Geometry, Loaded, Table, types};

pub use report::{
    CopyState, LoaderReport, PartReport, PartitionReport, Report, SignatureState, SlotReport, TableReport,
    TrustedKeyReport, VerityReport,
};

use crate::formats::{DiskImage, OpenError, ReadAt};
use slot::{Extent, KeyRing};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be opened, or its format is known and refused.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file is neither kind of image.
    #[error(
        "{} is neither a disk image (no partition table) nor a slot image (no slot footer at its end)",
        path.display()
    )]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },
}

/// Inspects a disk image of any format or a slot image. With `verify`, every block is checked: the hashes of all parts and the
/// whole hash tree over `/usr`; without it, `/usr` and its tree are not read.
///
/// # Errors
/// The file cannot be read, or it is no image at all. Everything else that is wrong is in the report.
pub fn inspect(path: &Path, verify: bool) -> Result<Report, InspectError> {
    let file = DiskImage::open(path)?;
    let bytes = file.bytes();
    let mut report = Report {
        image: path.display().to_string(),
        kind: "disk",
        format: file.format(),
        bytes,
        disk_guid: None,
        table: None,
        loader: None,
        partitions: Vec::new(),
        slots: BTreeMap::new(),
        boots: None,
        problems: Vec::new(),
        verdict: String::new(),
    };
    if let Some(loaded) = read_table(&file, bytes) {
        inspect_disk(&file, &loaded, verify, &mut report);
    } else if has_footer(&file, bytes) {
        report.kind = "slot";
        let ring = KeyRing::new(None);
        let place = Extent { offset: 0, bytes };
        report.slots.insert("slot".to_owned(), slot::inspect_slot(&file, place, None, &ring, verify));
    } else {
        return Err(InspectError::NotAnImage { path: path.to_owned() });
    }
    report.conclude();
    Ok(report)
}

fn inspect_disk(file: &DiskImage, loaded: &Loaded, verify: bool, report: &mut Report) {
    report.table = Some(TableReport::of(loaded));
    let block_bytes = u64::from(loaded.geometry().block_size);
    let Some((table, _)) = loaded.current() else { return };
    report.disk_guid = Some(table.disk_guid().to_string());
    report.partitions =
        table.entries().map(|(index, entry)| PartitionReport::of(index, &entry, block_bytes)).collect();
    report.loader = loader::inspect_loader(file, table, block_bytes);
    let ring = KeyRing::new(report.loader.as_ref());
    for (index, entry) in table.entries().filter(|(_, entry)| entry.type_guid() == types::USR_X86_64) {
        let found = slot::inspect_slot(file, extent(&entry, block_bytes), Some(entry.flags()), &ring, verify);
        let name = entry.name().to_string();
        // Two slots of one name would hide each other.
        let key =
            if report.slots.contains_key(&name) { format!("{name} (entry {})", index + 1) } else { name };
        report.slots.insert(key, found);
    }
    report.boots = first_to_boot(table, report);
}

/// The slot that the loader would start: the first in its order that nothing speaks against.
fn first_to_boot(table: &Table, report: &Report) -> Option<String> {
    let order = BootOrder::of(table);
    let name = |index: usize| table.entry(index).map(|entry| entry.name().to_string());
    order
        .candidates()
        .chain(order.last_resort())
        .filter_map(|candidate| name(candidate.entry))
        .find(|name| report.slots.get(name).is_some_and(SlotReport::is_bootable))
}

fn extent(entry: &Entry, block_bytes: u64) -> Extent {
    Extent {
        offset: entry.first_block().saturating_mul(block_bytes),
        bytes: entry.blocks().saturating_mul(block_bytes),
    }
}

/// The table by either block size; `None` when there is no sign of one.
fn read_table(file: &DiskImage, bytes: u64) -> Option<Loaded> {
    let read = |block_size: u32| {
        let geometry = Geometry { block_size, blocks: bytes / u64::from(block_size) };
        Loaded::read(&mut ImageDevice { file, geometry }, None)
    };
    let loaded = [read(512), read(4096)];
    let valid = loaded.iter().position(|loaded| loaded.current().is_some());
    let [small, large] = loaded;
    match valid {
        Some(0) => Some(small),
        Some(_) => Some(large),
        // Neither copy counts, but a protective MBR says that there once was a table.
        None => has_protective_mbr(file).then_some(small),
    }
}

fn has_protective_mbr(file: &DiskImage) -> bool {
    let mut block = [0; 512];
    let read = file.read_exact_at(&mut block, 0).is_ok();
    read && block.get(510..) == Some(&[0x55, 0xaa]) && block.get(450) == Some(&0xee)
}

fn has_footer(file: &DiskImage, bytes: u64) -> bool {
    let mut block = [0; FOOTER_LEN];
    let Some(at) = bytes.checked_sub(FOOTER_LEN as u64) else { return false };
    file.read_exact_at(&mut block, at).is_ok()
        && !matches!(Footer::parse(&block), Err(FooterError::Blank | FooterError::Magic))
}

/// An image as `slots` reads it; it refuses writes.
#[derive(Debug)]
pub struct ImageDevice<'a> {
    file: &'a DiskImage,
    geometry: Geometry,
}

impl<'a> ImageDevice<'a> {
    /// The image as a disk with blocks of 512 bytes.
    pub fn new(file: &'a DiskImage) -> Self {
        let block_size = 512;
        Self { file, geometry: Geometry { block_size, blocks: file.bytes() / u64::from(block_size) } }
    }
}

impl Device for ImageDevice<'_> {
    type Error = io::Error;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
