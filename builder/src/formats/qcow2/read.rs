//! Reads the disk in a qcow2 file. Whatever the file holds, reading ends and fails at worst.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use super::{COMPRESSED, Compression, Header, HeaderFault, OFFSET_MASK, SECTOR, ZERO};
use crate::formats::blocks::{Block, BlockSource};
use crate::formats::chunks;

/// Bytes of the file that are read for the header.
const HEADER_ROOM: u64 = 112;

/// Why a qcow2 file, or a cluster of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// The system's.
    #[error("cannot read the qcow2 header")]
    Io(#[from] io::Error),
    /// The header is refused.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// A table or a cluster lies behind the end of the file.
    #[error("byte {offset}: the qcow2 file ends before its {what}")]
    Short {
        /// Where it should be.
        offset: u64,
        /// What it is.
        what: &'static str,
    },
    /// A table's entry has bits that have no meaning.
    #[error("byte {offset}: wrong entry {entry:#018x} in a qcow2 table")]
    Entry {
        /// Place of the entry in the file.
        offset: u64,
        /// The entry.
        entry: u64,
    },
    /// Compressed data does not decompress to a cluster.
    #[error("byte {offset}: damaged compressed cluster")]
    Compressed {
        /// Where the data starts.
        offset: u64,
        /// What the decompressor said.
        source: io::Error,
    },
}

impl Qcow2Error {
    /// What a user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Header(HeaderFault::Unsupported { .. } | HeaderFault::Version(_)) => {
                "`qemu-img convert -O raw FILE NEW` makes a raw image of it, which is read"
            }
            _ => "`qemu-img check FILE` says more; build or fetch the image anew",
        }
    }
}

impl From<Qcow2Error> for io::Error {
    fn from(error: Qcow2Error) -> Self {
        match error {
            Qcow2Error::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// An open qcow2 file.
#[derive(Debug)]
pub struct Qcow2 {
    file: File,
    header: Header,
}

/// Where the content of a guest cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nowhere: it is all zeros.
    Zeros,
    /// At this offset, as it is.
    Plain(u64),
    /// Somewhere in this range, compressed; the data may end before the range does.
    Compressed { offset: u64, bytes: u64 },
}

impl Qcow2 {
    /// Reads the header.
    ///
    /// # Errors
    /// The file cannot be read, is no qcow2 file, or uses what we do not read.
    pub fn open(file: File) -> Result<Self, Qcow2Error> {
        let header = Header::parse(&read_up_to(&file, 0, HEADER_ROOM)?)?;
        Ok(Self { file, header })
    }

    /// Size of the disk in bytes.
    pub const fn disk_bytes(&self) -> u64 {
        self.header.disk_bytes
    }

    fn place(&self, cluster: u64) -> Result<Place, Qcow2Error> {
        let entries = self.header.cluster_bytes() / 8;
        let (l1_at, l1) = self.entry(self.header.l1_offset, cluster / entries, "first-level table")?;
        let l2_offset = self.cluster_offset(l1_at, l1)?;
        if l2_offset == 0 {
            return Ok(Place::Zeros);
        }
        let (at, entry) = self.entry(l2_offset, cluster % entries, "second-level table")?;
        if entry & COMPRESSED != 0 {
            // Offset and number of sectors share 62 bits; the larger the clusters, the more of them count sectors.
            let shift = 62 - (self.header.cluster_bits - 8);
            let offset = entry & ((1 << shift) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> shift) + 1;
            return Ok(Place::Compressed { offset, bytes: sectors * SECTOR - offset % SECTOR });
        }
        if entry & ZERO != 0 {
            return Ok(Place::Zeros);
        }
        match self.cluster_offset(at, entry)? {
            0 => Ok(Place::Zeros),
            offset => Ok(Place::Plain(offset)),
        }
    }

    /// The entry of a table and its place in the file.
    fn entry(&self, table: u64, index: u64, what: &'static str) -> Result<(u64, u64), Qcow2Error> {
        let offset = index.checked_mul(8).and_then(|at| table.checked_add(at));
        let offset = offset.ok_or(Qcow2Error::Short { offset: table, what })?;
        let mut bytes = [0; 8];
        self.exact(&mut bytes, offset, what)?;
        Ok((offset, u64::from_be_bytes(bytes)))
    }

    /// The offset in an entry, which is that of a cluster.
    fn cluster_offset(&self, at: u64, entry: u64) -> Result<u64, Qcow2Error> {
        let offset = entry & OFFSET_MASK;
        let aligned = offset.is_multiple_of(self.header.cluster_bytes());
        let known = entry & !(OFFSET_MASK | super::COPIED) == 0;
        if aligned && known { Ok(offset) } else { Err(Qcow2Error::Entry { offset: at, entry }) }
    }

    fn exact(&self, buffer: &mut [u8], offset: u64, what: &'static str) -> Result<(), Qcow2Error> {
        self.file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
            // The kernel takes offsets as signed numbers.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => Qcow2Error::Short { offset, what },
            _ => Qcow2Error::Io(error),
        })
    }

    fn cluster(&self, cluster: u64) -> Result<Option<Vec<u8>>, Qcow2Error> {
        let len = usize::try_from(self.header.cluster_bytes()).map_err(io::Error::other)?;
        let mut content = vec![0; len];
        match self.place(cluster)? {
            Place::Zeros => return Ok(None),
            Place::Plain(offset) => self.exact(&mut content, offset, "cluster")?,
            Place::Compressed { offset, bytes } => {
                let data = read_up_to(&self.file, offset, bytes)?;
                if data.is_empty() {
                    return Err(Qcow2Error::Short { offset, what: "compressed cluster" });
                }
                // What follows the frame in its last sector is the next cluster's.
                let decompressed = match self.header.compression {
                    Compression::Zstd => chunks::decompress(&data, &mut content),
                    Compression::Deflate => {
                        flate2::bufread::DeflateDecoder::new(data.as_slice()).read_exact(&mut content)
                    }
                };
                decompressed.map_err(|source| Qcow2Error::Compressed { offset, source })?;
            }
        }
        Ok(Some(content))
    }
}

/// The bytes at a place, fewer where the file ends.
fn read_up_to(file: &File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let end = file.metadata()?.len();
    let present = bytes.min(end.saturating_sub(offset));
    let mut data = vec![0; usize::try_from(present).map_err(io::Error::other)?];
    file.read_exact_at(&mut data, offset)?;
    Ok(data)
}

impl BlockSource for Qcow2 {
    fn len(&self) -> u64 {
        self.header.disk_bytes
    }

    fn locate(&self, offset: u64) -> Block {
        let bytes = self.header.cluster_bytes();
        let index = offset / bytes;
        // The last cluster may reach beyond the disk.
        Block {
            index,
            start: index * bytes,
            len: bytes.min(self.header.disk_bytes.saturating_sub(index * bytes)),
        }
    }

    fn load(&self, index: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.cluster(index)?)
    }
}
