//! Names of units: `prefix.type`, `prefix@.type` (template), `prefix@instance.type`.
//!
//! Rules and escaping: systemd.unit(5), "String Escaping for Inclusion in Unit Names"; limits as in systemd 257.

use std::fmt;

/// Longest unit name in bytes (systemd's `UNIT_NAME_MAX` less its terminator).
pub const LONGEST_NAME: usize = 255;

/// What sort of unit a name's suffix says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitType {
    /// A process and its children.
    Service,
    /// A socket or FIFO that starts a service.
    Socket,
    /// A named point of synchronisation.
    Target,
    /// A clock that starts a unit.
    Timer,
    /// A file that starts a unit.
    Path,
    /// A mount point.
    Mount,
    /// A mount point that is mounted when it is used.
    Automount,
    /// A swap device or file.
    Swap,
    /// A node of the cgroup tree.
    Slice,
    /// Processes that somebody else started.
    Scope,
    /// A device that the kernel announced.
    Device,
}

impl UnitType {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Service, "service"),
        (Self::Socket, "socket"),
        (Self::Target, "target"),
        (Self::Timer, "timer"),
        (Self::Path, "path"),
        (Self::Mount, "mount"),
        (Self::Automount, "automount"),
        (Self::Swap, "swap"),
        (Self::Slice, "slice"),
        (Self::Scope, "scope"),
        (Self::Device, "device"),
    ];

    /// The suffix without its dot.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("service", |(_, suffix)| suffix)
    }

    /// The type with this suffix (without its dot).
    #[must_use]
    pub fn from_suffix(suffix: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, text)| *text == suffix).map(|(kind, _)| *kind)
    }
}

/// What people type as a unit, as a whole name: one without a type's suffix is a service. Patterns of a shell stay as they are.
#[must_use]
pub fn complete_unit_name(text: &str) -> String {
    let has_suffix = text.rsplit_once('.').is_some_and(|(_, suffix)| UnitType::from_suffix(suffix).is_some());
    let is_pattern = text.contains(['*', '?', '[']);
    if has_suffix || is_pattern { text.to_owned() } else { format!("{text}.service") }
}

impl fmt::Display for UnitType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suffix())
    }
}

/// A valid unit name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName {
    full: String,
    /// Length of the prefix in bytes.
    prefix: usize,
    kind: UnitType,
}

/// Why a text is no unit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitNameError {
    /// Longer than [`LONGEST_NAME`].
    #[error("the unit name `{0:.40}...` is longer than 255 bytes")]
    TooLong(String),
    /// No suffix, or one that is no unit type.
    #[error("`{0}` is no unit name: it does not end in .service, .socket, .target, .timer or the like")]
    UnknownType(String),
    /// Nothing before the suffix or the `@`.
    #[error("`{0}` is no unit name: nothing stands before its suffix")]
    EmptyPrefix(String),
    /// A character other than letters, digits and `:-_.\@`.
    #[error("`{name}` is no unit name: it holds {character:?}")]
    Character {
        /// The text.
        name: String,
        /// The first character that does not belong.
        character: char,
    },
}

impl UnitName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`UnitNameError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, UnitNameError> {
        if text.len() > LONGEST_NAME {
            return Err(UnitNameError::TooLong(text.chars().take(40).collect()));
        }
        let unknown = || UnitNameError::UnknownType(text.to_owned());
        let (stem, suffix) = text.rsplit_once('.').ok_or_else(unknown)?;
        let kind = UnitType::from_suffix(suffix).ok_or_else(unknown)?;
        let prefix = stem.split('@').next().unwrap_or_default();
        if prefix.is_empty() {
            return Err(UnitNameError::EmptyPrefix(text.to_owned()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if let Some(character) = stem.chars().find(|c| !allowed(*c)) {
            return Err(UnitNameError::Character { name: text.to_owned(), character });
        }
        Ok(Self { full: text.to_owned(), prefix: prefix.len(), kind })
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// What stands before the `@`, or before the suffix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.full.get(..self.prefix).unwrap_or_default()
    }

    /// What stands between `@` and the suffix: `None` without an `@`, empty in a template.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.stem().get(self.prefix..)?.strip_prefix('@')
    }

    /// The name without its suffix.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.full.rsplit_once('.').map_or("", |(stem, _)| stem)
    }

    /// What sort of unit it is.
    #[must_use]
    pub fn kind(&self) -> UnitType {
        self.kind
    }

    /// Whether it names a template, which has no instance yet and cannot be started.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.instance() == Some("")
    }

    /// The template that an instance was made of; `None` for a name that is no instance.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        self.instance().filter(|instance| !instance.is_empty())?;
        Self::parse(&format!("{}@.{}", self.prefix(), self.kind)).ok()
    }

    /// The instance of this template (or of this instance's template) with the given, already escaped, text.
    ///
    /// # Errors
    /// [`UnitNameError`] when the result is no unit name, or when this name has no `@`.
    pub fn with_instance(&self, instance: &str) -> Result<Self, UnitNameError> {
        if self.instance().is_none() {
            return Err(UnitNameError::Character { name: self.full.clone(), character: '@' });
        }
        Self::parse(&format!("{}@{instance}.{}", self.prefix(), self.kind))
    }

    /// The same name with another suffix.
    ///
    /// # Errors
    /// [`UnitNameError::TooLong`] when it becomes too long.
    pub fn with_kind(&self, kind: UnitType) -> Result<Self, UnitNameError> {
        Self::parse(&format!("{}.{kind}", self.stem()))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

impl AsRef<str> for UnitName {
    fn as_ref(&self) -> &str {
        &self.full
    }
}

impl std::str::FromStr for UnitName {
    type Err = UnitNameError;

    fn from_str(text: &str) -> Result<Self, UnitNameError> {
        Self::parse(text)
    }
}

/// Escapes any text for use in a unit name, as `systemd-escape` does: `/` becomes `-`; a leading dot and every byte
/// but letters, digits and `:_.` become `\xNN`.
#[must_use]
pub fn escape(text: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for (index, &byte) in text.iter().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'.' if index == 0 => out.push_str("\\x2e"),
            b':' | b'_' | b'.' => out.push(char::from(byte)),
            other if other.is_ascii_alphanumeric() => out.push(char::from(other)),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{other:02x}");
            }
        }
    }
    out
}

/// Undoes [`escape`]: `-` becomes `/`, `\xNN` a byte. `None` when an escape is broken.
#[must_use]
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'-' => b'/',
            b'\\' => {
                let (b'x', Some(high), Some(low)) = (bytes.next()?, bytes.next(), bytes.next()) else {
                    return None;
                };
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(high)? * 16 + digit(low)?
            }
            other => other,
        });
    }
    Some(out)
}

/// Escapes an absolute path, as `systemd-escape --path` does: slashes at the ends and repeated ones go, the root is
/// `-`. `None` when the path has a `.` or `..` component.
#[must_use]
pub fn escape_path(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return None;
    }
    if parts.is_empty() {
        return Some("-".to_owned());
    }
    Some(escape(parts.join("/").as_bytes()))
}

/// Undoes [`escape_path`]: an absolute path.
#[must_use]
pub fn unescape_path(text: &str) -> Option<Vec<u8>> {
    if text == "-" {
        return Some(b"/".to_vec());
    }
    let mut path = vec![b'/'];
    path.extend(unescape(text)?);
    Some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_type_becomes_a_name() {
        for (typed, name) in [
            ("ssh", "ssh.service"),
            ("ssh.socket", "ssh.socket"),
            ("etcd2.3", "etcd2.3.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("etc*", "etc*"),
            ("", ".service"),
        ] {
            assert_eq!(complete_unit_name(typed), name);
        }
    }

    #[test]
    fn names_come_apart_as_systemd_takes_them_apart() {
        let cases: &[(&str, &str, Option<&str>, UnitType)] = &[
            ("ssh.service", "ssh", None, UnitType::Service),
            ("getty@.service", "getty", Some(""), UnitType::Service),
            ("getty@tty1.service", "getty", Some("tty1"), UnitType::Service),
            ("a@b@c.socket", "a", Some("b@c"), UnitType::Socket),
            ("org.x.y.target", "org.x.y", None, UnitType::Target),
            ("a@1.2.service", "a", Some("1.2"), UnitType::Service),
            ("-.mount", "-", None, UnitType::Mount),
        ];
        for (text, prefix, instance, kind) in cases {
            let name = UnitName::parse(text).unwrap();
            assert_eq!((name.prefix(), name.instance(), name.kind()), (*prefix, *instance, *kind), "{text}");
        }
        for bad in [
            "",
            "ssh",
            "ssh.conf",
            ".service",
            "@.service",
            "@x.service",
            "a b.service",
            "a/b.service",
            "ä.service",
        ] {
            assert!(UnitName::parse(bad).is_err(), "{bad:?} is accepted");
        }
        assert!(UnitName::parse(&format!("{}.service", "a".repeat(248))).is_err());
    }

    #[test]
    fn templates_and_instances_lead_to_each_other() {
        let template = UnitName::parse("getty@.service").unwrap();
        let instance = template.with_instance("tty1").unwrap();
        assert_eq!(instance.as_str(), "getty@tty1.service");
        assert_eq!(instance.template(), Some(template.clone()));
        assert!(template.is_template() && !instance.is_template());
        assert_eq!(template.template(), None);
        assert!(UnitName::parse("a.service").unwrap().with_instance("x").is_err());
    }

    #[test]
    fn escaping_is_that_of_systemd_escape() {
        assert_eq!(escape(b"hello/wor ld-x"), "hello-wor\\x20ld\\x2dx");
        assert_eq!(escape(b".a.b"), "\\x2ea.b");
        assert_eq!(escape_path("/dev//disk/by-id/").unwrap(), "dev-disk-by\\x2did");
        assert_eq!(escape_path("/").unwrap(), "-");
        assert_eq!(escape_path("/a/../b"), None);
        assert_eq!(unescape("a\\x2"), None);
        assert_eq!(unescape("a\\n"), None);
    }

    proptest! {
        #[test]
        fn escaping_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(unescape(&escape(&bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = UnitName::parse(&text);
            let _ = unescape(&text);
            let _ = escape_path(&text);
        }
    }
}
