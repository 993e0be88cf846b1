//! What machines tell the channel server, and what it answers (`docs/channels.md`, "Reports").
//!
//! Reports are not signed: whoever reaches the server can send one. They are for looking at. The answer can only
//! withhold updates, never offer one, so that a forged answer does no more than a cut wire.

use serde::{Deserialize, Serialize};

/// The form of reports.
pub const SCHEMA: u32 = 1;
/// Where they are posted, below the channel's URL.
pub const PATH: &str = "v1/report";
/// A report is at most so many bytes of JSON.
pub const MAX_BYTES: usize = 16 << 10;
/// The server keeps at most so many rollbacks of a report, the last ones.
pub const MAX_ROLLBACKS: usize = 16;
/// Characters of a text in a report; the server cuts longer ones.
pub const MAX_TEXT: usize = 512;

/// What the update engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// Nothing; there is no newer release for it.
    Idle,
    /// Reading the channel's metadata.
    Checking,
    /// A release is there but withheld: its turn has not come, updates are paused, or the server said to hold.
    Held,
    /// Fetching and writing.
    Downloading,
    /// Checking the slot.
    Verifying,
    /// A release is staged; the next boot tries it.
    NeedReboot,
    /// The release that runs is on trial: the boot is not confirmed yet.
    Trial,
    /// The last attempt failed; `last_error` says why.
    Error,
    /// A state of a newer engine.
    #[serde(other)]
    Other,
}

/// A release that a machine came back from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The version that failed.
    pub version: String,
    /// Root hash of its slot, 64 hexadecimal digits.
    pub root_hash: String,
    /// Why: the evidence (SAFETY 17).
    pub reason: String,
    /// Unix seconds.
    pub at: u64,
}

/// The last thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// One word for counting, such as `hash` or `expired`.
    pub kind: String,
    /// The whole message.
    pub message: String,
    /// Unix seconds.
    pub at: u64,
}

/// A machine's report: POST of JSON to [`PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The machine's id (`/etc/machine-id`): 32 hexadecimal digits.
    pub machine: String,
    /// The product that it runs.
    pub product: String,
    /// As in `uname -m`.
    pub architecture: String,
    /// The channel or group that it follows (`GROUP=`).
    pub group: String,
    /// The version that runs.
    pub version: String,
    /// The version that is being fetched, is staged or on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    /// What the engine is doing.
    pub state: MachineState,
    /// Until it is cleared by a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Releases that it came back from, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollbacks: Vec<Rollback>,
}

/// The server's answer to a report (HTTP 200). A channel folder on a plain file server has none: any other status
/// means "no advice", and the machine goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// Whether to begin no new download and reboot for now. What runs goes on.
    pub hold: bool,
    /// Why, for `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds after which to ask again; the machine may ask later, and at most once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_again_seconds: Option<u64>,
}

/// Why a report is refused (HTTP 400).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not JSON, or not the fields of a report.
    #[error("not a report: {0}")]
    Form(String),
    /// A form of the future.
    #[error("the report has form {0}, this server reads {SCHEMA}")]
    Schema(u32),
    /// The machine's id is none.
    #[error("`machine` is not 32 lower-case hexadecimal digits")]
    Machine,
    /// A name that is none.
    #[error("`{0}` is empty, longer than 64 bytes, or has characters other than letters, digits and `._+~-`")]
    Name(&'static str),
}

impl Report {
    /// Reads a report as it came from the network.
    ///
    /// # Errors
    /// It is not one; longer texts are cut instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let mut report: Self =
            serde_json::from_slice(bytes).map_err(|error| ReportError::Form(error.to_string()))?;
        if report.schema != SCHEMA {
            return Err(ReportError::Schema(report.schema));
        }
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if report.machine.len() != 32 || !report.machine.bytes().all(digit) {
            return Err(ReportError::Machine);
        }
        let names = [
            ("product", Some(&report.product)),
            ("architecture", Some(&report.architecture)),
            ("group", Some(&report.group)),
            ("version", Some(&report.version)),
            ("target_version", report.target_version.as_ref()),
        ];
        for (field, name) in names {
            if name.is_some_and(|name| !is_name(name)) {
                return Err(ReportError::Name(field));
            }
        }
        if let Some(error) = &mut report.last_error {
            cut(&mut error.kind);
            cut(&mut error.message);
        }
        let surplus = report.rollbacks.len().saturating_sub(MAX_ROLLBACKS);
        report.rollbacks.drain(..surplus);
        for rollback in &mut report.rollbacks {
            cut(&mut rollback.version);
            cut(&mut rollback.root_hash);
            cut(&mut rollback.reason);
        }
        Ok(report)
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(plain)
}

/// Cuts a text to [`MAX_TEXT`] characters, and takes control characters out of it.
fn cut(text: &mut String) {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    *text = text.chars().take(MAX_TEXT).map(clean).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn report() -> Value {
        json!({
            "schema": 1, "machine": "00112233445566778899aabbccddeeff", "product": "ferrite", "architecture": "x86_64",
            "group": "stable", "version": "1.0.0", "state": "need-reboot", "target_version": "1.1.0",
        })
    }

    #[test]
    fn a_report_survives_the_network_and_unknown_states_do_not_matter() {
        let parsed = Report::parse(report().to_string().as_bytes()).unwrap();
        assert_eq!(parsed.state, MachineState::NeedReboot);
        assert_eq!(Report::parse(&serde_json::to_vec(&parsed).unwrap()), Ok(parsed));
        let mut newer = report();
        newer["state"] = json!("dreaming");
        newer["more"] = json!([1]);
        assert_eq!(Report::parse(newer.to_string().as_bytes()).unwrap().state, MachineState::Other);
    }

    #[test]
    fn what_is_no_report_is_refused_by_field() {
        let cases: [(&str, Value, ReportError); 6] = [
            ("schema", json!(2), ReportError::Schema(2)),
            ("machine", json!("X"), ReportError::Machine),
            ("machine", json!("00112233445566778899AABBCCDDEEFF"), ReportError::Machine),
            ("version", json!(""), ReportError::Name("version")),
            ("group", json!("<b>"), ReportError::Name("group")),
            ("target_version", json!("a b"), ReportError::Name("target_version")),
        ];
        for (field, value, want) in cases {
            let mut report = report();
            report[field] = value;
            assert_eq!(Report::parse(report.to_string().as_bytes()), Err(want), "{report}");
        }
        assert!(matches!(Report::parse(b"{"), Err(ReportError::Form(_))));
    }

    #[test]
    fn long_texts_are_cut_and_only_the_last_rollbacks_kept() {
        let mut long = report();
        long["last_error"] = json!({"kind": "hash", "message": "x\n".repeat(9999), "at": 1});
        let rollback =
            |number: u64| json!({"version": "1.1.0", "root_hash": "aa", "reason": "panic", "at": number});
        long["rollbacks"] = (0..40).map(rollback).collect();
        let report = Report::parse(long.to_string().as_bytes()).unwrap();
        let message = report.last_error.unwrap().message;
        assert!(message.chars().count() == MAX_TEXT && !message.contains('\n'));
        assert_eq!(
            report.rollbacks.iter().map(|rollback| rollback.at).collect::<Vec<_>>(),
            (24..40).collect::<Vec<_>>()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = Report::parse(&bytes);
            let mut report = report();
            report["version"] = json!(text);
            let _ = Report::parse(report.to_string().as_bytes());
        }
    }
}
