//! What PID 1 does to the machine before the first unit starts, and the helpers behind Ferrite's own units.

pub mod clock;
pub mod coldplug;
pub mod entropy;
pub mod fwcfg;
pub mod glob;
pub mod identity;
pub mod mark_good;
pub mod marks;
pub mod modprobe;
pub mod panics;
pub mod sysctl;
pub mod sysusers;
pub mod tmpfiles;
pub mod trial;
pub mod users;

use std::ffi::CStr;
use std::path::Path;
use std::process::ExitCode;

use rustix::mount::MountFlags;

use crate::early::cmdline::CommandLine;
use crate::early::console::chain;
use crate::early::mounts::{harmless, mount_virtual};
use crate::early::{VOLATILE_FLAG, WARNINGS};

/// What [`setup`] found out about this boot.
#[derive(Debug, Clone, Default)]
pub struct BootInfo {
    /// The slot is not yet successful (`ferrite.trial=1`): PID 1 must reboot when the boot does not get good in time.
    pub trial: bool,
    /// `/var` is a tmpfs because STATE was not usable (SAFETY 22).
    pub volatile_state: bool,
    /// Host name as set in the kernel.
    pub hostname: String,
    /// 32 hex digits, as in `/etc/machine-id`.
    pub machine_id: String,
    /// Name and version of the image, for the console: `ferrite 1.2.3`.
    pub image: String,
    /// Lines for the console and the log, loudest problems of the early stage.
    pub warnings: Vec<String>,
}

/// A file system of the running system; the rest is mounted by the initramfs.
struct KernelMount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
    /// Kernels and machines without it are no news.
    optional: bool,
}

/// What [`setup`] has done and found out, read off the running machine: for a PID 1 program that goes on with another's
/// work.
pub fn again() -> BootInfo {
    let line = CommandLine::read().unwrap_or_default();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    BootInfo {
        trial: line.trial,
        volatile_state: Path::new(VOLATILE_FLAG).exists(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        machine_id: read("/etc/machine-id"),
        ..BootInfo::default()
    }
}

/// Mounts, host name, machine-id, tmpfiles, what the host hands in. Never fails: what could not be done is in `warnings`.
pub fn setup() -> BootInfo {
    let line = CommandLine::read().unwrap_or_default();
    let mut warnings = Vec::new();
    let mut note = |what: &str, result: std::io::Result<()>| {
        if let Err(error) = result {
            warnings.push(format!("{what}: {error}"));
        }
    };
    note("/dev links", link_dev());
    note("random seed", entropy::refresh());
    note(
        "clock",
        clock::apply_saved_floor(Path::new("/"), line.image.as_ref().map(|image| image.build_time)),
    );
    note("module helper", modprobe::register());
    warnings.extend(mount_all());
    warnings.extend(sysctl::apply());
    let host = fwcfg::collect();
    warnings.extend(host.problems);
    let image_name = line.image.as_ref().map(|image| image.name.as_str());
    let file = std::fs::read_to_string("/etc/hostname").ok();
    let hostname = identity::choose_hostname(host.hostname.as_deref(), file.as_deref(), image_name);
    let machine_id = write_identity(&hostname, &mut warnings);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let specifiers =
        tmpfiles::parse::Specifiers { machine_id: machine_id.clone(), hostname: hostname.clone(), kernel };
    // Before the folders that belong to them.
    warnings.extend(sysusers::run(Path::new("/"), &specifiers));
    warnings.extend(tmpfiles::run(Path::new("/"), &specifiers));
    carry_panics(&mut warnings);
    note_trial(&line, &mut warnings);
    if let Ok(early) = std::fs::read_to_string(WARNINGS) {
        warnings.splice(0..0, early.lines().map(str::to_owned));
    }
    BootInfo {
        trial: line.trial,
        volatile_state: Path::new(VOLATILE_FLAG).exists(),
        hostname,
        machine_id,
        image: line.image.map(|image| image.to_string()).unwrap_or_default(),
        warnings,
    }
}

/// Says what the boot before this one died of. Without STATE the records stay where they are.
fn carry_panics(warnings: &mut Vec<String>) {
    if Path::new(VOLATILE_FLAG).exists() {
        return;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match panics::carry(Path::new(panics::STORE), Path::new(panics::KEPT), &boot) {
        Ok(None) => {}
        Ok(Some(reason)) => {
            let place = panics::folder(&boot);
            warnings.push(format!(
                "the boot before this one ended in a {reason} (records in {})",
                place.display()
            ));
        }
        Err(error) => warnings.push(format!("records of a kernel panic: {error}")),
    }
}

/// A boot on trial leaves a record of itself (SAFETY 17), unless it would vanish with `/var`. What an earlier trial left stays
/// for the update engine.
fn note_trial(line: &CommandLine, warnings: &mut Vec<String>) {
    if !line.trial {
        return;
    }
    warnings.push("this boot is ON TRIAL, not yet confirmed: the machine goes back to the other slot unless it proves itself".to_owned());
    if let Some(verity) = line.verity.as_ref().filter(|_| !Path::new(VOLATILE_FLAG).exists()) {
        let trial = trial::Trial { root_hash: verity.root_hash.clone(), reason: None };
        if let Err(error) = trial.store(Path::new("/")) {
            warnings.push(format!("record of the trial: {error}"));
        }
    }
}

/// Adds to the record of the trial why PID 1 gives this boot up.
///
/// # Errors
/// The file system's; a machine whose STATE cannot be written has no record.
pub fn give_up_trial(reason: &str) -> std::io::Result<()> {
    match trial::Trial::load(Path::new("/")) {
        Some(trial) => trial::Trial { reason: Some(reason.to_owned()), ..trial }.store(Path::new("/")),
        None => Ok(()),
    }
}

/// Sets the host name and writes what depends on it; returns the machine-id.
fn write_identity(hostname: &str, warnings: &mut Vec<String>) -> String {
    let mut note = |what: &str, result: std::io::Result<()>| {
        if let Err(error) = result {
            warnings.push(format!("{what}: {error}"));
        }
    };
    note("host name", rustix::system::sethostname(hostname.as_bytes()).map_err(Into::into));
    let etc = Path::new("/etc");
    let mut random = [0_u8; 16];
    let gathered = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    note("random numbers", gathered.map(|_| ()).map_err(Into::into));
    let (machine_id, written) = identity::machine_id(etc, random);
    note("/etc/machine-id", written);
    note("/etc/hosts", identity::write_hosts(etc, hostname));
    note(
        "/etc/resolv.conf",
        identity::link_if_missing("../run/ferrite/resolv.conf", &etc.join("resolv.conf")),
    );
    note("/etc/mtab", identity::link_if_missing("../proc/self/mounts", &etc.join("mtab")));
    machine_id
}

/// The links that programs expect in `/dev`, and the folders for mounts in it.
fn link_dev() -> std::io::Result<()> {
    let links = [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];
    for (name, target) in links {
        identity::link_if_missing(target, &Path::new("/dev").join(name))?;
    }
    for folder in ["/dev/pts", "/dev/shm", "/run/lock"] {
        std::fs::create_dir_all(folder)?;
    }
    let everyone = rustix::fs::Mode::from_raw_mode(0o1777);
    Ok(rustix::fs::chmod("/run/lock", everyone)?)
}

fn mount_all() -> Vec<String> {
    let inert = harmless() | MountFlags::NOEXEC;
    let mounts = [
        KernelMount {
            kind: "cgroup2",
            target: "/sys/fs/cgroup",
            flags: inert,
            options: c"nsdelegate,memory_recursiveprot",
            optional: false,
        },
        // Group 5 is tty on every Debian.
        KernelMount {
            kind: "devpts",
            target: "/dev/pts",
            flags: MountFlags::NOSUID | MountFlags::NOEXEC,
            options: c"gid=5,mode=620,ptmxmode=666",
            optional: false,
        },
        KernelMount {
            kind: "tmpfs",
            target: "/dev/shm",
            flags: harmless(),
            options: c"mode=1777",
            optional: false,
        },
        KernelMount {
            kind: "securityfs",
            target: "/sys/kernel/security",
            flags: inert,
            options: c"",
            optional: true,
        },
        KernelMount {
            kind: "efivarfs",
            target: "/sys/firmware/efi/efivars",
            flags: inert,
            options: c"",
            optional: true,
        },
        KernelMount { kind: "pstore", target: "/sys/fs/pstore", flags: inert, options: c"", optional: true },
    ];
    // Mounting one that the kernel lacks would make it run modprobe, which takes longer than all of this.
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known = |kind: &str| known.lines().any(|line| line.split_ascii_whitespace().last() == Some(kind));
    let failed =
        mounts.into_iter().filter(|mount| !mount.optional || is_known(mount.kind)).filter_map(|mount| {
            let result = mount_virtual(mount.kind, Path::new(mount.target), mount.flags, mount.options);
            result.err().filter(|_| !mount.optional).map(|error| chain(&error))
        });
    failed.collect()
}

/// Runs `init mark-good`: marks the running slot successful (SAFETY 8).
pub fn mark_good() -> ExitCode {
    match mark_good::mark() {
        Ok(mark_good::Marked::Now) => {
            println!("slot marked good");
            forget_trial();
            ExitCode::SUCCESS
        }
        Ok(mark_good::Marked::Before) => {
            println!("slot is marked good already");
            forget_trial();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("slot not marked good: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// A slot that is good has no trial any more. Only its own record goes: another slot's is evidence that the update engine has
/// not seen yet.
fn forget_trial() {
    let line = CommandLine::read().unwrap_or_default();
    let own = line.verity.map(|verity| verity.root_hash);
    let recorded = trial::Trial::load(Path::new("/")).map(|trial| trial.root_hash);
    if own.is_some()
        && own == recorded
        && let Err(error) = trial::Trial::clear(Path::new("/"))
    {
        eprintln!("the record of the trial stays: {error}");
    }
}
