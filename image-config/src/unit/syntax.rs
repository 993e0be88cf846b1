//! Text to sections and assignments, and text to words: systemd.syntax(7).

/// One line of a unit file that says something, continuations joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Number of its first line, from 1.
    pub number: u32,
    /// What it says.
    pub content: Content<'a>,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// `[Name]`.
    Section(String),
    /// `Key=Value`, white space around both removed.
    Assignment {
        /// Never empty.
        key: String,
        /// Continuations are joined by spaces.
        value: String,
    },
    /// What cannot be understood.
    Problem(&'a str),
}

/// Longest line, continuations joined, in bytes: systemd's `LONG_LINE_MAX`.
pub const LONGEST_LINE: usize = 1 << 20;

/// Splits a unit file. Comments and empty lines are gone; a comment within a continued line is skipped, and the
/// line goes on after it.
#[must_use]
pub fn lines(text: &[u8]) -> Vec<Line<'static>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut out = Vec::new();
    let mut pending: Option<(u32, Vec<u8>)> = None;
    for (number, line) in (1..).zip(Physical { rest: text }) {
        let line = line.trim_ascii_start();
        if line.first().is_some_and(|byte| matches!(byte, b'#' | b';')) {
            continue;
        }
        let (first, mut joined) = pending.take().unwrap_or((number, Vec::new()));
        joined.extend_from_slice(line);
        if joined.len() > LONGEST_LINE {
            out.push(Line { number: first, content: Content::Problem("the line is longer than 1 MiB") });
            continue;
        }
        if ends_with_lone_backslash(&joined) {
            joined.pop();
            joined.push(b' ');
            pending = Some((first, joined));
        } else if let Some(content) = content(&joined) {
            out.push(Line { number: first, content });
        }
    }
    if let Some((number, joined)) = pending
        && let Some(content) = content(&joined)
    {
        out.push(Line { number, content });
    }
    out
}

/// Lines as they stand in the file. They end, as systemd's `read_line` has it, with a line feed, a carriage return, the
/// two together in either order, or a NUL.
struct Physical<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Physical<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end =
            self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0)).unwrap_or(self.rest.len());
        let (line, after) = self.rest.split_at(end);
        self.rest = match after {
            [b'\r', b'\n', rest @ ..] | [b'\n', b'\r', rest @ ..] | [_, rest @ ..] => rest,
            [] => after,
        };
        Some(line)
    }
}

/// A backslash that no other one before it takes away.
fn ends_with_lone_backslash(line: &[u8]) -> bool {
    line.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn content(line: &[u8]) -> Option<Content<'static>> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return None;
    }
    let Ok(line) = std::str::from_utf8(line) else { return Some(Content::Problem("the line is not UTF-8")) };
    if let Some(header) = line.strip_prefix('[') {
        return Some(match header.strip_suffix(']') {
            Some(name) => Content::Section(name.to_owned()),
            None => Content::Problem("the section header has no `]`"),
        });
    }
    Some(match line.split_once('=') {
        Some((key, _)) if key.trim().is_empty() => Content::Problem("nothing stands before the `=`"),
        Some((key, value)) => {
            Content::Assignment { key: key.trim().to_owned(), value: value.trim().to_owned() }
        }
        None => Content::Problem("the line has no `=`"),
    })
}

/// Why a value cannot be split into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote without its partner.
    #[error("a quote is not closed")]
    OpenQuote,
    /// A backslash that begins no known escape.
    #[error("a backslash begins no known escape sequence")]
    Escape,
    /// Escapes that make up bytes other than UTF-8, or a NUL.
    #[error("an escape sequence makes up text that is not UTF-8, or a NUL")]
    NotText,
}

/// What backslashes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escapes {
    /// C escapes: `\n`, `\x41`, `\101`, `\u263a`, and `\s` for a space.
    Decode,
    /// They are characters like others (unit names have escapes of their own); quotes are taken off nevertheless.
    Keep,
    /// They go, and the character after them stays, whatever it is.
    Strip,
}

/// Takes words off the front of a value: separated by white space, quotes removed wherever they stand.
///
/// systemd's `extract_first_word` with `EXTRACT_UNQUOTE`, and `EXTRACT_CUNESCAPE`, `EXTRACT_RETAIN_ESCAPE` or neither.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    rest: &'a str,
    escapes: Escapes,
}

impl<'a> Words<'a> {
    /// Starts at the front of `text`.
    #[must_use]
    pub fn new(text: &'a str, escapes: Escapes) -> Self {
        Self { rest: text.trim_start(), escapes }
    }

    /// What has not been taken yet, without white space at its front.
    #[must_use]
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Takes a literal off the front if it stands there as a word of its own, with no quoting.
    pub fn take_literal(&mut self, literal: &str) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(after) if after.is_empty() || after.starts_with(|c: char| c.is_ascii_whitespace()) => {
                self.rest = after.trim_start();
                true
            }
            _ => false,
        }
    }

    /// The next word with its backslashes as they are, after the word that could not be decoded: systemd reads a word with
    /// an unknown escape so, and warns.
    ///
    /// # Errors
    /// [`WordError::OpenQuote`] when it was the quotes that were broken.
    pub fn next_undecoded(&mut self) -> Option<Result<String, WordError>> {
        let mut kept = Words { rest: self.rest, escapes: Escapes::Keep };
        let word = kept.next();
        self.rest = kept.rest;
        word
    }

    fn take_word(&mut self) -> Result<String, WordError> {
        let mut word: Vec<u8> = Vec::new();
        let mut quote = None;
        let mut rest = self.rest.chars();
        loop {
            let Some(c) = rest.next() else {
                if quote.is_some() {
                    return Err(WordError::OpenQuote);
                }
                break;
            };
            match (c, quote) {
                ('\\', _) if self.escapes == Escapes::Strip => {
                    push(&mut word, rest.next().ok_or(WordError::Escape)?);
                }
                ('\\', _) if self.escapes == Escapes::Decode => match unescape(&mut rest)? {
                    Unescaped::Character(c) => push(&mut word, c),
                    // Bytes above 0x7f only make sense in a row that is UTF-8; the whole is checked below.
                    Unescaped::Byte(byte) => word.push(byte),
                },
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, None) if c.is_ascii_whitespace() => break,
                (c, _) => push(&mut word, c),
            }
        }
        self.rest = rest.as_str().trim_start();
        String::from_utf8(word).map_err(|_| WordError::NotText)
    }
}

impl Iterator for Words<'_> {
    type Item = Result<String, WordError>;

    /// The next word; after an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let word = self.take_word();
        if word.is_err() {
            self.rest = "";
        }
        Some(word)
    }
}

/// All words of a value.
///
/// # Errors
/// [`WordError`] when a quote or an escape is broken.
pub fn split_words(text: &str, escapes: Escapes) -> Result<Vec<String>, WordError> {
    Words::new(text, escapes).collect()
}

/// A word that [`split_words`] reads as exactly `text`.
#[must_use]
pub fn quote_word(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn push(word: &mut Vec<u8>, c: char) {
    word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

enum Unescaped {
    Character(char),
    Byte(u8),
}

/// What follows a backslash (systemd's `cunescape_one`).
fn unescape(rest: &mut std::str::Chars<'_>) -> Result<Unescaped, WordError> {
    let c = rest.next().ok_or(WordError::Escape)?;
    let mut number = |first: Option<char>, digits: u32, radix: u32| {
        let mut value = match first {
            Some(c) => c.to_digit(radix).ok_or(WordError::Escape)?,
            None => 0,
        };
        for _ in 0..digits {
            let digit = rest.next().and_then(|c| c.to_digit(radix)).ok_or(WordError::Escape)?;
            value = value
                .checked_mul(radix)
                .and_then(|value| value.checked_add(digit))
                .ok_or(WordError::Escape)?;
        }
        if value == 0 { Err(WordError::NotText) } else { Ok(value) }
    };
    let byte = |value: u32| u8::try_from(value).map(Unescaped::Byte).map_err(|_| WordError::Escape);
    let character = |value: u32| char::from_u32(value).map(Unescaped::Character).ok_or(WordError::NotText);
    match c {
        'a' => Ok(Unescaped::Character('\x07')),
        'b' => Ok(Unescaped::Character('\x08')),
        'f' => Ok(Unescaped::Character('\x0c')),
        'n' => Ok(Unescaped::Character('\n')),
        'r' => Ok(Unescaped::Character('\r')),
        't' => Ok(Unescaped::Character('\t')),
        'v' => Ok(Unescaped::Character('\x0b')),
        's' => Ok(Unescaped::Character(' ')),
        '\\' | '"' | '\'' => Ok(Unescaped::Character(c)),
        'x' => byte(number(None, 2, 16)?),
        'u' => character(number(None, 4, 16)?),
        'U' => character(number(None, 8, 16)?),
        '0'..='7' => byte(number(Some(c), 2, 8)?),
        _ => Err(WordError::Escape),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assignment(key: &str, value: &str) -> Content<'static> {
        Content::Assignment { key: key.to_owned(), value: value.to_owned() }
    }

    fn contents(text: &str) -> Vec<(u32, Content<'static>)> {
        lines(text.as_bytes()).into_iter().map(|line| (line.number, line.content)).collect()
    }

    #[test]
    fn sections_assignments_and_comments_are_told_apart() {
        let text = "\u{feff}# c\n[Unit]\n ; c\nDescription = a = b \r\n\nEmpty=\n";
        assert_eq!(
            contents(text),
            [
                (2, Content::Section("Unit".into())),
                (4, assignment("Description", "a = b")),
                (6, assignment("Empty", ""))
            ]
        );
    }

    #[test]
    fn a_continued_line_skips_comments_and_ends_at_the_end_of_the_file() {
        let text = "A=1 \\\n# comment \\\n  ; another\n   2 \\\n 3\nB=x\\\\\nC=y\\";
        assert_eq!(
            contents(text),
            [(1, assignment("A", "1  2  3")), (6, assignment("B", "x\\\\")), (7, assignment("C", "y"))]
        );
    }

    #[test]
    fn lines_end_as_systemd_ends_them() {
        let text = "A=1\r\nB=2\n\rC=3\rD=4\0E=5\r\n\r\nF=6\\\r\n7";
        let found: Vec<_> = contents(text);
        let want =
            [(1, "A", "1"), (2, "B", "2"), (3, "C", "3"), (4, "D", "4"), (5, "E", "5"), (7, "F", "6 7")];
        assert_eq!(found, want.map(|(line, key, value)| (line, assignment(key, value))));
    }

    #[test]
    fn an_empty_line_ends_a_continuation() {
        assert_eq!(contents("A=1 \\\n\nB=2\n"), [(1, assignment("A", "1")), (3, assignment("B", "2"))]);
    }

    #[test]
    fn what_is_no_assignment_is_a_problem_with_its_line() {
        let found = contents("[Unit\n=x\nnonsense\n");
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(found.iter().all(|(_, content)| matches!(content, Content::Problem(_))));
        assert!(matches!(lines(b"A=\xff")[0].content, Content::Problem(_)));
    }

    #[test]
    fn words_are_split_as_systemd_splits_them() {
        let cases: &[(&str, Result<&[&str], WordError>)] = &[
            ("a b\tc", Ok(&["a", "b", "c"])),
            ("  ", Ok(&[])),
            ("\"a b\" 'c d'", Ok(&["a b", "c d"])),
            ("a\"b c\"d", Ok(&["ab cd"])),
            ("\"\" ''", Ok(&["", ""])),
            ("\"it's\" '\"'", Ok(&["it's", "\""])),
            (r"a\x20b \n \101 \u263a \s", Ok(&["a b", "\n", "A", "\u{263a}", " "])),
            (r"\xc3\xa4", Ok(&["ä"])),
            (r#""a\"b""#, Ok(&["a\"b"])),
            ("\"a", Err(WordError::OpenQuote)),
            (r"\q", Err(WordError::Escape)),
            ("a\\", Err(WordError::Escape)),
            (r"\x4", Err(WordError::Escape)),
            (r"\777", Err(WordError::Escape)),
            (r"\xff", Err(WordError::NotText)),
            (r"\x00", Err(WordError::NotText)),
            (r"\ud800", Err(WordError::NotText)),
        ];
        for (text, want) in cases {
            let got = split_words(text, Escapes::Decode);
            let want = want.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, want, "{text:?}");
        }
        let keep = |text| split_words(text, Escapes::Keep).unwrap();
        assert_eq!(keep(r#"dev-a\x2db.device "x""#), [r"dev-a\x2db.device", "x"]);
        // A backslash that stays protects nothing.
        assert_eq!(keep(r#"a\"b c" d\"#), [r"a\b c", r"d\"]);
        assert_eq!(split_words(r#"a\ b\\ \"c"#, Escapes::Strip).unwrap(), ["a b\\", "\"c"]);
        assert_eq!(split_words("a\\", Escapes::Strip), Err(WordError::Escape));
    }

    #[test]
    fn literals_are_taken_only_as_whole_unquoted_words() {
        let mut words = Words::new("; ;x", Escapes::Decode);
        assert!(words.take_literal(";"));
        assert!(!words.take_literal(";"));
        assert_eq!(words.rest(), ";x");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for line in lines(&bytes) {
                if let Content::Assignment { value, .. } = line.content {
                    let _ = split_words(&value, Escapes::Decode);
                    let _ = split_words(&value, Escapes::Keep);
                }
            }
        }

        #[test]
        fn quoting_round_trips(words in proptest::collection::vec("[^\\x00]{0,12}", 0..6)) {
            let text = words.iter().map(|word| quote_word(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split_words(&text, Escapes::Decode), Ok(words));
        }
    }
}
