//! What the firmware's store has kept of a kernel panic (pstore): carried to STATE, and taken out of the store, which is small
//! and wears. The update engine finds there what a failed trial died of (SAFETY 17).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the kernel shows the store.
pub const STORE: &str = "/sys/fs/pstore";
/// Where they are carried to, a folder for each boot that found some; systemd-pstore(8) uses the same place.
pub const KEPT: &str = "/var/lib/systemd/pstore";
/// Boots of which records are kept: a machine that panics at every boot must not fill STATE.
const MOST_KEPT: usize = 8;

/// The folder with what the boot `id` has found.
pub fn folder(id: &str) -> PathBuf {
    Path::new(KEPT).join(id.trim())
}

/// Carries the records of `store` to a folder of `kept` that is named `boot`, and returns what the machine died of, if the
/// records say so. A record leaves the store only when it is durable in its new place.
///
/// # Errors
/// The file systems'; what was not carried stays in the store for the next boot.
pub fn carry(store: &Path, kept: &Path, boot: &str) -> io::Result<Option<String>> {
    let records = records(store)?;
    if records.is_empty() {
        return Ok(None);
    }
    make_room(kept, boot)?;
    let folder = kept.join(boot.trim());
    fs::create_dir_all(&folder)?;
    for record in &records {
        let Some(name) = record.file_name() else { continue };
        let mut file = File::create(folder.join(name))?;
        file.write_all(&fs::read(record)?)?;
        file.sync_all()?;
    }
    File::open(&folder)?.sync_all()?;
    File::open(kept)?.sync_all()?;
    for record in &records {
        fs::remove_file(record)?;
    }
    Ok(reason(&folder))
}

/// The first line of a panic in the records of a folder.
pub fn reason(folder: &Path) -> Option<String> {
    records(folder).ok()?.iter().find_map(|record| {
        let text = String::from_utf8_lossy(&fs::read(record).ok()?).into_owned();
        let line =
            text.lines().find_map(|line| Some(line.split_once("Kernel panic")?.1.trim().to_owned()))?;
        Some(format!("kernel panic {line}"))
    })
}

/// Records of kernel messages, sorted by name: those of a panic come in several parts.
fn records(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    found.retain(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"dmesg-")));
    found.sort_unstable();
    Ok(found)
}

/// Removes the oldest folders until there is room for one more.
fn make_room(kept: &Path, boot: &str) -> io::Result<()> {
    fs::create_dir_all(kept)?;
    let mut folders = Vec::new();
    for entry in fs::read_dir(kept)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != boot.trim() {
            folders.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    folders.sort_unstable();
    let surplus = (folders.len() + 1).saturating_sub(MOST_KEPT);
    folders.iter().take(surplus).try_for_each(|(_, folder)| fs::remove_dir_all(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_carried_once_and_read() {
        let place = tempfile::tempdir().unwrap();
        let (store, kept) = (place.path().join("store"), place.path().join("kept"));
        assert_eq!(carry(&store, &kept, "one").unwrap(), None);
        assert!(!kept.exists());
        fs::create_dir(&store).unwrap();
        fs::write(store.join("console-efi"), "Kernel panic - not this").unwrap();
        fs::write(store.join("dmesg-efi_pstore-2"), "Panic#1 Part2\n<4>[ 4.0] before\n").unwrap();
        fs::write(
            store.join("dmesg-efi_pstore-1"),
            "Panic#1 Part1\n<0>[ 5.0] Kernel panic - not syncing: dm-verity device corrupted\n",
        )
        .unwrap();
        let found = carry(&store, &kept, "one\n").unwrap().unwrap();
        assert_eq!(found, "kernel panic - not syncing: dm-verity device corrupted");
        assert_eq!(reason(&kept.join("one")), Some(found));
        assert_eq!(fs::read_dir(&store).unwrap().count(), 1, "only what is no record stays");
        assert_eq!(carry(&store, &kept, "two").unwrap(), None);
    }

    #[test]
    fn records_of_few_boots_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let (store, kept) = (place.path().join("store"), place.path().join("kept"));
        fs::create_dir(&store).unwrap();
        for boot in 0..MOST_KEPT + 3 {
            fs::write(store.join("dmesg-efi_pstore-1"), "Oops#1 Part1\n").unwrap();
            assert_eq!(carry(&store, &kept, &format!("boot{boot}")).unwrap(), None);
        }
        assert_eq!(fs::read_dir(&kept).unwrap().count(), MOST_KEPT);
        assert!(kept.join(format!("boot{}", MOST_KEPT + 2)).exists());
    }
}
