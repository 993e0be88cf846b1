//! Decompressing streams by the suffix of their name.

use std::io::{self, Read};

/// Most memory that xz may ask for. Debian's packages need 9 MiB (`xz -6`), `xz -9` 65 MiB.
const XZ_MEMORY_BYTES: u64 = 256 << 20;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`
    Gzip,
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
}

impl Compression {
    /// By what follows a known stem: `""`, `.gz`, `.xz`, `.zst`.
    pub fn from_suffix(suffix: &str) -> Option<Self> {
        match suffix {
            "" => Some(Self::None),
            ".gz" => Some(Self::Gzip),
            ".xz" => Some(Self::Xz),
            ".zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// A reader of the content.
    ///
    /// # Errors
    /// The decoder cannot be set up.
    pub fn decoder<'a>(self, reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::None => Box::new(reader),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(reader)?),
            Self::Xz => {
                // Debian compresses large packages in blocks, but one thread each is enough: packages run in parallel.
                let stream = liblzma::stream::Stream::new_stream_decoder(
                    XZ_MEMORY_BYTES,
                    liblzma::stream::CONCATENATED,
                )?;
                Box::new(liblzma::read::XzDecoder::new_stream(reader, stream))
            }
        })
    }
}
