//! What is asked of a cluster's owner, and answered: one JSON document a line, over a Unix socket that only the user can reach.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layout::Node;

/// A request; each connection carries one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Wait until every machine is healthy. The cluster ends when the asker goes away before.
    AwaitHealthy,
    /// How it is.
    Status,
    /// The same without asking any etcd, which may take seconds.
    Machines,
    /// Set links.
    Link(LinkChange),
    /// Make all links perfect again.
    Heal,
    /// Something for machines.
    Act(Action, Vec<Node>),
    /// The timeline from this byte on.
    Log(u64),
    /// End it all.
    Down,
}

/// What is done to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ends it at once, as by a power cut; it stays off.
    Kill,
    /// Switches one on that is off.
    Start,
    /// Cuts its power and switches it on again.
    PowerCut,
    /// Stops its processors.
    Pause,
    /// Lets them go on.
    Resume,
}

/// A change of links: from each of `from` to each of `to`, and back too unless it is one way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkChange {
    /// Where frames come from.
    pub from: Vec<Node>,
    /// Where they go.
    pub to: Vec<Node>,
    /// Leaves the way back as it is.
    pub one_way: bool,
    /// Nothing passes.
    pub cut: bool,
    /// Milliseconds under way.
    pub delay_ms: u32,
    /// Up to so many milliseconds more.
    pub jitter_ms: u32,
    /// Of a thousand frames, how many are lost.
    pub loss_per_mille: u16,
}

/// An answer. [`Answer::Said`] may come several times before the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A line for the user.
    Said(String),
    /// It is done.
    Done,
    /// The cluster.
    Status(Status),
    /// The timeline's bytes, and where they end.
    Log(String, u64),
    /// It was refused or failed.
    Refused(String),
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Every machine is healthy.
    pub healthy: bool,
    /// The machines.
    pub nodes: Vec<NodeStatus>,
    /// Links that are not perfect, in words.
    pub links: Vec<String>,
    /// The image that they run.
    pub image: PathBuf,
    /// The folder of certificates, when etcd speaks TLS.
    pub certificates: Option<PathBuf>,
    /// The owner's process id.
    pub owner: u32,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `running`, `paused` or `off`.
    pub state: String,
    /// It runs, and its etcd answers a read that a quorum agreed to.
    pub healthy: bool,
    /// Why it is not.
    pub reason: Option<String>,
    /// Its address on the private network.
    pub address: String,
    /// The port of this machine's loopback that reaches its sshd.
    pub ssh_port: Option<u16>,
    /// The same for etcd's clients (2379).
    pub client_port: Option<u16>,
}
