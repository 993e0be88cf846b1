//! What the engine knows of the machine that it runs on.

use std::path::{Path, PathBuf};

use init::control::{Client, Method};
use init::early::cmdline::CommandLine;
use init::early::{DISK_NAME, VOLATILE_FLAG};
use slots::{Guid, Policy, TrustedKey};

use crate::channel::Version;
use crate::channel::key::unhex;

/// The architecture of this program, as slots name it.
pub const ARCHITECTURE: &str = "x86_64";
/// Public keys that the loader of this image was given, one in hexadecimal on a line. The command line says which of them the
/// loader that runs this machine trusts.
pub const SLOT_KEYS: &str = "/usr/lib/ferrite/update/slot-keys";
/// Root metadata of the channel that this image trusts.
pub const TRUSTED_ROOT: &str = "/usr/lib/ferrite/update/root.json";
/// The engine's folder on STATE.
pub const STATE: &str = "/var/lib/update-engine";

/// Why this is no machine that can be updated.
#[derive(Debug, thiserror::Error)]
pub enum OsError {
    /// SAFETY 22.
    #[error("/var is volatile: no updates")]
    Volatile,
    /// The kernel's command line, or what the initramfs left, is not that of a Ferrite machine.
    #[error("not a Ferrite machine: {0}")]
    Foreign(&'static str),
    /// A file of the image.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What stays the same during a boot.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The kernel's name of the disk.
    pub disk: String,
    /// PARTUUID of the running slot (SAFETY 18).
    pub slot: Guid,
    /// Whether this boot is on trial.
    pub trial: bool,
    /// The product.
    pub product: String,
    /// The version that runs.
    pub version: Version,
    /// Root hash of the running slot.
    pub root_hash: [u8; 32],
    /// Unix seconds.
    pub build_time: u64,
    /// Keys whose slots this machine's loader starts (SAFETY 11).
    pub keys: Vec<TrustedKey>,
    /// The loader's version.
    pub loader_version: u32,
    /// The highest footer version that the loader reads.
    pub footer_version: u32,
    /// Least rollback index that the loader starts (SAFETY 12).
    pub rollback_floor: u64,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// The image's root metadata.
    pub trusted_root: Vec<u8>,
}

impl Facts {
    /// Looks around.
    ///
    /// # Errors
    /// [`OsError`]
    pub fn gather() -> Result<Self, OsError> {
        if Path::new(VOLATILE_FLAG).exists() {
            return Err(OsError::Volatile);
        }
        let read = |path: &str| {
            std::fs::read(path).map_err(|source| OsError::Read { path: PathBuf::from(path), source })
        };
        let text = |path: &str| -> Result<String, OsError> {
            Ok(String::from_utf8_lossy(&read(path)?).trim().to_owned())
        };
        let line = CommandLine::parse(&text("/proc/cmdline")?);
        let image = line.image.ok_or(OsError::Foreign("no ferrite.image="))?;
        let verity = line.verity.ok_or(OsError::Foreign("no ferrite.verity="))?;
        let loader = line.loader.ok_or(OsError::Foreign("no ferrite.loader="))?;
        let known = text(SLOT_KEYS)?;
        Ok(Self {
            disk: text(DISK_NAME)?,
            slot: line.slot.ok_or(OsError::Foreign("no ferrite.slot="))?,
            trial: line.trial,
            product: image.name,
            version: Version::parse(&image.version).map_err(|_| OsError::Foreign("its version is none"))?,
            root_hash: unhex(&verity.root_hash).ok_or(OsError::Foreign("its root hash is none"))?,
            build_time: image.build_time,
            keys: trusted(&known, &loader.keys),
            loader_version: loader.version,
            footer_version: loader.footer_version,
            rollback_floor: loader.rollback_floor,
            machine_id: text("/etc/machine-id")?,
            boot_id: text("/proc/sys/kernel/random/boot_id")?,
            trusted_root: read(TRUSTED_ROOT)?,
        })
    }

    /// What the loader asks of a footer.
    pub fn policy(&self) -> Policy<'_> {
        Policy {
            keys: &self.keys,
            product: Some(&self.product),
            architecture: ARCHITECTURE,
            loader_version: self.loader_version,
            rollback_floor: self.rollback_floor,
        }
    }
}

/// The keys of the image that the loader trusts, by the beginnings of their ids.
fn trusted(known: &str, prefixes: &[String]) -> Vec<TrustedKey> {
    let lines = known.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.filter_map(unhex).map(TrustedKey);
    keys.filter(|key| prefixes.contains(&key.id().to_string())).collect()
}

/// Whether PID 1 says that a unit is active; an alias is answered for by the unit itself.
pub fn is_active(unit: &str) -> bool {
    let answer = Client::connect().and_then(|mut client| client.call(Method::Show { unit: unit.to_owned() }));
    answer.is_ok_and(|answer| answer.units.first().is_some_and(|unit| unit.active == "active"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::key::hex;
    use crate::testing::trusted_key;

    #[test]
    fn only_keys_that_the_loader_trusts_count_safety_11() {
        let known = format!("# ours\n{}\n{}\nnonsense\n", hex(&trusted_key().0), hex(&[3; 32]));
        let prefix = trusted_key().id().to_string();
        assert_eq!(trusted(&known, &[prefix]), [trusted_key()]);
        assert!(trusted(&known, &["0011223344556677".to_owned()]).is_empty());
    }
}
