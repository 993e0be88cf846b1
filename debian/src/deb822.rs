//! The stanza format of control files and archive indexes (deb822(5), Debian policy 5.1), parsed in place.

use memchr::memchr;

/// A stanza that breaks the format. Lines and columns count from 1, columns in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct SyntaxError {
    /// Line in the text that was parsed.
    pub line: usize,
    /// Byte in the line.
    pub column: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// The rule that a line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A line that is neither `Name: value` nor indented.
    #[error("expected `Name: value`, but there is no ':' in the line")]
    NoColon,
    /// A line that starts with a colon, or a name with a character that is not allowed in one.
    #[error(
        "a field name has only printable ASCII characters without ':' and does not start with '#' or '-'"
    )]
    BadName,
    /// An indented line where a stanza starts.
    #[error("a continuation line needs a field before it")]
    StrayContinuation,
    /// A field that the stanza must have once is there twice.
    #[error("a field of this name is already in the stanza")]
    Duplicate,
}

/// One field: name as written, value with the first line's surrounding blanks removed and the continuation lines as
/// they are, joined by newlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Field name; compare without regard to case.
    pub name: &'a [u8],
    /// Raw value.
    pub value: &'a [u8],
    /// Offset of the field's first byte in the text.
    pub offset: usize,
}

/// Iterator over the fields of one stanza, ending at the first blank line or the end of the text.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    text: &'a [u8],
    position: usize,
}

/// The fields of the stanza that starts at `position`; blank lines before it are skipped.
pub fn fields(text: &[u8], position: usize) -> Fields<'_> {
    Fields { text, position: skip_blank_lines(text, position) }
}

impl Fields<'_> {
    /// Where the next line starts.
    pub fn position(&self) -> usize {
        self.position
    }
}

/// End of the line that starts at `start`: the offset of its newline, or of the end of the text.
fn line_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    memchr(b'\n', rest).map_or(text.len(), |length| start + length)
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r'))
}

/// The start of the first line, from `position` on, that is not blank.
pub fn skip_blank_lines(text: &[u8], mut position: usize) -> usize {
    while position < text.len() {
        let end = line_end(text, position);
        if !is_blank(text.get(position..end).unwrap_or_default()) {
            break;
        }
        position = end + 1;
    }
    position.min(text.len())
}

/// An error at an offset; the line number is counted only now, which keeps the good path fast.
pub fn error_at(text: &[u8], offset: usize, problem: Problem) -> SyntaxError {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    SyntaxError {
        line: memchr::memchr_iter(b'\n', before).count() + 1,
        column: before.len() - line_start + 1,
        problem,
    }
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, SyntaxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.text;
        loop {
            let start = self.position;
            if start >= text.len() {
                return None;
            }
            let end = line_end(text, start);
            let line = text.get(start..end).unwrap_or_default();
            let first = line.first().copied();
            self.position = end + 1;
            match first {
                Some(b'#') => continue, // comments are allowed in files that people write
                None | Some(b' ' | b'\t' | b'\r') => {
                    if is_blank(line) {
                        self.position = start.min(text.len());
                        return None;
                    }
                    return Some(Err(self.stop(start, Problem::StrayContinuation)));
                }
                Some(_) => {}
            }
            let Some(colon) = memchr(b':', line) else {
                return Some(Err(self.stop(start, Problem::NoColon)));
            };
            let (name, value) = line.split_at_checked(colon).unwrap_or_default();
            let name_ok =
                name.first().is_some_and(|b| *b != b'-') && name.iter().all(|b| (33..=126).contains(b));
            if !name_ok {
                return Some(Err(self.stop(start, Problem::BadName)));
            }
            let value = self.continue_value(value, start + colon + 1, end);
            return Some(Ok(Field { name, value: trim(value), offset: start }));
        }
    }
}

impl<'a> Fields<'a> {
    /// Ends the iteration after an error.
    fn stop(&mut self, offset: usize, problem: Problem) -> SyntaxError {
        self.position = self.text.len();
        error_at(self.text, offset, problem)
    }

    /// Extends a value over the continuation lines that follow.
    fn continue_value(&mut self, first: &'a [u8], start: usize, mut end: usize) -> &'a [u8] {
        let text = self.text;
        while matches!(text.get(self.position), Some(b' ' | b'\t')) {
            let next_end = line_end(text, self.position);
            if is_blank(text.get(self.position..next_end).unwrap_or_default()) {
                break;
            }
            end = next_end;
            self.position = end + 1;
        }
        text.get(start..end).unwrap_or(first)
    }
}

/// All stanzas of a text, each as the vector of its fields. For small files; archive indexes are scanned by
/// [`crate::index`] without building this.
///
/// # Errors
/// The first line that breaks the format; a field that is twice in a stanza.
pub fn parse(text: &[u8]) -> Result<Vec<Vec<Field<'_>>>, SyntaxError> {
    let mut stanzas = Vec::new();
    let mut position = skip_blank_lines(text, 0);
    while position < text.len() {
        let mut stanza: Vec<Field<'_>> = Vec::new();
        let mut iterator = fields(text, position);
        for field in iterator.by_ref() {
            let field = field?;
            if stanza.iter().any(|known| known.name.eq_ignore_ascii_case(field.name)) {
                return Err(error_at(text, field.offset, Problem::Duplicate));
            }
            stanza.push(field);
        }
        if !stanza.is_empty() {
            stanzas.push(stanza);
        }
        position = skip_blank_lines(text, iterator.position());
    }
    Ok(stanzas)
}

/// The value of a field, by its name without regard to case.
pub fn value<'a>(stanza: &[Field<'a>], name: &str) -> Option<&'a [u8]> {
    stanza.iter().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stanzas_fields_and_continuations() {
        let text = b"\n\nPackage: a\nDescription: one\n two\n .\n\t three  \nSize: 1\n\n \nPackage:b\n# comment\nEmpty:\n";
        let stanzas = parse(text).unwrap();
        assert_eq!(stanzas.len(), 2);
        assert_eq!(value(&stanzas[0], "description"), Some(&b"one\n two\n .\n\t three"[..]));
        assert_eq!(value(&stanzas[0], "SIZE"), Some(&b"1"[..]));
        assert_eq!(value(&stanzas[1], "Package"), Some(&b"b"[..]));
        assert_eq!(value(&stanzas[1], "Empty"), Some(&b""[..]));
    }

    #[test]
    fn errors_name_line_and_rule() {
        let cases: &[(&[u8], usize, Problem)] = &[
            (b"Package: a\nnonsense\n", 2, Problem::NoColon),
            (b"A: 1\n\n\n continued\n", 4, Problem::StrayContinuation),
            (b"A: 1\n: 2\n", 2, Problem::BadName),
            (b"A b: 1\n", 1, Problem::BadName),
            (b"-A: 1\n", 1, Problem::BadName),
            (b"A: 1\nB: 1\na: 2\n", 3, Problem::Duplicate),
        ];
        for (text, line, problem) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.problem), (*line, *problem), "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic_or_loop(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }

        #[test]
        fn any_line_soup_never_panics_or_loops(text in "([A-c:# \t\r\n-]{0,6}\n){0,20}") {
            let _ = parse(text.as_bytes());
        }
    }
}
