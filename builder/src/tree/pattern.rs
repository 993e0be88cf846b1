//! Patterns of paths: `*` and `?` inside one component, `**` for any number of components.

use super::path::{PathError, normalise};

/// Why a pattern was refused.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The pattern is no path.
    #[error("pattern {pattern:?} is no path")]
    Path {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// `**` beside other characters would promise something that it does not do.
    #[error("pattern {pattern:?}: '**' must be a whole component, as in 'usr/**/doc'")]
    DoubleStar {
        /// The pattern as given.
        pattern: String,
    },
    /// The pattern would match the whole image.
    #[error("pattern {pattern:?} has no component")]
    Empty {
        /// The pattern as given.
        pattern: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`: any number of components, none included, but at least one when it is the last part.
    Any,
    /// One component with `*` and `?`.
    One(Vec<u8>),
}

/// A pattern of absolute paths. A leading `/` means nothing: every pattern starts at the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    /// Reads a pattern such as `/usr/share/doc/**`, `usr/lib/*.a` or `/usr/**/__pycache__`.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let components = normalise(pattern.as_bytes())
            .map_err(|source| PatternError::Path { pattern: pattern.into(), source })?;
        let mut parts = Vec::new();
        for component in components {
            if component == b"**" {
                if parts.last() != Some(&Part::Any) {
                    parts.push(Part::Any);
                }
            } else if component.windows(2).any(|pair| pair == b"**") {
                return Err(PatternError::DoubleStar { pattern: pattern.into() });
            } else {
                parts.push(Part::One(component.to_vec()));
            }
        }
        if parts.is_empty() {
            return Err(PatternError::Empty { pattern: pattern.into() });
        }
        Ok(Self { parts })
    }

    /// Whether the pattern matches the whole of `path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        let Ok(names) = normalise(path) else { return false };
        // One row of the usual table: reached[i] says that the parts so far match the first i components.
        let mut reached = vec![false; names.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        for (index, part) in self.parts.iter().enumerate() {
            let last = index + 1 == self.parts.len();
            reached = advance(&reached, part, last, &names);
        }
        reached.last().copied().unwrap_or(false)
    }
}

fn advance(reached: &[bool], part: &Part, last: bool, names: &[&[u8]]) -> Vec<bool> {
    let mut next = Vec::with_capacity(reached.len());
    match part {
        Part::Any => {
            let mut seen = false;
            for &here in reached {
                next.push(if last { seen } else { seen || here });
                seen |= here;
            }
        }
        Part::One(glob) => {
            next.push(false);
            next.extend(reached.iter().zip(names).map(|(&here, name)| here && matches_component(glob, name)));
        }
    }
    next
}

/// Backtracks to the last `*` only, which is enough: an earlier one could not do better.
fn matches_component(glob: &[u8], name: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(position) {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => {
                at += 1;
                position += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                position = taken + 1;
            }
        }
    }
    glob.get(at..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_what_their_docs_say() {
        let cases = [
            ("/usr/share/doc/**", "usr/share/doc", false),
            ("/usr/share/doc/**", "usr/share/doc/bash", true),
            ("/usr/share/doc/**", "usr/share/doc/bash/copyright", true),
            ("usr/share/doc", "/usr/share/doc", true),
            ("/usr/lib/*.a", "usr/lib/libc.a", true),
            ("/usr/lib/*.a", "usr/lib/x86_64-linux-gnu/libc.a", false),
            ("/usr/**/*.a", "usr/lib/x86_64-linux-gnu/libc.a", true),
            ("/usr/**/*.a", "usr/libc.a", true),
            ("**/__pycache__", "usr/lib/python3/__pycache__", true),
            ("**/__pycache__", "__pycache__", true),
            ("/usr/share/man/??/*", "usr/share/man/de/man1", true),
            ("/usr/share/man/??/*", "usr/share/man/man1/ls.1.gz", false),
            ("/a*b*c", "aXbYbZc", true),
            ("/a*b*c", "aXbYbZ", false),
            ("**", "anything/at/all", true),
            ("**", "", false),
        ];
        for (pattern, path, want) in cases {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path.as_bytes()), want, "{pattern} on {path}");
        }
    }

    #[test]
    fn misleading_patterns_are_refused() {
        assert!(matches!(Pattern::new("/usr/**.a"), Err(PatternError::DoubleStar { .. })));
        assert!(matches!(Pattern::new("/"), Err(PatternError::Empty { .. })));
        assert!(matches!(Pattern::new("a/../b"), Err(PatternError::Path { .. })));
    }

    /// The obvious exponential matcher, as the reference.
    fn slow(glob: &[u8], name: &[u8]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => slow(rest, name),
            (Some((b'*', rest)), Some((_, after))) => slow(rest, name) || slow(glob, after),
            (Some((want, rest)), Some((byte, after))) => (*want == b'?' || want == byte) && slow(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn one_component_matches_as_the_slow_matcher_says(glob in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(matches_component(glob.as_bytes(), name.as_bytes()), slow(glob.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn a_path_matches_itself_and_under_double_star(path in "[a-c]{1,3}(/[a-c]{1,3}){0,4}") {
            prop_assert!(Pattern::new(&path).unwrap().matches(path.as_bytes()));
            let below = format!("**/{}", path.rsplit('/').next().unwrap());
            prop_assert!(Pattern::new(&below).unwrap().matches(path.as_bytes()));
        }
    }
}
