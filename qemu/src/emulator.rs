//! A QEMU that can be started: the toolbox's, or the system's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// From this version on: 7.2's emulator corrupts guests with `-cpu max -smp 2`.
pub const LEAST_VERSION: (u32, u32) = (8, 2);

/// Where a line for the user goes, such as "waiting for other virtual machines".
#[derive(Clone)]
pub struct Notice(Arc<dyn Fn(&str) + Send + Sync>);

impl Notice {
    /// Lines go to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Lines go to standard error.
    pub fn stderr() -> Self {
        Self::new(|line| eprintln!("{line}"))
    }

    /// Says `line`.
    pub fn say(&self, line: &str) {
        (self.0)(line);
    }
}

impl std::fmt::Debug for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notice")
    }
}

/// How a program is started: directly, or by the dynamic loader of the toolbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What is executed.
    pub path: PathBuf,
    /// Arguments before the program's own.
    pub first_arguments: Vec<OsString>,
    /// Environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program that the system's loader starts.
    pub fn direct(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), first_arguments: Vec::new(), environment: Vec::new() }
    }

    /// A command without arguments of its own yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.first_arguments);
        // Libraries meant for the host's programs do not fit the toolbox's C library.
        command.env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// UEFI firmware files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Code, shared by all VMs.
    pub code: PathBuf,
    /// Empty variable store, copied for each VM.
    pub vars: PathBuf,
}

/// A QEMU that can be started.
#[derive(Debug, Clone)]
pub struct Emulator {
    pub(crate) program: Program,
    pub(crate) data: Vec<PathBuf>,
    pub(crate) firmware: Option<Firmware>,
    pub(crate) version: String,
    pub(crate) notice: Notice,
}

/// No usable QEMU on the system.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// Not in PATH.
    #[error("no qemu-system-x86_64 in PATH; without --system-qemu Ferrite fetches its own")]
    NotFound,
    /// It cannot be run.
    #[error("run {} --version", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Its version is unreadable.
    #[error("{} --version said {output:?}, without a version", path.display())]
    NoVersion {
        /// The program.
        path: PathBuf,
        /// Its output.
        output: String,
    },
    /// Too old.
    #[error(
        "{} is version {version}: 8.2 or later is needed, because older emulators corrupt guests with more than one \
         processor; without --system-qemu Ferrite fetches its own",
        path.display()
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

/// Where distributions put OVMF: code and matching variable store (Debian, Fedora, Arch, openSUSE).
const SYSTEM_FIRMWARE: [(&str, &str); 5] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
];

impl Emulator {
    /// The system's QEMU, when it is version 8.2 or later.
    ///
    /// # Errors
    /// There is none, or it is too old.
    pub fn system(notice: Notice) -> Result<Self, SystemError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let candidates = std::env::split_paths(&path).map(|folder| folder.join("qemu-system-x86_64"));
        let path = candidates.into_iter().find(|path| path.is_file()).ok_or(SystemError::NotFound)?;
        Self::at(&path, notice)
    }

    fn at(path: &Path, notice: Notice) -> Result<Self, SystemError> {
        let program = Program::direct(path);
        let output = program.command().arg("--version").output();
        let output = output.map_err(|source| SystemError::Run { path: path.to_path_buf(), source })?;
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let Some((version, number)) = parse_version(&output) else {
            return Err(SystemError::NoVersion { path: path.to_path_buf(), output });
        };
        if number < LEAST_VERSION {
            return Err(SystemError::TooOld { path: path.to_path_buf(), version });
        }
        let found = SYSTEM_FIRMWARE
            .iter()
            .find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file());
        let firmware = found.map(|(code, vars)| Firmware { code: code.into(), vars: vars.into() });
        Ok(Self { program, data: Vec::new(), firmware, version, notice })
    }

    /// QEMU's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The UEFI firmware, if there is one.
    pub fn firmware(&self) -> Option<&Firmware> {
        self.firmware.as_ref()
    }
}

/// The version in the first line of `qemu --version`, as text and as a number.
fn parse_version(output: &str) -> Option<(String, (u32, u32))> {
    let rest = output.lines().next()?.strip_prefix("QEMU emulator version ")?;
    let version = rest.split_ascii_whitespace().next()?;
    let mut numbers = version.split('.').map(str::parse);
    Some((version.to_owned(), (numbers.next()?.ok()?, numbers.next()?.ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions_are_read_from_the_first_line() {
        let cases = [
            ("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright", Some((10, 0))),
            ("QEMU emulator version 7.2.15", Some((7, 2))),
            ("QEMU emulator version x", None),
            ("qemu-img version 9.0", None),
            ("", None),
        ];
        for (output, want) in cases {
            assert_eq!(parse_version(output).map(|(_, number)| number), want, "{output:?}");
        }
    }

    #[test]
    fn a_qemu_before_8_2_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qemu-system-x86_64");
        let pretend = |version: &str| {
            std::fs::write(&path, format!("#!/bin/sh\necho 'QEMU emulator version {version} (x)'\n"))
                .unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Emulator::at(&path, Notice::stderr())
        };
        let error = pretend("8.1.5").unwrap_err().to_string();
        assert!(error.contains("is version 8.1.5: 8.2 or later is needed, because"), "{error}");
        assert_eq!(pretend("8.2.0").unwrap().version(), "8.2.0");
    }
}
