//! What one release is, and how targets metadata carries it (`docs/formats/channel.md`).

mod rollout;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::TARGETS_FOLDER;
use super::key::{hex, unhex};
use super::metadata::{Date, TargetEntry, Targets, is_target_path};

pub use self::rollout::{PLACES, Rollout, place};
pub use self::version::Version;

/// The form of the `custom` fields that this code writes, and the highest that it reads.
pub const SCHEMA: u32 = 1;
/// Name of Ferrite's part of a target's `custom`.
const CUSTOM: &str = "ferrite";

/// Name of a channel: `alpha`, `beta`, `stable`, or one's own. A lower-case letter or digit, then those, `.`, `_` and
/// `-`; at most 32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(String);

impl ChannelName {
    /// Checks the rule that the type documents; `None` if it is broken.
    pub fn parse(text: &str) -> Option<Self> {
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let rest = |c: char| first(c) || "._-".contains(c);
        (text.len() <= 32 && text.starts_with(first) && text.chars().all(rest)).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for ChannelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ChannelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no name of a channel")))
    }
}

/// A file that the metadata vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFile {
    /// Path in the targets folder, without the hash that consistent snapshots put before the name.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of all of them.
    pub sha256: [u8; 32],
}

impl TargetFile {
    /// Path below the channel's URL: `targets/FOLDER/HASH.NAME` (specification 6.2; channel folders have consistent
    /// snapshots). Plain characters only, nothing to escape.
    pub fn url_path(&self) -> String {
        let hash = hex(&self.sha256);
        match self.path.rsplit_once('/') {
            Some((folder, name)) => format!("{TARGETS_FOLDER}/{folder}/{hash}.{name}"),
            None => format!("{TARGETS_FOLDER}/{hash}.{}", self.path),
        }
    }
}

/// What a release does with one kind of state on STATE, such as etcd's data (SAFETY 23).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFormat {
    /// Formats that it reads.
    pub reads: BTreeSet<String>,
    /// The format that it writes once the boot is good.
    pub writes: String,
}

/// Why and when a release left a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// When.
    pub at: Date,
    /// The publisher's words.
    pub reason: String,
}

/// A release's place in one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// How it spreads.
    pub rollout: Rollout,
    /// Set once it has been withdrawn: no machine takes it from then on, a machine that runs it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawal>,
}

/// One release: a slot image as index and payload, and what must be known before taking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The recipe's name; a machine takes releases of its own product only.
    pub product: String,
    /// As in `uname -m`.
    pub architecture: String,
    /// Its version.
    pub version: Version,
    /// The signed index of the payload; its target carries this description.
    pub index: TargetFile,
    /// The payload.
    pub payload: TargetFile,
    /// Bytes of the slot image (`.usr`).
    pub slot_bytes: u64,
    /// dm-verity root hash: what a slot is called in the list of those that failed (SAFETY 17).
    pub root_hash: [u8; 32],
    /// Unix seconds, from the slot's footer.
    pub build_time: u64,
    /// Oldest version that can go to this one in one step; older machines take a release in between first.
    pub minimum_version: Option<Version>,
    /// Of the slot's footer (SAFETY 12).
    pub rollback_index: u64,
    /// Least loader that can start it (SAFETY 11).
    pub minimum_loader: u32,
    /// State formats by kind, such as `etcd`.
    pub state: BTreeMap<String, StateFormat>,
    /// Whether a machine may go back to the release before by itself after this one was good. False is the publisher's
    /// declaration that this step cannot be undone (SAFETY 23).
    pub automatic_rollback: bool,
    /// What is new, for people.
    pub notes: String,
    /// Channels that have it, or had it before it was withdrawn.
    pub channels: BTreeMap<ChannelName, Placement>,
}

/// The release in the `custom` field of its index.
#[derive(Serialize, Deserialize)]
struct Custom {
    schema: u32,
    kind: String,
    product: String,
    architecture: String,
    version: Version,
    payload: String,
    slot_bytes: u64,
    root_hash: String,
    build_time: Date,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minimum_version: Option<Version>,
    rollback_index: u64,
    minimum_loader: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    state: BTreeMap<String, StateFormat>,
    #[serde(default = "yes")]
    automatic_rollback: bool,
    #[serde(default)]
    notes: String,
    channels: BTreeMap<ChannelName, Placement>,
}

fn yes() -> bool {
    true
}

/// A target that calls itself a release of Ferrite's, but that this program makes nothing of. Others are not affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The target.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Release {
    /// The releases of targets metadata, in the order of their versions, and what could not be read.
    pub fn all(targets: &Targets) -> (Vec<Self>, Vec<Unreadable>) {
        let (mut releases, mut unreadable) = (Vec::new(), Vec::new());
        for (path, entry) in &targets.targets {
            let Some(custom) = entry.custom.as_ref().and_then(|custom| custom.get(CUSTOM)) else { continue };
            if custom.get("kind").and_then(Value::as_str) != Some("release") {
                continue;
            }
            match Self::read(path, entry, custom, targets) {
                Ok(release) => releases.push(release),
                Err(reason) => unreadable.push(Unreadable { path: path.clone(), reason }),
            }
        }
        releases.sort_by(|a, b| a.version.cmp(&b.version));
        (releases, unreadable)
    }

    fn read(path: &str, entry: &TargetEntry, custom: &Value, targets: &Targets) -> Result<Self, String> {
        // Before the rest: a later form may have other fields.
        match custom.get("schema").and_then(Value::as_u64) {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => return Err(format!("it has form {schema}, this program reads {SCHEMA}")),
            None => return Err("it does not say which form it has".to_owned()),
        }
        let custom = Custom::deserialize(custom).map_err(|error| error.to_string())?;
        let file = |path: &str, entry: &TargetEntry| {
            let sha256 = entry.sha256(path).map_err(|error| error.to_string())?;
            Ok::<_, String>(TargetFile { path: path.to_owned(), length: entry.length, sha256 })
        };
        let payload = targets.targets.get(&custom.payload);
        let payload = payload.ok_or_else(|| format!("its payload {:?} is no target", custom.payload))?;
        Ok(Self {
            index: file(path, entry)?,
            payload: file(&custom.payload, payload)?,
            product: custom.product,
            architecture: custom.architecture,
            version: custom.version,
            slot_bytes: custom.slot_bytes,
            root_hash: unhex(&custom.root_hash).ok_or("its root hash is no SHA-256")?,
            build_time: custom.build_time.unix(),
            minimum_version: custom.minimum_version,
            rollback_index: custom.rollback_index,
            minimum_loader: custom.minimum_loader,
            state: custom.state,
            automatic_rollback: custom.automatic_rollback,
            notes: custom.notes,
            channels: custom.channels,
        })
    }

    /// Puts the release into targets metadata, in place of what is there under its paths. Nothing is checked but that
    /// it can be written; `false` if it cannot: the build time is past the year 9999, or a path leads elsewhere.
    #[must_use]
    pub fn put(&self, targets: &mut Targets) -> bool {
        let Some(build_time) = Date::from_unix(self.build_time) else { return false };
        if !is_target_path(&self.index.path) || !is_target_path(&self.payload.path) {
            return false;
        }
        let custom = Custom {
            schema: SCHEMA,
            kind: "release".to_owned(),
            product: self.product.clone(),
            architecture: self.architecture.clone(),
            version: self.version.clone(),
            payload: self.payload.path.clone(),
            slot_bytes: self.slot_bytes,
            root_hash: hex(&self.root_hash),
            build_time,
            minimum_version: self.minimum_version.clone(),
            rollback_index: self.rollback_index,
            minimum_loader: self.minimum_loader,
            state: self.state.clone(),
            automatic_rollback: self.automatic_rollback,
            notes: self.notes.clone(),
            channels: self.channels.clone(),
        };
        let entry = |file: &TargetFile, custom: Value| TargetEntry {
            length: file.length,
            hashes: BTreeMap::from([("sha256".to_owned(), hex(&file.sha256))]),
            custom: Some(json!({ CUSTOM: custom })),
        };
        let Ok(description) = serde_json::to_value(&custom) else { return false };
        let payload = json!({"schema": SCHEMA, "kind": "payload", "release": self.index.path});
        targets.targets.insert(self.index.path.clone(), entry(&self.index, description));
        targets.targets.insert(self.payload.path.clone(), entry(&self.payload, payload));
        true
    }

    /// Whether a machine that ran this release, and then `newer`, finds its state readable again (SAFETY 23): the kinds
    /// that this release knows, in formats that it does not read.
    pub fn cannot_read_after(&self, newer: &Self) -> Vec<String> {
        let unread = newer.state.iter().filter(|(kind, format)| {
            self.state.get(*kind).is_some_and(|own| !own.reads.contains(&format.writes))
        });
        unread.map(|(kind, format)| format!("{kind} {}", format.writes)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A release on `stable` for everybody since 1970.
    pub(crate) fn release(version: &str) -> Release {
        let file = |ending: &str, byte: u8| TargetFile {
            path: format!("ferrite/x86_64/{version}/ferrite-{version}-x86_64.{ending}"),
            length: 1000 + u64::from(byte),
            sha256: [byte; 32],
        };
        let start = Date::from_unix(0).unwrap();
        let placement = Placement { rollout: Rollout::everybody(start), withdrawn: None };
        Release {
            product: "ferrite".to_owned(),
            architecture: "x86_64".to_owned(),
            version: Version::parse(version).unwrap(),
            index: file("index", 1),
            payload: file("payload", 2),
            slot_bytes: 4096,
            root_hash: [9; 32],
            build_time: 1_789_199_741,
            minimum_version: None,
            rollback_index: 0,
            minimum_loader: 1,
            state: BTreeMap::new(),
            automatic_rollback: true,
            notes: String::new(),
            channels: BTreeMap::from([(ChannelName::parse("stable").unwrap(), placement)]),
        }
    }

    pub(crate) fn state(reads: &[&str], writes: &str) -> StateFormat {
        StateFormat {
            reads: reads.iter().map(|text| (*text).to_owned()).collect(),
            writes: writes.to_owned(),
        }
    }

    fn targets() -> Targets {
        Targets::new(1, Date::from_unix(2_000_000_000).unwrap())
    }

    #[test]
    fn a_release_survives_the_metadata() {
        let mut whole = release("1.1.0");
        whole.minimum_version = Some(Version::parse("1.0.0").unwrap());
        whole.rollback_index = 3;
        whole.state.insert("etcd".to_owned(), state(&["3.4", "3.5"], "3.5"));
        whole.automatic_rollback = false;
        whole.notes = "new \"kernel\"\n\u{e9}".to_owned();
        let at = Date::from_unix(1_800_000_000).unwrap();
        let placement = Placement {
            rollout: Rollout { percentage: 20, start: at, duration_seconds: 3600 },
            withdrawn: Some(Withdrawal { at, reason: "broken".to_owned() }),
        };
        whole.channels.insert(ChannelName::parse("beta").unwrap(), placement);
        let mut targets = targets();
        assert!(whole.put(&mut targets) && release("1.0.9").put(&mut targets));
        assert_eq!(Release::all(&targets), (vec![release("1.0.9"), whole], vec![]));
    }

    #[test]
    fn one_release_that_cannot_be_read_hides_no_other() {
        let mut targets = targets();
        let (good, bad) = (release("1.0.0"), release("2.0.0"));
        assert!(good.put(&mut targets) && bad.put(&mut targets));
        targets.targets.get_mut(&bad.index.path).unwrap().custom.as_mut().unwrap()["ferrite"]["schema"] =
            json!(2);
        let (releases, unreadable) = Release::all(&targets);
        assert_eq!(releases, [good]);
        assert_eq!(unreadable[0].path, bad.index.path);
        assert!(unreadable[0].reason.contains("form 2"), "{}", unreadable[0].reason);
        targets.targets.remove(&bad.payload.path);
        targets.targets.get_mut(&bad.index.path).unwrap().custom.as_mut().unwrap()["ferrite"]["schema"] =
            json!(1);
        assert!(Release::all(&targets).1[0].reason.contains("is no target"));
    }

    #[test]
    fn targets_of_others_are_no_releases() {
        let mut targets = targets();
        let hashes = BTreeMap::from([("sha256".to_owned(), hex(&[1; 32]))]);
        for (name, custom) in [("a", None), ("b", Some(json!({"other": 1}))), ("c", Some(json!("text")))] {
            targets
                .targets
                .insert(name.to_owned(), TargetEntry { length: 1, hashes: hashes.clone(), custom });
        }
        assert_eq!(Release::all(&targets), (vec![], vec![]));
    }

    #[test]
    fn urls_have_the_hash_before_the_name() {
        let file = TargetFile { path: "a/b.index".to_owned(), length: 1, sha256: [0xab; 32] };
        assert_eq!(file.url_path(), format!("targets/a/{}.b.index", "ab".repeat(32)));
    }

    #[test]
    fn names_of_channels_are_plain() {
        for name in ["stable", "my-team.2", "0"] {
            assert!(ChannelName::parse(name).is_some(), "{name}");
        }
        for name in ["", "Stable", "a b", "-a", "a/b", &"a".repeat(33)] {
            assert!(ChannelName::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_format_that_the_older_release_does_not_read_is_named() {
        let (mut old, mut new) = (release("1.0.0"), release("1.1.0"));
        old.state.insert("etcd".to_owned(), state(&["3.4", "3.5"], "3.5"));
        new.state.insert("etcd".to_owned(), state(&["3.5", "3.6"], "3.6"));
        new.state.insert("journal".to_owned(), state(&["1"], "1"));
        assert_eq!(old.cannot_read_after(&new), ["etcd 3.6"]);
        assert_eq!(new.cannot_read_after(&old), Vec::<String>::new());
    }
}
