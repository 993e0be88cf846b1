//! What the product may cost: `tests/budgets.toml`, and the comparison with what was measured.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail};
use builder::guest;
use serde::Deserialize;

/// The file, from the top of the checkout.
const FILE: &str = "tests/budgets.toml";
/// A budget of bytes that is more than this many times what is used guards nothing.
const SLACK: f64 = 1.5;

/// Budgets by section and name. Every number is the most that is allowed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Budgets(BTreeMap<String, BTreeMap<String, f64>>);

/// How close a budget has to be to what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// At most [`SLACK`] times as much: for what is the same in every run.
    Tight,
    /// Any distance: for what depends on the machine.
    Loose,
}

impl Budgets {
    /// The budgets of this checkout.
    ///
    /// # Errors
    /// The file cannot be read or is no list of budgets.
    pub fn load() -> Result<Self> {
        let path = guest::source_folder()?.join(FILE);
        Self::parse(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?)
    }

    /// Reads budgets.
    ///
    /// # Errors
    /// No TOML, or values that are no positive numbers.
    pub fn parse(text: &str) -> Result<Self> {
        let budgets: Self = basic_toml::from_str(text).with_context(|| format!("cannot read {FILE}"))?;
        for (section, lines) in &budgets.0 {
            for (name, allowed) in lines {
                if !allowed.is_finite() || *allowed <= 0.0 {
                    bail!("{FILE}: {section}.{name} = {allowed} allows nothing");
                }
            }
        }
        Ok(budgets)
    }

    /// Compares a section with what was measured, and prints both.
    ///
    /// # Errors
    /// One message for every line that was exceeded, or is far above what it guards; for lines that nothing measures and for
    /// measurements without a line.
    pub fn check(&self, section: &str, fit: Fit, measured: &[(&str, f64)]) -> Result<()> {
        let empty = BTreeMap::new();
        let lines = self.0.get(section).unwrap_or(&empty);
        let mut faults = Vec::new();
        for (name, found) in measured {
            let Some(allowed) = lines.get(*name) else {
                faults.push(format!("{section}.{name} is missing: measured {found}"));
                continue;
            };
            println!("budget {section}.{name}: measured {found}, allowed {allowed}");
            if found > allowed {
                faults.push(format!(
                    "{section}.{name} is exceeded: measured {found}, allowed {allowed} (a change that raises it says why in its \
                     commit)"
                ));
            } else if fit == Fit::Tight && *allowed > found * SLACK {
                faults.push(format!(
                    "{section}.{name} guards nothing: measured {found}, allowed {allowed}, which is more than {SLACK} times as much"
                ));
            }
        }
        for name in lines.keys().filter(|name| measured.iter().all(|(other, _)| other != name)) {
            faults.push(format!("{section}.{name} is measured by nothing"));
        }
        if faults.is_empty() { Ok(()) } else { bail!("{FILE}: {}", faults.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;

    fn check(fit: Fit, measured: &[(&str, f64)]) -> String {
        let budgets = Budgets::parse("[bytes]\nslot = 1_000\nloader = 10.5\n").unwrap();
        budgets.check("bytes", fit, measured).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn the_line_is_named_with_both_numbers() {
        let both = |slot: f64| [("slot", slot), ("loader", 10.0)];
        assert_eq!(check(Fit::Tight, &both(1000.0)), "");
        let exceeded = check(Fit::Tight, &both(1001.0));
        assert!(
            exceeded.starts_with("tests/budgets.toml: bytes.slot is exceeded: measured 1001, allowed 1000"),
            "{exceeded}"
        );
        let far = check(Fit::Tight, &both(600.0));
        assert!(far.contains("bytes.slot guards nothing: measured 600, allowed 1000"), "{far}");
        assert_eq!(check(Fit::Loose, &both(600.0)), "");
        assert!(check(Fit::Loose, &both(2000.0)).contains("exceeded"));
    }

    #[test]
    fn every_line_is_measured_and_every_measurement_has_a_line() {
        let text = check(Fit::Loose, &[("slot", 1.0), ("else", 2.0)]);
        assert!(
            text.contains("bytes.else is missing: measured 2")
                && text.contains("bytes.loader is measured by nothing"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_budget_is_refused() {
        for text in [
            "[bytes]\nslot = \"1\"\n",
            "slot = 1\n",
            "[bytes]\nslot = 0\n",
            "[bytes]\nslot = nan\n",
            "[bytes",
        ] {
            assert!(Budgets::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_line_of_the_file_says_what_was_measured() {
        let text = include_str!("../budgets.toml");
        let budgets = Budgets::parse(text).unwrap();
        let mut lines = 0;
        for line in text.lines().filter(|line| line.contains(" = ")) {
            let (budget, comment) = line.split_once('#').unwrap_or_else(|| panic!("no comment: {line}"));
            let number =
                |text: &str| text.trim().replace('_', "").parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let allowed = number(budget.split('=').nth(1).unwrap());
            let measured = number(comment.trim().split([' ', ':']).next().unwrap());
            assert!(measured > 0.0 && measured <= allowed, "{line}");
            lines += 1;
        }
        assert_eq!(lines, budgets.0.values().map(BTreeMap::len).sum::<usize>());
    }
}
