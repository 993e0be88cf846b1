//! The signed footer of a slot: what is in it, where, and whose word that is (`docs/formats/slot-footer.md`).

use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::bytes::{array, is_zero, put, u32_at, u64_at};
use crate::text::{Text, TextError};

/// Bytes of the footer: the last ones of the partition, and of a `.usr` file.
pub const FOOTER_LEN: usize = 4096;
/// Leading bytes of the footer that the signature covers.
pub const SIGNED_LEN: usize = FOOTER_LEN - SIGNATURE_LEN;
/// Bytes of an Ed25519 signature (RFC 8032).
pub const SIGNATURE_LEN: usize = 64;
/// The footer version that this code writes, and the highest that it reads.
pub const FOOTER_VERSION: u32 = 1;
/// The loader's version; a footer can ask for at least so much (SAFETY 11).
pub const LOADER_VERSION: u32 = 1;
/// Every part starts at a multiple of so many bytes.
pub const PART_ALIGNMENT: u64 = 4096;

const MAGIC: &[u8; 8] = b"FERRSLOT";
/// The same as the footer's 32-bit fields.
const SIGNED_LEN_FIELD: u32 = 4032;
const PART_COUNT_FIELD: u32 = 5;
const PARTS_AT: usize = 256;
const PART_LEN: usize = 56;
const PARTS_END: usize = PARTS_AT + PART_LEN * KINDS.len();
const KEY_ID_AT: usize = SIGNED_LEN - 32;
/// Part kinds in the order in which the footer lists them.
const KINDS: [(u32, &str); 5] =
    [(1, "usr"), (2, "verity"), (3, "kernel"), (4, "initramfs"), (5, "command line")];

/// SHA-256 of a public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 32]);

impl fmt::Display for KeyId {
    /// The first 16 hexadecimal digits: what people see and the command line carries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A public key whose signature counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedKey(pub [u8; 32]);

impl TrustedKey {
    /// The key's id.
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(self.0).into())
    }
}

/// A run of bytes in the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Bytes from the start of the partition; a multiple of [`PART_ALIGNMENT`].
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
}

impl Part {
    /// First byte behind the part.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// The five parts of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// EROFS of `/usr`.
    pub usr: Part,
    /// dm-verity superblock and hash tree.
    pub verity: Part,
    /// Linux with its EFI stub.
    pub kernel: Part,
    /// The initramfs archive.
    pub initramfs: Part,
    /// The signed part of the kernel's command line.
    pub command_line: Part,
}

impl Parts {
    /// The parts with their names, in the order of the footer.
    pub const fn named(&self) -> [(&'static str, Part); 5] {
        [
            (KINDS[0].1, self.usr),
            (KINDS[1].1, self.verity),
            (KINDS[2].1, self.kernel),
            (KINDS[3].1, self.initramfs),
            (KINDS[4].1, self.command_line),
        ]
    }

    /// First byte behind the last part.
    pub fn end(&self) -> u64 {
        self.named().iter().map(|(_, part)| part.end()).max().unwrap_or(0)
    }
}

/// What dm-verity needs to open `/usr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerityInfo {
    /// Root hash of the tree.
    pub root_hash: [u8; 32],
    /// Salt, put before each block.
    pub salt: [u8; 32],
    /// Data blocks of 4096 bytes, from the start of the partition.
    pub data_blocks: u64,
    /// Bytes from the start of the partition to the verity superblock.
    pub superblock_offset: u64,
}

/// What a footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// The recipe's name; a loader boots one product only.
    pub product: Text<32>,
    /// The image's version.
    pub version: Text<64>,
    /// `x86_64`.
    pub architecture: Text<16>,
    /// Least [`LOADER_VERSION`] that can start this slot.
    pub minimum_loader: u32,
    /// Grows when older releases must not boot any more (SAFETY 12).
    pub rollback_index: u64,
    /// Unix seconds; the clock of the machine is never earlier (SAFETY 25).
    pub build_time: u64,
    /// How to open `/usr`.
    pub verity: VerityInfo,
    /// Where everything is.
    pub parts: Parts,
    /// The key that signed.
    pub key_id: KeyId,
}

/// What a verifier asks of a footer beyond its signature (SAFETY 11, 12).
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Keys whose signature counts.
    pub keys: &'a [TrustedKey],
    /// The product, when only one may boot.
    pub product: Option<&'a str>,
    /// The machine's architecture.
    pub architecture: &'a str,
    /// The loader's version.
    pub loader_version: u32,
    /// Least rollback index.
    pub rollback_floor: u64,
}

/// Why a footer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FooterError {
    /// The block is all zero: the slot is empty or being written.
    Blank,
    /// Not a slot footer.
    Magic,
    /// A version that this code does not read.
    Version(u32),
    /// A length or count that version 1 does not have, or bytes set that must be zero; offset in the footer.
    Layout(usize),
    /// A text field is not plain; offset in the footer.
    Text(usize, TextError),
    /// Signed by a key that is not trusted.
    UnknownKey(KeyId),
    /// The signature does not fit.
    Signature,
    /// A part is not aligned, empty, overlaps its neighbour, or reaches into the footer.
    Part(&'static str),
    /// The verity fields do not fit the parts.
    Verity,
    /// Another product.
    Product(Text<32>),
    /// Another architecture.
    Architecture(Text<16>),
    /// Needs a newer loader.
    NeedsLoader(u32),
    /// The rollback index is below the floor.
    RolledBack {
        /// The footer's index.
        index: u64,
        /// Least index that may boot.
        floor: u64,
    },
}

impl fmt::Display for FooterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("empty (no footer)"),
            Self::Magic => f.write_str("bad footer: no magic"),
            Self::Version(version) => write!(f, "bad footer: version {version}, this reads {FOOTER_VERSION}"),
            Self::Layout(offset) => write!(f, "bad footer: unexpected value at byte {offset}"),
            Self::Text(offset, error) => write!(f, "bad footer: at byte {offset}: {error}"),
            Self::UnknownKey(key) => write!(f, "bad footer: signed by untrusted key {key}"),
            Self::Signature => f.write_str("bad footer: wrong signature"),
            Self::Part(name) => write!(f, "bad footer: part '{name}' is out of place"),
            Self::Verity => f.write_str("bad footer: verity does not fit the parts"),
            Self::Product(product) => write!(f, "belongs to product {product}"),
            Self::Architecture(architecture) => write!(f, "built for {architecture}"),
            Self::NeedsLoader(version) => write!(f, "needs loader >= {version}, this is {LOADER_VERSION}"),
            Self::RolledBack { index, floor } => {
                write!(f, "rollback index {index} is below the floor {floor}")
            }
        }
    }
}

impl core::error::Error for FooterError {}

impl Footer {
    /// Parses and verifies the last [`FOOTER_LEN`] bytes of a slot of `slot_len` bytes. Only what this returns may be
    /// believed; the parts' own hashes are the caller's to check.
    ///
    /// # Errors
    /// [`FooterError`]; the signature is checked before anything else is interpreted but the version and the key id.
    pub fn verify(block: &[u8; FOOTER_LEN], slot_len: u64, policy: &Policy<'_>) -> Result<Self, FooterError> {
        Self::check_frame(block)?;
        let key_id = KeyId(array(block, KEY_ID_AT));
        let key = policy.keys.iter().find(|key| key.id() == key_id).ok_or(FooterError::UnknownKey(key_id))?;
        let verifying = VerifyingKey::from_bytes(&key.0).map_err(|_| FooterError::UnknownKey(key_id))?;
        let (signed, signature) = block.split_at(SIGNED_LEN);
        let signature = Signature::from_bytes(&array(signature, 0));
        // Strict: a signature that another implementation would read differently is none (RFC 8032, 8.4).
        verifying.verify_strict(signed, &signature).map_err(|_| FooterError::Signature)?;
        let footer = Self::parse(block)?;
        footer.check_places(slot_len)?;
        footer.check_policy(policy)?;
        Ok(footer)
    }

    /// Reads the fields without believing them: for tools that explain an image. Never panics.
    ///
    /// # Errors
    /// [`FooterError`] for what cannot be read at all; places and signature are not looked at.
    pub fn parse(block: &[u8; FOOTER_LEN]) -> Result<Self, FooterError> {
        Self::check_frame(block)?;
        if u32_at(block, 12) != SIGNED_LEN_FIELD {
            return Err(FooterError::Layout(12));
        }
        if u32_at(block, 20) != PART_COUNT_FIELD {
            return Err(FooterError::Layout(20));
        }
        for (from, to) in [(232, PARTS_AT), (PARTS_END, KEY_ID_AT)] {
            if !is_zero(block.get(from..to).unwrap_or_default()) {
                return Err(FooterError::Layout(from));
            }
        }
        let part = |index: usize| -> Result<Part, FooterError> {
            let at = PARTS_AT + index * PART_LEN;
            let kind = KINDS.get(index).map_or(0, |kind| kind.0);
            if u32_at(block, at) != kind || u32_at(block, at + 4) != 0 {
                return Err(FooterError::Layout(at));
            }
            Ok(Part {
                offset: u64_at(block, at + 8),
                length: u64_at(block, at + 16),
                sha256: array(block, at + 24),
            })
        };
        Ok(Self {
            product: Text::from_padded(array(block, 40)).map_err(|error| FooterError::Text(40, error))?,
            version: Text::from_padded(array(block, 72)).map_err(|error| FooterError::Text(72, error))?,
            architecture: Text::from_padded(array(block, 136))
                .map_err(|error| FooterError::Text(136, error))?,
            minimum_loader: u32_at(block, 16),
            rollback_index: u64_at(block, 24),
            build_time: u64_at(block, 32),
            verity: VerityInfo {
                root_hash: array(block, 152),
                salt: array(block, 184),
                data_blocks: u64_at(block, 216),
                superblock_offset: u64_at(block, 224),
            },
            parts: Parts {
                usr: part(0)?,
                verity: part(1)?,
                kernel: part(2)?,
                initramfs: part(3)?,
                command_line: part(4)?,
            },
            key_id: KeyId(array(block, KEY_ID_AT)),
        })
    }

    /// The footer's bytes. `sign` gets the first [`SIGNED_LEN`] of them and returns their Ed25519 signature by the
    /// key of `self.key_id`.
    pub fn to_bytes(&self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> [u8; FOOTER_LEN] {
        let mut block = [0; FOOTER_LEN];
        put(&mut block, 0, MAGIC);
        put(&mut block, 8, &FOOTER_VERSION.to_le_bytes());
        put(&mut block, 12, &SIGNED_LEN_FIELD.to_le_bytes());
        put(&mut block, 16, &self.minimum_loader.to_le_bytes());
        put(&mut block, 20, &PART_COUNT_FIELD.to_le_bytes());
        put(&mut block, 24, &self.rollback_index.to_le_bytes());
        put(&mut block, 32, &self.build_time.to_le_bytes());
        put(&mut block, 40, &self.product.to_padded());
        put(&mut block, 72, &self.version.to_padded());
        put(&mut block, 136, &self.architecture.to_padded());
        put(&mut block, 152, &self.verity.root_hash);
        put(&mut block, 184, &self.verity.salt);
        put(&mut block, 216, &self.verity.data_blocks.to_le_bytes());
        put(&mut block, 224, &self.verity.superblock_offset.to_le_bytes());
        for (index, ((kind, _), (_, part))) in KINDS.iter().zip(self.parts.named()).enumerate() {
            let at = PARTS_AT + index * PART_LEN;
            put(&mut block, at, &kind.to_le_bytes());
            put(&mut block, at + 8, &part.offset.to_le_bytes());
            put(&mut block, at + 16, &part.length.to_le_bytes());
            put(&mut block, at + 24, &part.sha256);
        }
        put(&mut block, KEY_ID_AT, &self.key_id.0);
        let signature = sign(block.get(..SIGNED_LEN).unwrap_or_default());
        put(&mut block, SIGNED_LEN, &signature);
        block
    }

    /// Checks that every part lies in the slot, in order, aligned, outside the footer, and that verity covers `/usr`.
    ///
    /// # Errors
    /// [`FooterError::Part`] or [`FooterError::Verity`].
    pub fn check_places(&self, slot_len: u64) -> Result<(), FooterError> {
        let room = slot_len.saturating_sub(FOOTER_LEN as u64);
        let mut free_from = 0;
        for (name, part) in self.parts.named() {
            let end = part.offset.checked_add(part.length).ok_or(FooterError::Part(name))?;
            let aligned = part.offset % PART_ALIGNMENT == 0;
            if !aligned || part.length == 0 || part.offset < free_from || end > room {
                return Err(FooterError::Part(name));
            }
            free_from = end;
        }
        let covered = self.verity.data_blocks.checked_mul(PART_ALIGNMENT);
        let usr = self.parts.usr;
        let fits = usr.offset == 0
            && covered == Some(usr.length)
            && self.verity.superblock_offset == self.parts.verity.offset;
        if fits { Ok(()) } else { Err(FooterError::Verity) }
    }

    fn check_policy(&self, policy: &Policy<'_>) -> Result<(), FooterError> {
        if policy.product.is_some_and(|product| product != self.product.as_str()) {
            return Err(FooterError::Product(self.product));
        }
        if policy.architecture != self.architecture.as_str() {
            return Err(FooterError::Architecture(self.architecture));
        }
        if self.minimum_loader > policy.loader_version {
            return Err(FooterError::NeedsLoader(self.minimum_loader));
        }
        if self.rollback_index < policy.rollback_floor {
            return Err(FooterError::RolledBack { index: self.rollback_index, floor: policy.rollback_floor });
        }
        Ok(())
    }

    fn check_frame(block: &[u8; FOOTER_LEN]) -> Result<(), FooterError> {
        if is_zero(block) {
            return Err(FooterError::Blank);
        }
        if &array::<8>(block, 0) != MAGIC {
            return Err(FooterError::Magic);
        }
        match u32_at(block, 8) {
            FOOTER_VERSION => Ok(()),
            version => Err(FooterError::Version(version)),
        }
    }
}

#[cfg(test)]
mod tests;
