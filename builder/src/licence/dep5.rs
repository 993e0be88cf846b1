//! Machine-readable copyright files (DEP-5): paragraphs of fields. Lines that break the format are passed over: what the rest says
//! still holds.

use std::collections::BTreeMap;

/// What a copyright file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copyright<'a> {
    /// The licences of its `Files` paragraphs, in their order; those of the header when there is none.
    pub licences: Vec<License<'a>>,
    /// Texts of stand-alone `License` paragraphs, by their short name in lower case.
    pub texts: BTreeMap<String, String>,
}

/// A `License` field: the short name on its first line, the text on the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License<'a> {
    /// The short name, or an expression of several.
    pub synopsis: &'a str,
    /// The text; empty when it stands elsewhere.
    pub text: String,
}

/// Reads a copyright file; `None` when it does not say that it is machine-readable.
pub fn parse(text: &str) -> Option<Copyright<'_>> {
    let mut paragraphs = paragraphs(text).into_iter();
    let header = paragraphs.next()?;
    if !["Format", "Format-Specification"].iter().any(|name| header.field(name).is_some()) {
        return None;
    }
    let mut copyright = Copyright::default();
    for paragraph in paragraphs {
        let Some(license) = paragraph.license() else { continue };
        if paragraph.field("Files").is_some() {
            copyright.licences.push(license);
        } else {
            copyright.texts.entry(license.synopsis.to_ascii_lowercase()).or_insert(license.text);
        }
    }
    if copyright.licences.is_empty() {
        copyright.licences.extend(header.license());
    }
    Some(copyright)
}

/// Fields by name, each with its first line and the lines that continue it.
#[derive(Debug, Default)]
struct Paragraph<'a> {
    fields: Vec<(&'a str, &'a str, Vec<&'a str>)>,
}

impl<'a> Paragraph<'a> {
    fn field(&self, name: &str) -> Option<(&'a str, &[&'a str])> {
        let found = self.fields.iter().find(|(field, ..)| field.eq_ignore_ascii_case(name))?;
        Some((found.1, &found.2))
    }

    fn license(&self) -> Option<License<'a>> {
        let (synopsis, lines) = self.field("License")?;
        Some(License { synopsis, text: lines.join("\n") })
    }
}

fn paragraphs(text: &str) -> Vec<Paragraph<'_>> {
    let mut paragraphs = vec![Paragraph::default()];
    for line in text.lines() {
        if line.trim().is_empty() {
            paragraphs.push(Paragraph::default());
            continue;
        }
        let Some(paragraph) = paragraphs.last_mut() else { continue };
        if line.starts_with([' ', '\t']) {
            if let Some((_, _, lines)) = paragraph.fields.last_mut() {
                lines.push(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        {
            paragraph.fields.push((name, value.trim(), Vec::new()));
        }
    }
    paragraphs.retain(|paragraph| !paragraph.fields.is_empty());
    paragraphs
}
