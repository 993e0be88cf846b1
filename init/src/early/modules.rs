//! Kernel modules of the initramfs.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::console::{Level, say};
use super::watchdog::Watchdog;

/// The list: one path a line, the watchdog first (SAFETY 16).
const LIST: &str = "/lib/modules/load";
/// Where relative paths of the list start.
const FOLDER: &str = "/lib/modules";
/// `MODULE_INIT_COMPRESSED_FILE` (`linux/module.h`).
const COMPRESSED: i32 = 4;

/// Loads every module of the list and arms the watchdog as soon as one of them has brought it up.
///
/// A module that fails is named, and the boot goes on: what it was needed for fails with its own message, or works without.
/// `command_line` is the kernel's, which may have parameters for them.
pub fn load_all(command_line: &str) -> Option<Watchdog> {
    let list = std::fs::read_to_string(LIST).unwrap_or_else(|error| {
        say(Level::Error, format_args!("cannot read {LIST}: {error}"));
        String::new()
    });
    let mut watchdog = None;
    for path in paths(&list) {
        match insert(&path, &parameters(command_line, &name_of(&path))) {
            // The machine has no such device (no firmware that keeps panics, no watchdog).
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => say(Level::Error, format_args!("cannot load {}: {error}", path.display())),
            Ok(()) => {}
        }
        if watchdog.is_none() {
            watchdog = Watchdog::arm();
        }
    }
    if watchdog.is_none() {
        say(Level::Warning, "no hardware watchdog: a hang before the console needs a power cycle");
    }
    watchdog
}

fn paths(list: &str) -> impl Iterator<Item = PathBuf> + '_ {
    list.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| Path::new(FOLDER).join(line))
}

/// The name of the module in a file: `virtio_blk` of `virtio_blk.ko.xz`.
pub fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().to_owned()
}

/// What the kernel command line has for a module, `NAME.PARAMETER=VALUE` each, in the form that the kernel takes with the
/// module; `-` and `_` in names are the same (kernel-parameters.rst). The kernel itself hands these to built-in modules alone.
pub fn parameters(command_line: &str, module: &str) -> CString {
    let plain = |name: &str| name.replace('-', "_");
    let mut quoted = false;
    let words = command_line.split(|character: char| {
        quoted ^= character == '"';
        !quoted && character.is_ascii_whitespace()
    });
    let own = words.filter_map(|word| {
        let (owner, parameter) = word.trim_start_matches('"').split_once('.')?;
        (plain(owner) == plain(module)).then(|| parameter.to_owned())
    });
    CString::new(own.collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// Loads one module file, compressed or not, with its parameters; one that is loaded already is fine.
///
/// # Errors
/// The kernel's.
pub fn insert(path: &Path, parameters: &CStr) -> io::Result<()> {
    let file = File::open(path)?;
    let plain = path.extension().is_some_and(|extension| extension == "ko");
    let flags = if plain { 0 } else { COMPRESSED };
    match rustix::system::finit_module(&file, parameters, flags) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_takes_absolute_and_relative_paths() {
        let found: Vec<_> = paths("/lib/modules/6/a.ko\n\n 6/b.ko \n").collect();
        assert_eq!(found, [PathBuf::from("/lib/modules/6/a.ko"), PathBuf::from("/lib/modules/6/b.ko")]);
    }

    #[test]
    fn parameters_of_a_module_are_found_on_the_command_line() {
        let line = "quiet dm-verity.prefetch_cluster=1 efi_pstore.pstore_disable=0 dm_verity.flag dm_verity.x=\"a b\" e.dm_verity.y=1\n";
        assert_eq!(parameters(line, "dm_verity").to_str(), Ok("prefetch_cluster=1 flag x=\"a b\""));
        assert_eq!(parameters(line, "efi-pstore").to_str(), Ok("pstore_disable=0"));
        assert_eq!(parameters(line, "quiet").to_str(), Ok(""));
    }
}
