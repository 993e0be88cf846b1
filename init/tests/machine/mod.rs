//! The supervisor's shell as an ordinary process on the host: real processes, real sockets, no cgroups.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use init::control::{Client, JobRequest, Method, UnitView};

/// Long enough for a loaded machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Machine {
    pub folder: tempfile::TempDir,
    process: Child,
}

impl Machine {
    pub fn start(units: &[(&str, &str)]) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let unit_folder = folder.path().join("units");
        fs::create_dir(&unit_folder).unwrap();
        let targets = [
            ("sysinit.target", ""),
            ("basic.target", ""),
            ("shutdown.target", "[Unit]\nDefaultDependencies=no\n"),
            (
                "poweroff.target",
                "[Unit]\nDefaultDependencies=no\nRequires=shutdown.target\nAfter=shutdown.target\n",
            ),
        ];
        for (name, text) in targets.iter().chain(units) {
            let text = text.replace("DIR", folder.path().to_str().unwrap());
            fs::write(unit_folder.join(name), format!("{text}\n")).unwrap();
        }
        let process = Command::new(env!("CARGO_BIN_EXE_init"))
            .args(["supervise", "--units", unit_folder.to_str().unwrap(), "--run"])
            .args([folder.path().join("run").to_str().unwrap(), "--start", "default.target"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let machine = Machine { folder, process };
        wait_for("the control socket", || machine.client().is_some());
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn client(&self) -> Option<Client> {
        Client::connect_to(&self.path("run/control")).ok()
    }

    pub fn view(&self, unit: &str) -> UnitView {
        let answer = self.client().unwrap().call(Method::Show { unit: unit.to_owned() }).unwrap();
        answer.units.into_iter().next().unwrap()
    }

    pub fn job(&self, verb: &str, unit: &str) -> String {
        let request = JobRequest {
            unit: unit.to_owned(),
            verb: verb.to_owned(),
            mode: "replace".to_owned(),
            wait: true,
        };
        self.client().unwrap().call(Method::Job(request)).unwrap().result.unwrap()
    }

    /// Takes it down in order and waits for its end.
    pub fn power_off(mut self) {
        let request = JobRequest {
            unit: "poweroff.target".to_owned(),
            verb: "start".to_owned(),
            mode: "replace-irreversibly".to_owned(),
            wait: false,
        };
        self.client().unwrap().call(Method::Job(request)).unwrap();
        wait_for("the end", || self.process.try_wait().unwrap().is_some());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Already gone after an orderly end.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
