//! Starting an image without firmware: the kernel, the initramfs and the command line that the loader would have used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use slots::{BootOrder, FOOTER_LEN, FOOTER_VERSION, Footer, FooterError, LOADER_VERSION, Loaded, Part};

use crate::formats::{DiskImage, OpenError, ReadAt as _};
use crate::inspect::ImageDevice;

/// What a kernel is started with.
#[derive(Debug, Clone)]
pub struct DirectFiles {
    /// The kernel, copied out of the image.
    pub kernel: PathBuf,
    /// The initramfs, copied out of the image.
    pub initramfs: PathBuf,
    /// The signed command line and what the loader appends to it.
    pub command_line: String,
}

/// Why an image cannot be started directly.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The image cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Reading the image or writing beside it failed.
    #[error("cannot take kernel and initramfs out of {}", image.display())]
    Io {
        /// The image.
        image: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither copy of the partition table is valid.
    #[error("{} has no valid partition table", image.display())]
    NoTable {
        /// The image.
        image: PathBuf,
    },
    /// No slot may boot.
    #[error("no slot of {} may boot", image.display())]
    NoSlot {
        /// The image.
        image: PathBuf,
    },
    /// The slot's footer cannot be read.
    #[error("the slot that boots next cannot be read")]
    Footer(#[from] FooterError),
    /// The command line is not UTF-8.
    #[error("the slot's command line is not UTF-8")]
    CommandLine,
}

/// Takes the files of the slot that boots next out of a disk image, into a folder beside it. No signature is looked at:
/// `--direct` is for those who trust what they built.
///
/// # Errors
/// [`DirectError`].
pub fn extract(image: &Path) -> Result<DirectFiles, DirectError> {
    let io_error = |source| DirectError::Io { image: image.to_owned(), source };
    let file = DiskImage::open(image)?;
    let mut device = ImageDevice::new(&file);
    let loaded = Loaded::read(&mut device, None);
    let (table, _) = loaded.current().ok_or_else(|| DirectError::NoTable { image: image.to_owned() })?;
    let next = BootOrder::of(table).candidates().next();
    let no_slot = || DirectError::NoSlot { image: image.to_owned() };
    let next = next.ok_or_else(no_slot)?;
    let entry = table.entry(next.entry).ok_or_else(no_slot)?;
    let block = u64::from(loaded.geometry().block_size);
    let start = entry.first_block() * block;
    let mut footer = [0; FOOTER_LEN];
    file.read_exact_at(&mut footer, start + entry.blocks() * block - FOOTER_LEN as u64).map_err(io_error)?;
    let footer = Footer::parse(&footer)?;
    footer.check_places(entry.blocks() * block)?;
    let mut name = image.file_name().unwrap_or_default().to_owned();
    name.push(".direct");
    let folder = image.with_file_name(name);
    fs::create_dir_all(&folder).map_err(io_error)?;
    let take = |part: Part| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(part.length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start + part.offset)?;
        Ok(bytes)
    };
    let (kernel, initramfs) = (folder.join("kernel"), folder.join("initramfs"));
    fs::write(&kernel, take(footer.parts.kernel).map_err(io_error)?).map_err(io_error)?;
    fs::write(&initramfs, take(footer.parts.initramfs).map_err(io_error)?).map_err(io_error)?;
    let signed = String::from_utf8(take(footer.parts.command_line).map_err(io_error)?)
        .map_err(|_| DirectError::CommandLine)?;
    // A machine's disk GUID becomes random at its first boot, in the overlay: init finds the disk by its slot instead.
    let command_line = format!(
        "{signed} ferrite.slot={} ferrite.trial={} ferrite.loader={LOADER_VERSION},{FOOTER_VERSION},{}",
        entry.unique_guid(),
        u8::from(!next.flags.successful()),
        footer.key_id,
    );
    Ok(DirectFiles { kernel, initramfs, command_line })
}
