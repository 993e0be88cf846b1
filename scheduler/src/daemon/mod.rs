//! `fleetd`: the shell around [`Node`]. One thread has the state machine; others wait for etcd, for PID 1, for signals and for
//! clients, and tell it what they hear.

#[cfg(test)]
pub(crate) mod fake;
mod life;
pub mod pid1;
mod registry;
mod serve;
mod workers;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use self::life::Life;
use self::pid1::Pid1;
use self::registry::Registry;
use crate::api::http::Request;
use crate::api::{self, Cluster, Reply};
use crate::config::{self, Config};
use crate::metrics;
use crate::node::{Input, Node, Output, Reason};
use crate::picture::Picture;

/// Where the API listens.
pub const SOCKET: &str = "/run/fleet.sock";
/// Of the threads that only wait.
const STACK: usize = 256 << 10;

const HELP: &str = "\
fleetd [--config FILE] | --version | version

The daemon of the cluster scheduler. Its settings are in /etc/fleet/fleet.conf and in FLEET_ variables, which win.
";

/// What the thread with the state machine hears.
enum Message {
    /// For the state machine of this number: what belongs to the one before SIGHUP is too late.
    Input(u64, Input),
    /// SIGTERM, and whether units go to other machines.
    Leave(bool),
    /// SIGHUP
    Reload,
    /// SIGUSR1
    Dump,
}

/// What the threads share.
struct Shared {
    node: Mutex<Node>,
    /// The node has taken something in.
    changed: Condvar,
    registry: Arc<Registry>,
    token_limit: u16,
}

impl Shared {
    fn node(&self) -> MutexGuard<'_, Node> {
        // A node is whole between any two statements that have it locked.
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request) -> Reply {
        let desk = Desk { node: &self.node(), registry: &self.registry };
        api::answer(&desk, clock(), self.token_limit, request)
    }

    /// What is to be done now, and when to look again.
    fn poll(&self, now: u64) -> (Vec<Output>, u64) {
        let mut node = self.node();
        let (looks, begun) = (node.decisions().looks, Instant::now());
        let outputs = node.poll(now);
        if node.decisions().looks > looks {
            self.registry.meter().looked(begun.elapsed());
        }
        (outputs, node.wake(now))
    }
}

/// The machine, as the API sees it.
struct Desk<'a> {
    node: &'a Node,
    registry: &'a Registry,
}

impl Cluster for Desk<'_> {
    fn picture(&self) -> &Picture {
        self.node.picture()
    }

    fn speaks(&self) -> bool {
        self.node.is_registered()
    }

    fn reasons(&self, now: u64) -> BTreeMap<String, Reason> {
        self.node.reasons(now)
    }

    fn is_anybody_away(&self) -> bool {
        self.node.is_anybody_away()
    }

    fn metrics(&self) -> String {
        let decisions = self.node.decisions();
        let ago = decisions.leads_since.map(|since| Duration::from_millis(clock().saturating_sub(since)));
        let begun = ago
            .and_then(|ago| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(ago));
        metrics::text(&decisions, begun.map_or(0, |begun| begun.as_secs()), &self.registry.meter())
    }
}

/// The daemon of the moment: SIGHUP makes another one, while the sockets stay.
type Front = Arc<Mutex<Option<Arc<Shared>>>>;

/// Milliseconds since the machine was started, its sleep included.
fn clock() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * 1000 + part(time.tv_nsec) / 1_000_000
}

/// Runs `fleetd` with the words behind its name.
///
/// # Errors
/// Why it cannot go on.
pub fn run(words: &[String]) -> Result<()> {
    let mut path = None;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word.trim_start_matches('-') {
            "version" => {
                println!("fleetd version {}", crate::VERSION);
                return Ok(());
            }
            "help" | "h" => {
                print!("{HELP}");
                return Ok(());
            }
            "config" => path = Some(PathBuf::from(words.next().context("--config takes a file")?)),
            option => match option.strip_prefix("config=") {
                Some(file) => path = Some(PathBuf::from(file)),
                None => bail!("{word:?} is not understood\n\n{HELP}"),
            },
        }
    }
    serve(Path::new("/"), path.as_deref())
}

/// Runs the daemon of the system below `root` until it is told to end. `file`: another one than the usual one, which must be there.
///
/// # Errors
/// Why it cannot go on.
pub fn serve(root: &Path, file: Option<&Path>) -> Result<()> {
    let front = Front::default();
    let _listeners = serve::listen(&root.join(SOCKET.trim_start_matches('/')), &front)?;
    let (sender, inbox) = channel();
    watch_signals(sender.clone(), root)?;
    ready();
    let mut last: Option<Config> = None;
    for life in 0.. {
        let ears = Ears { life, sender: sender.clone() };
        let config = read_config(root, file);
        let begun = config.and_then(|config| Ok((Life::begin(root, &config, &front, ears.clone())?, config)));
        let life = match (begun, &last) {
            (Ok((life, config)), _) => {
                last = Some(config);
                life
            }
            (Err(problem), Some(last)) => {
                eprintln!("the new settings cannot be used, the old ones stay: {problem:#}");
                Life::begin(root, last, &front, ears)?
            }
            (Err(problem), None) => return Err(problem),
        };
        match life.run(&inbox)? {
            End::Gone => return Ok(()),
            End::Again => eprintln!("the settings are read again"),
        }
    }
    Ok(())
}

/// Where threads tell what they hear.
#[derive(Clone)]
struct Ears {
    life: u64,
    sender: Sender<Message>,
}

impl Ears {
    /// `false`: nobody listens any more.
    fn tell(&self, input: Input) -> bool {
        self.sender.send(Message::Input(self.life, input)).is_ok()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Gone,
    Again,
}

fn read_config(root: &Path, file: Option<&Path>) -> Result<Config> {
    let usual = root.join(config::PATH.trim_start_matches('/'));
    let text = match (fs::read_to_string(file.unwrap_or(&usual)), file) {
        (Ok(text), _) => text,
        (Err(error), None) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        (Err(error), _) => bail!("cannot read {}: {error}", file.unwrap_or(&usual).display()),
    };
    Ok(Config::read(&text, std::env::vars(), &mut |problem| eprintln!("{problem}")))
}

/// Tells PID 1 that the daemon is up (sd_notify(3)): it listens, and the rest is between it and etcd.
fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"READY=1", path));
    if let Err(error) = told {
        eprintln!("cannot tell PID 1: {error}");
    }
}

fn watch_signals(sender: Sender<Message>, root: &Path) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).context("cannot watch signals")?;
    let root = root.to_owned();
    thread::Builder::new().name("signals".to_owned()).stack_size(STACK).spawn(move || {
        for signal in signals.forever() {
            let message = match signal {
                SIGHUP => Message::Reload,
                SIGUSR1 => Message::Dump,
                _ => Message::Leave(hands_over(&root)),
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Whether units go to other machines: when the daemon's unit is stopped, or when it is no unit at all. A restart, or a signal that
/// somebody sends, leaves them to the next daemon.
fn hands_over(root: &Path) -> bool {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(unit) =
        groups.lines().filter_map(|line| line.rsplit('/').next()).find(|it| it.ends_with(".service"))
    else {
        return true;
    };
    let job = Pid1::new(root, Path::new("/run/fleet/units")).job_of(unit);
    matches!(job, Ok(Some(job)) if job == "stop")
}
