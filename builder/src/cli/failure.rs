//! How a command that failed says so: for people on stderr, and with `--json` as a document on stdout as well.

use serde::Serialize;

use super::{hint, output, style};

/// An error, taken apart.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What did not work.
    error: String,
    /// Why, from the surface down.
    causes: Vec<String>,
    /// What to do about it.
    hint: Option<String>,
}

impl Failure {
    /// Takes an error apart. A cause that the line above ends with already is left out.
    pub fn of(error: &anyhow::Error) -> Self {
        let mut hint = None;
        let mut parts: Vec<String> = Vec::new();
        let mut shown = String::new();
        for cause in error.chain() {
            let whole = cause.to_string();
            // Errors that know what to do about them say so in their own text.
            let (text, own) = match whole.split_once("\nhint: ").or_else(|| whole.split_once("; hint: ")) {
                Some((text, own)) => (text.to_owned(), Some(own.to_owned())),
                None => (whole.clone(), None),
            };
            hint = hint.or(own);
            if parts.is_empty() || !shown.ends_with(&whole) {
                parts.push(text);
            }
            shown = whole;
        }
        let mut parts = parts.into_iter();
        Self {
            error: parts.next().unwrap_or_default(),
            causes: parts.collect(),
            hint: hint.or_else(|| hint::of(error)),
        }
    }

    /// The same failure with another hint.
    #[must_use]
    pub fn with_hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }

    /// Says it on stderr, and as JSON on stdout when that was asked for.
    pub fn report(&self, json: bool) {
        style::say(&self.text());
        if json {
            // The failure that is being told matters more than one to tell it.
            let _ = output::print_json(self);
        }
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}", self.error);
        for cause in &self.causes {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_once() {
        let error = anyhow!("disk full").context("cannot write: disk full").context("cannot build");
        let failure = Failure::of(&error);
        assert_eq!(failure.text(), "error: cannot build\n  caused by: cannot write: disk full");
        let json = serde_json::to_value(&failure).unwrap();
        assert_eq!(json["error"], "cannot build");
        assert_eq!(json["causes"][0], "cannot write: disk full");
        assert!(json["hint"].is_null());
    }

    #[test]
    fn what_an_error_advises_becomes_its_hint() {
        for text in ["gone\nhint: look", "gone; hint: look"] {
            let error = Err::<(), _>(anyhow!(text.to_owned())).context("cannot fetch").unwrap_err();
            let failure = Failure::of(&error);
            assert_eq!(
                (failure.causes.as_slice(), failure.hint.as_deref()),
                (&["gone".to_owned()][..], Some("look"))
            );
        }
    }
}
