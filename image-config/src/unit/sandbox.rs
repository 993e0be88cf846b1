//! What a process may see and do: the settings of systemd.exec(5) under "Sandboxing", "Capabilities", "System call
//! filtering" and those of "Paths" that change the file system's view.

use std::collections::BTreeSet;

use super::capability::CapabilitySet;
use super::syscall_filter::{Denial, SyscallFilter};

/// The sandbox of a unit's processes; the default is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sandbox {
    /// `DynamicUser=`.
    pub dynamic_user: bool,
    /// `PrivateTmp=`.
    pub private_tmp: PrivateTmp,
    /// `PrivateDevices=`.
    pub private_devices: bool,
    /// `PrivateNetwork=`.
    pub private_network: bool,
    /// `NetworkNamespacePath=`.
    pub network_namespace: Option<String>,
    /// `PrivateIPC=`.
    pub private_ipc: bool,
    /// `IPCNamespacePath=`.
    pub ipc_namespace: Option<String>,
    /// `PrivateUsers=`.
    pub private_users: PrivateUsers,
    /// `PrivateMounts=`; `None` is no, but for the settings that need it.
    pub private_mounts: Option<bool>,
    /// `MountFlags=`: how mounts propagate into the unit's namespace; `None` is as slaves.
    pub mount_flags: Option<Propagation>,
    /// `ProtectSystem=`.
    pub protect_system: ProtectSystem,
    /// `ProtectHome=`.
    pub protect_home: ProtectHome,
    /// `ProtectKernelTunables=`.
    pub protect_kernel_tunables: bool,
    /// `ProtectKernelModules=`.
    pub protect_kernel_modules: bool,
    /// `ProtectKernelLogs=`.
    pub protect_kernel_logs: bool,
    /// `ProtectControlGroups=`.
    pub protect_control_groups: ProtectControlGroups,
    /// `ProtectClock=`.
    pub protect_clock: bool,
    /// `ProtectHostname=`.
    pub protect_hostname: bool,
    /// `ProtectProc=`.
    pub protect_proc: ProtectProc,
    /// `ProcSubset=pid`.
    pub proc_subset_pid: bool,
    /// `RootDirectory=`.
    pub root_directory: Option<SandboxPath>,
    /// `MountAPIVFS=`; `None` is yes when there is a root directory.
    pub mount_api_vfs: Option<bool>,
    /// `ReadWritePaths=`.
    pub read_write_paths: Vec<SandboxPath>,
    /// `ReadOnlyPaths=`.
    pub read_only_paths: Vec<SandboxPath>,
    /// `InaccessiblePaths=`.
    pub inaccessible_paths: Vec<SandboxPath>,
    /// `ExecPaths=`.
    pub exec_paths: Vec<SandboxPath>,
    /// `NoExecPaths=`.
    pub no_exec_paths: Vec<SandboxPath>,
    /// `BindPaths=` and `BindReadOnlyPaths=`.
    pub bind_paths: Vec<BindPath>,
    /// `TemporaryFileSystem=`: folder and mount options.
    pub temporary_file_systems: Vec<(String, String)>,
    /// `CapabilityBoundingSet=`; `None` is everything.
    pub bounding_set: Option<CapabilitySet>,
    /// `AmbientCapabilities=`.
    pub ambient_set: Option<CapabilitySet>,
    /// `SecureBits=`, as prctl(2) `PR_SET_SECUREBITS` takes them.
    pub secure_bits: u32,
    /// `RestrictAddressFamilies=`.
    pub address_families: Option<FamilyFilter>,
    /// `RestrictNamespaces=`: the namespaces that may be made, as the flags of clone(2); `None` is any.
    pub allowed_namespaces: Option<u64>,
    /// `RestrictRealtime=`.
    pub restrict_realtime: bool,
    /// `RestrictSUIDSGID=`.
    pub restrict_suid_sgid: bool,
    /// `LockPersonality=`.
    pub lock_personality: bool,
    /// `MemoryDenyWriteExecute=`.
    pub memory_deny_write_execute: bool,
    /// `SystemCallArchitectures=`: empty is any; names as written.
    pub system_call_architectures: Vec<String>,
    /// `SystemCallFilter=`.
    pub system_call_filter: Option<SyscallFilter>,
    /// `SystemCallErrorNumber=`; `None` is to kill.
    pub system_call_error: Option<Denial>,
    /// `KeyringMode=`; `None` is `private`.
    pub keyring_mode: Option<KeyringMode>,
    /// `RemoveIPC=`.
    pub remove_ipc: bool,
}

/// `PrivateTmp=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrivateTmp {
    /// The machine's.
    #[default]
    No,
    /// Own folders below the machine's `/tmp` and `/var/tmp`, for as long as the unit lives.
    Yes,
    /// File systems in memory, of nobody else.
    Disconnected,
}

/// `PrivateUsers=`: which users and groups exist inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrivateUsers {
    /// The machine's.
    #[default]
    No,
    /// Root and the unit's own user; all others are `nobody`.
    Own,
    /// The first 65536, each as itself.
    Identity,
    /// All, each as itself.
    Full,
}

/// `MountFlags=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Into the namespace only.
    Slave,
    /// Not at all.
    Private,
}

/// `ProtectSystem=`: what is read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ProtectSystem {
    /// Nothing.
    #[default]
    No,
    /// `/usr` and the boot loader's folders.
    Yes,
    /// `/etc` too.
    Full,
    /// Everything but `/dev`, `/proc` and `/sys`.
    Strict,
}

/// `ProtectHome=`: what is left of `/home`, `/root` and `/run/user`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtectHome {
    /// Everything.
    #[default]
    No,
    /// Empty folders that nobody may enter.
    Yes,
    /// To read.
    ReadOnly,
    /// Empty read-only file systems in memory.
    Tmpfs,
}

/// `ProtectControlGroups=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtectControlGroups {
    /// As the machine has it.
    #[default]
    No,
    /// Read-only.
    Yes,
    /// A namespace of its own.
    Private,
    /// A namespace of its own, read-only.
    Strict,
}

/// `ProtectProc=`: which processes of other users are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtectProc {
    /// All.
    #[default]
    Default,
    /// All, but little of them.
    NoAccess,
    /// None.
    Invisible,
    /// Those that it could trace.
    Ptraceable,
}

/// `KeyringMode=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyringMode {
    /// That of PID 1.
    Inherit,
    /// A session keyring of its own.
    Private,
    /// One of its own, with the user's keyring linked in.
    Shared,
}

/// A path of `ReadOnlyPaths=` and its kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    /// Absolute.
    pub path: String,
    /// Written with `-`: need not exist.
    pub optional: bool,
    /// Written with `+`: below the root directory, not the machine's.
    pub below_root: bool,
}

/// A mount of `BindPaths=` or `BindReadOnlyPaths=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindPath {
    /// Where it comes from.
    pub source: String,
    /// Where it goes.
    pub target: String,
    /// Written with `-`: the source need not exist.
    pub optional: bool,
    /// Mounts below the source come along (`rbind`).
    pub recursive: bool,
    /// Of `BindReadOnlyPaths=`.
    pub read_only: bool,
}

/// `RestrictAddressFamilies=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyFilter {
    /// The families are the allowed ones, else the denied ones.
    pub is_allow_list: bool,
    /// Numbers of the families, socket(2).
    pub families: BTreeSet<u16>,
}

impl Sandbox {
    /// The sandbox with what its settings imply for each other, systemd.exec(5): `DynamicUser=` is a bundle of them.
    #[must_use]
    pub fn effective(&self) -> Sandbox {
        let mut all = self.clone();
        if all.dynamic_user {
            if all.private_tmp == PrivateTmp::No {
                all.private_tmp = PrivateTmp::Yes;
            }
            all.remove_ipc = true;
            all.restrict_suid_sgid = true;
            all.protect_system = ProtectSystem::Strict;
            if all.protect_home == ProtectHome::No {
                all.protect_home = ProtectHome::ReadOnly;
            }
        }
        let implied: [(bool, &[u32]); 4] = [
            (all.private_devices, &[17, 27]),    // SYS_RAWIO, MKNOD
            (all.protect_kernel_modules, &[16]), // SYS_MODULE
            (all.protect_kernel_logs, &[34]),    // SYSLOG
            (all.protect_clock, &[25, 35]),      // SYS_TIME, WAKE_ALARM
        ];
        for (_, dropped) in implied.into_iter().filter(|(holds, _)| *holds) {
            let dropped = CapabilitySet(dropped.iter().fold(0, |bits, number| bits | 1 << number));
            all.bounding_set = Some(all.bounding_set.unwrap_or(CapabilitySet::ALL).without(dropped));
        }
        all
    }

    /// Whether the settings need a mount namespace (exec_needs_mount_namespace in systemd).
    #[must_use]
    pub fn needs_mounts(&self) -> bool {
        let lists = [
            &self.read_write_paths,
            &self.read_only_paths,
            &self.inaccessible_paths,
            &self.exec_paths,
            &self.no_exec_paths,
        ];
        self.private_mounts.unwrap_or(false)
            || self.private_tmp != PrivateTmp::No
            || self.private_devices
            || self.private_ipc
            || self.ipc_namespace.is_some()
            || self.mount_flags.is_some()
            || self.protect_system != ProtectSystem::No
            || self.protect_home != ProtectHome::No
            || self.protect_kernel_tunables
            || self.protect_kernel_modules
            || self.protect_kernel_logs
            || self.protect_control_groups != ProtectControlGroups::No
            || self.protect_proc != ProtectProc::Default
            || self.proc_subset_pid
            || self.root_directory.is_some()
            || self.mount_api_vfs == Some(true)
            || !self.bind_paths.is_empty()
            || !self.temporary_file_systems.is_empty()
            || lists.iter().any(|list| !list.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_imply_what_the_manual_says() {
        let none = Sandbox::default();
        assert_eq!(none.effective(), none);
        assert!(!none.needs_mounts());
        let dynamic =
            Sandbox { dynamic_user: true, protect_home: ProtectHome::Yes, ..Sandbox::default() }.effective();
        assert_eq!((dynamic.protect_system, dynamic.protect_home), (ProtectSystem::Strict, ProtectHome::Yes));
        assert!(dynamic.needs_mounts() && dynamic.restrict_suid_sgid && dynamic.remove_ipc);
        let clock = Sandbox {
            protect_clock: true,
            bounding_set: Some(CapabilitySet(1 << 25 | 1)),
            ..Sandbox::default()
        };
        assert_eq!(clock.effective().bounding_set, Some(CapabilitySet(1)));
        assert!(!clock.needs_mounts());
    }
}
