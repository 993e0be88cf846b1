//! One binary package of an archive index.

use std::fmt;
use std::sync::Arc;

use crate::deb822::{self, SyntaxError};
use crate::digest::Digest;
use crate::relation::{self, Dependency, Provide, RelationError};
use crate::version::{Version, VersionError};

/// Whether packages of other architectures may use this one (Debian's multiarch specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MultiArch {
    /// No field.
    #[default]
    No,
    /// `same`: can be installed beside itself.
    Same,
    /// `foreign`: satisfies dependencies of every architecture.
    Foreign,
    /// `allowed`: does so for `name:any`.
    Allowed,
}

/// Priority of a package, the most important first (Debian policy 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// `required`
    Required,
    /// `important`
    Important,
    /// `standard`
    Standard,
    /// `optional`
    Optional,
    /// `extra`, or something that policy does not know
    Extra,
}

/// A binary package as its index describes it. Texts are as written; sizes are in bytes but for `installed_kib`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: Version,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Name of the source package.
    pub source: String,
    /// Version of the source package.
    pub source_version: Version,
    /// Archive section, for example `libs`; empty when not given.
    pub section: String,
    /// Priority.
    pub priority: Priority,
    /// Part of what every Debian system is promised to have.
    pub essential: bool,
    /// Multiarch class.
    pub multi_arch: MultiArch,
    /// Must be unpacked and configured before.
    pub pre_depends: Vec<Dependency>,
    /// Must be there.
    pub depends: Vec<Dependency>,
    /// Names that this package stands in for.
    pub provides: Vec<Provide>,
    /// Must not be there with it: `Conflicts` and `Breaks` together.
    pub conflicts: Vec<Dependency>,
    /// Files of these may be overwritten.
    pub replaces: Vec<Dependency>,
    /// Path of the `.deb` below the mirror's base.
    pub filename: String,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Digest,
    /// Estimated installed size in KiB; 0 when not given.
    pub installed_kib: u64,
    /// The suite whose index named the package.
    pub suite: Arc<str>,
}

/// A stanza that is not a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StanzaError {
    /// The format itself.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A field that every package has is missing.
    #[error("line {line}: the package {package:?} has no field {field}")]
    Missing {
        /// Line of the stanza's start.
        line: usize,
        /// Name of the package, if known.
        package: String,
        /// Name of the field.
        field: &'static str,
    },
    /// A field's value cannot be understood.
    #[error("line {line}: field {field} of package {package:?}")]
    Value {
        /// Line of the field.
        line: usize,
        /// Name of the package, if known.
        package: String,
        /// Name of the field.
        field: &'static str,
        /// What is wrong.
        source: ValueError,
    },
}

/// Why a field's value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not UTF-8.
    #[error("the value is not UTF-8")]
    Utf8,
    /// A number was expected.
    #[error("{0:?} is not a number of bytes")]
    Number(String),
    /// A digest was expected.
    #[error(transparent)]
    Digest(#[from] crate::digest::DigestError),
    /// A version was expected.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Relations were expected.
    #[error(transparent)]
    Relation(#[from] RelationError),
    /// A path that leaves the mirror's folder.
    #[error("{0:?} is not a relative path without `..`")]
    Path(String),
}

/// Which file a package is, and where a mirror has it: all that it takes to fetch and check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Name.
    pub name: String,
    /// Version.
    pub version: Version,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// The suite whose mirrors have it.
    pub suite: Arc<str>,
    /// Path of the `.deb` below the mirror's base.
    pub filename: String,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Digest,
}

/// A package's own control file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The file itself.
    #[error("its control file cannot be read")]
    Stanza(#[from] StanzaError),
    /// The package has none.
    #[error("it has no control file")]
    Missing,
    /// It is another package than its digest was said to belong to.
    #[error("it is {found}, but its digest was said to be that of {pinned}")]
    Other {
        /// Name, version and architecture in the control file.
        found: String,
        /// Those that were expected.
        pinned: String,
    },
}

/// The fields of a stanza that a [`Package`] is made of.
struct Stanza<'a> {
    text: &'a [u8],
    start: usize,
    fields: Vec<deb822::Field<'a>>,
}

impl<'a> Stanza<'a> {
    fn line(&self, offset: usize) -> usize {
        deb822::error_at(self.text, offset, deb822::Problem::NoColon).line
    }

    fn package(&self) -> String {
        let name = deb822::value(&self.fields, "Package").unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// The value of an optional field, parsed.
    fn optional<T>(
        &self,
        field: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, StanzaError> {
        let Some(found) = self.fields.iter().find(|f| f.name.eq_ignore_ascii_case(field.as_bytes())) else {
            return Ok(None);
        };
        let parsed = std::str::from_utf8(found.value).map_err(|_| ValueError::Utf8).and_then(parse);
        let fail = |source| StanzaError::Value {
            line: self.line(found.offset),
            package: self.package(),
            field,
            source,
        };
        parsed.map(Some).map_err(fail)
    }

    fn required<T>(
        &self,
        field: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, ValueError>,
    ) -> Result<T, StanzaError> {
        let missing = || StanzaError::Missing { line: self.line(self.start), package: self.package(), field };
        self.optional(field, parse)?.ok_or_else(missing)
    }

    fn text(&self, field: &'static str) -> Result<Option<String>, StanzaError> {
        self.optional(field, |text| Ok(text.to_owned()))
    }

    fn relations(&self, field: &'static str) -> Result<Vec<Dependency>, StanzaError> {
        let parse = |text| relation::parse_dependencies(text).map_err(ValueError::from);
        Ok(self.optional(field, parse)?.unwrap_or_default())
    }
}

fn number(text: &str) -> Result<u64, ValueError> {
    text.parse().map_err(|_| ValueError::Number(text.to_owned()))
}

fn version(text: &str) -> Result<Version, ValueError> {
    Ok(text.parse()?)
}

/// A path of the archive: relative, without `..`, so that joining it to a base cannot leave the base.
fn archive_path(text: &str) -> Result<String, ValueError> {
    let bad =
        text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == ".." || part == ".");
    if bad || text.contains(|c: char| c.is_control() || c == '\\') {
        return Err(ValueError::Path(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// `Source: name (version)`; without the field, the package's own name and version.
fn source(text: Option<&str>, name: &str, version: &Version) -> Result<(String, Version), ValueError> {
    let Some(text) = text else { return Ok((name.to_owned(), version.clone())) };
    match text.split_once('(') {
        None => Ok((text.trim().to_owned(), version.clone())),
        Some((source, rest)) => Ok((source.trim().to_owned(), rest.trim_end_matches(')').trim().parse()?)),
    }
}

impl Package {
    /// Parses the stanza that starts at `start` of an index's text.
    ///
    /// # Errors
    /// A line that breaks the format; a missing field; a value that is not understood.
    pub fn parse(text: &[u8], start: usize, suite: &Arc<str>) -> Result<Self, StanzaError> {
        let fields = deb822::fields(text, start).collect::<Result<Vec<_>, _>>()?;
        let stanza = Stanza { text, start, fields };
        let filename = stanza.required("Filename", archive_path)?;
        let size = stanza.required("Size", number)?;
        let sha256 = stanza.required("SHA256", |text| Ok(text.parse()?))?;
        Self::read(&stanza, filename, size, sha256, suite)
    }

    /// The package of a pin, before its file is there: relations, source and the like are empty.
    pub fn from_pin(pin: Pin) -> Self {
        Self {
            source: pin.name.clone(),
            source_version: pin.version.clone(),
            section: String::new(),
            priority: Priority::Extra,
            essential: false,
            multi_arch: MultiArch::No,
            pre_depends: Vec::new(),
            depends: Vec::new(),
            provides: Vec::new(),
            conflicts: Vec::new(),
            replaces: Vec::new(),
            installed_kib: 0,
            name: pin.name,
            version: pin.version,
            architecture: pin.architecture,
            filename: pin.filename,
            size: pin.size,
            sha256: pin.sha256,
            suite: pin.suite,
        }
    }

    /// This package as its own control file describes it; where it is stays as it is. An index may give another section and
    /// priority than the package itself.
    ///
    /// # Errors
    /// The file is malformed, or of another package.
    pub fn described_by(&self, control: &[u8]) -> Result<Self, ControlError> {
        let fields = deb822::fields(control, 0).collect::<Result<Vec<_>, _>>();
        let stanza = Stanza { text: control, start: 0, fields: fields.map_err(StanzaError::from)? };
        let described = Self::read(&stanza, self.filename.clone(), self.size, self.sha256, &self.suite)?;
        let same = (&described.name, &described.version, &described.architecture)
            == (&self.name, &self.version, &self.architecture);
        if !same {
            return Err(ControlError::Other { found: described.id(), pinned: self.id() });
        }
        Ok(described)
    }

    fn read(
        stanza: &Stanza<'_>,
        filename: String,
        size: u64,
        sha256: Digest,
        suite: &Arc<str>,
    ) -> Result<Self, StanzaError> {
        let name = stanza.required("Package", |text| Ok(relation::check_name(text)?.to_owned()))?;
        let version = stanza.required("Version", version)?;
        let source_field = stanza.optional("Source", |text| source(Some(text), &name, &version))?;
        let (source, source_version) = source_field.unwrap_or_else(|| (name.clone(), version.clone()));
        let mut conflicts = stanza.relations("Conflicts")?;
        conflicts.extend(stanza.relations("Breaks")?);
        let provides = stanza.optional("Provides", |text| Ok(relation::parse_provides(text)?))?;
        Ok(Self {
            architecture: stanza
                .required("Architecture", |text| Ok(relation::check_name(text)?.to_owned()))?,
            source,
            source_version,
            section: stanza.text("Section")?.unwrap_or_default(),
            priority: parse_priority(&stanza.text("Priority")?.unwrap_or_default()),
            essential: stanza.text("Essential")?.as_deref() == Some("yes"),
            multi_arch: parse_multi_arch(&stanza.text("Multi-Arch")?.unwrap_or_default()),
            pre_depends: stanza.relations("Pre-Depends")?,
            depends: stanza.relations("Depends")?,
            provides: provides.unwrap_or_default(),
            conflicts,
            replaces: stanza.relations("Replaces")?,
            filename,
            size,
            sha256,
            installed_kib: stanza.optional("Installed-Size", number)?.unwrap_or(0),
            suite: Arc::clone(suite),
            name,
            version,
        })
    }

    /// `name_version_architecture`, for messages.
    pub fn id(&self) -> String {
        format!("{}_{}_{}", self.name, self.version, self.architecture)
    }
}

fn parse_priority(text: &str) -> Priority {
    match text {
        "required" => Priority::Required,
        "important" => Priority::Important,
        "standard" => Priority::Standard,
        "optional" => Priority::Optional,
        _ => Priority::Extra,
    }
}

fn parse_multi_arch(text: &str) -> MultiArch {
    match text {
        "same" => MultiArch::Same,
        "foreign" => MultiArch::Foreign,
        "allowed" => MultiArch::Allowed,
        _ => MultiArch::No,
    }
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZA: &str = "Package: openssh-server\nSource: openssh (1:10.0p1-7)\nVersion: 1:10.0p1-7+b1\n\
        Architecture: amd64\nPre-Depends: init-system-helpers (>= 1.54~)\nDepends: libc6 (>= 2.38),\n libpam0g\n\
        Provides: ssh-server\nConflicts: sftp\nBreaks: x (<< 1)\nSection: net\nPriority: optional\n\
        Multi-Arch: foreign\nInstalled-Size: 2012\nFilename: pool/main/o/openssh/o.deb\nSize: 603132\n\
        SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";

    fn parse(text: &str) -> Result<Package, StanzaError> {
        Package::parse(text.as_bytes(), 0, &Arc::from("trixie"))
    }

    #[test]
    fn every_field_is_read() {
        let package = parse(STANZA).unwrap();
        assert_eq!(package.to_string(), "openssh-server 1:10.0p1-7+b1");
        assert_eq!((package.source.as_str(), package.source_version.as_str()), ("openssh", "1:10.0p1-7"));
        assert_eq!((package.depends.len(), package.pre_depends.len(), package.conflicts.len()), (2, 1, 2));
        assert_eq!((package.size, package.installed_kib), (603_132, 2012));
        assert_eq!((package.multi_arch, package.priority), (MultiArch::Foreign, Priority::Optional));
        assert!(!package.essential);
    }

    #[test]
    fn a_pinned_package_is_described_by_its_control_file() {
        let indexed = parse(STANZA).unwrap();
        let pin = Pin {
            name: indexed.name.clone(),
            version: indexed.version.clone(),
            architecture: indexed.architecture.clone(),
            suite: Arc::clone(&indexed.suite),
            filename: indexed.filename.clone(),
            size: indexed.size,
            sha256: indexed.sha256,
        };
        let (control, _) = STANZA.split_once("Filename").unwrap();
        let pinned = Package::from_pin(pin);
        assert_eq!(pinned.described_by(control.as_bytes()), Ok(indexed));
        let other = control.replace("amd64", "i386");
        let message = pinned.described_by(other.as_bytes()).unwrap_err().to_string();
        assert!(message.contains("it is openssh-server_1:10.0p1-7+b1_i386, but"), "{message}");
        assert!(matches!(pinned.described_by(b"Package: x"), Err(ControlError::Stanza(_))));
    }

    #[test]
    fn missing_and_malformed_fields_name_package_field_and_line() {
        let cases = [
            ("\nSize: 603132", "", "has no field Size"),
            ("Size: 603132", "Size: big", "line 16: field Size of package \"openssh-server\""),
            ("pool/main", "/pool/main", "field Filename"),
            ("pool/main", "pool/../../main", "field Filename"),
            ("Package: openssh-server", "Package: ../etc", "line 1: field Package"),
            ("libpam0g", "lib pam", "line 6: field Depends"),
            ("1:10.0p1-7+b1", "x", "line 3: field Version"),
        ];
        for (from, to, want) in cases {
            let message = parse(&STANZA.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(want), "{message:?} has {want:?}");
        }
    }
}
