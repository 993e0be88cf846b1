//! Clusters: the machines of `ferrite cluster`, owned by this process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use builder::cluster::layout::Node;
use builder::cluster::plan::{Plan, Processors};
use builder::cluster::protocol::{Action, Answer, LinkChange, NodeStatus, Request, Status};
use builder::cluster::seed::Security;
use builder::cluster::{client, owner, seed};
use builder::sshkey;
use qemu::toolbox::Toolbox;
use serde_json::Value;

use crate::{Tools, post_json_within, scratch};

/// Far more than anything takes on a busy machine: a limit tells a hang, it does not time anything.
const LIMIT: Duration = Duration::from_secs(900);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(300);
const GIB: u64 = 1 << 30;

/// A running cluster. Dropped, it ends.
#[derive(Debug)]
pub struct Bench {
    scratch: tempfile::TempDir,
    owner: Option<JoinHandle<Result<()>>>,
}

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Its name.
    pub name: &'static str,
    /// The disk image (raw), which is not written.
    pub image: PathBuf,
    /// Number of machines.
    pub nodes: usize,
    /// Those that are off at first.
    pub off: Vec<usize>,
    /// User-data for all machines.
    pub user_data: Vec<u8>,
    /// etcd speaks TLS, with certificates made for the cluster.
    pub tls: bool,
}

impl BenchOptions {
    /// Machines that form one etcd cluster.
    pub fn etcd(name: &'static str, image: &Path, nodes: usize) -> Self {
        let user_data = seed::default_user_data(nodes, Security::Plain).into_bytes();
        Self { name, image: image.to_owned(), nodes, off: Vec::new(), user_data, tls: false }
    }
}

/// A machine by its number, counted from 1.
///
/// # Errors
/// There is none of that number.
pub fn node(number: usize) -> Result<Node> {
    number.to_string().parse().map_err(anyhow::Error::msg)
}

impl Bench {
    /// Switches the machines on.
    ///
    /// # Errors
    /// The emulator cannot be had, or a machine does not start.
    pub fn start(options: &BenchOptions) -> Result<Self> {
        let scratch = scratch()?;
        let (_, key) = sshkey::ensure(&scratch.path().join("ssh"))?;
        let folder = scratch.path().join("cluster");
        std::fs::create_dir(&folder)?;
        let plan = Plan {
            name: options.name.to_owned(),
            nodes: options.nodes,
            off: options.off.iter().map(|number| node(*number)).collect::<Result<_>>()?,
            image: options.image.clone(),
            qcow2: false,
            folder: folder.clone(),
            memory: 512,
            smp: 1,
            disk_bytes: 4 * GIB,
            user_data: options.user_data.clone(),
            tls: options.tls,
            keys: key,
            processors: Processors::Tcg,
            system_qemu: false,
        };
        let emulator = Toolbox::of_user().emulator()?;
        let owned = thread::spawn(move || owner::run(plan, emulator));
        let mut bench = Self { scratch, owner: Some(owned) };
        // Without a limit: other machines have to end before there is room for these.
        while client::connect(&bench.folder())?.is_none() {
            if bench.owner.as_ref().is_none_or(JoinHandle::is_finished) {
                bench.end().context("the cluster's owner ended")?;
                bail!("the cluster's owner ended");
            }
            thread::sleep(LOOK);
        }
        Ok(bench)
    }

    /// The private key whose public half every machine lets in.
    pub fn key(&self) -> PathBuf {
        self.scratch.path().join("ssh/id_ed25519")
    }

    /// The cluster's own folder.
    pub fn folder(&self) -> PathBuf {
        self.scratch.path().join("cluster")
    }

    /// Asks the owner.
    ///
    /// # Errors
    /// It refuses, or is gone.
    pub fn ask(&self, request: &Request) -> Result<Answer> {
        let stream = client::connect(&self.folder())?.context("the cluster is gone")?;
        client::ask(&stream, request, &|line| println!("{line}"))
    }

    /// Does something to machines.
    ///
    /// # Errors
    /// It is refused.
    pub fn act(&self, action: Action, numbers: &[usize]) -> Result<()> {
        let nodes = numbers.iter().map(|number| node(*number)).collect::<Result<_>>()?;
        self.ask(&Request::Act(action, nodes)).map(drop)
    }

    /// Cuts all links between two groups.
    ///
    /// # Errors
    /// It is refused.
    pub fn cut(&self, from: &[usize], to: &[usize]) -> Result<()> {
        let nodes = |numbers: &[usize]| numbers.iter().map(|number| node(*number)).collect::<Result<_>>();
        let change = LinkChange { from: nodes(from)?, to: nodes(to)?, cut: true, ..LinkChange::default() };
        self.ask(&Request::Link(change)).map(drop)
    }

    /// How it is.
    ///
    /// # Errors
    /// The owner is gone.
    pub fn status(&self) -> Result<Status> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => bail!("the owner answers {other:?}"),
        }
    }

    /// Waits until something is true of the cluster; says for how long it was waited.
    ///
    /// # Errors
    /// It does not become true; the message has the last status and the last lines of all consoles.
    pub fn wait_until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            let status = self.status()?;
            if is(&status) {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > LIMIT {
                bail!("not in time: {what}\n{status:#?}\n{}", self.last_lines());
            }
            thread::sleep(LOOK);
        }
    }

    /// The end of what all consoles have said.
    fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(self.folder().join("timeline.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(80)..).unwrap_or_default().join("\n")
    }

    /// Asks a machine until its answer, stderr included, is right; a command that fails meanwhile is asked again.
    ///
    /// # Errors
    /// It does not become right; the message has the last answer and the last lines of all consoles.
    pub fn until(&self, number: usize, line: &str, right: impl Fn(&str) -> bool) -> Result<String> {
        let begin = Instant::now();
        loop {
            let answer = self.ssh(number, &format!("{line} 2>&1 || true"))?;
            if right(&answer) {
                return Ok(answer);
            }
            if begin.elapsed() > LIMIT {
                bail!(
                    "node{number}: {line}: not in time; the last answer was\n{answer}\n{}",
                    self.last_lines()
                );
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until every machine is healthy.
    ///
    /// # Errors
    /// As [`Self::wait_until`].
    pub fn wait_until_healthy(&self) -> Result<Duration> {
        self.wait_until("all are healthy", |status| status.healthy)
    }

    /// The machines, without a word on their health.
    ///
    /// # Errors
    /// The owner is gone.
    pub fn machines(&self) -> Result<Vec<NodeStatus>> {
        match self.ask(&Request::Machines)? {
            Answer::Status(status) => Ok(status.nodes),
            other => bail!("the owner answers {other:?}"),
        }
    }

    /// The ports of a machine: sshd's and etcd's.
    ///
    /// # Errors
    /// It is off.
    pub fn ports(&self, number: usize) -> Result<(u16, u16)> {
        let machines = self.machines()?;
        let node = number.checked_sub(1).and_then(|index| machines.get(index)).context("no such machine")?;
        node.ssh_port.zip(node.client_port).with_context(|| format!("node{number} is off"))
    }

    /// Runs a command on a machine, as user core; waits for its sshd.
    ///
    /// # Errors
    /// It fails, or there is no way in.
    pub fn ssh(&self, number: usize, line: &str) -> Result<String> {
        let begin = Instant::now();
        loop {
            let output = self.ssh_command(number)?.arg(line).output()?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            // 255 is ssh's own: no way in, yet.
            match output.status.code() {
                Some(0) => return Ok(text(&output.stdout)),
                Some(255) if begin.elapsed() < LIMIT => thread::sleep(LOOK),
                _ => bail!(
                    "node{number}: {line}: {}\n{}{}",
                    output.status,
                    text(&output.stdout),
                    text(&output.stderr)
                ),
            }
        }
    }

    /// ssh to a machine, without a command.
    ///
    /// # Errors
    /// It is off, or ssh cannot be had.
    pub fn ssh_command(&self, number: usize) -> Result<Command> {
        self.ssh_command_within(number, Duration::from_secs(60))
    }

    /// The same, to a machine that is expected to be there soon or not at all.
    ///
    /// # Errors
    /// As [`Self::ssh_command`].
    pub fn ssh_command_within(&self, number: usize, limit: Duration) -> Result<Command> {
        let mut command = Tools::of_packages(&["openssh-client"])?.command("ssh")?;
        command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        let limit = limit.as_secs();
        command.args([
            "-o",
            &format!("ConnectTimeout={limit}"),
            "-o",
            &format!("ServerAliveInterval={limit}"),
        ]);
        command.args(["-o", "LogLevel=ERROR", "-p"]);
        command.arg(self.ports(number)?.0.to_string());
        command.arg("-i").arg(self.key());
        command.arg("core@127.0.0.1");
        Ok(command)
    }

    /// Posts to the JSON gateway of a machine's etcd.
    ///
    /// # Errors
    /// It does not answer within `limit`, or refuses.
    pub fn etcd(&self, number: usize, path: &str, body: &Value, limit: Duration) -> Result<Value> {
        post_json_within(self.ports(number)?.1, path, body, limit)
    }

    /// Ends the cluster and says what became of its owner.
    ///
    /// # Errors
    /// The owner failed, or something of the cluster is left.
    pub fn down(mut self) -> Result<()> {
        self.ask(&Request::Down)?;
        self.end()?;
        ensure!(!self.folder().exists(), "{} is left", self.folder().display());
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match self.owner.take() {
            Some(owner) => owner.join().unwrap_or_else(|_| bail!("the owner panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.owner.is_some() && self.ask(&Request::Down).is_ok() {
            let _ = self.end();
        }
    }
}
