//! The cluster at one moment: machines and units, as far as decisions depend on them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::requirements::Requirements;
use crate::unit_file::Hash;

/// What is wanted of a unit. Later ones include earlier ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// The cluster knows it. Also of units whose state is not written yet.
    #[default]
    Inactive,
    /// A machine has its file.
    Loaded,
    /// It was started there.
    Launched,
}

impl TargetState {
    /// fleet's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Loaded => "loaded",
            Self::Launched => "launched",
        }
    }
}

impl fmt::Display for TargetState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

/// A word that is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of a unit: inactive, loaded and launched are")]
pub struct NoState(pub String);

impl FromStr for TargetState {
    type Err = NoState;

    fn from_str(word: &str) -> Result<Self, NoState> {
        [Self::Inactive, Self::Loaded, Self::Launched]
            .into_iter()
            .find(|state| state.word() == word)
            .ok_or_else(|| NoState(word.to_owned()))
    }
}

/// A machine that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its metadata, that of its configuration and that set from outside.
    pub metadata: BTreeMap<String, String>,
    /// It takes no units any more, and its units go elsewhere if they can.
    pub drains: bool,
}

/// A unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Of its file.
    pub hash: Hash,
    /// What it asks for.
    pub requirements: Arc<Requirements>,
    /// What is wanted of it.
    pub wanted: TargetState,
    /// The machine that it is given to.
    pub target: Option<String>,
    /// The machine that says that it has launched it.
    pub launched_on: Option<String>,
}

impl Unit {
    /// Whether it is to be on a machine of the engine's choice.
    #[must_use]
    pub fn is_to_place(&self) -> bool {
        self.wanted != TargetState::Inactive && !self.requirements.global
    }

    /// Whether it is to be on all machines that fit.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.wanted != TargetState::Inactive && self.requirements.global
    }
}

/// The cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By id.
    pub machines: BTreeMap<String, Machine>,
    /// By name.
    pub units: BTreeMap<String, Unit>,
    /// Machines that have gone without a word, but not long enough for their units to be started elsewhere.
    pub awaited: BTreeMap<String, Machine>,
}
