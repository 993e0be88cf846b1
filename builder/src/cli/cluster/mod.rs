//! `ferrite cluster`: machines on a network that can be broken.

pub mod args;
mod certs;
mod up;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::args::{
    Args, Command, Group, LinkArgs, LogsArgs, Named, NodesArgs, PartitionArgs, SshArgs, StatusArgs,
};
use super::{FAILED, out_folder, output, style};
use crate::cluster::layout::Node;
use crate::cluster::protocol::{Action, Answer, LinkChange, NodeStatus, Request, Status};
use crate::cluster::{certs as certificates, client};

/// Pause between two looks at the timeline.
const LOOK: Duration = Duration::from_millis(300);
/// Who ssh logs in as.
const USER: &str = "core";

/// Runs the command.
///
/// # Errors
/// There is no such cluster, or it was refused.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Up(args) => up::run(args),
        Command::Status(args) => status(args),
        Command::Partition(args) => partition(args),
        Command::Link(args) => link(args),
        Command::Heal(named) => done(named, &Request::Heal),
        Command::Kill(args) => act(args, Action::Kill),
        Command::Start(args) => act(args, Action::Start),
        Command::PowerCut(args) => act(args, Action::PowerCut),
        Command::Pause(args) => act(args, Action::Pause),
        Command::Resume(args) => act(args, Action::Resume),
        Command::Ssh(args) => ssh(args),
        Command::Logs(args) => logs(args),
        Command::Certs(args) => certs::run(args),
        Command::Down(named) => down(named),
        Command::Own => up::own(),
        Command::Janitor { owner, folder } => up::clean(*owner, folder),
    }
}

/// Whether the command is the one that cleans up after all others.
pub fn outlives_signals(command: &super::args::Command) -> bool {
    matches!(command, super::args::Command::Cluster(Args { command: Command::Janitor { .. } }))
}

fn folder_of(out: &Path, cluster: &Named) -> PathBuf {
    out.join(format!("cluster-{}", cluster.name))
}

fn key_folder(out: &Path) -> PathBuf {
    out.join("ssh")
}

fn folder(cluster: &Named) -> Result<PathBuf> {
    Ok(folder_of(&out_folder(None)?, cluster))
}

fn ask_in(folder: &Path, name: &str, request: &Request) -> Result<Answer> {
    match client::connect(folder)? {
        Some(stream) => client::ask(&stream, request, &|line| style::say(line)),
        None => bail!("there is no cluster {name}\nhint: `ferrite cluster up` starts one"),
    }
}

fn ask(cluster: &Named, request: &Request) -> Result<Answer> {
    ask_in(&folder(cluster)?, &cluster.name, request)
}

fn done(cluster: &Named, request: &Request) -> Result<ExitCode> {
    ask(cluster, request)?;
    Ok(ExitCode::SUCCESS)
}

fn act(args: &NodesArgs, action: Action) -> Result<ExitCode> {
    done(&args.cluster, &Request::Act(action, args.nodes.clone()))
}

fn status_of(answer: Answer) -> Result<Status> {
    match answer {
        Answer::Status(status) => Ok(status),
        _ => bail!("the cluster's owner answers something else"),
    }
}

fn status(args: &StatusArgs) -> Result<ExitCode> {
    let status = status_of(ask(&args.cluster, &Request::Status)?)?;
    if args.json {
        output::print_json(&status)?;
    } else {
        output::print_styled(&table(&status))?;
    }
    Ok(if status.healthy { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// A line for each machine, then the links that are not whole.
fn table(status: &Status) -> String {
    let port = |port: Option<u16>| port.map_or_else(|| "-".to_owned(), |port| port.to_string());
    let mut text =
        format!("{:8} {:8} {:14} {:>6} {:>6}  HEALTH\n", "NODE", "STATE", "ADDRESS", "SSH", "ETCD");
    for node in &status.nodes {
        let NodeStatus { name, state, address, ssh_port, client_port, .. } = node;
        let (ssh, client) = (port(*ssh_port), port(*client_port));
        let health = match &node.reason {
            None => style::judged(Some(true), "healthy"),
            Some(reason) => style::judged(Some(false), reason),
        };
        text.push_str(&format!("{name:8} {state:8} {address:14} {ssh:>6} {client:>6}  {health}\n"));
    }
    status.links.iter().for_each(|link| text.push_str(&format!("{link}\n")));
    text
}

/// How to reach the machines, for people.
fn lines_of(status: &Status) -> Vec<String> {
    let name = if status.name == "default" { String::new() } else { format!(" --name {}", status.name) };
    let first = status.nodes.first().and_then(|node| node.client_port);
    let mut lines = vec![
        format!("ferrite cluster ssh{name} 1    a shell on node1"),
        format!("ferrite cluster status{name}"),
    ];
    lines.extend(first.map(|port| match &status.certificates {
        None => format!("etcd of node1: http://127.0.0.1:{port}"),
        Some(folder) => {
            let (certificate, key) = certificates::paths(folder, certificates::CLIENT);
            let authority = certificates::paths(folder, certificates::AUTHORITY).0;
            format!(
                "etcd of node1: https://127.0.0.1:{port} --cacert {} --cert {} --key {}",
                authority.display(),
                certificate.display(),
                key.display()
            )
        }
    }));
    lines.push(format!("ferrite cluster down{name}     ends it"));
    lines
}

fn partition(args: &PartitionArgs) -> Result<ExitCode> {
    let status = status_of(ask(&args.cluster, &Request::Machines)?)?;
    let groups = groups(&args.groups, status.nodes.len())?;
    for (index, from) in groups.iter().enumerate() {
        for to in groups.iter().skip(index + 1) {
            let (from, to, one_way) = (from.clone(), to.clone(), args.one_way);
            let change = LinkChange { from, to, one_way, cut: true, ..LinkChange::default() };
            ask(&args.cluster, &Request::Link(change))?;
        }
        if args.one_way {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The groups that were named, and for a single one all others as the second.
fn groups(named: &[Group], count: usize) -> Result<Vec<Vec<Node>>> {
    let mut groups: Vec<Vec<Node>> = named.iter().map(|group| group.0.clone()).collect();
    let all: Vec<Node> = groups.concat();
    if let Some(twice) = all.iter().find(|node| all.iter().filter(|other| other == node).count() > 1) {
        bail!("{twice} is in two groups");
    }
    if groups.len() == 1 {
        let others: Vec<Node> = Node::all(count).filter(|node| !all.contains(node)).collect();
        if others.is_empty() {
            bail!("there is no machine outside this group");
        }
        groups.push(others);
    }
    Ok(groups)
}

fn link(args: &LinkArgs) -> Result<ExitCode> {
    let change = LinkChange {
        from: args.from.0.clone(),
        to: args.to.0.clone(),
        one_way: args.one_way,
        cut: args.cut,
        delay_ms: args.delay,
        jitter_ms: args.jitter,
        loss_per_mille: args.loss,
    };
    done(&args.cluster, &Request::Link(change))
}

fn ssh(args: &SshArgs) -> Result<ExitCode> {
    let status = status_of(ask(&args.cluster, &Request::Machines)?)?;
    let node = status.nodes.get(args.node.index());
    let node = node.with_context(|| {
        format!("there is no {}: the cluster has {} machines", args.node, status.nodes.len())
    })?;
    let port = node.ssh_port.with_context(|| format!("{} is off", args.node))?;
    let key = key_folder(&out_folder(None)?).join("id_ed25519");
    // Host keys are made anew with every cluster, and the way to the machine is this machine's own loopback.
    let error = Process::new("ssh")
        .args(["-p", &port.to_string(), "-i"])
        .arg(key)
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ])
        .arg(format!("{USER}@127.0.0.1"))
        .args(&args.command)
        .exec();
    Err(error).context("cannot run ssh; is an ssh client installed?")
}

fn logs(args: &LogsArgs) -> Result<ExitCode> {
    let mut from = 0;
    loop {
        let Answer::Log(text, end) = ask(&args.cluster, &Request::Log(from))? else {
            bail!("the cluster's owner answers something else");
        };
        let more = end > from;
        from = end;
        output::print(text)?;
        match (more, args.follow) {
            (true, _) => {}
            (false, true) => thread::sleep(LOOK),
            (false, false) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn down(cluster: &Named) -> Result<ExitCode> {
    let folder = folder(cluster)?;
    match client::connect(&folder)? {
        Some(stream) => {
            client::ask(&stream, &Request::Down, &|line| style::say(line))?;
            // The owner removes its folder last of all.
            while folder.exists() {
                thread::sleep(LOOK);
            }
        }
        None if folder.exists() => {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?
        }
        None => style::say(&format!("there is no cluster {}", cluster.name)),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_group_stands_against_all_others() {
        let group = |text: &str| Group(text.split(',').map(|node| node.parse().unwrap()).collect());
        let names = |groups: Vec<Vec<Node>>| -> Vec<Vec<String>> {
            groups.iter().map(|group| group.iter().map(Node::to_string).collect()).collect()
        };
        assert_eq!(names(groups(&[group("2")], 3).unwrap()), [vec!["node2"], vec!["node1", "node3"]]);
        assert_eq!(
            names(groups(&[group("1"), group("2,3")], 3).unwrap()),
            [vec!["node1"], vec!["node2", "node3"]]
        );
        assert!(groups(&[group("1,2"), group("2")], 3).is_err());
        assert!(groups(&[group("1,2,3")], 3).is_err());
    }
}
