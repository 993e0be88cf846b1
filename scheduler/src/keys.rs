//! fleet's keys in etcd and what they hold. They are fleet's own, but for `machines/<id>/drain`; its legacy `state/<unit>` is not
//! written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::unit_file::Hash;

/// Where fleet's keys begin.
pub const DEFAULT_PREFIX: &str = "/_coreos.com/fleet/";
/// The version of the engine's rules. An engine of a lower version than the cluster's sits out.
pub const ENGINE_VERSION: u64 = 1;

/// `machines/<id>/object`: a machine that is there. Rests on the machine's lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineObject {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its address for others.
    #[serde(rename = "PublicIP")]
    pub public_ip: String,
    /// Metadata of its configuration.
    #[serde(rename = "Metadata", deserialize_with = "maybe_null")]
    pub metadata: BTreeMap<String, String>,
    /// What it can do.
    #[serde(rename = "Capabilities", deserialize_with = "maybe_null")]
    pub capabilities: BTreeMap<String, bool>,
    /// Of the daemon.
    #[serde(rename = "Version")]
    pub version: String,
}

/// Go writes an empty map as `null`.
fn maybe_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `unit/<hash>`: a unit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileObject {
    /// Its normal form.
    #[serde(rename = "Raw")]
    pub raw: String,
}

/// `job/<unit>/object`: a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobObject {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// Its file.
    #[serde(rename = "UnitHash")]
    pub hash: Hash,
}

/// `states/<unit>/<machine>`: what PID 1 says of a unit there. Rests on the machine's lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UnitState {
    /// systemd's word.
    pub load_state: String,
    /// systemd's word.
    pub active_state: String,
    /// systemd's word.
    pub sub_state: String,
    /// The machine.
    pub machine_state: MachineId,
    /// Of the file that is loaded.
    pub unit_hash: String,
    /// Why the machine cannot do what it should with it. Not fleet's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

impl UnitState {
    /// The unit runs there, or may.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !matches!(self.active_state.as_str(), "inactive" | "failed" | "")
    }
}

/// A machine, as states of units name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineId {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
}

/// `lease/engine-leader`: who decides. Rests on the leader's lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leader {
    /// The machine.
    #[serde(rename = "MachineID")]
    pub machine: String,
    /// Of its rules.
    #[serde(rename = "Version")]
    pub version: u64,
}

/// A key, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// [`MachineObject`]
    Machine(&'a str),
    /// One piece of a machine's metadata, set from outside; an empty one hides that of the configuration.
    Metadata(&'a str, &'a str),
    /// The machine drains; holds why.
    Drain(&'a str),
    /// [`FileObject`]
    File(Hash),
    /// [`JobObject`]
    Object(&'a str),
    /// What is wanted of a unit.
    Wanted(&'a str),
    /// The machine that a unit is given to.
    Target(&'a str),
    /// The machine that has launched a unit. Rests on its lease.
    Launched(&'a str),
    /// [`UnitState`], of a unit on a machine.
    State(&'a str, &'a str),
    /// [`Leader`]
    Leader,
    /// [`ENGINE_VERSION`] of the cluster.
    EngineVersion,
}

impl<'a> Key<'a> {
    /// The unit that it is about.
    #[must_use]
    pub const fn unit(&self) -> Option<&'a str> {
        match *self {
            Key::Object(unit)
            | Key::Wanted(unit)
            | Key::Target(unit)
            | Key::Launched(unit)
            | Key::State(unit, _) => Some(unit),
            Key::Machine(_)
            | Key::Metadata(..)
            | Key::Drain(_)
            | Key::File(_)
            | Key::Leader
            | Key::EngineVersion => None,
        }
    }
}

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self::below(DEFAULT_PREFIX)
    }
}

impl Keys {
    /// Below a prefix; it begins and ends with a slash, whether it is given so or not.
    #[must_use]
    pub fn below(prefix: &str) -> Self {
        Self { prefix: format!("/{}/", prefix.trim_matches('/')).replace("//", "/") }
    }

    /// What all of them begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What all keys of a unit but its states begin with.
    #[must_use]
    pub fn job(&self, unit: &str) -> String {
        format!("{}job/{unit}/", self.prefix)
    }

    /// What all states of a unit begin with.
    #[must_use]
    pub fn states(&self, unit: &str) -> String {
        format!("{}states/{unit}/", self.prefix)
    }

    /// Puts a key together.
    #[must_use]
    pub fn of(&self, key: &Key<'_>) -> String {
        let prefix = &self.prefix;
        match key {
            Key::Machine(id) => format!("{prefix}machines/{id}/object"),
            Key::Metadata(id, key) => format!("{prefix}machines/{id}/metadata/{key}"),
            Key::Drain(id) => format!("{prefix}machines/{id}/drain"),
            Key::File(hash) => format!("{prefix}unit/{hash}"),
            Key::Object(unit) => format!("{prefix}job/{unit}/object"),
            Key::Wanted(unit) => format!("{prefix}job/{unit}/target-state"),
            Key::Target(unit) => format!("{prefix}job/{unit}/target"),
            Key::Launched(unit) => format!("{prefix}job/{unit}/job-state"),
            Key::State(unit, machine) => format!("{prefix}states/{unit}/{machine}"),
            Key::Leader => format!("{prefix}lease/engine-leader"),
            Key::EngineVersion => format!("{prefix}engine/version"),
        }
    }

    /// Takes a key apart; `None` for one that means nothing here.
    #[must_use]
    pub fn parse<'a>(&self, key: &'a [u8]) -> Option<Key<'a>> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        let parts: Vec<&str> = rest.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        Some(match parts.as_slice() {
            ["machines", id, "object"] => Key::Machine(id),
            ["machines", id, "metadata", key] => Key::Metadata(id, key),
            ["machines", id, "drain"] => Key::Drain(id),
            ["unit", hash] => Key::File(Hash::from_hex(hash)?),
            ["job", unit, "object"] => Key::Object(unit),
            ["job", unit, "target-state"] => Key::Wanted(unit),
            ["job", unit, "target"] => Key::Target(unit),
            ["job", unit, "job-state"] => Key::Launched(unit),
            ["states", unit, machine] => Key::State(unit, machine),
            ["lease", "engine-leader"] => Key::Leader,
            ["engine", "version"] => Key::EngineVersion,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_values_are_fleets() {
        let keys = Keys::default();
        assert_eq!(keys.of(&Key::Object("a.service")), "/_coreos.com/fleet/job/a.service/object");
        assert_eq!(keys.of(&Key::Launched("a.service")), "/_coreos.com/fleet/job/a.service/job-state");
        assert_eq!(Keys::below("x/y").prefix(), "/x/y/");
        let hash = Hash::from_hex("da39a3ee5e6b4b0d3255bfef95601890afd80709").unwrap();
        let job = JobObject { name: "a.service".to_owned(), hash };
        assert_eq!(
            serde_json::to_string(&job).unwrap(),
            r#"{"Name":"a.service","UnitHash":[218,57,163,238,94,107,75,13,50,85,191,239,149,96,24,144,175,216,7,9]}"#
        );
        let machine: MachineObject = serde_json::from_str(
            r#"{"ID":"m","PublicIP":"10.0.0.1","Metadata":null,"Capabilities":{"GRPC":false},"Version":"1.0.0"}"#,
        )
        .unwrap();
        assert_eq!((machine.public_ip.as_str(), machine.metadata.len()), ("10.0.0.1", 0));
        let state = UnitState { machine_state: MachineId { id: "m".to_owned() }, ..UnitState::default() };
        assert_eq!(
            serde_json::to_string(&state).unwrap(),
            r#"{"loadState":"","activeState":"","subState":"","machineState":{"ID":"m"},"unitHash":""}"#
        );
    }

    proptest! {
        #[test]
        fn keys_come_apart_as_they_were_put_together(name in "[a-z@.]{1,9}", id in "[0-9a-f]{1,9}", which in 0_usize..11) {
            let keys = Keys::default();
            let all = [
                Key::Machine(&id), Key::Metadata(&id, &name), Key::Drain(&id), Key::File(Hash::default()), Key::Object(&name),
                Key::Wanted(&name), Key::Target(&name), Key::Launched(&name), Key::State(&name, &id), Key::Leader,
                Key::EngineVersion,
            ];
            let text = keys.of(&all[which]);
            prop_assert_eq!(keys.parse(text.as_bytes()), Some(all[which]));
        }

        #[test]
        fn any_key_is_read_without_panic(key in proptest::collection::vec(any::<u8>(), 0..40), tail in "[a-z/]{0,30}") {
            let _ = Keys::default().parse(&key);
            let _ = Keys::default().parse(format!("{DEFAULT_PREFIX}{tail}").as_bytes());
        }
    }
}
