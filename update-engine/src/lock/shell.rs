//! The thread that talks to etcd for an [`Agent`], and the note on STATE that says that this machine may hold the lock.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use kv::watch::Watch;
use kv::{Client, Config, Credentials, KeyRange, TlsFiles};
use serde::{Deserialize, Serialize};

use super::agent::{Agent, Committed, Goal, News, Next};
use super::plan::{Keys, View};
use crate::causes::chain;
use crate::engine::config::LockSettings;
use crate::engine::state::replace;

/// The note's name in the engine's folder.
const NOTE: &str = "reboot-lock.json";

/// Written before the lock is asked for, removed when it is given back: without it, a machine whose strategy needs no lock asks etcd
/// nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// The lock's group.
    pub group: String,
    /// The boot in which it was asked for.
    pub boot: String,
    /// Root hash of the release that the machine reboots for, hexadecimal; empty for none.
    pub release: String,
    /// Asked for by the engine, which restarts and forgets; not by `locksmithctl`.
    pub by_engine: bool,
}

impl Note {
    /// Reads it; a damaged one counts as one that says nothing.
    #[must_use]
    pub fn load(folder: &Path) -> Option<Self> {
        let bytes = std::fs::read(folder.join(NOTE)).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// The file system's.
    pub fn store(&self, folder: &Path) -> io::Result<()> {
        replace(&folder.join(NOTE), &serde_json::to_vec(self)?)
    }

    /// Removes it.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(folder: &Path) -> io::Result<()> {
        match std::fs::remove_file(folder.join(NOTE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A client of the cluster that the settings name.
///
/// # Errors
/// Files for TLS cannot be used.
pub fn client(settings: &LockSettings) -> Result<Client, kv::Error> {
    let mut config = Config {
        tls: TlsFiles {
            ca: settings.ca.clone(),
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
        },
        ..Config::default()
    };
    if !settings.endpoints.is_empty() {
        config.endpoints.clone_from(&settings.endpoints);
    }
    config.credentials = settings
        .user
        .clone()
        .map(|user| Credentials { user, password: settings.password.clone().unwrap_or_default().0 });
    Client::new(config)
}

/// What a machine is to the lock.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `/etc/machine-id`.
    pub id: String,
    /// The kernel's id of this boot.
    pub boot: String,
    /// Where the note is.
    pub folder: PathBuf,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    Want { settings: Box<LockSettings>, goal: Goal, note: Option<Note>, distrust: bool },
    Changed,
}

/// The thread, seen from outside. It ends with this value.
#[derive(Debug)]
pub struct Locker {
    orders: Sender<Order>,
}

impl Locker {
    /// Starts it; `tell` hears all news.
    #[must_use]
    pub fn start(identity: Identity, tell: impl FnMut(News) + Send + 'static) -> Self {
        let (orders, inbox) = channel();
        let own = orders.clone();
        thread::spawn(move || Shell { identity, tell, own, begun: Instant::now() }.serve(&inbox));
        Self { orders }
    }

    /// Takes the lock, sooner or later. `note` is durable before etcd hears of it.
    pub fn take(&self, settings: &LockSettings, goal: Goal, note: Note) {
        self.order(settings, goal, Some(note), false);
    }

    /// Is rid of the lock, sooner or later; also of one that an earlier boot may have asked for (`distrust`).
    pub fn want(&self, settings: &LockSettings, goal: Goal, distrust: bool) {
        self.order(settings, goal, None, distrust);
    }

    fn order(&self, settings: &LockSettings, goal: Goal, note: Option<Note>, distrust: bool) {
        let order = Order::Want { settings: Box::new(settings.clone()), goal, note, distrust };
        if self.orders.send(order).is_err() {
            eprintln!("the thread of the reboot lock has ended");
        }
    }
}

struct Shell<T> {
    identity: Identity,
    tell: T,
    own: Sender<Order>,
    begun: Instant,
}

/// What there is while something is wanted.
struct Session {
    client: Client,
    keys: Keys,
    agent: Agent,
    watch: Option<Watch>,
}

impl<T: FnMut(News)> Shell<T> {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn serve(&mut self, inbox: &Receiver<Order>) {
        let mut session: Option<Session> = None;
        loop {
            let next = session.as_ref().map_or(Next::Rest, |session| session.agent.next(self.now()));
            let order = match next {
                Next::Rest => {
                    // Connections and threads go, too: nothing is wanted.
                    session = None;
                    inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
                Next::Wait(pause) => inbox.recv_timeout(Duration::from_millis(pause)),
                Next::Read => inbox.try_recv().map_err(|_| RecvTimeoutError::Timeout),
            };
            match order {
                Ok(Order::Want { settings, goal, note, distrust }) => {
                    session = self.begin(session, &settings, goal, note, distrust);
                }
                Ok(Order::Changed) => {
                    if let Some(session) = &mut session {
                        session.agent.changed(self.now(), session.client.random());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(session) = &mut session {
                        self.step(session);
                    }
                }
                // This thread holds a sender of its own; so nobody is left only when the process ends.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn begin(
        &mut self,
        old: Option<Session>,
        settings: &LockSettings,
        goal: Goal,
        note: Option<Note>,
        distrust: bool,
    ) -> Option<Session> {
        if let Some(note) = note
            && let Err(error) = note.store(&self.identity.folder)
        {
            // Without it the next boot might not give the lock back.
            (self.tell)(News::Trouble(format!("cannot write the note of the reboot lock: {error}")));
            return old;
        }
        let client = match client(settings) {
            Ok(client) => client,
            Err(error) => {
                (self.tell)(News::Trouble(format!("no way to the reboot lock: {}", chain(&error))));
                return None;
            }
        };
        let keys = Keys::of_group(&settings.group);
        let patience = settings.take_over_after.map(|seconds| seconds.saturating_mul(1000));
        let mut agent = match old {
            // What may be on its way is not forgotten.
            Some(old) if old.keys == keys => old.agent,
            _ => Agent::new(keys.clone(), self.identity.id.clone(), self.identity.boot.clone(), patience),
        };
        agent.take_over_after(patience);
        if distrust {
            agent.distrust();
        }
        agent.want(self.now(), goal);
        Some(Session { client, keys, agent, watch: None })
    }

    fn step(&mut self, session: &mut Session) {
        let view = look(&session.client, &session.keys);
        let random = session.client.random();
        let (transaction, news) = session.agent.seen(self.now(), random, view);
        let waits = matches!(news, Some(News::Waits { .. }));
        self.hear(news);
        if let Some(transaction) = transaction {
            let outcome = match session.client.transact(&transaction) {
                Ok(result) if result.succeeded => Committed::Yes,
                Ok(_) => Committed::No,
                Err(kv::Error::Unknown { .. }) => Committed::Unknown,
                Err(error) => {
                    (self.tell)(News::Trouble(format!("reboot lock: {}", chain(&error))));
                    // It was not done; the agent comes again as after a conflict, and the next reading finds out more.
                    Committed::No
                }
            };
            let news = session.agent.committed(self.now(), random, outcome);
            self.hear(news);
        }
        if waits && session.watch.is_none() {
            self.watch(session);
        }
    }

    /// Whoever waits hears of a change at once, without asking.
    fn watch(&self, session: &mut Session) {
        let own = self.own.clone();
        let range = KeyRange::key(session.keys.semaphore());
        let watch = Watch::start(&session.client, range, move |update| match update {
            Ok(_) => own.send(Order::Changed).is_ok(),
            // The agent asks by itself from time to time, and tells.
            Err(_) => true,
        });
        session.watch = watch.map_err(|error| eprintln!("cannot watch the reboot lock: {error}")).ok();
    }

    fn hear(&mut self, news: Option<News>) {
        let Some(news) = news else { return };
        if news == News::Released
            && let Err(error) = Note::remove(&self.identity.folder)
        {
            eprintln!("cannot remove the note of the reboot lock: {error}");
        }
        (self.tell)(news);
    }
}

/// Reads a group's semaphore and records.
///
/// # Errors
/// For people.
pub fn look(client: &Client, keys: &Keys) -> Result<View, String> {
    let result = client.transact(&keys.read()).map_err(|error| chain(&error))?;
    View::of(keys, &result.results).map_err(|error| error.to_string())
}
