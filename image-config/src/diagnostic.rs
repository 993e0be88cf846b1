//! How a mistake in a text is told to its author: file, line, column, the line itself, and a hint.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The text is used, the finding should be looked at.
    Warning,
    /// The text is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A place in a text. Both numbers start at 1; columns count characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Character within the line, from 1.
    pub column: usize,
}

/// One finding in one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the text is refused.
    pub severity: Severity,
    /// Name of the text as the user knows it: usually the path as given on the command line.
    pub file: String,
    /// Where; `None` when the finding is about the text as a whole.
    pub position: Option<Position>,
    /// The line that `position` points into, without its line break; of a very long one the part around it.
    pub source_line: Option<String>,
    /// Characters of the line before that part.
    pub source_start: usize,
    /// What is wrong, one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error; the source line is cut out of `text`.
    #[must_use]
    pub fn error(file: &str, text: &str, position: Option<Position>, message: impl Into<String>) -> Self {
        let line = position.and_then(|at| Some((line_of(text, at.line)?, at.column)));
        let (source_start, source_line) = line.map(|(line, column)| around(line, column)).unzip();
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            position,
            source_line,
            source_start: source_start.unwrap_or_default(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same finding as a warning.
    #[must_use]
    pub fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The same finding with a hint; `None` leaves it as it is.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        if let Some(hint) = hint.into() {
            self.hint = Some(hint);
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    /// Renders as compilers do: headline, then the line with a marker below it, then the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.position {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        write!(f, ": {}: {}", self.severity, self.message)?;
        if let (Some(at), Some(line)) = (self.position, &self.source_line) {
            let number = at.line.to_string();
            let margin = " ".repeat(number.len());
            let (pad, width) = underline(line, at.column.saturating_sub(self.source_start));
            write!(f, "\n{margin} |\n{number} | {}\n{margin} | {pad}{}", printable(line), "^".repeat(width))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// All findings in one text, in the order of their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Sorts findings by place; those about the whole text come first.
    #[must_use]
    pub fn new(mut findings: Vec<Diagnostic>) -> Self {
        findings.sort_by_key(|finding| finding.position);
        Self(findings)
    }

    /// The findings, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.0
    }

    /// Whether any finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate that the author of `word` most likely meant, if one is near enough.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One slip for short words, about one in three letters for long ones: more, and the guess misleads.
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Line `number` (from 1) of `text`.
fn line_of(text: &str, number: usize) -> Option<&str> {
    text.lines().nth(number.checked_sub(1)?)
}

/// Longest line that is shown whole, in bytes: nobody reads a megabyte of JSON without line breaks.
const LONGEST_LINE: usize = 400;
/// Characters that are shown of a longer one, before and after the place.
const AROUND: usize = 100;

/// The part of a line around a column, and how many characters stand before it.
fn around(line: &str, column: usize) -> (usize, String) {
    if line.len() <= LONGEST_LINE {
        return (0, line.to_owned());
    }
    let start = column.saturating_sub(AROUND);
    (start, line.chars().skip(start).take(2 * AROUND).collect())
}

/// Control characters must not reach the terminal of whoever reads the message.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c == '\t' || !c.is_control() { c } else { '\u{fffd}' }).collect()
}

/// What stands left of the marker, and the marker's width: the word at `column`.
fn underline(line: &str, column: usize) -> (String, usize) {
    let before: String =
        line.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let mut rest = line.chars().skip(column.saturating_sub(1)).peekable();
    let width = match rest.peek() {
        Some(&quote @ ('"' | '\'')) => {
            let inner = rest.skip(1).take_while(|c| *c != quote).count();
            (inner + 2).min(line.chars().count().saturating_sub(column - 1))
        }
        _ => rest.take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ']' | '}' | ':')).count(),
    };
    (before, width.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_headline_line_marker_and_hint() {
        let text = "name: ferrite\nsise: \"a b\" # no\n";
        let at = Some(Position { line: 2, column: 7 });
        let one =
            Diagnostic::error("r.yaml", text, at, "bad size").with_hint("did you mean `size`?".to_owned());
        assert_eq!(
            one.to_string(),
            "r.yaml:2:7: error: bad size\n  |\n2 | sise: \"a b\" # no\n  |       ^^^^^\nhint: did you mean `size`?"
        );
    }

    #[test]
    fn findings_are_sorted_by_place() {
        let text = "a\nb\n";
        let late = Diagnostic::error("f", text, Some(Position { line: 2, column: 1 }), "late");
        let early =
            Diagnostic::error("f", text, Some(Position { line: 1, column: 1 }), "early").into_warning();
        let all = Diagnostics::new(vec![late, early]);
        assert_eq!(all.as_slice().iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), ["early", "late"]);
        assert!(all.has_errors());
    }

    #[test]
    fn a_place_outside_the_text_still_renders() {
        let one = Diagnostic::error("f", "x", Some(Position { line: 9, column: 9 }), "gone");
        assert_eq!(one.to_string(), "f:9:9: error: gone");
        let past_the_end = Diagnostic::error("f", "x", Some(Position { line: 1, column: 9 }), "gone");
        assert!(past_the_end.to_string().ends_with('^'));
        let quote_at_the_end = Diagnostic::error("f", "x: '", Some(Position { line: 1, column: 4 }), "open");
        assert!(quote_at_the_end.to_string().ends_with("    ^"));
    }

    #[test]
    fn of_a_very_long_line_the_part_around_the_place_is_shown() {
        let text = format!("{}[bad]{}", "é".repeat(10_000), "x".repeat(10_000));
        let one = Diagnostic::error("f", &text, Some(Position { line: 1, column: 10_002 }), "it");
        let shown = one.to_string();
        assert!(shown.len() < 1000, "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let marker = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().skip(marker).take(3).collect::<String>(), "bad", "{shown}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let one = Diagnostic::error("f", "a\u{1b}[2Jb", Some(Position { line: 1, column: 1 }), "escape");
        assert!(!one.to_string().contains('\u{1b}'));
    }

    #[test]
    fn did_you_mean_finds_near_words_only() {
        assert_eq!(did_you_mean("pakages", ["packages", "name"]), Some("packages"));
        assert_eq!(did_you_mean("nmae", ["packages", "name"]), Some("name"));
        assert_eq!(did_you_mean("zebra", ["packages", "name"]), None);
        assert_eq!(did_you_mean("", ["packages"]), None);
    }
}
