//! Reads single files of a FAT volume, by `fatfs`.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use fatfs::{FileSystem, FsOptions};

use super::device::{ReadAt, bytes};

/// What is read of a volume at most. A volume whose cluster chains go round in circles would be read for ever.
const READING_LIMIT: u64 = 64 << 20;
/// Bytes of a sector as far as the label goes.
const BOOT_SECTOR: usize = 512;

/// The label in the boot sector; `None` when this is no FAT volume.
pub fn label<D: ReadAt + ?Sized>(device: &D) -> Option<String> {
    let sector = bytes(device, 0, BOOT_SECTOR).ok()?;
    if sector.get(510..)? != [0x55, 0xaa] {
        return None;
    }
    // FAT32 has its label elsewhere than its elders.
    [(0x52, &b"FAT32"[..], 0x47), (0x36, b"FAT1", 0x2b)].into_iter().find_map(|(at, kind, label)| {
        sector.get(at..)?.starts_with(kind).then_some(())?;
        let label = String::from_utf8_lossy(sector.get(label..label + 11)?).trim_end().to_owned();
        Some(if label == "NO NAME" { String::new() } else { label })
    })
}

/// The files of these paths, each `None` when it is not there; a longer one than `limit` is an error.
///
/// # Errors
/// The volume cannot be read.
pub fn read<D: ReadAt>(device: D, paths: &[&str], limit: u32) -> io::Result<Vec<Option<Vec<u8>>>> {
    let reader = Reader { device, position: 0, left: READING_LIMIT };
    // Written for volumes that are whole; a damaged one must not take the rest of the user-data along.
    catch_unwind(AssertUnwindSafe(|| read_all(reader, paths, limit)))
        .unwrap_or_else(|_| Err(io::Error::other("the FAT volume is damaged")))
}

fn read_all<D: ReadAt>(reader: Reader<D>, paths: &[&str], limit: u32) -> io::Result<Vec<Option<Vec<u8>>>> {
    let volume = FileSystem::new(reader, FsOptions::new().update_accessed_date(false))?;
    let root = volume.root_dir();
    let mut files = Vec::new();
    for path in paths {
        let file = match root.open_file(path) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => {
                files.push(None);
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        file.take(u64::from(limit) + 1).read_to_end(&mut content)?;
        if content.len() as u64 > u64::from(limit) {
            return Err(io::Error::other(format!("{path} has more than {limit} bytes")));
        }
        files.push(Some(content));
    }
    Ok(files)
}

/// `fatfs` says "Other" for a folder where a file is meant and the reverse.
fn is_absence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.to_string().starts_with("Is a directory")
}

/// A device as a stream that never writes.
struct Reader<D> {
    device: D,
    position: u64,
    left: u64,
}

impl<D: ReadAt> Read for Reader<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(buffer.len() as u64)
            .ok_or_else(|| io::Error::other("the FAT volume goes round in circles"))?;
        self.device.read_at(buffer, self.position)?;
        self.position = self.position.saturating_add(buffer.len() as u64);
        Ok(buffer.len())
    }
}

impl<D> Write for Reader<D> {
    fn write(&mut self, _buffer: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D> Seek for Reader<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            // The size of a device is not asked for by whoever only reads.
            SeekFrom::End(_) => None,
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use proptest::prelude::*;

    struct Bytes(Vec<u8>);

    impl ReadAt for Bytes {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.as_slice().read_at(buffer, offset)
        }
    }

    fn volume() -> Vec<u8> {
        static VOLUME: OnceLock<Vec<u8>> = OnceLock::new();
        let make = || {
            let mut cursor = io::Cursor::new(vec![0; 1 << 20]);
            let options = fatfs::FormatVolumeOptions::new().volume_label(*b"CIDATA     ");
            fatfs::format_volume(&mut cursor, options).unwrap();
            cursor.set_position(0);
            {
                let volume = FileSystem::new(&mut cursor, FsOptions::new()).unwrap();
                let folder = volume.root_dir().create_dir("openstack").unwrap().create_dir("latest").unwrap();
                folder.create_file("user_data").unwrap().write_all(b"#!/bin/sh\n").unwrap();
                volume.root_dir().create_file("user-data").unwrap().write_all(&[b'x'; 5000]).unwrap();
            }
            cursor.into_inner()
        };
        VOLUME.get_or_init(make).clone()
    }

    #[test]
    fn files_are_read_and_missing_ones_are_none() {
        assert_eq!(label(volume().as_slice()).as_deref(), Some("CIDATA"));
        let paths = ["user-data", "meta-data", "openstack/latest/user_data", "openstack", "no/such"];
        let files = read(Bytes(volume()), &paths, 5000).unwrap();
        assert_eq!(files[0].as_ref().unwrap().len(), 5000);
        assert_eq!(files[2].as_deref(), Some(&b"#!/bin/sh\n"[..]));
        assert!(files[1].is_none() && files[3].is_none() && files[4].is_none());
        assert!(read(Bytes(volume()), &paths, 4999).is_err());
    }

    #[test]
    fn other_devices_have_no_label() {
        for other in [vec![], vec![0; 512], vec![0xff; 2048]] {
            assert_eq!(label(other.as_slice()), None);
        }
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_nothing(
            damage in prop::collection::vec((0_usize..40_000, any::<u8>()), 0..12),
            cut in 0_usize..1_048_576,
        ) {
            let mut image = volume();
            for (at, byte) in damage {
                image[at] = byte;
            }
            image.truncate(cut.max(512));
            label(image.as_slice());
            let _either = read(Bytes(image), &["user-data", "openstack/latest/user_data"], 10_000);
        }
    }
}
