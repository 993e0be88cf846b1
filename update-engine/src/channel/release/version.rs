//! Versions of releases, and which of two is newer.

use std::cmp::Ordering;
use std::fmt;

use image_config::recipe::{ImageVersion, NameError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Version of a release: a recipe's `version`, with an order.
///
/// `1.10.0` is newer than `1.9.0`; what follows a `-` or `~` comes before the version without it (`1.1.0-rc1`,
/// `1.1.0~beta`), what follows a `+` or `_` comes after it (`1.1.0+1`). Parts of digits are compared as numbers, and
/// numbers come before words. Two different texts are never equal, so that a machine has one place among releases.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// Checks the rule for a recipe's version.
    ///
    /// # Errors
    /// [`NameError`] says which part of the rule is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        ImageVersion::parse(text).map(|version| Self(version.as_str().to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands between two parts of a version; the order of the variants is that of the versions.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// `-` or `~`: before the version that ends here.
    Before,
    /// The version ends here.
    End,
    /// `+` or `_`: after the version that ends here.
    After,
    /// `.`, or digits beside letters: one more part.
    Part,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    /// Digits without leading zeros: the longer one is the larger one.
    Number(usize, &'a str),
    Word(&'a str),
}

/// Takes the next separator and part off a version.
fn next(text: &str) -> (Step, Part<'_>, &str) {
    let mut characters = text.chars();
    let (step, rest) = match characters.next() {
        None => return (Step::End, Part::Word(""), ""),
        Some('-' | '~') => (Step::Before, characters.as_str()),
        Some('+' | '_') => (Step::After, characters.as_str()),
        Some('.') => (Step::Part, characters.as_str()),
        Some(_) => (Step::Part, text),
    };
    let digits = rest.starts_with(|c: char| c.is_ascii_digit());
    let same = |c: char| if digits { c.is_ascii_digit() } else { c.is_ascii_lowercase() };
    let (part, rest) = rest.split_at(rest.find(|c| !same(c)).unwrap_or(rest.len()));
    let significant = part.trim_start_matches('0');
    (step, if digits { Part::Number(significant.len(), significant) } else { Part::Word(part) }, rest)
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut left, mut right) = (self.as_str(), other.as_str());
        while !left.is_empty() || !right.is_empty() {
            let (left_step, left_part, left_rest) = next(left);
            let (right_step, right_part, right_rest) = next(right);
            let order = left_step.cmp(&right_step).then(left_part.cmp(&right_part));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (left_rest, right_rest);
        }
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_have_the_order_that_people_expect() {
        let ordered = [
            "0.1.0",
            "0.9.0",
            "0.10.0",
            "1.0.0~alpha",
            "1.0.0-beta",
            "1.0.0-rc1",
            "1.0.0-rc2",
            "1.0.0-rc10",
            "1.0.0",
            "1.0.0+1",
            "1.0.0+2",
            "1.0.0.1",
            "1.0.1",
            "1.1.0",
            "2",
            "2.0",
            "10.0.0",
            "2026.11.26",
        ];
        for (place, lower) in ordered.iter().enumerate() {
            for higher in &ordered[place + 1..] {
                assert!(version(lower) < version(higher), "{lower} < {higher}");
                assert!(version(higher) > version(lower), "{higher} > {lower}");
            }
        }
        assert_ne!(version("1.0"), version("1.00"));
        assert!(version("99999999999999999999999.0") > version("3.0"));
    }

    proptest! {
        #[test]
        fn the_order_is_total(texts in prop::collection::vec("[a-b0-2][a-b0-2.~+_-]{0,6}", 3)) {
            let [a, b, c] = [0, 1, 2].map(|place| version(&texts[place]));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
            if a <= b && b <= c {
                prop_assert!(a <= c, "{} {} {}", a, b, c);
            }
        }
    }
}
