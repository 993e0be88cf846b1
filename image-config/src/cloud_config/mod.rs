//! cloud-config: coreos-cloudinit's whole schema, and what people expect of cloud-config today.
//!
//! [`read`] makes a [`CloudConfig`] of a tree, with every finding; [`lower`] makes steps of it. Hyphens and underscores
//! in keys are the same. Reference: `docs/user-data.md`.
//!
//! Types convert as coreos-cloudinit converts them: text takes numbers and booleans, as they were written; numbers, booleans and lists take
//! nothing else.

pub(crate) mod accounts;
mod coreos;
pub mod daemons;
pub(crate) mod files;
mod lower;
mod machine;
mod read;
pub(crate) mod unit_text;
mod unsupported;

pub(crate) use self::lower::CORE;
pub use self::lower::{DROP_IN, lower};
pub use self::read::read;
use crate::diagnostic::Position;
use crate::unit::UnitName;
use crate::user_data::plan::{Account, Owner, TimeServers, UnitCommand};
use crate::user_data::report::At;

/// The first line of a cloud-config.
pub const HEADER: &str = "#cloud-config";

/// A cloud-config whose values keep their rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudConfig {
    /// `hostname`, or what `fqdn` says of it.
    pub hostname: Option<At<String>>,
    /// `ssh_authorized_keys`, for the user `core`.
    pub ssh_authorized_keys: Vec<At<String>>,
    /// `groups`, in order.
    pub groups: Vec<At<GroupEntry>>,
    /// `users`, in order.
    pub users: Vec<At<UserEntry>>,
    /// `write_files`, in order.
    pub files: Vec<At<FileEntry>>,
    /// `manage_etc_hosts`, when it asks for something.
    pub manages_hosts: Option<Position>,
    /// `ca_certs`.
    pub certificates: Option<At<CertificatesEntry>>,
    /// `timezone`.
    pub timezone: Option<At<String>>,
    /// `ntp`.
    pub ntp: Option<At<TimeServers>>,
    /// `mounts`, in order.
    pub mounts: Vec<At<MountEntry>>,
    /// `bootcmd`.
    pub boot_commands: Option<At<Vec<CommandEntry>>>,
    /// `runcmd`.
    pub run_commands: Option<At<Vec<CommandEntry>>>,
    /// Settings of daemons: sections of `coreos`, in the order of the original's.
    pub daemons: Vec<At<Daemon>>,
    /// `coreos.flannel`: lines of its environment file.
    pub flannel: Option<At<Vec<(String, String)>>>,
    /// `coreos.oem`.
    pub oem: Option<At<Vec<(&'static str, String)>>>,
    /// `coreos.update`.
    pub update: Option<At<UpdateEntry>>,
    /// `coreos.units`, in order.
    pub units: Vec<At<UnitEntry>>,
}

/// A group of `groups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its name.
    pub name: String,
    /// Users that become members.
    pub members: Vec<String>,
}

/// A user of `users`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserEntry {
    /// `name`.
    pub name: String,
    /// `passwd`: an encrypted password.
    pub password_hash: Option<String>,
    /// `lock_passwd`.
    pub is_locked: bool,
    /// `ssh_authorized_keys`.
    pub ssh_authorized_keys: Vec<String>,
    /// `gecos`.
    pub gecos: Option<String>,
    /// `homedir`.
    pub home: Option<String>,
    /// `no_create_home`.
    pub has_no_home: bool,
    /// `primary_group`.
    pub primary_group: Option<String>,
    /// `groups`.
    pub groups: Vec<String>,
    /// `no_user_group`.
    pub has_no_group: bool,
    /// `system`.
    pub is_system: bool,
    /// `shell`.
    pub shell: Option<String>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `sudo`.
    pub sudo: Vec<String>,
}

/// A file of `write_files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// `path`, cleaned.
    pub path: String,
    /// `content`, decoded, or `source`.
    pub contents: FileContents,
    /// `permissions`.
    pub mode: Option<u16>,
    /// `owner`.
    pub owner: Owner,
    /// `append`.
    pub is_appended: bool,
    /// `defer`.
    pub is_deferred: bool,
}

/// What a file of `write_files` consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContents {
    /// These bytes.
    Inline(Vec<u8>),
    /// What is there.
    Source {
        /// `http://` or `https://`.
        url: String,
        /// Headers of the request.
        headers: Vec<(String, String)>,
    },
}

/// `ca_certs`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificatesEntry {
    /// `trusted`: PEM texts.
    pub trusted: Vec<String>,
    /// `remove_defaults`.
    pub removes_defaults: bool,
}

/// A line of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Device, with its folder, or what the type takes.
    pub what: String,
    /// Where; `None` for swap.
    pub place: Option<String>,
    /// Type; `auto` unless written.
    pub kind: String,
    /// Options; `defaults,nofail` unless written.
    pub options: String,
}

/// A command of `bootcmd` or `runcmd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEntry {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Arguments(Vec<String>),
}

/// Settings of a daemon, as they become its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Its unit.
    pub unit: UnitName,
    /// Variables, in order.
    pub environment: Vec<(String, String)>,
}

/// `coreos.update`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdateEntry {
    /// `reboot_strategy`.
    pub reboot_strategy: Option<String>,
    /// `group`.
    pub group: Option<String>,
    /// `server`.
    pub server: Option<String>,
}

/// A unit of `coreos.units`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitEntry {
    /// `name`.
    pub name: UnitFileName,
    /// `content`.
    pub content: Option<String>,
    /// `drop_ins`: names and contents.
    pub drop_ins: Vec<(String, String)>,
    /// `command`.
    pub command: Option<UnitCommand>,
    /// `enable`.
    pub is_enabled: bool,
    /// `mask`.
    pub is_masked: bool,
    /// `runtime`.
    pub is_runtime: bool,
}

/// What a file of `coreos.units` configures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitFileName {
    /// A unit of the service manager.
    Unit(UnitName),
    /// A file for systemd's network manager: `.network`, `.netdev`, `.link`.
    Network(String),
}

/// `user[:group]`, as of chown(1).
pub(crate) fn owner(text: &str) -> Option<Owner> {
    let account = |name: &str| -> Option<Account> {
        match name.parse() {
            Ok(id) => Some(Account::Id(id)),
            Err(_) => accounts::is_name(name).then(|| Account::Name(name.to_owned())),
        }
    };
    let (user, group) = match text.split_once([':', '.']) {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let part = |name: Option<&str>| match name {
        None | Some("") => Some(None),
        Some(name) => account(name).map(Some),
    };
    Some(Owner { user: part(Some(user))?, group: part(group)? })
}
