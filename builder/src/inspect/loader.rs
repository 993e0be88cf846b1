//! The loader in the ESP: is it ours, and whom does it trust?

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use slots::{Table, types};

use super::report::{LoaderReport, TrustedKeyReport};
use crate::esp::{LOADER_PATH, loader, read_file};
use crate::formats::{DiskImage, ReadAt as _};
use crate::signing::hex;

/// Largest loader that is read; ours has about 100 KiB.
const LARGEST_LOADER: u64 = 16 << 20;
/// Reads of the FAT volume before it counts as damaged: a cluster chain that bites its tail would never end.
const MOST_READS: u32 = 1_000_000;

/// Reads the loader of a disk; `None` when there is no ESP or no loader in it.
pub fn inspect_loader(file: &DiskImage, table: &Table, block_bytes: u64) -> Option<LoaderReport> {
    let (_, esp) = table.entries().find(|(_, entry)| entry.type_guid() == types::ESP)?;
    let window = Window {
        file,
        offset: esp.first_block().saturating_mul(block_bytes),
        bytes: esp.blocks().saturating_mul(block_bytes),
        position: 0,
        reads_left: MOST_READS,
    };
    // `fatfs` checks much but not all: on some damaged volumes it panics.
    let content = catch_unwind(AssertUnwindSafe(|| read_file(window, LOADER_PATH, LARGEST_LOADER)));
    match content {
        Ok(Ok(Some(bytes))) => Some(describe(&bytes)),
        Ok(Ok(None)) => None,
        Ok(Err(error)) => Some(broken(format!("{error}: {}", chain(&error)))),
        Err(_) => Some(broken("the file system of the ESP is damaged".to_owned())),
    }
}

fn describe(file: &[u8]) -> LoaderReport {
    match loader::read_trust(file) {
        Ok(trust) => LoaderReport {
            bytes: file.len(),
            product: Some(trust.product.to_string()),
            keys: trust
                .keys()
                .map(|key| TrustedKeyReport {
                    id: hex(&key.key.id().0),
                    public_key: hex(&key.key.0),
                    development: key.development,
                })
                .collect(),
            error: None,
        },
        Err(error) => LoaderReport { bytes: file.len(), ..broken(format!("{error}: {}", chain(&error))) },
    }
}

fn broken(error: String) -> LoaderReport {
    LoaderReport { bytes: 0, product: None, keys: Vec::new(), error: Some(error) }
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// A partition of an image file, for reading.
struct Window<'a> {
    file: &'a DiskImage,
    offset: u64,
    bytes: u64,
    position: u64,
    reads_left: u32,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
        let at = self.offset.saturating_add(self.position);
        // The table may promise more than the disk has.
        let left = self.bytes.saturating_sub(self.position).min(self.file.bytes().saturating_sub(at));
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let target = buffer.get_mut(..count).unwrap_or_default();
        self.file.read_exact_at(target, at)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.bytes.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, _data: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
