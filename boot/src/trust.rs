//! The section of the loader's file that says whom it trusts. `ferrite build` fills it in; the code stays the same.
//!
//! `docs/formats/disk.md` has the byte table.

use core::fmt;

use sha2::{Digest, Sha256};
use slots::{KeyId, Text, TextError, TrustedKey};

/// Name of the section in the PE file (COFF allows 8 bytes).
pub const SECTION_NAME: [u8; 8] = *b".ferrkey";
/// Bytes of the section.
pub const SECTION_LEN: usize = 4096;
/// Most keys that fit our format; two are usual (the current one and an offline next one).
pub const MAX_KEYS: usize = 16;

const MAGIC: &[u8; 8] = b"FERRTRST";
const VERSION: u32 = 1;
const KEYS_AT: usize = 128;
const KEY_LEN: usize = 64;
const DIGEST_AT: usize = SECTION_LEN - 32;
const DEVELOPMENT: u32 = 1;

/// A trusted key, and whether everybody can sign with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfiguredKey {
    /// The public key.
    pub key: TrustedKey,
    /// True for the published development key: the loader says so on every boot.
    pub development: bool,
}

/// What one loader file was configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// The product whose slots it starts.
    pub product: Text<32>,
    /// Size of the disk image as built, in bytes: where a backup table may be when the disk has grown (SAFETY 5).
    pub image_bytes: u64,
    keys: [Option<ConfiguredKey>; MAX_KEYS],
}

/// Why a section cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustError {
    /// Not the right length, or no magic: no section of ours.
    Magic,
    /// A format that this code does not know.
    Version(u32),
    /// `ferrite build` never filled it in.
    Unconfigured,
    /// The section's checksum is wrong.
    Digest,
    /// More keys than fit.
    TooManyKeys,
    /// The product's name is not plain text.
    Product(TextError),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("no key section"),
            Self::Version(version) => write!(f, "key section of version {version}, this reads {VERSION}"),
            Self::Unconfigured => f.write_str("the key section was never filled in"),
            Self::Digest => f.write_str("the key section is damaged"),
            Self::TooManyKeys => write!(f, "more than {MAX_KEYS} trusted keys"),
            Self::Product(error) => write!(f, "product name in the key section: {error}"),
        }
    }
}

impl core::error::Error for TrustError {}

/// The section as the compiler emits it: magic and version, no keys, no digest.
pub const UNCONFIGURED: [u8; SECTION_LEN] = {
    let mut bytes = [0; SECTION_LEN];
    let (magic, rest) = bytes.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    if let Some(version) = rest.first_chunk_mut::<4>() {
        *version = VERSION.to_le_bytes();
    }
    bytes
};

impl Trust {
    /// A configuration that trusts `keys`.
    ///
    /// # Errors
    /// More than [`MAX_KEYS`] keys.
    pub fn new(product: Text<32>, image_bytes: u64, keys: &[ConfiguredKey]) -> Result<Self, TrustError> {
        let mut places = [None; MAX_KEYS];
        if keys.len() > places.len() {
            return Err(TrustError::TooManyKeys);
        }
        for (place, key) in places.iter_mut().zip(keys) {
            *place = Some(*key);
        }
        Ok(Self { product, image_bytes, keys: places })
    }

    /// The keys, in the order in which they were configured.
    pub fn keys(&self) -> impl Iterator<Item = ConfiguredKey> + '_ {
        self.keys.iter().flatten().copied()
    }

    /// True when `id` belongs to the published development key.
    pub fn is_development(&self, id: KeyId) -> bool {
        self.keys().any(|key| key.development && key.key.id() == id)
    }

    /// Reads a section. Total: any bytes give a value or an error.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn parse(section: &[u8]) -> Result<Self, TrustError> {
        let section = section.get(..SECTION_LEN).ok_or(TrustError::Magic)?;
        if section.get(..8) != Some(MAGIC) {
            return Err(TrustError::Magic);
        }
        match u32::from_le_bytes(array(section, 8)) {
            VERSION => {}
            other => return Err(TrustError::Version(other)),
        }
        let (content, digest) = section.split_at(DIGEST_AT);
        if digest.iter().all(|byte| *byte == 0) {
            return Err(TrustError::Unconfigured);
        }
        if Sha256::digest(content).as_slice() != digest {
            return Err(TrustError::Digest);
        }
        let count = usize::try_from(u32::from_le_bytes(array(section, 12))).unwrap_or(usize::MAX);
        if count > MAX_KEYS {
            return Err(TrustError::TooManyKeys);
        }
        let mut keys = [None; MAX_KEYS];
        for (place, bytes) in
            keys.iter_mut().zip(section.get(KEYS_AT..).unwrap_or_default().chunks(KEY_LEN)).take(count)
        {
            let flags = u32::from_le_bytes(array(bytes, 32));
            *place = Some(ConfiguredKey {
                key: TrustedKey(array(bytes, 0)),
                development: flags & DEVELOPMENT != 0,
            });
        }
        let product = Text::from_padded(array(section, 24)).map_err(TrustError::Product)?;
        Ok(Self { product, image_bytes: u64::from_le_bytes(array(section, 16)), keys })
    }

    /// The section's bytes.
    pub fn to_bytes(&self) -> [u8; SECTION_LEN] {
        let mut bytes = UNCONFIGURED;
        let count = u32::try_from(self.keys().count()).unwrap_or(0);
        put(&mut bytes, 12, &count.to_le_bytes());
        put(&mut bytes, 16, &self.image_bytes.to_le_bytes());
        put(&mut bytes, 24, &self.product.to_padded());
        for (index, key) in self.keys().enumerate() {
            let at = KEYS_AT + index * KEY_LEN;
            put(&mut bytes, at, &key.key.0);
            put(&mut bytes, at + 32, &(if key.development { DEVELOPMENT } else { 0 }).to_le_bytes());
        }
        let digest: [u8; 32] = Sha256::digest(bytes.get(..DIGEST_AT).unwrap_or_default()).into();
        put(&mut bytes, DIGEST_AT, &digest);
        bytes
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(source) = bytes.get(at..).and_then(|rest| rest.get(..N)) {
        out.copy_from_slice(source);
    }
    out
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(target) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..value.len())) {
        target.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8, development: bool) -> ConfiguredKey {
        ConfiguredKey { key: TrustedKey([byte; 32]), development }
    }

    fn trust(keys: &[ConfiguredKey]) -> Trust {
        Trust::new(Text::new("ferrite").unwrap(), 2_233_466_880, keys).unwrap()
    }

    #[test]
    fn a_section_reads_back_as_written() {
        for count in [0, 1, 2, MAX_KEYS] {
            let keys: Vec<_> = (0..count).map(|n| key(n as u8, n == 1)).collect();
            let written = trust(&keys);
            assert_eq!(Trust::parse(&written.to_bytes()).unwrap(), written);
        }
        let two = trust(&[key(1, false), key(2, true)]);
        assert!(
            two.is_development(TrustedKey([2; 32]).id()) && !two.is_development(TrustedKey([1; 32]).id())
        );
    }

    #[test]
    fn a_loader_that_nobody_configured_says_so() {
        assert_eq!(Trust::parse(&UNCONFIGURED), Err(TrustError::Unconfigured));
        assert_eq!(Trust::parse(&[]), Err(TrustError::Magic));
    }

    #[test]
    fn more_keys_than_fit_are_refused() {
        let keys = [key(1, false); MAX_KEYS + 1];
        assert_eq!(Trust::new(Text::new("x").unwrap(), 0, &keys), Err(TrustError::TooManyKeys));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = Trust::parse(&bytes);
        }

        #[test]
        fn one_flipped_bit_is_noticed(at in 0..SECTION_LEN, bit in 0u8..8) {
            let mut bytes = trust(&[key(1, true)]).to_bytes();
            bytes[at] ^= 1 << bit;
            prop_assert!(Trust::parse(&bytes).is_err());
        }
    }
}
