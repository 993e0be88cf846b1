//! What the API speaks of, as JSON. Empty fields are left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::unit_file::UnitOption;

/// An error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorEntity,
}

/// What is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntity {
    /// The status.
    pub code: u16,
    /// In words.
    #[serde(default)]
    pub message: String,
}

impl ErrorBody {
    pub(super) const fn new(code: u16, message: String) -> Self {
        Self { error: ErrorEntity { code, message } }
    }
}

/// A unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UnitEntity {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<UnitOption>,
    /// What is wanted of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub desired_state: String,
    /// What it has come to; empty for global units.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current_state: String,
    /// Where it is.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// Why it is nowhere. Not fleet's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The reason does not pass by itself. Not fleet's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
}

/// Some units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UnitPage {
    /// By name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<UnitEntity>,
    /// For the next ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_page_token: String,
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineEntity {
    /// Its id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its address for others.
    #[serde(rename = "primaryIP", skip_serializing_if = "String::is_empty")]
    pub primary_ip: String,
    /// Its metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Why it drains. Not fleet's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub draining: String,
}

/// Some machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MachinePage {
    /// By id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<MachineEntity>,
    /// For the next ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_page_token: String,
}

/// What PID 1 of a machine says of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateEntity {
    /// The unit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Of its file there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// The machine.
    #[serde(rename = "machineID", skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// systemd's word.
    #[serde(rename = "systemdLoadState", skip_serializing_if = "String::is_empty")]
    pub load: String,
    /// systemd's word.
    #[serde(rename = "systemdActiveState", skip_serializing_if = "String::is_empty")]
    pub active: String,
    /// systemd's word.
    #[serde(rename = "systemdSubState", skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// Why the machine cannot do what it should with it. Not fleet's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

/// Some states.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatePage {
    /// By unit and machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateEntity>,
    /// For the next ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_page_token: String,
}

/// A change of metadata (RFC 6902, as far as fleet took it).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PatchOperation {
    /// `add`, `remove` or `replace`
    pub op: String,
    /// `/<machine>/metadata/<key>`
    pub path: String,
    /// For the first and the last.
    pub value: Option<PatchValue>,
}

/// A text, as fleet's documentation has it, or an object with it, as fleet's code had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PatchValue {
    /// `"x"`
    Text(String),
    /// `{"value": "x"}`
    Object {
        /// `"x"`
        #[serde(default)]
        value: String,
    },
}

impl PatchValue {
    pub(super) fn text(self) -> String {
        match self {
            Self::Text(value) | Self::Object { value } => value,
        }
    }
}
