//! Reading a tree while all that is wrong with it is written down.

use std::collections::HashMap;

use super::source::Source;
use crate::diagnostic::{Diagnostic, Diagnostics, Position, did_you_mean};
use crate::tree::{Entry, Node, ScalarKind, Value};

/// Most findings that are kept: who has made more mistakes will not read on.
const MOST_FINDINGS: usize = 200;

/// Something and where it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<T> {
    /// The thing.
    pub value: T,
    /// Its place in what was read.
    pub at: Position,
}

/// The findings in one text.
#[derive(Debug)]
pub struct Report<'a> {
    source: &'a Source,
    findings: Vec<Diagnostic>,
    left_out: usize,
}

impl<'a> Report<'a> {
    /// None yet.
    #[must_use]
    pub fn new(source: &'a Source) -> Self {
        Self { source, findings: Vec::new(), left_out: 0 }
    }

    /// The text.
    #[must_use]
    pub fn source(&self) -> &'a Source {
        self.source
    }

    /// Something for which the text is refused.
    pub fn error(&mut self, at: Position, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.push(false, at, message.into(), hint.into());
    }

    /// Something that should be looked at.
    pub fn warn(&mut self, at: Position, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.push(true, at, message.into(), hint.into());
    }

    fn push(&mut self, is_warning: bool, at: Position, message: String, hint: Option<String>) {
        if self.findings.len() >= MOST_FINDINGS {
            self.left_out += 1;
            // An error must not get lost behind warnings.
            if is_warning
                || self.findings.iter().any(|one| one.severity == crate::diagnostic::Severity::Error)
            {
                return;
            }
        }
        let finding = self.source.error(Some(at), message).with_hint(hint);
        self.findings.push(if is_warning { finding.into_warning() } else { finding });
    }

    /// All of them, sorted.
    #[must_use]
    pub fn finish(mut self) -> Diagnostics {
        if self.left_out > 0 {
            let message = format!("{} more findings are not shown", self.left_out);
            self.findings.push(self.source.error(None, message).into_warning());
        }
        Diagnostics::new(self.findings)
    }

    /// The value as text. Numbers, booleans and binary data count as what was written; nothing counts as no text.
    pub fn text(&mut self, node: &Node, name: &str) -> Option<String> {
        match &node.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Null => None,
            Value::Scalar(scalar) => Some(scalar.text.clone()),
            _ => self.wrong(node, name, "text"),
        }
    }

    /// The value as true or false, in any of YAML 1.1's words.
    pub fn boolean(&mut self, node: &Node, name: &str) -> Option<bool> {
        let scalar = node.scalar()?;
        match (scalar.kind, scalar.text.to_ascii_lowercase().as_str()) {
            (ScalarKind::Null, _) => None,
            (ScalarKind::Bool(value), _) => Some(value),
            (ScalarKind::Text, "yes" | "on" | "true" | "y") => Some(true),
            (ScalarKind::Text, "no" | "off" | "false" | "n") => Some(false),
            _ => self.wrong(node, name, "true or false"),
        }
    }

    /// The value as a whole number.
    pub fn integer(&mut self, node: &Node, name: &str) -> Option<i64> {
        match node.scalar().map(|scalar| scalar.kind) {
            Some(ScalarKind::Null) => None,
            Some(ScalarKind::Integer(value)) => Some(value),
            _ => self.wrong(node, name, "a whole number"),
        }
    }

    /// The value as a number.
    pub fn number(&mut self, node: &Node, name: &str) -> Option<f64> {
        match node.scalar().map(|scalar| scalar.kind) {
            Some(ScalarKind::Null) => None,
            #[expect(clippy::cast_precision_loss, reason = "seconds and their fractions, far below 2^52")]
            Some(ScalarKind::Integer(value)) => Some(value as f64),
            Some(ScalarKind::Float(value)) => Some(value),
            _ => self.wrong(node, name, "a number"),
        }
    }

    /// The value as a list; nothing is an empty one.
    pub fn list<'n>(&mut self, node: &'n Node, name: &str) -> &'n [Node] {
        match node.elements() {
            Some(elements) => elements,
            None if node.is_null() => &[],
            None => {
                self.wrong::<()>(node, name, "a list");
                &[]
            }
        }
    }

    /// The value as a list of texts; elements that are nothing are left out.
    pub fn texts(&mut self, node: &Node, name: &str) -> Vec<At<String>> {
        let elements = self.list(node, name);
        let element = |(index, element): (usize, &Node)| {
            let value = self.text(element, &format!("{name}[{index}]"))?;
            Some(At { value, at: element.at })
        };
        elements.iter().enumerate().filter_map(element).collect()
    }

    /// The value as a mapping; nothing is an empty one.
    pub fn fields<'n>(&mut self, node: &'n Node, name: &str, spelling: Spelling) -> Option<Fields<'n>> {
        match node.entries() {
            Some(entries) => Some(Fields::new(entries, name, node.at, spelling, self)),
            None if node.is_null() => Some(Fields::new(&[], name, node.at, spelling, self)),
            None => self.wrong(node, name, "a mapping"),
        }
    }

    fn wrong<T>(&mut self, node: &Node, name: &str, want: &str) -> Option<T> {
        let hint = match &node.value {
            Value::Scalar(_) if want == "a list" => Some("write `[a, b]`, or a line `- a` for each element"),
            Value::Scalar(scalar) if want == "a mapping" && scalar.kind == ScalarKind::Text => {
                Some("what belongs to the key stands below it, indented, as `key: value`")
            }
            Value::List(_) | Value::Map(_) if want == "text" => {
                Some("if text is meant, put quotes around it, or write `|` behind the key")
            }
            _ => None,
        };
        let message = match name {
            "" => format!("{want} belongs here, not {}", node.kind()),
            name => format!("`{name}`: {want} belongs here, not {}", node.kind()),
        };
        self.error(node.at, message, hint.map(str::to_owned));
        None
    }
}

/// How the keys of a format are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// Hyphens are underscores.
    Lenient,
    /// As written.
    Exact,
}

impl Spelling {
    /// The key as it is compared.
    #[must_use]
    pub fn of(self, key: &str) -> String {
        match self {
            Self::Lenient => key.replace('-', "_"),
            Self::Exact => key.to_owned(),
        }
    }
}

/// A mapping whose keys are asked for one after another; what nobody asked for is unknown.
#[derive(Debug)]
pub struct Fields<'n> {
    name: String,
    at: Position,
    entries: HashMap<String, (&'n Entry, bool)>,
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    fn new(
        entries: &'n [Entry],
        name: &str,
        at: Position,
        spelling: Spelling,
        report: &mut Report<'_>,
    ) -> Self {
        let mut map: HashMap<String, (&Entry, bool)> = HashMap::new();
        for entry in entries {
            if let Some((first, _)) = map.insert(spelling.of(&entry.key), (entry, false)) {
                let line = report.source.place(first.key_at).line;
                let message = format!("the key `{}` is given twice", entry.key);
                report.error(entry.key_at, message, format!("put both into one: line {line} has it already"));
            }
        }
        Self { name: name.to_owned(), at, entries: map, asked: Vec::new() }
    }

    /// Where the mapping begins.
    #[must_use]
    pub fn at(&self) -> Position {
        self.at
    }

    /// The name of what a key holds, for messages: the mapping's and the key.
    #[must_use]
    pub fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The entry of a key.
    pub fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.asked.push(key);
        let (entry, is_asked) = self.entries.get_mut(key)?;
        *is_asked = true;
        Some(*entry)
    }

    /// The value of a key, unless it is nothing.
    pub fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// Text.
    pub fn text(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<At<String>> {
        let node = self.node(key)?;
        let value = report.text(node, &self.name_of(key))?;
        Some(At { value, at: node.at })
    }

    /// True or false.
    pub fn boolean(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<bool> {
        let node = self.node(key)?;
        if node.scalar().is_none() {
            return report.wrong(node, &self.name_of(key), "true or false");
        }
        report.boolean(node, &self.name_of(key))
    }

    /// A whole number.
    pub fn integer(&mut self, key: &'static str, report: &mut Report<'_>) -> Option<At<i64>> {
        let node = self.node(key)?;
        let value = report.integer(node, &self.name_of(key))?;
        Some(At { value, at: node.at })
    }

    /// A list of texts; empty when the key is missing.
    pub fn texts(&mut self, key: &'static str, report: &mut Report<'_>) -> Vec<At<String>> {
        let name = self.name_of(key);
        self.node(key).map(|node| report.texts(node, &name)).unwrap_or_default()
    }

    /// A list; empty when the key is missing.
    pub fn list(&mut self, key: &'static str, report: &mut Report<'_>) -> &'n [Node] {
        let name = self.name_of(key);
        self.node(key).map(|node| report.list(node, &name)).unwrap_or_default()
    }

    /// A mapping.
    pub fn fields(
        &mut self,
        key: &'static str,
        spelling: Spelling,
        report: &mut Report<'_>,
    ) -> Option<Fields<'n>> {
        let name = self.name_of(key);
        let entry = self.entry(key)?;
        let mut fields = report.fields(&entry.value, &name, spelling)?;
        fields.at = entry.key_at;
        Some(fields)
    }

    /// What nobody has asked for, in the order written.
    #[must_use]
    pub fn rest(&self) -> Vec<&'n Entry> {
        let mut rest: Vec<&Entry> =
            self.entries.values().filter(|(_, is_asked)| !is_asked).map(|(entry, _)| *entry).collect();
        rest.sort_by_key(|entry| entry.key_at);
        rest
    }

    /// Warns of what nobody has asked for. `also` are further keys that exist.
    pub fn finish(self, also: &[&'static str], report: &mut Report<'_>) {
        for entry in self.rest() {
            let known = self.asked.iter().chain(also).copied();
            let hint = match did_you_mean(&entry.key.replace('-', "_"), known) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.asked.len() + also.len() <= 20 => {
                    let known: Vec<&str> = self.asked.iter().chain(also).copied().collect();
                    format!("the keys here are {}", known.join(", "))
                }
                None => "it is ignored; docs/user-data.md has the list of keys".to_owned(),
            };
            report.warn(entry.key_at, format!("unknown key `{}`", self.name_of(&entry.key)), hint);
        }
    }
}
