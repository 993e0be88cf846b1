//! Effects into deeds.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use image_config::unit::ExecContext;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::conditions;
use super::journal;
use super::logs::LineBuffer;
use super::process::{self, Circumstances, RunIdentity};
use super::shell::{Entry, Shell, Stage};
use super::translate;
use super::watches::Source;
use crate::boot::marks;
use crate::supervisor::{
    CommandRef, ConditionOutcome, Edge, Effect, Event, ExitStatus, JobId, JobKind, JobResult, KillTarget,
    Level, Phase, ProcessId, SubState, UnitId, UnitKind,
};
use crate::sys::{signals, spawn};

/// The target that makes an unconfirmed boot a good one.
const BOOT_COMPLETE: &str = "boot-complete.target";

impl Shell {
    pub(super) fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::CheckConditions { unit } => {
                let outcome = match self.units.get(&unit) {
                    Some(file) => conditions::check(&file.common, &self.facts),
                    None => ConditionOutcome::Met,
                };
                self.events.push_back(Event::Conditions { unit, outcome });
            }
            Effect::Spawn { unit, process, command, main_pid } => {
                self.spawn(unit, process, command, main_pid)
            }
            Effect::Kill { unit, target, signal } => self.kill(unit, target, signal),
            Effect::KillGroup { unit } => {
                match &self.cgroups {
                    Some(cgroups) => cgroups.kill(unit),
                    None => self.kill_known(unit, libc::SIGKILL),
                }
                self.tell_if_empty(unit);
            }
            Effect::Adopt { unit, process, pid } => self.adopt(unit, process, pid),
            Effect::FindMain { unit } => {
                self.awaited.insert(unit);
                self.look_for_daemons();
            }
            Effect::Release { unit, restarting, automatically } => {
                self.release(unit, restarting, automatically)
            }
            Effect::Changed { unit } => self.changed(unit),
            Effect::JobFinished { job, unit, kind, result } => self.job_finished(job, unit, kind, result),
            Effect::Log { unit, level, text } => self.log_unit(unit, level, &text),
            Effect::Power(action) => self.power = Some(action),
            other => self.execute_for_trigger(other),
        }
    }

    fn spawn(&mut self, unit: UnitId, process: ProcessId, command: CommandRef, main_pid: Option<u32>) {
        match self.try_spawn(unit, process, command, main_pid) {
            Ok(pid) => self.events.push_back(Event::Spawned { process, pid }),
            Err(reason) => self.events.push_back(Event::SpawnFailed { process, code: None, reason }),
        }
    }

    fn try_spawn(
        &mut self,
        unit: UnitId,
        process: ProcessId,
        place: CommandRef,
        main_pid: Option<u32>,
    ) -> Result<u32, String> {
        let resources = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let mut variables = self.variables(unit, place.phase);
        let descriptors = if place.phase == Phase::Start { self.descriptors_for(unit) } else { Vec::new() };
        let run = self.run_identity(unit);
        self.thaw(unit);
        self.ensure_cgroup(unit).map_err(resources("cannot make its cgroup"))?;
        let service = super::shell::commands_of(&self.units, &self.hooks, unit);
        let service = service.ok_or_else(|| "it has no commands".to_owned())?;
        let command = translate::commands(service, place.phase).get(place.index);
        let command = command.ok_or_else(|| "its unit file has changed".to_owned())?;
        if let Some(journal) = &mut self.journal {
            journal.publish(self.sup.name(unit), &service.exec);
        }
        let (log, output) =
            self.log_for(unit, &service.exec, &command.program).map_err(resources("cannot log"))?;
        variables.extend(journal::stream_variable(&log).map(|value| ("JOURNAL_STREAM", value)));
        let is_journal = self.sup.name(unit) == journal::UNIT;
        let lease = self.journal.as_ref().filter(|_| is_journal).map(journal::JournalPorts::lend);
        variables.extend(lease.as_ref().map(journal::Lease::variable));
        let how = Circumstances {
            root: &self.root,
            unit: self.sup.name(unit),
            service,
            phase: place.phase,
            main_pid,
            variables,
            log: log.as_fd(),
            run: &run,
            descriptors,
            cgroup: self.cgroups.as_ref().and_then(|cgroups| cgroups.path(unit)).map(Path::to_owned),
            locale: &self.locale,
            manager: &self.environment,
        };
        let folder = self.cgroups.as_ref().and_then(|cgroups| cgroups.start_folder(unit));
        let child = match (&self.null, process::launch(command, &how)) {
            (Some(null), Some(launch)) => launch
                .start(folder, [null.as_fd(), log.as_fd(), log.as_fd()])
                .map(|(child, launch)| (child, Some(launch))),
            _ => spawn::spawn(folder, |report| process::become_program(command, how, report))
                .map(|child| (child, None)),
        };
        let (child, launch) = child.map_err(resources("cannot fork"))?;
        drop((log, lease));
        let report = self.watches.add_owned(child.report, |pipe| Source::Report(process, pipe)).ok();
        let source = |pipe| Source::Output { unit, pid: child.pid, pipe, lines: LineBuffer::default() };
        if let Some(Err(error)) = output.map(|output| self.watches.add_owned(output, source)) {
            self.log_unit(Some(unit), Level::Error, &format!("its output is lost: {error}"));
        }
        let entry = Entry { unit, pid: child.pid, report, adopted: None, failure: None, launch };
        self.processes.insert(process, entry);
        self.pids.insert(child.pid, process);
        Ok(child.pid)
    }

    /// Where a process's output goes: the journal's stream, else a pipe whose other end comes along.
    fn log_for(
        &self,
        unit: UnitId,
        exec: &ExecContext,
        program: &str,
    ) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        if let Some(journal) = &self.journal {
            return Ok((journal.stream_for(self.sup.name(unit), exec, program)?, None));
        }
        let (output, child_output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok((child_output, Some(output)))
    }

    /// What the processes of the unit's present start share; made by the first of them.
    fn run_identity(&mut self, unit: UnitId) -> RunIdentity {
        if let Some(run) = self.runs.get(&unit) {
            return run.clone();
        }
        let service = self.units.get(&unit).and_then(|file| file.service());
        let dynamic = service.is_some_and(|service| service.exec.sandbox.dynamic_user);
        let is_taken = |id| self.runs.values().any(|run| run.dynamic_id == Some(id));
        let run = RunIdentity::new(self.sup.name(unit), dynamic, is_taken);
        self.runs.insert(unit, run.clone());
        run
    }

    /// Makes the control group of a slice that is up, with the settings that its files have now; takes that of one that
    /// is down away.
    pub(super) fn update_slice(&mut self, unit: UnitId) {
        let starting = self.stage != Stage::Up;
        let (Some(cgroups), Some(file), Some(found)) =
            (&self.cgroups, self.units.get(&unit), self.sup.unit(unit))
        else {
            return;
        };
        let Some(resources) = file.resources().filter(|_| found.spec.kind == UnitKind::Slice) else { return };
        if !found.active().is_up() {
            return cgroups.remove_slice(file.name.as_str());
        }
        match cgroups.configure_slice(file.name.as_str(), resources, starting) {
            Ok(problems) => {
                problems.iter().for_each(|problem| self.log_unit(Some(unit), Level::Warning, problem));
            }
            Err(error) => {
                let text = format!("cannot make its cgroup: {error}");
                self.log_unit(Some(unit), Level::Error, &text);
            }
        }
    }

    /// The same for all slices that are up.
    pub(super) fn update_slices(&mut self) {
        for unit in self.sup.ids() {
            if self.sup.unit(unit).is_some_and(|unit| unit.sub == SubState::Active) {
                self.update_slice(unit);
            }
        }
    }

    /// Gives the control groups that there are the settings that their units' files have now.
    pub(super) fn update_groups(&mut self) {
        let starting = self.stage != Stage::Up;
        for unit in self.sup.ids() {
            let (Some(cgroups), Some(file)) = (&mut self.cgroups, self.units.get(&unit)) else { continue };
            let Some(resources) = file.resources() else { continue };
            for problem in cgroups.reconfigure(unit, resources, starting) {
                self.log_unit(Some(unit), Level::Warning, &problem);
            }
        }
    }

    /// Makes the unit's control group.
    pub(super) fn ensure_cgroup(&mut self, unit: UnitId) -> io::Result<()> {
        let starting = self.stage != Stage::Up;
        let (Some(cgroups), Some(file)) = (&mut self.cgroups, self.units.get(&unit)) else { return Ok(()) };
        let Some(resources) = file.resources() else { return Ok(()) };
        if cgroups.path(unit).is_some() {
            return Ok(());
        }
        for problem in cgroups.ensure(unit, &file.name, resources, starting)? {
            self.log_unit(Some(unit), Level::Warning, &problem);
        }
        Ok(())
    }

    fn kill(&mut self, unit: UnitId, target: KillTarget, signal: i32) {
        self.thaw(unit);
        match target {
            KillTarget::Process(process) => {
                if let Some(entry) = self.processes.get(&process) {
                    signals::send(entry.pid, signal);
                }
            }
            KillTarget::Group => {
                match &self.cgroups {
                    Some(cgroups) if cgroups.is_populated(unit) => cgroups.signal(unit, signal),
                    Some(_) => {}
                    None => self.kill_known(unit, signal),
                }
                self.tell_if_empty(unit);
            }
        }
    }

    /// Without cgroups only the processes that PID 1 has started itself are known.
    fn kill_known(&self, unit: UnitId, signal: i32) {
        self.processes
            .values()
            .filter(|entry| entry.unit == unit)
            .for_each(|entry| signals::send(entry.pid, signal));
    }

    pub(super) fn tell_if_empty(&mut self, unit: UnitId) {
        let populated = match &self.cgroups {
            Some(cgroups) => cgroups.is_populated(unit),
            None => self.processes.values().any(|entry| entry.unit == unit),
        };
        if !populated {
            self.events.push_back(Event::GroupEmpty { unit });
        }
    }

    pub(super) fn adopt(&mut self, unit: UnitId, process: ProcessId, pid: u32) {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let opened = raw.and_then(|raw| pidfd_open(raw, PidfdFlags::empty()).ok());
        let Some(opened) = opened else {
            self.log_unit(Some(unit), Level::Warning, &format!("its main process {pid} is gone"));
            self.events.push_back(Event::Exited { process, status: ExitStatus::Unknown });
            return;
        };
        let adopted = self.watches.add_owned(opened, |pidfd| Source::Adopted(process, pidfd)).ok();
        let entry = Entry { unit, pid, report: None, adopted, failure: None, launch: None };
        self.processes.insert(process, entry);
        self.pids.insert(pid, process);
    }

    /// Looks for the daemons of forking services: by PID file, else the only process of the unit. A PID file is awaited for
    /// as long as there is somebody to write it; how long a start may take is the supervisor's business.
    pub(super) fn look_for_daemons(&mut self) {
        for unit in self.awaited.clone() {
            let service = self.units.get(&unit).and_then(|file| file.service());
            let pid_file = service.and_then(|service| service.pid_file.clone());
            let pid = match &pid_file {
                Some(path) => self.pid_from_file(unit, Path::new(path)),
                None => self.only_process(unit),
            };
            let has_processes = self.cgroups.as_ref().is_none_or(|cgroups| cgroups.is_populated(unit));
            if pid.is_some() || pid_file.is_none() || !has_processes {
                self.awaited.remove(&unit);
                self.events.push_back(Event::MainFound { unit, pid });
            }
        }
    }

    /// The PID in a file, if that process is one of the unit's: a stale file must not make PID 1 watch a stranger.
    fn pid_from_file(&self, unit: UnitId, path: &Path) -> Option<u32> {
        let pid: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        let is_its = match &self.cgroups {
            Some(cgroups) => cgroups.processes(unit).contains(&pid),
            None => Path::new(&format!("/proc/{pid}")).exists(),
        };
        is_its.then_some(pid)
    }

    fn only_process(&self, unit: UnitId) -> Option<u32> {
        match self.cgroups.as_ref()?.processes(unit).as_slice() {
            [pid] => Some(*pid),
            _ => None,
        }
    }

    fn release(&mut self, unit: UnitId, restarting: bool, automatically: bool) {
        use image_config::unit::DirectoryPreserve;
        self.awaited.remove(&unit);
        self.release_stored(unit, restarting);
        if let Some(cgroups) = &mut self.cgroups
            && !automatically
        {
            cgroups.release(unit);
        }
        let run = self.runs.remove(&unit);
        let Some(service) = self.units.get(&unit).and_then(|file| file.service()) else { return };
        let name = self.sup.name(unit);
        if let Some(run) = run {
            let is_monitored = self.sup.unit(unit).is_some_and(|found| {
                [Edge::OnFailure, Edge::OnSuccess]
                    .into_iter()
                    .any(|edge| found.related(edge).next().is_some())
            });
            if is_monitored {
                self.last_invocations.insert(unit, run.invocation.clone());
            }
            let folders = process::private_tmp_folders(&service.exec, name, &run, &self.root);
            remove_in_background(folders);
        }
        if let Some(path) = &service.pid_file {
            // Mostly the daemon has done that; one that it left behind would be taken for the next daemon's.
            let _gone = fs::remove_file(path);
        }
        let stays = match service.exec.runtime_directory_preserve {
            DirectoryPreserve::Yes => true,
            DirectoryPreserve::Restart => restarting,
            DirectoryPreserve::No => false,
        };
        let mut folders =
            if stays { Vec::new() } else { process::runtime_folders(&service.exec, &self.root) };
        if !(service.exec.load_credentials.is_empty() && service.exec.set_credentials.is_empty()) {
            folders.push(process::credentials_folder(&self.root, name));
        }
        let problems: Vec<String> = folders
            .iter()
            .filter_map(|folder| {
                let removed =
                    if folder.is_symlink() { fs::remove_file(folder) } else { fs::remove_dir_all(folder) };
                let error = removed.err().filter(|error| error.kind() != io::ErrorKind::NotFound)?;
                Some(format!("cannot remove {}: {error}", folder.display()))
            })
            .collect();
        for problem in problems {
            self.log_unit(Some(unit), Level::Warning, &problem);
        }
    }

    fn changed(&mut self, unit: UnitId) {
        let Some(found) = self.sup.unit(unit) else { return };
        let (sub, restarts) = (found.sub, found.run.restarts);
        // The state before this one, failed or dead, is told in the same breath.
        if sub == SubState::AutoRestart
            && self.restart_told.replace((unit, restarts)) != Some((unit, restarts))
        {
            let text = format!("will be started again (restart {restarts})");
            self.log_unit(Some(unit), Level::Notice, &text);
        }
        self.update_slice(unit);
        let name = self.sup.name(unit);
        if sub == SubState::Active && name == BOOT_COMPLETE {
            self.health.boot_is_complete();
            marks::record("complete");
        }
        if sub == SubState::Running && name == "etcd.service" {
            marks::record("etcd");
        }
    }

    fn job_finished(&mut self, job: JobId, unit: UnitId, kind: JobKind, result: JobResult) {
        self.server.job_finished(job, result);
        let Some(found) = self.sup.unit(unit) else { return };
        let is_service = found.spec.kind == UnitKind::Service;
        let name = found.spec.name.clone();
        let description = found.spec.description.clone();
        let reason = found.run.reason.clone();
        let restarted = found.run.restarts > 0;
        match (kind, result) {
            (JobKind::Start, JobResult::Done) => {
                let word = if is_service { "Started" } else { "Reached" };
                if is_service && self.stage == Stage::Starting && !restarted {
                    self.console.good(format_args!("{word} {description}"));
                }
                if name.contains("getty@") || name.starts_with("rescue.") || name.starts_with("emergency.") {
                    self.console.set_quiet(true);
                }
                self.log_unit(Some(unit), Level::Info, &format!("{} {description}", word.to_lowercase()));
            }
            (JobKind::Stop, JobResult::Done) => {
                if is_service && self.stage == Stage::Stopping {
                    self.console.good(format_args!("Stopped {description}"));
                }
                self.log_unit(Some(unit), Level::Info, &format!("stopped {description}"));
            }
            (
                JobKind::Start,
                JobResult::Failed | JobResult::Timeout | JobResult::Assert | JobResult::Unsupported,
            ) => {
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                self.console.bad(format_args!("{description} ({name}){reason}"));
            }
            (JobKind::Start | JobKind::VerifyActive, JobResult::Dependency) => {
                self.console
                    .bad(format_args!("{description} ({name}): something that it requires did not start"));
                self.log_unit(
                    Some(unit),
                    Level::Error,
                    "not started: something that it requires did not start",
                );
            }
            _ => {}
        }
    }
}

/// Removes folders that may be on a disk and large. They have names that nothing else will ever have, so nobody needs
/// to wait for it; what cannot be removed is left to the next cleaning of `/tmp`.
fn remove_in_background(folders: Vec<PathBuf>) {
    if folders.iter().any(|folder| folder.exists()) {
        let _without_a_process = spawn::detached(|| {
            for folder in &folders {
                let _left = fs::remove_dir_all(folder);
            }
        });
    }
}
