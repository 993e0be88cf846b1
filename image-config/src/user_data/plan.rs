//! What user-data makes of a machine: one ordered list of steps, whatever format it was written in.
//!
//! Nothing here does anything. Whoever carries a plan out goes through the steps of a stage in order; every step can be repeated, and a
//! plan that was carried out once leaves nothing to do the second time, with the exception of appending and of commands, which is what
//! [`Frequency::Instance`] is for.

use std::collections::BTreeSet;
use std::time::Duration;

use super::resource::Resource;
use crate::diagnostic::Position;
use crate::unit::UnitName;

/// Everything that user-data asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachinePlan {
    /// What to do, in order; a later stage never stands before an earlier one.
    pub steps: Vec<Planned>,
    /// How remote contents are fetched.
    pub fetch: FetchPolicy,
    /// What the failure of a step means.
    pub on_failure: OnFailure,
}

impl MachinePlan {
    /// Every remote content that a step needs, each once, in no particular order: whoever carries the plan out can fetch them all before
    /// it changes anything.
    #[must_use]
    pub fn resources(&self) -> BTreeSet<&Resource> {
        let contents = self.steps.iter().flat_map(|planned| planned.step.contents());
        let remote = |contents: &'_ Contents| matches!(contents, Contents::Remote(_));
        contents
            .filter(|contents| remote(contents))
            .chain(&self.fetch.certificate_authorities)
            .filter_map(|contents| match contents {
                Contents::Remote(resource) => Some(resource),
                Contents::Inline(_) => None,
            })
            .collect()
    }

    /// The steps of one stage that are due: those of every boot, and of a new instance also those that happen once.
    pub fn due(&self, stage: Stage, is_new_instance: bool) -> impl Iterator<Item = &Planned> {
        self.steps
            .iter()
            .filter(move |one| one.stage == stage && (is_new_instance || one.frequency == Frequency::Boot))
    }
}

/// A step, and when and why it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// In which part of the boot.
    pub stage: Stage,
    /// How often.
    pub frequency: Frequency,
    /// What asked for it.
    pub origin: Origin,
    /// What is done.
    pub step: Step,
}

/// Parts of a boot in which steps are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before everything else of the plan: `bootcmd`.
    Early,
    /// While nothing runs that could read what is written: before any service that is not part of bringing the machine up.
    Configure,
    /// Jobs that are asked for once services may start. They are all handed over at once, none waited for: the supervisor orders them.
    Start,
    /// After the services of the boot are up: `runcmd`, deferred files, scripts. The boot does not wait for it.
    Final,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Early, Self::Configure, Self::Start, Self::Final];
}

/// How often a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frequency {
    /// Once in the life of an instance: what a user changes afterwards stays.
    Instance,
    /// In every boot: what lies in `/run`, and what is started.
    Boot,
}

/// Where in the user-data a step comes from, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Name of the text: `user-data`, a part of it, the URL of a configuration that another one names.
    pub text: String,
    /// Place in it; `None` when it came from something else (metadata).
    pub position: Option<Position>,
}

impl std::fmt::Display for Origin {
    /// `TEXT:LINE`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        self.position.map_or(Ok(()), |at| write!(f, ":{}", at.line))
    }
}

/// What the failure of a step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The rest is done all the same, and the failure is told loudly: cloud-config and scripts. The machine can be logged into.
    #[default]
    GoOn,
    /// The boot stops, its reason on the console: Ignition. A machine that is half configured must not serve.
    StopBoot,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The host name, in `/etc/hostname` and of the running kernel.
    SetHostname(String),
    /// A group; one that exists keeps its number unless it is written.
    CreateGroup(Group),
    /// The group must not exist.
    DeleteGroup(String),
    /// A user. Of one that exists, what [`User::existing`] says is changed.
    CreateUser(Box<User>),
    /// The user must not exist; its home folder stays.
    DeleteUser(String),
    /// SSH keys that may log in.
    AuthorizeKeys(AuthorizedKeys),
    /// Certificate authorities that the machine's programs trust.
    TrustCertificates(Certificates),
    /// A folder.
    MakeDirectory(Directory),
    /// A file.
    WriteFile(Box<File>),
    /// A link.
    MakeLink(Link),
    /// Assignments in a file of `KEY=value` lines.
    SetAssignments(AssignmentFile),
    /// `/etc/hosts` with the machine's own name: this one, or the host name as it is.
    WriteHosts {
        /// The name.
        hostname: Option<String>,
    },
    /// `/etc/localtime`: a zone of the time zone database, such as `Europe/Paris`.
    SetTimezone(String),
    /// Servers of the time, instead of those that DHCP names.
    SetTimeServers(TimeServers),
    /// The unit's file becomes a link to `/dev/null`; a file of that name in the same folder goes.
    MaskUnit(UnitPlace),
    /// The link to `/dev/null`, or an empty file, goes; anything else stays.
    UnmaskUnit(UnitPlace),
    /// Links as the unit's `[Install]` section says. A unit without one is told of, not a failure.
    EnableUnit(UnitPlace),
    /// Those links go.
    DisableUnit(UnitPlace),
    /// Unit files are read again.
    ReloadUnits,
    /// A job for a unit.
    UnitCommand {
        /// The unit.
        unit: UnitName,
        /// What is asked for.
        command: UnitCommand,
    },
    /// A program.
    Run(Script),
}

impl Step {
    /// What the step writes, as far as it is a file's or certificate's contents.
    pub fn contents(&self) -> impl Iterator<Item = &Contents> {
        let (first, more): (Option<&Contents>, &[Contents]) = match self {
            Self::WriteFile(file) => (file.contents.as_ref(), &file.append),
            Self::TrustCertificates(certificates) => (None, &certificates.trusted),
            _ => (None, &[]),
        };
        first.into_iter().chain(more)
    }
}

/// Bytes, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// The bytes themselves, decoded, unpacked and verified.
    Inline(Vec<u8>),
    /// To be fetched.
    Remote(Resource),
}

/// A user or group, as the owner of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name, which must exist when the step is taken.
    Name(String),
}

/// Who owns something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user. `None`: root for what is new, unchanged for what exists.
    pub user: Option<Account>,
    /// The group. `None`: as for the user; with a named user and no group, that user's primary group is not taken, but root.
    pub group: Option<Account>,
}

/// A file.
///
/// Folders above it are made, 0755 and root's, where they are missing. It is written whole to a temporary file beside it, which is
/// renamed when its mode and owner are set. Links on the way are followed; a link at the path itself is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute, without `.`, `..` and empty components.
    pub path: String,
    /// Permission bits, 0 to 0o7777. `None`: 0o644 for a new file, unchanged for one that exists.
    pub mode: Option<u16>,
    /// Who owns it.
    pub owner: Owner,
    /// What it begins with. `None`: what is there already, or nothing.
    pub contents: Option<Contents>,
    /// What comes after that, in order.
    pub append: Vec<Contents>,
    /// What happens to a file that exists when `contents` is something.
    pub existing: Existing,
}

/// What happens to something that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// It is replaced. Of folders: everything in it goes.
    #[default]
    Replace,
    /// The step fails, unless it is a folder and a folder is asked for: then mode and owner are set.
    Refuse,
}

/// A folder. Those above it are made as for [`File`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// As for [`File::path`].
    pub path: String,
    /// Permission bits. `None`: 0o755 for a new one, unchanged for one that exists.
    pub mode: Option<u16>,
    /// Who owns it.
    pub owner: Owner,
    /// What happens to something at this path.
    pub existing: Existing,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// As for [`File::path`].
    pub path: String,
    /// What it points at; of a hard link, the file.
    pub target: String,
    /// Whether it is a hard link.
    pub is_hard: bool,
    /// Who owns a symbolic link.
    pub owner: Owner,
    /// What happens to something at this path. The same link is nothing to do, either way.
    pub existing: Existing,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number. `None`: the next free one.
    pub gid: Option<u32>,
    /// Encrypted password.
    pub password_hash: Option<String>,
    /// A number of the range for system groups.
    pub is_system: bool,
    /// Users that become members, besides those who are.
    pub members: Vec<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Its number. `None`: the next free one.
    pub uid: Option<u32>,
    /// Encrypted password. `None`: none, so that only keys let the user in.
    pub password_hash: Option<String>,
    /// Whether the password is locked (`!` before the hash).
    pub is_locked: bool,
    /// Full name or description.
    pub gecos: Option<String>,
    /// Home folder. `None`: `/home/NAME`.
    pub home: Option<String>,
    /// Whether the home folder is made.
    pub creates_home: bool,
    /// Primary group: a name or a number. `None`: a group of the user's name, made if it is missing.
    pub primary_group: Option<String>,
    /// Without a primary group: whether a group of the user's name is made; otherwise `users` is the primary group.
    pub creates_group: bool,
    /// Supplementary groups. Missing ones are an error.
    pub groups: Vec<String>,
    /// Login shell. `None`: `/bin/bash`.
    pub shell: Option<String>,
    /// A number of the range for system users, and no home folder unless asked for.
    pub is_system: bool,
    /// The lines of a file `/etc/sudoers.d/90-NAME`, without the user's name; empty: none.
    pub sudo: Vec<String>,
    /// What becomes of a user that exists.
    pub existing: ExistingUser,
}

/// What becomes of a user that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingUser {
    /// Password and keys only, as `useradd` refuses to see the rest: cloud-config.
    PasswordOnly,
    /// Everything that is written is set: Ignition's `usermod`.
    Modify,
}

/// SSH keys that let a user in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedKeys {
    /// The user, which exists when the step is taken.
    pub user: String,
    /// Name of this set of keys: a later set of the same name replaces it, other sets stay (`~/.ssh/authorized_keys.d/NAME`).
    pub set: String,
    /// Lines of authorized_keys(5), each once.
    pub keys: Vec<String>,
}

/// Certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificates {
    /// PEM texts, each with one certificate or more.
    pub trusted: Vec<Contents>,
    /// Whether those that the image brings are trusted no more.
    pub removes_defaults: bool,
}

/// A file of `KEY=value` lines, some of which are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentFile {
    /// The file that is written, 0644.
    pub path: String,
    /// What is edited where it does not exist.
    pub template: Option<String>,
    /// Keys and values. See [`super::assignments::edit`].
    pub assignments: Vec<(String, String)>,
}

/// Servers of the time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimeServers {
    /// Names or addresses of servers, then of pools.
    pub servers: Vec<String>,
    /// Whether time is set from the network at all.
    pub is_enabled: bool,
}

/// A unit in one of the two folders that user-data may write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlace {
    /// The unit.
    pub unit: UnitName,
    /// Whether in `/run/systemd/system` (until the next boot) instead of `/etc/systemd/system`.
    pub is_runtime: bool,
}

/// What can be asked of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitCommand {
    /// `start`.
    Start,
    /// `stop`.
    Stop,
    /// `restart`.
    Restart,
    /// `reload`.
    Reload,
    /// `try-restart`.
    TryRestart,
    /// `reload-or-restart`.
    ReloadOrRestart,
    /// `reload-or-try-restart`.
    ReloadOrTryRestart,
}

/// A program to run: written to a file that root alone may read and run, and started as such, so that the kernel picks the interpreter
/// that its first line names. Its working folder is `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Name for the file and for messages: `bootcmd`, `runcmd`, `user-data`, `part-2`.
    pub name: String,
    /// Path of the interpreter, from the first line.
    pub interpreter: String,
    /// The whole text; begins with `#!`.
    pub contents: Vec<u8>,
}

/// How remote contents are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPolicy {
    /// Longest wait for the headers of one answer: 10 s unless written.
    pub response_headers: Duration,
    /// Longest time for one resource, all tries together. `None`: as long as it takes.
    pub total: Option<Duration>,
    /// PEM texts of authorities that are trusted besides the image's, for fetching alone.
    pub certificate_authorities: Vec<Contents>,
    /// Proxies.
    pub proxy: Proxy,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            response_headers: Duration::from_secs(10),
            total: None,
            certificate_authorities: Vec::new(),
            proxy: Proxy::default(),
        }
    }
}

/// Proxies for fetching.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxy {
    /// For `http:`.
    pub http: Option<String>,
    /// For `https:`.
    pub https: Option<String>,
    /// Hosts, domains and networks that are asked directly.
    pub none_for: Vec<String>,
}
