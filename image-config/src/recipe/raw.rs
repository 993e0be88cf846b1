//! A recipe as written: only the shape is checked here, the rules are `validate`'s.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub debian: Debian,
    pub packages: Vec<String>,
    #[serde(default)]
    pub provides: Vec<String>,
    #[serde(default)]
    pub replace: Vec<String>,
    #[serde(default)]
    pub drop: Vec<String>,
    #[serde(default)]
    pub files: Vec<File>,
    #[serde(default)]
    pub trees: Vec<Tree>,
    pub applets: Option<Applets>,
    #[serde(default)]
    pub users: Vec<User>,
    #[serde(default)]
    pub groups: Vec<Group>,
    pub kernel: Kernel,
    pub initramfs: Initramfs,
    #[serde(default)]
    pub partitions: Partitions,
    #[serde(default)]
    pub budgets: Vec<Budget>,
    #[serde(default)]
    pub units: Units,
    #[serde(default)]
    pub keys: Keys,
    pub user_data: Option<String>,
    pub rollback_index: Option<u32>,
    pub minimum_loader: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Debian {
    pub suites: Vec<String>,
    pub components: Option<Vec<String>>,
    #[serde(default)]
    pub mirrors: Vec<String>,
    #[serde(default)]
    pub security_mirrors: Vec<String>,
    pub snapshot: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub path: String,
    pub content: Option<String>,
    pub source: Option<String>,
    pub symlink: Option<String>,
    pub directory: Option<bool>,
    pub owner: Option<String>,
    pub mode: Option<Mode>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tree {
    pub source: String,
    pub to: Option<String>,
    pub owner: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Applets {
    pub program: String,
    pub names: Vec<String>,
}

/// Octal digits; a number in the YAML is refused, because nobody can tell in which base it was meant.
#[derive(Debug)]
pub(super) struct Mode(pub u16);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: Option<u32>,
    pub group: Option<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    pub home: Option<String>,
    pub shell: Option<String>,
    pub gecos: Option<String>,
    #[serde(default)]
    pub system: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub name: String,
    pub gid: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    pub package: String,
    #[serde(default)]
    pub command_line: String,
    pub modules: Option<KeepModules>,
}

#[derive(Debug)]
pub(super) enum KeepModules {
    All,
    Matching(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Initramfs {
    pub modules: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partitions {
    pub esp: Option<String>,
    pub usr: Option<String>,
    pub oem: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub package: Option<String>,
    pub path: Option<String>,
    pub part: Option<String>,
    pub at_most: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Units {
    #[serde(default)]
    pub enable: Vec<String>,
    #[serde(default)]
    pub mask: Vec<String>,
    pub default: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub signing: Option<String>,
    pub channel: Option<String>,
    #[serde(default)]
    pub trusted: Vec<String>,
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("octal digits in quotes, such as \"0644\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Mode, E> {
                let octal = (3..=5).contains(&text.len()) && text.chars().all(|c| c.is_digit(8));
                let bits = u16::from_str_radix(text, 8).ok().filter(|bits| octal && *bits <= 0o7777);
                bits.map(Mode).ok_or_else(|| {
                    E::custom(format!(
                        "`{text}` is no file mode: write octal digits in quotes, such as \"0644\""
                    ))
                })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Mode, E> {
                Err(E::custom(format!(
                    "the file mode is the number {number}, in which base is unclear: write octal digits in quotes, \
                     such as \"0644\""
                )))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

impl<'de> Deserialize<'de> for KeepModules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllOrList;
        impl<'de> Visitor<'de> for AllOrList {
            type Value = KeepModules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all` or a list of patterns")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeepModules, E> {
                match text {
                    "all" => Ok(KeepModules::All),
                    other => Err(E::custom(format!("expected `all` or a list of patterns, not `{other}`"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<KeepModules, A::Error> {
                let mut patterns = Vec::new();
                while let Some(pattern) = elements.next_element()? {
                    patterns.push(pattern);
                }
                Ok(KeepModules::Matching(patterns))
            }
        }
        deserializer.deserialize_any(AllOrList)
    }
}
