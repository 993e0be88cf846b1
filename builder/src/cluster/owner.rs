//! The process that owns a cluster: it starts the machines, watches them, and does what it is asked. With it everything ends.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use qemu::switch::Switch;
use qemu::switch::dhcp::Server;
use qemu::{Demand, Disk, DiskFormat, Emulator, Net, Nic, Serial, Vm, VmSpec, admit};
use serde::{Deserialize, Serialize};

use super::certs::Authority;
use super::health::Prober;
use super::layout::{self, Node};
use super::machine::{Ask, FORWARDED, Machine};
use super::plan::Plan;
use super::protocol::{Action, Answer, LinkChange, NodeStatus, Request, Status};
use super::timeline::Timeline;
use super::{certs, links, seed};

/// How often consoles are read and ends of machines noticed.
const LOOK: Duration = Duration::from_millis(200);
/// How long all machines together may take to become healthy: far more than emulation needs on a busy host.
const HEALTHY_LIMIT: Duration = Duration::from_secs(900);
/// Pause between two questions about health.
const ASK: Duration = Duration::from_millis(500);
/// Clusters of the bench live for hours.
const CERTIFICATE_DAYS: u32 = 365;
/// What QEMU needs beside the guest's memory, in MiB.
const OVERHEAD_MIB: u64 = 128;
/// A request is a short line; more is none of ours.
const LONGEST_REQUEST: u64 = 64 << 10;

/// How to reach an owner, left in the cluster's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The control socket.
    pub socket: PathBuf,
    /// The owner's process id.
    pub owner: u32,
}

impl Record {
    /// Where it lies in a cluster's folder.
    pub const FILE: &'static str = "cluster.json";
}

/// A cluster and everything that it consists of.
#[derive(Debug)]
pub struct Owner {
    plan: Plan,
    emulator: Emulator,
    prober: Prober,
    cluster: Mutex<Cluster>,
    ended: (Mutex<bool>, Condvar),
}

#[derive(Debug)]
struct Cluster {
    // Machines end before the switch does.
    machines: Vec<Machine>,
    switch: Switch,
    timeline: Timeline,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held leaves at worst a request half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a cluster's machines and serves requests until one says that it shall end.
///
/// # Errors
/// The emulator or the image cannot be had, a machine does not start, or there is no space.
pub fn run(plan: Plan, emulator: Emulator) -> Result<()> {
    let folder = qemu::VmFolder::create(&qemu::temporary_root())?;
    let socket = folder.path().join("control");
    let listener = UnixListener::bind(&socket).context("cannot make the control socket")?;
    // The folder and the right to run end with this function, whatever its threads still hold.
    let _admission = admit(demand(&plan)?, &|line| eprintln!("{line}"))?;
    let owner = Arc::new(Owner::new(plan, emulator, &folder)?);
    owner.start_all()?;
    let record = Record { socket: socket.clone(), owner: std::process::id() };
    // Last: who finds it can ask.
    let path = owner.plan.folder.join(Record::FILE);
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(&record)?)
        .and_then(|()| std::fs::rename(&new, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let watcher = Arc::clone(&owner);
    let watching = thread::spawn(move || watcher.watch());
    let server = Arc::clone(&owner);
    let serving = thread::spawn(move || server.serve(&listener));
    let (ended, changed) = &owner.ended;
    drop(changed.wait_while(locked(ended), |ended| !*ended).unwrap_or_else(PoisonError::into_inner));
    let mut cluster = locked(&owner.cluster);
    cluster.machines.clear();
    drop(cluster);
    // The server waits for somebody: nobody comes any more.
    let woken = UnixStream::connect(&socket).is_ok();
    let threads = [Some(watching), woken.then_some(serving)];
    // One that panicked has ended as well.
    threads.into_iter().flatten().for_each(|thread| drop(thread.join()));
    std::fs::remove_dir_all(&owner.plan.folder)
        .with_context(|| format!("cannot remove {}", owner.plan.folder.display()))
}

fn demand(plan: &Plan) -> Result<Demand> {
    let vms = u64::try_from(plan.nodes)?;
    let memory_mib = vms * (u64::from(plan.memory) + OVERHEAD_MIB);
    Ok(Demand { vms: u32::try_from(plan.nodes)?.saturating_mul(plan.smp), memory_mib })
}

/// The folder of certificates, with the authority's and the client's, when etcd speaks TLS.
fn certificates(plan: &Plan) -> Result<Option<PathBuf>> {
    if !plan.tls {
        return Ok(None);
    }
    let folder = plan.certificates();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let authority = Authority::in_folder(&folder, now())?;
    certs::write(&folder, certs::CLIENT, &authority.client(certs::CLIENT, now(), CERTIFICATE_DAYS)?)?;
    Ok(Some(folder))
}

/// Time since 1970.
fn now() -> Duration {
    // A clock before 1970 makes certificates that nobody believes, as it should.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Owner {
    fn new(plan: Plan, emulator: Emulator, folder: &qemu::VmFolder) -> Result<Self> {
        let prober = Prober::new(certificates(&plan)?.as_deref())?;
        let server =
            Server::new(layout::SERVER_MAC, layout::SERVER, layout::PREFIX, layout::hosts(plan.nodes));
        let switch = Switch::start(folder.path(), plan.nodes, u64::from(std::process::id()), Some(server))
            .context("cannot start the network")?;
        let log = plan.folder.join("timeline.log");
        let timeline =
            Timeline::create(&log, plan.nodes).with_context(|| format!("cannot write {}", log.display()))?;
        let machines = (0..plan.nodes).map(|_| Machine::default()).collect();
        Ok(Self {
            plan,
            emulator,
            prober,
            cluster: Mutex::new(Cluster { machines, switch, timeline }),
            ended: (Mutex::new(false), Condvar::new()),
        })
    }

    fn start_all(&self) -> Result<()> {
        let mut cluster = locked(&self.cluster);
        for node in Node::all(self.plan.nodes) {
            seed::write(&self.seed(node), &self.plan.name, node, &self.user_data(node)?)?;
            if !self.plan.off.contains(&node) {
                self.start(&mut cluster, node)?;
            }
        }
        Ok(())
    }

    /// What a machine is told.
    fn user_data(&self, node: Node) -> Result<Vec<u8>> {
        if !self.plan.tls {
            return Ok(self.plan.user_data.clone());
        }
        let folder = self.plan.certificates();
        let authority = Authority::in_folder(&folder, now())?;
        let pair = authority.machine(&node.name(), &[node.address().into()], now(), CERTIFICATE_DAYS)?;
        certs::write(&folder, &node.name(), &pair)?;
        seed::with_part(&self.plan.user_data, &certs::cloud_config(&authority, &pair))
    }

    fn seed(&self, node: Node) -> PathBuf {
        self.plan.folder.join(format!("{node}.seed"))
    }

    /// `ports` of this host lead to the machine; 0 is any.
    fn spec(&self, cluster: &Cluster, node: Node, ports: [u16; 2]) -> Result<VmSpec> {
        let plan = &self.plan;
        let port = cluster.switch.socket(node.index()).context("the network has no port for the machine")?;
        let format = if plan.qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Raw };
        let disk = Disk { format, ..Disk::raw(&plan.image) };
        let overlay = plan.folder.join(format!("{node}.qcow2"));
        let mut spec = VmSpec::new(format!("{}-{node}", plan.name), plan.memory, plan.smp)
            .disk(disk.overlay(overlay, plan.disk_bytes))
            .disk(Disk::raw(self.seed(node)).read_only())
            .nic(Nic { mac: Some(node.mac()), net: Net::Stream(port.to_owned()) })
            .user_net(ports.into_iter().zip(FORWARDED))
            .fw_cfg("opt/ferrite/hostname", node.name())
            .fw_cfg("opt/ferrite/ssh-authorized-keys", plan.keys.clone())
            .accel(plan.processors.into())
            .firmware_with_vars(plan.folder.join(format!("{node}.vars.fd")));
        if let Some(nic) = spec.nics.last_mut() {
            nic.mac = Some(node.outer_mac());
        }
        Ok(spec)
    }

    fn start(&self, cluster: &mut Cluster, node: Node) -> Result<()> {
        // A machine keeps its ports, so that whoever knows them finds it again, unless somebody else has taken one meanwhile.
        let known = cluster.machines.get(node.index()).map(|machine| machine.ports).unwrap_or_default();
        let start = |cluster: &Cluster, ports| -> Result<Vm> {
            let spec = self.spec(cluster, node, ports)?;
            // The cluster as a whole was admitted.
            let vm = self.emulator.start_admitted(&spec, Serial::Captured, None);
            vm.with_context(|| format!("cannot start {node}"))
        };
        let vm = match known {
            [Some(ssh), Some(clients)] => {
                start(cluster, [ssh, clients]).or_else(|_| start(cluster, [0, 0]))?
            }
            _ => start(cluster, [0, 0])?,
        };
        cluster.timeline.line("cluster", &format!("{node}: power on"));
        if let Some(machine) = cluster.machines.get_mut(node.index()) {
            let ports = FORWARDED.map(|guest| vm.forwarded(guest));
            *machine = Machine { vm: Some(vm), paused: false, seen: 0, ports };
        }
        Ok(())
    }

    /// Keeps the timeline, and notices machines that end by themselves.
    fn watch(&self) {
        while !*locked(&self.ended.0) {
            let mut cluster = locked(&self.cluster);
            let Cluster { machines, timeline, .. } = &mut *cluster;
            for (node, machine) in Node::all(self.plan.nodes).zip(machines) {
                machine.follow(node, timeline);
            }
            drop(cluster);
            thread::sleep(LOOK);
        }
    }

    fn serve(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            if *locked(&self.ended.0) {
                return;
            }
            let owner = Arc::clone(self);
            thread::spawn(move || owner.converse(stream));
        }
    }

    fn converse(&self, stream: UnixStream) {
        let mut line = String::new();
        let read = BufReader::new((&stream).take(LONGEST_REQUEST)).read_line(&mut line);
        let request = read.ok().and_then(|_| serde_json::from_str::<Request>(&line).ok());
        let mut asker = Asker(stream);
        let answer = match request {
            None => Err(anyhow::anyhow!("not a request")),
            Some(Request::AwaitHealthy) => self.await_healthy(&mut asker),
            Some(request) => self.answer(&request),
        };
        let last = answer.unwrap_or_else(|error| Answer::Refused(format!("{error:#}")));
        let ends = last == Answer::Done && line.trim() == "\"down\"";
        // Somebody who has gone needs no answer.
        let _ = asker.tell(&last);
        if ends {
            self.end();
        }
    }

    fn end(&self) {
        let (ended, changed) = &self.ended;
        *locked(ended) = true;
        changed.notify_all();
    }

    fn answer(&self, request: &Request) -> Result<Answer> {
        match request {
            Request::Status => return Ok(Answer::Status(self.health())),
            Request::Machines => return Ok(Answer::Status(self.status(&|_| Err("not asked".to_owned())))),
            Request::Log(from) => {
                let (text, end) = locked(&self.cluster).timeline.read(*from)?;
                return Ok(Answer::Log(text, end));
            }
            Request::Link(change) => self.change(change)?,
            Request::Heal => {
                let mut cluster = locked(&self.cluster);
                cluster.switch.heal();
                cluster.timeline.line("cluster", "all links healed");
            }
            Request::Act(action, nodes) => {
                let nodes: BTreeSet<Node> = self.known(nodes)?.iter().copied().collect();
                self.refuse(*action, &nodes)?;
                for node in nodes {
                    self.act(*action, node)?;
                }
            }
            Request::Down | Request::AwaitHealthy => {}
        }
        Ok(Answer::Done)
    }

    fn known<'n>(&self, nodes: &'n [Node]) -> Result<&'n [Node]> {
        match nodes.iter().find(|node| node.index() >= self.plan.nodes) {
            Some(node) => bail!("there is no {node}: the cluster has {} machines", self.plan.nodes),
            None => Ok(nodes),
        }
    }

    fn change(&self, change: &LinkChange) -> Result<()> {
        self.known(&change.from)?;
        self.known(&change.to)?;
        let mut cluster = locked(&self.cluster);
        for (from, to) in links::pairs(change) {
            cluster.switch.set_link(from.index(), to.index(), links::link(change));
        }
        let lines = links::describe(&cluster.switch, self.plan.nodes);
        let text = if lines.is_empty() { "all links are whole".to_owned() } else { lines.join("; ") };
        cluster.timeline.line("cluster", &text);
        Ok(())
    }

    /// All machines or none: what cannot be done to one is not begun.
    fn refuse(&self, action: Action, nodes: &BTreeSet<Node>) -> Result<()> {
        let mut cluster = locked(&self.cluster);
        let Cluster { machines, timeline, .. } = &mut *cluster;
        for node in nodes {
            let machine = machines.get_mut(node.index()).with_context(|| format!("there is no {node}"))?;
            machine.follow(*node, timeline);
            match (action, &machine.vm) {
                (Action::Start, Some(_)) => bail!("{node} is on already"),
                (Action::Start, None) | (_, Some(_)) => {}
                (_, None) => bail!("{node} is off"),
            }
        }
        Ok(())
    }

    fn act(&self, action: Action, node: Node) -> Result<()> {
        let mut cluster = locked(&self.cluster);
        let Cluster { machines, timeline, .. } = &mut *cluster;
        let machine = machines.get_mut(node.index()).with_context(|| format!("there is no {node}"))?;
        machine.follow(node, timeline);
        match (action, &mut machine.vm) {
            (Action::Start, Some(_)) => bail!("{node} is on already"),
            (Action::Start, None) => return self.start(&mut cluster, node),
            (_, None) => bail!("{node} is off"),
            (Action::Kill, Some(vm)) => {
                vm.kill();
                machine.vm = None;
                timeline.line("cluster", &format!("{node}: killed"));
            }
            (Action::PowerCut, Some(vm)) => {
                vm.kill();
                machine.vm = None;
                timeline.line("cluster", &format!("{node}: power cut"));
                return self.start(&mut cluster, node);
            }
            (Action::Pause | Action::Resume, Some(vm)) => {
                let pause = action == Action::Pause;
                let (command, word) = if pause { ("stop", "paused") } else { ("cont", "resumed") };
                vm.qmp().execute(command, &serde_json::json!({}), Duration::from_secs(10))?;
                machine.paused = pause;
                timeline.line("cluster", &format!("{node}: {word}"));
            }
        }
        Ok(())
    }

    fn health(&self) -> Status {
        self.status(&|port| self.prober.ask(port))
    }

    /// How all is; `ask` finds out about the etcd behind a port.
    fn status(&self, ask: &Ask<'_>) -> Status {
        // Health takes seconds to find out; the cluster is not locked meanwhile.
        let seen: Vec<_> = {
            let cluster = locked(&self.cluster);
            cluster.machines.iter().map(Machine::look).collect()
        };
        let nodes: Vec<NodeStatus> = thread::scope(|scope| {
            let asked: Vec<_> = Node::all(self.plan.nodes)
                .zip(&seen)
                .map(|(node, seen)| scope.spawn(move || seen.status(node, ask)))
                .collect();
            asked.into_iter().filter_map(|asked| asked.join().ok()).collect()
        });
        Status {
            name: self.plan.name.clone(),
            healthy: nodes.iter().all(|node| node.healthy),
            nodes,
            links: links::describe(&locked(&self.cluster).switch, self.plan.nodes),
            image: self.plan.image.clone(),
            certificates: self.plan.tls.then(|| self.plan.certificates()),
            owner: std::process::id(),
        }
    }

    /// Tells the asker of each machine that became healthy, until all are. When the asker goes away, the cluster ends.
    fn await_healthy(&self, asker: &mut Asker) -> Result<Answer> {
        let start = Instant::now();
        let mut told = vec![false; self.plan.nodes];
        loop {
            let status = self.health();
            for (told, node) in
                told.iter_mut().zip(&status.nodes).filter(|(told, node)| node.healthy && !**told)
            {
                *told = true;
                let after = start.elapsed().as_secs();
                asker.tell(&Answer::Said(format!("{}: healthy after {after} s", node.name)))?;
            }
            if status.healthy {
                return Ok(Answer::Done);
            }
            if asker.has_gone() {
                self.end();
                return Ok(Answer::Done);
            }
            if *locked(&self.ended.0) {
                bail!("the cluster has ended");
            }
            if start.elapsed() > HEALTHY_LIMIT {
                let why = status
                    .nodes
                    .iter()
                    .filter_map(|node| Some(format!("{}: {}", node.name, node.reason.as_ref()?)));
                bail!(
                    "not healthy after {} s: {}",
                    HEALTHY_LIMIT.as_secs(),
                    why.collect::<Vec<_>>().join("; ")
                );
            }
            thread::sleep(ASK);
        }
    }
}

/// Who asked.
struct Asker(UnixStream);

impl Asker {
    fn tell(&mut self, answer: &Answer) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// Nothing comes after the request; an end of the stream does when the asker ends.
    fn has_gone(&mut self) -> bool {
        if self.0.set_nonblocking(true).is_err() {
            return true;
        }
        let gone = matches!(self.0.read(&mut [0]), Ok(0));
        gone || self.0.set_nonblocking(false).is_err()
    }
}
