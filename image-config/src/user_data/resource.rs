//! Something that user-data names by its URL: what has to be fetched, and what is believed of what comes.

use std::fmt;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256, Sha512};

/// Largest resource, unpacked, in bytes. A configuration that wants more than this wants a container image.
pub const LARGEST_RESOURCE: usize = 64 << 20;

/// A remote text or file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// `http://` or `https://`.
    pub url: String,
    /// Headers of the request, in order.
    pub headers: Vec<(String, String)>,
    /// How it is packed.
    pub compression: Compression,
    /// What it must be, unpacked.
    pub verification: Option<Hash>,
}

/// How something is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// A digest that contents must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// Why a digest's text is none. Rendered as Ignition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// No `-` between name and digits.
    #[error("malformed hash specifier: it is `sha512-` or `sha256-` and hexadecimal digits")]
    Malformed,
    /// Neither sha256 nor sha512.
    #[error("unrecognized hash function: `sha512` and `sha256` are known")]
    Function,
    /// Not as many digits as the function has.
    #[error("incorrect size for hash sum: {want} hexadecimal digits belong here, there are {have}")]
    Size {
        /// Digits wanted.
        want: usize,
        /// Digits that are there.
        have: usize,
    },
}

/// Why what was fetched is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// It is not whole.
    #[error("the gzip data is broken")]
    Gzip(#[source] std::io::Error),
    /// It is too much.
    #[error("it is larger than {LARGEST_RESOURCE} bytes")]
    TooLarge,
    /// It is something else.
    #[error("its digest is {have}, expected {want}")]
    Mismatch {
        /// The digest that it has, as [`Hash::parse`] reads it.
        have: String,
        /// The digest that was asked for, alike.
        want: String,
    },
}

impl Resource {
    /// What came, unpacked, if it is what was asked for.
    ///
    /// # Errors
    /// It cannot be unpacked, is larger than [`LARGEST_RESOURCE`], or its digest differs.
    pub fn accept(&self, bytes: Vec<u8>) -> Result<Vec<u8>, ResourceError> {
        accept(bytes, self.compression, self.verification)
    }
}

/// Unpacks and verifies.
pub(crate) fn accept(
    bytes: Vec<u8>,
    compression: Compression,
    verification: Option<Hash>,
) -> Result<Vec<u8>, ResourceError> {
    let bytes = match compression {
        Compression::None => bytes,
        Compression::Gzip => gunzip(&bytes, LARGEST_RESOURCE)?,
    };
    if bytes.len() > LARGEST_RESOURCE {
        return Err(ResourceError::TooLarge);
    }
    if let Some(want) = verification {
        let have = want.same_function(&bytes);
        if have != want {
            return Err(ResourceError::Mismatch { have: have.to_string(), want: want.to_string() });
        }
    }
    Ok(bytes)
}

/// Unpacks gzip, of one member or more, up to `largest` bytes: no more memory than that is used, however much a small input claims to hold.
pub(crate) fn gunzip(bytes: &[u8], largest: usize) -> Result<Vec<u8>, ResourceError> {
    let mut out = Vec::new();
    let limit = u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut out).map_err(ResourceError::Gzip)?;
    if out.len() > largest { Err(ResourceError::TooLarge) } else { Ok(out) }
}

impl Hash {
    /// Reads `sha512-DIGITS` or `sha256-DIGITS`.
    ///
    /// # Errors
    /// Which part of the rule is broken.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let (function, digits) = text.split_once('-').ok_or(HashError::Malformed)?;
        match function {
            "sha256" => Ok(Self::Sha256(digest(digits)?)),
            "sha512" => Ok(Self::Sha512(digest(digits)?)),
            _ => Err(HashError::Function),
        }
    }

    /// The digest of these bytes, by the same function.
    fn same_function(self, bytes: &[u8]) -> Self {
        match self {
            Self::Sha256(_) => Self::Sha256(Sha256::digest(bytes).into()),
            Self::Sha512(_) => Self::Sha512(Sha512::digest(bytes).into()),
        }
    }
}

impl fmt::Display for Hash {
    /// As [`Hash::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (function, bytes): (_, &[u8]) = match self {
            Self::Sha256(bytes) => ("sha256", bytes),
            Self::Sha512(bytes) => ("sha512", bytes),
        };
        write!(f, "{function}-")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hexadecimal digits to bytes.
fn digest<const N: usize>(digits: &str) -> Result<[u8; N], HashError> {
    let size = HashError::Size { want: 2 * N, have: digits.len() };
    if digits.len() != 2 * N {
        return Err(size);
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        let [high, low] = pair else { return Err(size) };
        let (Some(high), Some(low)) = (value(high), value(low)) else { return Err(HashError::Malformed) };
        *byte = u8::try_from(high * 16 + low).map_err(|_| HashError::Malformed)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn digests_are_read_and_shown() {
        let abc = "sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = Hash::parse(abc).unwrap();
        assert_eq!(hash.to_string(), abc);
        assert_eq!(accept(b"abc".to_vec(), Compression::None, Some(hash)).unwrap(), b"abc");
        assert_eq!(accept(gzip(b"abc"), Compression::Gzip, Some(hash)).unwrap(), b"abc");
        let error = accept(b"abd".to_vec(), Compression::None, Some(hash)).unwrap_err();
        assert!(error.to_string().contains(abc), "{error}");
        let cases = [
            ("abc", HashError::Malformed),
            ("md5-00", HashError::Function),
            ("sha256-00", HashError::Size { want: 64, have: 2 }),
            (&abc.replace("5ad", "5xd"), HashError::Malformed),
            (&abc.replace("sha256", "sha512"), HashError::Size { want: 128, have: 64 }),
        ];
        for (text, want) in cases {
            assert_eq!(Hash::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn unpacking_stops_at_its_limit() {
        let bomb = gzip(&vec![0; 20 << 20]);
        assert!(bomb.len() < 40_000, "{}", bomb.len());
        assert!(matches!(gunzip(&bomb, 1 << 20), Err(ResourceError::TooLarge)));
        assert_eq!(gunzip(&gzip(b"x"), 1).unwrap(), b"x");
        assert!(matches!(gunzip(&gzip(b"xy"), 1), Err(ResourceError::TooLarge)));
        let whole = gzip(b"some text");
        assert!(matches!(gunzip(&whole[..whole.len() - 4], 99), Err(ResourceError::Gzip(_))));
        let two = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(gunzip(&two, 9).unwrap(), b"ab", "members follow one another");
    }

    proptest! {
        #[test]
        fn no_gzip_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let framed = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &*bytes].concat();
            let _ = gunzip(&bytes, 1 << 16);
            let _ = gunzip(&framed, 1 << 16);
        }

        #[test]
        fn no_digest_panics(text in "(sha256|sha512|md5)?-?[0-9a-fA-Fé]{0,130}") {
            let _ = Hash::parse(&text);
        }
    }
}
