//! What this machine has and lacks for building and running images.
//!
//! Each check looks at the machine first and judges what it saw by a function without I/O. Nothing is changed or fetched: the
//! only thing written is a file that is removed again, in the cache folder, if that exists.

mod host;
mod network;
mod storage;
mod toolchain;

use std::path::PathBuf;

use serde::Serialize;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where images would go.
    pub out: Result<PathBuf, String>,
    /// No mirror is asked.
    pub offline: bool,
    /// Mirrors in place of the host's and the well-known ones.
    pub mirrors: Vec<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Images can be built, but something is slower or harder than it need be.
    Warning,
    /// Images cannot be built.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// Why it matters; only when it is not as it should be.
    pub why: Option<&'static str>,
    /// A command or an action that mends it; only when it is not as it should be.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), why: None, fix: None }
    }

    fn warning(
        name: &'static str,
        found: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) -> Self {
        Self { name, status: Status::Warning, found: found.into(), why: Some(why), fix: Some(fix.into()) }
    }

    fn missing(
        name: &'static str,
        found: impl Into<String>,
        why: &'static str,
        fix: impl Into<String>,
    ) -> Self {
        Self { status: Status::Missing, ..Self::warning(name, found, why, fix) }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is missing that a build needs.
    pub can_build: bool,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        Self { can_build: checks.iter().all(|check| check.status != Status::Missing), checks }
    }

    /// Checks that came out so.
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

/// Looks at everything.
pub fn examine(options: &Options) -> Report {
    let mut checks = vec![host::platform()];
    checks.extend(toolchain::checks(options.offline));
    checks.extend(storage::checks(options));
    checks.extend(network::checks(options));
    checks.extend(host::checks(options.offline));
    Report::new(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_keeps_from_building() {
        let fine = Check::ok("a", "b");
        let slow = Check::warning("a", "b", "c", "d");
        let gone = Check::missing("a", "b", "c", "d");
        assert!(Report::new(vec![fine.clone(), slow.clone()]).can_build);
        let report = Report::new(vec![fine, slow, gone]);
        assert!(!report.can_build);
        assert_eq!(report.count(Status::Warning), 1);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (json["checks"][2]["status"].as_str(), json["checks"][0]["fix"].as_str()),
            (Some("missing"), None)
        );
    }
}
