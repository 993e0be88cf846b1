//! `watch` and `exec-watch`: the shell around [`super::changes`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

use super::changes::{Circumstances, Group};
use super::failure::Failure;
use super::path::Path;
use super::plan::{Fault, code};
use super::session::{Attempts, Session};
use super::show;
use super::tree::Response;
use crate::client::Client;
use crate::message::{Event, EventKind, KeyRange, Revision};
use crate::watch::{Update, Watch};

/// The most that a call of a watch may take: it outlives elections.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The node.
    pub path: Path,
    /// Whether all below it, too.
    pub recursive: bool,
    /// Changes after this revision; 0: from now on.
    pub after: u64,
}

impl Watched {
    fn ranges(&self) -> Vec<KeyRange> {
        let own = (!self.path.is_root()).then(|| KeyRange::key(self.path.key()));
        let below = self.recursive.then(|| self.path.below());
        own.into_iter().chain(below).collect()
    }
}

/// A watch that is under way.
struct Watching {
    client: Client,
    watched: Watched,
    changes: Receiver<Result<Update, String>>,
    /// They end with this value.
    _watches: Vec<Watch>,
    seen: Revision,
}

impl Watching {
    fn begin(session: &mut Session, watched: Watched) -> Result<Self, Failure> {
        let first = watched.ranges().into_iter().next().unwrap_or_else(|| KeyRange::key("/"));
        let (_, now) = session.ask(Attempts::AtEach, |client| client.range(&first.clone().first(1)))?;
        let client = session.client(session.settings().endpoints.clone(), PATIENCE)?;
        let after = if watched.after == 0 { now } else { i64::try_from(watched.after).unwrap_or(i64::MAX) };
        let (tell, changes) = channel();
        let mut watches = Vec::new();
        for range in watched.ranges() {
            let tell = tell.clone();
            let watch = Watch::start_from(&client, range, after.saturating_add(1), move |update| {
                tell.send(update).is_ok()
            });
            watches.push(watch.map_err(|error| Failure::Other(error.to_string()))?);
        }
        Ok(Self { client, watched, changes, _watches: watches, seen: now })
    }

    /// What happens next.
    fn next(&mut self) -> Result<Vec<Response>, Failure> {
        let forbidden =
            || Fault::Api { code: code::UNAUTHORIZED, cause: b"Insufficient credentials".to_vec() };
        match self.changes.recv() {
            Ok(Ok(Update::Events { events, revision })) => {
                self.seen = self.seen.max(revision);
                let mut told = Vec::new();
                for group in Group::of_events(events) {
                    let known = self.circumstances(&group);
                    told.extend(group.told(&self.watched.path, self.watched.recursive, &known));
                }
                Ok(told)
            }
            // Changes have been thrown away before we heard of them.
            Ok(Ok(Update::Snapshot { revision, .. })) if self.watched.after != 0 => {
                let cause =
                    format!("the requested history has been cleared [{revision}/{}]", self.watched.after + 1);
                let fault = Fault::Api { code: code::INDEX_CLEARED, cause: cause.into_bytes() };
                Err(Failure::Fault(fault, revision))
            }
            Ok(Ok(Update::Snapshot { kvs, revision })) => {
                let seen = std::mem::replace(&mut self.seen, revision);
                let news = kvs.into_iter().filter(|kv| kv.mod_revision > seen);
                let events = news.map(|kv| Event { kind: EventKind::Put, kv }).collect();
                let mut told = Vec::new();
                for group in Group::of_events(events) {
                    let known = Circumstances::default();
                    told.extend(group.told(&self.watched.path, self.watched.recursive, &known));
                }
                Ok(told)
            }
            Ok(Err(message)) if message.contains("permission denied") => Err(Failure::Fault(forbidden(), 0)),
            // The watch goes on by itself.
            Ok(Err(_)) => Ok(Vec::new()),
            Err(_) => Err(Failure::Other("the watch has ended".to_owned())),
        }
    }

    /// Looks up what the changes alone do not say. What cannot be found out is left out.
    fn circumstances(&self, group: &Group) -> Circumstances {
        let mut before = BTreeMap::new();
        for event in &group.events {
            let range = KeyRange::key(event.kv.key.clone());
            if event.kind == EventKind::Put && event.kv.version == 1 {
                continue;
            }
            if let Ok(kvs) = self.client.range_at(&range, group.revision - 1) {
                before.extend(kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
            }
        }
        let has_ended = |lease: &i64| self.client.time_to_live(*lease).is_ok_and(|found| found.left < 0);
        let ended = group.leases(&before).into_iter().filter(has_ended).collect();
        let is_empty = |path: &Path| {
            let left = self.client.range_at(&path.below().first(1).without_values(), group.revision);
            matches!(left, Ok(kvs) if kvs.is_empty())
        };
        let empty = group.common_directory().into_iter().filter(is_empty).collect();
        Circumstances { before, ended, empty }
    }
}

/// Ctrl-C is how these end, and no failure.
fn end_well_on_interrupt() -> Result<(), Failure> {
    let always = Arc::new(AtomicBool::new(true));
    let set = signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, 0, always);
    set.map(|_| ()).map_err(|error| Failure::Other(error.to_string()))
}

/// Prints changes, one or for ever.
pub fn watch(session: &mut Session, watched: Watched, for_ever: bool) -> Result<(), Failure> {
    let recursive = watched.recursive;
    let format = session.settings().format.clone();
    end_well_on_interrupt()?;
    let mut watching = Watching::begin(session, watched)?;
    loop {
        for response in watching.next()?.into_iter().filter(|response| !response.node.dir) {
            let mut text = Vec::new();
            if recursive {
                text.extend([b"[", response.action.as_bytes(), b"] ", &response.node.key, b"\n"].concat());
            }
            match show::response(&response, &format, SystemTime::now()) {
                Ok(shown) => text.extend(shown),
                Err(problem) => eprint!("{problem}"),
            }
            print(&text)?;
            if !for_ever {
                return Ok(());
            }
        }
    }
}

/// Runs a program for every change. It does not wait for those before.
pub fn exec_watch(session: &mut Session, watched: Watched, command: &[Vec<u8>]) -> Result<(), Failure> {
    end_well_on_interrupt()?;
    let mut watching = Watching::begin(session, watched)?;
    loop {
        for response in watching.next()? {
            if response.node.dir {
                eprintln!("Ignored dir {} change", String::from_utf8_lossy(&response.node.key));
                continue;
            }
            start(command, response)?;
        }
    }
}

fn start(command: &[Vec<u8>], response: Response) -> Result<(), Failure> {
    let mut words = command.iter().cloned().map(OsString::from_vec);
    let program = words.next().unwrap_or_default();
    let child = Command::new(&program)
        .args(words)
        .stdin(std::process::Stdio::null())
        .env("ETCD_WATCH_ACTION", response.action)
        .env("ETCD_WATCH_MODIFIED_INDEX", response.node.modified.to_string())
        .env("ETCD_WATCH_KEY", OsString::from_vec(response.node.key))
        .env("ETCD_WATCH_VALUE", OsString::from_vec(response.node.value))
        .spawn();
    let mut child = child.map_err(|error| Failure::Unended(cannot_start(&program, &error)))?;
    // Only so that no dead ones pile up.
    let reaper = std::thread::Builder::new().stack_size(64 << 10).spawn(move || child.wait());
    reaper.map(|_| ()).map_err(|error| Failure::Other(error.to_string()))
}

/// In Go's words.
fn cannot_start(program: &std::ffi::OsStr, error: &io::Error) -> String {
    let name = program.to_string_lossy();
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    if name.contains('/') {
        format!("fork/exec {name}: {why}")
    } else {
        format!("exec: \"{name}\": executable file not found in $PATH")
    }
}

/// Writes to stdout at once.
///
/// # Errors
/// Nobody reads.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::Plain(format!("write /dev/stdout: {error}"), 1),
    })
}
