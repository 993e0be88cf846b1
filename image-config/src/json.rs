//! JSON (RFC 8259) to a tree with positions.
//!
//! `serde_json` cannot say where a value stands that it has accepted, which is what findings about values need.

use crate::diagnostic::{Diagnostic, Diagnostics, Position};
use crate::tree::{Budget, DEEPEST, Entry, Node, Scalar, ScalarKind, Value};

/// Reads one document. `file` is its name in findings.
///
/// # Errors
/// The first mistake of syntax, or too much of something ([`crate::tree`] has the bounds).
pub fn parse(file: &str, text: &str) -> Result<Node, Diagnostics> {
    let mut reader =
        Reader { rest: text.as_bytes(), at: Position { line: 1, column: 1 }, budget: Budget::new() };
    document(&mut reader).map_err(|problem| {
        let Problem { at, message, hint } = problem;
        Diagnostic::error(file, text, Some(at), message).with_hint(hint.map(str::to_owned)).into()
    })
}

struct Reader<'a> {
    rest: &'a [u8],
    at: Position,
    budget: Budget,
}

struct Problem {
    at: Position,
    message: String,
    hint: Option<&'static str>,
}

type Parsed<T> = Result<T, Problem>;

fn document(reader: &mut Reader<'_>) -> Parsed<Node> {
    reader.skip_space();
    let node = value(reader, 0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.problem("something follows the document's closing bracket")),
    }
}

fn value(reader: &mut Reader<'_>, depth: usize) -> Parsed<Node> {
    if depth > DEEPEST {
        return Err(reader.problem(format!("nested more than {DEEPEST} levels deep")));
    }
    let at = reader.at;
    reader.budget.take(0).map_err(|message| Problem { at, message, hint: None })?;
    let value = match reader.peek() {
        Some(b'{') => Value::Map(object(reader, depth)?),
        Some(b'[') => Value::List(array(reader, depth)?),
        Some(b'"') => Value::Scalar(Scalar { kind: ScalarKind::Text, text: string(reader)?, bytes: None }),
        Some(_) => Value::Scalar(word(reader)?),
        None => return Err(reader.problem("the text ends where a value belongs")),
    };
    Ok(Node { at, value })
}

fn object(reader: &mut Reader<'_>, depth: usize) -> Parsed<Vec<Entry>> {
    let mut entries = Vec::new();
    let opened = reader.at;
    reader.bump();
    reader.skip_space();
    while reader.peek() != Some(b'}') {
        let key_at = reader.at;
        if reader.peek() != Some(b'"') {
            return Err(reader.unclosed("a key in double quotes belongs here", opened));
        }
        let key = string(reader)?;
        reader.skip_space();
        if reader.peek() != Some(b':') {
            return Err(reader.unclosed("a `:` belongs between key and value", opened));
        }
        reader.bump();
        reader.skip_space();
        entries.push(Entry { key, key_at, value: value(reader, depth + 1)? });
        comma(reader, b'}', opened)?;
    }
    reader.bump();
    Ok(entries)
}

fn array(reader: &mut Reader<'_>, depth: usize) -> Parsed<Vec<Node>> {
    let mut elements = Vec::new();
    let opened = reader.at;
    reader.bump();
    reader.skip_space();
    while reader.peek() != Some(b']') {
        elements.push(value(reader, depth + 1)?);
        comma(reader, b']', opened)?;
    }
    reader.bump();
    Ok(elements)
}

/// A comma and something after it, or the closing bracket, which stays.
fn comma(reader: &mut Reader<'_>, close: u8, opened: Position) -> Parsed<()> {
    reader.skip_space();
    match reader.peek() {
        Some(b',') => {
            let comma = reader.at;
            reader.bump();
            reader.skip_space();
            if reader.peek() == Some(close) {
                return Err(Problem {
                    at: comma,
                    message: "a comma before the closing bracket".to_owned(),
                    hint: Some("JSON has none after the last element"),
                });
            }
            Ok(())
        }
        Some(byte) if byte == close => Ok(()),
        _ => Err(reader.unclosed("a comma or the closing bracket belongs here", opened)),
    }
}

fn string(reader: &mut Reader<'_>) -> Parsed<String> {
    let opened = reader.at;
    reader.bump();
    let mut bytes = Vec::new();
    loop {
        match reader.peek() {
            None | Some(b'\n') => {
                return Err(Problem {
                    at: opened,
                    message: "the text in double quotes does not end in its line".to_owned(),
                    hint: Some("a line break in text is written `\\n`"),
                });
            }
            Some(b'"') => break,
            Some(b'\\') => escape(reader, &mut bytes)?,
            Some(byte) if byte < 0x20 => {
                return Err(reader.problem(format!("a control character in text: write `\\u{byte:04x}`")));
            }
            Some(byte) => {
                bytes.push(byte);
                reader.bump();
            }
        }
    }
    reader.bump();
    reader.budget.take(bytes.len()).map_err(|message| Problem { at: opened, message, hint: None })?;
    // The input is UTF-8 and escapes add whole characters, so nothing is lost.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn escape(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Parsed<()> {
    let at = reader.at;
    reader.bump();
    let simple = match reader.peek() {
        Some(byte @ (b'"' | b'\\' | b'/')) => byte,
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'u') => {
            reader.bump();
            let first = hex4(reader, at)?;
            let code = match first {
                0xd800..0xdc00 if reader.rest.starts_with(b"\\u") => {
                    reader.bump();
                    reader.bump();
                    let second = hex4(reader, at)?;
                    0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff)
                }
                code => code,
            };
            let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        _ => {
            return Err(Problem {
                at,
                message: "an escape that JSON does not have".to_owned(),
                hint: Some("a backslash in text is written `\\\\`"),
            });
        }
    };
    reader.bump();
    out.push(simple);
    Ok(())
}

fn hex4(reader: &mut Reader<'_>, at: Position) -> Parsed<u32> {
    let mut code = 0;
    for _ in 0..4 {
        let digit = reader.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(|| Problem {
            at,
            message: "`\\u` needs four hexadecimal digits".to_owned(),
            hint: None,
        })?;
        reader.bump();
        code = code * 16 + digit;
    }
    Ok(code)
}

/// `true`, `false`, `null`, a number.
fn word(reader: &mut Reader<'_>) -> Parsed<Scalar> {
    let at = reader.at;
    let is_part =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'\'');
    let length = reader.rest.iter().take_while(|byte| is_part(**byte)).count();
    let text = String::from_utf8_lossy(reader.rest.get(..length).unwrap_or_default()).into_owned();
    let kind = match text.as_str() {
        "true" => ScalarKind::Bool(true),
        "false" => ScalarKind::Bool(false),
        "null" => ScalarKind::Null,
        number => match number_of(number) {
            Some(kind) => kind,
            None => {
                let message = match reader.peek() {
                    Some(b'\'') => "text stands in double quotes".to_owned(),
                    _ if text.is_empty() => "a value belongs here".to_owned(),
                    _ => format!("`{text}` is no value: text stands in double quotes"),
                };
                return Err(Problem { at, message, hint: None });
            }
        },
    };
    for _ in 0..length {
        reader.bump();
    }
    Ok(Scalar { kind, text: if kind == ScalarKind::Null { String::new() } else { text }, bytes: None })
}

/// RFC 8259, 6: no leading zero or `+`, digits on both sides of the point.
fn number_of(text: &str) -> Option<ScalarKind> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
    let has_leading_zero = whole > 1 && digits.starts_with('0');
    if whole == 0 || has_leading_zero || digits.contains("._") || digits.contains('_') {
        return None;
    }
    let rest = digits.get(whole..)?;
    if rest.is_empty()
        && let Ok(number) = text.parse()
    {
        return Some(ScalarKind::Integer(number));
    }
    let fraction = rest.strip_prefix('.');
    if fraction.is_some_and(|it| !it.starts_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    let has_number_after = !rest.starts_with(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'));
    (has_number_after).then(|| text.parse().ok().map(ScalarKind::Float)).flatten()
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn bump(&mut self) {
        let Some((first, rest)) = self.rest.split_first() else { return };
        self.rest = rest;
        if *first == b'\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else if rest.first().is_none_or(|next| next & 0xc0 != 0x80) {
            // The last byte of a character.
            self.at.column += 1;
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.bump();
        }
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        let hint =
            (self.rest.starts_with(b"//") || self.rest.starts_with(b"/*") || self.rest.starts_with(b"#"))
                .then_some("JSON has no comments");
        Problem { at: self.at, message: message.into(), hint }
    }

    /// A problem here, or, at the end of the text, with the bracket that is still open.
    fn unclosed(&self, message: &str, opened: Position) -> Problem {
        match self.peek() {
            Some(_) => self.problem(message),
            None => Problem { at: opened, message: "this bracket is never closed".to_owned(), hint: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(node: &Node) -> (usize, usize) {
        (node.at.line, node.at.column)
    }

    #[test]
    fn values_know_their_places() {
        let text = "{\n  \"é\": [1, {\"b\": \"x\\n\\u00e9\\ud83d\\ude00\"}],\n\t\"c\": -0.5e2, \"d\": null, \"e\": false\n}\n";
        let node = parse("f", text).unwrap();
        assert_eq!(place(&node), (1, 1));
        let list = node.get("é").unwrap();
        assert_eq!(place(list), (2, 8));
        let inner = list.elements().unwrap()[1].get("b").unwrap();
        assert_eq!(place(inner), (2, 18));
        assert_eq!(inner.scalar().unwrap().text, "x\né😀");
        assert_eq!(place(node.get("c").unwrap()), (3, 7));
        assert_eq!(node.get("c").unwrap().scalar().unwrap().kind, ScalarKind::Float(-50.0));
        assert!(node.get("d").unwrap().is_null());
        assert_eq!(node.get("e").unwrap().scalar().unwrap().kind, ScalarKind::Bool(false));
        assert_eq!(node.entries().unwrap()[2].key_at, Position { line: 3, column: 15 });
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let cases = [
            ("{\"a\": 1,}", (1, 8), "a comma before the closing bracket"),
            ("{\n  \"a\": [1,\n  2", (2, 8), "this bracket is never closed"),
            ("{\"a\" 1}", (1, 6), "a `:` belongs"),
            ("{a: 1}", (1, 2), "a key in double quotes"),
            ("{\"a\": 'x'}", (1, 7), "text stands in double quotes"),
            ("{\"a\": yes}", (1, 7), "`yes` is no value"),
            ("{\"a\": 0644}", (1, 7), "`0644` is no value"),
            ("{\"a\": \"x\ny\"}", (1, 7), "does not end in its line"),
            ("{\"a\": \"\\d\"}", (1, 8), "an escape"),
            ("{} {}", (1, 4), "something follows"),
            ("", (1, 1), "the text ends"),
            ("[1 2]", (1, 4), "a comma or the closing bracket"),
            ("[1.]", (1, 2), "`1.` is no value"),
            ("[inf]", (1, 2), "`inf` is no value"),
        ];
        for (text, (line, column), message) in cases {
            let error = parse("f", text).unwrap_err();
            let found = &error.as_slice()[0];
            assert_eq!(found.position, Some(Position { line, column }), "{text:?}: {found}");
            assert!(found.message.contains(message), "{text:?}: {found}");
        }
        let comment = parse("f", "{\n// x\n}").unwrap_err();
        assert_eq!(comment.as_slice()[0].hint.as_deref(), Some("JSON has no comments"));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(parse("f", &deep).unwrap_err().to_string().contains("nested more than"));
        let wide = format!("[{}1]", "1,".repeat(200_000));
        assert!(parse("f", &wide).unwrap_err().to_string().contains("more than 100000 values"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse("f", &text);
        }

        #[test]
        fn no_near_json_panics(text in "([\\[\\]{},:]|\"[a-zé\\\\u0-9]{0,8}\"?| |\n|true|nul|-?[0-9.eE+]{1,6}){0,40}") {
            let _ = parse("f", &text);
        }

        #[test]
        fn what_serde_json_reads_is_read_alike(text in "([\\[{]|\\]|\\}|,|:|\"[a-z\\\\n]{0,3}\"| |true|null|-?[0-9]{1,3}(\\.[0-9]{1,2})?([eE][+-]?[0-9])?){0,12}") {
            prop_assert_eq!(parse("f", &text).is_ok(), serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }
}
