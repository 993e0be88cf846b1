//! What a file is, by its name and its first lines.

use std::path::Path;

use image_config::unit::UnitName;
use image_config::user_data::{Format, UserData};

/// Keys that recipes have, and cloud-configs not, at the beginning of a line.
const RECIPE_KEYS: [&str; 8] =
    ["architecture", "debian", "kernel", "partitions", "initramfs", "applets", "provides", "trees"];
/// Keys that cloud-configs have, and recipes not.
const CLOUD_CONFIG_KEYS: [&str; 12] = [
    "coreos",
    "write_files",
    "ssh_authorized_keys",
    "hostname",
    "fqdn",
    "runcmd",
    "bootcmd",
    "manage_etc_hosts",
    "timezone",
    "ntp",
    "mounts",
    "ca_certs",
];

/// What a file is taken for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Recipe,
    Lock,
    /// Anything that a machine would take as user-data, or say why not.
    UserData,
    /// A cloud-config whose first line is missing or misspelt.
    CloudConfigWithoutHeader,
    Unit(UnitName),
    DropIn(UnitName),
}

impl Kind {
    pub(super) fn of(path: &Path, bytes: &[u8]) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_yaml = matches!(ending, "yaml" | "yml");
        if ending == "lock" {
            return Self::Lock;
        }
        if let Ok(unit) = UnitName::parse(name) {
            return Self::Unit(unit);
        }
        let folder =
            path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(unit) = folder.strip_suffix(".d").and_then(|unit| UnitName::parse(unit).ok())
            && ending == "conf"
        {
            return Self::DropIn(unit);
        }
        match UserData::format(bytes) {
            Some(Format::Empty) if is_yaml => return Self::Recipe,
            Some(_) => return Self::UserData,
            None => {}
        }
        let text = String::from_utf8_lossy(bytes);
        if is_unit(&text)
            && let Ok(unit) =
                UnitName::parse(if has_section(&text, "[Socket]") { "stdin.socket" } else { "stdin.service" })
        {
            return Self::Unit(unit);
        }
        let has = |keys: &[&str]| {
            text.lines().any(|line| {
                line.split_once(':').is_some_and(|(key, _)| keys.contains(&key.replace('-', "_").as_str()))
            })
        };
        match (has(&RECIPE_KEYS), has(&CLOUD_CONFIG_KEYS)) {
            (false, true) => Self::CloudConfigWithoutHeader,
            (true, _) => Self::Recipe,
            (false, false) if is_yaml => Self::Recipe,
            (false, false) => Self::UserData,
        }
    }
}

/// Whether the first line that says something is a section's.
fn is_unit(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    first.is_some_and(|line| line.starts_with('[') && line.ends_with(']'))
}

fn has_section(text: &str, section: &str) -> bool {
    text.lines().any(|line| line.trim() == section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_and_first_lines() {
        let unit = |name: &str| UnitName::parse(name).unwrap();
        let cases = [
            ("a.yaml", "name: x\narchitecture: x86_64\n", Kind::Recipe),
            ("a.yaml", "name: x\n", Kind::Recipe),
            ("a.yaml", "", Kind::Recipe),
            ("-", "", Kind::UserData),
            ("-", "name: x\ndebian:\n  suites: []\n", Kind::Recipe),
            ("a.yaml", "#cloud-config\nname: x\n", Kind::UserData),
            ("a.yml", "coreos:\n  units: []\n", Kind::CloudConfigWithoutHeader),
            ("a", "write-files: []\n", Kind::CloudConfigWithoutHeader),
            ("user-data", "#!/bin/sh\n", Kind::UserData),
            ("config.ign", "{}", Kind::UserData),
            ("a.lock", "#cloud-config\n", Kind::Lock),
            ("nginx@.service", "#cloud-config\n", Kind::Unit(unit("nginx@.service"))),
            ("etc/fleet.service.d/10.conf", "[Service]\n", Kind::DropIn(unit("fleet.service"))),
            ("-", "# x\n[Unit]\n", Kind::Unit(unit("stdin.service"))),
            ("-", "[Socket]\nListenStream=1\n", Kind::Unit(unit("stdin.socket"))),
            ("a.txt", "hello", Kind::UserData),
        ];
        for (path, text, want) in cases {
            assert_eq!(Kind::of(Path::new(path), text.as_bytes()), want, "{path} {text:?}");
        }
    }
}
