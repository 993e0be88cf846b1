//! Rules of budgets.

use super::super::names::NameError;
use super::super::{Budget, ByteSize, PackageName, Part, Subject, raw};
use super::files::{Place, path_in_image};
use super::{Check, steps};
use crate::diagnostic::did_you_mean;
use crate::yaml::Step;

/// Budgets in the order written, each subject once.
pub(super) fn budgets(check: &mut Check<'_>, raw: &[raw::Budget]) -> Vec<Budget> {
    let mut out: Vec<Budget> = Vec::with_capacity(raw.len());
    for (index, entry) in raw.iter().enumerate() {
        let at_most = check.word(steps!["budgets", index, "at_most"], &entry.at_most, ByteSize::parse);
        let Some(subject) = subject(check, index, entry) else { continue };
        if out.iter().any(|other| other.subject == subject) {
            let hint = "keep one: what is above the lower one is above the other".to_owned();
            check.error(steps!["budgets", index], format!("{subject} has two budgets"), Some(hint));
            continue;
        }
        out.extend(at_most.map(|at_most| Budget { subject, at_most }));
    }
    out
}

fn subject(check: &mut Check<'_>, index: usize, raw: &raw::Budget) -> Option<Subject> {
    let mut given = [("package", &raw.package), ("path", &raw.path), ("part", &raw.part)]
        .into_iter()
        .filter_map(|(key, text)| Some((key, text.as_deref()?)));
    let Some((key, text)) = given.next() else {
        let hint = "one of `package`, `path` and `part` is needed, such as `part: slot`".to_owned();
        check.error(steps!["budgets", index], "nothing says what the budget is for", Some(hint));
        return None;
    };
    if let Some((other, _)) = given.next() {
        let hint = "write a budget for each".to_owned();
        check.error(steps!["budgets", index], format!("`{key}`, `{other}` exclude each other"), Some(hint));
        return None;
    }
    let place = steps!["budgets", index, key];
    match key {
        "package" => check.word(place, text, PackageName::parse).map(Subject::Package),
        "path" => check.word(place, text, |text| path_in_image(text, Place::File)).map(Subject::Path),
        _ => check.word(place, text, part).map(Subject::Part),
    }
}

fn part(text: &str) -> Result<Part, NameError> {
    Part::ALL.into_iter().find(|part| part.name() == text).ok_or_else(|| {
        let names = Part::ALL.map(Part::name);
        let hint = match did_you_mean(text, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the parts are {}; `slot` is the whole", names.join(", ")),
        };
        NameError::new(format!("a slot has no part `{text}`")).hint(hint)
    })
}
