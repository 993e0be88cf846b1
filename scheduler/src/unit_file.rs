//! Unit files as fleet keeps them: an ordered list of options, a normal form of their text, and the SHA-1 of that text as their
//! name in etcd. The parser is that of go-systemd (`unit/deserialize.go`), with lines in its errors.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

/// Lines of this length and longer are refused (`SYSTEMD_LINE_MAX` of go-systemd).
pub const LONGEST_LINE: usize = 2048;

/// One assignment; also its form in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitOption {
    /// The section's name.
    #[serde(default)]
    pub section: String,
    /// What stands before the `=`.
    #[serde(default)]
    pub name: String,
    /// What stands after it; a continued line keeps its backslash and newline.
    #[serde(default)]
    pub value: String,
}

/// Why a text is no unit file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct UnitFileError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// [`LONGEST_LINE`].
    #[error("line too long (max 2048 bytes)")]
    TooLong,
    /// `[Unit`
    #[error("the section header has no `]`")]
    OpenSection,
    /// `[Unit] x`
    #[error("garbage after section name {0}")]
    Garbage(String),
    /// A line without `=`.
    #[error("the line has no `=`: {0}")]
    NoAssignment(String),
}

/// SHA-1 of a unit file's normal form.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash([u8; 20]);

impl Hash {
    /// Reads 40 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        let digits = text.as_bytes();
        if digits.len() != 40 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The first seven digits.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(7).collect()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A unit file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFile {
    options: Vec<UnitOption>,
}

impl UnitFile {
    /// Of options, in their order.
    #[must_use]
    pub const fn new(options: Vec<UnitOption>) -> Self {
        Self { options }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`UnitFileError`], with the line.
    pub fn parse(text: &str) -> Result<Self, UnitFileError> {
        let mut options = Vec::new();
        let mut section: Option<String> = None;
        let mut lines = (1..).zip(text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)));
        while let Some((number, line)) = lines.next() {
            let wrong = |problem| UnitFileError { line: number, problem };
            check_length(number, line)?;
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(header) = trimmed.strip_prefix('[') {
                let (name, rest) = header.split_once(']').ok_or_else(|| wrong(Problem::OpenSection))?;
                if !rest.trim().is_empty() {
                    return Err(wrong(Problem::Garbage(name.to_owned())));
                }
                section = Some(name.to_owned());
                continue;
            }
            // Text before the first section means nothing.
            let Some(section) = &section else { continue };
            let (name, first) = line
                .split_once('=')
                .ok_or_else(|| wrong(Problem::NoAssignment(trimmed.chars().take(60).collect())))?;
            let mut value = first.to_owned();
            let mut last = first;
            while last.ends_with('\\') {
                let Some((number, next)) = lines.next() else { break };
                check_length(number, next)?;
                if next.trim().is_empty() {
                    break;
                }
                value.push('\n');
                value.push_str(next);
                last = next;
            }
            options.push(UnitOption {
                section: section.clone(),
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
            });
        }
        Ok(Self { options })
    }

    /// Its options, in order.
    #[must_use]
    pub fn options(&self) -> &[UnitOption] {
        &self.options
    }

    /// The values of a section's option, in order.
    pub fn values<'a>(&'a self, section: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
        let wanted = move |option: &&UnitOption| option.section == section && option.name == name;
        self.options.iter().filter(wanted).map(|option| option.value.as_str())
    }

    /// Whether it has a section.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        self.options.iter().any(|option| option.section == section)
    }

    /// The hash of its normal form.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash(Sha1::digest(self.to_string().as_bytes()).into())
    }
}

/// The normal form: sections in the order in which they first come, their options together, a blank line between sections.
impl fmt::Display for UnitFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sections: Vec<&str> = Vec::new();
        for option in &self.options {
            if !sections.contains(&option.section.as_str()) {
                sections.push(&option.section);
            }
        }
        for (place, section) in sections.iter().enumerate() {
            if place > 0 {
                writeln!(formatter)?;
            }
            writeln!(formatter, "[{section}]")?;
            for option in self.options.iter().filter(|option| option.section == *section) {
                writeln!(formatter, "{}={}", option.name, option.value)?;
            }
        }
        Ok(())
    }
}

fn check_length(line: usize, text: &str) -> Result<(), UnitFileError> {
    if text.len() >= LONGEST_LINE { Err(UnitFileError { line, problem: Problem::TooLong }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_fleets() {
        // `printf '[Service]\nExecStart=/bin/sleep 1\n' | sha1sum`, and the same with a second section.
        let file = UnitFile::parse("# c\n[Service]\n\n ExecStart = /bin/sleep 1\n").unwrap();
        assert_eq!(file.hash().to_string(), "0291f12e379921025c603e454c0fe989ddb0f3dd");
        let text = "[Unit]\nA=1\n[Service]\nB=2\n[Unit]\nC=3\n";
        let file = UnitFile::parse(text).unwrap();
        assert_eq!(file.to_string(), "[Unit]\nA=1\nC=3\n\n[Service]\nB=2\n");
        assert_eq!(file.hash().to_string(), "1fc61d982cf96334c30d18a4224257e360f96d35");
        assert_eq!(file.hash().short(), "1fc61d982cf96334c30d18a4224257e360f96d35".get(..7).unwrap());
        assert_eq!(Hash::from_hex(&file.hash().to_string()), Some(file.hash()));
        assert_eq!(UnitFile::default().hash().to_string(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }

    #[test]
    fn continued_lines_keep_their_form() {
        let file =
            UnitFile::parse("x=before\n[Service]\nExecStart=/bin/sh -c \\\n  'a b' \\\n  c\nUser=core")
                .unwrap();
        let values: Vec<&str> = file.values("Service", "ExecStart").collect();
        assert_eq!(values, ["/bin/sh -c \\\n  'a b' \\\n  c"]);
        assert_eq!(file.values("Service", "User").collect::<Vec<_>>(), ["core"]);
        assert_eq!(file.options().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let long = format!("[A]\nx={}\n", "y".repeat(2046));
        let cases: &[(&str, &str)] = &[
            ("[A]\nb\n", "line 2: the line has no `=`: b"),
            ("\n[A\nb=1\n", "line 2: the section header has no `]`"),
            ("[A] c\n", "line 1: garbage after section name A"),
            (&long, "line 2: line too long (max 2048 bytes)"),
        ];
        for (text, want) in cases {
            assert_eq!(UnitFile::parse(text).unwrap_err().to_string(), *want);
        }
        assert!(UnitFile::parse(&long.replacen('y', "", 1)).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_the_normal_form_stays(text in "[\\[\\]=a-c#;\\\\ \n\r]{0,80}") {
            if let Ok(file) = UnitFile::parse(&text) {
                let normal = file.to_string();
                if let Ok(again) = UnitFile::parse(&normal) {
                    // A value that ends in a backslash goes on in the next line of the normal form.
                    if !file.options().iter().any(|option| option.value.ends_with('\\') || option.name.is_empty()) {
                        prop_assert_eq!(again.to_string(), normal);
                    }
                }
            }
        }
    }
}
