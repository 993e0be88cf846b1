//! `daemon-reexec`: PID 1 becomes a new program, and nothing that it looks after notices.
//!
//! The state goes through a memory file as JSON, descriptors stay open under their numbers. What cannot be carried over
//! is made anew: watches, cgroup events, the control connections of clients (who connect again).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::MemfdFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::health::Deadlines;
use super::journal::{JournalPorts, Lease};
use super::logs::LineBuffer;
use super::manager::ManagerEnvironment;
use super::process::RunIdentity;
use super::shell::{Entry, Shell, Stage};
use super::watches::Source;
use crate::early::watchdog::FD_VARIABLE;
use crate::supervisor::{Event, Level, Monotonic, ProcessId, Snapshot, SubState, UnitId, UnitKind};
use crate::sys::spawn::inherited;

/// Environment variable with the number of the memory file's descriptor.
const HANDOVER: &str = "FERRITE_HANDOVER_FD";

/// Everything that the next program needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handover {
    snapshot: Snapshot,
    processes: Vec<SavedProcess>,
    outputs: Vec<SavedOutput>,
    sockets: Vec<(String, RawFd)>,
    connections: Vec<SavedConnection>,
    #[serde(default)]
    stored: Vec<SavedStored>,
    last_connection: u32,
    notify: RawFd,
    control: RawFd,
    stage: Stage,
    started: Monotonic,
    awaited: Vec<String>,
    runs: Vec<(String, RunIdentity)>,
    /// `$MONITOR_INVOCATION_ID` of those who are started when these have ended.
    #[serde(default)]
    last_invocations: Vec<(String, String)>,
    /// `$TRIGGER_PATH` of what these path units have started.
    #[serde(default)]
    triggering_paths: Vec<(String, String)>,
    #[serde(default)]
    environment: ManagerEnvironment,
    /// Deadlines of boot and shutdown.
    pub deadlines: Deadlines,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedProcess {
    process: ProcessId,
    unit: String,
    pid: u32,
    /// It is not our child, so that its end is heard of otherwise.
    adopted: bool,
    /// Whether it runs its program was not known yet.
    unreported: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedOutput {
    unit: String,
    pid: u32,
    pipe: RawFd,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedConnection {
    socket: String,
    service: String,
    descriptor: RawFd,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedStored {
    service: String,
    name: String,
    descriptor: RawFd,
    polled: bool,
}

impl Handover {
    /// What an earlier program has left, if it has left something; an error when that cannot be understood.
    pub fn take() -> Option<io::Result<Handover>> {
        let number = std::env::var(HANDOVER).ok()?.parse().ok()?;
        let mut file = File::from(inherited(number)?);
        let mut text = Vec::new();
        let read = file.rewind().and_then(|()| file.read_to_end(&mut text));
        Some(read.and_then(|_| serde_json::from_slice(&text).map_err(io::Error::other)))
    }

    /// The sockets of PID 1 itself: notifications and control.
    pub fn own_sockets(&self) -> Option<(OwnedFd, OwnedFd)> {
        Some((inherited(self.notify)?, inherited(self.control)?))
    }
}

/// Descriptors that are to survive the next execve; those of a failed attempt do not stay so.
struct Kept<'a> {
    list: Vec<BorrowedFd<'a>>,
}

impl<'a> Kept<'a> {
    fn keep(&mut self, descriptor: BorrowedFd<'a>) -> io::Result<RawFd> {
        fcntl_setfd(descriptor, FdFlags::empty())?;
        self.list.push(descriptor);
        Ok(descriptor.as_raw_fd())
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        for descriptor in &self.list {
            // A descriptor that is open takes the flag.
            let _cannot_fail = fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
    }
}

impl Shell {
    /// Becomes the program that is installed now. Returns only when that cannot be, with everything as before.
    pub(super) fn reexecute(&mut self) -> io::Error {
        self.read_notifications();
        self.reap();
        match self.try_reexecute() {
            Ok(error) | Err(error) => error,
        }
    }

    fn try_reexecute(&self) -> io::Result<io::Error> {
        let mut kept = Kept { list: Vec::new() };
        let handover = self.hand_over(&mut kept)?;
        let text = serde_json::to_vec(&handover).map_err(io::Error::other)?;
        let mut file = File::from(rustix::fs::memfd_create("handover", MemfdFlags::CLOEXEC)?);
        file.write_all(&text)?;
        fcntl_setfd(&file, FdFlags::empty())?;
        let mut command = Command::new(program());
        command.args(std::env::args_os().skip(1).collect::<Vec<OsString>>());
        command.env(HANDOVER, file.as_raw_fd().to_string());
        if let Some(watchdog) = self.health.watchdog() {
            command.env(FD_VARIABLE, kept.keep(watchdog)?.to_string());
        }
        let lease = self.journal.as_ref().map(JournalPorts::hand_over);
        command.envs(lease.as_ref().map(Lease::variable));
        Ok(command.exec())
    }

    fn hand_over<'a>(&'a self, kept: &mut Kept<'a>) -> io::Result<Handover> {
        let name = |unit: UnitId| self.sup.name(unit).to_owned();
        let texts = |map: &BTreeMap<UnitId, String>| -> Vec<(String, String)> {
            map.iter().map(|(unit, text)| (name(*unit), text.clone())).collect()
        };
        let mut outputs = Vec::new();
        for (_, source) in self.watches.iter() {
            if let Source::Output { unit, pid, pipe, .. } = source {
                outputs.push(SavedOutput { unit: name(*unit), pid: *pid, pipe: kept.keep(pipe.as_fd())? });
            }
        }
        let mut sockets = Vec::new();
        for (unit, descriptor) in self.sockets.open_descriptors() {
            sockets.push((name(unit), kept.keep(descriptor.as_fd())?));
        }
        let mut connections = Vec::new();
        for (socket, service, descriptor) in self.sockets.open_connections() {
            let descriptor = kept.keep(descriptor.as_fd())?;
            connections.push(SavedConnection { socket: name(socket), service: name(service), descriptor });
        }
        let mut stored = Vec::new();
        for (service, one) in
            self.stored.iter().flat_map(|(unit, list)| list.iter().map(move |one| (*unit, one)))
        {
            let descriptor = kept.keep(one.descriptor.as_fd())?;
            let (service, polled) = (name(service), one.polled);
            stored.push(SavedStored { service, name: one.name.clone(), descriptor, polled });
        }
        let processes = self.processes.iter().map(|(process, entry)| SavedProcess {
            process: *process,
            unit: name(entry.unit),
            pid: entry.pid,
            adopted: entry.adopted.is_some(),
            unreported: entry.report.is_some(),
        });
        Ok(Handover {
            snapshot: self.sup.snapshot(),
            processes: processes.collect(),
            outputs,
            sockets,
            connections,
            stored,
            last_connection: self.last_connection,
            notify: kept.keep(self.notify.descriptor().as_fd())?,
            control: kept.keep(self.server.descriptor().as_fd())?,
            stage: self.stage,
            started: self.started,
            awaited: self.awaited.iter().map(|unit| name(*unit)).collect(),
            runs: self.runs.iter().map(|(unit, run)| (name(*unit), run.clone())).collect(),
            last_invocations: texts(&self.last_invocations),
            triggering_paths: texts(&self.triggering_paths),
            environment: self.environment.clone(),
            deadlines: self.health.deadlines(),
        })
    }

    /// Takes over what an earlier program has left, in a shell that has done nothing yet.
    pub(super) fn resume(&mut self, handover: Handover) {
        self.load(&handover.snapshot.names());
        self.sup.restore(handover.snapshot);
        self.last_connection = handover.last_connection;
        self.stage = handover.stage;
        self.environment = handover.environment;
        self.started = handover.started;
        for saved in handover.processes {
            let Some(unit) = self.sup.lookup(&saved.unit) else { continue };
            self.processes.insert(
                saved.process,
                Entry { unit, pid: saved.pid, report: None, adopted: None, failure: None, launch: None },
            );
            self.pids.insert(saved.pid, saved.process);
            if saved.adopted {
                self.processes.remove(&saved.process);
                self.pids.remove(&saved.pid);
                self.adopt(unit, saved.process, saved.pid);
            }
            if saved.unreported {
                // Had it failed, its end says so.
                self.events.push_back(Event::Executed { process: saved.process });
            }
        }
        for SavedOutput { unit, pid, pipe } in handover.outputs {
            let (Some(unit), Some(pipe)) = (self.sup.lookup(&unit), inherited(pipe)) else { continue };
            let source = |pipe| Source::Output { unit, pid, pipe, lines: LineBuffer::default() };
            if let Err(error) = self.watches.add_owned(pipe, source) {
                self.log_unit(Some(unit), Level::Error, &format!("its output is lost: {error}"));
            }
        }
        for (unit, descriptor) in handover.sockets {
            let (Some(unit), Some(descriptor)) = (self.sup.lookup(&unit), inherited(descriptor)) else {
                continue;
            };
            self.sockets.take_over(unit, descriptor);
        }
        for SavedConnection { socket, service, descriptor } in handover.connections {
            if let (Some(socket), Some(service), Some(descriptor)) =
                (self.sup.lookup(&socket), self.sup.lookup(&service), inherited(descriptor))
            {
                self.sockets.take_over_connection(socket, service, descriptor);
                self.sup.relate_connection(socket, service);
            }
        }
        // The newest first, as they are kept: each goes in front of those that are there.
        for SavedStored { service, name, descriptor, polled } in handover.stored.into_iter().rev() {
            if let (Some(unit), Some(descriptor)) = (self.sup.lookup(&service), inherited(descriptor)) {
                self.keep(unit, descriptor, name, polled);
            }
        }
        for unit in handover.awaited {
            self.awaited.extend(self.sup.lookup(&unit));
        }
        for (unit, run) in handover.runs {
            self.runs.extend(self.sup.lookup(&unit).map(|unit| (unit, run)));
        }
        for (unit, invocation) in handover.last_invocations {
            self.last_invocations.extend(self.sup.lookup(&unit).map(|unit| (unit, invocation)));
        }
        for (unit, path) in handover.triggering_paths {
            self.triggering_paths.extend(self.sup.lookup(&unit).map(|unit| (unit, path)));
        }
        for unit in self.sup.ids() {
            self.resume_unit(unit);
        }
        self.reap();
        self.say(Level::Notice, "the service manager was executed anew");
    }

    /// Watches again what was watched.
    fn resume_unit(&mut self, unit: UnitId) {
        let Some(found) = self.sup.unit(unit) else { return };
        match (found.spec.kind, found.sub) {
            (UnitKind::Socket, SubState::Listening) => self.watch_sockets(unit, true),
            (UnitKind::Path, SubState::Waiting | SubState::Running) => self.watch_paths(unit, true),
            (kind, _) if kind.has_processes() && found.run.populated => self.resume_group(unit),
            _ => {}
        }
    }

    fn resume_group(&mut self, unit: UnitId) {
        if let Err(error) = self.ensure_cgroup(unit) {
            let text = format!("its cgroup cannot be watched: {error}");
            return self.log_unit(Some(unit), Level::Error, &text);
        }
        self.tell_if_empty(unit);
    }
}

/// The program to become: what is installed now, or in a test this one.
fn program() -> PathBuf {
    let installed = Path::new(crate::INIT_PATH);
    if rustix::process::getpid().is_init() && installed.exists() {
        return installed.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| installed.to_owned())
}
