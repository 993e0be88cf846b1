//! One life of the state machine: it ends with the daemon, or when the settings are read again.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kv::watch::{Update, Watch};
use kv::{Client, KeyRange};

use super::pid1::Pid1;
use super::registry::Registry;
use super::workers::Workers;
use super::{Ears, End, Front, Message, Shared, clock};
use crate::config::Config;
use crate::keys::Keys;
use crate::node::{Input, Node, Output, Record, Settings};

/// What outlives the daemon.
const RECORD: &str = "run/fleet/agent.json";
/// The state machine looks around at least so often.
const LONGEST_SLEEP: u64 = 30_000;
/// While the machine has no address.
const SHORT_SLEEP: u64 = 1_000;

/// See above.
pub(super) struct Life {
    shared: Arc<Shared>,
    workers: Workers,
    front: Front,
    ears: Ears,
    record: PathBuf,
    /// The machine's address is not set: it is found out, and may change.
    finds_address: bool,
    again: bool,
    /// The record could not be written, and that was told.
    is_lost: bool,
    _watch: Watch,
}

impl Life {
    /// Starts its threads and shows it to clients.
    pub fn begin(root: &Path, config: &Config, front: &Front, ears: Ears) -> Result<Self> {
        let record_path = root.join(RECORD);
        let record: Record = fs::read(&record_path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let client =
            Client::new(config.etcd()).map_err(|error| anyhow::anyhow!(kv::client::chain(&error)))?;
        let registry = Arc::new(Registry::new(client.clone(), config.verbose));
        let keys = Keys::below(&config.key_prefix);
        let prefix = KeyRange::prefix(keys.prefix());
        let pid1 = Pid1::new(root, &config.units_directory);
        let inventory = pid1.inventory(&record);
        let known = inventory.keys().cloned().collect();
        let mut node = Node::new(settings(root, config)?, keys, record);
        node.handle(clock(), client.random(), Input::Inventory(inventory));
        let shared = Arc::new(Shared {
            node: Mutex::new(node),
            changed: Condvar::new(),
            registry: Arc::clone(&registry),
            token_limit: config.token_limit,
        });
        let workers = Workers::start(&registry, pid1, known, &ears)?;
        let watch = watch(registry, prefix, ears.clone())?;
        let life = Self {
            shared,
            workers,
            front: Arc::clone(front),
            ears,
            record: record_path,
            finds_address: config.public_ip.is_empty(),
            again: false,
            is_lost: false,
            _watch: watch,
        };
        life.show(Some(Arc::clone(&life.shared)));
        Ok(life)
    }

    fn show(&self, shared: Option<Arc<Shared>>) {
        *self.front.lock().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    /// Runs until it is over.
    pub fn run(mut self, inbox: &Receiver<Message>) -> Result<End> {
        loop {
            self.find_address();
            let now = clock();
            let (outputs, wake) = self.shared.poll(now);
            self.shared.changed.notify_all();
            for output in outputs {
                match output {
                    Output::Gone => {
                        self.show(None);
                        // A lease that is given back goes out before the process ends.
                        self.workers.finish();
                        return Ok(if self.again { End::Again } else { End::Gone });
                    }
                    Output::Say(text) => eprintln!("{text}"),
                    Output::Record(record) => self.keep(&record),
                    output => self.workers.carry_out(output, now)?,
                }
            }
            let longest = if self.is_without_address() { SHORT_SLEEP } else { LONGEST_SLEEP };
            let pause = wake.saturating_sub(now).clamp(1, longest);
            let first = match inbox.recv_timeout(Duration::from_millis(pause)) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                // The signals' thread holds a sender.
                Err(RecvTimeoutError::Disconnected) => bail!("nobody is left who could tell anything"),
            };
            for message in first.into_iter().chain(inbox.try_iter()) {
                self.hear(message);
            }
        }
    }

    /// Writes the record; what is wrong is told until it works again.
    fn keep(&mut self, record: &Record) {
        match store(&self.record, record) {
            Ok(()) => self.is_lost = false,
            Err(error) if !std::mem::replace(&mut self.is_lost, true) => {
                let path = self.record.display();
                eprintln!(
                    "cannot write {path}, so the next fleetd will not know what this one knew: {error}"
                );
            }
            Err(_) => {}
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Input(life, input) if life == self.ears.life => self.handle(input),
            Message::Input(..) => {}
            Message::Leave(hand_over) => self.handle(Input::Leave { hand_over }),
            Message::Reload => {
                self.again = true;
                self.handle(Input::Leave { hand_over: false });
            }
            Message::Dump => println!("{}", dump(&self.shared.node())),
        }
    }

    fn handle(&self, input: Input) {
        let random = self.shared.registry.client.random();
        self.shared.node().handle(clock(), random, input);
    }

    fn is_without_address(&self) -> bool {
        self.finds_address && self.shared.node().settings().public_ip.is_empty()
    }

    /// The network may come after the daemon, and an address may change.
    fn find_address(&self) {
        if !self.finds_address {
            return;
        }
        let address = own_address();
        if !address.is_empty() && self.shared.node().settings().public_ip != address {
            eprintln!("this machine's address is {address}");
            self.handle(Input::Address(address));
        }
    }
}

fn watch(registry: Arc<Registry>, prefix: KeyRange, tell: Ears) -> Result<Watch> {
    let client = registry.client.clone();
    let watch = Watch::start(&client, prefix, move |news| match news {
        Ok(update) => {
            match update {
                Update::Snapshot { .. } => registry.has_read_all(),
                Update::Events { .. } => registry.answers(),
            }
            tell.tell(Input::News(update))
        }
        Err(problem) => {
            registry.is_away(&problem);
            true
        }
    });
    watch.context("the system has no thread left")
}

fn settings(root: &Path, config: &Config) -> Result<Settings> {
    let id = fs::read_to_string(root.join("etc/machine-id")).context("cannot read /etc/machine-id")?;
    let id = id.trim().to_owned();
    if id.is_empty() || id.contains('/') {
        bail!("/etc/machine-id holds no id");
    }
    Ok(Settings {
        id,
        public_ip: if config.public_ip.is_empty() { own_address() } else { config.public_ip.clone() },
        metadata: config.metadata.clone(),
        version: crate::VERSION.to_owned(),
        ttl: config.ttl,
        grace: config.grace,
        engine: !config.disable_engine,
    })
}

/// The address from which this machine talks to the rest of the world; nothing is sent for that.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match socket.map(|address| address.ip()) {
        Ok(IpAddr::V4(ip)) if !ip.is_unspecified() && !ip.is_loopback() => ip.to_string(),
        _ => String::new(),
    }
}

/// The state as one line of JSON.
fn dump(node: &Node) -> serde_json::Value {
    let local = node.local().into_iter().flatten();
    let units = local.map(|(name, unit)| {
        let state = serde_json::json!({
            "hash": unit.hash.to_string(), "launched": unit.launched, "stopping": unit.stopping,
            "active": unit.observed.as_ref().map(|observed| &observed.active),
        });
        (name.clone(), state)
    });
    serde_json::json!({
        "machine": node.settings().id,
        "registered": node.is_registered(),
        "leader": node.is_leader(),
        "revision": node.picture().revision(),
        "units": units.collect::<serde_json::Map<_, _>>(),
    })
}

fn store(path: &Path, record: &Record) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(temporary, path)
}
