//! Traces: what scenarios left behind, as text by scenario.

use std::collections::BTreeMap;
use std::fmt;

/// Starts the block of a scenario.
const MARK: &str = "=== ";

/// The trace of each scenario, by name. Its text form is a block a scenario: `=== NAME`, then the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces(pub BTreeMap<String, String>);

impl Traces {
    /// Reads the text form. Bytes of zero, with which the guest fills sectors, are passed over, and so is what stands before
    /// the first block (the file's comment).
    pub fn parse(text: &str) -> Self {
        let mut traces = BTreeMap::new();
        let mut current: Option<(String, String)> = None;
        let text = text.replace('\0', "");
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(MARK) {
                traces.extend(current.replace((name.trim().to_owned(), String::new())));
            } else if let Some((_, block)) = &mut current {
                block.push_str(line.trim_end());
                block.push('\n');
            }
        }
        traces.extend(current);
        Self(traces)
    }

    /// The trace of a scenario.
    pub fn get(&self, scenario: &str) -> Option<&str> {
        self.0.get(scenario).map(String::as_str)
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, block) in &self.0 {
            write!(f, "{MARK}{name}\n{block}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart_and_padding_is_passed_over() {
        let traces = Traces::parse("# comment\n=== a/1\nx: 0\n\0\0=== a/2\n\0");
        assert_eq!(traces.get("a/1"), Some("x: 0\n"));
        assert_eq!(traces.get("a/2"), Some(""));
        assert_eq!(traces.get("a/3"), None);
        assert_eq!(Traces::parse(&traces.to_string()), traces);
    }
}
