//! What the engine remembers from boot to boot, in one file on STATE that is replaced whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::channel::key::{hex, unhex};
use crate::channel::report::LastError;

/// The form of the file.
const SCHEMA: u32 = 1;
/// Entries of the history that are kept.
const MAX_HISTORY: usize = 200;
/// Releases that are remembered as bad.
const MAX_DENIED: usize = 64;

/// A release that is on the passive slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Its version.
    pub version: String,
    /// Root hash of its slot, hexadecimal.
    pub root_hash: String,
    /// Bytes of its slot image.
    pub slot_bytes: u64,
    /// Whether the next boot tries it.
    pub applied: bool,
    /// The kernel's id of the boot in which that was arranged: in any other boot the loader has passed it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// A release that is not tried again on this machine (SAFETY 17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Its version.
    pub version: String,
    /// Root hash of its slot, hexadecimal: a rebuilt release of the same version is another one.
    pub root_hash: String,
    /// The evidence.
    pub reason: String,
    /// Unix seconds.
    pub at: u64,
}

/// How often a slot on trial was given its try back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rearmed {
    /// Root hash of the slot, hexadecimal.
    pub root_hash: String,
    /// Times.
    pub times: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Unix seconds.
    pub at: u64,
    /// `download`, `apply`, `good`, `rollback`, `failed`, ...
    pub what: String,
    /// The release's version, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Details for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// All of it. A field that an older engine does not know is lost when that one runs; none of them is needed to boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// [`SCHEMA`].
    schema: u32,
    /// Unix seconds of the last check that ended well.
    pub last_checked: u64,
    /// What is on the passive slot.
    pub staged: Option<Staged>,
    /// The only version that the owner wants.
    pub pinned: Option<String>,
    /// No checks and downloads by itself.
    pub paused: bool,
    /// Releases that failed here.
    pub denied: Vec<Denied>,
    /// The slot on trial that was given its try back.
    pub rearmed: Option<Rearmed>,
    /// Which mirror was the last good one.
    pub mirror: usize,
    /// The last thing that went wrong since the last success.
    pub last_error: Option<LastError>,
    /// The version that ran when the engine was last started.
    pub ran: Option<String>,
    /// What happened, oldest first.
    pub history: Vec<Happened>,
}

impl Saved {
    /// Reads the file. A damaged one is told in the second value and counts as empty: it holds nothing that a boot depends on.
    pub fn load(path: &Path) -> (Self, Option<String>) {
        let empty = || Self { schema: SCHEMA, ..Self::default() };
        match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (empty(), None),
            Err(error) => (empty(), Some(format!("cannot read {}: {error}", path.display()))),
            Ok(bytes) => match serde_json::from_slice::<Self>(&bytes) {
                Ok(saved) => (Self { schema: SCHEMA, ..saved }, None),
                Err(error) => (empty(), Some(format!("{} is damaged: {error}", path.display()))),
            },
        }
    }

    /// Replaces the file: after a power cut there is the old one or the new one.
    ///
    /// # Errors
    /// The file system's.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        replace(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Root hashes of releases that are not tried again.
    pub fn denied_roots(&self) -> BTreeSet<[u8; 32]> {
        self.denied.iter().filter_map(|denied| unhex(&denied.root_hash)).collect()
    }

    /// Remembers that a release is bad.
    pub fn deny(&mut self, version: &str, root_hash: &[u8; 32], reason: &str, at: u64) {
        let root_hash = hex(root_hash);
        self.denied.retain(|denied| denied.root_hash != root_hash);
        let surplus = (self.denied.len() + 1).saturating_sub(MAX_DENIED);
        self.denied.drain(..surplus);
        self.denied.push(Denied { version: version.to_owned(), root_hash, reason: reason.to_owned(), at });
    }

    /// Adds to the history.
    pub fn happened(&mut self, at: u64, what: &str, version: Option<&str>, detail: impl Into<String>) {
        let surplus = (self.history.len() + 1).saturating_sub(MAX_HISTORY);
        self.history.drain(..surplus);
        let version = version.map(str::to_owned);
        self.history.push(Happened { at, what: what.to_owned(), version, detail: detail.into() });
    }
}

/// Writes a file under another name, makes it durable, and renames it; the folder is made durable too.
///
/// # Errors
/// The file system's.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_a_damaged_file_costs_nothing_but_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state.json");
        assert_eq!(Saved::load(&path), (Saved { schema: 1, ..Saved::default() }, None));
        let mut saved = Saved { pinned: Some("1.1.0".to_owned()), ..Saved::load(&path).0 };
        saved.deny("1.2.0", &[9; 32], "not healthy in time", 5);
        saved.deny("1.2.0", &[9; 32], "once more", 6);
        saved.happened(7, "rollback", Some("1.2.0"), "not healthy in time");
        saved.store(&path).unwrap();
        assert_eq!(Saved::load(&path), (saved.clone(), None));
        assert_eq!((saved.denied.len(), saved.denied_roots().contains(&[9; 32])), (1, true));
        std::fs::write(&path, b"{\"pinned\":").unwrap();
        let (empty, problem) = Saved::load(&path);
        assert_eq!(empty.pinned, None);
        assert!(problem.unwrap().contains("is damaged"));
        std::fs::write(&path, b"{\"pinned\":\"1.0.0\",\"of the future\":[1]}").unwrap();
        assert_eq!(Saved::load(&path).0.pinned.as_deref(), Some("1.0.0"));
    }

    #[test]
    fn history_and_list_do_not_grow_for_ever() {
        let mut saved = Saved::default();
        for number in 0..1000_u16 {
            saved.happened(u64::from(number), "check", None, "");
            let mut root = [0; 32];
            root[..2].copy_from_slice(&number.to_le_bytes());
            saved.deny("1", &root, "", 0);
        }
        assert_eq!((saved.history.len(), saved.denied.len()), (MAX_HISTORY, MAX_DENIED));
        assert_eq!(saved.history.last().map(|entry| entry.at), Some(999));
    }
}
