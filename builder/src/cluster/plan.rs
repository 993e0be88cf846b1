//! What a cluster is made of: what `ferrite cluster up` tells the owner.

use std::path::PathBuf;

use qemu::AccelChoice;
use serde::{Deserialize, Serialize};

use super::layout::Node;

/// What a cluster is made of. Written as JSON for the owner's process to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the cluster.
    pub name: String,
    /// Number of machines.
    pub nodes: usize,
    /// Those that are not switched on at first.
    pub off: Vec<Node>,
    /// The image.
    pub image: PathBuf,
    /// Whether the image is qcow2 (else raw).
    pub qcow2: bool,
    /// Folder of disks, logs and the record: the cluster's own, removed with it.
    pub folder: PathBuf,
    /// Memory of each machine in MiB.
    pub memory: u32,
    /// Processors of each machine.
    pub smp: u32,
    /// Bytes of each machine's disk.
    pub disk_bytes: u64,
    /// User-data for all.
    pub user_data: Vec<u8>,
    /// etcd speaks TLS: each machine gets a certificate along with its user-data, which is a plain cloud-config then.
    pub tls: bool,
    /// Lines of `authorized_keys` for user `core`.
    pub keys: String,
    /// How the processors are run.
    pub processors: Processors,
    /// The QEMU of this system, in place of the fetched one.
    pub system_qemu: bool,
}

impl Plan {
    /// Where the certificates are, when there are any.
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("tls")
    }
}

/// How processors are run: [`AccelChoice`], as the plan has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Processors {
    /// By KVM where it works.
    Auto,
    /// By KVM or not at all.
    Kvm,
    /// By emulation.
    Tcg,
}

impl From<Processors> for AccelChoice {
    fn from(choice: Processors) -> Self {
        match choice {
            Processors::Auto => Self::Auto,
            Processors::Kvm => Self::Kvm,
            Processors::Tcg => Self::Tcg,
        }
    }
}
