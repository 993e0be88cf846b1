//! Which Rust crates are linked into a program of the image: asked of cargo, which knows the features and the target.
//!
//! `cargo tree` and not `cargo metadata`: the latter resolves the features of the whole workspace together, and so lists crates that
//! only the builder's features need; it also wants the sources of development dependencies, which a machine that only builds images
//! does not have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// Separator of fields in the format that [`query`] asks for: in no licence. The package comes last, because a path may have it.
const FIELD: char = '|';

/// A program and what is linked into it. Plain data, that may be kept beside the built program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedProgram {
    /// Name of the program's package in the workspace.
    pub package: String,
    /// Release of the Rust toolchain, whose standard library is part of the program.
    pub toolchain: String,
    /// All crates, that of the package among them, in the order of names and versions.
    pub crates: Vec<LinkedCrate>,
}

/// A crate of a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkedCrate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence as `Cargo.toml` has it; empty when it has none.
    pub licence: String,
    /// Whether it is a crate of this workspace.
    pub own: bool,
    /// SHA-256 of the `.crate` file in hexadecimal, from the lock file.
    pub sha256: Option<String>,
    /// The crates that it needs, as name and version, sorted.
    pub depends: Vec<(String, String)>,
}

/// Why the crates of a program are not known.
#[derive(Debug, thiserror::Error)]
pub enum CratesError {
    /// A tool of the toolchain could not be started.
    #[error(
        "cannot run {program} to list the crates of {package} (the Rust toolchain is needed; install it with rustup)"
    )]
    Run {
        /// The tool.
        program: &'static str,
        /// The program's package.
        package: String,
        /// What the system said.
        source: io::Error,
    },
    /// Cargo refused.
    #[error("`cargo tree` cannot list the crates of {package}:\n{output}")]
    Cargo {
        /// The program's package.
        package: String,
        /// What cargo printed.
        output: String,
    },
    /// Cargo printed something that this does not read.
    #[error("`cargo tree` printed a line that is not understood: {line:?}")]
    Line {
        /// The line.
        line: String,
    },
    /// The lock file cannot be read.
    #[error("cannot read {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Lists the crates of `package`, built for `target` with the compiler flags `flags`, from the checkout in `source`. Build scripts,
/// procedural macros and development dependencies are not part of a program. Cargo fetches what it has not got: the program may come
/// from a cache that outlived cargo's.
///
/// # Errors
/// [`CratesError`].
pub fn linked(
    source: &Path,
    package: &str,
    target: &str,
    flags: &[&str],
) -> Result<LinkedProgram, CratesError> {
    let lock_path = source.join("Cargo.lock");
    let lock =
        fs::read_to_string(&lock_path).map_err(|source| CratesError::Lock { path: lock_path, source })?;
    let tree = query(source, package, target, flags)?;
    let crates = parse_tree(&tree, &checksums(&lock))?;
    Ok(LinkedProgram { package: package.to_owned(), toolchain: toolchain(source, package)?, crates })
}

fn query(source: &Path, package: &str, target: &str, flags: &[&str]) -> Result<String, CratesError> {
    let mut command = Command::new("cargo");
    command
        .current_dir(source)
        .args(["tree", "--locked", "--quiet", "--color", "never", "--charset", "ascii"])
        .args([
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "depth",
            "--package",
            package,
            "--target",
            target,
        ])
        .arg("--format")
        .arg(format!("{FIELD}{{l}}{FIELD}{{p}}"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("CARGO_BUILD_TARGET")
        .stdin(Stdio::null());
    let run = |source| CratesError::Run { program: "cargo", package: package.to_owned(), source };
    let output = command.output().map_err(run)?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CratesError::Cargo { package: package.to_owned(), output });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn toolchain(source: &Path, package: &str) -> Result<String, CratesError> {
    let output = Command::new("rustc")
        .current_dir(source)
        .args(["--version", "--verbose"])
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|source| CratesError::Run {
        program: "rustc",
        package: package.to_owned(),
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    release.map(str::to_owned).ok_or(CratesError::Line { line: text.clone() })
}

/// Reads what [`query`] asked for: depth, licence and crate, a line each. A crate that was shown with its dependencies before is marked
/// by a star and has them not again.
fn parse_tree(
    text: &str,
    checksums: &BTreeMap<(String, String), String>,
) -> Result<Vec<LinkedCrate>, CratesError> {
    let mut crates: BTreeMap<(String, String), LinkedCrate> = BTreeMap::new();
    let mut parents: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let not_understood = || CratesError::Line { line: line.to_owned() };
        let mut fields = line.splitn(3, FIELD);
        let (Some(depth), Some(licence), Some(package)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(not_understood());
        };
        let depth = depth.parse::<usize>().map_err(|_| not_understood())?;
        // "name v1.2.3", and for what is not from crates.io " (where it is from)"; of a crate of ours that is a path.
        let (name, rest) = package.split_once(" v").ok_or_else(not_understood)?;
        let (version, origin) = rest.split_once(' ').unwrap_or((rest, ""));
        let key = (name.to_owned(), version.to_owned());
        if depth > parents.len() {
            return Err(not_understood());
        }
        parents.truncate(depth);
        if let Some(parent) = parents.last().and_then(|parent| crates.get_mut(parent))
            && let Err(at) = parent.depends.binary_search(&key)
        {
            parent.depends.insert(at, key.clone());
        }
        crates.entry(key.clone()).or_insert_with(|| LinkedCrate {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: licence.to_owned(),
            own: origin.starts_with("(/"),
            sha256: checksums.get(&key).cloned(),
            depends: Vec::new(),
        });
        parents.push(key);
    }
    Ok(crates.into_values().collect())
}

/// The checksums of a lock file by name and version. Cargo writes it, one key a line.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
            line.strip_suffix('"').map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (value("name"), value("version"), value("checksum"))
        {
            found.insert((name, version), checksum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"00ff\"\n\
        dependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";

    fn tree(lines: &[&str]) -> Result<Vec<LinkedCrate>, CratesError> {
        parse_tree(&lines.join("\n"), &checksums(LOCK))
    }

    #[test]
    fn a_tree_becomes_crates_with_their_dependencies() {
        let crates = tree(&[
            "0|Apache-2.0 OR MIT|own v0.1.0 (/some where|/own)",
            "1|ISC|b v2.0.0",
            "2|MIT|a v1.0.0",
            "1|MIT|a v1.0.0",
            "1|MIT|a v0.9.0",
            "2|ISC|b v2.0.0 (*)",
        ])
        .unwrap();
        let names: Vec<_> = crates.iter().map(|c| format!("{} {}", c.name, c.version)).collect();
        assert_eq!(names, ["a 0.9.0", "a 1.0.0", "b 2.0.0", "own 0.1.0"]);
        let depends =
            |at: usize| crates[at].depends.iter().map(|(n, v)| format!("{n} {v}")).collect::<Vec<_>>();
        assert_eq!(depends(0), ["b 2.0.0"]);
        assert_eq!(depends(2), ["a 1.0.0"]);
        assert_eq!(depends(3), ["a 0.9.0", "a 1.0.0", "b 2.0.0"]);
        assert_eq!((crates[1].sha256.as_deref(), crates[1].own), (Some("00ff"), false));
        assert_eq!((crates[3].sha256.as_deref(), crates[3].own), (None, true));
        assert_eq!(crates[3].licence, "Apache-2.0 OR MIT");
    }

    #[test]
    fn what_cargo_does_not_print_is_refused() {
        for lines in
            [&["x"][..], &["0|MIT|a"], &["1|MIT|a v1"], &["0|MIT|a v1", "2|MIT|b v1"], &["0"], &["0|MIT"]]
        {
            assert!(matches!(tree(lines), Err(CratesError::Line { .. })), "{lines:?}");
        }
    }

    #[test]
    fn the_crates_of_the_boot_loader_are_found() {
        let source = crate::guest::source_folder().unwrap();
        let program = linked(&source, "boot", "x86_64-unknown-uefi", &[]).unwrap();
        let find = |name: &str| program.crates.iter().find(|found| found.name == name);
        let boot = find("boot").unwrap();
        assert!(boot.own && boot.depends.iter().any(|(name, _)| name == "slots"));
        let uefi = find("uefi").unwrap();
        assert!(!uefi.own && uefi.sha256.as_ref().is_some_and(|digest| digest.len() == 64));
        assert!(find("proptest").is_none(), "tests are not part of a program");
        assert!(find("uefi-macros").is_none(), "nor are procedural macros");
        assert!(program.crates.iter().all(|found| !found.licence.is_empty()));
    }
}
