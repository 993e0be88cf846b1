//! Traces side by side, what is known to differ, and the score that the README tells.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

use super::traces::Traces;

/// How one machine's traces compare with the reference's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Scenarios with equal traces.
    pub equal: Vec<String>,
    /// The others: name, and both traces as a difference for people.
    pub different: BTreeMap<String, String>,
}

impl Comparison {
    /// Compares the traces of `scenarios`.
    pub fn new<'a>(scenarios: impl IntoIterator<Item = &'a str>, reference: &Traces, found: &Traces) -> Self {
        let mut comparison = Self::default();
        for name in scenarios {
            match (reference.get(name), found.get(name)) {
                (Some(wanted), Some(got)) if wanted == got => comparison.equal.push(name.to_owned()),
                (wanted, got) => {
                    let text = difference(wanted.unwrap_or("(no trace)\n"), got.unwrap_or("(no trace)\n"));
                    comparison.different.insert(name.to_owned(), text);
                }
            }
        }
        comparison
    }

    /// `conformance: A of B`, the line that the README has.
    pub fn score(&self) -> String {
        format!("conformance: {} of {}", self.equal.len(), self.equal.len() + self.different.len())
    }
}

/// The lines of both texts: ` ` in both, `-` in the reference alone, `+` in the other alone.
fn difference(reference: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (reference.lines().collect(), found.lines().collect());
    let begin = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let most = old.len().min(new.len()) - begin;
    let end =
        old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(one, other)| one == other).count();
    let lines = |mark: char, all: &[&str], from: usize, to: usize| -> String {
        all.get(from..to).unwrap_or_default().iter().map(|line| format!("  {mark}{line}\n")).collect()
    };
    [
        lines(' ', &old, 0, begin),
        lines('-', &old, begin, old.len() - end),
        lines('+', &new, begin, new.len() - end),
        lines(' ', &old, old.len() - end, old.len()),
    ]
    .concat()
}

/// Scenarios whose traces are known to differ, and why. Its text form has a line each, `SCENARIO: EXPLANATION`; lines that begin
/// with `#` are comments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownDifferences(BTreeMap<String, String>);

impl KnownDifferences {
    /// Reads the text form.
    ///
    /// # Errors
    /// A line without an explanation, or a scenario twice.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let place = || format!("{file}:{}", index + 1);
            let (name, why) =
                line.split_once(": ").with_context(|| format!("{}: `SCENARIO: EXPLANATION`", place()))?;
            if why.trim().is_empty() || known.insert(name.to_owned(), why.trim().to_owned()).is_some() {
                bail!("{}: {name} needs one explanation", place());
            }
        }
        Ok(Self(known))
    }

    /// The entries of some scenarios, for a run of these alone.
    #[must_use]
    pub fn only<'a>(mut self, scenarios: impl IntoIterator<Item = &'a str>) -> Self {
        let names: BTreeSet<&str> = scenarios.into_iter().collect();
        self.0.retain(|name, _| names.contains(name.as_str()));
        self
    }

    /// The scenarios whose traces differ and that are not on the list.
    pub fn unlisted(&self, comparison: &Comparison) -> Vec<String> {
        comparison.different.keys().filter(|name| !self.0.contains_key(*name)).cloned().collect()
    }

    /// What contradicts the list, one text for each scenario: differences that are not on it, and entries that do not differ.
    pub fn contradictions(&self, comparison: &Comparison) -> Vec<String> {
        let new = comparison.different.iter().filter(|(name, _)| !self.0.contains_key(*name));
        let new =
            new.map(|(name, text)| format!("{name} differs from systemd (- systemd, + Ferrite):\n{text}"));
        let old = self.0.keys().filter(|name| !comparison.different.contains_key(*name));
        let old = old.map(|name| match comparison.equal.contains(name) {
            true => format!("{name} is listed as different and does not differ: take it off the list"),
            false => format!("{name} is listed as different, and there is no such scenario"),
        });
        new.chain(old).collect()
    }
}

/// The line `conformance: A of B` of a text.
pub fn score_in(text: &str) -> Option<String> {
    let rest = text.split_once("conformance: ")?.1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || " of".contains(c))).unwrap_or(rest.len());
    Some(format!("conformance: {}", rest.get(..end)?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(text: &str) -> Traces {
        Traces::parse(text)
    }

    fn comparison() -> Comparison {
        let reference = traces("=== a\n1\n2\n3\n=== b\n1\n=== c\n1\n");
        Comparison::new(["a", "b", "c"], &reference, &traces("=== a\n1\nx\n3\n=== b\n1\n"))
    }

    #[test]
    fn equal_different_and_missing_traces_are_told_apart() {
        let comparison = comparison();
        assert_eq!(comparison.equal, ["b"]);
        assert_eq!(comparison.different["a"], "   1\n  -2\n  +x\n   3\n");
        assert_eq!(comparison.different["c"], "  -1\n  +(no trace)\n");
        assert_eq!(comparison.score(), "conformance: 1 of 3");
    }

    #[test]
    fn the_list_of_differences_must_be_true() -> Result<()> {
        let known = KnownDifferences::parse("f", "# why\na: it is so\nb: it was so\nd: gone\n")?;
        let problems = known.contradictions(&comparison());
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("c differs from systemd"));
        assert!(problems[1].starts_with("b is listed as different and does not differ"));
        assert!(problems[2].starts_with("d is listed as different, and there is no such"));
        assert_eq!(known.only(["a"]).contradictions(&comparison()).len(), 1);
        assert!(KnownDifferences::parse("f", "a\n").is_err());
        assert!(KnownDifferences::parse("f", "a: x\na: y\n").is_err());
        Ok(())
    }

    #[test]
    fn the_score_is_found_in_a_text() {
        assert_eq!(score_in("| x | conformance: 7 of 9 | y"), Some("conformance: 7 of 9".to_owned()));
        assert_eq!(score_in("conformance"), None);
    }
}
