//! `ferrite validate`: every problem of a recipe, a lock file, user-data or a unit file.

mod kind;

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use image_config::diagnostic::{Diagnostic, Diagnostics, Position};
use image_config::lock::Lock;
use image_config::recipe::Recipe;
use image_config::unit::{System, Unit, UnitFile, UnitName};
use image_config::user_data::{Format, UserData};
use serde::Serialize;

use self::kind::Kind;
use super::args::ValidateArgs;
use super::failure::Failure;
use super::{FAILED, USAGE, output, style};

/// The name that stands for standard input.
const STDIN: &str = "-";
/// What its text is called in findings.
const STDIN_NAME: &str = "<stdin>";
/// The instance that a template is read as.
const INSTANCE: &str = "instance";

/// The result for scripts.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    valid: bool,
    findings: Vec<Finding<'a>>,
}

/// One finding. `line` and `column` count from 1, columns in characters; both are null for the text as a whole.
#[derive(Debug, Serialize)]
struct Finding<'a> {
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    severity: String,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> From<&'a Diagnostic> for Finding<'a> {
    fn from(one: &'a Diagnostic) -> Self {
        Self {
            file: &one.file,
            line: one.position.map(|at| at.line),
            column: one.position.map(|at| at.column),
            severity: one.severity.to_string(),
            message: &one.message,
            hint: one.hint.as_deref(),
        }
    }
}

/// What a text was taken for, and what there is to say about it.
#[derive(Debug)]
struct Judgement {
    what: String,
    findings: Diagnostics,
}

/// 0: valid; 1: errors, or with `--strict` warnings; 2: the file cannot be read.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: &ValidateArgs) -> Result<ExitCode> {
    let bytes = match read(&args.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            Failure::of(&error).report(args.json);
            return Ok(ExitCode::from(USAGE));
        }
    };
    let judgement = judge(&args.file, &bytes);
    let findings = judgement.findings.as_slice();
    let is_valid = !judgement.findings.has_errors() && (findings.is_empty() || !args.strict);
    if args.json {
        let findings = findings.iter().map(Finding::from).collect();
        output::print_json(&Verdict { valid: is_valid, findings })?;
    } else {
        if !findings.is_empty() {
            let texts: Vec<_> = findings.iter().map(style::finding).collect();
            output::print_styled(&format!("{}\n", texts.join("\n\n")))?;
        }
        if is_valid {
            let warnings = match findings.len() {
                0 => String::new(),
                1 => ", with a warning".to_owned(),
                many => format!(", with {many} warnings"),
            };
            style::say(&format!("{}: a valid {}{warnings}", args.file.display(), judgement.what));
        }
    }
    Ok(if is_valid { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() == STDIN {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn judge(path: &Path, bytes: &[u8]) -> Judgement {
    let name = if path.as_os_str() == STDIN { STDIN_NAME.to_owned() } else { path.display().to_string() };
    match Kind::of(path, bytes) {
        Kind::Recipe => recipe(&name, path, bytes),
        Kind::Lock => match Lock::parse(&name, bytes) {
            Ok(lock) => valid(format!("lock file of {} packages", lock.packages().len())),
            Err(findings) => Judgement { what: "lock file".to_owned(), findings },
        },
        Kind::UserData => user_data(UserData::read(&name, bytes)),
        Kind::CloudConfigWithoutHeader => headless(&name, bytes),
        Kind::Unit(unit) => self::unit(&name, &unit, bytes, false),
        Kind::DropIn(unit) => self::unit(&name, &unit, bytes, true),
    }
}

fn valid(what: String) -> Judgement {
    Judgement { what, findings: Diagnostics::default() }
}

fn recipe(name: &str, path: &Path, bytes: &[u8]) -> Judgement {
    match Recipe::parse(name, bytes, path.parent().unwrap_or(Path::new(""))) {
        Ok(recipe) => valid(format!("recipe of {} {}", recipe.name, recipe.version)),
        Err(findings) => Judgement { what: "recipe".to_owned(), findings },
    }
}

fn user_data(data: Result<UserData, Diagnostics>) -> Judgement {
    match data {
        Ok(data) => {
            let what = match data.parts() {
                [] => Format::Empty.to_string(),
                [one] => one.format.to_string(),
                many => format!("multipart text of {} parts", many.len()),
            };
            let findings = data.validate().unwrap_or_else(|findings| findings);
            Judgement { what, findings }
        }
        Err(findings) => Judgement { what: "user-data".to_owned(), findings },
    }
}

/// The missing first line is a finding among the others.
fn headless(name: &str, bytes: &[u8]) -> Judgement {
    let mut findings: Vec<Diagnostic> = match UserData::read(name, bytes) {
        Ok(_) => Vec::new(),
        Err(found) => found.as_slice().to_vec(),
    };
    let rest = user_data(UserData::read_cloud_config(name, bytes));
    findings.extend(rest.findings.as_slice().iter().cloned());
    Judgement { what: Format::CloudConfig.to_string(), findings: Diagnostics::new(findings) }
}

/// What is not understood is ignored by the service manager, so that it is a warning; what keeps the unit from being loaded is an error.
fn unit(name: &str, unit: &UnitName, bytes: &[u8], is_drop_in: bool) -> Judgement {
    let text = String::from_utf8_lossy(bytes);
    let instance = if unit.is_template() { unit.with_instance(INSTANCE).ok() } else { None };
    let unit = instance.as_ref().unwrap_or(unit);
    let (problem, warnings) = if is_drop_in {
        let (file, mut warnings) = UnitFile::parse(unit, &[(name, bytes)]);
        // What a drop-in lacks as a unit stands in the unit's own file.
        warnings.extend(file.typed(&System::default()).1.into_iter().filter(|warning| warning.line > 0));
        (None, warnings)
    } else {
        let (unit, warnings) = Unit::parse(unit, &[(name, bytes)], &System::default());
        (unit.problem(), warnings)
    };
    let findings = warnings.iter().map(|warning| {
        let line = usize::try_from(warning.line).ok().filter(|line| *line > 0);
        let at = line.map(|line| Position { line, column: column(&text, line) });
        let finding = Diagnostic::error(name, &text, at, warning.message.clone());
        let is_error = line.is_none() && problem.is_some();
        if is_error { finding } else { finding.into_warning() }
    });
    let mut findings: Vec<Diagnostic> = findings.collect();
    if let Some(problem) = problem.filter(|_| findings.iter().all(|finding| finding.position.is_some())) {
        findings.push(Diagnostic::error(name, &text, None, problem));
    }
    let what = if is_drop_in {
        format!("drop-in of a {} unit", unit.kind().suffix())
    } else {
        format!("{} unit", unit.kind().suffix())
    };
    Judgement { what, findings: Diagnostics::new(findings) }
}

/// Where the text of a line begins.
fn column(text: &str, line: usize) -> usize {
    let line = text.lines().nth(line - 1).unwrap_or_default();
    line.chars().take_while(|c| c.is_whitespace()).count() + 1
}
