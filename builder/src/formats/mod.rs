//! The formats of a disk image: writing them from the raw image, and reading a disk in any of them.
//!
//! All of them are written in one pass, by all processors, with the same bytes whatever their number, and holes cost nothing.
//! Start with [`Format`] and [`DiskImage`].

mod blocks;
mod chunks;
mod image;
pub mod qcow2;
pub mod rawzst;
pub mod vhd;

use std::fmt;
use std::fs::File;
use std::io;

use clap::ValueEnum;
use debian::progress::{Progress, Unit};
use serde::{Deserialize, Serialize};

pub use self::blocks::ReadAt;
pub use self::image::{DiskImage, OpenError};
pub use self::vhd::Identity;
use crate::sparse;

/// A format of disk images. The order is that of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk, in a sparse file
    #[value(name = "raw")]
    Raw,
    /// QEMU's format, compressed with zstd; QEMU 5.1 or later boots from it
    #[value(name = "qcow2")]
    Qcow2,
    /// The raw image compressed with zstd, for transport
    #[value(name = "raw.zst")]
    #[serde(rename = "raw.zst")]
    RawZst,
    /// Virtual Hard Disk of fixed size, for Azure and importers like it
    #[value(name = "vhd")]
    Vhd,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Qcow2, Self::RawZst, Self::Vhd];

    /// Its name, which is also what a file's name ends with behind the dot.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::RawZst => "raw.zst",
            Self::Vhd => "vhd",
        }
    }

    /// Writes a raw image in this format into an empty file.
    ///
    /// # Errors
    /// Reading or writing fails, or the format has no room for a disk of this size.
    pub fn write(
        self,
        raw: &File,
        to: &File,
        identity: &Identity,
        progress: &dyn Progress,
    ) -> Result<(), FormatError> {
        let len = raw.metadata()?.len();
        let data = sparse::data_ranges(raw, 0..len)?.iter().map(|range| range.end - range.start).sum();
        let task = progress.begin(&format!("writing {self}"), data, Unit::Bytes);
        let task = task.as_ref();
        match self {
            Self::Raw => {
                to.set_len(len)?;
                Ok(sparse::copy(raw, 0..len, to, 0, |bytes| task.advance(bytes))?)
            }
            Self::Qcow2 => qcow2::write(raw, len, to, task),
            Self::RawZst => rawzst::write(raw, len, to, task),
            Self::Vhd => vhd::write(raw, len, identity, to, task),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why an image could not be written in a format.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Reading the raw image or writing the other one failed.
    #[error("copying the disk failed")]
    Io(#[from] io::Error),
    /// The format does not take disks of this size.
    #[error("a disk of {bytes} bytes does not fit the format: its size must be {rule}")]
    Size {
        /// Size of the disk.
        bytes: u64,
        /// What sizes it takes.
        rule: &'static str,
    },
}

#[cfg(test)]
mod tests;
