//! Debian package versions and their order (Debian policy 5.6.12, deb-version(7)).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A package version, `[epoch:]upstream[-revision]`, ordered as dpkg orders it.
///
/// Invariant: the text was accepted by [`Version::from_str`]. `Eq` and `Hash` follow the order, not the text:
/// `1.0`, `0:1.0` and `1.00` are the same version.
#[derive(Clone)]
pub struct Version {
    text: Box<str>,
    epoch: u32,
    /// Range of the upstream part: from here...
    upstream_start: usize,
    /// ...to here. The revision starts one byte later, when there is one.
    upstream_end: usize,
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a package version: {problem}")]
pub struct VersionError {
    /// The text that was refused.
    pub text: String,
    /// What is wrong with it.
    pub problem: VersionProblem,
}

/// The rule that a version breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionProblem {
    /// Nothing between the epoch and the revision.
    #[error("the upstream part is empty")]
    Empty,
    /// The text before the first colon is no number that fits 31 bits, as dpkg demands.
    #[error("the epoch before ':' must be a number up to 2147483647")]
    Epoch,
    /// A hyphen with nothing behind it.
    #[error("the revision after the last '-' is empty")]
    EmptyRevision,
    /// dpkg demands a digit first.
    #[error("the upstream part must start with a digit")]
    NoDigitFirst,
    /// A character outside the permitted set.
    #[error("character {0:?} is not allowed here")]
    Character(char),
}

impl Version {
    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The epoch; 0 when none is written.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The upstream part.
    pub fn upstream(&self) -> &str {
        self.text.get(self.upstream_start..self.upstream_end).unwrap_or_default()
    }

    /// The Debian revision; empty when there is none.
    pub fn revision(&self) -> &str {
        self.text.get(self.upstream_end + 1..).unwrap_or_default()
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let refuse = |problem| VersionError { text: text.to_owned(), problem };
        let (epoch, upstream_start) = match text.split_once(':') {
            None => (0, 0),
            Some((digits, _)) => {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                let epoch: Option<u32> = plain.then(|| digits.parse().ok()).flatten();
                let epoch = epoch.filter(|e| *e <= i32::MAX.unsigned_abs());
                (epoch.ok_or_else(|| refuse(VersionProblem::Epoch))?, digits.len() + 1)
            }
        };
        let rest = text.get(upstream_start..).unwrap_or_default();
        let (upstream, revision) = match rest.rsplit_once('-') {
            Some((upstream, revision)) => (upstream, Some(revision)),
            None => (rest, None),
        };
        if upstream.is_empty() {
            return Err(refuse(VersionProblem::Empty));
        }
        if revision == Some("") {
            return Err(refuse(VersionProblem::EmptyRevision));
        }
        if !upstream.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(refuse(VersionProblem::NoDigitFirst));
        }
        let upstream_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '~' | ':');
        let revision_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~');
        let bad = upstream.chars().find(|c| !upstream_ok(*c));
        let bad = bad.or_else(|| revision.unwrap_or_default().chars().find(|c| !revision_ok(*c)));
        if let Some(character) = bad {
            return Err(refuse(VersionProblem::Character(character)));
        }
        Ok(Self { epoch, upstream_start, upstream_end: upstream_start + upstream.len(), text: text.into() })
    }
}

/// What a non-digit weighs: `~` before the end of the text, the end before letters, letters before the rest.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(b) => i32::from(b) + 256,
    }
}

/// Splits the leading digits off and drops their leading zeros.
fn take_number(text: &[u8]) -> (&[u8], &[u8]) {
    let zeros = text.iter().take_while(|b| **b == b'0').count();
    let text = text.get(zeros..).unwrap_or_default();
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    text.split_at_checked(digits).unwrap_or((text, &[]))
}

/// dpkg's order of two upstream parts or two revisions: a non-digit run, a number, and so on in turn.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let is_text = |part: &[u8]| part.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while is_text(a) || is_text(b) {
            let order = weight(a.first().copied()).cmp(&weight(b.first().copied()));
            if order.is_ne() {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (number_a, rest_a) = take_number(a);
        let (number_b, rest_b) = take_number(b);
        // Without leading zeros, the longer number is the larger one: no overflow however long they are.
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.upstream().as_bytes(), other.upstream().as_bytes()))
            .then_with(|| compare_part(self.revision().as_bytes(), other.revision().as_bytes()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.text)
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn order_is_dpkgs() {
        // Each line in rising order.
        let rising: &[&[&str]] = &[
            &["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+", "1.0.1"],
            &["9", "10", "1:0", "1:0-1", "2:0~"],
            &["1.0-1", "1.0-1+b1", "1.0-1+deb13u1", "1.0-1.1", "1.0-2", "1.0-10"],
            &["6.12.9-1", "6.12.10-1", "6.12.10-1+1"],
            &["1.2-3", "1.2-3-1"],
            &["1.0~rc1-1", "1.0-1~bpo12+1", "1.0-1"],
            &["18446744073709551615", "18446744073709551616"],
        ];
        for line in rising {
            for pair in line.windows(2) {
                let [a, b] = pair else { unreachable!() };
                assert!(v(a) < v(b), "{a} < {b}");
                assert!(v(b) > v(a), "{b} > {a}");
            }
        }
    }

    #[test]
    fn different_spellings_of_one_version_are_equal() {
        for (a, b) in [("1.0", "0:1.0"), ("1.0", "1.00"), ("1.0", "1.0-0"), ("0", "00"), ("1.", "1.0")] {
            assert_eq!(v(a), v(b), "{a} = {b}");
        }
    }

    #[test]
    fn malformed_versions_are_refused_with_the_rule() {
        let cases = [
            ("", VersionProblem::Empty),
            ("1:", VersionProblem::Empty),
            (":1", VersionProblem::Epoch),
            ("-1:1", VersionProblem::Epoch),
            ("4294967296:1", VersionProblem::Epoch),
            ("2147483648:1", VersionProblem::Epoch),
            ("1-", VersionProblem::EmptyRevision),
            ("-1", VersionProblem::Empty),
            ("a1", VersionProblem::NoDigitFirst),
            ("1_0", VersionProblem::Character('_')),
            ("1 0", VersionProblem::Character(' ')),
            ("1-1:1", VersionProblem::Epoch),
            ("1:1-1:1", VersionProblem::Character(':')),
            ("1-é", VersionProblem::Character('é')),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Version>().map_err(|e| e.problem), Err(want), "{text:?}");
        }
    }

    #[test]
    fn parts_are_split_at_first_colon_and_last_hyphen() {
        let version = v("2:1.0:3-4-5");
        assert_eq!((version.epoch(), version.upstream(), version.revision()), (2, "1.0:3-4", "5"));
    }

    fn any_version() -> impl Strategy<Value = String> {
        "([0-9]:)?[0-9][0-9a-c.+~-]{0,6}(-[0-9a-c.+~]{1,4})?"
            .prop_filter("valid", |t| t.parse::<Version>().is_ok())
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(text in ".{0,20}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }

        #[test]
        fn order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            let (a, b, c) = (v(&a), v(&b), v(&c));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            if a == b {
                prop_assert_eq!(a.cmp(&c), b.cmp(&c));
            }
        }

        #[test]
        fn a_tilde_suffix_sorts_before_and_a_letter_suffix_after(a in "[0-9][0-9.]{0,5}") {
            let (tilde, letter) = (format!("{a}~x"), format!("{a}x"));
            prop_assert!(v(&tilde) < v(&a));
            prop_assert!(v(&letter) > v(&a));
        }
    }
}
