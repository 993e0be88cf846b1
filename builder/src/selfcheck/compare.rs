//! Comparing what two builds made.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{SelfCheckError, io_error};
use crate::signing::hex;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A file that both builds made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: String,
}

/// The first difference between two folders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The first file, in the order of names, that is not the same.
    pub name: String,
    /// What about it.
    pub how: How,
}

/// How a file differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Only the first build made it.
    OnlyFirst,
    /// Only the second build made it.
    OnlySecond,
    /// The content.
    Content {
        /// The first byte that differs.
        offset: u64,
        /// Lengths in bytes.
        bytes: [u64; 2],
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::OnlyFirst => write!(f, "only the first build made {}", self.name),
            How::OnlySecond => write!(f, "only the second build made {}", self.name),
            How::Content { offset, bytes: [first, second] } => {
                write!(f, "{} differs from byte {offset} on (lengths {first} and {second})", self.name)
            }
        }
    }
}

/// The files of two folders that are the same, in the order of names, up to the first that differs. Names that begin with a dot do not
/// count.
pub(super) fn folders(
    first: &Path,
    second: &Path,
) -> Result<(Vec<Compared>, Option<Difference>), SelfCheckError> {
    let (ours, theirs) = (names(first)?, names(second)?);
    let mut same = Vec::new();
    for name in ours.union(&theirs) {
        let how = match (ours.contains(name), theirs.contains(name)) {
            (true, false) => Err(How::OnlyFirst),
            (false, _) => Err(How::OnlySecond),
            (true, true) => {
                let (one, two) = (first.join(name), second.join(name));
                files(&one, &two).map_err(io_error("compare", &one))?
            }
        };
        match how {
            Ok((bytes, sha256)) => same.push(Compared { name: name.clone(), bytes, sha256 }),
            Err(how) => return Ok((same, Some(Difference { name: name.clone(), how }))),
        }
    }
    Ok((same, None))
}

fn names(folder: &Path) -> Result<BTreeSet<String>, SelfCheckError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Length and digest of two equal files, or where they differ.
fn files(one: &Path, two: &Path) -> io::Result<Result<(u64, String), How>> {
    let (mut first, mut second) = (File::open(one)?, File::open(two)?);
    let bytes = [first.metadata()?.len(), second.metadata()?.len()];
    let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut hasher = Sha256::new();
    let mut offset = 0;
    loop {
        let (a, b) = (fill(&mut first, &mut ours)?, fill(&mut second, &mut theirs)?);
        if a != b {
            let equal = a.iter().zip(b).take_while(|(x, y)| x == y).count();
            return Ok(Err(How::Content { offset: offset + equal as u64, bytes }));
        }
        if a.is_empty() {
            return Ok(Ok((offset, hex(&hasher.finalize()))));
        }
        hasher.update(a);
        offset += a.len() as u64;
    }
}

/// Reads until the buffer is full or the file ends.
fn fill<'b>(file: &mut File, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and contents.
    type Files<'a> = &'a [(&'a str, &'a [u8])];

    /// The difference between two folders with these files.
    fn difference(first: Files<'_>, second: Files<'_>) -> (usize, Option<String>) {
        let folder = |files: Files<'_>| {
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            folder
        };
        let (one, two) = (folder(first), folder(second));
        let (same, difference) = folders(one.path(), two.path()).unwrap();
        (same.len(), difference.map(|difference| difference.to_string()))
    }

    #[test]
    fn the_first_file_that_differs_is_named_with_the_place() {
        let large = vec![7; CHUNK + 10];
        let mut changed = large.clone();
        changed[CHUNK + 3] = 8;
        let cases: [(Files<'_>, Files<'_>, usize, Option<&str>); 5] = [
            (&[("a", b"1"), ("b", &large)], &[("a", b"1"), ("b", &large)], 2, None),
            (
                &[("a", b"1"), ("b", &large), ("c", b"x")],
                &[("a", b"1"), ("b", &changed), ("c", b"y")],
                1,
                Some("b differs from byte 1048579 on (lengths 1048586 and 1048586)"),
            ),
            (&[("a", b"12")], &[("a", b"1")], 0, Some("a differs from byte 1 on (lengths 2 and 1)")),
            (&[("a", b"1"), ("b", b"")], &[("a", b"1")], 1, Some("only the first build made b")),
            (&[(".x", b"1")], &[(".x", b"2"), ("a", b"")], 0, Some("only the second build made a")),
        ];
        for (first, second, same, message) in cases {
            assert_eq!(difference(first, second), (same, message.map(str::to_owned)));
        }
    }
}
