//! The publisher's side of the metadata, without I/O: which files make up the next edition of a channel folder, and
//! who must sign them.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::key::{KeyId, PrivateKey, hex};
use super::metadata::{
    Date, Envelope, MetaFile, MetadataError, Role, RoleKeys, Root, Snapshot, Targets, Timestamp,
};

const DAY: u64 = 86_400;

/// Why there is no next edition.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Keys are missing.
    #[error("{role} metadata takes {needed} of the keys {}, and {found} of them are here", names(.of))]
    Keys {
        /// Whose keys.
        role: Role,
        /// How many must sign.
        needed: u32,
        /// How many can.
        found: usize,
        /// The keys that count.
        of: Vec<KeyId>,
    },
    /// The keys of the root before are missing.
    #[error("a new root takes {needed} of the keys {} of the root before, and {found} of them are here", names(.of))]
    OldRootKeys {
        /// How many must sign.
        needed: u32,
        /// How many can.
        found: usize,
        /// The keys that count.
        of: Vec<KeyId>,
    },
    /// It cannot be written.
    #[error("cannot write {role} metadata")]
    Metadata {
        /// Which.
        role: Role,
        /// Why.
        source: MetadataError,
    },
    /// The year 10000 has come.
    #[error("it would expire after the year 9999")]
    Date,
}

fn names(ids: &[KeyId]) -> String {
    ids.iter().map(KeyId::short).collect::<Vec<_>>().join(", ")
}

/// For how many seconds each role's metadata is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Root: it takes a ceremony to renew.
    pub root: u64,
    /// Targets: renewed with each release.
    pub targets: u64,
    /// Snapshot: renewed with each release.
    pub snapshot: u64,
    /// Timestamp: renewed by a timer. How long a machine can be kept from newer metadata without noticing.
    pub timestamp: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { root: 365 * DAY, targets: 90 * DAY, snapshot: 90 * DAY, timestamp: 7 * DAY }
    }
}

impl Lifetimes {
    /// Of a role.
    pub fn of(&self, role: Role) -> u64 {
        match role {
            Role::Root => self.root,
            Role::Targets => self.targets,
            Role::Snapshot => self.snapshot,
            Role::Timestamp => self.timestamp,
        }
    }

    /// When metadata of a role expires that is signed now.
    ///
    /// # Errors
    /// After the year 9999.
    pub fn expiry(&self, role: Role, now: Date) -> Result<Date, SignError> {
        Date::from_unix(now.unix().saturating_add(self.of(role))).ok_or(SignError::Date)
    }
}

/// A metadata file of the next edition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name in the metadata folder.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The metadata of a channel folder at one moment, apart from its root.
#[derive(Debug, Clone, PartialEq)]
pub struct Edition {
    /// What there is to fetch.
    pub targets: Targets,
    /// Which targets belong to it.
    pub snapshot: Snapshot,
    /// Which snapshot belongs to it.
    pub timestamp: Timestamp,
}

/// What of an edition is signed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The timestamp alone: the online key is enough.
    Timestamp,
    /// Snapshot and timestamp.
    Snapshot,
    /// Everything.
    Targets,
}

/// The keys of a role that are here.
fn sign(envelope: &mut Envelope, keys: &[PrivateKey], role: &RoleKeys) -> usize {
    let own = keys.iter().filter(|key| role.keys().contains_key(&key.public().id()));
    own.for_each(|key| envelope.sign(key));
    envelope.valid_signatures(role)
}

fn reaches(found: usize, keys: &RoleKeys) -> bool {
    u32::try_from(found).is_ok_and(|found| found >= keys.threshold())
}

fn sign_role(
    value: &impl Serialize,
    role: Role,
    root: &Root,
    keys: &[PrivateKey],
) -> Result<Vec<u8>, SignError> {
    let mut envelope = Envelope::new(value).map_err(|source| SignError::Metadata { role, source })?;
    let wanted = root.role(role);
    let found = sign(&mut envelope, keys, &wanted);
    if !reaches(found, &wanted) {
        let of = wanted.keys().keys().cloned().collect();
        return Err(SignError::Keys { role, needed: wanted.threshold(), found, of });
    }
    Ok(envelope.to_bytes())
}

/// Adds the signatures that the keys here can give to a root, for itself and for the root before it.
///
/// # Errors
/// None; a root that is not signed by enough is no error here, see [`root_is_signed`].
pub fn add_root_signatures(envelope: &mut Envelope, root: &Root, before: Option<&Root>, keys: &[PrivateKey]) {
    for root in before.into_iter().chain([root]) {
        sign(envelope, keys, &root.role(Role::Root));
    }
}

/// Whether a root is signed by enough of its own keys and of those of the root before it (specification 5.3.4).
///
/// # Errors
/// It is not; the error says whose keys are missing.
pub fn root_is_signed(envelope: &Envelope, root: &Root, before: Option<&Root>) -> Result<(), SignError> {
    let short = |root: &Root| {
        let keys = root.role(Role::Root);
        let found = envelope.valid_signatures(&keys);
        let of = keys.keys().keys().cloned().collect::<Vec<_>>();
        (!reaches(found, &keys)).then_some((keys.threshold(), found, of))
    };
    if let Some((needed, found, of)) = before.and_then(short) {
        return Err(SignError::OldRootKeys { needed, found, of });
    }
    match short(root) {
        Some((needed, found, of)) => Err(SignError::Keys { role: Role::Root, needed, found, of }),
        None => Ok(()),
    }
}

fn listed(version: u64, bytes: &[u8]) -> MetaFile {
    let hashes = BTreeMap::from([("sha256".to_owned(), hex(&Sha256::digest(bytes)))]);
    MetaFile { version, length: Some(bytes.len() as u64), hashes: Some(hashes) }
}

impl Edition {
    /// The first edition of a channel folder, and its files in the order in which they are written.
    ///
    /// # Errors
    /// Keys are missing.
    pub fn first(
        root: &Root,
        now: Date,
        lifetimes: &Lifetimes,
        keys: &[PrivateKey],
    ) -> Result<(Self, Vec<File>), SignError> {
        let expires = |role| lifetimes.expiry(role, now);
        let unsigned = MetaFile { version: 1, length: None, hashes: None };
        let targets = Targets::new(0, expires(Role::Targets)?);
        let snapshot = Snapshot::new(0, expires(Role::Snapshot)?, unsigned.clone());
        let timestamp = Timestamp::new(0, now, expires(Role::Timestamp)?, unsigned);
        Self { targets, snapshot, timestamp }.next(Renewal::Targets, root, now, lifetimes, keys)
    }

    /// The next edition, with the targets as they stand here, and the files that are new in it, in the order in which
    /// they are written: the timestamp last, because it makes the others count.
    ///
    /// # Errors
    /// Keys are missing.
    pub fn next(
        &self,
        renewal: Renewal,
        root: &Root,
        now: Date,
        lifetimes: &Lifetimes,
        keys: &[PrivateKey],
    ) -> Result<(Self, Vec<File>), SignError> {
        let mut next = self.clone();
        let mut files = Vec::new();
        let mut renew = |role: Role, version: u64, bytes: Vec<u8>| {
            let name = match role {
                Role::Timestamp => "timestamp.json".to_owned(),
                _ => format!("{version}.{role}.json"),
            };
            let listed = listed(version, &bytes);
            files.push(File { name, bytes });
            listed
        };
        if renewal == Renewal::Targets {
            next.targets.version += 1;
            next.targets.expires = lifetimes.expiry(Role::Targets, now)?;
            let bytes = sign_role(&next.targets, Role::Targets, root, keys)?;
            let listed = renew(Role::Targets, next.targets.version, bytes);
            next.snapshot.set_targets(listed);
        }
        if renewal != Renewal::Timestamp {
            next.snapshot.version += 1;
            next.snapshot.expires = lifetimes.expiry(Role::Snapshot, now)?;
            let bytes = sign_role(&next.snapshot, Role::Snapshot, root, keys)?;
            let listed = renew(Role::Snapshot, next.snapshot.version, bytes);
            next.timestamp.set_snapshot(listed);
        }
        next.timestamp.version += 1;
        next.timestamp.issued = Some(now);
        next.timestamp.expires = lifetimes.expiry(Role::Timestamp, now)?;
        let bytes = sign_role(&next.timestamp, Role::Timestamp, root, keys)?;
        renew(Role::Timestamp, next.timestamp.version, bytes);
        Ok((next, files))
    }
}
