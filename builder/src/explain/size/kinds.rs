//! What files are for, by where Debian puts them.

use super::super::paths::{is_at_or_below, name};
use crate::build::ManifestFile;

/// Folders that tell what is in them; the first that a path lies in decides.
const FOLDERS: [(&str, &str); 16] = [
    ("/usr/lib/modules", "kernel modules"),
    ("/usr/lib/firmware", "firmware"),
    ("/usr/etc", "configuration"),
    ("/usr/share/doc", "licences and documentation"),
    ("/usr/share/man", "licences and documentation"),
    ("/usr/share/info", "licences and documentation"),
    ("/usr/share/common-licenses", "licences and documentation"),
    ("/usr/share/locale", "languages and time zones"),
    ("/usr/share/i18n", "languages and time zones"),
    ("/usr/share/zoneinfo", "languages and time zones"),
    ("/usr/lib/locale", "languages and time zones"),
    ("/usr/lib/systemd", "units"),
    ("/usr/bin", "programs"),
    ("/usr/sbin", "programs"),
    ("/usr/libexec", "programs"),
    ("/usr/share/factory", "configuration"),
];

/// The kind of a file.
pub(super) fn of(file: &ManifestFile) -> &'static str {
    let path = file.path.as_str();
    let folder = FOLDERS.iter().find(|(folder, _)| is_at_or_below(path, folder));
    match folder {
        Some((_, kind)) => kind,
        None if is_library(name(path)) => "libraries",
        None if file.mode.bytes().next_back().is_some_and(|bits| bits % 2 == 1) && file.kind == "file" => {
            "programs"
        }
        None if is_at_or_below(path, "/usr/share") => "data",
        None => "other",
    }
}

/// `libc.so.6`, `pam_unix.so`.
fn is_library(name: &str) -> bool {
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::file;
    use super::*;

    #[test]
    fn debians_places_tell_what_a_file_is_for() {
        let cases = [
            ("/usr/bin/bash", "0755", "programs"),
            ("/usr/lib/ferrite/init", "0755", "programs"),
            ("/usr/lib/x86_64-linux-gnu/libc.so.6", "0755", "libraries"),
            ("/usr/lib/x86_64-linux-gnu/security/pam_unix.so", "0644", "libraries"),
            ("/usr/lib/modules/6.12/kernel/fs/x.ko.xz", "0644", "kernel modules"),
            ("/usr/lib/systemd/system/ssh.service", "0644", "units"),
            ("/usr/share/doc/bash/copyright", "0644", "licences and documentation"),
            ("/usr/share/terminfo/x", "0644", "data"),
            ("/usr/lib/os-release", "0644", "other"),
        ];
        for (path, mode, want) in cases {
            let mut one = file(path, None, 1);
            one.mode = mode.to_owned();
            assert_eq!(of(&one), want, "{path}");
        }
    }
}
