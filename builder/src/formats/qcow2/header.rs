//! The header of a qcow2 file.

use super::MAGIC;

/// The version that is written; 2 has no feature bits and no compression but deflate.
const VERSION: u32 = 3;
/// Incompatible feature: the field at 104 says how clusters are compressed.
const COMPRESSION_TYPE: u64 = 1 << 3;
/// Its value for zstd.
const ZSTD: u8 = 1;
/// Reference counts of `1 << 4` bits.
const REFCOUNT_ORDER: u32 = 4;
/// Type of the header extension that names features for readers which do not know them.
const FEATURE_NAMES: u32 = 0x6803_f857;
/// Bytes of a feature's name, zero-padded.
const FEATURE_NAME_LEN: usize = 46;
/// QEMU's range of cluster sizes, as powers of two.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// QEMU's largest first-level table, in entries (32 MiB).
const MOST_L1_ENTRIES: u32 = (32 << 20) / 8;

/// What the header says, as far as we write and read it: no backing file, no encryption, no snapshots, no external data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Size of a cluster as a power of two, 9 to 21.
    pub cluster_bits: u32,
    /// Size of the disk in bytes.
    pub disk_bytes: u64,
    /// Number of entries of the first-level table.
    pub l1_entries: u32,
    /// Where it starts.
    pub l1_offset: u64,
    /// Where the table of reference count blocks starts.
    pub refcount_offset: u64,
    /// Number of clusters that it takes.
    pub refcount_clusters: u32,
    /// How clusters are compressed that are.
    pub compression: Compression,
}

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate, QEMU's default.
    Deflate,
    /// One zstd frame.
    Zstd,
}

/// A header that is not read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The file ends within the header.
    #[error("the file ends within the qcow2 header")]
    Short,
    /// The magic is another one.
    #[error("byte 0: not the magic of qcow2")]
    Magic,
    /// A version that is not known.
    #[error("byte 4: qcow2 version {0}, and only 3 is read")]
    Version(u32),
    /// Something that we neither write nor read.
    #[error("byte {offset}: {feature} is not supported")]
    Unsupported {
        /// Place in the file.
        offset: u64,
        /// What it is.
        feature: String,
    },
    /// A value that cannot be.
    #[error("byte {offset}: wrong {field}")]
    Invalid {
        /// Place in the file.
        offset: u64,
        /// Which field.
        field: &'static str,
    },
}

impl Header {
    /// Length of the header that is written, without extensions.
    pub const LEN: usize = 112;

    /// Bytes of a cluster.
    pub const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the disk that one first-level entry covers: a cluster full of 8-byte entries of a cluster each.
    pub const fn l1_entry_covers(&self) -> u64 {
        self.cluster_bytes() / 8 * self.cluster_bytes()
    }

    /// The header and its extensions: the name of the one feature that old readers do not know, then the end mark.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (features, compression) = match self.compression {
            Compression::Deflate => (0, 0),
            Compression::Zstd => (COMPRESSION_TYPE, ZSTD),
        };
        let mut out = Vec::with_capacity(Self::LEN + 72);
        out.extend(MAGIC);
        out.extend(VERSION.to_be_bytes());
        out.extend([0; 12]); // backing file: offset, length
        out.extend(self.cluster_bits.to_be_bytes());
        out.extend(self.disk_bytes.to_be_bytes());
        out.extend([0; 4]); // encryption
        out.extend(self.l1_entries.to_be_bytes());
        out.extend(self.l1_offset.to_be_bytes());
        out.extend(self.refcount_offset.to_be_bytes());
        out.extend(self.refcount_clusters.to_be_bytes());
        out.extend([0; 12]); // snapshots: number, offset
        out.extend(features.to_be_bytes());
        out.extend([0; 16]); // compatible and autoclear features
        out.extend(REFCOUNT_ORDER.to_be_bytes());
        out.extend(112_u32.to_be_bytes());
        out.extend([compression, 0, 0, 0, 0, 0, 0, 0]);
        if self.compression == Compression::Zstd {
            let mut name = b"compression type".to_vec();
            name.resize(FEATURE_NAME_LEN, 0);
            out.extend(FEATURE_NAMES.to_be_bytes());
            out.extend(48_u32.to_be_bytes());
            out.extend([0, 3]); // incompatible, bit 3
            out.extend(name);
        }
        out.extend([0; 8]); // end of the extensions
        out
    }

    /// Reads a header from the first bytes of a file.
    ///
    /// # Errors
    /// It is none, it uses what we do not read, or its values contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let field = Fields(bytes);
        if bytes.get(..4).ok_or(HeaderFault::Short)? != MAGIC {
            return Err(HeaderFault::Magic);
        }
        match field.u32(4)? {
            VERSION => {}
            version => return Err(HeaderFault::Version(version)),
        }
        let header_length = field.u32(100)?;
        if header_length < 104 || !header_length.is_multiple_of(8) {
            return Err(HeaderFault::Invalid { offset: 100, field: "header length" });
        }
        let unsupported =
            |offset, feature: &str| Err(HeaderFault::Unsupported { offset, feature: feature.to_owned() });
        if field.u64(8)? != 0 {
            return unsupported(8, "a backing file");
        }
        if field.u32(32)? != 0 {
            return unsupported(32, "encryption");
        }
        let compression = compression(&field, header_length)?;
        let header = Self {
            cluster_bits: field.u32(20)?,
            disk_bytes: field.u64(24)?,
            l1_entries: field.u32(36)?,
            l1_offset: field.u64(40)?,
            refcount_offset: field.u64(48)?,
            refcount_clusters: field.u32(56)?,
            compression,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), HeaderFault> {
        let invalid = |offset, field| Err(HeaderFault::Invalid { offset, field });
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            return invalid(20, "cluster size");
        }
        let needed = self.disk_bytes.div_ceil(self.l1_entry_covers());
        if self.l1_entries > MOST_L1_ENTRIES || u64::from(self.l1_entries) < needed {
            return invalid(36, "size of the first-level table");
        }
        if !self.l1_offset.is_multiple_of(self.cluster_bytes()) {
            return invalid(40, "place of the first-level table");
        }
        Ok(())
    }
}

/// How clusters are compressed; refuses the other incompatible features by name.
fn compression(field: &Fields<'_>, header_length: u32) -> Result<Compression, HeaderFault> {
    let features = field.u64(72)?;
    let names =
        ["the dirty mark", "the corrupt mark", "an external data file", "", "extended second-level entries"];
    if let Some(bit) = (0..64_u32).find(|bit| (features & !COMPRESSION_TYPE) >> bit & 1 == 1) {
        let name = names
            .get(bit as usize)
            .map_or_else(|| format!("incompatible feature {bit}"), |name| (*name).to_owned());
        return Err(HeaderFault::Unsupported { offset: 72, feature: name });
    }
    let stated = if header_length > 104 { field.u8(104)? } else { 0 };
    match (features & COMPRESSION_TYPE != 0, stated) {
        (false, 0) => Ok(Compression::Deflate),
        (true, ZSTD) => Ok(Compression::Zstd),
        (true, 2..) => {
            Err(HeaderFault::Unsupported { offset: 104, feature: format!("compression type {stated}") })
        }
        _ => Err(HeaderFault::Invalid { offset: 104, field: "compression type" }),
    }
}

/// Big-endian numbers at places of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], HeaderFault> {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(HeaderFault::Short)
    }

    fn u8(&self, at: usize) -> Result<u8, HeaderFault> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    fn u32(&self, at: usize) -> Result<u32, HeaderFault> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, HeaderFault> {
        self.array(at).map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Header = Header {
        cluster_bits: 16,
        disk_bytes: 1 << 30,
        l1_entries: 2,
        l1_offset: 5 << 16,
        refcount_offset: 7 << 16,
        refcount_clusters: 1,
        compression: Compression::Zstd,
    };

    #[test]
    fn a_header_reads_back() {
        let deflate = Header { compression: Compression::Deflate, ..OURS };
        for header in [OURS, deflate] {
            assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        }
        assert_eq!(OURS.to_bytes().len(), Header::LEN + 64);
    }

    #[test]
    fn what_is_not_read_is_named_with_its_place() {
        let cases: &[(usize, &[u8], &str)] = &[
            (0, b"QFI\0", "byte 0: not the magic of qcow2"),
            (4, &[0, 0, 0, 2], "byte 4: qcow2 version 2, and only 3 is read"),
            (8, &[0, 0, 0, 0, 0, 0, 1, 0], "byte 8: a backing file is not supported"),
            (20, &[0, 0, 0, 8], "byte 20: wrong cluster size"),
            (20, &[0, 0, 0, 22], "byte 20: wrong cluster size"),
            (32, &[0, 0, 0, 2], "byte 32: encryption is not supported"),
            (36, &[0, 0, 0, 1], "byte 36: wrong size of the first-level table"),
            (36, &[0xff, 0, 0, 1], "byte 36: wrong size of the first-level table"),
            (40, &[0, 0, 0, 0, 0, 0, 2, 0], "byte 40: wrong place of the first-level table"),
            (79, &[0b1001], "byte 72: the dirty mark is not supported"),
            (79, &[0b1010], "byte 72: the corrupt mark is not supported"),
            (79, &[0b1100], "byte 72: an external data file is not supported"),
            (79, &[0b1_1000], "byte 72: extended second-level entries is not supported"),
            (72, &[0x80], "byte 72: incompatible feature 63 is not supported"),
            (79, &[0], "byte 104: wrong compression type"),
            (100, &[0, 0, 0, 103], "byte 100: wrong header length"),
            (104, &[0], "byte 104: wrong compression type"),
            (104, &[2], "byte 104: compression type 2 is not supported"),
        ];
        for (at, bytes, message) in cases {
            let mut header = OURS.to_bytes();
            header[*at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(Header::parse(&header).unwrap_err().to_string(), *message);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_is_in_range(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..130),
            changes in proptest::collection::vec((0usize..112, any::<u8>()), 0..4),
        ) {
            let _ = Header::parse(&bytes);
            bytes = OURS.to_bytes();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            for len in [0, 3, 50, 104, 105, bytes.len()] {
                if let Ok(header) = Header::parse(&bytes[..len]) {
                    prop_assert!(CLUSTER_BITS.contains(&header.cluster_bits));
                    let covered = u64::from(header.l1_entries).saturating_mul(header.l1_entry_covers());
                    prop_assert!(covered >= header.disk_bytes);
                }
            }
        }
    }
}
