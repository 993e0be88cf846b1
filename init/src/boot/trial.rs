//! The record of a boot on trial (SAFETY 17): what the next boot finds when this one does not end well.
//!
//! PID 1 writes it as soon as STATE is there, adds the reason when it gives the boot up, and takes it away when the slot is
//! marked good. The update engine reads it. A record without a reason is what a power cut leaves.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The record, below the root.
pub const FILE: &str = "var/lib/ferrite/trial";

/// What the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Root hash of the slot, hexadecimal.
    pub root_hash: String,
    /// Why the boot was given up; `None` while it has not been.
    pub reason: Option<String>,
}

impl Trial {
    /// The record as text: `slot=HASH`, and `reason=TEXT` in one line.
    fn to_text(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!("reason={}\n", one_line(reason)));
        format!("slot={}\n{}", self.root_hash, reason.unwrap_or_default())
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let root_hash = value("slot")?.to_owned();
        let hash = root_hash.len() == 64 && root_hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        hash.then(|| Self { root_hash, reason: value("reason").map(str::to_owned) })
    }

    /// Writes the record below `root`, in place of the one that is there; it is durable afterwards.
    ///
    /// # Errors
    /// The file system's.
    pub fn store(&self, root: &Path) -> io::Result<()> {
        let path = root.join(FILE);
        let folder = path.parent().unwrap_or(root);
        std::fs::create_dir_all(folder)?;
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(self.to_text().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    }

    /// Reads the record; `None` when there is none that can be read.
    pub fn load(root: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(root.join(FILE)).ok()?)
    }

    /// Takes the record away.
    ///
    /// # Errors
    /// The file system's, unless there is none.
    pub fn clear(root: &Path) -> io::Result<()> {
        let path = root.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
        }
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_survives_and_goes() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Trial::load(root.path()), None);
        let mut trial = Trial { root_hash: "ab".repeat(32), reason: None };
        trial.store(root.path()).unwrap();
        assert_eq!(Trial::load(root.path()), Some(trial.clone()));
        trial.reason = Some("ssh.service has failed:\n exit 1".to_owned());
        trial.store(root.path()).unwrap();
        assert_eq!(Trial::load(root.path()).unwrap().reason.unwrap(), "ssh.service has failed:  exit 1");
        Trial::clear(root.path()).unwrap();
        Trial::clear(root.path()).unwrap();
        assert_eq!(Trial::load(root.path()), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,100}") {
            let _ = Trial::parse(&text);
            let _ = Trial::parse(&format!("slot={text}\nreason={text}"));
        }
    }
}
