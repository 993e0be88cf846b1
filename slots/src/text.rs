//! Short ASCII texts of a fixed room, as the footer stores them.

use core::fmt;

/// At most `N` bytes of printable ASCII without spaces; the room behind the text is zero on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// Longer than its room of so many bytes.
    TooLong {
        /// Bytes of room.
        room: usize,
    },
    /// Holds something else than printable ASCII without spaces, or bytes behind the terminating zero.
    NotPlain,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { room } => write!(f, "text is longer than {room} bytes"),
            Self::NotPlain => f.write_str("text is not printable ASCII without spaces"),
        }
    }
}

impl core::error::Error for TextError {}

impl<const N: usize> Text<N> {
    /// Takes a text.
    ///
    /// # Errors
    /// It is longer than `N` bytes, or not printable ASCII without spaces.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let mut bytes = [0; N];
        let target = bytes.get_mut(..text.len()).ok_or(TextError::TooLong { room: N })?;
        target.copy_from_slice(text.as_bytes());
        let taken = Self::from_padded(bytes)?;
        if taken.len == text.len() { Ok(taken) } else { Err(TextError::NotPlain) }
    }

    /// Takes the zero-padded bytes as they stand on disk.
    ///
    /// # Errors
    /// Something else than printable ASCII, or bytes behind the first zero.
    pub fn from_padded(bytes: [u8; N]) -> Result<Self, TextError> {
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(N);
        let (text, padding) = bytes.split_at(len);
        if text.iter().all(u8::is_ascii_graphic) && padding.iter().all(|byte| *byte == 0) {
            Ok(Self { bytes, len })
        } else {
            Err(TextError::NotPlain)
        }
    }

    /// The zero-padded bytes for the disk.
    pub const fn to_padded(self) -> [u8; N] {
        self.bytes
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_bad_ones_are_refused() {
        let text = Text::<8>::new("ferrite").unwrap();
        assert_eq!(Text::from_padded(text.to_padded()).unwrap().as_str(), "ferrite");
        assert_eq!(Text::<4>::new("ferrite"), Err(TextError::TooLong { room: 4 }));
        assert_eq!(Text::<8>::new("a b"), Err(TextError::NotPlain));
        assert_eq!(Text::from_padded(*b"a\0b\0"), Err(TextError::NotPlain));
        assert_eq!(Text::<4>::new("full").unwrap().as_str(), "full");
    }
}
