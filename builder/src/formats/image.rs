//! A disk image in whichever format, told by its content.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Format;
use super::blocks::{Cached, ReadAt};
use super::qcow2::{self, Qcow2, Qcow2Error};
use super::rawzst::{self, RawZst, RawZstError};
use super::vhd::{self, VhdError};

/// Why an image file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened or read.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is qcow2, and refused.
    #[error("cannot read {} as qcow2", path.display())]
    Qcow2 {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Qcow2Error,
    },
    /// It is compressed with zstd, and refused.
    #[error("cannot read {} as raw.zst", path.display())]
    RawZst {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RawZstError,
    },
    /// It is VHD, and refused.
    #[error("cannot read {} as VHD", path.display())]
    Vhd {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VhdError,
    },
}

impl OpenError {
    /// What a user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } => None,
            Self::Qcow2 { source, .. } => Some(source.hint()),
            Self::RawZst { source, .. } => Some(source.hint()),
            Self::Vhd { source, .. } => Some(source.hint()),
        }
    }
}

/// An open image, read as the disk that is in it. Files of no format that is known count as raw.
#[derive(Debug)]
pub struct DiskImage {
    content: Content,
    bytes: u64,
}

#[derive(Debug)]
enum Content {
    Raw(File),
    Qcow2(Cached<Qcow2>),
    RawZst(Cached<RawZst>),
    Vhd(File),
}

impl DiskImage {
    /// Opens an image.
    ///
    /// # Errors
    /// The file cannot be opened, or it is of a format that is known and refused: damaged, or using what is not supported.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let at = || path.to_owned();
        let io_error = |source| OpenError::Io { path: at(), source };
        let file = File::open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if metadata.is_dir() {
            return Err(io_error(io::ErrorKind::IsADirectory.into()));
        }
        let file_bytes = metadata.len();
        let mut magic = [0; 4];
        if file_bytes >= magic.len() as u64 {
            file.read_exact_at(&mut magic, 0).map_err(io_error)?;
        }
        if magic == qcow2::MAGIC {
            let disk = Qcow2::open(file).map_err(|source| OpenError::Qcow2 { path: at(), source })?;
            return Ok(Self { bytes: disk.disk_bytes(), content: Content::Qcow2(Cached::new(disk)) });
        }
        if magic == rawzst::MAGIC {
            let disk = RawZst::open(file).map_err(|source| OpenError::RawZst { path: at(), source })?;
            return Ok(Self { bytes: disk.disk_bytes(), content: Content::RawZst(Cached::new(disk)) });
        }
        let footer = vhd::read_footer(&file, file_bytes).map_err(io_error)?;
        let in_vhd = footer.map_or(Ok(None), |footer| vhd::disk_bytes(&footer, file_bytes));
        match in_vhd.map_err(|source| OpenError::Vhd { path: at(), source })? {
            Some(bytes) => Ok(Self { bytes, content: Content::Vhd(file) }),
            None => Ok(Self { bytes: file_bytes, content: Content::Raw(file) }),
        }
    }

    /// Size of the disk in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file's format.
    pub const fn format(&self) -> Format {
        match self.content {
            Content::Raw(_) => Format::Raw,
            Content::Qcow2(_) => Format::Qcow2,
            Content::RawZst(_) => Format::RawZst,
            Content::Vhd(_) => Format::Vhd,
        }
    }
}

impl ReadAt for DiskImage {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.content {
            Content::Raw(file) | Content::Vhd(file) => file.read_exact_at(buffer, offset),
            Content::Qcow2(disk) => disk.read_exact_at(buffer, offset),
            Content::RawZst(disk) => disk.read_exact_at(buffer, offset),
        }
    }
}
