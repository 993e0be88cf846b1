//! The kernel's side: processor, memory, limits, virtual machines.

use std::fs;

use qemu::Accelerator;
use qemu::accel::{self, Detected};
use qemu::toolbox::Toolbox;
use rustix::process::{Resource, getrlimit};

use super::Check;

const MIB: u64 = 1 << 20;
/// Least memory for compiling the programs inside the image: the largest compiler process takes 760 MiB, others run beside it.
const BUILD_BYTES: u64 = 1024 * MIB;
/// Least address space for the same: what was seen to be enough.
const BUILD_ADDRESSES: u64 = 2048 * MIB;
/// Open files of a build: up to 400 unpacked packages, and some of each thread.
const BUILD_FILES: u64 = 512;

/// Programs of the image and the emulator exist for one kind of machine.
pub(super) fn platform() -> Check {
    let system = rustix::system::uname();
    let found = format!(
        "{} {} on {}",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        std::env::consts::ARCH
    );
    if std::env::consts::ARCH == "x86_64" && std::env::consts::OS == "linux" {
        Check::ok("system", found)
    } else {
        Check::missing(
            "system",
            found,
            "images and the emulator are for x86-64",
            "use a 64-bit PC with Linux",
        )
    }
}

pub(super) fn checks(offline: bool) -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").ok();
    let memory = fs::read_to_string("/proc/meminfo").ok();
    vec![
        proc(status.is_some()),
        available_memory(memory.as_deref().and_then(|text| kilobytes(text, "MemAvailable:"))),
        addresses(getrlimit(Resource::As).current),
        files(getrlimit(Resource::Nofile).current),
        umask(status.as_deref().and_then(|text| octal(text, "Umask:"))),
        kvm(&accel::detect()),
        emulator(Toolbox::of_user().unpacked().ok().flatten().is_some(), offline),
        namespaces(&|path| fs::read_to_string(path).ok()),
    ]
}

fn proc(mounted: bool) -> Check {
    if mounted {
        return Check::ok("proc", "/proc is mounted");
    }
    Check::warning(
        "proc",
        "/proc is not mounted",
        "leftovers of builds that were killed cannot be told from files of running ones, and machines cannot be run",
        "mount -t proc proc /proc",
    )
}

/// A number of KiB in `/proc/meminfo` (proc(5)), in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// An octal number in `/proc/self/status`.
fn octal(text: &str, name: &str) -> Option<u32> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    u32::from_str_radix(value.trim(), 8).ok()
}

fn available_memory(bytes: Option<u64>) -> Check {
    let Some(bytes) = bytes else { return Check::ok("memory", "not known") };
    let found = format!("{} MiB available", bytes / MIB);
    if bytes >= BUILD_BYTES {
        return Check::ok("memory", found);
    }
    Check::warning(
        "memory",
        found,
        "compiling the programs inside the image takes about 1 GiB, once",
        "end other programs, or add swap: sudo fallocate -l 2G /swap && sudo chmod 600 /swap && sudo mkswap /swap && \
         sudo swapon /swap",
    )
}

fn addresses(limit: Option<u64>) -> Check {
    match limit {
        None => Check::ok("address space", "unlimited"),
        Some(bytes) if bytes >= BUILD_ADDRESSES => Check::ok("address space", format!("{} MiB", bytes / MIB)),
        Some(bytes) => Check::warning(
            "address space",
            format!("{} MiB", bytes / MIB),
            "compilers reserve more than that",
            "ulimit -v unlimited",
        ),
    }
}

fn files(limit: Option<u64>) -> Check {
    match limit {
        None => Check::ok("open files", "unlimited"),
        Some(count) if count >= BUILD_FILES => Check::ok("open files", format!("up to {count}")),
        Some(count) => Check::warning(
            "open files",
            format!("up to {count}"),
            "every package of an image is a file that is read",
            format!("ulimit -n {}", 2 * BUILD_FILES),
        ),
    }
}

fn umask(mask: Option<u32>) -> Check {
    match mask {
        Some(mask) if mask & 0o700 != 0 => Check::missing(
            "umask",
            format!("{mask:04o}"),
            "it takes files from whoever makes them",
            "umask 022",
        ),
        Some(mask) => Check::ok("umask", format!("{mask:04o}, which is not in any image")),
        None => Check::ok("umask", "not known"),
    }
}

fn kvm(detected: &Detected) -> Check {
    match (&detected.accel, &detected.why_not_kvm) {
        (Accelerator::Kvm, _) | (_, None) => Check::ok("kvm", "machines run on the processor itself"),
        (_, Some(why)) => {
            let fix = if why.contains("ermission denied") {
                "sudo usermod -aG kvm $USER, and log in again"
            } else if why.contains("No such file") {
                "sudo modprobe -a kvm_intel kvm_amd, and switch virtualisation on in the firmware"
            } else {
                "switch virtualisation on in the firmware, or nested virtualisation on the machine below this one"
            };
            Check::warning(
                "kvm",
                why.clone(),
                "machines are emulated, which works and is several times slower",
                fix,
            )
        }
    }
}

fn emulator(unpacked: bool, offline: bool) -> Check {
    if unpacked {
        Check::ok("emulator", "QEMU is in the cache")
    } else if offline {
        Check::warning(
            "emulator",
            "QEMU is not in the cache",
            "`ferrite run` cannot fetch it offline",
            "ferrite run once without --offline, or ferrite run --system-qemu",
        )
    } else {
        Check::ok("emulator", "QEMU is not in the cache; the first `ferrite run` fetches it (33 MB)")
    }
}

/// Switches that keep ordinary users from making namespaces, the value that does so, and how to turn them.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

fn namespaces(read: &dyn Fn(&str) -> Option<String>) -> Check {
    let off = SWITCHES.iter().find(|(path, value, _)| read(path).is_some_and(|text| text.trim() == *value));
    match off {
        None => Check::ok("namespaces", "users may make namespaces"),
        Some((path, value, fix)) => Check::warning(
            "namespaces",
            format!("{path} is {value}"),
            "no build needs them, but some tests of Ferrite do",
            *fix,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn numbers_are_read_from_the_kernels_tables() {
        let text = "MemTotal:       24573568 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(2 * MIB));
        assert_eq!(kilobytes(text, "SwapFree:"), None);
        assert_eq!(octal("Name:\tx\nUmask:\t0022\n", "Umask:"), Some(0o22));
        assert_eq!(octal("Umask:\t8\n", "Umask:"), None);
    }

    #[test]
    fn limits_are_judged_by_what_a_build_takes() {
        let status = |check: Check| {
            assert_eq!(check.fix.is_some(), check.status != Status::Ok, "{check:?}");
            check.status
        };
        assert_eq!(status(available_memory(Some(BUILD_BYTES - 1))), Status::Warning);
        assert_eq!(status(available_memory(Some(BUILD_BYTES))), Status::Ok);
        assert_eq!(status(available_memory(None)), Status::Ok);
        assert_eq!(status(addresses(Some(MIB))), Status::Warning);
        assert_eq!(status(addresses(None)), Status::Ok);
        assert_eq!(status(files(Some(64))), Status::Warning);
        assert_eq!(status(files(Some(1024))), Status::Ok);
        assert_eq!(status(umask(Some(0o077))), Status::Ok);
        assert_eq!(status(umask(Some(0o222))), Status::Missing);
        assert_eq!(status(proc(false)), Status::Warning);
        assert_eq!(status(emulator(false, true)), Status::Warning);
        assert_eq!(status(emulator(false, false)), Status::Ok);
    }

    #[test]
    fn each_reason_against_kvm_has_its_own_way_out() {
        let fix = |why: &str| {
            let detected = Detected { accel: Accelerator::Tcg, why_not_kvm: Some(why.to_owned()) };
            let check = kvm(&detected);
            assert_eq!(check.status, Status::Warning);
            check.fix.unwrap()
        };
        assert!(fix("/dev/kvm: Permission denied (os error 13)").contains("usermod"));
        assert!(fix("/dev/kvm: No such file or directory (os error 2)").contains("modprobe"));
        assert!(fix("neither the vmx nor the svm flag").contains("firmware"));
        assert_eq!(kvm(&Detected { accel: Accelerator::Kvm, why_not_kvm: None }).status, Status::Ok);
    }

    #[test]
    fn a_switch_against_namespaces_is_named_with_the_way_to_turn_it() {
        let check = namespaces(&|path| path.contains("apparmor").then(|| "1\n".to_owned()));
        assert_eq!(check.status, Status::Warning);
        assert!(check.fix.unwrap().contains("apparmor_restrict_unprivileged_userns=0"));
        assert_eq!(namespaces(&|_| None).status, Status::Ok);
        assert_eq!(
            namespaces(&|path| path.contains("max_user").then(|| "15000\n".to_owned())).status,
            Status::Ok
        );
    }
}
