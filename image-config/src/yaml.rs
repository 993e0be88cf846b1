//! YAML text to types, with findings that a person can act on. The only user of `serde_yaml`.
//!
//! Types that are read here should refuse unknown fields and stay away from untagged and internally tagged enums and
//! from flattening: with those, `serde_yaml` cannot say where a mistake is.

mod tree;

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::diagnostic::{Diagnostic, Diagnostics, Position, did_you_mean};
use crate::tree::{Budget, Node};

/// A step from a node of a document to one of its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of this key.
    Key(String),
    /// The element with this index, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Bytes to text: UTF-8, without its byte order mark.
///
/// # Errors
/// A finding at the first byte that is not UTF-8.
pub fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostics> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).map(String::from_utf8_lossy).unwrap_or_default();
            let line = good.matches('\n').count() + 1;
            let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let lossy = String::from_utf8_lossy(bytes);
            let at = Some(Position { line, column });
            Err(Diagnostic::error(file, &lossy, at, "the file is not UTF-8 text")
                .with_hint("save it as UTF-8; a binary file is not what belongs here".to_owned())
                .into())
        }
    }
}

/// Reads one document. `file` is its name in findings.
///
/// # Errors
/// The first mistake of shape: syntax, unknown or repeated key, missing key, wrong type.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Diagnostics> {
    if text.lines().all(|line| matches!(line.trim(), "" | "---") || line.trim_start().starts_with('#')) {
        return Err(Diagnostic::error(file, text, None, "the file is empty").into());
    }
    serde_yaml::from_str(text).map_err(|error| explain(file, text, &error).into())
}

/// Most signs of a text that can stand for a node each. A parser's events take a hundred bytes of memory, so that a few megabytes of commas
/// would fill a small machine's; nobody writes as many.
const MOST_SIGNS: usize = 500_000;
/// Most steps of libyaml in looking for the key that a `:` belongs to: at each sign it looks at every bracket that is open. It takes a part of a
/// second for as many; how deep a text really is only libyaml knows.
const MOST_LOOKS: usize = 300_000_000;

/// Reads one document as a tree, in which everything knows its place. An empty text is nothing, not a mistake.
///
/// # Errors
/// The first mistake of syntax, or too much of something ([`crate::tree`] has the bounds).
pub fn tree(file: &str, text: &str) -> Result<Node, Diagnostics> {
    if let Some(message) = too_much(text) {
        let hint = "put large files somewhere else and fetch them, or write them in base64".to_owned();
        return Err(Diagnostic::error(file, text, None, message).with_hint(hint).into());
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut out = None;
    let take = tree::Take { out: &mut out, budget: &mut Budget::new(), lines: &lines };
    let result = take.deserialize(serde_yaml::Deserializer::from_str(text));
    match (result, out) {
        (Ok(()), Some(node)) => Ok(node),
        (Err(error), Some(mut node)) if node.scalar().is_some() => {
            tree::complete(&mut node, &error.to_string(), &lines);
            Ok(node)
        }
        (Err(error), _) => Err(explain(file, text, &error).into()),
        (Ok(()), None) => Err(Diagnostic::error(file, text, None, "this is not YAML").into()),
    }
}

/// What there is too much of for libyaml, which bounds neither its time nor its memory.
fn too_much(text: &str) -> Option<String> {
    let count = |is_sign: fn(u8) -> bool| text.bytes().filter(|byte| is_sign(*byte)).count();
    let signs = count(|byte| matches!(byte, b',' | b':' | b'[' | b'{' | b'-' | b'?' | b'\n'));
    let brackets = count(|byte| matches!(byte, b'[' | b'{'));
    if signs > MOST_SIGNS {
        return Some(format!("more than {MOST_SIGNS} signs that YAML takes for structure"));
    }
    (brackets.saturating_mul(signs) > MOST_LOOKS).then(|| format!("too many brackets: {brackets}"))
}

/// Where the node is that `path` leads to, or the last node on the way that exists.
///
/// For findings of rules that `parse` knows nothing of; `text` is one that it accepted.
#[must_use]
pub fn locate(text: &str, path: &[Step]) -> Option<Position> {
    // serde_yaml tells positions in errors alone, so the walk ends with one at the node that is looked for.
    let error = Locate(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|at| Position { line: at.line(), column: at.column() })
}

/// Turns an error of `serde_yaml` into a finding.
fn explain(file: &str, text: &str, error: &serde_yaml::Error) -> Diagnostic {
    let mut at = error.location().map(|at| Position { line: at.line(), column: at.column() });
    let mut message = error.to_string();
    if let Some(at) = at {
        message = message.replacen(&format!(" at line {} column {}", at.line, at.column), "", 1);
    }
    let opened = context(&mut message);
    if message.contains("unexpected end of stream") {
        // The end of the file says nothing; where the quote or bracket opened does.
        at = opened.or(at);
    }
    if let Some(finding) = explain_key(file, text, &message, at) {
        return finding;
    }
    if message.contains("more than one document") {
        return Diagnostic::error(file, text, second_document(text), "the file has more than one document")
            .with_hint("`---` and `...` begin and end documents: keep one".to_owned());
    }
    if message.contains("did not find expected")
        && let Some(finding) = at.and_then(|at| indentation_slip(file, text, at))
    {
        return finding;
    }
    if let Some(tab) = at.and_then(|at| tab_in_indentation(text, at)) {
        return Diagnostic::error(file, text, Some(tab), "a tab in the indentation")
            .with_hint("YAML indents with spaces only".to_owned());
    }
    let hint = hint_for(&message).map(str::to_owned);
    Diagnostic::error(file, text, at, message).with_hint(hint)
}

/// What serde says about keys and words of a fixed set, in our words.
fn explain_key(file: &str, text: &str, message: &str, at: Option<Position>) -> Option<Diagnostic> {
    // What stands between backquotes: the culprit first, then what would be right.
    let mut quoted = message.split('`').skip(1).step_by(2);
    let word = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    let choose = |what: &str| match did_you_mean(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("no {what} belong here"),
        None => format!("the {what} here are {}", known.join(", ")),
    };
    // The path to the mapping stands first: `parts[0]: `.
    let (inside, kind) = ["unknown field", "unknown variant", "missing field", "duplicate field"]
        .into_iter()
        .find_map(|kind| message.split_once(kind).map(|(inside, _)| (inside, kind)))?;
    let (at, told, hint) = match kind {
        "unknown field" => (at, format!("unknown key `{word}`"), Some(choose("keys"))),
        "unknown variant" => (at, format!("unknown value `{word}`"), Some(choose("values"))),
        "missing field" => (at, format!("the key `{word}` is missing"), misplaced_key(text, word)),
        _ => {
            let second = at.map(|at| second_occurrence(text, at, word).unwrap_or(at));
            (second, format!("the key `{word}` is given twice"), Some("put both into one".to_owned()))
        }
    };
    Some(Diagnostic::error(file, text, at, format!("{inside}{told}")).with_hint(hint))
}

/// Shortens what libyaml adds, ", while parsing a block mapping at line 3 column 5", and returns that place.
fn context(message: &mut String) -> Option<Position> {
    let start = message.find(", while ")?;
    let (head, tail) = message.split_at_checked(start)?;
    let (activity, place) = tail.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(" column ")?;
    let at = Position { line: line.parse().ok()?, column: column.parse().ok()? };
    *message = format!("{head}{activity} that begins in line {line}");
    Some(at)
}

/// A line whose indentation is none of those that are open there: between that of a mapping and that of what is in it.
fn indentation_slip(file: &str, text: &str, at: Position) -> Option<Diagnostic> {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let lines = || {
        text.lines()
            .zip(1..)
            .filter(|(line, _)| !matches!(line.trim_start().bytes().next(), None | Some(b'#')))
    };
    let (culprit, _) = lines().find(|(_, number)| *number == at.line)?;
    let column = indent(culprit);
    // Indentations that are open above the line, each with its latest line; the last ones to be closed by the line.
    let (mut open, mut closed): (Vec<(usize, &str, usize)>, _) = (Vec::new(), None);
    for (line, number) in lines().take_while(|(_, number)| *number < at.line) {
        open.retain(|(width, ..)| *width < indent(line));
        open.push((indent(line), line, number));
    }
    while open.last().is_some_and(|(width, ..)| *width > column) {
        closed = open.pop();
    }
    let (outer, inner) = (open.last()?, closed?);
    if outer.0 == column {
        return None;
    }
    let name = |line: &str| key_of(line).map_or_else(|| line.trim().to_owned(), |key| format!("{key}:"));
    let spaces = |width: usize| if width == 1 { "1 space".to_owned() } else { format!("{width} spaces") };
    let message = format!(
        "the indentation of `{}` does not match: {}, where the lines above have {} or {}",
        name(culprit),
        spaces(column),
        outer.0,
        inner.0
    );
    let hint = format!(
        "indent it by {} to put it beside `{}` (line {}), by {} to put it beside `{}` (line {})",
        inner.0,
        name(inner.1),
        inner.2,
        outer.0,
        name(outer.1),
        outer.2
    );
    let at = Position { line: at.line, column: column + 1 };
    Some(Diagnostic::error(file, text, Some(at), message).with_hint(hint))
}

/// Hints for what libyaml and serde say.
fn hint_for(message: &str) -> Option<&'static str> {
    let table = [
        ("invalid type: integer", "if text is meant, put quotes around the number"),
        (
            "invalid type: boolean",
            "if text is meant, put quotes around it: unquoted, true and false are booleans",
        ),
        (
            "invalid type: unit value",
            "the value is missing, or what belongs to the key is not indented below it",
        ),
        ("expected a sequence", "a list is wanted: `[a, b]`, or a line `- a` for each element"),
        ("mapping values are not allowed", "check the indentation; text that contains `: ` needs quotes"),
        ("did not find expected key", "check the indentation: keys of one mapping start in one column"),
        (
            "did not find expected '-' indicator",
            "check the indentation: the `-` of one list stand in one column",
        ),
        ("found character that cannot start any token", "text that begins with @, ` or % needs quotes"),
        ("found unexpected end of stream", "a quote or bracket is not closed"),
        ("found undefined", "`*name` refers to an anchor; text that begins with `*` or `&` needs quotes"),
        ("unknown anchor", "`*name` refers to an anchor; text that begins with `*` or `&` needs quotes"),
        ("unresolved tag", "text that begins with `!` needs quotes"),
        ("tagged", "text that begins with `!` needs quotes"),
    ];
    table.iter().find(|(part, _)| message.contains(part)).map(|(_, hint)| *hint)
}

/// A key that is "missing" often stands there with the wrong indentation.
fn misplaced_key(text: &str, key: &str) -> Option<String> {
    let (index, line) = text.lines().enumerate().find(|(_, line)| key_of(line) == Some(key))?;
    let spaces = line.len() - line.trim_start().len();
    Some(format!("line {} has `{key}`, indented by {spaces}: is it where it should be?", index + 1))
}

/// The key that a line of block style begins with.
fn key_of(line: &str) -> Option<&str> {
    let body = line.trim_start();
    let body = body.strip_prefix("- ").unwrap_or(body).trim_start();
    let (key, rest) = body.split_once(':')?;
    (rest.is_empty() || rest.starts_with(' ')).then_some(key.trim_matches(['"', '\'']))
}

/// The key's second line within the block mapping that starts at `mapping`.
fn second_occurrence(text: &str, mapping: Position, key: &str) -> Option<Position> {
    let column_of_key = |line: &str| {
        let body = line.trim_start_matches([' ', '-']);
        line.chars().count() - body.chars().count() + 1
    };
    text.lines()
        .enumerate()
        .skip(mapping.line - 1)
        .filter(|(_, line)| key_of(line) == Some(key) && column_of_key(line) == mapping.column)
        .nth(1)
        .map(|(index, _)| Position { line: index + 1, column: mapping.column })
}

/// The `---` that begins the second document.
fn second_document(text: &str) -> Option<Position> {
    let mut content = false;
    for (index, line) in text.lines().enumerate() {
        let marker = line == "---" || line.starts_with("--- ") || line == "...";
        if marker && content {
            return Some(Position { line: index + 1, column: 1 });
        }
        content |= !marker && !line.trim().is_empty() && !line.starts_with(['#', '%']);
    }
    None
}

/// A tab among the leading white space of the line of the error, or of the line before it.
fn tab_in_indentation(text: &str, at: Position) -> Option<Position> {
    [at.line, at.line.saturating_sub(1)].into_iter().filter(|line| *line > 0).find_map(|line| {
        let content = text.lines().nth(line - 1)?;
        let column = content.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t')?;
        Some(Position { line, column: column + 1 })
    })
}

/// Walks along the path and fails where it ends.
struct Locate<'a>(&'a [Step]);

const FOUND: &str = "found";

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), rest)) = self.0.split_first() {
            while let Some(key) = map.next_key::<String>()? {
                if key == *wanted {
                    return map.next_value_seed(Locate(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(A::Error::custom(FOUND))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                if elements.next_element::<IgnoredAny>()?.is_none() {
                    return Err(A::Error::custom(FOUND));
                }
            }
            if elements.next_element_seed(Locate(rest))?.is_some() {
                return Ok(());
            }
        }
        Err(A::Error::custom(FOUND))
    }

    // Scalars have no children: whatever is left of the path, this is as near as it gets.
    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(E::custom(FOUND))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(E::custom(FOUND))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(E::custom(FOUND))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom(FOUND))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::custom(FOUND))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(E::custom(FOUND))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Document {
        name: String,
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Part {
        label: String,
        size: u64,
    }

    fn finding(text: &str) -> Diagnostic {
        parse::<Document>("f.yaml", text).unwrap_err().as_slice()[0].clone()
    }

    #[test]
    fn mistakes_of_shape_are_told_with_place_and_hint() {
        let good = "name: x\nparts:\n  - label: a\n    size: 1\n";
        assert!(parse::<Document>("f.yaml", good).is_ok());
        type Place = Option<(usize, usize)>;
        let cases: &[(&str, Place, &str, &str)] = &[
            (
                "name: x\nparts:\n  - label: a\n    sise: 1\n",
                Some((4, 5)),
                "unknown key `sise`",
                "did you mean `size`?",
            ),
            (
                "name: x\nzebra: 1\nparts: []\n",
                Some((2, 1)),
                "unknown key `zebra`",
                "the keys here are name, parts",
            ),
            ("name: x\nparts: a\n", Some((2, 8)), "invalid type: string", "a list is wanted"),
            (
                "name: x\nparts:\n  - label: a\n    size: lots\n",
                Some((4, 11)),
                "invalid type: string \"lots\"",
                "",
            ),
            ("name: x\nname: y\nparts: []\n", Some((2, 1)), "`name` is given twice", "put both into one"),
            (
                "name: x\nparts:\n  - label: a\n    size: 1\n    label: b\n",
                Some((5, 5)),
                "`label` is given twice",
                "",
            ),
            ("name: x\nparts:\n\t- label: a\n", Some((3, 1)), "a tab in the indentation", "spaces only"),
            ("name: x\nparts: []\n---\nname: y\n", Some((3, 1)), "more than one document", "keep one"),
            ("name: \"x\nparts: []\n", Some((1, 7)), "found unexpected end of stream", "not closed"),
            ("# nothing\n", None, "the file is empty", ""),
            ("", None, "the file is empty", ""),
            (
                "name: x\nparts:\n  - label: a\n  size: 1\n",
                Some((3, 5)),
                "parts[0]: the key `size` is missing",
                "line 4 has `size`, indented by 2",
            ),
        ];
        for (text, at, message, hint) in cases {
            let found = finding(text);
            if at.is_some() {
                assert_eq!(found.position.map(|at| (at.line, at.column)), *at, "{found}");
            }
            assert!(found.message.contains(message), "{found}");
            assert!(found.hint.clone().unwrap_or_default().contains(hint), "{found}");
            assert!(!found.message.contains(" at line"), "{found}");
        }
    }

    #[test]
    fn a_missing_key_with_the_wrong_indentation_is_pointed_out() {
        let found = finding("name: x\nparts:\n  - label: a\nsize: 1\n");
        assert_eq!(found.message, "parts[0]: the key `size` is missing");
        assert_eq!(
            found.hint.as_deref(),
            Some("line 4 has `size`, indented by 0: is it where it should be?")
        );
        let found = finding("parts:\n  - label: a\n    size: 1\n    name: x\n");
        assert!(found.message.contains("unknown key `name`"), "{found}");
    }

    #[test]
    fn text_that_is_not_utf8_is_placed() {
        let error = decode("f", b"a: b\nc: \xff\n").unwrap_err();
        assert_eq!(error.as_slice()[0].position, Some(Position { line: 2, column: 4 }));
        assert_eq!(decode("f", b"\xef\xbb\xbfa: b").unwrap(), "a: b");
    }

    #[test]
    fn locate_finds_nodes_in_block_and_flow_style() {
        let text = "name: x\nparts:\n  - label: a\n    size: 1\n  - {label: b, size: 22}\nmap:\n  deep: [1, [2, 3]]\n";
        let at = |path: &[Step]| locate(text, path).map(|at| (at.line, at.column));
        assert_eq!(at(&["name".into()]), Some((1, 7)));
        assert_eq!(at(&["parts".into(), 0.into(), "size".into()]), Some((4, 11)));
        assert_eq!(at(&["parts".into(), 1.into(), "size".into()]), Some((5, 22)));
        assert_eq!(at(&["map".into(), "deep".into(), 1.into(), 1.into()]), Some((7, 17)));
        assert_eq!(
            at(&["parts".into(), 0.into(), "gone".into()]),
            Some((3, 5)),
            "the mapping that lacks the key"
        );
        assert_eq!(at(&["name".into(), 3.into()]), Some((1, 7)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = decode("f", &bytes) {
                let _ = parse::<Document>("f", text).map_err(|error| error.to_string());
                let _ = locate(text, &["parts".into(), 1.into()]);
            }
        }

        #[test]
        fn no_near_yaml_panics(text in "([a-z]{1,4}: ?|- |  |\n|\t|---\n|\\[|\\]|\\{|\\}|\"|'|&a |\\*a|!t |#|\\||[0-9]|é){0,40}") {
            let _ = parse::<Document>("f", &text).map_err(|error| error.to_string());
            let _ = locate(&text, &["name".into(), 0.into()]);
        }
    }
}
