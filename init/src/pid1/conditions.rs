//! `Condition*=` and `Assert*=`: what the machine is like right now.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use image_config::unit::{Common, Condition, ConditionKind, parse_environment_file, slice_path, value};
use rustix::fs::Access;

use super::cgroup;
use super::compare::{self, Operator};
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
        ConditionKind::KernelVersion => compare::version_holds(&facts.kernel_release, argument),
        ConditionKind::Version => version_of(argument, facts),
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
            let has =
                fs::read_to_string(Path::new(cgroup::MOUNT).join("cgroup.controllers")).unwrap_or_default();
            argument == "v2"
                || argument.split_whitespace().all(|wanted| has.split_whitespace().any(|one| one == wanted))
        }
        // PID 1 has all capabilities; nothing here is encrypted, and updates bring whole images.
        ConditionKind::Capability => true,
        ConditionKind::NeedsUpdate => false,
        ConditionKind::PathIsEncrypted => false,
        ConditionKind::Security => has_security(argument),
        ConditionKind::Credential => Path::new("/run/credentials/@system").join(argument).exists(),
        ConditionKind::CpuFeature => cpu_flags().split_whitespace().any(|flag| flag == argument),
        ConditionKind::Cpus => {
            let count = std::thread::available_parallelism().map_or(1, |count| count.get());
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            compare::number_holds(count, argument, |text| text.parse().ok())
        }
        ConditionKind::Memory => {
            let bytes = memory_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
            compare::number_holds(bytes, argument, |text| value::size(text).ok())
        }
        ConditionKind::Host => is_host(argument),
        ConditionKind::OsRelease => os_release_holds(argument, &os_release()),
        ConditionKind::Firmware => match argument {
            "uefi" => Path::new("/sys/firmware/efi").exists(),
            "device-tree" => Path::new("/sys/firmware/devicetree").exists(),
            _ => false,
        },
        ConditionKind::MemoryPressure => pressure_holds("memory", "full", argument),
        ConditionKind::CpuPressure => pressure_holds("cpu", "some", argument),
        ConditionKind::IoPressure => pressure_holds("io", "full", argument),
    }
}

/// `ConditionVersion=`: the program, then as for the kernel's. What this service manager does is systemd 257's.
fn version_of(argument: &str, facts: &Facts) -> bool {
    match argument.split_once(char::is_whitespace) {
        Some(("kernel", list)) => compare::version_holds(&facts.kernel_release, list),
        Some(("systemd", list)) => compare::version_holds("257", list),
        _ => compare::version_holds(&facts.kernel_release, argument),
    }
}

fn has_security(argument: &str) -> bool {
    let modules = || fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    match argument {
        "selinux" | "apparmor" | "smack" | "tomoyo" | "ima" => {
            modules().trim().split(',').any(|module| module == argument)
        }
        "tpm2" => fs::read_dir("/sys/class/tpmrm").is_ok_and(|mut entries| entries.next().is_some()),
        // Four bytes of attributes, then the value: UEFI, "Variable Services".
        "uefi-secureboot" => {
            let name = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
            fs::read(name).is_ok_and(|bytes| bytes.get(4) == Some(&1))
        }
        _ => false,
    }
}

fn cpu_flags() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags"));
    flags.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
}

/// Bytes of memory, from `/proc/meminfo`.
fn memory_total(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
    kibibytes.saturating_mul(1024)
}

fn is_host(argument: &str) -> bool {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    id.trim() == argument.replace('-', "") || compare::fits(argument, &name)
}

fn os_release() -> Vec<(String, String)> {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    parse_environment_file(&text.unwrap_or_default())
}

/// Words such as `ID=debian` and `VERSION_ID>=13`, all of which must hold. A field that is not there is empty.
fn os_release_holds(argument: &str, release: &[(String, String)]) -> bool {
    argument.split_whitespace().all(|word| {
        let end = word.find(['=', '<', '>', '!', '$']).unwrap_or(word.len());
        let (field, rest) = word.split_at(end);
        let (Some(operator), wanted) = Operator::take(rest) else { return false };
        let found = release.iter().find(|(name, _)| name == field).map_or("", |(_, value)| value.as_str());
        match operator {
            // Not every field is a version.
            Operator::Equal => found == wanted,
            Operator::Other => found != wanted,
            operator => operator.holds_for_version(found, wanted),
        }
    })
}

/// `[SLICE:]LIMIT%[/SPAN]`: whether the pressure is at most that. A kernel that does not measure it has none.
fn pressure_holds(resource: &str, kind: &str, argument: &str) -> bool {
    let (slice, rest) = match argument.split_once(':') {
        Some((slice, rest)) => (Some(slice), rest),
        None => (None, argument),
    };
    let (limit, span) = rest.split_once('/').unwrap_or((rest, "5min"));
    let average = match span {
        "10sec" => "avg10",
        "1min" => "avg60",
        _ => "avg300",
    };
    let path = match slice {
        None => format!("/proc/pressure/{resource}"),
        Some(slice) => format!("{}/{}/{resource}.pressure", cgroup::MOUNT, slice_path(slice).join("/")),
    };
    let text = fs::read_to_string(path).unwrap_or_default();
    match (pressure(&text, kind, average), limit.trim_end_matches('%').parse::<f64>()) {
        (Some(found), Ok(limit)) => found <= limit,
        _ => true,
    }
}

/// A line of a pressure file: Documentation/accounting/psi.rst of the kernel.
fn pressure(text: &str, kind: &str, average: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let field = line.split_whitespace().find_map(|word| word.strip_prefix(average)?.strip_prefix('='))?;
    field.parse().ok()
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "yes" | "true" | "1" | "on" => Some(true),
        "no" | "false" | "0" | "off" => Some(false),
        _ => None,
    }
}

/// Whether something is mounted there, on a folder or a file. Device numbers do not tell: in an overlay a file may have
/// others than its folder.
fn is_mount_point(path: &Path) -> bool {
    let wanted = rustix::fs::StatxFlags::empty();
    let found = rustix::fs::statx(rustix::fs::CWD, path, rustix::fs::AtFlags::empty(), wanted);
    found.is_ok_and(|found| found.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: ConditionKind, negate: bool, argument: &str) -> Condition {
        Condition { kind, trigger: false, negate, argument: argument.to_owned() }
    }

    #[test]
    fn releases_and_pressure_are_compared() {
        let release = parse_environment_file("ID=ferrite\nVERSION_ID=1.10\n");
        let cases = [
            ("ID=ferrite", true),
            ("ID=ferrite VERSION_ID>=1.9", true),
            ("ID!=ferrite", false),
            ("VERSION_ID<1.9", false),
            ("VARIANT_ID=", true),
            ("ID$=fer*", true),
            ("ID", false),
        ];
        for (argument, want) in cases {
            assert_eq!(os_release_holds(argument, &release), want, "{argument}");
        }
        let text = "some avg10=1.50 avg60=2.00 avg300=0.10 total=9\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(pressure(text, "some", "avg60"), Some(2.0));
        assert_eq!(pressure(text, "full", "avg10"), Some(0.25));
        assert_eq!(pressure("", "full", "avg10"), None);
        assert_eq!(memory_total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), 2 << 20);
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
