//! What an interrupted run has already made: so that going on after a power cut finds its own files no obstacle, and appends to none of
//! them twice.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Paths that were made, one a line in a file that is removed when all is done.
#[derive(Debug, Default)]
pub struct Journey {
    before: BTreeSet<String>,
    file: Option<File>,
}

impl Journey {
    /// Goes on with the journey that is noted at `path`, or begins one.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let before = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // A line without its end is one that a power cut has cut.
        let whole = before.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let before = whole.lines().map(str::to_owned).collect();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { before, file: Some(file) })
    }

    /// One that is noted nowhere: for what may be done again.
    pub fn unnoted() -> Self {
        Self::default()
    }

    /// Whether an earlier run has made this path.
    pub fn has_made(&self, path: &str) -> bool {
        self.before.contains(path)
    }

    /// Notes that this path was made.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn made(&mut self, path: &str) -> io::Result<()> {
        match &mut self.file {
            Some(file) if !self.before.contains(path) => file.write_all(format!("{path}\n").as_bytes()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_earlier_run_has_noted_in_full_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journey");
        let mut first = Journey::begin(&path).unwrap();
        first.made("/a b").unwrap();
        assert!(!first.has_made("/a b"), "this run is not an earlier one");
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"/cut").unwrap();
        let second = Journey::begin(&path).unwrap();
        assert!(second.has_made("/a b") && !second.has_made("/cut"));
        let mut unnoted = Journey::unnoted();
        unnoted.made("/x").unwrap();
        assert!(!unnoted.has_made("/x"));
    }
}
