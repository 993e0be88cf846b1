//! PID 1 and its folders, for a machine's units.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use init::control::{Client, ClientError, JobRequest, Method, RefusalKind};
use init::unit_files::install::{InstallError, Installer};

use crate::agent::{LocalTask, LocalUnit, Observed};
use crate::name;
use crate::node::Record;
use crate::unit_file::UnitFile;

/// Folders of units that are the machine's own.
const OWN: [&str; 3] = ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];
/// Where PID 1 finds units of this boot.
const RUNTIME: &str = "run/systemd/system";

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The machine has such a unit without fleet.
    #[error("the machine has a unit of this name itself, {}", .0.display())]
    Taken(PathBuf),
    /// A file.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `[Install]`
    #[error("cannot enable it: {0}")]
    Enable(#[source] InstallError),
    /// PID 1 refuses, or is not there.
    #[error("{0}")]
    Refused(#[from] ClientError),
}

/// PID 1.
#[derive(Debug)]
pub struct Pid1 {
    root: PathBuf,
    units: PathBuf,
    socket: PathBuf,
}

impl Pid1 {
    /// That of the system below `root`, with unit files in a folder of it.
    #[must_use]
    pub fn new(root: &Path, units: &Path) -> Self {
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        Self {
            root: root.to_owned(),
            units: inside(units),
            socket: inside(Path::new(init::control::CONTROL_SOCKET)),
        }
    }

    /// The units whose files are there, with what the record says of them.
    #[must_use]
    pub fn inventory(&self, record: &Record) -> BTreeMap<String, LocalUnit> {
        let entries = fs::read_dir(&self.units).into_iter().flatten().flatten();
        let units = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name::check(&name).ok()?;
            // A file that cannot be read has no hash that is wanted: it is written anew.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let file = UnitFile::parse(&text).unwrap_or_default();
            let launched = record.launched.get(&name) == Some(&file.hash());
            let unit = LocalUnit::of(&name, &file, launched);
            Some((name, unit))
        });
        units.collect()
    }

    /// Carries out tasks, all of them, whatever becomes of the others. Files first, then one `daemon-reload`, then jobs.
    pub fn carry_out(&self, tasks: Vec<LocalTask>) -> Vec<(LocalTask, Result<(), String>)> {
        let mut done: Vec<(LocalTask, Result<(), TaskError>)> = Vec::new();
        let mut reload = false;
        for task in tasks {
            let result = match &task {
                LocalTask::Load(name, file) => Some(self.load(name, file)),
                LocalTask::Remove(name) => Some(self.remove(name)),
                LocalTask::Stop(_) | LocalTask::Start(_) => None,
            };
            reload |= matches!(result, Some(Ok(())));
            done.push((task, result.unwrap_or(Ok(()))));
        }
        let reloaded = if reload { self.call(Method::Reload {}).map(|_| ()) } else { Ok(()) };
        let results = done.into_iter().map(|(task, result)| {
            let result = match (&task, &reloaded) {
                (LocalTask::Load(..) | LocalTask::Remove(_), Err(error)) if result.is_ok() => {
                    Err(error.to_string())
                }
                (LocalTask::Stop(name), _) => self.job(name, "stop").map_err(|error| error.to_string()),
                (LocalTask::Start(name), _) => self.job(name, "start").map_err(|error| error.to_string()),
                _ => result.map_err(|error| error.to_string()),
            };
            (task, result)
        });
        results.collect()
    }

    /// What PID 1 says of units.
    ///
    /// # Errors
    /// It does not answer.
    pub fn observe<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, Observed>, ClientError> {
        let units: Vec<String> = names.cloned().collect();
        let gone = || Observed {
            load: "not-found".to_owned(),
            active: "inactive".to_owned(),
            sub: "dead".to_owned(),
            has_job: false,
        };
        let mut found: BTreeMap<String, Observed> = units.iter().map(|name| (name.clone(), gone())).collect();
        for view in self.call(Method::States { units })?.units {
            let observed =
                Observed { load: view.load, active: view.active, sub: view.sub, has_job: view.job.is_some() };
            found.insert(view.name, observed);
        }
        Ok(found)
    }

    /// The job that a unit has: `stop`, `restart` and so on.
    ///
    /// # Errors
    /// PID 1 does not answer.
    pub fn job_of(&self, unit: &str) -> Result<Option<String>, ClientError> {
        let units = vec![unit.to_owned()];
        Ok(self.call(Method::States { units })?.units.into_iter().next().and_then(|view| view.job))
    }

    fn call(&self, method: Method) -> Result<init::control::Answer, ClientError> {
        Client::connect_to(&self.socket)?.call(method)
    }

    fn job(&self, unit: &str, verb: &str) -> Result<(), ClientError> {
        let request = JobRequest {
            unit: unit.to_owned(),
            verb: verb.to_owned(),
            mode: "replace".to_owned(),
            wait: false,
        };
        match self.call(Method::Job(request)) {
            // Nobody has to stop what is not there.
            Err(ClientError::Refused(refusal))
                if verb == "stop" && refusal.kind == RefusalKind::NoSuchUnit =>
            {
                Ok(())
            }
            // A machine that goes down stops it by itself, and takes no other wishes.
            Err(ClientError::Refused(refusal))
                if verb == "stop" && refusal.kind == RefusalKind::NotPermitted =>
            {
                Ok(())
            }
            result => result.map(|_| ()),
        }
    }

    fn load(&self, name: &str, file: &UnitFile) -> Result<(), TaskError> {
        let taken = OWN
            .iter()
            .map(|folder| self.root.join(folder).join(name))
            .find(|path| path.symlink_metadata().is_ok());
        if let Some(path) = taken {
            return Err(TaskError::Taken(path));
        }
        let (path, link) = (self.units.join(name), self.root.join(RUNTIME).join(name));
        if link.symlink_metadata().is_ok_and(|data| !data.is_symlink()) {
            return Err(TaskError::Taken(link));
        }
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| TaskError::File { path, source }
        };
        let folder = self.root.join(RUNTIME);
        fs::create_dir_all(&self.units).map_err(wrong(&self.units))?;
        fs::create_dir_all(&folder).map_err(wrong(&folder))?;
        // Not a unit's name: nobody takes it for one. On a full disk nothing has changed afterwards, and nothing is left of it.
        let temporary = self.units.join(".new");
        let written = fs::write(&temporary, file.to_string())
            .and_then(|()| fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)));
        if let Err(source) = written {
            let _as_well_full = fs::remove_file(&temporary);
            return Err(TaskError::File { path, source });
        }
        self.unlink(name)?;
        fs::rename(&temporary, &path).map_err(wrong(&path))?;
        let target = Path::new("/").join(path.strip_prefix(&self.root).unwrap_or(&path));
        symlink(target, &link).map_err(wrong(&link))?;
        if file.has_section("Install")
            && let Err(error) = Installer::new(&self.root, true, true).enable(name)
        {
            // As if it had never been there; the next attempt begins anew.
            self.unlink(name)?;
            fs::remove_file(&path).map_err(wrong(&path))?;
            return Err(TaskError::Enable(error));
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), TaskError> {
        self.unlink(name)?;
        // A failure is not to be remembered of what is gone; one that PID 1 does not know has none.
        let _unknown = self.call(Method::ResetFailed { unit: Some(name.to_owned()) });
        let path = self.units.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(TaskError::File { path, source }),
            _ => Ok(()),
        }
    }

    /// Removes the links by which PID 1 finds a unit, and those by which others want it.
    fn unlink(&self, name: &str) -> Result<(), TaskError> {
        match Installer::new(&self.root, true, true).disable(name) {
            Ok(_) | Err(InstallError::NotFound(_)) => Ok(()),
            Err(error) => Err(TaskError::Enable(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fake::Fake;
    use std::sync::Arc;

    fn file(text: &str) -> Arc<UnitFile> {
        Arc::new(UnitFile::parse(text).unwrap())
    }

    /// Scenario 30, InstallUnit, as far as files go: a unit with `[Install]` is enabled for this boot, and not any more when it
    /// leaves.
    #[test]
    fn files_are_linked_enabled_and_removed() {
        let fake = Fake::new();
        let pid1 = Pid1::new(fake.root(), Path::new("/run/fleet/units"));
        let unit = file(
            "[Unit]\nBindsTo=main.service\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=main.service\n",
        );
        let done = pid1.carry_out(vec![LocalTask::Load("side.service".to_owned(), Arc::clone(&unit))]);
        assert!(done.iter().all(|(_, result)| result.is_ok()), "{done:?}");
        let run = fake.root().join(RUNTIME);
        assert_eq!(
            fs::read_link(run.join("side.service")).unwrap(),
            Path::new("/run/fleet/units/side.service")
        );
        assert!(run.join("main.service.wants/side.service").symlink_metadata().is_ok());
        assert_eq!(
            fs::read_to_string(fake.root().join("run/fleet/units/side.service")).unwrap(),
            unit.to_string()
        );
        assert_eq!(fake.take(), ["reload"]);
        let found = pid1.inventory(&Record::default());
        assert_eq!(found["side.service"].hash, unit.hash());
        // Another file, without [Install].
        let other = file("[Service]\nExecStart=/bin/false\n");
        pid1.carry_out(vec![LocalTask::Load("side.service".to_owned(), other)]);
        assert!(run.join("main.service.wants/side.service").symlink_metadata().is_err());
        assert!(run.join("side.service").symlink_metadata().is_ok());
        let done = pid1.carry_out(vec![LocalTask::Remove("side.service".to_owned())]);
        assert!(done.iter().all(|(_, result)| result.is_ok()), "{done:?}");
        assert!(run.join("side.service").symlink_metadata().is_err());
        assert!(pid1.inventory(&Record::default()).is_empty());
    }

    /// Complaint 7, at PID 1's side: all files of a round, then one `daemon-reload`, and only then jobs. Complaint 14: hundreds of units
    /// are one question.
    #[test]
    fn many_units_are_one_reload_and_one_question() {
        let fake = Fake::new();
        let pid1 = Pid1::new(fake.root(), Path::new("/run/fleet/units"));
        let names: Vec<String> = (0..300).map(|number| format!("u{number}.service")).collect();
        let unit = file("[Unit]\nRequires=u299.service\n[Service]\nExecStart=/bin/true\n");
        let load = |name: &String| LocalTask::Load(name.clone(), Arc::clone(&unit));
        // Even if somebody asks for a start first.
        let mut tasks = vec![LocalTask::Start("u0.service".to_owned())];
        tasks.extend(names.iter().map(load));
        let done = pid1.carry_out(tasks);
        assert!(done.len() == 301 && done.iter().all(|(_, result)| result.is_ok()), "{done:?}");
        assert_eq!(fake.take(), ["reload", "start u0.service"]);
        let seen = pid1.observe(names.iter()).unwrap();
        assert_eq!((seen.len(), fake.looks()), (300, 1));
    }

    /// The folder's disk is full: what was there stays, the unit says so, and the next attempt works.
    #[test]
    fn a_full_disk_changes_nothing() {
        let fake = Fake::new();
        let pid1 = Pid1::new(fake.root(), Path::new("/run/fleet/units"));
        let (old, new) =
            (file("[Service]\nExecStart=/bin/true\n"), file("[Service]\nExecStart=/bin/false\n"));
        let load = |unit: &Arc<UnitFile>| {
            pid1.carry_out(vec![LocalTask::Load("a.service".to_owned(), Arc::clone(unit))]).remove(0).1
        };
        load(&old).unwrap();
        // What is written there goes to a device that is always full.
        let units = fake.root().join("run/fleet/units");
        symlink("/dev/full", units.join(".new")).unwrap();
        let told = load(&new).unwrap_err();
        assert!(told.contains("run/fleet/units/a.service: No space left on device"), "{told}");
        assert_eq!(pid1.inventory(&Record::default())["a.service"].hash, old.hash());
        assert!(fake.root().join(RUNTIME).join("a.service").symlink_metadata().is_ok());
        assert!(units.join(".new").symlink_metadata().is_err());
        load(&new).unwrap();
        assert_eq!(pid1.inventory(&Record::default())["a.service"].hash, new.hash());
    }

    #[test]
    fn the_machines_own_units_are_left_alone_and_the_other_tasks_go_on() {
        let fake = Fake::new();
        let own = fake.root().join("usr/lib/systemd/system/ssh.service");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "[Service]\n").unwrap();
        let pid1 = Pid1::new(fake.root(), Path::new("/run/fleet/units"));
        let unit = file("[Service]\nExecStart=/bin/true\n");
        let tasks = vec![
            LocalTask::Load("ssh.service".to_owned(), Arc::clone(&unit)),
            LocalTask::Load("a.service".to_owned(), unit),
            LocalTask::Start("b.service".to_owned()),
        ];
        let done = pid1.carry_out(tasks);
        let told: Vec<bool> = done.iter().map(|(_, result)| result.is_ok()).collect();
        assert_eq!(told, [false, true, true]);
        assert!(done[0].1.as_ref().unwrap_err().contains("the machine has a unit of this name itself"));
        assert_eq!(fake.take(), ["reload", "start b.service"]);
        let seen = pid1.observe(["b.service".to_owned(), "c.service".to_owned()].iter()).unwrap();
        assert_eq!(
            (seen["b.service"].active.as_str(), seen["c.service"].load.as_str()),
            ("active", "not-found")
        );
    }
}
