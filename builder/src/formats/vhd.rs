//! VHD of fixed size (Microsoft's "Virtual Hard Disk Image Format Specification", 2006): the raw disk and a footer of 512 bytes.
//!
//! `docs/formats/vhd.md` has the byte table. Numbers are big-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use debian::progress::Task;

use super::FormatError;
use crate::disk::derived_guid;
use crate::sparse;

/// First bytes of the footer.
pub const COOKIE: [u8; 8] = *b"conectix";
/// Bytes of the footer, the last of the file.
pub const FOOTER_LEN: usize = 512;
/// Azure takes sizes in whole MiB only.
const SIZE_UNIT: u64 = 1 << 20;
/// Azure's largest fixed disk; the format itself ends at 2040 GiB as well.
const LARGEST_DISK: u64 = 2040 << 30;
const SECTOR: u64 = 512;
/// Unix time of 2000-01-01 00:00 UTC, where the format's clock starts.
const EPOCH: u64 = 946_684_800;
const FIXED: u32 = 2;
/// Where the checksum stands, which counts as zero in it.
const CHECKSUM: std::ops::Range<usize> = 64..68;

/// What the footer says of an image besides its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Unique id, in the order of its text.
    pub unique_id: [u8; 16],
    /// Unix seconds; times before 2000 count as 2000.
    pub build_time: u64,
}

impl Identity {
    /// The identity of an image: builds with the same content have the same one, others another.
    pub fn new(product: &str, version: &str, root_hash: &str, build_time: u64) -> Self {
        let guid = derived_guid(product, &format!("vhd {version} {root_hash}"));
        Self { unique_id: uuid::Uuid::from_bytes_le(guid.to_disk()).into_bytes(), build_time }
    }
}

/// Writes the first `len` bytes of `raw` and the footer into `to`, which must be empty; holes stay holes. `task` advances by
/// the bytes of data copied.
///
/// # Errors
/// Reading or writing fails, or the size is none that Azure takes.
pub fn write(
    raw: &File,
    len: u64,
    identity: &Identity,
    to: &File,
    task: &dyn Task,
) -> Result<(), FormatError> {
    if len == 0 || !len.is_multiple_of(SIZE_UNIT) || len > LARGEST_DISK {
        return Err(FormatError::Size { bytes: len, rule: "a multiple of 1 MiB, up to 2040 GiB" });
    }
    to.set_len(len)?;
    sparse::copy(raw, 0..len, to, 0, |bytes| task.advance(bytes))?;
    to.write_all_at(&footer(len, identity), len)?;
    Ok(())
}

/// The footer of a fixed disk of `len` bytes.
fn footer(len: u64, identity: &Identity) -> [u8; FOOTER_LEN] {
    let (cylinders, heads, sectors) = geometry(len / SECTOR);
    let time = u32::try_from(identity.build_time.saturating_sub(EPOCH)).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(FOOTER_LEN);
    out.extend(COOKIE);
    out.extend(2_u32.to_be_bytes()); // features: the reserved bit that is always set
    out.extend(0x0001_0000_u32.to_be_bytes()); // version of the format
    out.extend(u64::MAX.to_be_bytes()); // no dynamic header
    out.extend(time.to_be_bytes());
    // Readers know the creators whose sizes they may believe; all others' they round down to a cylinder. This one is QEMU's,
    // which writes what Azure's own instructions ask for.
    out.extend(*b"qem2");
    out.extend(0x0005_0003_u32.to_be_bytes()); // its version
    out.extend(*b"Wi2k");
    out.extend(len.to_be_bytes()); // original size
    out.extend(len.to_be_bytes()); // current size
    out.extend(cylinders.to_be_bytes());
    out.extend([heads, sectors]);
    out.extend(FIXED.to_be_bytes());
    out.extend([0; 4]); // checksum
    out.extend(identity.unique_id);
    out.resize(FOOTER_LEN, 0);
    let mut footer = [0; FOOTER_LEN];
    footer.copy_from_slice(&out);
    let sum = checksum(&footer).to_be_bytes();
    if let Some(field) = footer.get_mut(CHECKSUM) {
        field.copy_from_slice(&sum);
    }
    footer
}

/// One's complement of the sum of all bytes but the checksum's own.
fn checksum(footer: &[u8; FOOTER_LEN]) -> u32 {
    let counted = footer.iter().enumerate().filter(|(at, _)| !CHECKSUM.contains(at));
    !counted.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

/// Cylinders, heads and sectors a track for a disk of so many sectors (appendix of the specification): old BIOSes' way to
/// address a disk, at most 127 GiB.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let sectors = sectors.min(65_535 * 16 * 255);
    let (tracks, heads, per_track) = if sectors >= 65_535 * 16 * 63 {
        (sectors / 255, 16, 255)
    } else {
        let mut tracks = sectors / 17;
        let mut heads = tracks.div_ceil(1024).max(4);
        let mut per_track = 17;
        if tracks >= heads * 1024 || heads > 16 {
            (per_track, heads) = (31, 16);
            tracks = sectors / 31;
        }
        if tracks >= heads * 1024 {
            (per_track, heads) = (63, 16);
            tracks = sectors / 63;
        }
        (tracks, heads, per_track)
    };
    let narrow = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    (u16::try_from(tracks / heads).unwrap_or(u16::MAX), narrow(heads), narrow(per_track))
}

/// Why a VHD cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VhdError {
    /// The checksum is wrong.
    #[error("byte {offset}: wrong checksum of the VHD footer")]
    Checksum {
        /// Place in the file.
        offset: u64,
    },
    /// Dynamic and differencing disks.
    #[error("byte {offset}: a VHD of type {kind} is not supported, only fixed ones (2)")]
    Kind {
        /// Place in the file.
        offset: u64,
        /// The type.
        kind: u32,
    },
    /// The size is not what lies before the footer.
    #[error("byte {offset}: the VHD footer says {stated} bytes, and {present} are there")]
    Size {
        /// Place in the file.
        offset: u64,
        /// What the footer says.
        stated: u64,
        /// What is there.
        present: u64,
    },
}

impl VhdError {
    /// What a user can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Kind { .. } => "`qemu-img convert -f vpc -O raw FILE NEW` makes a raw image of it",
            _ => "the file is damaged or cut off: build or fetch the image anew",
        }
    }
}

/// Size of the disk in a fixed VHD of `file_bytes` bytes with this footer at its end; `None` when it is no VHD footer.
///
/// # Errors
/// It is one, and wrong or of another type.
pub fn disk_bytes(footer: &[u8; FOOTER_LEN], file_bytes: u64) -> Result<Option<u64>, VhdError> {
    if !footer.starts_with(&COOKIE) {
        return Ok(None);
    }
    let present = file_bytes.saturating_sub(FOOTER_LEN as u64);
    let field = |at: usize| footer.get(at..).and_then(|rest| rest.first_chunk()).copied();
    let number = |at| field(at).map_or(0, u32::from_be_bytes);
    if number(CHECKSUM.start) != checksum(footer) {
        return Err(VhdError::Checksum { offset: present + CHECKSUM.start as u64 });
    }
    if number(60) != FIXED {
        return Err(VhdError::Kind { offset: present + 60, kind: number(60) });
    }
    let stated = u64::from(number(48)) << 32 | u64::from(number(52));
    if stated != present {
        return Err(VhdError::Size { offset: present + 48, stated, present });
    }
    Ok(Some(stated))
}

/// The last bytes of a file; `None` when it is shorter.
///
/// # Errors
/// The system's.
pub fn read_footer(file: &File, file_bytes: u64) -> io::Result<Option<[u8; FOOTER_LEN]>> {
    let Some(at) = file_bytes.checked_sub(FOOTER_LEN as u64) else { return Ok(None) };
    let mut footer = [0; FOOTER_LEN];
    file.read_exact_at(&mut footer, at)?;
    Ok(Some(footer))
}
