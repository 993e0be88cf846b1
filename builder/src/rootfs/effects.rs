//! What maintainer scripts would have done, done here: no script is ever run.
//!
//! One function an effect; each looks at what the packages brought and does nothing when its package is absent.

use std::fmt::Write as _;

use super::accounts::Accounts;
use super::staging::{Staging, StagingError};
use super::{alternatives, pam};

/// Packages whose scripts are fully replaced by the effects below, or do nothing that an image needs (their triggers
/// refresh caches of running systems). Of those whose scripts have a body of their own: kmod's leaves a comment in
/// `/etc/modules`; procps's applies `sysctl.d`, which init does at every boot.
const ACCOUNTED_FOR: [&str; 33] = [
    "base-files",
    "base-passwd",
    "bash",
    "busybox",
    "busybox-static",
    "ca-certificates",
    "dash",
    "debianutils",
    "e2fsprogs",
    "etcd-server",
    "gawk",
    "gzip",
    "iproute2",
    "kmod",
    "less",
    "libc-bin",
    "libc6",
    "libgssapi-krb5-2",
    "libpam-modules",
    "libpam-modules-bin",
    "libpam-runtime",
    "libpam0g",
    "libselinux1",
    "libwrap0",
    "libwtmpdb0",
    "login",
    "login.defs",
    "netbase",
    "openssh-client",
    "openssh-server",
    "procps",
    "sudo",
    "util-linux",
];

/// Families of packages, by how their names begin, whose scripts are accounted for as well. A kernel's runs depmod, which
/// the builder does itself, and the hooks of a boot loader, which the slot has no use for.
const ACCOUNTED_FOR_FAMILIES: [&str; 1] = ["linux-image-"];

/// Users of packages that make them in a script instead of a `sysusers.d` file, in that file's form.
const SCRIPTED_USERS: [(&str, &str); 2] =
    [("etcd-server", "u etcd - \"etcd, key-value store\" /var/lib/etcd"), ("openssh-client", "g _ssh -")];

/// State folders of packages that make them in a script, as `tmpfiles.d` lines.
const SCRIPTED_STATE: [(&str, &str); 3] = [
    ("etcd-server", "d /var/lib/etcd 0700 etcd etcd -"),
    // Where sshd and login write who was there.
    ("libwtmpdb0", "d /var/lib/wtmpdb 0755 root root -"),
    ("libwtmpdb0", "L /var/lib/wtmpdb/wtmp.db - - - - ../../log/wtmp.db"),
];

const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files dns\nnetworks: files\n\
    protocols: files\nservices: files\nethers: files\nrpc: files\n";

/// Does everything but the accounts' files, which [`write_accounts`] writes when the recipe's users are in.
///
/// # Errors
/// [`StagingError`]: an effect's file collides with a package's, or an account cannot be made.
pub fn apply(staging: &mut Staging, accounts: &mut Accounts) -> Result<(), StagingError> {
    apply_accounts(staging, accounts)?;
    base_files(staging)?;
    pam_stacks(staging)?;
    alternative_links(staging)?;
    ca_bundle(staging)?;
    sshd(staging)?;
    ssh_agent(staging, accounts)?;
    let unknown: Vec<_> =
        staging.scripts().filter(|(name, script)| !is_accounted_for(name, script)).collect();
    let notes: Vec<_> = unknown.into_iter().map(|(name, _)| note_for(name)).collect();
    notes.into_iter().for_each(|note| staging.note(note));
    Ok(())
}

fn note_for(package: &str) -> String {
    format!("{package}: its maintainer script is not run, and what it would do is not known to Ferrite")
}

/// True when a script's effects are covered: by the list, or because debhelper wrote all of it.
fn is_accounted_for(package: &str, script: &str) -> bool {
    let family = |prefix: &&str| package.starts_with(prefix);
    if ACCOUNTED_FOR.contains(&package) || ACCOUNTED_FOR_FAMILIES.iter().any(family) {
        return true;
    }
    let mut generated = false;
    for line in script.lines().map(str::trim) {
        if line.starts_with("# Automatically added by") {
            generated = true;
        }
        let skeleton =
            line.is_empty() || line.starts_with('#') || line.starts_with("set -") || line == "exit 0";
        let alternative = line.contains("update-alternatives");
        if !generated && !skeleton && !alternative {
            return false;
        }
        if line.starts_with("# End automatically added section") {
            generated = false;
        }
    }
    true
}

fn apply_accounts(staging: &mut Staging, accounts: &mut Accounts) -> Result<(), StagingError> {
    for (package, line) in SCRIPTED_USERS {
        if staging.has_package(package) {
            accounts.apply_sysusers(package, line)?;
        }
    }
    for (path, text) in staging.texts_in(b"usr/lib/sysusers.d", ".conf")? {
        accounts.apply_sysusers(&path, &text)?;
    }
    for (package, line) in SCRIPTED_STATE {
        if staging.has_package(package) {
            staging.tmpfiles_line(line.to_owned());
        }
    }
    Ok(())
}

/// Writes passwd, group, shadow and gshadow.
///
/// # Errors
/// A package ships one of them.
pub fn write_accounts(staging: &mut Staging, accounts: &Accounts) -> Result<(), StagingError> {
    let shadow_group = accounts.gid("shadow").unwrap_or(0);
    for (path, text, mode) in [
        ("etc/passwd", accounts.passwd(), 0o644),
        ("etc/group", accounts.group(), 0o644),
        ("etc/shadow", accounts.shadow(), 0o640),
        ("etc/gshadow", accounts.gshadow(), 0o640),
    ] {
        staging.own_file(path, text.into_bytes(), mode)?;
        if mode == 0o640
            && let Some(node) = staging.tree_mut().get_mut(path.as_bytes())
        {
            node.meta.gid = shadow_group;
        }
    }
    for path in ["etc/subuid", "etc/subgid"] {
        staging.own_file(path, Vec::new(), 0o644)?;
    }
    Ok(())
}

/// What base-files, libc-bin and the installer leave in `/etc`.
fn base_files(staging: &mut Staging) -> Result<(), StagingError> {
    let profile = staging.text(b"usr/share/base-files/profile")?;
    if let Some(profile) = profile {
        let profile = without_run_parts(&profile);
        staging.own_file_if_absent("etc/profile", profile.into_bytes(), 0o644)?;
    }
    let nsswitch = staging.text(b"usr/share/libc-bin/nsswitch.conf")?;
    let nsswitch = nsswitch.unwrap_or_else(|| NSSWITCH.to_owned());
    staging.own_file_if_absent("etc/nsswitch.conf", nsswitch.into_bytes(), 0o644)?;
    staging.own_file_if_absent("etc/default/locale", b"LANG=C.UTF-8\n".to_vec(), 0o644)?;
    staging.own_link_if_absent("etc/mtab", "../proc/self/mounts")?;
    staging.own_link_if_absent("etc/resolv.conf", "../run/ferrite/resolv.conf")?;
    if staging.has(b"usr/share/zoneinfo/UTC") {
        staging.own_link_if_absent("etc/localtime", "../usr/share/zoneinfo/UTC")?;
    }
    for dotfile in ["bashrc", "profile"] {
        let source = format!("usr/share/base-files/dot.{dotfile}");
        if staging.has(source.as_bytes()) {
            staging.tmpfiles_line(format!("C /var/roothome/.{dotfile} 0644 root root - /{source}"));
        }
    }
    let shells = ["/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash", "/bin/dash", "/usr/bin/dash"];
    let mut text = String::from("# login shells\n");
    for shell in shells {
        let name = shell.rsplit('/').next().unwrap_or(shell);
        if name == "sh" || staging.has(format!("usr/bin/{name}").as_bytes()) {
            let _ = writeln!(text, "{shell}");
        }
    }
    staging.own_file_if_absent("etc/shells", text.into_bytes(), 0o644)
}

/// The same script with the shell's own list of `/etc/profile.d` in place of that of debianutils' `run-parts`, which an image
/// need not have (BusyBox's cannot list).
fn without_run_parts(profile: &str) -> String {
    let line = |line: &str| match line.split_once("for i in $(run-parts ") {
        Some((indent, rest)) if rest.contains("/etc/profile.d)") => {
            format!("{indent}for i in /etc/profile.d/*.sh; do\n")
        }
        _ => line.to_owned(),
    };
    profile.split_inclusive('\n').map(line).collect()
}

fn pam_stacks(staging: &mut Staging) -> Result<(), StagingError> {
    let profiles: Vec<_> =
        staging.texts_in(b"usr/share/pam-configs", "")?.into_iter().map(|(_, text)| text).collect();
    for name in ["account", "auth", "password", "session", "session-noninteractive"] {
        let file_name = format!("common-{name}");
        if let Some(template) = staging.text(format!("usr/share/pam/{file_name}").as_bytes())? {
            let text = pam::common_file(&template, &file_name, &profiles);
            staging.own_file(&format!("etc/pam.d/{file_name}"), text.into_bytes(), 0o644)?;
        }
    }
    Ok(())
}

fn alternative_links(staging: &mut Staging) -> Result<(), StagingError> {
    let scripts: Vec<String> = staging.scripts().map(|(_, script)| script.to_owned()).collect();
    for (link, target) in alternatives::chosen(scripts.iter().map(String::as_str)) {
        let merged = super::staging::merged_path(target.as_bytes());
        if staging.has(&merged) {
            staging.own_link_if_absent(link.trim_start_matches('/'), &target)?;
        }
    }
    Ok(())
}

/// One file with every certificate of ca-certificates, in the order of their names. Hashed links for `CApath` look-ups are not
/// made: the libraries of an image read the bundle.
fn ca_bundle(staging: &mut Staging) -> Result<(), StagingError> {
    if !staging.has_package("ca-certificates") {
        return Ok(());
    }
    let mut bundle = String::new();
    for (_, certificate) in staging.texts_in(b"usr/share/ca-certificates/mozilla", ".crt")? {
        bundle.push_str(&certificate);
        if !certificate.ends_with('\n') {
            bundle.push('\n');
        }
    }
    staging.own_file("etc/ssl/certs/ca-certificates.crt", bundle.into_bytes(), 0o644)
}

fn sshd(staging: &mut Staging) -> Result<(), StagingError> {
    let Some(config) = staging.text(b"usr/share/openssh/sshd_config")? else { return Ok(()) };
    staging.own_file_if_absent("etc/ssh/sshd_config", config.into_bytes(), 0o644)
}

/// ssh-agent belongs to a group of its own, so that other processes of the user cannot trace it.
fn ssh_agent(staging: &mut Staging, accounts: &Accounts) -> Result<(), StagingError> {
    if staging.has_package("openssh-client") {
        let gid = accounts.gid("_ssh")?;
        if let Some(agent) = staging.tree_mut().get_mut(b"usr/bin/ssh-agent") {
            agent.meta.gid = gid;
            agent.meta.mode = 0o2755;
        }
    }
    Ok(())
}

/// bash's script makes `/bin/sh` when nothing else has taken the name: called when the recipe's files are in.
///
/// # Errors
/// None that a recipe can cause.
pub fn shell_link(staging: &mut Staging) -> Result<(), StagingError> {
    if staging.has(b"usr/bin/bash") { staging.own_link_if_absent("usr/bin/sh", "bash") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_needs_no_run_parts() {
        let debian = "if x; then\n  for i in $(run-parts --list --regex '^[a-z]*\\.sh$' /etc/profile.d); do\n    . $i\n";
        let ours = "if x; then\n  for i in /etc/profile.d/*.sh; do\n    . $i\n";
        assert_eq!(without_run_parts(debian), ours);
        assert_eq!(without_run_parts(ours), ours);
    }

    #[test]
    fn scripts_that_debhelper_wrote_need_no_note() {
        let generated = "#!/bin/sh\nset -e\n# Automatically added by dh_x\nfoo\n# End automatically added section\nexit 0\n";
        assert!(is_accounted_for("x", generated));
        assert!(!is_accounted_for("x", "#!/bin/sh\nset -e\nuseradd foo\n"));
        assert!(is_accounted_for("etcd-server", "adduser etcd\n"));
        assert!(is_accounted_for("linux-image-6.12.1+deb13-cloud-amd64", "depmod 6.12.1\n"));
        assert!(!is_accounted_for("linux-imag", "depmod 6.12.1\n"));
    }
}
