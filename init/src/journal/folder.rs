//! The folders that hold the files, and the names in them: `system-NUMBER-BOOT.export`, numbers growing by one a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::entry::Id;

/// Where logs outlive a boot.
pub const PERSISTENT: &str = "/var/log/journal";
/// Where they go while `/var` does not.
pub const VOLATILE: &str = "/run/log/journal";

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its place in the order of writing.
    pub number: u64,
    /// The boot that wrote it.
    pub boot: Id,
    /// Bytes.
    pub size: u64,
    /// Last change, microseconds since 1970.
    pub modified: u64,
}

/// The name of a file.
pub fn file_name(number: u64, boot: Id) -> String {
    format!("system-{number:08}-{boot}.export")
}

/// Number and boot by a file's name; `None` for files that are not ours.
pub fn parse_name(name: &str) -> Option<(u64, Id)> {
    let (number, boot) = name.strip_prefix("system-")?.strip_suffix(".export")?.split_once('-')?;
    Some((number.parse().ok()?, Id::parse(boot)?))
}

/// The files of a folder in the order of writing.
///
/// # Errors
/// The folder cannot be read. One that is missing is an empty one.
pub fn list(folder: &Path) -> io::Result<Vec<StoredFile>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((number, boot)) = name.to_str().and_then(parse_name) else { continue };
        // One that a vacuum has taken away meanwhile.
        let Ok(data) = entry.metadata() else { continue };
        let modified = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        files.push(StoredFile {
            path: entry.path(),
            number,
            boot,
            size: data.len(),
            modified: modified.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        });
    }
    files.sort_by_key(|file| file.number);
    Ok(files)
}

/// The folders to read on a machine, the lasting one first.
pub fn of_machine(root: &Path, machine: &str) -> Vec<PathBuf> {
    let below = |folder: &str| root.join(folder.trim_start_matches('/')).join(machine);
    vec![below(PERSISTENT), below(VOLATILE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_the_order_of_their_numbers_and_others_are_none() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            [file_name(10, Id(1)), file_name(9, Id(2)), "system-x-y.export".to_owned(), "a".to_owned()]
        {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let numbers: Vec<(u64, Id)> =
            list(folder.path()).unwrap().into_iter().map(|file| (file.number, file.boot)).collect();
        assert_eq!(numbers, [(9, Id(2)), (10, Id(1))]);
        assert_eq!(list(&folder.path().join("missing")).unwrap(), []);
    }
}
