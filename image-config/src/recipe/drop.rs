//! Patterns of paths, and the ordered rules that say which files of the packages stay out of the image.

use std::fmt;

use super::names::NameError;

/// A pattern of paths: `*` and `?` match within a component, `**` as a whole component matches any number of
/// components, `[abc]`, `[a-z]` and `[!abc]` one character of a set, `\` takes the next character as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    components: Vec<Component>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    /// `**`
    AnyDepth,
    One(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyCharacter,
    AnyRun,
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// Reads a pattern. A leading `/` is allowed and means nothing.
    ///
    /// # Errors
    /// [`NameError`] when the pattern is empty, has an empty component, an open `[` or a lone `\` at its end.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let path = text.strip_prefix('/').unwrap_or(text);
        if path.is_empty() {
            return Err(NameError::new("the pattern is empty"));
        }
        let components = path
            .split('/')
            .map(|component| match component {
                "" => Err(NameError::new(format!("pattern `{text}` has an empty component")).hint(
                    "no `//` and no `/` at the end: a pattern that matches a folder covers what is in it",
                )),
                "**" => Ok(Component::AnyDepth),
                other if other.contains("**") => {
                    Err(NameError::new(format!("`**` in `{text}` is not alone"))
                        .hint("`**` stands between slashes, `*` matches within a name"))
                }
                other => tokens(other)
                    .map(Component::One)
                    .map_err(|problem| NameError::new(format!("pattern `{text}`: {problem}"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), components })
    }

    /// Whether the whole of `path` matches; a leading `/` of it means nothing.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        matches_components(&self.components, &parts)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which files of the packages stay out of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DropRules(Vec<(Pattern, Verdict)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Drop,
    Keep,
}

impl DropRules {
    /// Appends a rule as the recipe writes it: an absolute pattern, with `!` before it to keep what an earlier
    /// rule drops.
    ///
    /// # Errors
    /// [`NameError`] when the pattern is not absolute or broken.
    pub fn push(&mut self, text: &str) -> Result<(), NameError> {
        let (pattern, verdict) = match text.strip_prefix('!') {
            Some(rest) => (rest, Verdict::Keep),
            None => (text, Verdict::Drop),
        };
        if !pattern.starts_with('/') {
            return Err(NameError::new(format!("pattern `{text}` is not absolute"))
                .hint("such as `/usr/share/man` or `!/usr/share/doc/*/copyright`"));
        }
        self.0.push((Pattern::parse(pattern)?, verdict));
        Ok(())
    }

    /// Whether the file at this absolute path is dropped: the last rule decides whose pattern matches the path or
    /// a folder above it.
    ///
    /// Meant for everything but folders; a folder for which this is true goes when nothing is left in it.
    #[must_use]
    pub fn drops(&self, path: &str) -> bool {
        self.deciding(path).is_some_and(|rule| rule.drops)
    }

    /// The rule that decides about the file at this absolute path, if any does.
    #[must_use]
    pub fn deciding(&self, path: &str) -> Option<DropRule<'_>> {
        let path = path.trim_start_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let covers = |pattern: &Pattern| {
            (1..=parts.len())
                .any(|end| parts.get(..end).is_some_and(|head| matches_components(&pattern.components, head)))
        };
        let (index, (pattern, verdict)) =
            self.0.iter().enumerate().rev().find(|(_, (pattern, _))| covers(pattern))?;
        Some(DropRule { index, pattern, drops: *verdict == Verdict::Drop })
    }
}

/// A rule that decides about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropRule<'a> {
    /// Which one of the recipe's `drop:`, from 0.
    pub index: usize,
    /// Its pattern, without `!`.
    pub pattern: &'a Pattern,
    /// Whether it drops; else it keeps.
    pub drops: bool,
}

fn tokens(component: &str) -> Result<Vec<Token>, &'static str> {
    let mut out = Vec::new();
    let mut rest = component.chars();
    while let Some(c) = rest.next() {
        out.push(match c {
            '*' => Token::AnyRun,
            '?' => Token::AnyCharacter,
            '\\' => Token::Literal(rest.next().ok_or("nothing follows the last `\\`")?),
            '[' => set(&mut rest)?,
            c => Token::Literal(c),
        });
    }
    Ok(out)
}

fn set(rest: &mut std::str::Chars<'_>) -> Result<Token, &'static str> {
    const OPEN: &str = "`[` is not closed";
    let mut next = rest.next().ok_or(OPEN)?;
    let negated = next == '!' || next == '^';
    if negated {
        next = rest.next().ok_or(OPEN)?;
    }
    let mut ranges = Vec::new();
    loop {
        // A `]` right after the opening is a member, as in every shell.
        if next == ']' && !ranges.is_empty() {
            return Ok(Token::Set { negated, ranges });
        }
        let mut ahead = rest.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(end)) if end != ']' => {
                ranges.push((next, end));
                *rest = ahead;
            }
            _ => ranges.push((next, next)),
        }
        next = rest.next().ok_or(OPEN)?;
    }
}

fn matches_components(pattern: &[Component], parts: &[&str]) -> bool {
    wildcard(
        pattern,
        parts,
        |c| matches!(c, Component::AnyDepth),
        |component, part| match component {
            Component::AnyDepth => true,
            Component::One(tokens) => {
                let characters: Vec<char> = part.chars().collect();
                wildcard(tokens, &characters, |t| matches!(t, Token::AnyRun), matches_character)
            }
        },
    )
}

fn matches_character(token: &Token, c: &char) -> bool {
    match token {
        Token::Literal(want) => want == c,
        Token::AnyCharacter | Token::AnyRun => true,
        Token::Set { negated, ranges } => {
            ranges.iter().any(|(from, to)| (from..=to).contains(&c)) != *negated
        }
    }
}

/// Matches `subject` against `pattern`, in which some elements stand for any run. Going back to the last such
/// element alone is enough, so the time is at most the product of the lengths, whatever the pattern.
fn wildcard<P, S>(
    pattern: &[P],
    subject: &[S],
    any_run: impl Fn(&P) -> bool,
    one: impl Fn(&P, &S) -> bool,
) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), subject.get(seen)) {
            (None, None) => return true,
            (Some(element), _) if any_run(element) => {
                retry = Some((at, seen));
                at += 1;
                continue;
            }
            (Some(element), Some(item)) if one(element, item) => {
                at += 1;
                seen += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((star, from)) if from < subject.len() => {
                retry = Some((star, from + 1));
                (at, seen) = (star + 1, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        let cases: &[(&str, &str, bool)] = &[
            ("/usr/share/man", "/usr/share/man", true),
            ("/usr/share/man", "/usr/share/man/man1", false),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/bash/copyright", true),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/copyright", false),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/b/copyright", false),
            ("/usr/**/x", "/usr/x", true),
            ("/usr/**/x", "/usr/a/b/x", true),
            ("/usr/**/x", "/usr/a/b/xy", false),
            ("/usr/**", "/usr/a/b", true),
            ("/a/lib?.so", "/a/libc.so", true),
            ("/a/lib?.so", "/a/lib.so", false),
            ("/a/[a-c]x", "/a/bx", true),
            ("/a/[!a-c]x", "/a/bx", false),
            ("/a/[]]", "/a/]", true),
            ("/a/[a-]", "/a/-", true),
            ("/a/\\*", "/a/*", true),
            ("/a/\\*", "/a/b", false),
            ("/a/*b*c", "/a/xbybzc", true),
            ("drivers/net/**/virtio*", "drivers/net/virtio_net.ko.xz", true),
        ];
        for (pattern, path, want) in cases {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(path), *want, "{pattern} on {path}");
        }
        for broken in ["", "/", "//a", "/a/", "/a/[b", "/a/\\", "/a/b**"] {
            assert!(Pattern::parse(broken).is_err(), "{broken:?} is accepted");
        }
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let mut rules = DropRules::default();
        for rule in ["/usr/share/doc/*", "!/usr/share/doc/*/copyright", "/usr/share/doc/secret"] {
            rules.push(rule).unwrap();
        }
        assert!(rules.drops("/usr/share/doc/bash/README"));
        assert!(!rules.drops("/usr/share/doc/bash/copyright"));
        assert!(rules.drops("/usr/share/doc/secret/copyright"));
        assert!(!rules.drops("/usr/bin/bash"));
        let deciding = |path| rules.deciding(path).map(|rule| (rule.index, rule.drops));
        assert_eq!(deciding("/usr/share/doc/bash/copyright"), Some((1, false)));
        assert_eq!(deciding("/usr/share/doc/bash/README"), Some((0, true)));
        assert_eq!(deciding("/usr/bin/bash"), None);
        assert!(rules.push("usr/share").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_a_literal_matches_itself(text in "\\PC{0,20}", name in "[a-z/]{1,20}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&name);
            }
            if let Ok(pattern) = Pattern::parse(&name) {
                prop_assert!(pattern.matches(&name));
            }
        }
    }
}
