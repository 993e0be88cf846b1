//! What the machine remembers of its user-data, on STATE: which instance it is, how far that was configured, and the texts
//! themselves, for boots in which their source is gone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image_config::civil;
use image_config::user_data::Addresses;
use init::boot::identity;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::Origin;
use crate::source::metadata::Metadata;

/// The folder, on STATE.
pub const FOLDER: &str = "var/lib/ferrite/user-data";
const RECORD: &str = "record.json";
const TEXT: &str = "user-data";
const TOLD: &str = "metadata.json";
const JOURNEY: &str = "journey";
/// What Ignition leaves behind, for programs that look for it.
pub const IGNITION_RESULT: &str = "etc/.ignition-result.json";

/// How far the machine has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The instance that was configured last; empty when there was no user-data yet.
    pub instance: String,
    /// Where its user-data came from, for people.
    pub origin: String,
    /// Everything that happens once, up to the start of services, has happened.
    pub configured: bool,
    /// The same of what comes after that.
    pub finished: bool,
    /// Ignition has configured this machine, or will when it goes on: it never does twice.
    pub ignition: bool,
}

/// What is kept beside user-data: [`Metadata`] and where all of it came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// For people.
    pub origin: String,
    /// [`Origin::rank`] of it.
    pub rank: u8,
    instance_id: Option<String>,
    hostname: Option<String>,
    ssh_keys: Vec<String>,
    private_ipv4: Option<String>,
    public_ipv4: Option<String>,
    private_ipv6: Option<String>,
    public_ipv6: Option<String>,
}

impl Told {
    /// From what a source told.
    pub fn new(origin: &Origin, metadata: &Metadata) -> Self {
        let (origin, rank) = (origin.to_string(), origin.rank());
        let Metadata { instance_id, hostname, ssh_keys, addresses } = metadata.clone();
        let Addresses { private_ipv4, public_ipv4, private_ipv6, public_ipv6 } = addresses;
        Self {
            origin,
            rank,
            instance_id,
            hostname,
            ssh_keys,
            private_ipv4,
            public_ipv4,
            private_ipv6,
            public_ipv6,
        }
    }

    /// What the source told.
    pub fn metadata(&self) -> Metadata {
        let one = self.clone();
        let addresses = Addresses {
            private_ipv4: one.private_ipv4,
            public_ipv4: one.public_ipv4,
            private_ipv6: one.private_ipv6,
            public_ipv6: one.public_ipv6,
        };
        Metadata { instance_id: one.instance_id, hostname: one.hostname, ssh_keys: one.ssh_keys, addresses }
    }
}

/// A folder with a text and what was told beside it.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// What is kept on STATE.
    pub fn kept(root: &Path) -> Self {
        Self(root.join(FOLDER))
    }

    fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))
    }

    /// The text and what was told, if both are there.
    pub fn load(&self) -> Option<(Vec<u8>, Told)> {
        let text = fs::read(self.0.join(TEXT)).ok()?;
        let told = serde_json::from_slice(&fs::read(self.0.join(TOLD)).ok()?).ok()?;
        Some((text, told))
    }

    /// Keeps both, for root alone. What is there already is not written again.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn save(&self, text: &[u8], told: &Told) -> io::Result<()> {
        if self.load().is_some_and(|(old, old_told)| old == text && old_told == *told) {
            return Ok(());
        }
        self.make()?;
        identity::replace(&self.0.join(TOLD), 0o600, &serde_json::to_vec(told)?)?;
        identity::replace(&self.0.join(TEXT), 0o600, text)
    }

    /// Forgets the text.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.0.join(TEXT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where a run notes what it has made, its folder made.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn journey(&self) -> io::Result<PathBuf> {
        self.make()?;
        Ok(self.0.join(JOURNEY))
    }

    /// The record; `None` on a machine that has never got so far.
    pub fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.0.join(RECORD)).ok()?).ok()
    }

    /// Writes the record, after everything that it speaks of has reached the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        if self.record().as_ref() == Some(record) {
            return Ok(());
        }
        self.make()?;
        if record.configured {
            rustix::fs::sync();
        }
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        identity::replace(&self.0.join(RECORD), 0o600, &text)?;
        if !record.configured {
            return Ok(());
        }
        match fs::remove_file(self.0.join(JOURNEY)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes what Ignition leaves behind when it is done.
///
/// # Errors
/// It cannot be written.
pub fn write_ignition_result(root: &Path) -> io::Result<()> {
    let boot_id = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let result = serde_json::json!({
        "provisioningBootID": boot_id.trim(),
        "provisioningDate": date(i64::try_from(since_epoch.as_secs()).unwrap_or_default()),
        "userConfigProvided": true,
    });
    let mut text = serde_json::to_vec_pretty(&result)?;
    text.push(b'\n');
    identity::replace(&root.join(IGNITION_RESULT), 0o600, &text)
}

/// RFC 3339, of seconds since 1970.
fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(civil::DAY), seconds.rem_euclid(civil::DAY));
    let (year, month, day) = civil::civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Which instance this is: what the source says; where it says nothing, the machine with this very text.
pub fn instance(metadata: &Metadata, machine_id: &str, text: &[u8]) -> String {
    metadata.instance_id.clone().unwrap_or_else(|| {
        let digest =
            Sha256::new().chain_update(machine_id.trim()).chain_update([0]).chain_update(text).finalize();
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("iid-{hex}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_what_the_source_says_or_machine_and_text() {
        let told = Metadata { instance_id: Some("i-1".into()), ..Metadata::default() };
        assert_eq!(instance(&told, "m", b"x"), "i-1");
        let own = |machine: &str, text: &[u8]| instance(&Metadata::default(), machine, text);
        assert_eq!(own("m\n", b"x"), own("m", b"x"));
        assert_ne!(own("m", b"x"), own("m", b"y"));
        assert_ne!(own("m", b"x"), own("n", b"x"));
    }

    #[test]
    fn the_result_of_ignition_has_its_names() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        write_ignition_result(root.path()).unwrap();
        let text = fs::read(root.path().join(IGNITION_RESULT)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value.get("userConfigProvided"), Some(&serde_json::Value::Bool(true)));
        assert_eq!(date(1_764_142_449), "2025-11-26T07:34:09Z");
    }

    #[test]
    fn what_is_kept_comes_back_and_is_for_root_alone() {
        let root = tempfile::tempdir().unwrap();
        let kept = Folder::kept(root.path());
        assert_eq!((kept.load(), kept.record()), (None, None));
        let metadata = Metadata {
            hostname: Some("h".into()),
            addresses: Addresses { public_ipv6: Some("::1".into()), ..Addresses::default() },
            ..Metadata::default()
        };
        let told = Told::new(&Origin::Installed, &metadata);
        kept.save(b"#!/bin/sh\n", &told).unwrap();
        let (text, back) = kept.load().unwrap();
        assert_eq!(
            (text.as_slice(), back.metadata(), back.origin.as_str()),
            (&b"#!/bin/sh\n"[..], metadata, "/var/lib/coreos-install/user_data")
        );
        let mode = |name: &str| {
            fs::metadata(root.path().join(FOLDER).join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("."), mode("user-data"), mode("metadata.json")), (0o700, 0o600, 0o600));
        fs::write(kept.journey().unwrap(), "/x\n").unwrap();
        let record = Record { instance: "i".into(), ..Record::default() };
        kept.write_record(&record).unwrap();
        assert!(kept.journey().unwrap().exists(), "not done yet");
        kept.write_record(&Record { configured: true, ..record.clone() }).unwrap();
        assert!(!kept.journey().unwrap().exists());
        assert_eq!(kept.record(), Some(Record { configured: true, ..record }));
        kept.forget().unwrap();
        assert_eq!(kept.load(), None);
    }
}
