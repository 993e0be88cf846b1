//! The keys of [`Sandbox`] and how their values are read.

use std::collections::BTreeSet;

use super::capability::CapabilitySet;
use super::reader::{Directive, Ignored};
use super::sandbox::{
    BindPath, FamilyFilter, KeyringMode, PrivateTmp, PrivateUsers, Propagation, ProtectControlGroups,
    ProtectHome, ProtectProc, ProtectSystem, Sandbox, SandboxPath,
};
use super::setting::{Setting, strip};
use super::syntax::Escapes;
use super::syscall_filter::{Denial, SyscallFilter, denial};
use super::value::{self, ValueError, boolean};

/// Keys of systemd.exec(5) about sandboxing, capabilities and system calls.
pub(super) const SANDBOX: &[Directive<Sandbox>] = &[
    ("DynamicUser", |sandbox, it| it.plain(&mut sandbox.dynamic_user, boolean)),
    ("PrivateTmp", |sandbox, it| it.word_or_boolean(&mut sandbox.private_tmp, PRIVATE_TMP)),
    ("PrivateDevices", |sandbox, it| it.plain(&mut sandbox.private_devices, boolean)),
    ("PrivateNetwork", |sandbox, it| it.plain(&mut sandbox.private_network, boolean)),
    ("NetworkNamespacePath", |sandbox, it| it.path(&mut sandbox.network_namespace)),
    ("PrivateIPC", |sandbox, it| it.plain(&mut sandbox.private_ipc, boolean)),
    ("IPCNamespacePath", |sandbox, it| it.path(&mut sandbox.ipc_namespace)),
    ("PrivateUsers", |sandbox, it| it.word_or_boolean(&mut sandbox.private_users, PRIVATE_USERS)),
    ("PrivateMounts", |sandbox, it| it.optional(&mut sandbox.private_mounts, boolean)),
    ("MountFlags", |sandbox, it| {
        it.optional(&mut sandbox.mount_flags, |text| value::choice(text, PROPAGATION))
    }),
    ("ProtectSystem", |sandbox, it| it.word_or_boolean(&mut sandbox.protect_system, PROTECT_SYSTEM)),
    ("ProtectHome", |sandbox, it| it.word_or_boolean(&mut sandbox.protect_home, PROTECT_HOME)),
    ("ProtectKernelTunables", |sandbox, it| it.plain(&mut sandbox.protect_kernel_tunables, boolean)),
    ("ProtectKernelModules", |sandbox, it| it.plain(&mut sandbox.protect_kernel_modules, boolean)),
    ("ProtectKernelLogs", |sandbox, it| it.plain(&mut sandbox.protect_kernel_logs, boolean)),
    ("ProtectControlGroups", |sandbox, it| {
        it.word_or_boolean(&mut sandbox.protect_control_groups, PROTECT_CONTROL_GROUPS)
    }),
    ("ProtectClock", |sandbox, it| it.plain(&mut sandbox.protect_clock, boolean)),
    ("ProtectHostname", |sandbox, it| it.plain(&mut sandbox.protect_hostname, boolean)),
    ("ProtectProc", |sandbox, it| it.choice(&mut sandbox.protect_proc, PROTECT_PROC)),
    ("ProcSubset", |sandbox, it| it.choice(&mut sandbox.proc_subset_pid, &[("all", false), ("pid", true)])),
    ("RootDirectory", |sandbox, it| it.sandbox_path(&mut sandbox.root_directory)),
    ("MountAPIVFS", |sandbox, it| it.optional(&mut sandbox.mount_api_vfs, boolean)),
    ("ReadWritePaths", |sandbox, it| it.sandbox_paths(&mut sandbox.read_write_paths)),
    ("ReadWriteDirectories", |sandbox, it| it.sandbox_paths(&mut sandbox.read_write_paths)),
    ("ReadOnlyPaths", |sandbox, it| it.sandbox_paths(&mut sandbox.read_only_paths)),
    ("ReadOnlyDirectories", |sandbox, it| it.sandbox_paths(&mut sandbox.read_only_paths)),
    ("InaccessiblePaths", |sandbox, it| it.sandbox_paths(&mut sandbox.inaccessible_paths)),
    ("InaccessibleDirectories", |sandbox, it| it.sandbox_paths(&mut sandbox.inaccessible_paths)),
    ("ExecPaths", |sandbox, it| it.sandbox_paths(&mut sandbox.exec_paths)),
    ("NoExecPaths", |sandbox, it| it.sandbox_paths(&mut sandbox.no_exec_paths)),
    ("BindPaths", |sandbox, it| it.bind_paths(&mut sandbox.bind_paths, false)),
    ("BindReadOnlyPaths", |sandbox, it| it.bind_paths(&mut sandbox.bind_paths, true)),
    ("TemporaryFileSystem", |sandbox, it| it.temporary_file_systems(&mut sandbox.temporary_file_systems)),
    ("CapabilityBoundingSet", |sandbox, it| it.capabilities(&mut sandbox.bounding_set, CapabilitySet::ALL)),
    ("AmbientCapabilities", |sandbox, it| it.capabilities(&mut sandbox.ambient_set, CapabilitySet::NONE)),
    ("SecureBits", |sandbox, it| it.secure_bits(&mut sandbox.secure_bits)),
    ("RestrictAddressFamilies", |sandbox, it| it.address_families(&mut sandbox.address_families)),
    ("RestrictNamespaces", |sandbox, it| it.namespaces(&mut sandbox.allowed_namespaces)),
    ("RestrictRealtime", |sandbox, it| it.plain(&mut sandbox.restrict_realtime, boolean)),
    ("RestrictSUIDSGID", |sandbox, it| it.plain(&mut sandbox.restrict_suid_sgid, boolean)),
    ("LockPersonality", |sandbox, it| it.plain(&mut sandbox.lock_personality, boolean)),
    ("MemoryDenyWriteExecute", |sandbox, it| it.plain(&mut sandbox.memory_deny_write_execute, boolean)),
    ("SystemCallArchitectures", |sandbox, it| {
        it.list(&mut sandbox.system_call_architectures, |word| ARCHITECTURES.contains(&word))
    }),
    ("SystemCallFilter", |sandbox, it| it.system_calls(&mut sandbox.system_call_filter)),
    ("SystemCallErrorNumber", |sandbox, it| it.denial(&mut sandbox.system_call_error)),
    ("KeyringMode", |sandbox, it| {
        it.optional(&mut sandbox.keyring_mode, |text| value::choice(text, KEYRING_MODES))
    }),
    ("RemoveIPC", |sandbox, it| it.plain(&mut sandbox.remove_ipc, boolean)),
];

const PRIVATE_TMP: &[(&str, PrivateTmp)] =
    &[("no", PrivateTmp::No), ("yes", PrivateTmp::Yes), ("disconnected", PrivateTmp::Disconnected)];
const PRIVATE_USERS: &[(&str, PrivateUsers)] = &[
    ("no", PrivateUsers::No),
    ("yes", PrivateUsers::Own),
    ("self", PrivateUsers::Own),
    ("identity", PrivateUsers::Identity),
    ("full", PrivateUsers::Full),
];
const PROPAGATION: &[(&str, Propagation)] =
    &[("shared", Propagation::Shared), ("slave", Propagation::Slave), ("private", Propagation::Private)];
const PROTECT_SYSTEM: &[(&str, ProtectSystem)] = &[
    ("no", ProtectSystem::No),
    ("yes", ProtectSystem::Yes),
    ("full", ProtectSystem::Full),
    ("strict", ProtectSystem::Strict),
];
const PROTECT_HOME: &[(&str, ProtectHome)] = &[
    ("no", ProtectHome::No),
    ("yes", ProtectHome::Yes),
    ("read-only", ProtectHome::ReadOnly),
    ("tmpfs", ProtectHome::Tmpfs),
];
const PROTECT_CONTROL_GROUPS: &[(&str, ProtectControlGroups)] = &[
    ("no", ProtectControlGroups::No),
    ("yes", ProtectControlGroups::Yes),
    ("private", ProtectControlGroups::Private),
    ("strict", ProtectControlGroups::Strict),
];
const PROTECT_PROC: &[(&str, ProtectProc)] = &[
    ("default", ProtectProc::Default),
    ("noaccess", ProtectProc::NoAccess),
    ("invisible", ProtectProc::Invisible),
    ("ptraceable", ProtectProc::Ptraceable),
];
const KEYRING_MODES: &[(&str, KeyringMode)] =
    &[("inherit", KeyringMode::Inherit), ("private", KeyringMode::Private), ("shared", KeyringMode::Shared)];
/// Architectures of systemd.unit(5) `SystemCallArchitectures=` that an x86-64 can have to do with.
const ARCHITECTURES: [&str; 4] = ["native", "x86-64", "x86", "x32"];
/// prctl(2) `PR_SET_SECUREBITS`, linux/securebits.h.
const SECURE_BITS: &[(&str, u32)] = &[
    ("noroot", 1),
    ("noroot-locked", 2),
    ("no-setuid-fixup", 4),
    ("no-setuid-fixup-locked", 8),
    ("keep-caps", 16),
    ("keep-caps-locked", 32),
];
/// Flags of clone(2), linux/sched.h.
const NAMESPACES: &[(&str, u64)] = &[
    ("cgroup", 0x0200_0000),
    ("ipc", 0x0800_0000),
    ("net", 0x4000_0000),
    ("mnt", 0x0002_0000),
    ("pid", 0x2000_0000),
    ("user", 0x1000_0000),
    ("uts", 0x0400_0000),
    ("time", 0x0000_0080),
];
/// Address families, linux/socket.h.
const FAMILIES: &[(&str, u16)] = &[
    ("AF_UNIX", 1),
    ("AF_LOCAL", 1),
    ("AF_INET", 2),
    ("AF_AX25", 3),
    ("AF_IPX", 4),
    ("AF_APPLETALK", 5),
    ("AF_NETROM", 6),
    ("AF_BRIDGE", 7),
    ("AF_ATMPVC", 8),
    ("AF_X25", 9),
    ("AF_INET6", 10),
    ("AF_ROSE", 11),
    ("AF_DECnet", 12),
    ("AF_NETBEUI", 13),
    ("AF_SECURITY", 14),
    ("AF_KEY", 15),
    ("AF_NETLINK", 16),
    ("AF_ROUTE", 16),
    ("AF_PACKET", 17),
    ("AF_ASH", 18),
    ("AF_ECONET", 19),
    ("AF_ATMSVC", 20),
    ("AF_RDS", 21),
    ("AF_SNA", 22),
    ("AF_IRDA", 23),
    ("AF_PPPOX", 24),
    ("AF_WANPIPE", 25),
    ("AF_LLC", 26),
    ("AF_IB", 27),
    ("AF_MPLS", 28),
    ("AF_CAN", 29),
    ("AF_TIPC", 30),
    ("AF_BLUETOOTH", 31),
    ("AF_IUCV", 32),
    ("AF_RXRPC", 33),
    ("AF_ISDN", 34),
    ("AF_PHONET", 35),
    ("AF_IEEE802154", 36),
    ("AF_CAIF", 37),
    ("AF_ALG", 38),
    ("AF_NFC", 39),
    ("AF_VSOCK", 40),
    ("AF_KCM", 41),
    ("AF_QIPCRTR", 42),
    ("AF_SMC", 43),
    ("AF_XDP", 44),
    ("AF_MCTP", 45),
];

impl Setting<'_> {
    /// A table's word, or any spelling of a boolean for its `yes` and `no`.
    pub fn word_or_boolean<T: Copy>(&self, slot: &mut T, table: &[(&str, T)]) -> Result<(), Ignored> {
        self.plain(slot, |text| match boolean(text) {
            Ok(yes) => value::choice(if yes { "yes" } else { "no" }, table),
            Err(_) => value::choice(text, table),
        })
    }

    /// Takes `-` and `+` off a path of the sandbox.
    fn read_sandbox_path(word: &str) -> Result<SandboxPath, ValueError> {
        let (optional, rest) = strip(word, '-');
        let (below_root, rest) = strip(rest, '+');
        Ok(SandboxPath { path: value::absolute_path(rest)?, optional, below_root })
    }

    /// `RootDirectory=`; empty resets.
    pub fn sandbox_path(&self, slot: &mut Option<SandboxPath>) -> Result<(), Ignored> {
        let text = self.expand(self.value)?;
        *slot = match text.as_str() {
            "" => None,
            text => Some(Self::read_sandbox_path(text).map_err(|error| self.ignored(&error))?),
        };
        Ok(())
    }

    /// `ReadOnlyPaths=` and its kin; empty resets.
    pub fn sandbox_paths(&mut self, slot: &mut Vec<SandboxPath>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
        }
        for word in self.words(Escapes::Strip)? {
            match Self::read_sandbox_path(&word) {
                Ok(path) => slot.push(path),
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        Ok(())
    }

    /// `BindPaths=` and `BindReadOnlyPaths=`, `source[:target[:options]]`; empty resets both.
    pub fn bind_paths(&mut self, slot: &mut Vec<BindPath>, read_only: bool) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
        }
        for word in self.words(Escapes::Strip)? {
            match bind_path(&word, read_only) {
                Ok(path) => slot.push(path),
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        Ok(())
    }

    /// `TemporaryFileSystem=`, `folder[:options]`; empty resets.
    pub fn temporary_file_systems(&mut self, slot: &mut Vec<(String, String)>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            slot.clear();
        }
        for word in self.words(Escapes::Strip)? {
            let (path, options) = word.split_once(':').unwrap_or((&word, ""));
            match value::absolute_path(path) {
                Ok(path) => slot.push((path, options.to_owned())),
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        Ok(())
    }

    /// `CapabilityBoundingSet=` and `AmbientCapabilities=`.
    pub fn capabilities(
        &mut self,
        slot: &mut Option<CapabilitySet>,
        initial: CapabilitySet,
    ) -> Result<(), Ignored> {
        let (invert, rest) = strip(self.value, '~');
        if rest.trim().is_empty() {
            CapabilitySet::assign(slot, invert, None, initial);
            return Ok(());
        }
        let mut listed = CapabilitySet::NONE;
        for word in self.words_of(rest, Escapes::Strip)? {
            match CapabilitySet::one(&word) {
                Ok(one) => listed = listed.with(one),
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        CapabilitySet::assign(slot, invert, Some(listed), initial);
        Ok(())
    }

    /// `SecureBits=`; empty resets.
    pub fn secure_bits(&mut self, slot: &mut u32) -> Result<(), Ignored> {
        if self.value.is_empty() {
            *slot = 0;
        }
        for word in self.words(Escapes::Strip)? {
            match value::choice(&word, SECURE_BITS) {
                Ok(bit) => *slot |= bit,
                Err(error) => self.warn(format!("`{}=`: {error}; it is left out", self.key)),
            }
        }
        Ok(())
    }

    /// `RestrictAddressFamilies=`: `none`, or families with or without `~`; empty resets.
    pub fn address_families(&mut self, slot: &mut Option<FamilyFilter>) -> Result<(), Ignored> {
        match self.value {
            "" => {
                *slot = None;
                return Ok(());
            }
            "none" => {
                *slot = Some(FamilyFilter { is_allow_list: true, families: BTreeSet::new() });
                return Ok(());
            }
            _ => {}
        }
        let (inverted, rest) = strip(self.value, '~');
        let words = self.words_of(rest, Escapes::Strip)?;
        let filter =
            slot.get_or_insert_with(|| FamilyFilter { is_allow_list: !inverted, families: BTreeSet::new() });
        for word in words {
            match value::choice(&word, FAMILIES) {
                Ok(family) if inverted == filter.is_allow_list => drop(filter.families.remove(&family)),
                Ok(family) => drop(filter.families.insert(family)),
                Err(_) => {
                    self.warn(format!("`{word}` in `{}=` is left out: it is no address family", self.key))
                }
            }
        }
        Ok(())
    }

    /// `RestrictNamespaces=`: a boolean, or kinds of namespaces with or without `~`; empty resets.
    pub fn namespaces(&mut self, slot: &mut Option<u64>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            *slot = None;
            return Ok(());
        }
        if let Ok(restricted) = boolean(self.value) {
            *slot = restricted.then_some(0);
            return Ok(());
        }
        let all = NAMESPACES.iter().fold(0, |all, (_, flag)| all | flag);
        let (inverted, rest) = strip(self.value, '~');
        let mut listed = 0;
        for word in self.words_of(rest, Escapes::Strip)? {
            match value::choice(&word, NAMESPACES) {
                Ok(flag) => listed |= flag,
                Err(_) => self.warn(format!("`{word}` in `{}=` is left out: it is no namespace", self.key)),
            }
        }
        *slot = Some(match (*slot, inverted) {
            (None, false) => listed,
            (None, true) => all & !listed,
            (Some(allowed), false) => allowed | listed,
            (Some(allowed), true) => allowed & !listed,
        });
        Ok(())
    }

    /// `SystemCallFilter=`; empty resets.
    pub fn system_calls(&mut self, slot: &mut Option<SyscallFilter>) -> Result<(), Ignored> {
        if self.value.is_empty() {
            *slot = None;
            return Ok(());
        }
        let (inverted, rest) = strip(self.value, '~');
        let words = self.words_of(rest, Escapes::Strip)?;
        let filter = slot.get_or_insert_with(|| SyscallFilter::begin(inverted));
        for word in words {
            if let Err(problem) = filter.add(&word, inverted) {
                self.warn(format!("`{}=`: {problem}; it is left out", self.key));
            }
        }
        Ok(())
    }

    /// `SystemCallErrorNumber=`; empty is to kill.
    pub fn denial(&self, slot: &mut Option<Denial>) -> Result<(), Ignored> {
        *slot = match self.value {
            "" => None,
            text => Some(denial(text).map_err(|error| self.ignored(&error))?),
        };
        Ok(())
    }
}

fn bind_path(word: &str, read_only: bool) -> Result<BindPath, ValueError> {
    let (optional, rest) = strip(word, '-');
    let mut parts = rest.splitn(3, ':');
    let source = value::absolute_path(parts.next().unwrap_or_default())?;
    let target = match parts.next().filter(|target| !target.is_empty()) {
        Some(target) => value::absolute_path(target)?,
        None => source.clone(),
    };
    let recursive = match parts.next().unwrap_or_default() {
        "" | "rbind" => true,
        "norbind" => false,
        other => return Err(ValueError { value: other.to_owned(), expected: "`rbind` or `norbind`" }),
    };
    Ok(BindPath { source, target, optional, recursive, read_only })
}
