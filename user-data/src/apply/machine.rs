//! What a plan says of the machine as a whole: its name, its time, whom it trusts.

use std::fs;
use std::io;
use std::path::Path;

use image_config::user_data::assignments;
use image_config::user_data::plan::{Account, AssignmentFile, Existing, File, Link, Owner, TimeServers};
use init::boot::identity;

use super::files::{FileError, Files};
use crate::journey::Earlier;

/// The name that QEMU's host has given the machine.
const HOSTS_WORD: &str = "sys/firmware/qemu_fw_cfg/by_name/opt/ferrite/hostname";
/// Zones of the time zone database.
const ZONES: &str = "usr/share/zoneinfo";
/// What programs of the image take for trusted (Debian's ca-certificates), and what the image itself brings.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const IMAGE_BUNDLE: &str = "usr/etc/ssl/certs/ca-certificates.crt";
/// Servers of the time, as systemd-timesyncd and its kin read them (timesyncd.conf(5)).
const TIME_SERVERS: &str = "/etc/systemd/timesyncd.conf.d/50-user-data.conf";

/// Why the machine is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that the machine would not take at its next boot.
    #[error("{0} is no host name: labels of letters, digits and hyphens (RFC 1123)")]
    NoName(String),
    /// The kernel does not take the name.
    #[error("cannot set the host name")]
    Hostname(#[source] io::Error),
    /// No such zone.
    #[error("the image has no time zone {0} (/usr/share/zoneinfo; package tzdata)")]
    NoZone(String),
    /// Something cannot be read.
    #[error("cannot read {0}")]
    Read(String, #[source] io::Error),
}

/// A file of root's with this text, in place of what is there.
fn put(files: &Files, path: &str, mode: u16, text: &[u8]) -> Result<(), MachineError> {
    let root = || Some(Account::Id(0));
    let file = File {
        path: path.to_owned(),
        mode: Some(mode),
        owner: Owner { user: root(), group: root() },
        contents: None,
        append: Vec::new(),
        existing: Existing::Replace,
    };
    Ok(files.write(&file, Some(text), &[], Earlier::Made)?)
}

/// The file with the machine's name.
pub const HOSTNAME_FILE: &str = "/etc/hostname";

/// `/etc/hostname`, and what follows from it.
///
/// # Errors
/// [`MachineError`]
pub fn set_hostname(root: &Path, files: &Files, name: &str) -> Result<(), MachineError> {
    // The same rule as at every boot: a name that the next one would not take is refused now.
    if identity::choose_hostname(None, Some(name), None) != name {
        return Err(MachineError::NoName(name.to_owned()));
    }
    put(files, HOSTNAME_FILE, 0o644, format!("{name}\n").as_bytes())?;
    follow_hostname(root)
}

/// The kernel's name and the `/etc/hosts` that follow what [`HOSTNAME_FILE`] has come to say.
///
/// # Errors
/// [`MachineError`]
pub fn follow_hostname(root: &Path) -> Result<(), MachineError> {
    let file = root.join(HOSTNAME_FILE.trim_start_matches('/'));
    let text =
        fs::read_to_string(file).map_err(|error| MachineError::Read(HOSTNAME_FILE.to_owned(), error))?;
    // As at every later boot: the host's word goes before the file's, and what is no name is none.
    let name = identity::choose_hostname(None, Some(&text), None);
    if root.join(HOSTS_WORD).exists() || name == "localhost" {
        return Ok(());
    }
    rustix::system::sethostname(name.as_bytes()).map_err(|error| MachineError::Hostname(error.into()))?;
    let hosts = identity::write_hosts(&root.join("etc"), &name);
    hosts.map_err(|error| MachineError::Read("/etc/hosts".to_owned(), error))
}

/// `/etc/hosts` with the machine's name, whatever it held before.
///
/// # Errors
/// [`MachineError`]
pub fn write_hosts(files: &Files, name: Option<&str>) -> Result<(), MachineError> {
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    put(files, "/etc/hosts", 0o644, identity::hosts(name.unwrap_or(&own)).as_bytes())
}

/// `/etc/localtime`.
///
/// # Errors
/// [`MachineError`]
pub fn set_timezone(root: &Path, files: &Files, zone: &str) -> Result<(), MachineError> {
    if !root.join(ZONES).join(zone).is_file() {
        return Err(MachineError::NoZone(zone.to_owned()));
    }
    let link = Link {
        path: "/etc/localtime".to_owned(),
        target: format!("/{ZONES}/{zone}"),
        is_hard: false,
        owner: Owner::default(),
        existing: Existing::Replace,
    };
    files.link(&link, true)?;
    put(files, "/etc/timezone", 0o644, format!("{zone}\n").as_bytes())
}

/// Servers of the time.
///
/// # Errors
/// [`MachineError`]
pub fn set_time_servers(files: &Files, servers: &TimeServers) -> Result<(), MachineError> {
    let list = if servers.is_enabled { servers.servers.join(" ") } else { String::new() };
    let text = format!("# Of the user-data.\n[Time]\nNTP={list}\n");
    put(files, TIME_SERVERS, 0o644, text.as_bytes())
}

/// Sets keys in a file of assignments.
///
/// # Errors
/// [`MachineError`]
pub fn assign(root: &Path, files: &Files, wish: &AssignmentFile) -> Result<(), MachineError> {
    let paths = [Some(&wish.path), wish.template.as_ref()];
    let mut before = None;
    for path in paths.into_iter().flatten() {
        match fs::read_to_string(root.join(path.trim_start_matches('/'))) {
            Ok(text) => {
                before = Some((path == &wish.path, text));
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(MachineError::Read(path.clone(), error)),
        }
    }
    let (is_there, before) = before.unwrap_or_default();
    let after = assignments::edit(&before, &wish.assignments);
    // What is as it should be is not touched.
    if is_there && after == before { Ok(()) } else { put(files, &wish.path, 0o644, after.as_bytes()) }
}

/// The bundle of trusted authorities: the image's, unless they are not wanted, and these.
///
/// # Errors
/// [`MachineError`]
pub fn trust(root: &Path, files: &Files, more: &[&[u8]], removes_defaults: bool) -> Result<(), MachineError> {
    let mut bundle = Vec::new();
    if !removes_defaults {
        bundle = match fs::read(root.join(IMAGE_BUNDLE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(MachineError::Read(format!("/{IMAGE_BUNDLE}"), error)),
        };
    }
    for text in more {
        if !bundle.is_empty() && !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        bundle.extend(*text);
    }
    put(files, BUNDLE, 0o644, &bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        (folder, files)
    }

    #[test]
    fn assignments_begin_with_the_file_or_its_template() {
        let (root, files) = tree();
        fs::create_dir_all(root.path().join("usr/share")).unwrap();
        fs::write(root.path().join("usr/share/update.conf"), "GROUP=stable\n# x\n").unwrap();
        let wish = |value: &str| AssignmentFile {
            path: "/etc/update.conf".to_owned(),
            template: Some("/usr/share/update.conf".to_owned()),
            assignments: vec![("GROUP".to_owned(), value.to_owned())],
        };
        if !rustix::process::geteuid().is_root() {
            return; // only root gives files to root
        }
        for value in ["alpha", "beta"] {
            assign(root.path(), &files, &wish(value)).unwrap();
            let text = fs::read_to_string(root.path().join("etc/update.conf")).unwrap();
            assert_eq!(text, format!("GROUP={value}\n# x\n"));
        }
    }

    #[test]
    fn a_name_that_the_next_boot_would_not_take_is_refused() {
        let (root, files) = tree();
        let error = set_hostname(root.path(), &files, "a_b").unwrap_err().to_string();
        assert!(error.starts_with("a_b is no host name"), "{error}");
        assert!(!root.path().join("etc/hostname").exists());
    }

    #[test]
    fn a_zone_that_the_image_does_not_have_is_refused() {
        let (root, files) = tree();
        let error = set_timezone(root.path(), &files, "Mars/Olympus").unwrap_err().to_string();
        assert!(error.starts_with("the image has no time zone Mars/Olympus"), "{error}");
    }
}
