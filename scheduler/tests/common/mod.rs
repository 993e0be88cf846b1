//! A cluster of one machine: fleetd in this process, PID 1 and etcd faked, and fleetctl as the program that it is.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod etcd;
#[path = "../../src/daemon/fake.rs"]
pub mod pid1;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::etcd::Etcd;
use self::pid1::Fake;

/// Tells a hang; nothing is timed by it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The machine's id.
pub const ID: &str = "0123456789abcdef0123456789abcdef";

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A machine whose fleetd runs in a thread.
pub struct Machine {
    pub pid1: Fake,
    pub etcd: Etcd,
    pub daemon: JoinHandle<anyhow::Result<()>>,
    /// Programs that are found before the system's.
    pub programs: PathBuf,
}

impl Machine {
    pub fn start() -> Self {
        let machine = Self::start_with(Etcd::start(), "");
        until("the machine is registered", || machine.fleetctl(&["list-machines"]).status.success());
        machine
    }

    /// `settings`: more lines of `fleet.conf`.
    pub fn start_with(etcd: Etcd, settings: &str) -> Self {
        let pid1 = Fake::new();
        let root = pid1.root().to_owned();
        for folder in ["etc/fleet", "run", "programs"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("etc/machine-id"), format!("{ID}\n")).unwrap();
        let config = format!("etcd_servers={}\npublic_ip=127.0.0.1\nmetadata=disk=ssd\n{settings}", etcd.url);
        fs::write(root.join("etc/fleet/fleet.conf"), config).unwrap();
        let programs = root.join("programs");
        symlink(env!("CARGO_BIN_EXE_fleetd"), programs.join("fleetctl")).unwrap();
        let daemon = thread::spawn(move || scheduler::daemon::serve(&root, None));
        Self { pid1, etcd, daemon, programs }
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.pid1.root().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A program that is found before the system's.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.programs.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.pid1.root().join("run/fleet.sock")
    }

    /// fleetctl without any endpoint.
    pub fn plain(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("fleetctl"));
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap());
        command.args(words).env("PATH", path).env("HOME", self.pid1.root()).current_dir(self.pid1.root());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FLEETCTL_")) {
            command.env_remove(name);
        }
        command
    }

    /// The answer at a path of the API, its head included.
    pub fn get(&self, path: &str) -> String {
        ask(UnixStream::connect(self.socket()).unwrap(), path)
    }

    pub fn fleetctl(&self, words: &[&str]) -> Output {
        let endpoint = format!("unix://{}", self.socket().display());
        self.plain(words).env("FLEETCTL_ENDPOINT", endpoint).output().unwrap()
    }

    /// A command that succeeds; its stdout.
    pub fn check(&self, words: &[&str]) -> String {
        succeeded(&self.fleetctl(words))
    }
}

/// The answer at a path, its head included.
pub fn ask(mut stream: UnixStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The stdout of a command that must have succeeded.
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The stderr of a command that must have failed with a status.
pub fn failed(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// As text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
