//! Where everything lies on the disk: sizes and GUIDs in, partitions out. Pure; `gptimage` writes the result.
//!
//! `docs/formats/disk.md` has the table.

use sha2::{Digest, Sha256};
use slots::{Guid, SlotFlags, types};

/// Bytes of a logical block of the images that we build. Disks with 4096-byte blocks need a table of their own.
pub const BLOCK_BYTES: u64 = 512;

/// Everything starts at a multiple of this many bytes.
pub const ALIGNMENT: u64 = 1024 * 1024;

/// Room behind the last partition for the backup table. The table needs 33 blocks; the rest keeps the file's size a
/// multiple of [`ALIGNMENT`].
const TAIL: u64 = ALIGNMENT;

/// The least ESP: FAT32 needs 65,525 clusters, and with 512-byte clusters that is 32 MiB of data, its two tables and
/// the reserved blocks.
pub const LEAST_ESP_BYTES: u64 = 33 * ALIGNMENT;

/// The least OEM partition: below this a FAT16 has too few clusters.
pub const LEAST_OEM_BYTES: u64 = 4 * ALIGNMENT;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The EFI system partition with the loader.
    Esp,
    /// First slot; holds the image as built.
    UsrA,
    /// Second slot; empty in a fresh image.
    UsrB,
    /// Defaults of the platform.
    Oem,
}

impl Role {
    /// All roles, in the order of the disk.
    pub const ALL: [Self; 4] = [Self::Esp, Self::UsrA, Self::UsrB, Self::Oem];

    /// The partition's name in the table.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Esp => "EFI-SYSTEM",
            Self::UsrA => "USR-A",
            Self::UsrB => "USR-B",
            Self::Oem => "OEM",
        }
    }

    /// The partition's type.
    pub const fn type_guid(self) -> Guid {
        match self {
            Self::Esp => types::ESP,
            Self::UsrA | Self::UsrB => types::USR_X86_64,
            Self::Oem => types::BASIC_DATA,
        }
    }

    /// The attribute word of a fresh image.
    pub const fn flags(self) -> SlotFlags {
        match self {
            Self::UsrA => SlotFlags::FRESH,
            Self::Esp | Self::UsrB | Self::Oem => SlotFlags::EMPTY,
        }
    }
}

/// What a disk is to hold. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Product name; the GUIDs come from it.
    pub product: String,
    /// Size of the ESP.
    pub esp_bytes: u64,
    /// Size of each of the two slots.
    pub usr_bytes: u64,
    /// Size of the OEM partition.
    pub oem_bytes: u64,
}

impl DiskSpec {
    /// The default sizes: ESP 64 MiB, slots 1 GiB each, OEM 16 MiB.
    pub fn new(product: &str) -> Self {
        Self {
            product: product.to_owned(),
            esp_bytes: 64 * ALIGNMENT,
            usr_bytes: 1024 * ALIGNMENT,
            oem_bytes: 16 * ALIGNMENT,
        }
    }

    const fn bytes_of(&self, role: Role) -> u64 {
        match role {
            Role::Esp => self.esp_bytes,
            Role::UsrA | Role::UsrB => self.usr_bytes,
            Role::Oem => self.oem_bytes,
        }
    }
}

/// One partition of a [`DiskLayout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// First byte on the disk, a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// Size in bytes, a multiple of [`ALIGNMENT`].
    pub bytes: u64,
    /// Its own GUID, the same in every image of a product.
    pub guid: Guid,
}

/// Places and GUIDs of a whole disk.
///
/// Invariant: the partitions are in the order of [`Role::ALL`], adjacent and aligned, and end [`ALIGNMENT`] before
/// `bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskLayout {
    /// Size of the image file.
    pub bytes: u64,
    /// GUID of the disk.
    pub guid: Guid,
    /// The partitions.
    pub partitions: [Partition; 4],
}

/// Why no layout exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A size is not a multiple of 1 MiB.
    #[error("partition {label}: {bytes} bytes is not a multiple of 1 MiB")]
    Unaligned {
        /// Which partition.
        label: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// A partition is too small for its file system or footer.
    #[error("partition {label}: {bytes} bytes is too small, it needs at least {least}")]
    TooSmall {
        /// Which partition.
        label: &'static str,
        /// Its size.
        bytes: u64,
        /// The least size.
        least: u64,
    },
    /// The sum leaves the range of disk sizes (2 TiB: the range of the protective MBR).
    #[error("the partitions add up to more than 2 TiB")]
    TooLarge,
}

/// Largest image: the protective MBR counts 512-byte blocks in 32 bits.
const LARGEST_DISK: u64 = 2 << 40;

impl DiskLayout {
    /// Places the partitions one behind the other from the first MiB on.
    ///
    /// # Errors
    /// A size is not a multiple of 1 MiB, too small for its content's format, or the sum exceeds 2 TiB.
    pub fn plan(spec: &DiskSpec) -> Result<Self, LayoutError> {
        let mut next = ALIGNMENT;
        let mut place = |role: Role| {
            let bytes = spec.bytes_of(role);
            check_size(role, bytes)?;
            let offset = next;
            next =
                offset.checked_add(bytes).filter(|end| *end <= LARGEST_DISK).ok_or(LayoutError::TooLarge)?;
            Ok(Partition { role, offset, bytes, guid: derived_guid(&spec.product, role.label()) })
        };
        let [esp, usr_a, usr_b, oem] = Role::ALL;
        let partitions = [place(esp)?, place(usr_a)?, place(usr_b)?, place(oem)?];
        let bytes = next.checked_add(TAIL).filter(|end| *end <= LARGEST_DISK).ok_or(LayoutError::TooLarge)?;
        Ok(Self { bytes, guid: derived_guid(&spec.product, "disk"), partitions })
    }

    /// The partition with this role.
    pub const fn partition(&self, role: Role) -> Partition {
        let [esp, usr_a, usr_b, oem] = self.partitions;
        match role {
            Role::Esp => esp,
            Role::UsrA => usr_a,
            Role::UsrB => usr_b,
            Role::Oem => oem,
        }
    }
}

fn check_size(role: Role, bytes: u64) -> Result<(), LayoutError> {
    let label = role.label();
    if !bytes.is_multiple_of(ALIGNMENT) {
        return Err(LayoutError::Unaligned { label, bytes });
    }
    let least = match role {
        Role::Esp => LEAST_ESP_BYTES,
        Role::UsrA | Role::UsrB => ALIGNMENT,
        Role::Oem => LEAST_OEM_BYTES,
    };
    if bytes < least { Err(LayoutError::TooSmall { label, bytes, least }) } else { Ok(()) }
}

/// A GUID that follows from product and role alone, so that every image of a product has the same ones (SAFETY 6).
pub fn derived_guid(product: &str, role: &str) -> Guid {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"ferrite guid\0")
        .chain_update(product.as_bytes())
        .chain_update(b"\0")
        .chain_update(role.as_bytes())
        .finalize()
        .into();
    Guid::from_hash(first_16(digest))
}

/// A FAT volume id that follows from product and role alone.
pub fn derived_volume_id(product: &str, role: Role) -> u32 {
    let [a, b, c, d, ..] = derived_guid(product, role.label()).to_disk();
    u32::from_le_bytes([a, b, c, d])
}

fn first_16(digest: [u8; 32]) -> [u8; 16] {
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_disk_has_the_documented_places() {
        let layout = DiskLayout::plan(&DiskSpec::new("ferrite")).unwrap();
        let places: Vec<_> = layout.partitions.iter().map(|p| (p.offset >> 20, p.bytes >> 20)).collect();
        assert_eq!(places, [(1, 64), (65, 1024), (1089, 1024), (2113, 16)]);
        assert_eq!(layout.bytes >> 20, 2130);
    }

    #[test]
    fn guids_differ_by_role_and_product_and_never_change() {
        let ferrite = DiskLayout::plan(&DiskSpec::new("ferrite")).unwrap();
        let other = DiskLayout::plan(&DiskSpec::new("other")).unwrap();
        let mut all: Vec<_> = [&ferrite, &other]
            .iter()
            .flat_map(|layout| layout.partitions.iter().map(|p| p.guid).chain([layout.guid]))
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10);
        // A changed derivation would give one product's releases different PARTUUIDs.
        assert_eq!(derived_guid("ferrite", "USR-A").to_string(), PINNED_USR_A);
    }
    const PINNED_USR_A: &str = "0e83c4c1-dc47-8889-bc49-13d37134155a";

    #[test]
    fn wrong_sizes_are_refused_by_name() {
        let base = DiskSpec::new("ferrite");
        let cases = [
            (
                DiskSpec { usr_bytes: ALIGNMENT + 512, ..base.clone() },
                "USR-A: 1049088 bytes is not a multiple of 1 MiB",
            ),
            (
                DiskSpec { esp_bytes: 32 * ALIGNMENT, ..base.clone() },
                "EFI-SYSTEM: 33554432 bytes is too small",
            ),
            (DiskSpec { oem_bytes: 0, ..base.clone() }, "OEM: 0 bytes is too small"),
            (DiskSpec { usr_bytes: 1 << 40, ..base.clone() }, "2 TiB"),
            (DiskSpec { usr_bytes: !0 << 20, ..base }, "2 TiB"),
        ];
        for (spec, message) in cases {
            let error = DiskLayout::plan(&spec).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn partitions_never_overlap(esp in 33u64..200, usr in 1u64..5000, oem in 4u64..100) {
            let spec = DiskSpec {
                product: "p".into(), esp_bytes: esp << 20, usr_bytes: usr << 20, oem_bytes: oem << 20,
            };
            let layout = DiskLayout::plan(&spec).unwrap();
            let mut end = ALIGNMENT;
            for partition in layout.partitions {
                prop_assert_eq!(partition.offset, end);
                end += partition.bytes;
            }
            prop_assert_eq!(layout.bytes, end + ALIGNMENT);
        }
    }
}
