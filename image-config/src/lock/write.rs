//! Types to text: one line for each thing, sorted, so that a change of one package is a change of one line.

use std::fmt;

use super::{FORM, Lock};

impl fmt::Display for Lock {
    /// The content of a lock file. What [`Lock::parse`] makes of it is equal to `self`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "# Written by `ferrite lock`, which is also the way to change it. Format: docs/formats/lock.md\n",
        )?;
        writeln!(f, "ferrite-lock {FORM}")?;
        writeln!(f, "architecture {}", self.inputs.architecture)?;
        for component in &self.inputs.components {
            writeln!(f, "component {component}")?;
        }
        for (suite, date) in self.suites() {
            writeln!(f, "suite {suite} {date}")?;
        }
        for request in &self.inputs.requests {
            writeln!(f, "request {request}")?;
        }
        for provided in &self.inputs.provides {
            match &provided.version {
                Some(version) => writeln!(f, "provide {} {version}", provided.name)?,
                None => writeln!(f, "provide {}", provided.name)?,
            }
        }
        for package in &self.packages {
            writeln!(
                f,
                "package {} {} {} {} {} {} {}",
                package.name,
                package.version,
                package.architecture,
                package.suite,
                package.size,
                package.sha256,
                package.filename,
            )?;
        }
        Ok(())
    }
}
