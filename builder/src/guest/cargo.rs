//! Building one guest program with cargo, freed of what this machine would put into its bytes.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::GuestError;
use crate::sbom::crates::{self, CratesError, LinkedProgram};

/// For the C code of `ring`, which the host's compiler translates for musl: without what its headers would call in glibc.
const C_FLAGS: &str = "-U_FORTIFY_SOURCE -fno-stack-protector";
/// Separator of `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\u{1f}";
/// Variables of the user's that would change what is built: for other builds than these.
const FOREIGN: [&str; 8] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_INCREMENTAL",
    "SOURCE_DATE_EPOCH",
];
/// Beginnings of such variables.
const FOREIGN_KINDS: [&str; 3] = ["CARGO_PROFILE_", "CARGO_TARGET_X86_64_", "CARGO_UNSTABLE_"];

/// A package, the target it is for and the profile that makes its bytes stable.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    package: &'static str,
    binary: &'static str,
    target: &'static str,
    profile: &'static str,
    /// Flags of the compiler.
    pub flags: &'static [&'static str],
}

/// Flags of the programs that run under Linux.
const STATIC: &[&str] = &[
    "-Ctarget-feature=+crt-static",
    // The toolchain's linker, start files and C library: those of the machine would differ from the next one's.
    "-Clinker=rust-lld",
    "-Clinker-flavor=ld.lld",
    "-Clink-self-contained=yes",
];

/// PID 1 and the other programs in one.
pub(super) const INIT: Unit = Unit {
    package: "init",
    binary: "init",
    target: "x86_64-unknown-linux-musl",
    profile: "guest",
    flags: STATIC,
};

/// What finds user-data and carries it out.
pub(super) const USER_DATA: Unit = Unit { package: "user-data", binary: "user-data", ..INIT };

/// The update engine and its client in one. `ring` has C code, which the host's compiler translates (`C_FLAGS`).
pub(super) const UPDATE_ENGINE: Unit = Unit { package: "update-engine", binary: "update-engine", ..INIT };

/// The scheduler's daemon and `fleetctl` in one.
pub(super) const FLEETD: Unit = Unit { package: "scheduler", binary: "fleetd", ..INIT };

/// The boot loader.
pub(super) const LOADER: Unit = Unit {
    package: "boot",
    binary: "ferrite-boot.efi",
    target: "x86_64-unknown-uefi",
    profile: "loader",
    flags: &[
        "--cfg=curve25519_dalek_backend=\"serial\"",
        "--cfg=sha2_backend=\"soft\"",
        // A PE header holds the time of linking unless told otherwise.
        "-Clink-arg=/Brepro",
        // The record of debug information names the target folder.
        "-Clink-arg=/DEBUG:NONE",
    ],
};

impl Unit {
    /// Builds the program; returns where it is.
    ///
    /// # Errors
    /// The toolchain or the target cannot be had, or cargo fails.
    pub fn build(&self, source: &Path, target_folder: &Path) -> Result<PathBuf, GuestError> {
        ensure_target(source, self.target)?;
        let mut command = tool("cargo", source);
        command
            .args(["build", "--locked", "--package", self.package, "--target", self.target])
            .args(["--profile", self.profile, "--color", "never"])
            .arg("--target-dir")
            .arg(target_folder)
            .env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(source, self.flags))
            .env("CARGO_INCREMENTAL", "0")
            .env("CC_x86_64_unknown_linux_musl", "cc")
            .env("CFLAGS_x86_64_unknown_linux_musl", c_flags(source));
        let (ok, output) = run(&mut command, "cargo")?;
        if ok {
            Ok(target_folder.join(self.target).join(self.profile).join(self.binary))
        } else {
            Err(GuestError::Cargo { package: self.package, target: self.target, output })
        }
    }

    /// The crates that are linked into the program.
    ///
    /// # Errors
    /// Cargo does not say.
    pub fn crates(&self, source: &Path) -> Result<LinkedProgram, CratesError> {
        crates::linked(source, self.package, self.target, self.flags)
    }
}

/// What the compiler of a checkout says of itself.
///
/// # Errors
/// There is no compiler.
pub(super) fn compiler_version(source: &Path) -> Result<String, GuestError> {
    let mut command = tool("rustc", source);
    command.arg("-vV");
    Ok(run(&mut command, "rustc")?.1)
}

/// Asks rustup for a target's standard library when the toolchain does not have it. One process at a time: rustup does not expect
/// another one to install the same, and a library that is half there looks as if it were whole.
fn ensure_target(source: &Path, target: &'static str) -> Result<(), GuestError> {
    let mut command = tool("rustc", source);
    command.args(["--print", "target-libdir", "--target", target]);
    // .../lib/rustlib/TARGET/lib
    let (_, output) = run(&mut command, "rustc")?;
    let library = Path::new(output.trim());
    // A lock on a folder leaves nothing behind. One that cannot be had is no reason not to build.
    let _lock = library.ancestors().nth(2).and_then(|rustlib| {
        let folder = File::open(rustlib).ok()?;
        folder.lock().ok().map(|()| folder)
    });
    if library.is_dir() {
        return Ok(());
    }
    let mut command = tool("rustup", source);
    command.args(["target", "add", target]);
    let (ok, output) = run(&mut command, "rustup")?;
    if ok && library.is_dir() { Ok(()) } else { Err(GuestError::Target { target, output }) }
}

/// A command of the toolchain, freed of what cargo or the user set for other builds.
fn tool(program: &str, source: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(source).stdin(Stdio::null());
    for (name, _) in env::vars_os().filter(|(name, _)| is_foreign(name)) {
        command.env_remove(name);
    }
    command
}

fn is_foreign(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    FOREIGN.contains(&name) || FOREIGN_KINDS.iter().any(|kind| name.starts_with(kind))
}

fn run(command: &mut Command, program: &str) -> Result<(bool, String), GuestError> {
    let output =
        command.output().map_err(|source| GuestError::Run { program: program.to_owned(), source })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// The flags for C, with the folders of this machine renamed as in [`encoded_flags`].
fn c_flags(source: &Path) -> OsString {
    let mut flags = OsString::from(C_FLAGS);
    // A name with a space would be two flags; such a folder stays, and its name is only in debug information, which is stripped.
    let folders = [(Some(source.to_owned()), "/ferrite"), (cargo_home(), "/cargo")];
    for (folder, name) in folders {
        if let Some(folder) = folder.filter(|folder| !folder.as_os_str().as_encoded_bytes().contains(&b' ')) {
            flags.push(" -ffile-prefix-map=");
            flags.push(folder);
            flags.push("=");
            flags.push(name);
        }
    }
    flags
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// The compiler flags of a guest build: the target's own, and every folder of this machine renamed.
fn encoded_flags(source: &Path, own: &[&str]) -> OsString {
    let renamed = [(Some(source.to_owned()), "/ferrite"), (cargo_home(), "/cargo")];
    let mut flags = OsString::from(own.join(FLAG_SEPARATOR));
    for (folder, name) in renamed {
        let Some(folder) = folder else { continue };
        flags.push(FLAG_SEPARATOR);
        flags.push("--remap-path-prefix=");
        flags.push(folder);
        flags.push("=");
        flags.push(name);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_machine_are_renamed() {
        let flags = encoded_flags(Path::new("/some where"), &["-Cx", "-Cy"]).into_string().unwrap();
        let flags: Vec<_> = flags.split(FLAG_SEPARATOR).collect();
        assert_eq!(flags[..3], ["-Cx", "-Cy", "--remap-path-prefix=/some where=/ferrite"]);
    }

    #[test]
    fn what_the_user_sets_for_other_builds_does_not_count() {
        for name in ["RUSTFLAGS", "CARGO_PROFILE_GUEST_LTO", "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER"]
        {
            assert!(is_foreign(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "CARGO_TARGET_DIR", "RUSTUP_TOOLCHAIN", "HTTP_PROXY"] {
            assert!(!is_foreign(OsStr::new(name)), "{name}");
        }
    }
}
