//! The four metadata files of TUF 1.0 as types, and how they are signed and checked (specification 4.2 to 4.6).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use image_config::lock::ReleaseDate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::canonical::{CanonicalError, canonical};
use super::key::{DescribedKey, KeyError, KeyId, PrivateKey, PublicKey, hex, unhex};

/// The specification that is followed, as metadata says it.
pub const SPEC_VERSION: &str = "1.0.31";

/// A moment, as metadata writes it: `2026-11-26T08:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(ReleaseDate);

impl Date {
    /// From Unix seconds; `None` past the year 9999.
    pub fn from_unix(seconds: u64) -> Option<Self> {
        ReleaseDate::from_unix(seconds).map(Self)
    }

    /// Unix seconds.
    pub fn unix(self) -> u64 {
        self.0.unix()
    }

    /// Reads `2026-11-26T08:00:00Z`; `None` for any other form.
    pub fn parse(text: &str) -> Option<Self> {
        ReleaseDate::parse(text).ok().map(Self)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        ReleaseDate::parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The roles at the top of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Says which keys the others have.
    Root,
    /// Says what there is to fetch.
    Targets,
    /// Says which version of targets belongs to this moment.
    Snapshot,
    /// Says which snapshot is the newest, and is signed anew often.
    Timestamp,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// The role's name in metadata, and the stem of its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a metadata file cannot be read. Whose signature it bears does not matter here.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Not JSON, or not the fields of the role.
    #[error("not {expected} metadata")]
    Form {
        /// The role, or "signed".
        expected: &'static str,
        /// What the parser said, with line and column where it has them.
        source: serde_json::Error,
    },
    /// It holds a number with a fraction.
    #[error("it cannot have been signed")]
    Canonical(#[from] CanonicalError),
    /// Two signatures under one name.
    #[error("key {0} has signed twice")]
    DuplicateSignature(KeyId),
    /// It is metadata of another role.
    #[error("it is {found} metadata, not {expected}")]
    Role {
        /// What it should be.
        expected: Role,
        /// What it says that it is.
        found: String,
    },
    /// Of another major version of the specification.
    #[error("it follows version {0} of the specification, this program follows {SPEC_VERSION}")]
    SpecVersion(String),
    /// Versions count from 1.
    #[error("it has version 0")]
    ZeroVersion,
    /// A key of root metadata is malformed.
    #[error("a key is malformed")]
    Key(#[from] KeyError),
    /// Root metadata without one of the four roles.
    #[error("it has no keys for {0}")]
    MissingRole(Role),
    /// A role with threshold 0.
    #[error("{0} has threshold 0")]
    ZeroThreshold(Role),
    /// A role that lists a key twice.
    #[error("{role} lists key {id} twice")]
    DuplicateKey {
        /// The role.
        role: Role,
        /// The key.
        id: KeyId,
    },
    /// A file is listed under a name that leads elsewhere.
    #[error("{0:?} is no name of a target")]
    TargetPath(String),
    /// A file without a hash that is known here, or with one that is malformed.
    #[error("{0:?} has no SHA-256")]
    Hash(String),
    /// The file that a role must list is not in it.
    #[error("it does not list {0}")]
    Unlisted(&'static str),
}

/// Signed bytes and the signatures beside them: the outermost form of each file.
#[derive(Debug, Clone)]
pub struct Envelope {
    signed: Value,
    canonical: Vec<u8>,
    signatures: BTreeMap<KeyId, Option<[u8; 64]>>,
}

#[derive(Deserialize)]
struct RawEnvelope {
    signed: Value,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// Wraps what is to be signed.
    ///
    /// # Errors
    /// It has no canonical form, or is no JSON object.
    pub fn new(signed: &impl Serialize) -> Result<Self, MetadataError> {
        let signed = serde_json::to_value(signed)
            .map_err(|source| MetadataError::Form { expected: "serializable", source })?;
        Ok(Self { canonical: canonical(&signed)?, signed, signatures: BTreeMap::new() })
    }

    /// Reads a metadata file. Nothing is believed yet.
    ///
    /// # Errors
    /// Not a JSON object with `signed` and `signatures`; one key signed twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let raw: RawEnvelope = serde_json::from_slice(bytes)
            .map_err(|source| MetadataError::Form { expected: "signed", source })?;
        let mut signatures = BTreeMap::new();
        for signature in raw.signatures {
            // What is no Ed25519 signature may be one of another scheme.
            if signatures.insert(signature.keyid.clone(), unhex(&signature.sig)).is_some() {
                return Err(MetadataError::DuplicateSignature(signature.keyid));
            }
        }
        Ok(Self { canonical: canonical(&raw.signed)?, signed: raw.signed, signatures })
    }

    /// Adds a signature, in place of an earlier one by the same key.
    pub fn sign(&mut self, key: &PrivateKey) {
        self.signatures.insert(key.public().id(), Some(key.sign(&self.canonical)));
    }

    /// Keys that the file has signatures by, valid or not.
    pub fn signers(&self) -> impl Iterator<Item = &KeyId> {
        self.signatures.keys()
    }

    /// The file's bytes. Signatures that are not of Ed25519 are not written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures: Vec<Value> = self
            .signatures
            .iter()
            .filter_map(|(id, signature)| Some(json!({"keyid": id, "sig": hex(signature.as_ref()?)})))
            .collect();
        let whole = json!({"signatures": signatures, "signed": self.signed});
        let mut bytes = format!("{whole:#}").into_bytes();
        bytes.push(b'\n');
        bytes
    }

    /// How many different keys of a role have signed this.
    pub fn valid_signatures(&self, keys: &RoleKeys) -> usize {
        // Counted by the key itself: one key under two names counts once.
        let valid: BTreeSet<PublicKey> = self
            .signatures
            .iter()
            .filter_map(|(id, signature)| {
                let (key, signature) = (keys.keys.get(id)?, signature.as_ref()?);
                key.verifies(&self.canonical, signature).then_some(*key)
            })
            .collect();
        valid.len()
    }

    /// Reads the signed part as that of a role.
    fn read<T: DeserializeOwned>(&self, role: Role) -> Result<T, MetadataError> {
        let found = self.signed.get("_type").and_then(Value::as_str).unwrap_or("untyped");
        if found != role.name() {
            return Err(MetadataError::Role { expected: role, found: found.to_owned() });
        }
        let spec = self.signed.get("spec_version").and_then(Value::as_str).unwrap_or_default();
        if !spec.starts_with("1.") {
            return Err(MetadataError::SpecVersion(spec.to_owned()));
        }
        if self.signed.get("version").and_then(Value::as_u64) == Some(0) {
            return Err(MetadataError::ZeroVersion);
        }
        T::deserialize(&self.signed).map_err(|source| MetadataError::Form { expected: role.name(), source })
    }
}

/// The keys whose signatures count for a role, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    keys: BTreeMap<KeyId, PublicKey>,
    threshold: u32,
}

impl RoleKeys {
    /// Keys by their ids; those of unknown types are left out.
    pub fn keys(&self) -> &BTreeMap<KeyId, PublicKey> {
        &self.keys
    }

    /// How many different keys must have signed; at least 1.
    pub fn threshold(&self) -> u32 {
        self.threshold
    }
}

/// A role in root metadata: names of keys, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleEntry {
    /// Names of keys.
    pub keyids: Vec<KeyId>,
    /// How many must sign.
    pub threshold: u32,
}

/// `root.json` (specification 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    /// Grows by one with each root.
    pub version: u64,
    /// Not trusted from then on.
    pub expires: Date,
    /// Whether files are named by version or hash.
    #[serde(default)]
    pub consistent_snapshot: bool,
    keys: BTreeMap<KeyId, Value>,
    roles: BTreeMap<String, RoleEntry>,
}

impl Root {
    /// Metadata of a new channel folder, without keys as yet.
    pub fn new(expires: Date) -> Self {
        let empty = RoleEntry { keyids: Vec::new(), threshold: 1 };
        Self {
            kind: Role::Root.name().to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: 1,
            expires,
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: Role::ALL.into_iter().map(|role| (role.name().to_owned(), empty.clone())).collect(),
        }
    }

    /// Reads root metadata, whoever signed it.
    ///
    /// # Errors
    /// Malformed, a role is missing, a threshold is 0.
    pub fn read(envelope: &Envelope) -> Result<Self, MetadataError> {
        let root: Self = envelope.read(Role::Root)?;
        for (id, description) in &root.keys {
            DescribedKey::parse(id, description)?;
        }
        for role in Role::ALL {
            let entry = root.roles.get(role.name()).ok_or(MetadataError::MissingRole(role))?;
            if entry.threshold == 0 {
                return Err(MetadataError::ZeroThreshold(role));
            }
            let mut seen = BTreeSet::new();
            if let Some(id) = entry.keyids.iter().find(|id| !seen.insert(*id)) {
                return Err(MetadataError::DuplicateKey { role, id: id.clone() });
            }
        }
        Ok(root)
    }

    /// What the metadata says about a role's keys; names that nothing is known about count for nothing.
    pub fn role(&self, role: Role) -> RoleKeys {
        let entry = self.roles.get(role.name());
        let keys = entry.iter().flat_map(|entry| &entry.keyids).filter_map(|id| {
            match DescribedKey::parse(id, self.keys.get(id)?) {
                Ok(DescribedKey::Ed25519(key)) => Some((id.clone(), key)),
                Ok(DescribedKey::Unknown) | Err(_) => None,
            }
        });
        // `read` and `set_role` see to it that the role is there; a missing one could be met by nobody.
        RoleKeys { keys: keys.collect(), threshold: entry.map_or(u32::MAX, |entry| entry.threshold.max(1)) }
    }

    /// Gives a role its keys; descriptions that no role needs any more go.
    pub fn set_role(&mut self, role: Role, keys: &[PublicKey], threshold: u32) {
        let keyids: BTreeSet<KeyId> = keys.iter().map(|key| key.id()).collect();
        for key in keys {
            self.keys.insert(key.id(), key.description());
        }
        let entry = RoleEntry { keyids: keyids.into_iter().collect(), threshold: threshold.max(1) };
        self.roles.insert(role.name().to_owned(), entry);
        let used: BTreeSet<&KeyId> = self.roles.values().flat_map(|entry| &entry.keyids).collect();
        self.keys.retain(|id, _| used.contains(id));
    }
}

/// What one metadata file says about another (specification 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Version of the other file.
    pub version: u64,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes, by algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
}

impl MetaFile {
    /// Its SHA-256. `Ok(None)` if no hash is given.
    ///
    /// # Errors
    /// Hashes are given, but SHA-256 is not among them or malformed.
    pub fn sha256(&self, name: &str) -> Result<Option<[u8; 32]>, MetadataError> {
        self.hashes.as_ref().map(|hashes| sha256_of(hashes, name)).transpose()
    }
}

fn sha256_of(hashes: &BTreeMap<String, String>, name: &str) -> Result<[u8; 32], MetadataError> {
    hashes.get("sha256").and_then(|text| unhex(text)).ok_or_else(|| MetadataError::Hash(name.to_owned()))
}

/// `timestamp.json` (specification 4.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    /// Only grows.
    pub version: u64,
    /// Not trusted from then on.
    pub expires: Date,
    meta: BTreeMap<String, MetaFile>,
    /// When it was signed, by the publisher's clock: the floor of machines' clocks (SAFETY 25). An addition of
    /// Ferrite's, which other clients ignore.
    #[serde(default, rename = "x-ferrite-issued", skip_serializing_if = "Option::is_none")]
    pub issued: Option<Date>,
}

impl Timestamp {
    const LISTED: &str = "snapshot.json";

    /// A timestamp of a snapshot.
    pub fn new(version: u64, issued: Date, expires: Date, snapshot: MetaFile) -> Self {
        Self {
            kind: Role::Timestamp.name().to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            meta: BTreeMap::from([(Self::LISTED.to_owned(), snapshot)]),
            issued: Some(issued),
        }
    }

    /// Reads timestamp metadata, whoever signed it.
    ///
    /// # Errors
    /// Malformed, or no snapshot is listed.
    pub fn read(envelope: &Envelope) -> Result<Self, MetadataError> {
        let timestamp: Self = envelope.read(Role::Timestamp)?;
        timestamp.snapshot()?.sha256(Self::LISTED)?;
        Ok(timestamp)
    }

    /// Lists another snapshot.
    pub(super) fn set_snapshot(&mut self, snapshot: MetaFile) {
        self.meta.insert(Self::LISTED.to_owned(), snapshot);
    }

    /// The snapshot of this moment.
    ///
    /// # Errors
    /// None is listed.
    pub fn snapshot(&self) -> Result<&MetaFile, MetadataError> {
        self.meta.get(Self::LISTED).ok_or(MetadataError::Unlisted(Self::LISTED))
    }
}

/// `snapshot.json` (specification 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    /// Only grows.
    pub version: u64,
    /// Not trusted from then on.
    pub expires: Date,
    /// Versions of the targets files, by file name.
    pub meta: BTreeMap<String, MetaFile>,
}

impl Snapshot {
    const LISTED: &str = "targets.json";

    /// A snapshot of targets.
    pub fn new(version: u64, expires: Date, targets: MetaFile) -> Self {
        Self {
            kind: Role::Snapshot.name().to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            meta: BTreeMap::from([(Self::LISTED.to_owned(), targets)]),
        }
    }

    /// Reads snapshot metadata, whoever signed it.
    ///
    /// # Errors
    /// Malformed, or no targets are listed.
    pub fn read(envelope: &Envelope) -> Result<Self, MetadataError> {
        let snapshot: Self = envelope.read(Role::Snapshot)?;
        snapshot.targets()?.sha256(Self::LISTED)?;
        Ok(snapshot)
    }

    /// Lists other targets.
    pub(super) fn set_targets(&mut self, targets: MetaFile) {
        self.meta.insert(Self::LISTED.to_owned(), targets);
    }

    /// The targets of this moment.
    ///
    /// # Errors
    /// None are listed.
    pub fn targets(&self) -> Result<&MetaFile, MetadataError> {
        self.meta.get(Self::LISTED).ok_or(MetadataError::Unlisted(Self::LISTED))
    }
}

/// A file that can be fetched, as targets metadata describes it (specification 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetEntry {
    /// Bytes.
    pub length: u64,
    /// By algorithm.
    pub hashes: BTreeMap<String, String>,
    /// What else there is to say about it; Ferrite's part is under `ferrite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
}

impl TargetEntry {
    /// Its SHA-256.
    ///
    /// # Errors
    /// Not given, or malformed.
    pub fn sha256(&self, path: &str) -> Result<[u8; 32], MetadataError> {
        sha256_of(&self.hashes, path)
    }
}

/// `targets.json` (specification 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    /// Only grows.
    pub version: u64,
    /// Not trusted from then on.
    pub expires: Date,
    /// Files by their path in the targets folder.
    pub targets: BTreeMap<String, TargetEntry>,
}

impl Targets {
    /// Targets metadata without a file.
    pub fn new(version: u64, expires: Date) -> Self {
        Self {
            kind: Role::Targets.name().to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            targets: BTreeMap::new(),
        }
    }

    /// Reads targets metadata, whoever signed it.
    ///
    /// # Errors
    /// Malformed, a path that leads elsewhere, a file without SHA-256.
    pub fn read(envelope: &Envelope) -> Result<Self, MetadataError> {
        let targets: Self = envelope.read(Role::Targets)?;
        for (path, entry) in &targets.targets {
            if !is_target_path(path) {
                return Err(MetadataError::TargetPath(path.clone()));
            }
            entry.sha256(path)?;
        }
        Ok(targets)
    }
}

/// Whether a path stays in its folder and in a URL: parts of letters, digits and `._+~-`, none of them `.` or `..`.
pub fn is_target_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    path.len() <= 512
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A change, and the beginning of what is said about it.
    type Case = (fn(&mut Value), &'static str);

    fn date() -> Date {
        Date::parse("2027-01-01T00:00:00Z").unwrap()
    }

    fn keys() -> [PrivateKey; 3] {
        [1, 2, 3].map(|byte| PrivateKey::from_seed(&[byte; 32]))
    }

    #[test]
    fn a_root_with_its_signatures_survives_the_file() {
        let keys = keys();
        let mut root = Root::new(date());
        for role in Role::ALL {
            root.set_role(role, &[keys[0].public(), keys[1].public()], 2);
        }
        let mut envelope = Envelope::new(&root).unwrap();
        keys.iter().for_each(|key| envelope.sign(key));
        let again = Envelope::parse(&envelope.to_bytes()).unwrap();
        assert_eq!(Root::read(&again).unwrap(), root);
        // The third key's signature is valid, but it is none of the role's.
        assert_eq!(again.valid_signatures(&root.role(Role::Root)), 2);
        assert_eq!(again.signers().count(), 3);
    }

    #[test]
    fn one_key_under_two_names_counts_once() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let mut envelope = Envelope::new(&Targets::new(1, date())).unwrap();
        envelope.sign(&key);
        let other = KeyId::of(&json!("another name")).unwrap();
        let signature = envelope.signatures.values().next().copied().unwrap();
        envelope.signatures.insert(other.clone(), signature);
        let keys = BTreeMap::from([(key.public().id(), key.public()), (other, key.public())]);
        assert_eq!(envelope.valid_signatures(&RoleKeys { keys, threshold: 2 }), 1);
    }

    #[test]
    fn keys_that_no_role_needs_any_more_go() {
        let keys = keys();
        let mut root = Root::new(date());
        root.set_role(Role::Root, &[keys[0].public()], 1);
        root.set_role(Role::Root, &[keys[1].public()], 1);
        assert_eq!(root.keys.keys().collect::<Vec<_>>(), [&keys[1].public().id()]);
    }

    #[test]
    fn malformed_metadata_is_refused_with_its_reason() {
        let good = json!({
            "_type": "root", "spec_version": "1.0.0", "version": 1, "expires": "2027-01-01T00:00:00Z",
            "consistent_snapshot": true, "keys": {},
            "roles": {
                "root": {"keyids": [], "threshold": 1}, "targets": {"keyids": [], "threshold": 1},
                "snapshot": {"keyids": [], "threshold": 1}, "timestamp": {"keyids": [], "threshold": 1},
            },
        });
        let read = |change: fn(&mut Value)| {
            let mut signed = good.clone();
            change(&mut signed);
            let file = json!({"signed": signed, "signatures": []}).to_string();
            Envelope::parse(file.as_bytes())
                .and_then(|envelope| Root::read(&envelope))
                .map_err(|error| error.to_string())
        };
        assert!(read(|_| {}).is_ok());
        let cases: [Case; 8] = [
            (|root| root["_type"] = json!("targets"), "it is targets metadata, not root"),
            (|root| root["spec_version"] = json!("2.0"), "it follows version 2.0 of"),
            (|root| root["version"] = json!(0), "it has version 0"),
            (|root| root["version"] = json!(1.5), "it cannot have been signed"),
            (|root| root["expires"] = json!("tomorrow"), "not root metadata"),
            (
                |root| root["roles"]["snapshot"] = json!({"keyids": [], "threshold": 0}),
                "snapshot has threshold 0",
            ),
            (
                |root| drop(root["roles"].as_object_mut().unwrap().remove("targets")),
                "it has no keys for targets",
            ),
            (|root| root["roles"]["root"]["keyids"] = json!(["a", "a"]), "root lists key a twice"),
        ];
        for (change, want) in cases {
            let error = read(change).unwrap_err();
            assert!(error.starts_with(want), "{error} instead of {want}");
        }
    }

    #[test]
    fn a_second_signature_of_one_key_is_refused() {
        let file =
            br#"{"signed": {}, "signatures": [{"keyid": "a", "sig": "00"}, {"keyid": "a", "sig": "01"}]}"#;
        assert!(matches!(Envelope::parse(file), Err(MetadataError::DuplicateSignature(_))));
    }

    #[test]
    fn targets_stay_in_their_folder() {
        for path in ["a", "a/b.index", "p/x86_64/1.0.0+b~1/f_g-h"] {
            assert!(is_target_path(path), "{path}");
        }
        for path in [
            "", "/a", "a/", "a//b", ".", "../a", "a/../b", "a/./b", "a\\b", "a b", "a%2e", "a\u{0}", "\u{e9}",
        ] {
            assert!(!is_target_path(path), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Envelope::parse(&bytes).is_err());
        }

        #[test]
        fn a_changed_byte_of_a_file_is_no_panic_and_never_the_same_signature(at: prop::sample::Index, by in 1..=255u8) {
            let key = PrivateKey::from_seed(&[1; 32]);
            let mut root = Root::new(date());
            Role::ALL.into_iter().for_each(|role| root.set_role(role, &[key.public()], 1));
            let mut envelope = Envelope::new(&root).unwrap();
            envelope.sign(&key);
            let good = envelope.to_bytes();
            let mut bytes = good.clone();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            if let Ok(changed) = Envelope::parse(&bytes)
                && changed.valid_signatures(&root.role(Role::Root)) > 0
            {
                // White space, or the outer names, may differ; what is signed may not.
                prop_assert_eq!(Root::read(&changed).unwrap(), root);
            }
        }
    }
}
