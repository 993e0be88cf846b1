//! Bytes in text: base64 and quoted-printable.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding may be missing: other decoders take that, too.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes base64, in which white space may stand anywhere. `None` when anything else does.
#[must_use]
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(compact).ok()
}

/// Decodes what stands behind a `%` in a URL, and nothing else. `None` when two hexadecimal digits do not follow.
#[must_use]
pub fn percent(text: &str) -> Option<Vec<u8>> {
    escaped(text.as_bytes(), b'%')
}

/// Decodes quoted-printable (RFC 2045, 6.7). `None` when a `=` has no two hexadecimal digits or line end behind it.
#[must_use]
pub fn quoted_printable(text: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let body = line.trim_ascii_end();
        match body.strip_suffix(b"=") {
            // A soft line break.
            Some(body) if body.len() < line.len() => joined.extend_from_slice(body),
            _ => joined.extend_from_slice(line),
        }
    }
    escaped(&joined, b'=')
}

fn escaped(text: &[u8], sign: u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != sign {
            out.push(*first);
            continue;
        }
        let [high, low, after @ ..] = after else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        out.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
        rest = after;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_decoded() {
        assert_eq!(base64("aGVs\n bG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("aGVsbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("a*b"), None);
        assert_eq!(percent("a%20b%c3%A9").as_deref(), Some("a bé".as_bytes()));
        assert_eq!((percent("a%2"), percent("%zz")), (None, None));
        assert_eq!(quoted_printable(b"a=3Db=\r\nc\nd").as_deref(), Some(&b"a=bc\nd"[..]));
        assert_eq!(quoted_printable(b"a=q"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = (base64(&text), percent(&text), quoted_printable(text.as_bytes()));
        }
    }
}
