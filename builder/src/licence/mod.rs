//! The licences of packages, from the copyright files that Debian's policy makes every package ship.
//!
//! Machine-readable files (DEP-5) say what they mean; their names are mapped to SPDX identifiers, and where a name is only a name
//! (`MIT/X11`), the text beside it is looked at. Free-form files are searched for notices and well-known texts. What stays
//! unknown is named as such by a `LicenseRef-`: a package never goes without.
//!
//! A copyright file speaks of a source package. What is listed for a binary package therefore holds for its sources, of which
//! parts (build scripts, tests) may not be in the image.

mod dep5;
mod expression;
mod names;
mod notices;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use debian::digest::Digest;
use debian::tarball::{Entry, EntryKind};
use debian::unpack::{UnpackError, Unpacked};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::expression::Expression;
use crate::signing::hex;

/// Where copyright files are.
const DOC: &str = "usr/share/doc";
/// How many links lead to a copyright file at most.
const MAX_LINKS: usize = 8;
/// Longest identifier that is made of a name of Debian's; longer ones end with a digest.
const MAX_REFERENCE: usize = 96;

/// How sure the licences of a package are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// A machine-readable copyright file declares them.
    Declared,
    /// They were found in a free-form copyright file; there may be more.
    Concluded,
    /// The copyright file says nothing that was understood, or there is none.
    Unknown,
}

/// The licences of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licences {
    /// SPDX expressions, each of which holds for some of the source package's files; sorted, never empty.
    pub expressions: Vec<String>,
    /// How sure they are.
    pub basis: Basis,
    /// The copyright file: its path, and its SHA-256 in hexadecimal.
    pub copyright: Option<(String, String)>,
}

impl Licences {
    /// Reads a copyright file. `package` and `source` are the names of the package and its source package.
    pub fn parse(package: &str, source: &str, text: &str) -> (Vec<String>, Basis) {
        let (found, basis) = match dep5::parse(text) {
            Some(copyright) => (declared(source, &copyright), Basis::Declared),
            None => (notices::licences(text).into_iter().collect(), Basis::Concluded),
        };
        if found.is_empty() {
            return (vec![format!("LicenseRef-debian-{}-copyright", reference(package))], Basis::Unknown);
        }
        (found.into_iter().collect(), basis)
    }

    /// Whether every licence has an SPDX identifier.
    pub fn is_all_spdx(&self) -> bool {
        !self.expressions.iter().any(|expression| expression.contains("LicenseRef-"))
    }

    /// Whether none has.
    pub fn is_unknown(&self) -> bool {
        let names = |text: &String| {
            text.split([' ', '(', ')']).any(|word| !word.is_empty() && spdx::license_id(word).is_some())
        };
        !self.expressions.iter().any(names)
    }
}

/// The licences of each package, in the order of the packages. Links of documentation folders are followed to other packages among
/// them.
///
/// # Errors
/// A copyright file cannot be read from the cache.
pub fn of_packages(packages: &[Unpacked]) -> Result<Vec<Licences>, UnpackError> {
    let files = Files::new(packages);
    packages.par_iter().map(|unpacked| of_package(&files, unpacked)).collect()
}

fn of_package(files: &Files<'_>, unpacked: &Unpacked) -> Result<Licences, UnpackError> {
    let package = &unpacked.package;
    let found = files.copyright(&package.name);
    let bytes = match found {
        Some((holder, entry)) => holder.read(entry)?.map(|bytes| (entry, bytes)),
        None => None,
    };
    let (text, copyright) = match &bytes {
        Some((entry, bytes)) => {
            let path = format!("/{}", String::from_utf8_lossy(&entry.path));
            (String::from_utf8_lossy(bytes), Some((path, hex(&Digest::of(bytes).0))))
        }
        None => (std::borrow::Cow::Borrowed(""), None),
    };
    let (expressions, basis) = Licences::parse(&package.name, &package.source, &text);
    Ok(Licences { expressions, basis, copyright })
}

/// The expressions of a machine-readable file.
fn declared(source: &str, copyright: &dep5::Copyright<'_>) -> BTreeSet<String> {
    let mut known: BTreeMap<(&str, &str), String> = BTreeMap::new();
    let mut expressions = BTreeSet::new();
    for license in &copyright.licences {
        let expression = known.entry((license.synopsis, &license.text)).or_insert_with(|| {
            let expression = Expression::parse(license.synopsis);
            let alone = matches!(&expression, Expression::Licence(_));
            // A text beside an expression of several licences belongs to one of them, or to all.
            let beside = if alone { license.text.as_str() } else { "" };
            expression.to_spdx(&|name| single(source, name, beside, &copyright.texts))
        });
        if !expression.is_empty() {
            expressions.insert(expression.clone());
        }
    }
    expressions
}

/// The identifier of one licence: by its name, by the text of that name, else one made for it.
fn single(source: &str, name: &str, beside: &str, texts: &BTreeMap<String, String>) -> String {
    if let Some(id) = names::spdx(name) {
        return id;
    }
    let text = texts.get(&name.to_ascii_lowercase()).map_or(beside, String::as_str);
    let text = if text.trim().is_empty() { beside } else { text };
    if let Some(id) = texts::recognise(text) {
        return id;
    }
    match name.to_ascii_lowercase().as_str() {
        "" => format!("LicenseRef-debian-{}-unnamed", reference(source)),
        name if name.starts_with("public-domain") => "LicenseRef-debian-public-domain".to_owned(),
        // Names of licences hold within one copyright file.
        _ => format!("LicenseRef-debian-{}-{}", reference(source), reference(name)),
    }
}

/// A text in the letters that an identifier may have.
fn reference(text: &str) -> String {
    let mut id = String::new();
    for character in text.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => id.push(character),
            '+' => id.push_str("plus"),
            _ if id.ends_with('-') => {}
            _ => id.push('-'),
        }
    }
    if id.len() > MAX_REFERENCE {
        id.truncate(MAX_REFERENCE);
        id.push_str(&format!("-{}", hex(&Digest::of(text.as_bytes()).0).get(..16).unwrap_or_default()));
    }
    id
}

/// Documentation folders and copyright files of all packages, by path.
struct Files<'a> {
    entries: BTreeMap<&'a [u8], (&'a Unpacked, &'a Entry)>,
}

impl<'a> Files<'a> {
    fn new(packages: &'a [Unpacked]) -> Self {
        let mut entries = BTreeMap::new();
        for unpacked in packages {
            for entry in &unpacked.entries {
                let below = entry.path.strip_prefix(DOC.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
                let Some(below) = below else { continue };
                let mut names = below.split(|byte| *byte == b'/');
                let wanted = match (names.next(), names.next(), names.next()) {
                    (Some(_), None, _) => matches!(entry.kind, EntryKind::Symlink(_)),
                    (Some(_), Some(b"copyright"), None) => true,
                    _ => false,
                };
                if wanted {
                    entries.entry(entry.path.as_slice()).or_insert((unpacked, entry));
                }
            }
        }
        Self { entries }
    }

    /// The copyright file of a package, through links.
    fn copyright(&self, package: &str) -> Option<(&'a Unpacked, &'a Entry)> {
        let mut path = format!("{DOC}/{package}/copyright").into_bytes();
        for _ in 0..MAX_LINKS {
            match self.entries.get(path.as_slice()) {
                Some((_, entry)) if let EntryKind::Symlink(target) = &entry.kind => {
                    path = follow(&path, target, b"")?
                }
                Some(found) => return Some(*found),
                None => {
                    let folder = path.strip_suffix(b"/copyright")?;
                    let EntryKind::Symlink(target) = &self.entries.get(folder)?.1.kind else { return None };
                    path = follow(folder, target, b"/copyright")?;
                }
            }
        }
        None
    }
}

/// Where a link at `path` points to, with `rest` behind it; `None` when it leaves the tree.
fn follow(path: &[u8], target: &[u8], rest: &[u8]) -> Option<Vec<u8>> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let base = if target.starts_with(b"/") { &[] } else { path.get(..slash)? };
    let mut names: Vec<&[u8]> = Vec::new();
    for name in base.split(|byte| *byte == b'/').chain(target.split(|byte| *byte == b'/')) {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some([names.join(&b'/'), rest.to_vec()].concat())
}

#[cfg(test)]
mod tests;
