//! What QEMU's host hands to the machine through fw_cfg (`docs/ARCHITECTURE.md`, "From the host to the VM").

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::coldplug::Library;

/// The device that the firmware describes when there is fw_cfg.
const DEVICE: &str = "/sys/bus/acpi/devices/QEMU0002:00";
const FILES: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/ferrite";
/// Keys for the user `core`, which sshd reads as that user: readable by all, writable by root alone.
const KEYS: (&str, &str) = ("ssh-authorized-keys", "/run/ferrite/authorized_keys/core");
const HOSTNAME: &str = "hostname";
/// Read by its own program, which takes more than credentials have.
const USER_DATA: &str = "user-data";
/// Everything else: for root alone.
const CREDENTIALS: &str = "/run/ferrite/credentials";
/// More than this is no credential; the interface reads a byte at a time and would hold up the boot.
const MAX_LEN: usize = 256 * 1024;

/// What was found.
#[derive(Debug, Default)]
pub struct FromHost {
    /// Host name, not yet checked.
    pub hostname: Option<String>,
    /// What went wrong, a line each.
    pub problems: Vec<String>,
}

/// Loads the driver where there is the device, and puts the host's files where the image looks for them.
pub fn collect() -> FromHost {
    let mut found = FromHost::default();
    if !Path::new(DEVICE).exists() {
        return found;
    }
    if !Path::new("/sys/firmware/qemu_fw_cfg").exists() {
        let library = Library::by_name();
        found.problems.extend(library.load(&library.index(), "qemu_fw_cfg"));
    }
    let Ok(entries) = std::fs::read_dir(FILES) else { return found };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name == USER_DATA {
            continue;
        }
        let stored =
            std::fs::read(entry.path().join("raw")).and_then(|content| store(&name, &content, &mut found));
        if let Err(error) = stored {
            found.problems.push(format!("fw_cfg {name}: {error}"));
        }
    }
    found
}

fn store(name: &str, content: &[u8], found: &mut FromHost) -> io::Result<()> {
    if content.len() > MAX_LEN {
        return Err(io::Error::other(format!("longer than {MAX_LEN} bytes")));
    }
    if name == HOSTNAME {
        found.hostname = Some(String::from_utf8_lossy(content).trim_end_matches(['\0', '\n']).to_owned());
        return Ok(());
    }
    let (path, folder_mode, mode) = if name == KEYS.0 {
        (Path::new(KEYS.1).to_owned(), 0o755, 0o644)
    } else {
        (Path::new(CREDENTIALS).join(name), 0o700, 0o600)
    };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    }
    OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?.write_all(content)
}
