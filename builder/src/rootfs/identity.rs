//! Whom the image says it is, and the programs of Ferrite in it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image_config::recipe::Recipe;

use super::staging::{Staging, StagingError};
use super::{Own, RootfsError};
use crate::signing::hex;

/// Where the multi-call binary lives in the image.
const INIT: &str = "usr/lib/ferrite/init";
/// And the program that finds user-data and carries it out.
const USER_DATA: &str = "usr/lib/ferrite/user-data";
/// The update engine, its client, `locksmithctl` and `etcdctl`.
const UPDATE_ENGINE: &str = "usr/lib/ferrite/update-engine";
/// Where a package's etcdctl would be, and where ours looks for it.
const ETCDCTL: (&str, &str) = ("usr/bin/etcdctl", "usr/libexec/etcd/etcdctl");
/// The scheduler and `fleetctl`.
const FLEETD: &str = "usr/lib/ferrite/fleetd";
/// What bash completes after `systemctl`.
const COMPLETION: (&str, &str) =
    ("usr/share/bash-completion/completions/systemctl", include_str!("../../../init/completions/systemctl"));
/// Where units of the image live.
const UNITS: &str = "usr/lib/systemd/system";
/// Programs that are links to it.
const LINKS: [&str; 13] = [
    "usr/bin/systemctl",
    "usr/bin/systemd-analyze",
    "usr/bin/systemd-notify",
    "usr/bin/journalctl",
    "usr/bin/systemd-cat",
    "usr/sbin/init",
    "usr/sbin/poweroff",
    "usr/sbin/reboot",
    "usr/sbin/halt",
    "usr/sbin/shutdown",
    "usr/lib/systemd/systemd",
    "usr/lib/systemd/systemd-journald",
    "usr/lib/ferrite/modprobe",
];

/// Writes os-release, the host name and the issue; they are the recipe's, whatever base-files says. (`/etc/hosts` is init's: it follows
/// the name that the machine gets.)
///
/// # Errors
/// A path is taken by something else than base-files' own.
pub fn write(staging: &mut Staging, recipe: &Recipe) -> Result<(), StagingError> {
    let (name, version) = (recipe.name.as_str(), recipe.version.as_str());
    let pretty = pretty_name(name, version);
    let text = format!(
        "NAME=\"Ferrite\"\nPRETTY_NAME=\"{pretty}\"\nID=ferrite\nID_LIKE=debian\nVERSION=\"{version}\"\n\
         VERSION_ID=\"{version}\"\nIMAGE_ID=\"{name}\"\nIMAGE_VERSION=\"{version}\"\nARCHITECTURE=\"{}\"\n",
        recipe.architecture.name().replace('_', "-"),
    );
    for path in ["usr/lib/os-release", "etc/os-release", "etc/issue", "etc/issue.net", "etc/hostname"] {
        staging.tree_mut().remove(path.as_bytes());
    }
    staging.own_file("usr/lib/os-release", text.into_bytes(), 0o644)?;
    staging.own_link("etc/os-release", "../usr/lib/os-release")?;
    staging.own_file("etc/issue", format!("{pretty} \\n \\l\n").into_bytes(), 0o644)?;
    staging.own_file("etc/hostname", format!("{name}\n").into_bytes(), 0o644)
}

/// "Ferrite 0.1.0" for the product, "Ferrite NAME 0.1.0" for the images that others make of it.
fn pretty_name(name: &str, version: &str) -> String {
    match name.strip_prefix("ferrite") {
        Some("") => format!("Ferrite {version}"),
        Some(rest) if rest.starts_with('-') => format!("Ferrite {} {version}", rest.trim_start_matches('-')),
        _ => format!("Ferrite {name} {version}"),
    }
}

/// Puts Ferrite's programs with their other names, and its units, into the tree.
///
/// # Errors
/// They cannot be read from this machine, or a path is taken.
pub fn install_programs(staging: &mut Staging, own: &Own<'_>) -> Result<(), RootfsError> {
    staging.own_file(INIT, Arc::clone(&own.programs.init), 0o755)?;
    staging.own_file(USER_DATA, Arc::clone(&own.programs.user_data), 0o755)?;
    staging.own_file(UPDATE_ENGINE, Arc::clone(&own.programs.update_engine), 0o755)?;
    // Ours hands on to it what it does not do itself.
    let (from, to) = (ETCDCTL.0.as_bytes(), ETCDCTL.1.as_bytes());
    if staging.has(from) {
        staging.tree_mut().rename(from, to).map_err(StagingError::from)?;
    }
    for name in ["update_engine_client", "locksmithctl", "etcdctl"] {
        staging.own_link(&format!("usr/bin/{name}"), &format!("/{UPDATE_ENGINE}"))?;
    }
    staging.own_file(FLEETD, Arc::clone(&own.programs.fleetd), 0o755)?;
    for name in ["fleetd", "fleetctl"] {
        staging.own_link(&format!("usr/bin/{name}"), &format!("/{FLEETD}"))?;
    }
    for link in LINKS {
        staging.own_link_if_absent(link, &format!("/{INIT}"))?;
    }
    staging.own_file(COMPLETION.0, COMPLETION.1.as_bytes(), 0o644)?;
    install_units(staging, own.units, UNITS)
}

/// Writes down whom the update engine believes: which channel, and which keys of slots as far as the loader that runs the machine
/// trusts them (SAFETY 11).
///
/// # Errors
/// A path is taken.
pub fn install_trust(staging: &mut Staging, own: &Own<'_>) -> Result<(), StagingError> {
    let mut keys = "# Public keys of slots: what the loader of this image was given.\n".to_owned();
    for key in own.slot_keys {
        keys.push_str(&hex(&key.to_bytes()));
        keys.push('\n');
    }
    staging.own_file("usr/lib/ferrite/update/slot-keys", keys.into_bytes(), 0o644)?;
    staging.own_file("usr/lib/ferrite/update/root.json", own.channel_root.to_vec(), 0o644)
}

/// Copies unit files, and the drop-ins in `*.d` folders beside them, to `target` in the image.
fn install_units(staging: &mut Staging, units: &Path, target: &str) -> Result<(), RootfsError> {
    let unreadable = |file: &Path, source| StagingError::HostFile {
        path: format!("/{target}"),
        file: file.to_owned(),
        source,
    };
    let listing = fs::read_dir(units).map_err(|source| unreadable(units, source))?;
    let mut files: Vec<_> = listing.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.sort();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = format!("{target}/{name}");
        if file.is_dir() && name.ends_with(".d") {
            install_units(staging, file, &path)?;
        } else if file.is_file() {
            let content = fs::read(file).map_err(|source| unreadable(file, source))?;
            staging.own_file(&path, content, 0o644)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_named_once() {
        assert_eq!(pretty_name("ferrite", "1.0"), "Ferrite 1.0");
        assert_eq!(pretty_name("ferrite-minimal", "1.0"), "Ferrite minimal 1.0");
        assert_eq!(pretty_name("edge", "1.0"), "Ferrite edge 1.0");
        assert_eq!(pretty_name("ferrites", "1.0"), "Ferrite ferrites 1.0");
    }
}
