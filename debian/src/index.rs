//! The packages of several suites, found by name or by what they provide.
//!
//! `Packages` files are scanned once, in parallel, for the start of each stanza, its name and what it provides; the
//! other fields are read only for the packages that somebody asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use rayon::prelude::*;

use crate::deb822::{self, SyntaxError};
use crate::package::{Package, StanzaError};

/// One `Packages` file.
#[derive(Debug, Clone)]
pub struct IndexText {
    /// Suite it belongs to.
    pub suite: Arc<str>,
    /// What to call the file in messages: URL or path.
    pub label: String,
    /// Its content, uncompressed.
    pub text: Arc<Vec<u8>>,
}

/// A stanza of an [`Index`]. Valid for the index that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(u32);

/// A span of a file's text.
#[derive(Debug, Clone, Copy)]
struct Span {
    file: u16,
    start: u32,
    length: u16,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    name: Span,
    /// Offset of the stanza in the file of `name`.
    stanza: u32,
}

/// Packages of all files.
#[derive(Debug)]
pub struct Index {
    files: Vec<IndexText>,
    /// Sorted by name, equal names in the order of the files.
    rows: Vec<Row>,
    /// Provided name and who provides it, sorted by name.
    provides: Vec<(Span, PackageId)>,
}

/// An index file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The format is broken.
    #[error("package index {label} is malformed")]
    Syntax {
        /// The file.
        label: String,
        /// Where and how.
        source: SyntaxError,
    },
    /// A package's stanza cannot be read.
    #[error("package index {label} has a stanza that cannot be used")]
    Stanza {
        /// The file.
        label: String,
        /// Where and how.
        source: Box<StanzaError>,
    },
    /// Offsets are kept in 32 bits, files are numbered in 16.
    #[error("package index {label} is too large, or there are too many of them")]
    TooLarge {
        /// The file.
        label: String,
    },
}

/// What the scan of one piece of a file found.
#[derive(Default)]
struct Scan {
    rows: Vec<Row>,
    /// Provided name and the position in `rows` of who provides it.
    provides: Vec<(Span, usize)>,
}

/// Pieces are about this large: enough of them for all cores, few enough to join quickly.
const PIECE_BYTES: usize = 4 << 20;

/// Cuts a text at blank lines into pieces of about [`PIECE_BYTES`].
fn pieces(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let wish = start.saturating_add(PIECE_BYTES);
        let rest = text.get(wish..).unwrap_or_default();
        let end = memchr::memmem::find(rest, b"\n\n").map_or(text.len(), |gap| wish + gap + 1);
        pieces.push(start..end);
        start = end;
    }
    pieces
}

/// The names in the value of a `Provides` field, as sub-slices.
fn provided_names(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').filter_map(|element| {
        let element = element.trim_ascii();
        let end = element.iter().position(|b| b.is_ascii_whitespace() || matches!(b, b'(' | b':'));
        element.get(..end.unwrap_or(element.len())).filter(|name| !name.is_empty())
    })
}

/// Where `part`, which lies in `text`, starts.
fn offset_in(text: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

fn scan_piece(file: u16, text: &[u8], piece: std::ops::Range<usize>) -> Result<Scan, SyntaxError> {
    let mut scan = Scan::default();
    // Parsing sees the text up to the piece's end only, with offsets of the whole file.
    let text = text.get(..piece.end).unwrap_or(text);
    let span = |part: &[u8]| Span {
        file,
        start: u32::try_from(offset_in(text, part)).unwrap_or(u32::MAX),
        length: u16::try_from(part.len()).unwrap_or(u16::MAX),
    };
    let mut position = deb822::skip_blank_lines(text, piece.start);
    while position < text.len() {
        let mut fields = deb822::fields(text, position);
        let mut name = None;
        let mut provides: &[u8] = &[];
        for field in fields.by_ref() {
            let field = field?;
            match field.name {
                b"Package" => name = Some(field.value),
                b"Provides" => provides = field.value,
                _ => {}
            }
        }
        if let Some(name) = name {
            let row = scan.rows.len();
            scan.provides.extend(provided_names(provides).map(|name| (span(name), row)));
            scan.rows.push(Row { name: span(name), stanza: u32::try_from(position).unwrap_or(u32::MAX) });
        }
        position = deb822::skip_blank_lines(text, fields.position());
    }
    Ok(scan)
}

impl Index {
    /// Scans the files.
    ///
    /// # Errors
    /// A line that breaks the format, with its number; a file of 4 GiB or more.
    pub fn parse(files: Vec<IndexText>) -> Result<Self, IndexError> {
        let mut work = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let number = u16::try_from(number).ok().filter(|_| u32::try_from(file.text.len()).is_ok());
            let number = number.ok_or_else(|| IndexError::TooLarge { label: file.label.clone() })?;
            work.extend(pieces(&file.text).into_iter().map(|piece| (number, file, piece)));
        }
        let scans: Vec<Scan> = work
            .into_par_iter()
            .map(|(number, file, piece)| {
                scan_piece(number, &file.text, piece)
                    .map_err(|source| IndexError::Syntax { label: file.label.clone(), source })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self::join(files, scans))
    }

    fn join(files: Vec<IndexText>, scans: Vec<Scan>) -> Self {
        let mut index = Self { files, rows: Vec::new(), provides: Vec::new() };
        let mut rows: Vec<(Row, usize)> = Vec::new();
        let mut provides: Vec<(Span, usize)> = Vec::new();
        for scan in scans {
            let base = rows.len();
            provides.extend(scan.provides.into_iter().map(|(name, row)| (name, base + row)));
            rows.extend(scan.rows.into_iter().enumerate().map(|(i, row)| (row, base + i)));
        }
        rows.sort_by(|(a, _), (b, _)| index.bytes(a.name).cmp(index.bytes(b.name)));
        let mut moved_to = vec![PackageId(0); rows.len()];
        for (new, (_, old)) in rows.iter().enumerate() {
            if let Some(slot) = moved_to.get_mut(*old) {
                *slot = PackageId(u32::try_from(new).unwrap_or(u32::MAX));
            }
        }
        let mut provides: Vec<(Span, PackageId)> =
            provides.into_iter().filter_map(|(name, row)| Some((name, *moved_to.get(row)?))).collect();
        provides.sort_by(|(a, x), (b, y)| index.bytes(*a).cmp(index.bytes(*b)).then(x.cmp(y)));
        index.rows = rows.into_iter().map(|(row, _)| row).collect();
        index.provides = provides;
        index
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let file = self.files.get(usize::from(span.file));
        let start = span.start as usize;
        file.and_then(|f| f.text.get(start..start + usize::from(span.length))).unwrap_or_default()
    }

    /// How many packages there are, every version counted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no package at all.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every package of every suite, read in full, by name. Slow next to asking for names: for checks and searches.
    pub fn iter(&self) -> impl Iterator<Item = Result<Package, IndexError>> + use<'_> {
        (0..self.rows.len()).filter_map(|i| u32::try_from(i).ok()).map(|i| self.package(PackageId(i)))
    }

    /// Names of the suites, in the order of the files, each once.
    pub fn suites(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.files.iter().map(|file| &*file.suite).collect();
        names.dedup();
        names
    }

    /// Stanzas of packages with this name, in the order of the files.
    pub fn named(&self, name: &str) -> impl Iterator<Item = PackageId> + use<> {
        let start = self.rows.partition_point(|row| self.bytes(row.name) < name.as_bytes());
        let rest = self.rows.get(start..).unwrap_or_default();
        let count = rest.partition_point(|row| self.bytes(row.name) == name.as_bytes());
        (start..start + count).filter_map(|i| u32::try_from(i).ok().map(PackageId))
    }

    /// Stanzas whose `Provides` has this name, each once.
    pub fn providers(&self, name: &str) -> Vec<PackageId> {
        let start = self.provides.partition_point(|(span, _)| self.bytes(*span) < name.as_bytes());
        let rest = self.provides.get(start..).unwrap_or_default();
        let equal = rest.iter().take_while(|(span, _)| self.bytes(*span) == name.as_bytes());
        let mut ids: Vec<PackageId> = equal.map(|(_, id)| *id).collect();
        ids.dedup();
        ids
    }

    /// Reads one stanza in full.
    ///
    /// # Errors
    /// A field that is missing or cannot be understood.
    pub fn package(&self, id: PackageId) -> Result<Package, IndexError> {
        let row = self.rows.get(id.0 as usize);
        let file = row.and_then(|row| self.files.get(usize::from(row.name.file)));
        let (Some(row), Some(file)) = (row, file) else {
            unreachable!("a PackageId is used with the index that gave it")
        };
        Package::parse(&file.text, row.stanza as usize, &file.suite)
            .map_err(|source| IndexError::Stanza { label: file.label.clone(), source: Box::new(source) })
    }

    /// All versions of a package, the highest first; of equal versions, the one of the earlier suite first.
    ///
    /// # Errors
    /// As [`Index::package`].
    pub fn find(&self, name: &str) -> Result<Vec<Package>, IndexError> {
        let mut found = self.named(name).map(|id| self.package(id)).collect::<Result<Vec<_>, _>>()?;
        found.sort_by(|a, b| b.version.cmp(&a.version));
        Ok(found)
    }

    /// Packages marked `Essential: yes`, the highest version of each, by name.
    ///
    /// # Errors
    /// As [`Index::package`].
    pub fn essential(&self) -> Result<Vec<Package>, IndexError> {
        let mut names = BTreeSet::new();
        for row in &self.rows {
            let Some(file) = self.files.get(usize::from(row.name.file)) else { continue };
            let yes = |f: deb822::Field<'_>| f.name == b"Essential" && f.value == b"yes";
            if deb822::fields(&file.text, row.stanza as usize).flatten().any(yes) {
                names.insert(String::from_utf8_lossy(self.bytes(row.name)).into_owned());
            }
        }
        let highest = |name: String| Ok(self.find(&name)?.into_iter().next());
        let found = names.into_iter().map(highest).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Up to three names, of packages or provided, that look like `name`.
    pub fn similar(&self, name: &str) -> Vec<String> {
        let spans = self.rows.iter().map(|row| row.name).chain(self.provides.iter().map(|(span, _)| *span));
        let mut scored: Vec<(u64, &str)> = spans
            .filter_map(|span| {
                let candidate = std::str::from_utf8(self.bytes(span)).ok()?;
                let score = strsim::jaro_winkler(name, candidate);
                // Thousandths, so that the order is total. Below 0.85 nobody sees the likeness.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
                (score >= 0.85).then_some(((score * 1000.0) as u64, candidate))
            })
            .collect();
        scored.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        scored.dedup();
        scored.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(texts: &[&str]) -> Result<Index, IndexError> {
        let file = |(i, text): (usize, &&str)| IndexText {
            suite: format!("suite{i}").into(),
            label: format!("file{i}"),
            text: Arc::new(text.as_bytes().to_vec()),
        };
        Index::parse(texts.iter().enumerate().map(file).collect())
    }

    fn stanza(name: &str, version: &str, extra: &str) -> String {
        let sha = "0".repeat(64);
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\n{extra}Filename: pool/{name}.deb\nSize: 1\nSHA256: {sha}\n\n"
        )
    }

    #[test]
    fn packages_are_found_by_name_over_all_files_highest_version_first() {
        let main = stanza("b", "1", "") + &stanza("a", "1", "Provides: v (= 2), w,\n x:any\n");
        let security = stanza("a", "2", "Provides: w\n");
        let index = index(&[&main, &security]).unwrap();
        let found = index.find("a").unwrap();
        let shown: Vec<_> = found.iter().map(|p| (p.version.as_str(), &*p.suite)).collect();
        assert_eq!(shown, [("2", "suite1"), ("1", "suite0")]);
        assert_eq!(
            (index.providers("w").len(), index.providers("v").len(), index.providers("x").len()),
            (2, 1, 1)
        );
        assert!(index.find("c").unwrap().is_empty() && index.providers("a").is_empty());
    }

    #[test]
    fn a_broken_line_is_reported_with_file_and_line() {
        let Err(IndexError::Syntax { label, source }) = index(&["", &(stanza("a", "1", "") + "oops\n")])
        else {
            panic!("accepted")
        };
        assert_eq!((label.as_str(), source.line), ("file1", 8));
    }

    #[test]
    fn pieces_join_to_the_same_index_as_the_whole() {
        let one =
            stanza("package-with-some-description", "1", &format!("Description: {}\n", "x".repeat(900)));
        let text: String = (0..9000).map(|i| one.replace("package", &format!("p{i}"))).collect();
        assert!(text.len() > 2 * PIECE_BYTES);
        let index = index(&[&text]).unwrap();
        assert_eq!(index.len(), 9000);
        assert_eq!(index.find("p8999-with-some-description").unwrap().len(), 1);
    }

    #[test]
    fn near_misses_are_suggested() {
        let text =
            stanza("openssh-server", "1", "") + &stanza("etcd-server", "1", "") + &stanza("bash", "1", "");
        assert_eq!(index(&[&text]).unwrap().similar("opnssh-server"), ["openssh-server"]);
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in "((Package|Provides|Size|x)?:? ?[a-b,( )]{0,5}\n{1,2}){0,30}") {
            if let Ok(index) = index(&[&text]) {
                for id in index.named("a").chain(index.providers("a")) {
                    let _ = index.package(id);
                }
            }
        }
    }
}
