//! The licence expressions of Debian's machine-readable copyright files (DEP-5, 7.2): `A or B, and C`.
//!
//! `and` binds tighter than `or`, and both bind tighter than what stands behind a comma. Parentheses are not part of the
//! format, but people write them. What cannot be read is one licence of an unknown name.

use std::fmt::Write as _;

/// How deep parentheses may be nested; more is no licence but an attack.
const MAX_DEPTH: usize = 16;
/// The longest expressions of Debian have some 30 words; the bound keeps the nesting that commas make finite.
const MAX_TOKENS: usize = 256;

/// An expression whose leaves are names as Debian writes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expression {
    /// One licence, perhaps with an exception.
    Licence(String),
    /// All of them hold.
    And(Vec<Expression>),
    /// One may be chosen.
    Or(Vec<Expression>),
}

impl Expression {
    /// Reads an expression. Empty text gives a licence with an empty name.
    pub fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let mut parser = Parser { tokens: tokens.get(..MAX_TOKENS).unwrap_or(&tokens), depth: 0 };
        match parser.list() {
            Some(expression) if parser.tokens.is_empty() && tokens.len() <= MAX_TOKENS => expression,
            _ => Self::Licence(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        }
    }

    /// The SPDX expression, with `name` giving that of each licence.
    pub fn to_spdx(&self, name: &dyn Fn(&str) -> String) -> String {
        let mut text = String::new();
        self.write(name, false, &mut text);
        text
    }

    fn write(&self, name: &dyn Fn(&str) -> String, inside_and: bool, text: &mut String) {
        let (parts, joint) = match self {
            Self::Licence(licence) => {
                let spdx = name(licence);
                // A name may stand for a choice (`Perl`).
                let _ = if inside_and && spdx.contains(" OR ") {
                    write!(text, "({spdx})")
                } else {
                    write!(text, "{spdx}")
                };
                return;
            }
            Self::And(parts) => (parts, " AND "),
            Self::Or(parts) => (parts, " OR "),
        };
        let is_and = matches!(self, Self::And(_));
        let mut shown: Vec<String> = Vec::new();
        for part in parts {
            let mut one = String::new();
            part.write(name, is_and, &mut one);
            if !shown.contains(&one) {
                shown.push(one);
            }
        }
        let joined = shown.join(joint);
        let _ = if inside_and && !is_and && shown.len() > 1 {
            write!(text, "({joined})")
        } else {
            write!(text, "{joined}")
        };
    }

    fn join(parts: Vec<Self>, and: bool) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::And(below) if and => flat.extend(below),
                Self::Or(below) if !and => flat.extend(below),
                part => flat.push(part),
            }
        }
        match flat.len() {
            1 => flat.swap_remove(0),
            _ if and => Self::And(flat),
            _ => Self::Or(flat),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    And,
    Or,
    Comma,
    Open,
    Close,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            ',' => (Token::Comma, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Or, rest.len() - rest.trim_start_matches('|').len()),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '|'));
                let word = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
                let token = match word.to_ascii_lowercase().as_str() {
                    "and" => Token::And,
                    "or" | "and/or" => Token::Or,
                    _ => Token::Word(word),
                };
                (token, word.len())
            }
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    tokens
}

struct Parser<'t, 'a> {
    tokens: &'t [Token<'a>],
    depth: usize,
}

impl<'a> Parser<'_, 'a> {
    fn take(&mut self, wanted: Token<'_>) -> bool {
        match self.tokens.split_first() {
            Some((first, rest)) if *first == wanted => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    /// Choices, separated by commas; `, or` makes a choice of what stands before and behind, anything else a sum.
    fn list(&mut self) -> Option<Expression> {
        let mut whole = self.choice()?;
        while self.take(Token::Comma) {
            let and = !self.take(Token::Or);
            if and {
                self.take(Token::And);
            }
            whole = Expression::join(vec![whole, self.choice()?], and);
        }
        Some(whole)
    }

    fn choice(&mut self) -> Option<Expression> {
        let mut parts = vec![self.sum()?];
        while self.take(Token::Or) {
            parts.push(self.sum()?);
        }
        Some(Expression::join(parts, false))
    }

    fn sum(&mut self) -> Option<Expression> {
        let mut parts = vec![self.single()?];
        while self.take(Token::And) {
            parts.push(self.single()?);
        }
        Some(Expression::join(parts, true))
    }

    fn single(&mut self) -> Option<Expression> {
        if self.take(Token::Open) {
            if self.depth >= MAX_DEPTH {
                return None;
            }
            self.depth += 1;
            let inside = self.list()?;
            self.depth -= 1;
            return self.take(Token::Close).then_some(inside);
        }
        let mut words: Vec<&'a str> = Vec::new();
        while let Some((Token::Word(word), rest)) = self.tokens.split_first() {
            words.push(word);
            self.tokens = rest;
        }
        (!words.is_empty()).then(|| Expression::Licence(words.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        Expression::parse(text).to_spdx(&|name| name.replace(' ', "_"))
    }

    #[test]
    fn precedence_is_that_of_the_format() {
        for (text, want) in [
            ("A", "A"),
            ("A or B", "A OR B"),
            ("A or B and C", "A OR B AND C"),
            ("A or B, and C", "(A OR B) AND C"),
            ("A and B, or C and D", "A AND B OR C AND D"),
            ("A with X exception, B and A", "A_with_X_exception AND B AND A"),
            ("(A or B) and C", "(A OR B) AND C"),
            ("A and/or B", "A OR B"),
            ("A | B", "A OR B"),
            ("A OR A", "A"),
            ("A and (B or B)", "A AND B"),
            // What is no expression is a name.
            ("BSD (Regents)", "BSD_(Regents)"),
            ("A or", "A_or"),
            ("and", "and"),
            ("", ""),
            ("(A", "(A"),
        ] {
            assert_eq!(shown(text), want, "{text:?}");
        }
        assert_eq!(
            Expression::parse("Perl and B").to_spdx(&|name| name.replace("Perl", "P OR Q")),
            "(P OR Q) AND B"
        );
    }

    #[test]
    fn deep_nesting_is_no_licence() {
        let deep = format!("{}A{}", "(".repeat(1000), ")".repeat(1000));
        assert_eq!(Expression::parse(&deep), Expression::Licence(deep.clone()));
        let fair = format!("{}A{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
        assert_eq!(Expression::parse(&fair), Expression::Licence("A".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_expression_that_spdx_reads(
            text in "(GPL-2\\+|Expat|and|or|,|\\(|\\)|[ -~é]){0,12}"
        ) {
            let spdx = Expression::parse(&text).to_spdx(&|_| "MIT".to_owned());
            prop_assert!(::spdx::Expression::parse(&spdx).is_ok(), "{spdx:?}");
        }

        #[test]
        fn words_with_connectives_keep_their_names(words in proptest::collection::vec("(A|B|C) (and|or) ", 1..9)) {
            let text = words.concat() + "D";
            let names: Vec<_> = text.split(' ').filter(|word| word.len() == 1).collect();
            let spdx = shown(&text);
            for name in names {
                prop_assert!(spdx.contains(name));
            }
        }
    }
}
