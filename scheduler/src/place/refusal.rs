//! Why a unit is not on a machine, in words for people.

use std::collections::BTreeSet;
use std::fmt;

/// Why a machine does not get a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `MachineID=` names another one.
    #[error("MachineID={0} is another machine")]
    OtherMachine(String),
    /// `MachineMetadata=`
    #[error("metadata {key} is {}, not {}", has.as_deref().unwrap_or("not set"), Values(wanted))]
    Metadata {
        /// The key.
        key: String,
        /// One of these is wanted.
        wanted: BTreeSet<String>,
        /// What the machine has.
        has: Option<String>,
    },
    /// `MachineOf=` names a unit that is nowhere.
    #[error("MachineOf={0} is not scheduled")]
    PeerMissing(String),
    /// `MachineOf=` names a unit that is not here.
    #[error("MachineOf={peer} is on {machine}")]
    PeerElsewhere {
        /// The unit.
        peer: String,
        /// Where it is.
        machine: String,
    },
    /// A unit on the machine and this one do not bear each other.
    #[error("{with} is there, and {} has Conflicts={pattern}", if *theirs { with } else { "this unit" })]
    Conflict {
        /// The unit on the machine.
        with: String,
        /// The pattern that fits.
        pattern: String,
        /// Whether the pattern is that unit's.
        theirs: bool,
    },
    /// Each of two units would push the other one away.
    #[error("{0} is there, and by Replaces= each would push the other away")]
    ReplaceEachOther(String),
    /// The machine drains.
    #[error("it drains")]
    Drains,
}

struct Values<'a>(&'a BTreeSet<String>);

impl fmt::Display for Values<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, value) in self.0.iter().enumerate() {
            formatter.write_str(if place == 0 { "" } else { " or " })?;
            formatter.write_str(value)?;
        }
        Ok(())
    }
}

/// Why a unit leaves a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Departure {
    /// Nobody wants it on a machine any more.
    #[error("it is not wanted on a machine any more")]
    NotWanted,
    /// The machine has been gone for too long.
    #[error("the machine is gone")]
    MachineLost,
    /// The machine does not suit it any more.
    #[error("{0}")]
    Refused(Refusal),
    /// The machine drains, and there is another one.
    #[error("the machine drains")]
    Drains,
    /// Another unit pushes it away.
    #[error("{0} replaces it there")]
    Replaced(String),
    /// `MachineOf=` leads back to itself.
    #[error("MachineOf= goes round in a circle")]
    Circle,
}

/// Why a unit is on no machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unplaced {
    /// There are no machines.
    NoMachines,
    /// `MachineOf=` leads back to itself, by way of these units.
    Circle(Vec<String>),
    /// It still stops on this machine, and is started elsewhere then.
    Stops(String),
    /// `MachineOf=` names this unit, which is on its way to the machine.
    Follows(String),
    /// Each machine refuses.
    Refused(Vec<(String, Refusal)>),
}

impl fmt::Display for Unplaced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMachines => formatter.write_str("there are no machines"),
            Self::Circle(units) => {
                write!(formatter, "MachineOf= goes round in a circle: {}", units.join(", "))
            }
            Self::Stops(machine) => write!(formatter, "it still stops on {}", short(machine)),
            Self::Follows(peer) => write!(formatter, "it waits for {peer}, which is being moved"),
            Self::Refused(refusals) => {
                for (place, (machine, refusal)) in refusals.iter().enumerate() {
                    formatter.write_str(if place == 0 { "" } else { "; " })?;
                    write!(formatter, "{}: {refusal}", short(machine))?;
                }
                Ok(())
            }
        }
    }
}

/// The first eight characters of a machine's id, as people know it.
#[must_use]
pub fn short(machine: &str) -> &str {
    machine.char_indices().nth(8).and_then(|(end, _)| machine.get(..end)).unwrap_or(machine)
}
