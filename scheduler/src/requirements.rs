//! What a unit asks of the machine that it runs on: the section `[X-Fleet]`.

use std::collections::{BTreeMap, BTreeSet};

use image_config::unit::UnitName;
use init::boot::glob;

use crate::unit_file::UnitFile;

/// The section.
pub const SECTION: &str = "X-Fleet";

/// Options with their older names.
const KEYS: [(&str, &[&str]); 7] = [
    ("MachineID", &["X-ConditionMachineID", "X-ConditionMachineBootID"]),
    ("MachineOf", &["X-ConditionMachineOf"]),
    ("MachineMetadata", &["X-ConditionMachineMetadata"]),
    ("Conflicts", &["X-Conflicts"]),
    ("Global", &[]),
    ("Replaces", &[]),
    ("Fence", &[]),
];

/// A shell pattern of unit names: `*`, `?`, `[a-z]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether a name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        glob::matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// What becomes of a unit on a machine that is cut off from etcd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fence {
    /// It runs on. If the cluster starts it elsewhere, there are two until the machine comes back.
    #[default]
    No,
    /// It is stopped before the cluster may start it elsewhere.
    Strict,
}

/// What a unit asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// This machine: its id, or the id's first eight characters.
    pub machine_id: Option<String>,
    /// The machine of these units.
    pub machine_of: Vec<String>,
    /// For each key one of these values.
    pub metadata: BTreeMap<String, BTreeSet<String>>,
    /// No machine with a unit of such a name.
    pub conflicts: Vec<Pattern>,
    /// Units of such names leave the machine.
    pub replaces: Vec<Pattern>,
    /// On all machines that fit.
    pub global: bool,
    /// When the machine is cut off.
    pub fence: Fence,
}

/// Requirements that exclude each other; the words are fleet's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Two options.
    #[error("{0} cannot be used with {1}")]
    Together(&'static str, &'static str),
    /// A peer that may not be on the same machine.
    #[error("unresolvable requirements: peer {peer:?} matches {what} {pattern:?}")]
    Peer {
        /// The peer.
        peer: String,
        /// `conflict` or `replace`.
        what: &'static str,
        /// The pattern that it fits.
        pattern: String,
    },
}

impl Requirements {
    /// Reads a unit's requirements. What means nothing is told as warnings and otherwise ignored, as fleet did.
    #[must_use]
    pub fn of(name: &UnitName, file: &UnitFile) -> (Self, Vec<String>) {
        let mut found = Self::default();
        let mut warnings = Vec::new();
        for option in file.options().iter().filter(|option| option.section == SECTION) {
            let key = KEYS
                .iter()
                .find(|(key, old)| *key == option.name || old.contains(&option.name.as_str()))
                .map(|(key, _)| *key);
            let Some(key) = key else {
                warnings.push(format!("unrecognized requirement in [{SECTION}] section: {:?}", option.name));
                continue;
            };
            let values = lex(&option.value).into_iter().map(|value| expand(&value, name)).collect();
            found.add(key, values, &mut warnings);
        }
        (found, warnings)
    }

    fn add(&mut self, key: &str, values: Vec<String>, warnings: &mut Vec<String>) {
        let words = || values.iter().flat_map(|value| value.split_whitespace());
        match key {
            "MachineID" => {
                if self.machine_id.is_none() {
                    self.machine_id = values.into_iter().next();
                } else {
                    warnings.push("only the first MachineID counts".to_owned());
                }
            }
            "MachineOf" => self.machine_of.extend(words().map(str::to_owned)),
            "Conflicts" => self.conflicts.extend(words().map(|word| Pattern(word.to_owned()))),
            "Replaces" => self.replaces.extend(words().map(|word| Pattern(word.to_owned()))),
            "Global" => {
                for value in values {
                    self.global = is_true(&value);
                }
            }
            "Fence" => {
                for value in values {
                    match value.as_str() {
                        "strict" => self.fence = Fence::Strict,
                        "no" => self.fence = Fence::No,
                        other => warnings.push(format!("Fence is \"strict\" or \"no\", not {other:?}")),
                    }
                }
            }
            _ => {
                for value in values {
                    let pair = value
                        .split_once('=')
                        .filter(|(key, value)| !key.is_empty() && !value.is_empty() && !value.contains('='));
                    match pair {
                        Some((key, value)) => {
                            self.metadata.entry(key.to_owned()).or_default().insert(value.to_owned());
                        }
                        None => warnings.push(format!(
                            "MachineMetadata is KEY=VALUE, each pair in quotes if there are several in one line; {value:?} is ignored"
                        )),
                    }
                }
            }
        }
    }

    /// Whether they can be met at all.
    ///
    /// # Errors
    /// The first [`Contradiction`].
    pub fn check(&self) -> Result<(), Contradiction> {
        let has = [
            ("Peers", !self.machine_of.is_empty()),
            ("Conflicts", !self.conflicts.is_empty()),
            ("Global", self.global),
            ("Replaces", !self.replaces.is_empty()),
        ];
        let used = |name: &str| has.iter().any(|(other, used)| *other == name && *used);
        let exclusive: [(&'static str, bool, &[&'static str]); 3] = [
            ("MachineID", self.machine_id.is_some(), &["Peers", "Conflicts", "Global", "Replaces"]),
            ("Global", self.global, &["Peers", "Replaces"]),
            ("Conflicts", !self.conflicts.is_empty(), &["Replaces"]),
        ];
        for (name, is_used, others) in exclusive {
            if let Some(other) = others.iter().find(|other| is_used && used(other)) {
                return Err(Contradiction::Together(name, other));
            }
        }
        for peer in &self.machine_of {
            for (what, patterns) in [("conflict", &self.conflicts), ("replace", &self.replaces)] {
                if let Some(Pattern(pattern)) = patterns.iter().find(|pattern| pattern.matches(peer)) {
                    let (peer, pattern) = (peer.clone(), pattern.clone());
                    return Err(Contradiction::Peer { peer, what, pattern });
                }
            }
        }
        Ok(())
    }

    /// The first pattern by which it does not bear a unit of that name beside it.
    #[must_use]
    pub fn conflict_with(&self, name: &str) -> Option<&Pattern> {
        self.conflicts.iter().find(|pattern| pattern.matches(name))
    }

    /// Whether it pushes a unit of that name to another machine.
    #[must_use]
    pub fn replaces(&self, name: &str) -> bool {
        self.replaces.iter().any(|pattern| pattern.matches(name))
    }
}

/// fleet's reading of "yes".
fn is_true(text: &str) -> bool {
    ["true", "yes", "1", "on", "t"].contains(&text.trim().to_ascii_lowercase().as_str())
}

/// A line that begins and ends with a quote holds several values, at spaces outside of quotes; any other line is one.
fn lex(line: &str) -> Vec<String> {
    if line.len() < 2 || !line.starts_with('"') || !line.ends_with('"') {
        return vec![line.to_owned()];
    }
    let (mut values, mut value, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => values.push(std::mem::take(&mut value)),
            letter => value.push(letter),
        }
    }
    values.push(value);
    values.retain(|value| !value.is_empty());
    values
}

/// fleet's four specifiers.
fn expand(text: &str, name: &UnitName) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let mut letters = after.chars();
        let value = match letters.next() {
            Some('n') => name.as_str(),
            Some('N') => name.stem(),
            Some('p') => name.prefix(),
            Some('i') => name.instance().unwrap_or_default(),
            _ => {
                out.push('%');
                rest = after;
                continue;
            }
        };
        out.push_str(value);
        rest = letters.as_str();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name;
    use proptest::prelude::*;

    fn read(unit: &str, section: &str) -> (Requirements, Vec<String>) {
        let file = UnitFile::parse(&format!("[X-Fleet]\n{section}\n")).unwrap();
        Requirements::of(&name::check(unit).unwrap(), &file)
    }

    #[test]
    fn the_options_of_the_talks_are_read() {
        let (apache, warnings) = read("apache@1.service", "Conflicts=apache@*.service");
        assert!(apache.conflict_with("apache@2.service").is_some() && warnings.is_empty());
        let (nginx, _) = read("lb.service", "X-Conflicts=nginx.service\nX-Conflicts=node@*.service");
        assert!(
            nginx.conflict_with("node@4.service").is_some() && nginx.conflict_with("nginx.service").is_some()
        );
        let (sidekick, _) = read("sidekick@3.service", "MachineOf=nginx@%i.service");
        assert_eq!(sidekick.machine_of, ["nginx@3.service"]);
        let (meta, _) = read(
            "m@a.service",
            "MachineMetadata=\"region=%i\" \"region=b\" \"disk=ssd\"\nMachineMetadata=disk=hdd",
        );
        let set = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(meta.metadata["region"], set(&["a", "b"]));
        assert_eq!(meta.metadata["disk"], set(&["hdd", "ssd"]));
        for (text, global) in
            [("true", true), ("Yes", true), ("on", true), ("no", false), ("true\nGlobal=false", false)]
        {
            assert_eq!(read("g.service", &format!("Global={text}")).0.global, global, "{text}");
        }
        let (many, _) = read("c.service", "Conflicts=a.service b.service\nConflicts=\"c.service\" \"d.*\"");
        assert_eq!(many.conflicts.len(), 4);
    }

    #[test]
    fn specifiers_are_the_four_of_fleet() {
        let name = name::check("a-b@x.y.service").unwrap();
        assert_eq!(expand("%n|%N|%p|%i|%H|100%", &name), "a-b@x.y.service|a-b@x.y|a-b|x.y|%H|100%");
        assert_eq!(expand("%%i", &name::check("a.service").unwrap()), "%");
    }

    #[test]
    fn what_means_nothing_is_told() {
        let (_, warnings) =
            read("a.service", "Colour=blue\nMachineMetadata=region\nFence=loose\nMachineID=a\nMachineID=b");
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert_eq!(warnings[0], "unrecognized requirement in [X-Fleet] section: \"Colour\"");
        assert_eq!(read("a.service", "Fence=strict").0.fence, Fence::Strict);
    }

    #[test]
    fn contradictions_are_told_in_fleets_words() {
        let cases: &[(&str, Option<&str>)] = &[
            ("MachineID=a", None),
            ("MachineID=a\nMachineOf=b.service", Some("MachineID cannot be used with Peers")),
            ("MachineID=a\nConflicts=b.service", Some("MachineID cannot be used with Conflicts")),
            ("MachineID=a\nGlobal=true", Some("MachineID cannot be used with Global")),
            ("MachineID=a\nReplaces=b.service", Some("MachineID cannot be used with Replaces")),
            ("Global=true\nMachineOf=b.service", Some("Global cannot be used with Peers")),
            ("Global=true\nReplaces=b.service", Some("Global cannot be used with Replaces")),
            ("Global=true\nConflicts=b.service", None),
            ("Conflicts=a.service\nReplaces=b.service", Some("Conflicts cannot be used with Replaces")),
            (
                "MachineOf=b.service\nConflicts=b*",
                Some("unresolvable requirements: peer \"b.service\" matches conflict \"b*\""),
            ),
            (
                "MachineOf=b.service\nReplaces=b.service",
                Some("unresolvable requirements: peer \"b.service\" matches replace \"b.service\""),
            ),
        ];
        for (section, want) in cases {
            let told = read("u.service", section).0.check().err().map(|error| error.to_string());
            assert_eq!(told.as_deref(), *want, "{section}");
        }
    }

    proptest! {
        #[test]
        fn any_section_is_read_without_panic(value in "[\"a-c%niNp =*?\\[\\]]{0,40}", key in 0_usize..7) {
            let (found, _) = read("x@1.service", &format!("{}={value}", KEYS[key].0));
            let _ = found.check();
        }
    }
}
