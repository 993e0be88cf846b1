//! A text of nested data, YAML or JSON, as a tree that knows where everything stands.
//!
//! Formats that people write by hand are read through this, not straight into types: a type stops at the first mistake, and what should be
//! told is all of them. Who reads a tree uses [`crate::user_data::report`].

use crate::diagnostic::Position;

/// Most nodes of one document, aliases replayed. Far above what anybody writes, and what bounds time and memory.
pub const MOST_NODES: usize = 100_000;
/// Most bytes of text in one document's nodes, aliases replayed.
pub const MOST_TEXT: usize = 24 << 20;
/// Deepest nesting of one document.
pub const DEEPEST: usize = 100;

/// A node and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where.
    pub at: Position,
    /// What.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping; keys in the order written, repeated ones included.
    Map(Vec<Entry>),
}

/// A single value.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// What it is by the rules of the format.
    pub kind: ScalarKind,
    /// What was written (`0644`, `1.10`), unquoted and unescaped. Empty for nothing.
    pub text: String,
    /// The bytes of YAML's `!!binary`; otherwise `None`.
    pub bytes: Option<Vec<u8>>,
}

/// Types of single values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalarKind {
    /// Nothing: `null`, `~`, or no text at all.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number; those beyond 64 bits are floating-point ones.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text,
}

/// A key of a mapping and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, as written.
    pub key: String,
    /// Where it stands.
    pub key_at: Position,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The entries, of a mapping.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The elements, of a list.
    #[must_use]
    pub fn elements(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The single value, of one.
    #[must_use]
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The first value of this key, of a mapping.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::Null)
    }

    /// What it is, with its article: for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "nothing",
                ScalarKind::Bool(_) => "true or false",
                ScalarKind::Integer(_) => "a whole number",
                ScalarKind::Float(_) => "a number",
                ScalarKind::Text => "text",
            },
        }
    }
}

/// What a document may still use up while its tree is built.
#[derive(Debug)]
pub(crate) struct Budget {
    nodes: usize,
    text: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { nodes: MOST_NODES, text: MOST_TEXT }
    }

    /// Takes a node with this much text; `Err` says what there is too much of.
    pub(crate) fn take(&mut self, text: usize) -> Result<(), String> {
        self.nodes = self.nodes.checked_sub(1).ok_or_else(|| {
            format!("more than {MOST_NODES} values: that is no configuration, or aliases that multiply")
        })?;
        self.text = self
            .text
            .checked_sub(text)
            .ok_or_else(|| format!("more than {} MiB of text, aliases counted each time", MOST_TEXT >> 20))?;
        Ok(())
    }
}
