//! What the makers of a system think should be enabled: systemd.preset(5).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use image_config::unit::UnitName;

use super::{is_mask, read_folder};
use crate::boot::glob;

/// Where preset files are, strongest first; of two with one name the stronger folder's counts.
const FOLDERS: [&str; 4] = [
    "etc/systemd/system-preset",
    "run/systemd/system-preset",
    "usr/local/lib/systemd/system-preset",
    "usr/lib/systemd/system-preset",
];

/// What is to be done with a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Enable it; of a template, these instances.
    Enable(Vec<String>),
    /// Disable it.
    Disable,
    /// Leave it as it is.
    Ignore,
}

impl Advice {
    /// systemd's word.
    pub fn word(&self) -> &'static str {
        match self {
            Advice::Enable(_) => "enabled",
            Advice::Disable => "disabled",
            Advice::Ignore => "ignored",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: String,
    advice: Advice,
}

/// All rules of a system, the first that fits decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presets {
    rules: Vec<Rule>,
}

impl Presets {
    /// Reads the preset files below a root; lines that are none are passed over, as systemd does it.
    pub fn of_system(root: &Path) -> Presets {
        let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
        for path in FOLDERS.iter().flat_map(|folder| read_folder(&root.join(folder))) {
            if let Some(name) =
                path.file_name().filter(|_| path.extension().is_some_and(|end| end == "preset"))
            {
                files.entry(name.to_owned()).or_insert(path);
            }
        }
        let mut presets = Presets::default();
        for path in files.into_values().filter(|path| !is_mask(path)) {
            presets.add(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()));
        }
        presets
    }

    fn add(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            let (Some(verb), Some(pattern)) = (words.next(), words.next()) else { continue };
            let advice = match verb {
                "enable" => Advice::Enable(words.map(str::to_owned).collect()),
                "disable" => Advice::Disable,
                "ignore" => Advice::Ignore,
                _ => continue,
            };
            self.rules.push(Rule { pattern: pattern.to_owned(), advice });
        }
    }

    /// What is to be done with a unit. Where no rule fits, it is to be enabled.
    pub fn advice(&self, unit: &UnitName) -> Advice {
        let rule = self.rules.iter().find(|rule| fits(rule, unit));
        match rule.map(|rule| &rule.advice) {
            // The list of instances speaks of the template; an instance that is asked for is meant itself.
            Some(Advice::Enable(_)) if !unit.is_template() => Advice::Enable(Vec::new()),
            Some(advice) => advice.clone(),
            None => Advice::Enable(Vec::new()),
        }
    }
}

fn fits(rule: &Rule, unit: &UnitName) -> bool {
    let matches = |name: &str| glob::matches(rule.pattern.as_bytes(), name.as_bytes());
    let of_template = || {
        let (Advice::Enable(instances), Some(instance)) = (&rule.advice, unit.instance()) else {
            return false;
        };
        instances.iter().any(|known| known == instance)
            && unit.template().is_some_and(|template| matches(template.as_str()))
    };
    matches(unit.as_str()) || of_template()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn advice(presets: &Presets, unit: &str) -> Advice {
        presets.advice(&UnitName::parse(unit).unwrap())
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_stronger_folders_hide_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "usr/lib/systemd/system-preset/90-systemd.preset",
            "enable ssh.*\nenable getty@.service tty1 tty2\n",
        );
        write("usr/lib/systemd/system-preset/99-default.preset", "disable *\n");
        write("usr/lib/systemd/system-preset/50-gone.preset", "disable ssh.service\n");
        write("etc/systemd/system-preset/50-gone.preset", "# hides the other\nignore mine.service\nfrob x\n");
        write("etc/systemd/system-preset/README", "disable ssh.socket\n");
        let presets = Presets::of_system(root.path());
        assert_eq!(advice(&presets, "ssh.service"), Advice::Enable(Vec::new()));
        assert_eq!(advice(&presets, "ssh.socket"), Advice::Enable(Vec::new()));
        assert_eq!(advice(&presets, "mine.service"), Advice::Ignore);
        assert_eq!(advice(&presets, "other.service"), Advice::Disable);
        assert_eq!(advice(&presets, "getty@.service"), Advice::Enable(vec!["tty1".into(), "tty2".into()]));
        assert_eq!(advice(&presets, "getty@tty1.service"), Advice::Enable(Vec::new()));
        assert_eq!(advice(&presets, "getty@tty7.service"), Advice::Disable);
        assert_eq!(advice(&Presets::default(), "any.service"), Advice::Enable(Vec::new()));
    }

    proptest! {
        #[test]
        fn any_text_is_rules_or_nothing(text in "\\PC{0,80}") {
            let mut presets = Presets::default();
            presets.add(&text);
            let _any = advice(&presets, "a@b.service");
        }
    }
}
