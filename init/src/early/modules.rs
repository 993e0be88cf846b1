//! Kernel modules of the initramfs.

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
pub fn load_all() -> Option<Watchdog> {
    let list = std::fs::read_to_string(LIST).unwrap_or_else(|error| {
        say(Level::Error, format_args!("cannot read {LIST}: {error}"));
        String::new()
    });
    let mut watchdog = None;
    for path in paths(&list) {
        if let Err(error) = insert(&path, c"") {
            say(Level::Error, format_args!("cannot load {}: {error}", path.display()));
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

/// Loads one module file, compressed or not, with its parameters; one that is loaded already is fine.
///
/// # Errors
/// The kernel's.
pub fn insert(path: &Path, parameters: &std::ffi::CStr) -> io::Result<()> {
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
}
