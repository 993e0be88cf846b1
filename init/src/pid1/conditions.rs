//! `Condition*=` and `Assert*=`: what the machine is like right now.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use image_config::unit::{Common, Condition, ConditionKind};
use rustix::fs::Access;

use crate::supervisor::ConditionOutcome;

/// Facts that conditions ask for and that do not change while the machine runs.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `/proc/cmdline`
    pub command_line: String,
    /// This machine boots for the first time (there was no machine-id).
    pub first_boot: bool,
    /// The kernel's release.
    pub kernel_release: String,
    /// The hypervisor's name as systemd gives it, empty on bare metal.
    pub virtualization: String,
}

/// Checks a unit's conditions, then its assertions.
pub fn check(common: &Common, facts: &Facts) -> ConditionOutcome {
    let holds = |condition: &Condition| holds(condition, facts);
    if !Common::conditions_hold(&common.conditions, holds) {
        return ConditionOutcome::Unmet(first_broken("Condition", &common.conditions, facts));
    }
    if !Common::conditions_hold(&common.asserts, holds) {
        return ConditionOutcome::AssertFailed(first_broken("Assert", &common.asserts, facts));
    }
    ConditionOutcome::Met
}

fn first_broken(word: &str, list: &[Condition], facts: &Facts) -> String {
    let broken = list.iter().find(|condition| holds(condition, facts) == condition.negate);
    broken.map_or_else(String::new, |condition| {
        let not = if condition.negate { "!" } else { "" };
        format!("{word}{}={not}{}", condition.kind.name(), condition.argument)
    })
}

fn holds(condition: &Condition, facts: &Facts) -> bool {
    let argument = condition.argument.as_str();
    let path = Path::new(argument);
    match condition.kind {
        ConditionKind::PathExists => path.exists(),
        ConditionKind::PathExistsGlob => !super::paths::expand(argument).is_empty(),
        ConditionKind::PathIsDirectory => path.is_dir(),
        ConditionKind::PathIsSymbolicLink => path.is_symlink(),
        ConditionKind::PathIsSocket => fs::metadata(path).is_ok_and(|data| data.file_type().is_socket()),
        ConditionKind::PathIsReadWrite => rustix::fs::access(path, Access::WRITE_OK).is_ok(),
        ConditionKind::PathIsMountPoint => is_mount_point(path),
        ConditionKind::DirectoryNotEmpty => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
        }
        ConditionKind::FileNotEmpty => fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() > 0),
        ConditionKind::FileIsExecutable => {
            fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        }
        ConditionKind::KernelCommandLine => facts.command_line.split_whitespace().any(|word| {
            word == argument
                || !argument.contains('=') && word.split_once('=').is_some_and(|(key, _)| key == argument)
        }),
        ConditionKind::KernelVersion => facts.kernel_release.starts_with(argument.trim_matches(['*', '='])),
        ConditionKind::KernelModuleLoaded => {
            Path::new("/sys/module").join(argument.replace('-', "_")).exists()
        }
        ConditionKind::FirstBoot => truth(argument) == Some(facts.first_boot),
        ConditionKind::Virtualization => match argument {
            "yes" | "true" | "1" | "vm" => !facts.virtualization.is_empty(),
            "no" | "false" | "0" => facts.virtualization.is_empty(),
            "container" => false,
            name => facts.virtualization == name,
        },
        ConditionKind::Architecture => argument == "x86-64" || argument == "native",
        ConditionKind::AcPower => truth(argument) == Some(true),
        ConditionKind::User => matches!(argument, "root" | "0" | "@system"),
        ConditionKind::Group => matches!(argument, "root" | "0"),
        ConditionKind::Environment => match argument.split_once('=') {
            Some((name, value)) => std::env::var(name).is_ok_and(|found| found == value),
            None => std::env::var_os(argument).is_some(),
        },
        ConditionKind::ControlGroupController => {
            let has = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
            argument == "v2"
                || argument.split_whitespace().all(|wanted| has.split_whitespace().any(|one| one == wanted))
        }
        // PID 1 has all capabilities and no security module; nothing here is encrypted or on pressure's account.
        ConditionKind::Capability => true,
        ConditionKind::NeedsUpdate => false,
        ConditionKind::Security
        | ConditionKind::Credential
        | ConditionKind::PathIsEncrypted
        | ConditionKind::CpuFeature
        | ConditionKind::Cpus
        | ConditionKind::Memory
        | ConditionKind::Host
        | ConditionKind::OsRelease
        | ConditionKind::Firmware
        | ConditionKind::Version => false,
        ConditionKind::MemoryPressure | ConditionKind::CpuPressure | ConditionKind::IoPressure => true,
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "yes" | "true" | "1" | "on" => Some(true),
        "no" | "false" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// A folder whose parent is on another filesystem, or is itself.
fn is_mount_point(path: &Path) -> bool {
    let Ok(data) = fs::metadata(path) else { return false };
    match path.parent().and_then(|parent| fs::metadata(parent).ok()) {
        Some(parent) => parent.dev() != data.dev() || parent.ino() == data.ino(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: ConditionKind, negate: bool, argument: &str) -> Condition {
        Condition { kind, trigger: false, negate, argument: argument.to_owned() }
    }

    #[test]
    fn what_is_not_met_is_named() {
        let facts = Facts { command_line: "quiet ferrite.trial=1".to_owned(), ..Facts::default() };
        let cases = [
            (condition(ConditionKind::PathExists, false, "/proc"), ConditionOutcome::Met),
            (
                condition(ConditionKind::PathExists, true, "/proc"),
                ConditionOutcome::Unmet("ConditionPathExists=!/proc".to_owned()),
            ),
            (condition(ConditionKind::KernelCommandLine, false, "ferrite.trial"), ConditionOutcome::Met),
            (condition(ConditionKind::KernelCommandLine, false, "ferrite.trial=1"), ConditionOutcome::Met),
            (condition(ConditionKind::PathIsMountPoint, false, "/proc"), ConditionOutcome::Met),
            (condition(ConditionKind::FirstBoot, false, "no"), ConditionOutcome::Met),
        ];
        for (condition, want) in cases {
            let common = Common { conditions: vec![condition.clone()], ..Common::default() };
            assert_eq!(check(&common, &facts), want, "{condition:?}");
        }
        let common = Common {
            asserts: vec![condition(ConditionKind::PathExists, false, "/none")],
            ..Common::default()
        };
        assert_eq!(
            check(&common, &facts),
            ConditionOutcome::AssertFailed("AssertPathExists=/none".to_owned())
        );
    }
}
