//! The server's end of the control socket.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, SocketType, accept_with, listen, send, sockopt};

use super::shell::{Shell, now};
use super::views;
use super::watches::Source;
use crate::control::{Answer, Call, Frames, JobRequest, Method, Refusal, RefusalKind, Reply};
use crate::supervisor::{
    JobId, JobKind, JobResult, KillTarget, Level, LoadState, Mode, PowerAction, RequestError, SubState,
    UnitId,
};
use crate::unix_socket;

/// Clients at one time; one more takes the place of one that can be spared.
const MOST_CLIENTS: usize = 128;
/// Unsent bytes after which a client that does not read is dropped.
const MOST_UNSENT: usize = 4 << 20;

/// Listener and clients.
#[derive(Debug)]
pub struct Server {
    listener: OwnedFd,
    clients: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    uid: u32,
    frames: Frames,
    unsent: Vec<u8>,
    /// The job whose end this client waits for.
    waits_for: Option<JobId>,
}

impl Server {
    /// Makes the socket at `path`.
    ///
    /// # Errors
    /// The kernel's, for the folder, the socket or its name.
    pub fn open(path: &Path) -> io::Result<Server> {
        let listener = unix_socket::make(path, SocketType::STREAM, 0o666)?;
        listen(&listener, 64)?;
        Ok(Server { listener, clients: BTreeMap::new() })
    }

    /// Takes over the socket of an earlier program of this process.
    pub fn take_over(listener: OwnedFd) -> Server {
        Server { listener, clients: BTreeMap::new() }
    }

    /// Whether some client has not read all of its answers yet.
    pub fn is_busy(&self) -> bool {
        self.clients.values().any(|client| !client.unsent.is_empty())
    }

    /// The listening descriptor, to be polled.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.listener
    }

    /// Whom to hang up on for a new client: whoever holds a connection and says nothing must not keep others out, and a socket with clients
    /// that nobody takes in would keep the loop busy. First those that may change nothing, then those that wait for nothing, the oldest of
    /// them.
    fn spared(&self) -> Option<u64> {
        let worth = |client: &Connection| (client.uid == 0, client.waits_for.is_some());
        self.clients.iter().min_by_key(|(key, client)| (worth(client), **key)).map(|(key, _)| *key)
    }

    /// Tells the clients that wait for a job.
    pub fn job_finished(&mut self, job: JobId, result: JobResult) {
        for client in self.clients.values_mut().filter(|client| client.waits_for == Some(job)) {
            client.waits_for = None;
            let answer = Answer { result: Some(result.word().to_owned()), ..Answer::default() };
            client.reply(&Reply { parameters: Some(answer), error: None });
        }
    }
}

impl Connection {
    fn reply(&mut self, reply: &Reply) {
        // Serialising plain data into memory does not fail.
        if let Ok(mut text) = serde_json::to_vec(reply) {
            text.push(0);
            self.unsent.extend(text);
            self.flush();
        }
    }

    /// Sends what the socket takes; false when the client is lost.
    fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => drop(self.unsent.drain(..count.min(self.unsent.len()))),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        self.unsent.len() <= MOST_UNSENT
    }
}

fn refused(kind: RefusalKind, text: &str) -> Refusal {
    Refusal { text: text.to_owned(), kind }
}

pub(super) fn not_loaded(unit: &str) -> Refusal {
    refused(RefusalKind::NoSuchUnit, &format!("Unit {unit} not loaded."))
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Refusal {
        let kind = match &error {
            RequestError::NotFound(_) => RefusalKind::NoSuchUnit,
            RequestError::NoReload(_) | RequestError::Unsupported(_) => RefusalKind::NotApplicable,
            RequestError::Manual(_)
            | RequestError::NoIsolate(_)
            | RequestError::Irreversible(_)
            | RequestError::Destructive(_) => RefusalKind::NotPermitted,
            _ => RefusalKind::Other,
        };
        Refusal { text: error.to_string(), kind }
    }
}

impl Shell {
    pub(super) fn accept_clients(&mut self) {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match accept_with(&self.server.listener, flags) {
                Ok(socket) => socket,
                Err(error) => {
                    if self.spare.refuse(&self.server.listener, error) {
                        self.say(Level::Warning, &format!("a client was refused: {error}"));
                    }
                    return;
                }
            };
            while self.server.clients.len() >= MOST_CLIENTS {
                let Some(key) = self.server.spared() else { break };
                self.watches.remove(key);
                self.server.clients.remove(&key);
            }
            let Ok(credentials) = sockopt::socket_peercred(&socket) else { continue };
            let uid = credentials.uid.as_raw();
            if let Ok(key) = self.watches.add(socket.as_fd(), Source::Client) {
                let connection = Connection {
                    socket,
                    uid,
                    frames: Frames::default(),
                    unsent: Vec::new(),
                    waits_for: None,
                };
                self.server.clients.insert(key, connection);
            }
        }
    }

    pub(super) fn serve_client(&mut self, key: u64) {
        if !self.try_serve(key) {
            self.watches.remove(key);
            self.server.clients.remove(&key);
            return;
        }
        self.flush_clients();
    }

    /// Lets clients whose sockets were full have the rest, and asks to be told when they can take more.
    fn flush_clients(&mut self) {
        let mut lost = Vec::new();
        for (key, client) in &mut self.server.clients {
            if !client.flush() {
                lost.push(*key);
            }
        }
        for key in lost {
            self.watches.remove(key);
            self.server.clients.remove(&key);
        }
        for (key, client) in &self.server.clients {
            // Modifying a descriptor that is watched does not fail.
            let _cannot_fail = self.watches.want_output(&client.socket, *key, !client.unsent.is_empty());
        }
    }

    /// Reads what the client sent; false when it is gone or talks nonsense.
    fn try_serve(&mut self, key: u64) -> bool {
        let Some(client) = self.server.clients.get_mut(&key) else { return false };
        let mut bytes = [0; 8192];
        let count = match rustix::io::read(&client.socket, &mut bytes) {
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) | Ok(0) => return false,
            Ok(count) => count,
        };
        let Some(messages) = client.frames.push(bytes.get(..count).unwrap_or_default()) else { return false };
        let uid = client.uid;
        for message in messages {
            let reply = match serde_json::from_slice::<Call>(&message) {
                Err(error) => Some(Err(format!("org.varlink.service.InvalidParameter: {error}").into())),
                Ok(call) => self.answer(key, uid, call.method),
            };
            let Some(reply) = reply else { continue };
            let Some(client) = self.server.clients.get_mut(&key) else { return false };
            client.reply(&match reply {
                Ok(answer) => Reply { parameters: Some(answer), error: None },
                Err(error) => Reply { parameters: None, error: Some(error) },
            });
        }
        true
    }

    /// The answer to a call; `None` when it comes later.
    fn answer(&mut self, key: u64, uid: u32, method: Method) -> Option<Result<Answer, Refusal>> {
        let changes = !matches!(
            method,
            Method::List {}
                | Method::Show { .. }
                | Method::States { .. }
                | Method::Jobs {}
                | Method::State {}
                | Method::Timers {}
                | Method::Sockets {}
                | Method::Manager {}
        );
        let changes = changes
            && !matches!(&method, Method::Environment { set, unset } if set.is_empty() && unset.is_empty());
        if changes && uid != 0 && uid != rustix::process::geteuid().as_raw() {
            return Some(Err(refused(RefusalKind::NotPermitted, "Access denied: only root may do that.")));
        }
        let done = || Answer { result: Some("done".to_owned()), ..Answer::default() };
        Some(Ok(match method {
            Method::Job(request) => return self.job(key, &request),
            Method::List {} => Answer { units: views::all(self), ..Answer::default() },
            Method::Show { unit } => {
                self.load(std::slice::from_ref(&unit));
                let id = self.sup.lookup(&unit);
                Answer {
                    units: id.map(|id| views::detailed(self, id)).into_iter().collect(),
                    ..Answer::default()
                }
            }
            Method::States { units } => {
                let named = units.iter().filter_map(|name| {
                    let view = views::brief(self, self.sup.lookup(name)?)?;
                    Some(crate::control::UnitView { name: name.clone(), ..view })
                });
                Answer { units: named.collect(), ..Answer::default() }
            }
            Method::Jobs {} => Answer { jobs: views::jobs(self), ..Answer::default() },
            Method::State {} => Answer { state: Some(views::state(self).to_owned()), ..Answer::default() },
            Method::Reload {} => {
                self.reload_files();
                done()
            }
            Method::Reexec {} => {
                self.wants_reexec = true;
                done()
            }
            Method::Timers {} => Answer { timers: views::timers(self), ..Answer::default() },
            Method::Sockets {} => Answer { sockets: views::sockets(self), ..Answer::default() },
            Method::Manager {} => Answer { properties: self.manager_properties(), ..Answer::default() },
            Method::Environment { set, unset } => return Some(self.change_environment(&set, &unset)),
            Method::Freeze { unit, freeze } => return Some(self.freeze(&unit, freeze)),
            Method::Cancel { job } => return Some(self.cancel_jobs(job)),
            Method::ResetFailed { unit } => {
                let ids: Vec<UnitId> = match unit {
                    None => self.sup.ids().collect(),
                    Some(name) => match self.sup.lookup(&name) {
                        Some(id) => vec![id],
                        None => return Some(Err(not_loaded(&name))),
                    },
                };
                let mut effects = Vec::new();
                ids.into_iter().for_each(|id| self.sup.reset_failed(now(), id, &mut effects));
                self.carry_out(effects);
                done()
            }
            Method::Kill { unit, signal, whom } => {
                // One that is neither up nor failed has no processes, and systemd would have forgotten it.
                let idle = |id: &UnitId| {
                    let found = self.sup.unit(*id);
                    found.is_none_or(|found| found.sub == SubState::Dead && found.job.is_none())
                };
                let Some(id) = self.sup.lookup(&unit).filter(|id| !idle(id)) else {
                    return Some(Err(not_loaded(&unit)));
                };
                if !(1..=64).contains(&signal) {
                    return Some(Err(format!("{signal} is no signal.").into()));
                }
                let process = self.sup.unit(id).map(|unit| (unit.run.main, unit.run.control));
                let target = match (whom.as_str(), process) {
                    ("" | "all", _) => KillTarget::Group,
                    ("main", Some((Some(main), _))) => KillTarget::Process(main.id),
                    ("control", Some((_, Some(control)))) => KillTarget::Process(control.id),
                    ("main" | "control", _) => {
                        return Some(Err(format!("Unit {unit} has no {whom} process.").into()));
                    }
                    _ => return Some(Err(format!("{whom} is none of all, main and control.").into())),
                };
                self.execute(crate::supervisor::Effect::Kill { unit: id, target, signal });
                done()
            }
            Method::ForcePower { action } => {
                self.power = Some(match action.as_str() {
                    "reboot" => PowerAction::Reboot,
                    "halt" => PowerAction::Halt,
                    _ => PowerAction::PowerOff,
                });
                done()
            }
        }))
    }

    /// `systemctl cancel`: one job, or all of them.
    fn cancel_jobs(&mut self, job: Option<u32>) -> Result<Answer, Refusal> {
        let all = self.sup.ids().filter_map(|id| Some(self.sup.unit(id)?.job.as_ref()?.id));
        let jobs: Vec<JobId> = match job {
            Some(number) => vec![JobId(number)],
            None => all.collect(),
        };
        let mut effects = Vec::new();
        let mut known = false;
        for job in &jobs {
            known |= self.sup.cancel_job(now(), *job, &mut effects);
        }
        self.carry_out(effects);
        match job {
            Some(number) if !known => Err(format!("Job {number} does not exist.").into()),
            _ => Ok(Answer { result: Some("done".to_owned()), ..Answer::default() }),
        }
    }

    fn job(&mut self, key: u64, request: &JobRequest) -> Option<Result<Answer, Refusal>> {
        let queued = |result: &str| Some(Ok(Answer { result: Some(result.to_owned()), ..Answer::default() }));
        self.load(std::slice::from_ref(&request.unit));
        let Some(id) = self.sup.lookup(&request.unit) else {
            return Some(Err(RequestError::NotFound(request.unit.clone()).into()));
        };
        let unit = self.sup.unit(id)?;
        let (up, loaded) = (!unit.active().is_down(), unit.spec.load.clone());
        let can_reload = self.sup.can_reload(id);
        let kind = match request.verb.as_str() {
            "start" => JobKind::Start,
            "stop" | "try-restart" | "condrestart" if loaded == LoadState::NotFound && !up => {
                return Some(Err(not_loaded(&request.unit)));
            }
            "stop" => JobKind::Stop,
            "restart" => JobKind::Restart,
            "try-restart" | "condrestart" => JobKind::TryRestart,
            "reload" => JobKind::Reload,
            "reload-or-restart" | "force-reload" if can_reload => JobKind::ReloadOrStart,
            "reload-or-restart" | "force-reload" => JobKind::Restart,
            "try-reload-or-restart" if can_reload => JobKind::TryReload,
            "try-reload-or-restart" => JobKind::TryRestart,
            other => return Some(Err(format!("Unknown verb {other}.").into())),
        };
        let mode = match request.mode.as_str() {
            "isolate" => Mode::Isolate,
            "replace-irreversibly" => Mode::ReplaceIrreversibly,
            "fail" => Mode::Fail,
            "flush" => Mode::Flush,
            "ignore-dependencies" => Mode::IgnoreDependencies,
            "ignore-requirements" => Mode::IgnoreRequirements,
            "restart-dependencies" => Mode::RestartDependencies,
            "replace" | "" => Mode::Replace,
            other => return Some(Err(format!("Unknown job mode {other}.").into())),
        };
        let mut effects = Vec::new();
        let requested = self.sup.request_by_hand(now(), id, kind, mode, &mut effects);
        let answer = match requested {
            Err(error) => Some(Err(error.into())),
            Ok(job) if request.wait => {
                let client = self.server.clients.get_mut(&key)?;
                client.waits_for = Some(job);
                None
            }
            Ok(_) => queued("queued"),
        };
        if mode == Mode::ReplaceIrreversibly && matches!(answer, None | Some(Ok(_))) {
            self.stopping();
        }
        self.log_unit(Some(id), Level::Info, &format!("{} requested", request.verb));
        self.carry_out(effects);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_kind_they_are() {
        let name = || "a.service".to_owned();
        for (error, kind) in [
            (RequestError::NotFound(name()), RefusalKind::NoSuchUnit),
            (RequestError::NoReload(name()), RefusalKind::NotApplicable),
            (RequestError::Manual(name()), RefusalKind::NotPermitted),
            (RequestError::NoIsolate(name()), RefusalKind::NotPermitted),
            (RequestError::Masked(name()), RefusalKind::Other),
        ] {
            let text = error.to_string();
            assert_eq!(Refusal::from(error), Refusal { text, kind });
        }
    }
}
