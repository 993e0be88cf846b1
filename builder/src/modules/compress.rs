//! Module files may be compressed; the suffix says how.

use std::io::{self, Read};

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Compression {
    None,
    Xz,
    Zstd,
    Gzip,
}

impl Compression {
    /// Splits `ext4.ko.xz` into `ext4.ko` and its compression.
    pub fn split(path: &str) -> (&str, Self) {
        let suffixes = [(".xz", Self::Xz), (".zst", Self::Zstd), (".gz", Self::Gzip)];
        let found = suffixes.into_iter().find_map(|(suffix, kind)| Some((path.strip_suffix(suffix)?, kind)));
        found.unwrap_or((path, Self::None))
    }
}

/// Why a file could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The compressed bytes are damaged.
    #[error("its {kind:?} stream is damaged")]
    Damaged {
        /// The compression.
        kind: Compression,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// More comes out than the caller takes.
    #[error("it decompresses to more than {limit} bytes")]
    TooLarge {
        /// The most that the caller takes.
        limit: u64,
    },
}

/// The bytes of a file named `path`, decompressed as its suffix says; at most `limit` bytes.
pub fn decompress(path: &str, bytes: &[u8], limit: u64) -> Result<Vec<u8>, CompressError> {
    let kind = Compression::split(path).1;
    let damaged = |source| CompressError::Damaged { kind, source };
    let mut decoder: Box<dyn Read + '_> = match kind {
        Compression::None => Box::new(bytes),
        Compression::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(bytes)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes).map_err(damaged)?),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
    };
    let mut plain = Vec::new();
    (&mut decoder).take(limit.saturating_add(1)).read_to_end(&mut plain).map_err(damaged)?;
    if plain.len() as u64 > limit {
        return Err(CompressError::TooLarge { limit });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(kind: Compression, bytes: &[u8]) -> Vec<u8> {
        match kind {
            Compression::None => bytes.to_vec(),
            Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    #[test]
    fn each_suffix_is_decompressed_within_its_limit() {
        let bytes = b"module ".repeat(1000);
        for path in ["a.ko", "a.ko.xz", "a.ko.zst", "a.ko.gz"] {
            let (plain, kind) = Compression::split(path);
            assert_eq!(plain, "a.ko");
            let packed = packed(kind, &bytes);
            assert_eq!(decompress(path, &packed, 7000).unwrap(), bytes, "{path}");
            assert!(
                matches!(decompress(path, &packed, 6999), Err(CompressError::TooLarge { limit: 6999 })),
                "{path}"
            );
            if kind != Compression::None {
                let cut = &packed[..packed.len() - 9];
                assert!(matches!(decompress(path, cut, 9000), Err(CompressError::Damaged { .. })), "{path}");
            }
        }
    }
}
