//! The programs that run inside the image: built by cargo at run time, never by a build script (so that building the
//! tool stays quick), from the checkout that built this `ferrite`.
//!
//! The bytes depend on the sources, the lock file and the toolchain only: the profiles `guest` and `loader` fix code
//! generation, and paths of the machine are remapped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

/// The target of the programs on Linux.
const LINUX: &str = "x86_64-unknown-linux-musl";
/// The target of the boot loader.
const UEFI: &str = "x86_64-unknown-uefi";
/// Separator of `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\u{1f}";

/// Where the built guest programs are.
#[derive(Debug, Clone)]
pub struct GuestPrograms {
    /// The multi-call binary: `/init` of the initramfs, PID 1, `systemctl` and the rest.
    pub init: PathBuf,
    /// The boot loader.
    pub loader: PathBuf,
}

/// Why the guest programs could not be built.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The sources are not where they were when this program was built.
    #[error("the sources of the guest programs are not in {} (set FERRITE_SOURCE to a checkout of Ferrite)", path.display())]
    NoSource {
        /// Where they should be.
        path: PathBuf,
    },
    /// A program could not be started.
    #[error(
        "cannot run {program} (guest programs are built with the Rust toolchain; install it with rustup)"
    )]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A standard library is missing and rustup did not bring it.
    #[error("the Rust target {target} is missing; `rustup target add {target}` said:\n{output}")]
    Target {
        /// The target.
        target: &'static str,
        /// What rustup printed.
        output: String,
    },
    /// Cargo failed.
    #[error("building {package} for {target} failed:\n{output}")]
    Cargo {
        /// The package.
        package: &'static str,
        /// The target.
        target: &'static str,
        /// What cargo printed.
        output: String,
    },
}

/// A package, the target it is for and the profile that makes its bytes stable.
struct Unit {
    package: &'static str,
    binary: &'static str,
    target: &'static str,
    profile: &'static str,
    flags: &'static [&'static str],
}

const UNITS: [Unit; 2] = [
    Unit {
        package: "init",
        binary: "init",
        target: LINUX,
        profile: "guest",
        flags: &["-Ctarget-feature=+crt-static"],
    },
    Unit {
        package: "boot",
        binary: "ferrite-boot.efi",
        target: UEFI,
        profile: "loader",
        flags: &[
            "--cfg=curve25519_dalek_backend=\"serial\"",
            "--cfg=sha2_backend=\"soft\"",
            // A PE header holds the time of linking unless told otherwise.
            "-Clink-arg=/Brepro",
            // The record of debug information names the target folder.
            "-Clink-arg=/DEBUG:NONE",
        ],
    },
];

/// Builds the guest programs, or finds them built.
///
/// # Errors
/// [`GuestError`]; cargo's own output is part of the message.
pub fn build() -> Result<GuestPrograms, GuestError> {
    let source = source_folder()?;
    let target_folder = target_folder(&source).join("guest");
    let mut built = Vec::new();
    for unit in &UNITS {
        ensure_target(&source, unit.target)?;
        cargo_build(&source, &target_folder, unit)?;
        built.push(target_folder.join(unit.target).join(unit.profile).join(unit.binary));
    }
    let mut built = built.into_iter();
    match (built.next(), built.next()) {
        (Some(init), Some(loader)) => Ok(GuestPrograms { init, loader }),
        _ => Err(GuestError::NoSource { path: source }),
    }
}

/// The checkout: `FERRITE_SOURCE`, or where this program was built.
///
/// # Errors
/// There is no workspace there.
pub fn source_folder() -> Result<PathBuf, GuestError> {
    let path = env::var_os("FERRITE_SOURCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned(),
        PathBuf::from,
    );
    if path.join("Cargo.lock").is_file() && path.join("init/Cargo.toml").is_file() {
        Ok(fs::canonicalize(&path).unwrap_or(path))
    } else {
        Err(GuestError::NoSource { path })
    }
}

/// Cargo's target folder for a checkout: `CARGO_TARGET_DIR`, or `target` in it.
pub fn target_folder(source: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => source.join(folder),
        None => source.join("target"),
    }
}

fn cargo_build(source: &Path, target_folder: &Path, unit: &Unit) -> Result<(), GuestError> {
    let mut command = tool("cargo", source);
    command
        .args(["build", "--locked", "--package", unit.package, "--target", unit.target])
        .args(["--profile", unit.profile, "--color", "never"])
        .arg("--target-dir")
        .arg(target_folder)
        .env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(source, unit.flags))
        .env("CARGO_INCREMENTAL", "0");
    let (ok, output) = run(&mut command, "cargo")?;
    if ok { Ok(()) } else { Err(GuestError::Cargo { package: unit.package, target: unit.target, output }) }
}

/// Asks rustup for a target's standard library when the toolchain does not have it.
fn ensure_target(source: &Path, target: &'static str) -> Result<(), GuestError> {
    let has_target = || -> Result<bool, GuestError> {
        let mut command = tool("rustc", source);
        command.args(["--print", "target-libdir", "--target", target]);
        let (ok, output) = run(&mut command, "rustc")?;
        Ok(ok && Path::new(output.trim()).is_dir())
    };
    if has_target()? {
        return Ok(());
    }
    let mut command = tool("rustup", source);
    command.args(["target", "add", target]);
    let (ok, output) = run(&mut command, "rustup")?;
    if ok && has_target()? { Ok(()) } else { Err(GuestError::Target { target, output }) }
}

/// A command of the toolchain, freed of what cargo or the user set for other builds.
fn tool(program: &str, source: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(source).stdin(Stdio::null());
    for name in [
        "RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
    ] {
        command.env_remove(name);
    }
    command
}

fn run(command: &mut Command, program: &str) -> Result<(bool, String), GuestError> {
    let output =
        command.output().map_err(|source| GuestError::Run { program: program.to_owned(), source })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// The compiler flags of a guest build: the target's own, and every folder of this machine renamed.
fn encoded_flags(source: &Path, own: &[&str]) -> OsString {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let renamed = [(Some(source.to_owned()), "/ferrite"), (cargo_home, "/cargo")];
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
    fn the_checkout_of_this_test_is_found() {
        assert!(source_folder().unwrap().join("boot/Cargo.toml").is_file());
    }

    #[test]
    fn folders_of_the_machine_are_renamed() {
        let flags = encoded_flags(Path::new("/some where"), &["-Cx", "-Cy"]).into_string().unwrap();
        let flags: Vec<_> = flags.split(FLAG_SEPARATOR).collect();
        assert_eq!(flags[..3], ["-Cx", "-Cy", "--remap-path-prefix=/some where=/ferrite"]);
    }
}
