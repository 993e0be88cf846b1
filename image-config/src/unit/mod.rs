//! systemd unit files: text to typed settings.
//!
//! Three layers. [`syntax`] splits text into assignments as systemd does. [`UnitFile`] is a main file and its
//! drop-ins, merged in order, with access to the raw values. [`Unit`] is the typed view that a supervisor works with:
//! [`Common`] (`[Unit]`), [`Install`], and for services [`Service`].
//!
//! Nothing in a unit file is fatal: what cannot be understood becomes a [`Warning`] with file and line, and the
//! assignment is ignored, as systemd does it. The tables in `directives` are the list of keys that are understood;
//! a key more is a line more.
//!
//! Specification: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.syntax(7), as of
//! systemd 257.
//!
//! Deliberately absent: finding files in the unit folders, evaluating conditions, substituting the environment's
//! variables at parse time ([`ExecCommand::arguments`] does that when a process starts).

mod capability;
mod common;
mod directives;
mod encoded;
mod environment;
mod exec;
mod exec_keys;
mod exit_code;
mod file;
mod known;
mod name;
mod resource_keys;
mod resources;
mod sandbox;
mod sandbox_keys;
mod service;
mod setting;
mod signal;
mod specifier;
pub mod syntax;
mod syscall_filter;
mod syscall_groups;
pub mod value;

pub use self::capability::CapabilitySet;
pub use self::common::{Common, Condition, ConditionKind, Install, StartLimitAction};
pub use self::environment::{Lookup, expand_variables, parse_environment_file};
pub use self::exec::{
    DirectoryPreserve, EnvironmentFile, ExecContext, Input, Output, Resource, ResourceLimit, Scheduling,
    ServiceDirectory, WorkingDirectory,
};
pub use self::exit_code::{exit_code, exit_code_name};
pub use self::file::{Assignment, Unit, UnitFile, UnitKind, Warning};
pub use self::name::{
    LONGEST_NAME, UnitName, UnitNameError, UnitType, escape, escape_path, unescape, unescape_path,
};
pub use self::resources::{
    Amount, CpuWeight, Delegate, DevicePolicy, DeviceRule, IoLimit, ResourceControl, slice_path,
};
pub use self::sandbox::{
    BindPath, FamilyFilter, KeyringMode, PrivateTmp, PrivateUsers, Propagation, ProtectControlGroups,
    ProtectHome, ProtectProc, ProtectSystem, Sandbox, SandboxPath,
};
pub use self::service::{
    ExecCommand, ExitStatusSet, KillContext, KillMode, NotifyAccess, Restart, Service, ServiceType,
};
pub use self::signal::Signal;
pub use self::specifier::{SpecifierError, System, expand_specifiers};
pub use self::syscall_filter::{Denial, SyscallFilter};
pub use self::value::TimeSpan;

#[cfg(test)]
mod tests;
