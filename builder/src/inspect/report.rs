//! What `inspect` found, as data: the JSON form is this, field by field.

use std::collections::BTreeMap;

use serde::Serialize;
use slots::{Entry, Loaded, TableError, types};

use crate::formats::Format;

/// Everything that was found in one image.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Path as given.
    pub image: String,
    /// `disk` or `slot`.
    pub kind: &'static str,
    /// Format of the file; `raw` for slot images.
    pub format: Format,
    /// Size of the disk or the slot image in it.
    pub bytes: u64,
    /// GUID of the disk.
    pub disk_guid: Option<String>,
    /// Both copies of the partition table.
    pub table: Option<TableReport>,
    /// The loader in the ESP.
    pub loader: Option<LoaderReport>,
    /// The partitions, in table order.
    pub partitions: Vec<PartitionReport>,
    /// The slots by partition label; a slot image has one, called `slot`.
    pub slots: BTreeMap<String, SlotReport>,
    /// Label of the slot that the loader would start.
    pub boots: Option<String>,
    /// What is wrong with the image as a whole, slots that are to boot included.
    pub problems: Vec<String>,
    /// One line that sums up.
    pub verdict: String,
}

/// State of one copy of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyState {
    /// True when the copy counts.
    pub valid: bool,
    /// Why it does not.
    pub error: Option<String>,
}

/// Both copies of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// Bytes of a logical block.
    pub block_bytes: u32,
    /// The copy at the start.
    pub primary: CopyState,
    /// The copy at the end.
    pub backup: CopyState,
    /// Both are valid, equal, and the backup is in the last block.
    pub whole: bool,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Number as Linux counts, from 1.
    pub number: usize,
    /// Its name.
    pub label: String,
    /// Its type in words, or the GUID of an unknown one.
    pub r#type: String,
    /// PARTUUID.
    pub guid: String,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// The attribute word in hexadecimal.
    pub attributes: String,
}

/// The loader in the ESP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoaderReport {
    /// Size of its file.
    pub bytes: usize,
    /// Product whose slots it starts.
    pub product: Option<String>,
    /// Whom it trusts.
    pub keys: Vec<TrustedKeyReport>,
    /// Why its key section cannot be read.
    pub error: Option<String>,
}

/// A key that the loader trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustedKeyReport {
    /// SHA-256 of the public key.
    pub id: String,
    /// The public key.
    pub public_key: String,
    /// The published development key.
    pub development: bool,
}

/// What the signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureState {
    /// By a key that the loader of this image trusts (or, in a slot image, that we know), and it fits.
    Valid,
    /// By a key that nothing here knows.
    UnknownKey,
    /// It does not fit: the footer was changed.
    Wrong,
    /// There is no footer to check.
    Absent,
}

/// One slot.
#[derive(Debug, Clone, Serialize)]
pub struct SlotReport {
    /// 0 to 15; absent in a slot image.
    pub priority: Option<u8>,
    /// 0 to 15; absent in a slot image.
    pub tries: Option<u8>,
    /// Whether a boot was good; absent in a slot image.
    pub successful: Option<bool>,
    /// True when there is no footer and nothing else is wrong.
    pub empty: bool,
    /// Product name.
    pub product: Option<String>,
    /// Image version.
    pub version: Option<String>,
    /// Architecture.
    pub architecture: Option<String>,
    /// Least loader version.
    pub minimum_loader: Option<u32>,
    /// Rollback index.
    pub rollback_index: Option<u64>,
    /// Unix seconds.
    pub build_time: Option<u64>,
    /// The verdict on the signature.
    pub signature: SignatureState,
    /// SHA-256 of the signing key.
    pub key_id: Option<String>,
    /// Signed with the published development key.
    pub development_key: bool,
    /// The parts, in order.
    pub parts: Vec<PartReport>,
    /// How to open `/usr`.
    pub verity: Option<VerityReport>,
    /// The signed command line.
    pub command_line: Option<String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// One part of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// Its name.
    pub name: &'static str,
    /// Bytes from the start of the slot.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// The hash that the footer names.
    pub sha256: String,
    /// Whether the bytes have that hash; absent when they were not read.
    pub verified: Option<bool>,
}

/// What `veritysetup verify` needs: data and hash device are the same, from the start of the slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerityReport {
    /// Root hash.
    pub root_hash: String,
    /// Salt.
    pub salt: String,
    /// Blocks of 4096 bytes under the tree.
    pub data_blocks: u64,
    /// Bytes from the start of the slot to the verity superblock (`--hash-offset`).
    pub hash_offset: u64,
    /// Whether every block is what the tree says; absent when they were not read.
    pub verified: Option<bool>,
}

impl CopyState {
    fn of<T>(copy: Result<T, TableError>) -> Self {
        match copy {
            Ok(_) => Self { valid: true, error: None },
            Err(error) => Self { valid: false, error: Some(error.to_string()) },
        }
    }
}

impl TableReport {
    /// Takes both copies as `slots` read them.
    pub fn of(loaded: &Loaded) -> Self {
        Self {
            block_bytes: loaded.geometry().block_size,
            primary: CopyState::of(loaded.primary()),
            backup: CopyState::of(loaded.backup()),
            whole: loaded.is_whole(),
        }
    }
}

impl PartitionReport {
    /// Takes a row of the table.
    pub fn of(index: usize, entry: &Entry, block_bytes: u64) -> Self {
        let known = [
            (types::ESP, "EFI system"),
            (types::USR_X86_64, "usr x86-64"),
            (types::BASIC_DATA, "basic data"),
            (types::LINUX_VAR, "Linux variable data"),
        ];
        let name = known.iter().find(|(guid, _)| *guid == entry.type_guid()).map(|(_, name)| *name);
        Self {
            number: index + 1,
            label: entry.name().to_string(),
            r#type: name.map_or_else(|| entry.type_guid().to_string(), str::to_owned),
            guid: entry.unique_guid().to_string(),
            offset: entry.first_block().saturating_mul(block_bytes),
            bytes: entry.blocks().saturating_mul(block_bytes),
            attributes: format!("{:#018x}", entry.flags().to_attributes()),
        }
    }
}

impl SlotReport {
    /// True when the loader would start it, as far as was checked.
    pub fn is_bootable(&self) -> bool {
        self.problems.is_empty() && !self.empty
    }

    fn title(&self) -> String {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        format!("{} {}", text(&self.product), text(&self.version))
    }
}

impl Report {
    /// True when the image boots and nothing is wrong with it.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Collects the problems and writes the verdict.
    pub(super) fn conclude(&mut self) {
        self.problems = self.collect_problems();
        let development = self.slots.values().any(|slot| slot.is_bootable() && slot.development_key);
        let warning = if development { "; signed with the published DEVELOPMENT KEY" } else { "" };
        let count = match self.problems.len() {
            0 => String::new(),
            1 => "; 1 problem".to_owned(),
            many => format!("; {many} problems"),
        };
        let what = match (self.kind, &self.boots, self.slots.get("slot")) {
            ("slot", _, Some(slot)) if slot.is_bootable() => {
                format!("a valid slot image of {}", slot.title())
            }
            ("slot", ..) => "not a slot image that boots".to_owned(),
            (_, Some(label), _) => {
                let title = self.slots.get(label).map(SlotReport::title).unwrap_or_default();
                format!("boots {label} ({title})")
            }
            (_, None, _) => "nothing here boots".to_owned(),
        };
        self.verdict = format!("{what}{count}{warning}");
    }

    fn collect_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(table) = &self.table {
            for (copy, state) in [("primary", &table.primary), ("backup", &table.backup)] {
                problems.extend(state.error.iter().map(|error| format!("{copy} partition table: {error}")));
            }
            if table.primary.valid && table.backup.valid && !table.whole {
                problems.push("the copies of the partition table differ, or the disk has grown".to_owned());
            }
        }
        match (&self.loader, self.kind) {
            (Some(loader), _) => {
                problems.extend(loader.error.iter().map(|error| format!("loader: {error}")));
            }
            (None, "disk") => problems.push("no loader in the EFI system partition".to_owned()),
            (None, _) => {}
        }
        for (label, slot) in &self.slots {
            let expected_empty = slot.empty && slot.priority == Some(0);
            if !expected_empty {
                problems.extend(slot.problems.iter().map(|problem| format!("{label}: {problem}")));
            }
        }
        if self.kind == "disk" && self.boots.is_none() {
            problems.push("no slot boots".to_owned());
        }
        problems
    }
}
