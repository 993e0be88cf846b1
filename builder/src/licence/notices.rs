//! Licences in copyright files that people wrote as they liked: notices that refer to a licence, and licences quoted in full.
//!
//! What is found is there, but there may be more: a free-form file has no grammar to say that it was understood.

use std::collections::BTreeSet;

use super::{names, texts};

/// Families of the GNU project's licences as notices name them, and in Debian's short form.
const FAMILIES: [(&str, &str); 5] = [
    ("gnu lesser general public license", "lgpl"),
    ("gnu library general public license", "lgpl"),
    ("gnu affero general public license", "agpl"),
    ("gnu general public license", "gpl"),
    ("gnu free documentation license", "gfdl"),
];
/// Words around a mention that belong to it: "under the terms of the GNU General Public License as published by the Free Software
/// Foundation; either version 2 of the License, or (at your option) any later version".
const BEFORE: usize = 8;
const AFTER: usize = 24;
/// A quoted licence: how it begins, and how it ends (in words).
const QUOTED: [(&str, &str); 5] = [
    ("redistribution and use in source and binary forms", "possibility of such damage"),
    ("permission is hereby granted free of charge to any person obtaining", "dealings in the software"),
    ("permission to use copy modify and", "performance of this software"),
    (
        "this software is provided as is without any express or implied warranty in no event",
        "any source distribution",
    ),
    ("copying and distribution of this file with or without modification", "notice are preserved"),
];
/// The longest licence of [`QUOTED`], in bytes of words.
const MOST_BYTES: usize = 2400;

/// The licences that a free-form copyright file speaks of, as SPDX identifiers, sorted.
pub fn licences(text: &str) -> Vec<String> {
    let words = texts::words(text);
    let mut found: BTreeSet<String> = gnu(&words).into_iter().collect();
    found.extend(quoted(&words));
    if words.contains("licensed under the apache license version 2.0") {
        found.insert("Apache-2.0".to_owned());
    }
    if found.is_empty() {
        found.extend(common_licences(text, words.contains("any later version")));
    }
    found.into_iter().collect()
}

/// The licences of the GNU project that are granted in a text of [`texts::words`], sorted. Where to find their text, and who said
/// that there is no warranty, is no grant.
pub fn gnu(words: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (family, short) in FAMILIES {
        for (at, _) in words.match_indices(family) {
            let before: Vec<_> = words
                .get(..at)
                .unwrap_or_default()
                .rsplit(' ')
                .filter(|w| !w.is_empty())
                .take(BEFORE)
                .collect();
            let after = words.get(at + family.len()..).unwrap_or_default();
            let after: Vec<_> = after.split(' ').filter(|w| !w.is_empty()).take(AFTER).collect();
            found.extend(grant(short, &before, &after));
        }
    }
    found.into_iter().collect()
}

/// The licence that a mention grants. `before` are the words before it, the nearest first.
fn grant(short: &str, before: &[&str], after: &[&str]) -> Option<String> {
    // "the complete text of the ...", "a copy of the ...", "see the ... for more details"
    if before.iter().take(4).any(|word| matches!(*word, "text" | "texts" | "copy" | "see" | "entitled")) {
        return None;
    }
    let number = |word: &str| {
        let digits = word.trim_start_matches('v');
        let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        plain.then(|| digits.to_owned())
    };
    // "version 2 of the GNU ...", else "the GNU ... version 2" with up to a sentence between.
    let earlier = match before {
        ["the", "of", version, "version", ..] => number(version),
        _ => None,
    };
    let (version, rest) = match earlier {
        Some(version) => (version, after),
        None => {
            let stop = after.iter().position(|word| *word == "gnu").unwrap_or(after.len());
            let after = after.get(..stop).unwrap_or_default();
            let at = after
                .windows(2)
                .position(|pair| matches!(pair, ["version", version] if number(version).is_some()))?;
            (number(after.get(at + 1)?)?, after.get(at + 2..).unwrap_or_default())
        }
    };
    let later = rest
        .windows(2)
        .any(|pair| matches!(pair, ["later", "version"] | ["or", "later"] | ["newer", "version"]));
    names::gnu(&format!("{short}-{version}{}", if later { "+" } else { "" }))
}

/// Licences that are quoted in full.
fn quoted(words: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (begin, end) in QUOTED {
        for (at, _) in words.match_indices(begin) {
            let rest = words.get(at..).unwrap_or_default();
            let Some(length) =
                rest.find(end).map(|found| found + end.len()).filter(|length| *length <= MOST_BYTES)
            else {
                continue;
            };
            found.extend(rest.get(..length).and_then(texts::known).map(str::to_owned));
        }
    }
    found
}

/// What a file without a notice refers to in `/usr/share/common-licenses`.
fn common_licences(text: &str, later: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (at, folder) in text.match_indices("/usr/share/common-licenses/") {
        let rest = text.get(at + folder.len()..).unwrap_or_default();
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.')).unwrap_or(rest.len());
        // The full stop of the sentence is not the name's.
        let name = rest.get(..end).unwrap_or_default().trim_end_matches(['.', '-']);
        let is_gnu = names::gnu(&name.to_ascii_lowercase()).is_some();
        let versioned = name.ends_with(|c: char| c.is_ascii_digit());
        let plus = if is_gnu && versioned && later { "+" } else { "" };
        found.extend(names::spdx(&format!("{name}{plus}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notices_name_version_and_whether_later_ones_will_do() {
        let cases = [
            (
                "it under the terms of the GNU General Public License as published by the Free Software Foundation; either version 2 of the License, or (at your option) any later version.",
                "GPL-2.0-or-later",
            ),
            (
                "under the terms of the GNU General Public License as published by\nthe Free Software Foundation; version 2 dated June, 1991.",
                "GPL-2.0-only",
            ),
            (
                "the GNU Lesser General Public\n License, version 2.1 (or, at your option, any later version)",
                "LGPL-2.1-or-later",
            ),
            ("under version 3 of the GNU Affero General Public License", "AGPL-3.0-only"),
            (
                "under the terms of version 2 of the GNU Library General Public License, or any later version",
                "LGPL-2.0-or-later",
            ),
            (
                " * under the terms of the GNU Lesser General Public License as\n * published by the Free Software Foundation; either version 2.1 of\n * the License, or",
                "LGPL-2.1-only",
            ),
            ("the complete text of the GNU General Public License version 3 can be found in", ""),
            ("See the GNU General Public License for more details. You may use version 7.", ""),
            ("GNU General Public License version 2.7", ""),
            ("License: see `/usr/share/common-licenses/Artistic'.", "Artistic-1.0-Perl"),
            ("or any later version: /usr/share/common-licenses/GPL-2.", "GPL-2.0-or-later"),
            ("in /usr/share/common-licenses/GPL.", "GPL-1.0-or-later"),
            ("This program is free software.", ""),
        ];
        for (text, want) in cases {
            assert_eq!(licences(text).join(", "), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(GNU (Lesser )?General Public License|version|[0-9.v]{1,4}|or later|of the|[ -~é\\n]){0,40}") {
            for licence in licences(&text) {
                prop_assert!(spdx::Expression::parse(&licence).is_ok(), "{licence}");
            }
        }
    }
}
