//! Relations between packages (Debian policy 7.1): `a (>= 1) | b:any, c`.

use std::cmp::Ordering;
use std::fmt;

use crate::version::{Version, VersionError};

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=` (and the obsolete `<`)
    EarlierEqual,
    /// `=`
    Equal,
    /// `>=` (and the obsolete `>`)
    LaterEqual,
    /// `>>`
    Later,
}

impl Operator {
    /// Whether `version OP bound` holds.
    pub fn holds(self, version: &Version, bound: &Version) -> bool {
        let order = version.cmp(bound);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierEqual => "<=",
            Self::Equal => "=",
            Self::LaterEqual => ">=",
            Self::Later => ">>",
        }
    }
}

/// One alternative of a dependency: `name[:qualifier] [(OP version)]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Package or virtual package.
    pub name: String,
    /// What follows the colon: `any`, `native` or an architecture.
    pub qualifier: Option<String>,
    /// The version that is asked for.
    pub bound: Option<(Operator, Version)>,
    /// Architectures of `[...]`, as written; empty when there is no restriction.
    pub architectures: Vec<String>,
}

/// One dependency: alternatives of which one must hold. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency(pub Vec<Relation>);

/// A name that a package provides, with a version or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provide {
    /// Virtual package.
    pub name: String,
    /// Version of `name (= version)`. Without one, only relations without a version are satisfied.
    pub version: Option<Version>,
}

/// A relation field that breaks the grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the relation {text:?}: {problem}")]
pub struct RelationError {
    /// The alternative that was refused.
    pub text: String,
    /// What is wrong with it.
    pub problem: RelationProblem,
}

/// The rule that a relation breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelationProblem {
    /// No package name where one is needed.
    #[error("a package name is missing")]
    NoName,
    /// A character that no package name has.
    #[error("{0:?} is not allowed in a package name")]
    Name(char),
    /// A version restriction without its end or its operator.
    #[error("expected `(OPERATOR VERSION)` with one of << <= = >= >>")]
    Bound,
    /// The version itself.
    #[error(transparent)]
    Version(VersionError),
    /// Something behind the relation.
    #[error("unexpected text {0:?}")]
    Trailing(String),
    /// `Provides` has no alternatives and only `=`.
    #[error("a provided name has no alternatives, and no operator but '='")]
    Provide,
}

impl Relation {
    /// A relation without qualifier, version or architectures.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), qualifier: None, bound: None, architectures: Vec::new() }
    }

    /// Whether the relation applies when building or installing for `architecture` (`[amd64 !i386]` lists).
    pub fn applies_to(&self, architecture: &str) -> bool {
        let Some(first) = self.architectures.first() else { return true };
        let matches = |entry: &str| {
            let entry = entry.strip_prefix('!').unwrap_or(entry);
            entry == architecture || entry == "any" || entry == "linux-any"
        };
        let listed = self.architectures.iter().any(|entry| matches(entry));
        listed != first.starts_with('!')
    }

    /// Whether a package of that name with this version satisfies the bound.
    pub fn accepts(&self, version: &Version) -> bool {
        self.bound.as_ref().is_none_or(|(operator, bound)| operator.holds(version, bound))
    }
}

/// Checks the characters of a package's name (Debian policy 5.6.7, but upper case is let pass): what passes is safe as
/// a part of a path.
pub(crate) fn check_name(name: &str) -> Result<&str, RelationError> {
    well_named(name).map_err(|problem| RelationError { text: name.to_owned(), problem })
}

fn well_named(name: &str) -> Result<&str, RelationProblem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    match name.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(RelationProblem::Name(character)),
        None if name.is_empty() => Err(RelationProblem::NoName),
        None if name.starts_with('.') => Err(RelationProblem::Name('.')),
        None => Ok(name),
    }
}

/// Splits `rest` at the end of a group opened by `open`, if it starts with one.
fn group(rest: &str, open: char, close: char) -> Result<Option<(&str, &str)>, RelationProblem> {
    let Some(inside) = rest.strip_prefix(open) else { return Ok(None) };
    let (content, after) = inside.split_once(close).ok_or(RelationProblem::Bound)?;
    Ok(Some((content.trim(), after.trim_start())))
}

fn parse_bound(text: &str) -> Result<(Operator, Version), RelationProblem> {
    let operators = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierEqual),
        (">=", Operator::LaterEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
        ("<", Operator::EarlierEqual),
        (">", Operator::LaterEqual),
    ];
    let (operator, version) = operators
        .iter()
        .find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)))
        .ok_or(RelationProblem::Bound)?;
    Ok((operator, version.trim().parse().map_err(RelationProblem::Version)?))
}

fn parse_relation(text: &str) -> Result<Relation, RelationProblem> {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | '<')).unwrap_or(text.len());
    let (head, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let (name, qualifier) = match head.split_once(':') {
        Some((name, qualifier)) => (name, Some(well_named(qualifier)?.to_owned())),
        None => (head, None),
    };
    let name = well_named(name)?.to_owned();
    let mut rest = rest.trim_start();
    let mut bound = None;
    if let Some((content, after)) = group(rest, '(', ')')? {
        (bound, rest) = (Some(parse_bound(content)?), after);
    }
    let mut architectures = Vec::new();
    if let Some((content, after)) = group(rest, '[', ']')? {
        architectures = content.split_ascii_whitespace().map(str::to_owned).collect();
        rest = after;
    }
    while let Some((_profiles, after)) = group(rest, '<', '>')? {
        rest = after; // build profiles mean nothing for binary packages
    }
    if !rest.is_empty() {
        return Err(RelationProblem::Trailing(rest.to_owned()));
    }
    Ok(Relation { name, qualifier, bound, architectures })
}

/// Parses a relation field (`Depends` and its like). An empty text is an empty list; empty elements between commas,
/// which dpkg tolerates, are skipped.
///
/// # Errors
/// The first alternative that breaks the grammar.
pub fn parse_dependencies(text: &str) -> Result<Vec<Dependency>, RelationError> {
    let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
    elements
        .map(|element| {
            let alternatives = element.split('|').map(str::trim);
            let parse = |text: &str| {
                parse_relation(text).map_err(|problem| RelationError { text: text.to_owned(), problem })
            };
            Ok(Dependency(alternatives.map(parse).collect::<Result<_, _>>()?))
        })
        .collect()
}

/// Parses a `Provides` field.
///
/// # Errors
/// As [`parse_dependencies`]; alternatives and operators other than `=`.
pub fn parse_provides(text: &str) -> Result<Vec<Provide>, RelationError> {
    let provide = |dependency: Dependency| {
        let refuse =
            |d: &Dependency| RelationError { text: d.to_string(), problem: RelationProblem::Provide };
        match dependency.0.as_slice() {
            [Relation { name, bound: None, .. }] => Ok(Provide { name: name.clone(), version: None }),
            [Relation { name, bound: Some((Operator::Equal, version)), .. }] => {
                Ok(Provide { name: name.clone(), version: Some(version.clone()) })
            }
            _ => Err(refuse(&dependency)),
        }
    };
    parse_dependencies(text)?.into_iter().map(provide).collect()
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.bound {
            write!(f, " ({} {version})", operator.as_str())?;
        }
        if !self.architectures.is_empty() {
            write!(f, " [{}]", self.architectures.join(" "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, relation) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            relation.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dependencies_are_parsed_and_shown_in_one_form() {
        let cases = [
            ("libc6 (>= 2.41), a|b (<<2)", "libc6 (>= 2.41), a | b (<< 2)"),
            ("python3:any (>= 3.13~)", "python3:any (>= 3.13~)"),
            ("a(=1:2-3),,\n b ", "a (= 1:2-3), b"),
            ("a (< 1) [amd64 i386] <!nocheck>", "a (<= 1) [amd64 i386]"),
            ("", ""),
        ];
        for (text, want) in cases {
            let parsed = parse_dependencies(text).unwrap();
            let shown: Vec<String> = parsed.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(", "), want, "{text:?}");
        }
    }

    #[test]
    fn malformed_relations_are_refused() {
        for text in
            ["a |", "| a", "a (1)", "a (>= 1", "a (>= )", "a b", "a (= 1) (= 2)", "a_b", "(= 1)", "a: (= 1)"]
        {
            assert!(parse_dependencies(text).is_err(), "{text:?}");
        }
        for text in ["a | b", "a (>= 1)"] {
            assert_eq!(parse_provides(text).unwrap_err().problem, RelationProblem::Provide, "{text:?}");
        }
    }

    #[test]
    fn architecture_lists_include_and_exclude() {
        let applies = |text: &str| parse_dependencies(text).unwrap()[0].0[0].applies_to("amd64");
        assert!(applies("a") && applies("a [amd64]") && applies("a [!i386]") && applies("a [linux-any]"));
        assert!(!applies("a [i386]") && !applies("a [!amd64]"));
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in ".{0,40}") {
            let _ = parse_dependencies(&text);
            let _ = parse_provides(&text);
        }

        #[test]
        fn what_is_shown_parses_to_the_same(text in "[a-c]{1,2}(:any)?( \\((<<|<=|=|>=|>>) [0-9]\\))?( \\| [a-c])?") {
            let parsed = parse_dependencies(&text).unwrap();
            let again = parse_dependencies(&parsed[0].to_string()).unwrap();
            prop_assert_eq!(parsed, again);
        }
    }
}
