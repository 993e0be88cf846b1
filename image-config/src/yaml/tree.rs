//! YAML events to a tree with positions.
//!
//! `serde_yaml` tells positions in errors alone. So every single value is taken, and then refused with an error, whose text has the place
//! of what it is about; whoever asked for the value looks whether it was taken, and goes on. `serde_yaml` is past the value by then.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use crate::diagnostic::Position;
use crate::tree::{Budget, Entry, Node, Scalar, ScalarKind, Value};

/// What the error says of a value that was taken.
const TAKEN: &str = "taken";
/// Columns up to which what was written is looked up in the text: it would cost quadratic time in a text that is one long line.
const FARTHEST_COLUMN: usize = 4096;
/// The key whose mappings are merged into the one that it stands in (yaml.org/type/merge.html).
const MERGE_KEY: &str = "<<";

/// Takes one node.
pub(super) struct Take<'a, 'text> {
    pub(super) out: &'a mut Option<Node>,
    pub(super) budget: &'a mut Budget,
    pub(super) lines: &'a [&'text str],
}

impl<'text> Take<'_, 'text> {
    /// A child, if there is one: `ask` asks the document for it.
    fn child<E: fmt::Display>(
        &mut self,
        ask: impl FnOnce(Take<'_, 'text>) -> Result<Option<()>, E>,
    ) -> Result<Option<Node>, E> {
        let mut out = None;
        let seed = Take { out: &mut out, budget: self.budget, lines: self.lines };
        match ask(seed) {
            Ok(_) => Ok(out),
            Err(error) => match out {
                Some(mut node) => {
                    locate(&mut node, &error.to_string(), self.lines);
                    Ok(Some(node))
                }
                None => Err(error),
            },
        }
    }

    fn scalar<E: serde::de::Error>(self, kind: ScalarKind, text: &str) -> Result<(), E> {
        self.budget.take(text.len()).map_err(E::custom)?;
        let scalar = Scalar { kind, text: text.to_owned(), bytes: None };
        // The place comes with the error.
        *self.out = Some(Node { at: Position { line: 1, column: 1 }, value: Value::Scalar(scalar) });
        Err(E::custom(TAKEN))
    }
}

/// Completes a single value that was taken at the top of a document.
pub(super) fn complete(node: &mut Node, error: &str, lines: &[&str]) {
    locate(node, error, lines);
}

/// Sets a single value's place, from the error's text, and what was written there.
fn locate(node: &mut Node, error: &str, lines: &[&str]) {
    let Some(at) = place(error) else { return };
    node.at = at;
    let Value::Scalar(scalar) = &mut node.value else { return };
    let Some(line) = lines.get(at.line - 1).filter(|_| at.column <= FARTHEST_COLUMN) else { return };
    let Some((start, _)) = line.char_indices().nth(at.column - 1) else { return };
    let written = line.get(start..).unwrap_or_default();
    if scalar.kind == ScalarKind::Text {
        if written.starts_with("!!binary") {
            scalar.bytes = crate::user_data::encoding::base64(&scalar.text);
        }
        return;
    }
    // Behind a tag or an anchor the number is as good as its digits.
    let token = written.split(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}')).next();
    if let Some(token) = token.filter(|token| !token.starts_with(['!', '&', '*']))
        && scalar.kind != ScalarKind::Null
    {
        token.clone_into(&mut scalar.text);
    }
}

/// The place in `... at line 3 column 5`.
fn place(error: &str) -> Option<Position> {
    let (_, place) = error.rsplit_once(" at ")?;
    let Some((line, column)) = place.strip_prefix("line ").and_then(|it| it.split_once(" column ")) else {
        // The very first character of a text has no line.
        return Some(Position { line: 1, column: 1 });
    };
    Some(Position {
        line: line.parse().ok().filter(|line| *line > 0)?,
        column: column.parse().ok().filter(|it| *it > 0)?,
    })
}

impl<'de> DeserializeSeed<'de> for Take<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Take<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.budget.take(0).map_err(A::Error::custom)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        while let Some(key) = self.child(|seed| map.next_key_seed(seed))? {
            let key_at = key.at;
            let key = match key.value {
                Value::Scalar(scalar) => scalar.text,
                // No format has such keys, so that whoever reads the tree will call it unknown.
                _ => key.kind().to_owned(),
            };
            let Some(mut value) = self.child(|seed| map.next_value_seed(seed).map(Some))? else { break };
            if matches!(&value.value, Value::List(it) if it.is_empty())
                || matches!(&value.value, Value::Map(it) if it.is_empty())
            {
                value.at = key_at;
            }
            if key == MERGE_KEY {
                merged.push(value);
            } else {
                entries.push(Entry { key, key_at, value });
            }
        }
        if !merged.is_empty() {
            let mut keys = entries.iter().map(|entry| entry.key.clone()).collect();
            for node in merged {
                merge(&mut entries, &mut keys, node);
            }
        }
        let at = entries.first().map_or(Position { line: 1, column: 1 }, |entry| entry.key_at);
        *self.out = Some(Node { at, value: Value::Map(entries) });
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.budget.take(0).map_err(A::Error::custom)?;
        let mut list: Vec<Node> = Vec::new();
        while let Some(element) = self.child(|seed| elements.next_element_seed(seed))? {
            list.push(element);
        }
        let at = list.first().map_or(Position { line: 1, column: 1 }, |element| element.at);
        *self.out = Some(Node { at, value: Value::List(list) });
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.scalar(ScalarKind::Bool(value), if value { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.scalar(ScalarKind::Integer(value), &value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.scalar(ScalarKind::Text, &value.to_string()),
        }
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<(), E> {
        self.scalar(ScalarKind::Text, &value.to_string())
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<(), E> {
        self.scalar(ScalarKind::Text, &value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.scalar(ScalarKind::Float(value), &value.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.scalar(ScalarKind::Text, value)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(ScalarKind::Null, "")
    }

    /// A document without anything.
    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(ScalarKind::Null, "")
    }
}

/// Adds the entries of a mapping, or of each mapping of a list, whose keys are not there yet.
fn merge(entries: &mut Vec<Entry>, keys: &mut HashSet<String>, node: Node) {
    match node.value {
        Value::Map(more) => entries.extend(more.into_iter().filter(|entry| keys.insert(entry.key.clone()))),
        Value::List(nodes) => nodes.into_iter().for_each(|node| merge(entries, keys, node)),
        Value::Scalar(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn at(node: &Node, path: &str) -> (usize, usize, String) {
        let node = path.split('.').filter(|step| !step.is_empty()).fold(node, |node, step| {
            match step.parse::<usize>() {
                Ok(index) => &node.elements().unwrap()[index],
                Err(_) => node.get(step).unwrap(),
            }
        });
        (node.at.line, node.at.column, node.scalar().map(|it| it.text.clone()).unwrap_or_default())
    }

    #[test]
    fn every_value_knows_its_place_and_how_it_was_written() {
        let text = "\
a: 1
é: {mode: 0644, n: 1.10, list: [ x, \"y z\", 3 ]}
b:
  - name: &anchor one
    empty:
    enable: True
  - *anchor
  - [[deep]]
c: {}
d: |
  text
  more
e: !!binary aGk=
f: !!str 12
";
        let node = yaml::tree("f", text).unwrap();
        let cases = [
            ("a", (1, 4, "1")),
            ("é.mode", (2, 11, "0644")),
            ("é.n", (2, 20, "1.10")),
            ("é.list.0", (2, 34, "x")),
            ("é.list.1", (2, 37, "y z")),
            ("é.list.2", (2, 44, "3")),
            ("b", (4, 5, "")),
            ("b.0.name", (4, 11, "one")),
            ("b.0.enable", (6, 13, "True")),
            ("b.1", (4, 11, "one")),
            ("b.2.0.0", (8, 7, "deep")),
            ("c", (9, 1, "")),
            ("d", (10, 4, "text\nmore\n")),
            ("f", (14, 4, "12")),
        ];
        for (path, (line, column, text)) in cases {
            assert_eq!(at(&node, path), (line, column, text.to_owned()), "{path}");
        }
        assert_eq!(node.get("e").unwrap().scalar().unwrap().bytes.as_deref(), Some(&b"hi"[..]));
        assert!(node.get("b").unwrap().elements().unwrap()[0].get("empty").unwrap().is_null());
        assert_eq!(node.entries().unwrap()[1].key_at, Position { line: 2, column: 1 });
        let top = yaml::tree("f", "just text\n").unwrap();
        assert_eq!(
            (top.at, top.scalar().unwrap().text.as_str()),
            (Position { line: 1, column: 1 }, "just text")
        );
    }

    #[test]
    fn merge_keys_add_what_is_not_there() {
        let node = yaml::tree("f", "x: &x {a: 1, b: 2}\ny: &y {c: 3}\nz:\n  <<: [*x, *y]\n  b: 9\n").unwrap();
        let keys: Vec<_> =
            node.get("z").unwrap().entries().unwrap().iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "c"]);
        assert_eq!(at(&node, "z.b").2, "9");
    }

    #[test]
    fn what_is_no_plain_data_is_told_with_its_place() {
        let error = yaml::tree("f", "a: 1\nb: !tag x\n").unwrap_err();
        assert_eq!(error.as_slice()[0].position, Some(Position { line: 2, column: 4 }), "{error}");
        let node = yaml::tree("f", "a: 1\n? [x]\n: y\n").unwrap();
        let key = &node.entries().unwrap()[1];
        assert_eq!((key.key.as_str(), key.key_at), ("a list", Position { line: 2, column: 4 }));
    }
}
