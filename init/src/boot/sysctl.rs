//! Kernel parameters: a few safe defaults and sysctl.d(5).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const FOLDERS: &[&str] = &["/etc/sysctl.d", "/run/sysctl.d", "/usr/lib/sysctl.d"];

/// What systemd and Debian set on every machine, and packages rely on.
const DEFAULTS: &[(&str, &str)] = &[
    ("fs/protected_fifos", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_regular", "2"),
    ("fs/protected_symlinks", "1"),
    // The magic key: only sync, remount read-only and reboot on a console that anyone may reach.
    ("kernel/sysrq", "176"),
    ("net/ipv4/conf/default/rp_filter", "2"),
    ("net/ipv4/conf/default/promote_secondaries", "1"),
];

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    value: String,
    /// A failure is no news (`-` in front of the name).
    quiet: bool,
}

/// Sets everything; returns what failed, a line each.
pub fn apply() -> Vec<String> {
    let mut settings = BTreeMap::new();
    for (key, value) in DEFAULTS {
        settings.insert((*key).to_owned(), Setting { value: (*value).to_owned(), quiet: true });
    }
    for text in super::coldplug::configuration(FOLDERS) {
        settings.extend(parse(&text));
    }
    let mut problems = Vec::new();
    for (key, setting) in settings {
        if let Err(error) = write(&key, &setting.value)
            && !setting.quiet
        {
            problems.push(format!("sysctl {key}: {error}"));
        }
    }
    problems
}

fn write(key: &str, value: &str) -> io::Result<()> {
    std::fs::write(Path::new("/proc/sys").join(key), format!("{value}\n"))
}

/// `KEY = VALUE` lines; keys as paths below `/proc/sys`. Lines that are none, and keys with patterns or `..`, are skipped.
fn parse(text: &str) -> Vec<(String, Setting)> {
    let mut settings = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim();
        let (quiet, key) = key.strip_prefix('-').map_or((false, key), |key| (true, key.trim()));
        let path = as_path(key);
        let odd = path.is_empty()
            || path.starts_with('/')
            || path.contains(['*', '?', '['])
            || path.split('/').any(|part| part == "..");
        if !odd {
            settings.push((path, Setting { value: value.trim().to_owned(), quiet }));
        }
    }
    settings
}

/// The first separator decides: `net.ipv4.conf.eth0/1.x` has dots for slashes and the other way round.
fn as_path(key: &str) -> String {
    match key.find(['.', '/']).and_then(|at| key.as_bytes().get(at)) {
        Some(b'.') => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ways_of_writing_a_key_are_understood() {
        let parsed = parse(
            "# c\nnet.ipv4.ip_forward = 1\n-kernel/x=a b\nnet.ipv4.conf.eth0/1.y=2\nnonsense\n../../etc/x=1\na.*=1\n=3\n",
        );
        let keys: Vec<_> = parsed
            .iter()
            .map(|(key, setting)| (key.as_str(), setting.value.as_str(), setting.quiet))
            .collect();
        assert_eq!(
            keys,
            [
                ("net/ipv4/ip_forward", "1", false),
                ("kernel/x", "a b", true),
                ("net/ipv4/conf/eth0.1/y", "2", false)
            ]
        );
    }

    proptest! {
        #[test]
        fn no_key_leaves_proc_sys(text in "([a-z./-]{0,12}=[a-z]{0,3}\n){0,5}") {
            for (key, _) in parse(&text) {
                prop_assert!(!key.starts_with('/') && !key.split('/').any(|part| part == ".."));
            }
        }
    }
}
