//! `Release` files: what a suite is, when it was made, and the digests of its indexes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::deb822::{self, SyntaxError};
use crate::digest::{Digest, DigestError};

/// A suite's `Release` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// For example `stable`.
    pub suite: Option<String>,
    /// For example `trixie`.
    pub codename: Option<String>,
    /// When it was made.
    pub date: SystemTime,
    /// From when on it must not be used.
    pub valid_until: Option<SystemTime>,
    /// Whether indexes can be fetched under the name of their digest.
    pub by_hash: bool,
    /// Size in bytes and SHA-256 of each index, by path below the suite's folder.
    pub files: BTreeMap<String, (u64, Digest)>,
}

/// A `Release` file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The format itself.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// The file has no stanza, or more than one.
    #[error("expected one stanza, found {0}")]
    Stanzas(usize),
    /// A field is missing.
    #[error("there is no field {0}")]
    Missing(&'static str),
    /// A date that cannot be read.
    #[error("{field} is not a date: {text:?}")]
    Date {
        /// The field.
        field: &'static str,
        /// Its value.
        text: String,
    },
    /// A line of the list of digests that cannot be read.
    #[error("SHA256 has a line that is not `digest size path`: {line:?}")]
    File {
        /// The line.
        line: String,
        /// The digest's problem, when it is the digest.
        source: Option<DigestError>,
    },
    /// The file is for another suite than the one that was asked for.
    #[error("it is for suite {suite:?}, codename {codename:?}, but {wanted:?} was asked for")]
    OtherSuite {
        /// `Suite`.
        suite: String,
        /// `Codename`.
        codename: String,
        /// What was asked for.
        wanted: String,
    },
    /// `Valid-Until` is over.
    #[error(
        "it expired {} ago: the mirror is out of date, or this machine's clock is wrong", days(*.by)
    )]
    Expired {
        /// How long ago.
        by: Duration,
    },
    /// `Date` is in the future.
    #[error("it is dated {} in the future: this machine's clock is probably wrong", days(*.by))]
    Future {
        /// How far.
        by: Duration,
    },
}

fn days(duration: Duration) -> String {
    let hours = duration.as_secs() / 3600;
    if hours < 48 { format!("{hours} hours") } else { format!("{} days", hours / 24) }
}

/// Clocks of mirrors and builders may differ by this much.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

impl Release {
    /// Parses the signed text.
    ///
    /// # Errors
    /// Anything that breaks the format; no `Date`; a `SHA256` list with a malformed line.
    pub fn parse(text: &[u8]) -> Result<Self, ReleaseError> {
        let stanzas = deb822::parse(text)?;
        let [stanza] = stanzas.as_slice() else { return Err(ReleaseError::Stanzas(stanzas.len())) };
        let text = |name: &str| deb822::value(stanza, name).map(|v| String::from_utf8_lossy(v).into_owned());
        let date = |field: &'static str| {
            text(field).map(|text| parse_date(&text).ok_or(ReleaseError::Date { field, text })).transpose()
        };
        let list = text("SHA256").ok_or(ReleaseError::Missing("SHA256"))?;
        let files = list.lines().map(str::trim).filter(|line| !line.is_empty()).map(parse_file);
        Ok(Self {
            suite: text("Suite"),
            codename: text("Codename"),
            date: date("Date")?.ok_or(ReleaseError::Missing("Date"))?,
            valid_until: date("Valid-Until")?,
            by_hash: text("Acquire-By-Hash").as_deref() == Some("yes"),
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Checks that this is the suite that was asked for, by its name or codename.
    ///
    /// # Errors
    /// [`ReleaseError::OtherSuite`].
    pub fn check_suite(&self, wanted: &str) -> Result<(), ReleaseError> {
        let names = [self.suite.as_deref(), self.codename.as_deref()];
        if names.contains(&Some(wanted)) {
            return Ok(());
        }
        let [suite, codename] = names.map(|name| name.unwrap_or_default().to_owned());
        Err(ReleaseError::OtherSuite { suite, codename, wanted: wanted.to_owned() })
    }

    /// Checks that the file is neither expired nor from the future.
    ///
    /// # Errors
    /// [`ReleaseError::Expired`], [`ReleaseError::Future`].
    pub fn check_time(&self, now: SystemTime) -> Result<(), ReleaseError> {
        if let Some(by) = self.valid_until.and_then(|end| now.duration_since(end).ok()) {
            return Err(ReleaseError::Expired { by });
        }
        match self.date.duration_since(now) {
            Ok(by) if by > CLOCK_TOLERANCE => Err(ReleaseError::Future { by }),
            _ => Ok(()),
        }
    }
}

fn parse_file(line: &str) -> Result<(String, (u64, Digest)), ReleaseError> {
    let refuse = |source| ReleaseError::File { line: line.to_owned(), source };
    let mut words = line.split_ascii_whitespace();
    let (Some(digest), Some(size), Some(path), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(refuse(None));
    };
    let digest = digest.parse().map_err(|error| refuse(Some(error)))?;
    let size = size.parse().map_err(|_| refuse(None))?;
    Ok((path.to_owned(), (size, digest)))
}

/// Parses `Sat, 12 Sep 2026 07:55:41 UTC` (RFC 5322's form, in UTC as archives write it).
pub fn parse_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = text.split_once(", ").map_or(text, |(_, rest)| rest);
    let mut words = text.split_ascii_whitespace();
    let day: u64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let utc = matches!(words.next(), Some("UTC" | "GMT" | "+0000")) && words.next().is_none();
    let in_range = (1..=31).contains(&day) && (1970..=9999).contains(&year);
    if !utc || time.next().is_some() || !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970-01-01, counting years from March so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n\
        Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC\nAcquire-By-Hash: yes\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n";

    fn at(text: &str) -> SystemTime {
        parse_date(text).unwrap()
    }

    #[test]
    fn dates_are_unix_seconds() {
        let cases = [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Sat, 12 Sep 2026 07:55:41 UTC", Some(1_789_199_741)),
            ("29 Feb 2024 23:59:59 +0000", Some(1_709_251_199)),
            ("Sat, 12 Sep 2026 07:55:41 CET", None),
            ("Sat, 12 Foo 2026 07:55:41 UTC", None),
            ("Sat, 12 Sep 2026 07:55 UTC", None),
            ("", None),
        ];
        for (text, want) in cases {
            let seconds =
                parse_date(text).map(|t| t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
            assert_eq!(seconds, want, "{text:?}");
        }
    }

    #[test]
    fn fields_and_files_are_read() {
        let release = Release::parse(TEXT.as_bytes()).unwrap();
        assert!(release.by_hash);
        assert_eq!(release.files["main/binary-amd64/Packages"], (0, Digest::of(b"")));
        assert!(release.check_suite("trixie").is_ok() && release.check_suite("stable").is_ok());
        let error = release.check_suite("bookworm").unwrap_err().to_string();
        assert!(error.contains("\"trixie\"") && error.contains("\"bookworm\""), "{error}");
    }

    #[test]
    fn expired_and_future_files_are_refused() {
        let release = Release::parse(TEXT.as_bytes()).unwrap();
        assert!(release.check_time(at("Fri, 18 Sep 2026 00:00:00 UTC")).is_ok());
        let expired = release.check_time(at("Tue, 22 Sep 2026 08:00:00 UTC")).unwrap_err().to_string();
        assert!(expired.contains("expired 3 days ago"), "{expired}");
        assert!(matches!(
            release.check_time(at("Fri, 11 Sep 2020 00:00:00 UTC")),
            Err(ReleaseError::Future { .. })
        ));
    }

    #[test]
    fn malformed_files_are_refused() {
        for (from, to) in [
            ("Date: Sat, 12", "Date: Sat, 99"),
            ("Date:", "Dade:"),
            ("SHA256:", "MD5Sum:"),
            (" 0 main", " main"),
            (" 0 main", " -1 main"),
            ("e3b0", "zzzz"),
            ("Suite: stable\n", "Suite: stable\n\n"),
        ] {
            assert!(Release::parse(TEXT.replacen(from, to, 1).as_bytes()).is_err(), "{from} -> {to}");
        }
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in ".{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_date(&text);
            let _ = Release::parse(&bytes);
        }

        #[test]
        fn any_date_like_text_never_panics(text in "[0-9]{1,20} (Jan|Feb) [0-9]{1,20} [0-9]{1,20}:[0-9]{1,3}:[0-9]{1,3} UTC") {
            let _ = parse_date(&text);
        }
    }
}
