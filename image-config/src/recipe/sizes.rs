//! Sizes: of partitions, and of what a budget allows.

use std::fmt;

use super::names::NameError;

/// One mebibyte in bytes: every partition starts and ends at a multiple of it.
pub const MIB: u64 = 1 << 20;

/// Largest size that a recipe can write.
const LARGEST: u64 = 1 << 40;

/// Size of a partition: a multiple of 1 MiB, from 1 MiB to 1 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionSize(u64);

impl PartitionSize {
    /// Reads a whole number with a unit: `64MiB`, `1 GiB`. Decimal units are refused, because partitions are
    /// aligned to MiB.
    ///
    /// # Errors
    /// [`NameError`] when the text is no such size.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bytes = bytes(text)?;
        if bytes == 0 || !bytes.is_multiple_of(MIB) {
            return Err(NameError::new(format!("size `{text}` is not a multiple of 1 MiB"))
                .hint(format!("write `{}MiB`", bytes.div_ceil(MIB).max(1))));
        }
        Ok(Self(bytes))
    }

    /// A size of `count` MiB, for constants.
    #[must_use]
    pub const fn from_mib(count: u32) -> Self {
        Self(count as u64 * MIB)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PartitionSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1024 * MIB) {
            write!(f, "{}GiB", self.0 / (1024 * MIB))
        } else {
            write!(f, "{}MiB", self.0 / MIB)
        }
    }
}

/// A number of bytes, from 1 KiB to 1 TiB, in whole KiB: what a budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Reads a whole number with a unit: `300KiB`, `60MiB`.
    ///
    /// # Errors
    /// [`NameError`] when the text is no such size.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match bytes(text)? {
            0 => Err(NameError::new(format!("size `{text}` is nothing"))
                .hint("what must not be in the image is left out with `drop:`, or not asked for")),
            bytes => Ok(Self(bytes)),
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 1024 * 1024 * MIB), ("GiB", 1024 * MIB), ("MiB", MIB)];
        match units.iter().find(|(_, unit)| self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}KiB", self.0 / 1024),
        }
    }
}

/// A whole number with a binary unit, in bytes.
fn bytes(text: &str) -> Result<u64, NameError> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "KiB" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "TiB" | "T" => 40,
        "" if !number.is_empty() => {
            return Err(NameError::new(format!("size `{text}` has no unit"))
                .hint(format!("write `{number}MiB` or `{number}GiB`")));
        }
        "MB" | "GB" | "KB" | "kB" | "TB" | "mb" | "gb" | "mib" | "gib" if !number.is_empty() => {
            return Err(NameError::new(format!("size `{text}` has an unknown unit"))
                .hint("the units are KiB, MiB, GiB and TiB, which are powers of 1024"));
        }
        _ => {
            return Err(NameError::new(format!("`{text}` is no size"))
                .hint("a whole number and a unit: `64MiB`, `1GiB`"));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= LARGEST)
        .ok_or_else(|| NameError::new(format!("size `{text}` is larger than 1 TiB")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_binary_unit_and_whole_mebibytes() {
        let cases: &[(&str, Option<u64>)] = &[
            ("64MiB", Some(64 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("2048KiB", Some(2 << 20)),
            ("1TiB", Some(1 << 40)),
            ("64", None),
            ("64MB", None),
            ("100KiB", None),
            ("0MiB", None),
            ("-1MiB", None),
            ("1.5GiB", None),
            ("MiB", None),
            ("", None),
            ("2TiB", None),
            ("18446744073709551615TiB", None),
            ("99999999999999999999999MiB", None),
        ];
        for (text, want) in cases {
            assert_eq!(PartitionSize::parse(text).ok().map(PartitionSize::bytes), *want, "{text:?}");
        }
        assert_eq!(PartitionSize::parse("1500KiB").unwrap_err().hint.unwrap(), "write `2MiB`");
    }

    #[test]
    fn a_size_is_shown_as_it_can_be_written() {
        for text in ["64MiB", "1GiB", "1500MiB"] {
            assert_eq!(PartitionSize::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn budgets_take_any_whole_number_of_kibibytes() {
        let cases: &[(&str, Option<u64>)] = &[
            ("300KiB", Some(300 << 10)),
            ("60 MiB", Some(60 << 20)),
            ("0KiB", None),
            ("60MB", None),
            ("1025GiB", None),
        ];
        for (text, want) in cases {
            assert_eq!(ByteSize::parse(text).ok().map(ByteSize::bytes), *want, "{text:?}");
        }
        for text in ["1KiB", "1500KiB", "60MiB", "3GiB", "1TiB"] {
            assert_eq!(ByteSize::parse(text).unwrap().to_string(), text);
        }
    }
}
