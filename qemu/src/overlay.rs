//! Empty qcow2 overlays: copy-on-write files over an image that stays as it is.
//!
//! Format: QEMU's `docs/interop/qcow2.rst`, version 3, clusters of 64 KiB, 16-bit reference counts.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::spec::DiskFormat;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes that one entry of the first-level table covers: a cluster full of 8-byte entries of one cluster each.
const L1_ENTRY_COVERS: u64 = CLUSTER / 8 * CLUSTER;
/// QEMU refuses a first-level table above 32 MiB; this is far below and still 16 TiB.
const MAX_SIZE: u64 = 1 << 44;
const MAGIC: [u8; 4] = *b"QFI\xfb";
const HEADER_LENGTH: u32 = 104;
/// Bytes of the footer that a VHD ends with, and the place of the disk's size in it.
const VHD_FOOTER: usize = 512;
const VHD_SIZE: usize = 48;
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;

/// An overlay that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Reading the image or writing the overlay failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The image says that it is qcow2 and is not.
    #[error("{} is not a qcow2 image", .0.display())]
    NotQcow2(PathBuf),
    /// The image says that it is VHD and is not.
    #[error("{} is not a VHD image", .0.display())]
    NotVhd(PathBuf),
    /// A socket, behind which a server has the disk.
    #[error("{} is no image file", .0.display())]
    NoFile(PathBuf),
    /// More than 16 TiB, or a path too long for the header.
    #[error("cannot make an overlay of {size} bytes over {}", image.display())]
    TooLarge {
        /// The image.
        image: PathBuf,
        /// Size asked for.
        size: u64,
    },
}

/// Size in bytes of the disk that an image holds.
///
/// # Errors
/// The image cannot be read, or is not what `format` says.
pub fn virtual_size(image: &Path, format: DiskFormat) -> Result<u64, OverlayError> {
    let io = |source| OverlayError::Io { action: "read", path: image.to_path_buf(), source };
    let mut file = File::open(image).map_err(io)?;
    match format {
        DiskFormat::Raw => file.seek(SeekFrom::End(0)).map_err(io),
        DiskFormat::Qcow2 => {
            let mut header = [0; 32];
            file.read_exact(&mut header).map_err(io)?;
            match header {
                [b'Q', b'F', b'I', 0xfb, .., a, b, c, d, e, f, g, h] => {
                    Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
                }
                _ => Err(OverlayError::NotQcow2(image.to_path_buf())),
            }
        }
        DiskFormat::Vhd => {
            let mut footer = [0; VHD_FOOTER];
            file.seek(SeekFrom::End(-512)).and_then(|_| file.read_exact(&mut footer)).map_err(io)?;
            let size = footer.get(VHD_SIZE..).and_then(|rest| rest.first_chunk());
            match size {
                Some(size) if footer.starts_with(b"conectix") => Ok(u64::from_be_bytes(*size)),
                _ => Err(OverlayError::NotVhd(image.to_path_buf())),
            }
        }
        DiskFormat::Nbd => Err(OverlayError::NoFile(image.to_path_buf())),
    }
}

/// Makes an empty overlay over `image` at `path`, whole or not at all. Its disk has the image's size or `size` bytes, whichever
/// is larger, rounded up to a sector.
///
/// # Errors
/// The image cannot be read or the overlay not written; sizes above 16 TiB.
pub fn create(path: &Path, image: &Path, format: DiskFormat, size: u64) -> Result<(), OverlayError> {
    let size = virtual_size(image, format)?.max(size).next_multiple_of(512);
    let absolute = std::path::absolute(image).unwrap_or_else(|_| image.to_path_buf());
    let too_large = || OverlayError::TooLarge { image: image.to_path_buf(), size };
    let bytes =
        overlay_bytes(absolute.to_str().ok_or_else(too_large)?, format, size).ok_or_else(too_large)?;
    let io = |source| OverlayError::Io { action: "write", path: path.to_path_buf(), source };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // Best effort: the error that counts is the one above.
        let _ = std::fs::remove_file(&new);
    }
    written.map_err(io)
}

/// The bytes of an empty overlay; `None` when the header cannot hold it.
fn overlay_bytes(backing: &str, format: DiskFormat, size: u64) -> Option<Vec<u8>> {
    if size > MAX_SIZE {
        return None;
    }
    let l1_entries = size.div_ceil(L1_ENTRY_COVERS).max(1);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    // Cluster 0 header, 1 table of reference count blocks, 2 its only block, 3.. first-level table (zeros: nothing written).
    let used = usize::try_from(3 + l1_clusters).ok()?;
    let format = match format {
        DiskFormat::Raw => b"raw".as_slice(),
        DiskFormat::Qcow2 => b"qcow2".as_slice(),
        DiskFormat::Vhd => b"vpc".as_slice(),
        DiskFormat::Nbd => return None,
    };
    let mut extensions = Vec::new();
    extensions.extend(EXT_BACKING_FORMAT.to_be_bytes());
    extensions.extend(u32::try_from(format.len()).ok()?.to_be_bytes());
    extensions.extend(format);
    extensions.resize(extensions.len().next_multiple_of(8) + 8, 0); // padding, then the end mark
    let backing_offset = u64::from(HEADER_LENGTH) + u64::try_from(extensions.len()).ok()?;

    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(3_u32.to_be_bytes());
    out.extend(backing_offset.to_be_bytes());
    out.extend(u32::try_from(backing.len()).ok()?.to_be_bytes());
    out.extend(CLUSTER_BITS.to_be_bytes());
    out.extend(size.to_be_bytes());
    out.extend(0_u32.to_be_bytes()); // no encryption
    out.extend(u32::try_from(l1_entries).ok()?.to_be_bytes());
    out.extend((3 * CLUSTER).to_be_bytes());
    out.extend(CLUSTER.to_be_bytes());
    out.extend(1_u32.to_be_bytes());
    out.extend([0; 12]); // snapshots: number, offset
    out.extend([0; 24]); // feature bits
    out.extend(4_u32.to_be_bytes()); // reference counts of 1 << 4 bits
    out.extend(HEADER_LENGTH.to_be_bytes());
    out.extend(extensions);
    out.extend(backing.as_bytes());
    // The specification limits the name to 1023 bytes.
    if backing.len() > 1023 {
        return None;
    }
    let cluster = usize::try_from(CLUSTER).ok()?;
    out.resize(cluster, 0);
    out.extend((2 * CLUSTER).to_be_bytes());
    out.resize(2 * cluster, 0);
    out.extend(std::iter::repeat_n(1_u16.to_be_bytes(), used).flatten());
    out.resize(used * cluster, 0);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_has_the_size_asked_for_or_the_images() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("base.raw");
        File::create(&image).unwrap().set_len(3 << 20).unwrap();
        for (asked, want) in [(0, 3 << 20), (8 << 30, 8 << 30), ((3 << 20) + 1, (3 << 20) + 512)] {
            let overlay = dir.path().join("over.qcow2");
            create(&overlay, &image, DiskFormat::Raw, asked).unwrap();
            assert_eq!(virtual_size(&overlay, DiskFormat::Qcow2).unwrap(), want, "asked {asked}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_raw_file_is_not_taken_for_qcow2() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("base.raw");
        std::fs::write(&image, [0; 64]).unwrap();
        assert!(matches!(virtual_size(&image, DiskFormat::Qcow2), Err(OverlayError::NotQcow2(_))));
    }

    #[test]
    fn a_vhd_has_the_size_in_its_footer() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("base.vhd");
        let mut bytes = vec![0; 4096 + 512];
        std::fs::write(&image, &bytes).unwrap();
        assert!(matches!(virtual_size(&image, DiskFormat::Vhd), Err(OverlayError::NotVhd(_))));
        bytes[4096..][..8].copy_from_slice(b"conectix");
        bytes[4096 + 48..][..8].copy_from_slice(&4096_u64.to_be_bytes());
        std::fs::write(&image, &bytes).unwrap();
        assert_eq!(virtual_size(&image, DiskFormat::Vhd).unwrap(), 4096);
        let overlay = dir.path().join("over.qcow2");
        create(&overlay, &image, DiskFormat::Vhd, 1 << 20).unwrap();
        let bytes = std::fs::read(&overlay).unwrap();
        assert_eq!(bytes[104..120], *b"\xe2\x79\x2a\xca\0\0\0\x03vpc\0\0\0\0\0");
    }

    #[test]
    fn sizes_and_names_beyond_the_format_are_refused() {
        assert!(overlay_bytes("/x", DiskFormat::Raw, MAX_SIZE).is_some());
        assert!(overlay_bytes("/x", DiskFormat::Raw, MAX_SIZE + 1).is_none());
        assert!(overlay_bytes(&"x".repeat(1024), DiskFormat::Raw, 1).is_none());
    }
}
