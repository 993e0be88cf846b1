//! A text as it was given, and the way from what is read back to it.

use crate::diagnostic::{Diagnostic, Position};

/// A text that findings point into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Its name for messages.
    pub name: String,
    /// All of it, as it was given.
    pub text: String,
    /// Lines of it before the part that is read.
    pub lines_before: usize,
    /// What was replaced in the part before it was read, in order.
    pub edits: Vec<Edit>,
}

/// A word that was replaced by another within a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// Line, from 1, of the part that is read.
    pub line: usize,
    /// Column of the new word, from 1.
    pub column: usize,
    /// Characters of the old word.
    pub old: usize,
    /// Characters of the new one.
    pub new: usize,
}

impl Source {
    /// The place in the text that was given, of one in what is read.
    #[must_use]
    pub fn place(&self, at: Position) -> Position {
        let first = self.edits.partition_point(|edit| edit.line < at.line);
        let mut column = at.column;
        for edit in self.edits.iter().skip(first).take_while(|edit| edit.line == at.line) {
            if edit.column + edit.new <= at.column {
                column = column + edit.old - edit.new.min(column);
            } else if edit.column <= at.column {
                // Within the new word: the old one is meant.
                column = (column + edit.column).saturating_sub(at.column);
                break;
            } else {
                break;
            }
        }
        Position { line: at.line + self.lines_before, column: column.max(1) }
    }

    /// A finding at a place in what is read.
    #[must_use]
    pub fn error(&self, at: Option<Position>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.name, &self.text, at.map(|at| self.place(at)), message)
    }

    /// The same finding, whose place is in what is read, for the text that was given.
    #[must_use]
    pub fn adopt(&self, found: Diagnostic) -> Diagnostic {
        let severity = found.severity;
        let mut one = self.error(found.position, found.message).with_hint(found.hint);
        one.severity = severity;
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_back_to_what_was_given() {
        // a: $private_ipv4:4001 $public_ipv4 x   ->   a: 10.0.0.1:4001 1.2.3.4 x
        let source = Source {
            edits: vec![
                Edit { line: 2, column: 4, old: 13, new: 8 },
                Edit { line: 2, column: 18, old: 12, new: 7 },
            ],
            lines_before: 10,
            ..Source::default()
        };
        let cases = [
            (1, 20, 20),
            (2, 1, 1),
            (2, 4, 4),
            (2, 7, 4),
            (2, 12, 17),
            (2, 18, 23),
            (2, 20, 23),
            (2, 26, 36),
            (3, 9, 9),
        ];
        for (line, column, want) in cases {
            assert_eq!(
                source.place(Position { line, column }),
                Position { line: line + 10, column: want },
                "{line}:{column}"
            );
        }
    }
}
