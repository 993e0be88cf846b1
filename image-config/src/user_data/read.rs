//! Bytes to parts, and parts to a plan.

use std::collections::BTreeSet;

use super::format::{Format, LARGEST};
use super::mime::{self, MimePart};
use super::plan::{AssignmentFile, Frequency, MachinePlan, Script, Stage, Step};
use super::report::Report;
use super::resource::{ResourceError, gunzip};
use super::source::Source;
use super::steps::Steps;
use super::substitute::{addresses, substitute};
use super::{Address, Facts, Metadata, Outcome};
use crate::cloud_config::{self, CloudConfig};
use crate::diagnostic::{Diagnostic, Diagnostics, Position, Severity};
use crate::ignition;
use crate::tree::Node;
use crate::yaml;

/// gzip within gzip.
const DEEPEST_GZIP: usize = 2;
const ENVIRONMENT: &str = "/etc/environment";

/// User-data, unpacked and taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData {
    parts: Vec<Part>,
    /// What was left out.
    findings: Vec<Diagnostic>,
}

/// One text of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is: a cloud-config, a script, an Ignition config.
    pub format: Format,
    /// Name for files and messages.
    name: String,
    /// How often a script runs.
    frequency: Frequency,
    source: Source,
    bytes: Vec<u8>,
}

impl UserData {
    /// Unpacks user-data and finds out what it is. `file` is its name in findings.
    ///
    /// # Errors
    /// It is too large, broken, or in no known format.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        let mut data = Self { parts: Vec::new(), findings: Vec::new() };
        data.add(file, bytes, 0)?;
        Ok(data)
    }

    /// Takes a text for a cloud-config, whatever its first line is. `file` is its name in findings.
    ///
    /// # Errors
    /// It is too large.
    pub fn read_cloud_config(file: &str, bytes: &[u8]) -> Result<Self, Diagnostics> {
        if bytes.len() > LARGEST {
            return Self::read(file, bytes);
        }
        Ok(Self { parts: vec![Part::new(file, Format::CloudConfig, bytes)], findings: Vec::new() })
    }

    /// What bytes are by their beginning, if they are user-data.
    #[must_use]
    pub fn format(bytes: &[u8]) -> Option<Format> {
        Format::of(bytes).ok()
    }

    /// Its parts, in order; none when it is empty.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The machine's addresses that it uses.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<Address> {
        let substituted = self.parts.iter().filter(|part| part.format != Format::Ignition);
        substituted.flat_map(|part| addresses(&part.bytes)).collect()
    }

    /// What it makes of a machine.
    #[must_use]
    pub fn plan(&self, facts: &Facts) -> Outcome {
        if let [Part { format: Format::Ignition, source, .. }] = self.parts.as_slice() {
            return ignition::plan(source, facts);
        }
        let mut steps = Steps::default();
        let mut findings = self.findings.clone();
        let mut metadata = Some(&facts.metadata);
        for part in &self.parts {
            match part.format {
                Format::CloudConfig => part.cloud_config(facts, &mut metadata, &mut steps, &mut findings),
                _ => part.script(facts, &mut steps, &mut findings),
            }
        }
        if let Some(metadata) = metadata {
            cloud_config::lower(&CloudConfig::default(), metadata, &Source::default(), &mut steps);
        }
        environment(facts, &mut steps);
        let plan = steps.finish();
        let findings = Diagnostics::new(findings);
        if findings.has_errors() {
            Outcome::Refused(rescue(plan), findings)
        } else {
            Outcome::Plan(plan, findings)
        }
    }

    fn add(&mut self, file: &str, bytes: &[u8], depth: usize) -> Result<(), Diagnostics> {
        let whole = |message: String, hint: &str| -> Diagnostics {
            let hint = Some(hint.to_owned()).filter(|it| !it.is_empty());
            Diagnostic::error(file, "", None, message).with_hint(hint).into()
        };
        if bytes.len() > LARGEST {
            let message = format!("the text is larger than {} MiB", LARGEST >> 20);
            return Err(whole(message, "put what is large behind a URL"));
        }
        match Format::of(bytes) {
            Ok(Format::Empty) => Ok(()),
            Ok(Format::Gzip) if depth >= DEEPEST_GZIP => {
                Err(whole("it is packed too many times".to_owned(), ""))
            }
            Ok(Format::Gzip) => {
                let unpacked = gunzip(bytes, LARGEST).map_err(|error| match error {
                    ResourceError::TooLarge => whole(
                        format!("it unpacks to more than {} MiB", LARGEST >> 20),
                        "put what is large behind a URL",
                    ),
                    error => whole(error.to_string(), "it may have been cut off on its way"),
                })?;
                self.add(file, &unpacked, depth + 1)
            }
            Ok(Format::Multipart) => self.add_multipart(file, bytes),
            Ok(format) => {
                self.parts.push(Part::new(file, format, bytes));
                Ok(())
            }
            Err(unknown) => {
                let text = String::from_utf8_lossy(bytes);
                let at = Some(Position { line: 1, column: 1 });
                Err(Diagnostic::error(file, &text, at, unknown.message).with_hint(unknown.hint).into())
            }
        }
    }

    fn add_multipart(&mut self, file: &str, bytes: &[u8]) -> Result<(), Diagnostics> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let place = |line: usize| Some(Position { line: line + 1, column: 1 });
        let parts = mime::parts(bytes).map_err(|(line, error)| {
            Diagnostics::from(Diagnostic::error(file, &text, place(line), error.to_string()))
        })?;
        for (index, part) in parts.into_iter().enumerate() {
            let name = part.file_name.clone().unwrap_or_else(|| format!("part-{}", index + 1));
            let skipped = |message: String| {
                Diagnostic::error(file, &text, place(part.header_line), message).into_warning()
            };
            let (format, frequency, bytes) = match kind(&part) {
                Ok(kind) => kind,
                Err(message) => {
                    self.findings.push(skipped(format!("the part `{name}` is left out: {message}")));
                    continue;
                }
            };
            let source = match part.first_line {
                Some(lines_before) if format == Format::CloudConfig && bytes == part.bytes => {
                    Source { name: file.to_owned(), text: text.clone(), lines_before, ..Source::default() }
                }
                _ => Source {
                    name: format!("{file} ({name})"),
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                    ..Source::default()
                },
            };
            self.parts.push(Part { format, name, frequency, source, bytes });
        }
        Ok(())
    }
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// What a part of a multipart text is, by its type or, where that says little, by its first bytes.
fn kind(part: &MimePart) -> Result<(Format, Frequency, Vec<u8>), String> {
    let mut bytes = part.bytes.clone();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = gunzip(&bytes, LARGEST).map_err(|error| error.to_string())?;
    }
    let unsupported = |what: &str| Err(format!("{what} is not supported"));
    let mut frequency = Frequency::Instance;
    let format = match part.kind.as_str() {
        "text/cloud-config" => Format::CloudConfig,
        "text/x-shellscript" | "text/x-shellscript-per-instance" | "text/x-shellscript-per-once" => {
            Format::Script
        }
        "text/x-shellscript-per-boot" => {
            frequency = Frequency::Boot;
            Format::Script
        }
        "text/jinja2" => return unsupported("a template (`text/jinja2`)"),
        "text/cloud-boothook"
        | "text/upstart-job"
        | "text/part-handler"
        | "text/x-include-url"
        | "text/x-include-once-url"
        | "text/cloud-config-archive"
        | "text/cloud-config-jsonp" => {
            return unsupported(&format!("`{}`", part.kind));
        }
        _ => match Format::of(&bytes) {
            Ok(format @ (Format::CloudConfig | Format::Script)) => format,
            Ok(Format::Empty) => return Err("it is empty".to_owned()),
            Ok(Format::Ignition) => return unsupported("an Ignition config within a multipart text"),
            Ok(_) => return unsupported("a packed part within a part"),
            Err(unknown) => return Err(format!("`{}`: {}", part.kind, unknown.message)),
        },
    };
    if format == Format::Script && !bytes.starts_with(b"#!") {
        return Err("a script begins with `#!` and its interpreter".to_owned());
    }
    let bytes = without_mark(&bytes).to_vec();
    Ok((format, frequency, bytes))
}

impl Part {
    /// A text that is alone.
    fn new(file: &str, format: Format, bytes: &[u8]) -> Self {
        let bytes = without_mark(bytes);
        let text = String::from_utf8_lossy(bytes).into_owned();
        Self {
            format,
            name: "user-data".to_owned(),
            frequency: Frequency::Instance,
            source: Source { name: file.to_owned(), text, ..Source::default() },
            bytes: bytes.to_vec(),
        }
    }

    fn cloud_config(
        &self,
        facts: &Facts,
        metadata: &mut Option<&Metadata>,
        steps: &mut Steps,
        findings: &mut Vec<Diagnostic>,
    ) {
        let (bytes, edits) = substitute(&self.bytes, &facts.addresses);
        let source = Source { edits, ..self.source.clone() };
        let tree = match tree(&source, &bytes) {
            Ok(tree) => tree,
            Err(found) => {
                findings.extend(found.as_slice().iter().map(|one| source.adopt(one.clone())));
                return;
            }
        };
        let mut report = Report::new(&source);
        let config = cloud_config::read(&tree, &mut report);
        findings.extend(report.finish().as_slice().iter().cloned());
        let none = Metadata::default();
        cloud_config::lower(&config, metadata.take().unwrap_or(&none), &source, steps);
    }

    fn script(&self, facts: &Facts, steps: &mut Steps, findings: &mut Vec<Diagnostic>) {
        let (contents, _) = substitute(&self.bytes, &facts.addresses);
        let first = contents.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(first.strip_prefix(b"#!").unwrap_or_default()).into_owned();
        let interpreter = line.split_whitespace().next().unwrap_or_default().to_owned();
        let at = Position { line: 1, column: 1 };
        if !interpreter.starts_with('/') {
            let hint = "such as `#!/bin/sh`".to_owned();
            let message = "the first line does not name an interpreter by its whole path";
            findings.push(self.source.error(Some(at), message).with_hint(hint));
            return;
        }
        if line.ends_with('\r') {
            let hint = "save the script with line ends of Unix".to_owned();
            let message =
                "the first line ends with a carriage return, which would be part of the interpreter's name";
            findings.push(self.source.error(Some(at), message).with_hint(hint));
            return;
        }
        let script = Script { name: self.name.clone(), interpreter, contents };
        steps.script(Stage::Final, self.frequency, self.source.origin(at), script);
    }
}

fn tree(source: &Source, bytes: &[u8]) -> Result<Node, Diagnostics> {
    let text = yaml::decode(&source.name, bytes)?;
    yaml::tree(&source.name, text)
}

/// `/etc/environment` names the addresses that are known, unless the user-data writes the file.
fn environment(facts: &Facts, steps: &mut Steps) {
    let known = |address: Address| {
        let value = facts.addresses.get(address).filter(|value| !value.is_empty())?;
        Some((address.variable().to_owned(), value.to_owned()))
    };
    let assignments: Vec<_> = Address::ALL.into_iter().filter_map(known).collect();
    if !assignments.is_empty() && !steps.writes(ENVIRONMENT) {
        let file = AssignmentFile { path: ENVIRONMENT.to_owned(), template: None, assignments };
        steps.push(Stage::Configure, Frequency::Boot, Default::default(), Step::SetAssignments(file));
    }
}

/// What is left of a plan that is not carried out: the ways in.
fn rescue(mut plan: MachinePlan) -> MachinePlan {
    plan.steps.retain(|planned| match &planned.step {
        Step::SetHostname(_) => true,
        Step::AuthorizeKeys(keys) => keys.user == cloud_config::CORE,
        _ => false,
    });
    plan
}

impl UserData {
    /// Judges user-data where there is no machine: with addresses for documentation, and without what it would have to fetch.
    ///
    /// # Errors
    /// Every finding, when one of them is an error.
    pub fn validate(&self) -> Result<Diagnostics, Diagnostics> {
        let facts = Facts { addresses: super::Addresses::example(), ..Facts::default() };
        let found = match self.parts.as_slice() {
            // A plan would need what the config names; its own findings do not.
            [Part { format: Format::Ignition, source, .. }] => ignition::judge(source),
            _ => match self.plan(&facts) {
                Outcome::Plan(_, found) | Outcome::Refused(_, found) => found,
                Outcome::Fetch(..) => Diagnostics::default(),
            },
        };
        let is_bad = found.as_slice().iter().any(|one| one.severity == Severity::Error);
        if is_bad { Err(found) } else { Ok(found) }
    }
}
