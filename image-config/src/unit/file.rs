//! A unit file with its drop-ins, raw and typed.

use std::fmt;

use super::common::{Common, Install};
use super::mount::Mount;
use super::name::{UnitName, UnitType};
use super::path::PathUnit;
use super::reader;
use super::resources::ResourceControl;
use super::service::Service;
use super::slice::Slice;
use super::socket::Socket;
use super::specifier::System;
use super::swap::Swap;
use super::syntax::{self, Content};
use super::timer::Timer;

/// Something in a unit file that is not as it should be. Never fatal: what it is about is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub path: String,
    /// Its line, from 1; 0 when the warning is about the unit as a whole.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Warning {
    /// `path:line: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// One assignment of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The section's name.
    pub section: String,
    /// What stands before the `=`.
    pub key: String,
    /// What stands after it, as written.
    pub value: String,
    /// Which of [`UnitFile::paths`] it stands in.
    pub file: usize,
    /// Its line, from 1.
    pub line: u32,
}

/// A main file and its drop-ins, merged: all assignments in the order in which they count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    name: UnitName,
    paths: Vec<String>,
    assignments: Vec<Assignment>,
}

impl UnitFile {
    /// Merges a unit's files: the main one first, then its drop-ins in order. Syntax that cannot be understood
    /// becomes warnings.
    #[must_use]
    pub fn parse(name: &UnitName, fragments: &[(&str, &[u8])]) -> (Self, Vec<Warning>) {
        let mut assignments = Vec::new();
        let mut warnings = Vec::new();
        for (file, (path, text)) in fragments.iter().enumerate() {
            let mut section: Option<String> = None;
            for line in syntax::lines(text) {
                let problem = match (line.content, &section) {
                    (Content::Section(name), _) => {
                        section = Some(name);
                        continue;
                    }
                    (Content::Assignment { key, value }, Some(section)) => {
                        assignments.push(Assignment {
                            section: section.clone(),
                            key,
                            value,
                            file,
                            line: line.number,
                        });
                        continue;
                    }
                    (Content::Assignment { key, .. }, None) => {
                        format!("`{key}=` stands before the first section")
                    }
                    (Content::Problem(problem), _) => problem.to_owned(),
                };
                warnings.push(Warning { path: (*path).to_owned(), line: line.number, message: problem });
            }
        }
        let paths = fragments.iter().map(|(path, _)| (*path).to_owned()).collect();
        (Self { name: name.clone(), paths, assignments }, warnings)
    }

    /// The unit's name.
    #[must_use]
    pub fn name(&self) -> &UnitName {
        &self.name
    }

    /// The files, the main one first.
    #[must_use]
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Every assignment, in order.
    #[must_use]
    pub fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }

    /// The assignments of a list that count: those after the last empty one, which resets the list.
    #[must_use]
    pub fn values(&self, section: &str, key: &str) -> Vec<&Assignment> {
        let mut out = Vec::new();
        for assignment in self.assignments.iter().filter(|it| it.section == section && it.key == key) {
            if assignment.value.is_empty() {
                out.clear();
            } else {
                out.push(assignment);
            }
        }
        out
    }

    /// The assignment of a single value that counts: the last one, unless it is empty.
    #[must_use]
    pub fn value(&self, section: &str, key: &str) -> Option<&Assignment> {
        self.values(section, key).pop()
    }

    /// The typed view, specifiers expanded.
    #[must_use]
    pub fn typed(&self, system: &System) -> (Unit, Vec<Warning>) {
        reader::apply(self, system)
    }
}

/// A unit's settings, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: UnitName,
    /// Its main file and drop-ins.
    pub paths: Vec<String>,
    /// `[Unit]`.
    pub common: Common,
    /// `[Install]`.
    pub install: Install,
    /// The section of its type.
    pub kind: UnitKind,
}

/// What is particular to a type of unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitKind {
    /// A service.
    Service(Box<Service>),
    /// A socket.
    Socket(Box<Socket>),
    /// A timer.
    Timer(Box<Timer>),
    /// A path unit.
    Path(Box<PathUnit>),
    /// A mount.
    Mount(Box<Mount>),
    /// A swap.
    Swap(Box<Swap>),
    /// A slice.
    Slice(Box<Slice>),
    /// A target: nothing but `[Unit]` and `[Install]`.
    Target,
    /// A device, which the kernel makes: nothing but `[Unit]` and `[Install]`.
    Device,
    /// A type that is not supported (automount), or that files only add to (scope).
    Other(UnitType),
}

impl Unit {
    /// Reads a unit: [`UnitFile::parse`] and [`UnitFile::typed`] in one.
    #[must_use]
    pub fn parse(name: &UnitName, fragments: &[(&str, &[u8])], system: &System) -> (Self, Vec<Warning>) {
        let (file, mut warnings) = UnitFile::parse(name, fragments);
        let (unit, more) = file.typed(system);
        warnings.extend(more);
        (unit, warnings)
    }

    /// The service's settings, if it is one.
    #[must_use]
    pub fn service(&self) -> Option<&Service> {
        match &self.kind {
            UnitKind::Service(service) => Some(service),
            _ => None,
        }
    }

    /// What the unit's processes, or everything in a slice, may use up.
    #[must_use]
    pub fn resources(&self) -> Option<&ResourceControl> {
        match &self.kind {
            UnitKind::Service(it) => Some(&it.resources),
            UnitKind::Socket(it) => Some(&it.resources),
            UnitKind::Mount(it) => Some(&it.resources),
            UnitKind::Swap(it) => Some(&it.resources),
            UnitKind::Slice(it) => Some(&it.resources),
            _ => None,
        }
    }

    /// What makes the unit unfit to be loaded, if anything does: systemd's `..._verify`.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        reader::problem(self)
    }

    /// `Description=`, or the name when there is none.
    #[must_use]
    pub fn description(&self) -> &str {
        if self.common.description.is_empty() { self.name.as_str() } else { &self.common.description }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fragments: &[(&str, &[u8])]) -> (UnitFile, Vec<Warning>) {
        UnitFile::parse(&UnitName::parse("a.service").unwrap(), fragments)
    }

    #[test]
    fn an_empty_assignment_resets_a_list_across_drop_ins() {
        let main = b"[Service]\nExecStart=/bin/a\nExecStart=/bin/b\nUser=x\n";
        let drop_in = b"[Service]\nExecStart=\nExecStart=/bin/c\nUser=\n";
        let (file, warnings) = parse(&[("a.service", main), ("a.service.d/10.conf", drop_in)]);
        assert_eq!(warnings, []);
        let values = file.values("Service", "ExecStart");
        assert_eq!(
            values.iter().map(|it| (it.value.as_str(), it.file, it.line)).collect::<Vec<_>>(),
            [("/bin/c", 1, 3)]
        );
        assert_eq!(file.value("Service", "User"), None);
        assert_eq!(file.assignments().len(), 6);
    }

    #[test]
    fn a_section_ends_with_its_file() {
        let (file, warnings) =
            parse(&[("a.service", b"[Unit]\nDescription=x\n"), ("b.conf", b"Description=y\n")]);
        assert_eq!(file.assignments().len(), 1);
        assert_eq!(warnings[0].to_string(), "b.conf:1: `Description=` stands before the first section");
    }
}
