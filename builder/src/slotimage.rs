//! Puts the parts of a slot together, signs them, and installs the result into a disk image.
//!
//! The slot file (`.usr`) is the parts, each at a multiple of 4 KiB, and then the footer. In a partition the footer has
//! the last 4 KiB instead (`docs/formats/slot-footer.md`), so the same signed footer serves both.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use slots::{
    FOOTER_LEN, Footer, FooterError, KeyId, PART_ALIGNMENT, Part, Parts, Text, TextError, VerityInfo,
};

use crate::disk::Partition;
use crate::signing::{SlotSigner, hex};
use crate::sparse;

/// Bytes that are read and hashed at a time.
const CHUNK: usize = 1 << 20;

/// What the footer says about the image besides its parts.
#[derive(Debug, Clone)]
pub struct Identity<'a> {
    /// Product name: at most 32 printable ASCII characters without spaces.
    pub product: &'a str,
    /// Image version: at most 64 such characters.
    pub version: &'a str,
    /// Architecture as in `uname -m`.
    pub architecture: &'a str,
    /// Least loader version that may start the slot.
    pub minimum_loader: u32,
    /// Rollback index (SAFETY 12).
    pub rollback_index: u64,
    /// Unix seconds.
    pub build_time: u64,
}

/// Where a part's bytes come from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// They are in the slot file already, at the place that the order of parts gives them.
    InPlace {
        /// How many bytes.
        bytes: u64,
    },
    /// They are written by [`assemble`].
    Bytes(&'a [u8]),
}

impl Source<'_> {
    const fn len(self) -> u64 {
        match self {
            Self::InPlace { bytes } => bytes,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// The parts in their order. Each starts at the next multiple of 4 KiB behind its predecessor.
#[derive(Debug, Clone, Copy)]
pub struct SlotParts<'a> {
    /// EROFS of `/usr`, at offset 0; a multiple of 4 KiB.
    pub usr: Source<'a>,
    /// dm-verity superblock and hash tree.
    pub verity: Source<'a>,
    /// Linux with its EFI stub.
    pub kernel: Source<'a>,
    /// The initramfs archive.
    pub initramfs: Source<'a>,
    /// One line, without a newline.
    pub command_line: Source<'a>,
    /// Root hash of the tree over `usr`.
    pub root_hash: [u8; 32],
    /// Salt of the tree.
    pub salt: [u8; 32],
}

/// Why a slot could not be assembled or installed.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// A text does not fit the footer.
    #[error("{field} {value:?} does not fit the slot footer")]
    Text {
        /// Which field.
        field: &'static str,
        /// The refused text.
        value: String,
        /// Why.
        source: TextError,
    },
    /// A part is missing or misplaced, or the verity data does not fit `usr`.
    #[error("the parts do not make a slot")]
    Parts(#[source] FooterError),
    /// Reading or writing failed.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The content does not fit the partition.
    #[error(
        "the slot is too small for its content: it needs {:.1} MiB and has {:.1}, {} bytes too few",
        mib(*needed),
        mib(*available),
        needed - available
    )]
    TooSmall {
        /// Bytes of the parts and the footer.
        needed: u64,
        /// Bytes of the partition.
        available: u64,
    },
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A signed slot, as it stands in a slot file.
#[derive(Debug, Clone)]
pub struct SlotImage {
    /// The footer's fields.
    pub footer: Footer,
    /// The footer's bytes.
    pub footer_bytes: [u8; FOOTER_LEN],
}

impl SlotImage {
    /// Bytes of the parts and the footer: the size of the slot file, and the least size of a partition.
    pub fn bytes(&self) -> u64 {
        align(self.footer.parts.end()) + FOOTER_LEN as u64
    }
}

/// Bytes of the slot file and the least partition for these parts, known before anything is hashed.
pub fn slot_bytes(parts: &SlotParts<'_>) -> u64 {
    let [.., (last_offset, last_bytes)] = places(parts);
    align(last_offset + last_bytes) + FOOTER_LEN as u64
}

/// Fails when the parts do not fit a partition of `available` bytes.
///
/// # Errors
/// [`SlotError::TooSmall`] says by how much.
pub fn check_fits(needed: u64, available: u64) -> Result<(), SlotError> {
    if needed > available { Err(SlotError::TooSmall { needed, available }) } else { Ok(()) }
}

/// Completes a slot file: writes the parts that are not in place yet, hashes all, signs, and appends the footer.
/// The file ends behind the footer; what was behind that is cut off.
///
/// # Errors
/// A text or part does not fit the footer, or the file cannot be read or written.
pub fn assemble(
    file: &File,
    identity: &Identity<'_>,
    parts: &SlotParts<'_>,
    signer: &SlotSigner,
) -> Result<SlotImage, SlotError> {
    let places = places(parts);
    write_parts(file, parts, &places)?;
    let footer = footer(file, identity, parts, &places, signer)?;
    footer.check_places(slot_bytes(parts)).map_err(SlotError::Parts)?;
    let footer_bytes = footer.to_bytes(|signed| signer.sign(signed));
    let image = SlotImage { footer, footer_bytes };
    let io = |source| SlotError::Io { action: "write the slot footer", source };
    file.write_all_at(&footer_bytes, image.bytes() - FOOTER_LEN as u64).map_err(io)?;
    file.set_len(image.bytes()).map_err(io)?;
    Ok(image)
}

/// Copies a slot from its slot file into a partition of a fresh disk image, footer in the partition's last 4 KiB.
/// Blocks that are holes in the slot file stay holes.
///
/// # Errors
/// The slot is too large for the partition, or a file cannot be read or written.
pub fn install(
    slot_file: &File,
    image: &SlotImage,
    disk: &File,
    partition: &Partition,
) -> Result<(), SlotError> {
    check_fits(image.bytes(), partition.bytes)?;
    sparse::copy(slot_file, 0..image.footer.parts.end(), disk, partition.offset, |_| {})
        .map_err(|source| SlotError::Io { action: "copy the slot into the disk image", source })?;
    let footer_at = partition.offset + partition.bytes - FOOTER_LEN as u64;
    disk.write_all_at(&image.footer_bytes, footer_at)
        .map_err(|source| SlotError::Io { action: "write the footer into the disk image", source })
}

/// What init opens `/usr` by (`docs/ARCHITECTURE.md`, "Kernel command line").
pub fn verity_argument(verity: &VerityInfo) -> String {
    format!(
        "ferrite.verity={},{},{},{}",
        hex(&verity.root_hash),
        hex(&verity.salt),
        verity.data_blocks,
        verity.superblock_offset
    )
}

const fn align(offset: u64) -> u64 {
    offset.next_multiple_of(PART_ALIGNMENT)
}

/// Offset and length of each part, in the order of the footer.
fn places(parts: &SlotParts<'_>) -> [(u64, u64); 5] {
    let mut next = 0;
    parts.in_order().map(|source| {
        let offset = next;
        next = align(offset + source.len());
        (offset, source.len())
    })
}

impl<'a> SlotParts<'a> {
    const fn in_order(&self) -> [Source<'a>; 5] {
        [self.usr, self.verity, self.kernel, self.initramfs, self.command_line]
    }
}

fn write_parts(file: &File, parts: &SlotParts<'_>, places: &[(u64, u64); 5]) -> Result<(), SlotError> {
    for (source, (offset, _)) in parts.in_order().into_iter().zip(places) {
        if let Source::Bytes(bytes) = source {
            file.write_all_at(bytes, *offset)
                .map_err(|source| SlotError::Io { action: "write a part of the slot", source })?;
        }
    }
    Ok(())
}

fn footer(
    file: &File,
    identity: &Identity<'_>,
    parts: &SlotParts<'_>,
    places: &[(u64, u64); 5],
    signer: &SlotSigner,
) -> Result<Footer, SlotError> {
    let hashed: Vec<Part> = places
        .par_iter()
        .map(|(offset, length)| {
            let sha256 = hash_range(file, *offset, *length)
                .map_err(|source| SlotError::Io { action: "read a part of the slot back", source })?;
            Ok(Part { offset: *offset, length: *length, sha256 })
        })
        .collect::<Result<_, SlotError>>()?;
    let [usr, verity, kernel, initramfs, command_line] =
        <[Part; 5]>::try_from(hashed).map_err(|_| SlotError::Parts(FooterError::Layout(0)))?;
    Ok(Footer {
        product: text("product name", identity.product)?,
        version: text("version", identity.version)?,
        architecture: text("architecture", identity.architecture)?,
        minimum_loader: identity.minimum_loader,
        rollback_index: identity.rollback_index,
        build_time: identity.build_time,
        verity: VerityInfo {
            root_hash: parts.root_hash,
            salt: parts.salt,
            data_blocks: usr.length / PART_ALIGNMENT,
            superblock_offset: verity.offset,
        },
        parts: Parts { usr, verity, kernel, initramfs, command_line },
        key_id: KeyId(signer.public().id()),
    })
}

fn text<const N: usize>(field: &'static str, value: &str) -> Result<Text<N>, SlotError> {
    Text::new(value).map_err(|source| SlotError::Text { field, value: value.to_owned(), source })
}

/// SHA-256 of a range of a file or disk, read in chunks.
///
/// # Errors
/// It cannot be read or is too short.
pub fn hash_range(file: &dyn crate::formats::ReadAt, offset: u64, length: u64) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    for_each_chunk(file, offset, length, |_, chunk| {
        hasher.update(chunk);
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}

fn for_each_chunk(
    file: &dyn crate::formats::ReadAt,
    offset: u64,
    length: u64,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(CHUNK).min(CHUNK)];
    let mut done = 0;
    while done < length {
        let wanted = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(chunk, offset + done)?;
        each(done, chunk)?;
        done += wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskLayout, DiskSpec, Role};
    use slots::{LOADER_VERSION, Policy, TrustedKey};

    const IDENTITY: Identity<'_> = Identity {
        product: "ferrite",
        version: "1.2.3",
        architecture: "x86_64",
        minimum_loader: LOADER_VERSION,
        rollback_index: 0,
        build_time: 1_700_000_000,
    };

    fn parts<'a>(kernel: &'a [u8], initramfs: &'a [u8]) -> SlotParts<'a> {
        SlotParts {
            usr: Source::InPlace { bytes: 3 * 4096 },
            verity: Source::Bytes(&[7; 8192]),
            kernel: Source::Bytes(kernel),
            initramfs: Source::Bytes(initramfs),
            command_line: Source::Bytes(b"console=ttyS0"),
            root_hash: [1; 32],
            salt: [2; 32],
        }
    }

    fn slot_file(parts: &SlotParts<'_>) -> (File, SlotImage) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"erofs", 0).unwrap();
        file.set_len(3 * 4096).unwrap();
        let image = assemble(&file, &IDENTITY, parts, &SlotSigner::development().unwrap()).unwrap();
        (file, image)
    }

    fn policy(keys: &[TrustedKey]) -> Policy<'_> {
        Policy {
            keys,
            product: Some("ferrite"),
            architecture: "x86_64",
            loader_version: 1,
            rollback_floor: 0,
        }
    }

    #[test]
    fn the_footer_of_a_slot_file_verifies_and_describes_it() {
        let (file, image) = slot_file(&parts(&[9; 5000], b"cpio"));
        assert_eq!(file.metadata().unwrap().len(), image.bytes());
        let mut footer = [0; FOOTER_LEN];
        file.read_exact_at(&mut footer, image.bytes() - FOOTER_LEN as u64).unwrap();
        let keys = [TrustedKey(SlotSigner::development().unwrap().public().to_bytes())];
        let read = Footer::verify(&footer, image.bytes(), &policy(&keys)).unwrap();
        assert_eq!(read, image.footer);
        let offsets: Vec<_> = read.parts.named().iter().map(|(_, part)| part.offset / 4096).collect();
        assert_eq!(offsets, [0, 3, 5, 7, 8]);
        for (name, part) in read.parts.named() {
            assert_eq!(hash_range(&file, part.offset, part.length).unwrap(), part.sha256, "{name}");
        }
    }

    #[test]
    fn a_partition_gets_the_same_parts_and_the_footer_at_its_end() {
        let (file, image) = slot_file(&parts(&[9; 3 << 20], b"cpio"));
        let spec = DiskSpec { usr_bytes: 8 << 20, ..DiskSpec::new("ferrite") };
        let partition = DiskLayout::plan(&spec).unwrap().partition(Role::UsrA);
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(partition.offset + partition.bytes + 4096).unwrap();
        install(&file, &image, &disk, &partition).unwrap();
        let end = image.footer.parts.end();
        assert_eq!(hash_range(&disk, partition.offset, end).unwrap(), hash_range(&file, 0, end).unwrap());
        let mut footer = [0; FOOTER_LEN];
        disk.read_exact_at(&mut footer, partition.offset + partition.bytes - 4096).unwrap();
        assert!(footer == image.footer_bytes);
        let mut behind = [1; 4096];
        disk.read_exact_at(&mut behind, partition.offset + partition.bytes).unwrap();
        assert!(behind == [0; 4096]);
    }

    #[test]
    fn a_slot_that_is_too_small_says_by_how_much() {
        let kernel = [9; 5000];
        let parts = parts(&kernel, b"cpio");
        assert_eq!(slot_bytes(&parts), 10 * 4096);
        let error = check_fits(slot_bytes(&parts), 9 * 4096).unwrap_err().to_string();
        assert!(error.contains("needs 0.0 MiB and has 0.0, 4096 bytes too few"), "{error}");
    }

    #[test]
    fn texts_that_do_not_fit_and_missing_parts_are_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * 4096).unwrap();
        let signer = SlotSigner::development().unwrap();
        let long = Identity { product: "two words", ..IDENTITY };
        let error = assemble(&file, &long, &parts(b"k", b"i"), &signer).unwrap_err();
        assert_eq!(error.to_string(), "product name \"two words\" does not fit the slot footer");
        let error = assemble(&file, &IDENTITY, &parts(b"", b"i"), &signer).unwrap_err();
        assert!(matches!(error, SlotError::Parts(FooterError::Part("kernel"))), "{error:?}");
    }
}
