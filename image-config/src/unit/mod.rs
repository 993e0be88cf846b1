//! systemd unit files: text to typed settings.
//!
//! Three layers. [`syntax`] splits text into assignments as systemd does. [`UnitFile`] is a main file and its
//! drop-ins, merged in order, with access to the raw values. [`Unit`] is the typed view that a supervisor works with:
//! [`Common`] (`[Unit]`), [`Install`], and the section of the unit's own type ([`Service`], [`Socket`], [`Timer`] ...).
//!
//! Nothing in a unit file is fatal: what cannot be understood becomes a [`Warning`] with file and line, and the
//! assignment is ignored, as systemd does it. The tables in `directives` and beside the types are the list of keys that
//! are understood; a key more is a line more.
//!
//! Specification: systemd.unit(5), the manual page of each type (systemd.service(5), systemd.socket(5) ...),
//! systemd.exec(5), systemd.kill(5), systemd.time(7), systemd.syntax(7), as of systemd 257.
//!
//! Deliberately absent: finding files in the unit folders, evaluating conditions, substituting the environment's
//! variables at parse time ([`ExecCommand::arguments`] does that when a process starts).

pub mod calendar;
mod capability;
mod command_line;
mod common;
mod condition;
mod directives;
mod encoded;
mod environment;
mod exec;
mod exec_keys;
mod exit_code;
mod file;
mod known;
mod mount;
mod name;
mod open_file;
mod path;
mod reader;
mod resource_keys;
mod resources;
mod sandbox;
mod sandbox_keys;
mod service;
mod setting;
mod signal;
mod slice;
mod socket;
mod socket_address;
mod socket_keys;
mod specifier;
mod swap;
pub mod syntax;
mod syscall_filter;
mod syscall_groups;
pub mod time;
mod timer;
pub mod value;

pub use self::capability::CapabilitySet;
pub use self::common::{CollectMode, Common, Install, JobMode, StartLimitAction};
pub use self::condition::{Condition, ConditionKind};
pub use self::environment::{Lookup, expand_variables, is_variable_name, parse_environment_file};
pub use self::exec::{
    DirectoryPreserve, EnvironmentFile, ExecContext, Input, Output, Resource, ResourceLimit, Scheduling,
    ServiceDirectory, WorkingDirectory,
};
pub use self::exit_code::{exit_code, exit_code_name};
pub use self::file::{Assignment, Unit, UnitFile, UnitKind, Warning};
pub use self::mount::Mount;
pub use self::name::{
    LONGEST_NAME, UnitName, UnitNameError, UnitType, complete_unit_name, escape, escape_path, unescape,
    unescape_path,
};
pub use self::open_file::{OpenFile, OpenMode, is_descriptor_name};
pub use self::path::{PathCondition, PathUnit, PathWatch};
pub use self::resource_keys::is_resource_key;
pub use self::resources::{
    Amount, CpuWeight, Delegate, DevicePolicy, DeviceRule, IoLimit, ResourceControl, slice_path,
};
pub use self::sandbox::{
    BindPath, FamilyFilter, KeyringMode, PrivateTmp, PrivateUsers, Propagation, ProtectControlGroups,
    ProtectHome, ProtectProc, ProtectSystem, Sandbox, SandboxPath,
};
pub use self::service::{
    ExecCommand, ExitStatusSet, ExitType, KillContext, KillMode, NotifyAccess, OomPolicy, Restart,
    RestartMode, Service, ServiceType, TimeoutFailureMode,
};
pub use self::signal::Signal;
pub use self::slice::Slice;
pub use self::socket::{BindIpv6Only, Socket, SocketProtocol, Timestamping};
pub use self::socket_address::{Listen, SocketAddress, SocketKind};
pub use self::specifier::{SpecifierError, System, expand_specifiers};
pub use self::swap::Swap;
pub use self::syscall_filter::{Denial, SyscallFilter};
pub use self::timer::{Timer, TimerBase, TimerTrigger};
pub use self::value::TimeSpan;

#[cfg(test)]
mod tests;
