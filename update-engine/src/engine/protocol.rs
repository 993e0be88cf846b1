//! What the engine and its clients say to each other over a Unix socket: JSON messages ended by NUL bytes, varlink's framing,
//! as PID 1's control socket has them.

use serde::{Deserialize, Serialize};

use super::fill::Progress;
use super::machine::{Command, Phase};
use super::state::{Denied, Happened, Staged};
use crate::channel::report::LastError;

/// Where the socket is.
pub const SOCKET: &str = "/run/ferrite/update-engine";
/// A client that sends a longer message is cut off.
pub const LONGEST_CALL: usize = 4096;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "parameters")]
pub enum Call {
    /// How things are. Open to everybody.
    #[serde(rename = "org.ferrite.UpdateEngine.Status")]
    Status {},
    /// What has happened. Open to everybody.
    #[serde(rename = "org.ferrite.UpdateEngine.History")]
    History {},
    /// Something is to be done. For root and `core`.
    #[serde(rename = "org.ferrite.UpdateEngine.Command")]
    Command(Command),
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Answer>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Of `Status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    /// Of `History`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Happened>>,
}

/// A slot, for people and programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// `USR-A` or `USR-B`.
    pub name: String,
    /// Version of what is in it; absent when there is nothing that the loader would start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its flags.
    pub priority: u8,
    /// Its flags.
    pub tries: u8,
    /// Its flags.
    pub successful: bool,
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What the engine does; a name of Container Linux.
    pub state: Phase,
    /// Unix seconds; 0 for never.
    pub last_checked_time: i64,
    /// 0 to 1.
    pub progress: f64,
    /// The release that is being dealt with or staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_version: Option<String>,
    /// Bytes of its slot image.
    pub new_size: i64,
    /// Details of the download.
    pub download: Progress,
    /// The product.
    pub product: String,
    /// The version that runs.
    pub version: String,
    /// Whether this boot is confirmed. As long as it is not, the machine would go back to the other slot, and no update begins.
    pub confirmed: bool,
    /// The running slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_slot: Option<SlotStatus>,
    /// The other slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_slot: Option<SlotStatus>,
    /// What is on the passive slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Staged>,
    /// The channel.
    pub channel: String,
    /// Its folder and mirrors.
    pub servers: Vec<String>,
    /// `REBOOT_STRATEGY`.
    pub reboot_strategy: String,
    /// Seconds until the machine reboots by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_in_seconds: Option<u64>,
    /// What a reboot under the cluster's lock waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_waits: Option<String>,
    /// `locksmithd.service` is stopped or masked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboots_stopped: bool,
    /// Why this machine keeps the cluster's lock although it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_kept: Option<String>,
    /// The only version that is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Nothing happens by itself.
    pub paused: bool,
    /// The channel server wants no updates now, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Newer releases that are not taken, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
    /// Releases that failed here and are not tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denied>,
    /// The last thing that went wrong since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What the settings have that means nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
