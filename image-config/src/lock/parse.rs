//! Text to types. Every finding is reported, with its place.

use super::{BrokenRule, FORM, Field, Inputs, Line, Lock, LockedPackage, PackageVersion, PoolPath, Sha256};
use super::{ReleaseDate, check_version};
use crate::diagnostic::{Diagnostic, Diagnostics, Position, did_you_mean};
use crate::recipe::{Component, NameError, PackageName, Provided, Suite};

/// A file with more findings than this is no lock file that somebody edited.
const MOST_FINDINGS: usize = 30;
const AGAIN: &str = "run `ferrite lock`, which writes the file anew";
const KEYS: [&str; 6] = ["architecture", "component", "suite", "request", "provide", "package"];

/// A word and its place.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    at: Position,
}

/// Collects findings, and what the lines say.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    findings: Vec<Diagnostic>,
    architecture: Option<String>,
    components: Vec<Component>,
    suites: Vec<(Suite, ReleaseDate)>,
    requests: Vec<(PackageName, Position)>,
    provides: Vec<Provided>,
    packages: Vec<Row>,
}

/// A package and where its words stand.
struct Row {
    package: LockedPackage,
    name: Position,
    architecture: Position,
    suite: Position,
    digest: Position,
    filename: Position,
}

/// Reads a whole lock file.
pub(super) fn lock(file: &str, text: &str) -> Result<Lock, Diagnostics> {
    let mut reader = Reader {
        file,
        text,
        findings: Vec::new(),
        architecture: None,
        components: Vec::new(),
        suites: Vec::new(),
        requests: Vec::new(),
        provides: Vec::new(),
        packages: Vec::new(),
    };
    let mut lines = text.lines().enumerate().map(|(index, line)| words(index + 1, line)).filter(|words| {
        // Blank lines and comments.
        words.first().is_some_and(|word| !word.text.starts_with('#'))
    });
    if !reader.form(lines.next().as_deref()) {
        return Err(Diagnostics::new(reader.findings));
    }
    for words in lines {
        reader.line(&words);
        if reader.findings.len() >= MOST_FINDINGS {
            break;
        }
    }
    reader.finish()
}

/// The words of a line, with their places.
fn words(line_number: usize, line: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let (mut column, mut rest) = (1, line);
    loop {
        let trimmed = rest.trim_start();
        column += rest.chars().count() - trimmed.chars().count();
        if trimmed.is_empty() {
            return words;
        }
        let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
        let (text, after) = trimmed.split_at(end);
        words.push(Word { text, at: Position { line: line_number, column } });
        column += text.chars().count();
        rest = after;
    }
}

impl<'a> Reader<'a> {
    fn error(&mut self, at: Option<Position>, problem: impl Into<String>, hint: impl Into<String>) {
        let finding = Diagnostic::error(self.file, self.text, at, problem);
        self.findings.push(finding.with_hint(hint.into()));
    }

    /// One checked word; `None` after reporting it.
    fn word<T>(&mut self, word: Word<'_>, parse: impl FnOnce(&str) -> Result<T, NameError>) -> Option<T> {
        match parse(word.text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(Some(word.at), error.problem, error.hint.unwrap_or_else(|| AGAIN.to_owned()));
                None
            }
        }
    }

    /// The first line; false when nothing behind it can be read.
    fn form(&mut self, words: Option<&[Word<'a>]>) -> bool {
        let Some([key, rest @ ..]) = words else {
            self.error(None, "the lock file is empty", AGAIN);
            return false;
        };
        match (key.text, rest) {
            ("ferrite-lock", [form]) if form.text == FORM.to_string() => return true,
            ("ferrite-lock", [form]) => {
                let problem = format!("lock file of form `{}`; this ferrite reads form {FORM}", form.text);
                self.error(
                    Some(form.at),
                    problem,
                    "use a newer ferrite, or run `ferrite lock` with this one",
                );
            }
            _ => {
                let problem = format!("a lock file begins with `ferrite-lock {FORM}`");
                self.error(Some(key.at), problem, AGAIN);
            }
        }
        false
    }

    fn line(&mut self, words: &[Word<'a>]) {
        let [key, rest @ ..] = words else { return };
        match (key.text, rest) {
            ("architecture", [name]) => self.architecture(*name),
            ("component", [name]) => self.component(*name),
            ("suite", [name, date]) => self.suite(*name, *date),
            ("request", [name]) => self.request(*name),
            ("provide", [name]) => self.provide(*name, None),
            ("provide", [name, version]) => self.provide(*name, Some(*version)),
            ("package", [name, version, architecture, suite, size, digest, filename]) => {
                self.package([*name, *version, *architecture, *suite, *size, *digest, *filename]);
            }
            (known, _) if KEYS.contains(&known) => {
                let problem = format!("`{known}` does not take {} words", rest.len());
                self.error(Some(key.at), problem, shape(known));
            }
            (other, _) if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].contains(&other) => {
                let problem = "the file has the marks of a merge that did not fit";
                self.error(Some(key.at), problem, "run `ferrite lock`, which resolves the merged recipe");
            }
            (other, _) => {
                let hint = match did_you_mean(other, KEYS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => AGAIN.to_owned(),
                };
                self.error(Some(key.at), format!("unknown word `{other}`"), hint);
            }
        }
    }

    fn architecture(&mut self, name: Word<'_>) {
        let parsed = self.word(name, architecture);
        if self.architecture.is_some() {
            self.error(Some(name.at), "a second architecture", "a lock is for one; remove one of the lines");
        }
        self.architecture = parsed.or_else(|| self.architecture.take());
    }

    fn component(&mut self, name: Word<'_>) {
        let Some(component) = self.word(name, Component::parse) else { return };
        if self.components.contains(&component) {
            self.twice(name);
        } else {
            self.components.push(component);
        }
    }

    fn suite(&mut self, name: Word<'_>, date: Word<'_>) {
        let (suite, date) = (self.word(name, Suite::parse), self.word(date, ReleaseDate::parse));
        let Some(suite) = suite else { return };
        if self.suites.iter().any(|(known, _)| *known == suite) {
            self.twice(name);
        } else if let Some(date) = date {
            self.suites.push((suite, date));
        }
    }

    fn request(&mut self, name: Word<'_>) {
        let Some(request) = self.word(name, PackageName::parse) else { return };
        if self.requests.iter().any(|(known, _)| *known == request) {
            self.twice(name);
        } else {
            self.requests.push((request, name.at));
        }
    }

    fn provide(&mut self, word: Word<'_>, version: Option<Word<'_>>) {
        let name = self.word(word, PackageName::parse);
        let version =
            version.map(|version| self.word(version, |text| check_version(text).map(|()| text.to_owned())));
        let (Some(name), false) = (name, version == Some(None)) else { return };
        let provided = Provided { name, version: version.flatten() };
        if self.provides.contains(&provided) {
            self.twice(word);
        } else {
            self.provides.push(provided);
        }
    }

    fn package(&mut self, words: [Word<'_>; 7]) {
        let [name, version, architecture_word, suite, size, digest, filename] = words;
        let package = (
            self.word(name, PackageName::parse),
            self.word(version, PackageVersion::parse),
            self.word(architecture_word, architecture),
            self.word(suite, Suite::parse),
            self.word(size, bytes),
            self.word(digest, Sha256::parse),
            self.word(filename, PoolPath::parse),
        );
        let (Some(n), Some(v), Some(a), Some(s), Some(b), Some(d), Some(f)) = package else { return };
        self.packages.push(Row {
            package: LockedPackage {
                name: n,
                version: v,
                architecture: a,
                suite: s,
                size: b,
                sha256: d,
                filename: f,
            },
            name: name.at,
            architecture: architecture_word.at,
            suite: suite.at,
            digest: digest.at,
            filename: filename.at,
        });
    }

    fn twice(&mut self, word: Word<'_>) {
        self.error(Some(word.at), format!("`{}` is there twice", word.text), "remove one of the lines");
    }

    fn finish(mut self) -> Result<Lock, Diagnostics> {
        for (key, missing) in [
            ("architecture", self.architecture.is_none()),
            ("component", self.components.is_empty()),
            ("suite", self.suites.is_empty()),
            ("request", self.requests.is_empty()),
        ] {
            if missing && self.findings.is_empty() {
                self.error(None, format!("the lock file has no line `{key}`"), AGAIN);
            }
        }
        // Stable, so that of two lines of one package the second one is told.
        self.packages.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        self.requests.sort();
        self.provides.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let (suites, dates) = std::mem::take(&mut self.suites).into_iter().unzip();
        let lock = Lock {
            inputs: Inputs {
                architecture: self.architecture.take().unwrap_or_default(),
                suites,
                components: std::mem::take(&mut self.components),
                requests: self.requests.iter().map(|(name, _)| name.clone()).collect(),
                provides: std::mem::take(&mut self.provides),
            },
            dates,
            packages: self.packages.iter().map(|row| row.package.clone()).collect(),
        };
        if self.findings.is_empty() {
            for BrokenRule { line, field, problem, hint } in lock.broken_rules() {
                let at = match line {
                    Line::Package(index) => self.packages.get(index).map(|row| row.place(field)),
                    Line::Request(index) => self.requests.get(index).map(|(_, at)| *at),
                };
                self.error(at, problem, hint);
            }
        }
        if self.findings.is_empty() { Ok(lock) } else { Err(Diagnostics::new(self.findings)) }
    }
}

impl Row {
    fn place(&self, field: Field) -> Position {
        match field {
            Field::Name => self.name,
            Field::Architecture => self.architecture,
            Field::Suite => self.suite,
            Field::Digest => self.digest,
            Field::Filename => self.filename,
        }
    }
}

fn shape(key: &str) -> &'static str {
    match key {
        "architecture" => "architecture NAME",
        "component" => "component NAME",
        "suite" => "suite NAME DATE",
        "request" => "request PACKAGE",
        "provide" => "provide PACKAGE, or provide PACKAGE VERSION",
        _ => "package NAME VERSION ARCHITECTURE SUITE BYTES SHA256 FILE",
    }
}

fn architecture(text: &str) -> Result<String, NameError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || !text.chars().all(plain) {
        return Err(
            NameError::new(format!("`{text}` is no architecture")).hint("Debian's name, such as `amd64`")
        );
    }
    Ok(text.to_owned())
}

fn bytes(text: &str) -> Result<u64, NameError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        NameError::new(format!("`{text}` is no size")).hint("the bytes of the package, in plain digits")
    })
}
