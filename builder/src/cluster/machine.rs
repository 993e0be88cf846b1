//! A machine of a cluster: whether it is on, how it is reached, what its console printed.

use std::time::Duration;

use qemu::Vm;

use super::layout::Node;
use super::protocol::NodeStatus;
use super::timeline::Timeline;

/// Guest ports that this machine's loopback reaches: sshd's and that of etcd's clients.
pub(super) const FORWARDED: [u16; 2] = [SSH, CLIENTS];
const SSH: u16 = 22;
const CLIENTS: u16 = 2379;
/// A machine of a cluster, on or off.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// It, when it is on.
    pub(super) vm: Option<Vm>,
    /// Its processors are stopped.
    pub(super) paused: bool,
    /// Bytes of the console that are in the timeline.
    pub(super) seen: usize,
    /// Ports of this machine that led to it when it was last on, in the order of [`FORWARDED`].
    pub(super) ports: [Option<u16>; 2],
}

/// Whether the etcd behind a port of this machine serves, and why not.
pub(super) type Ask<'a> = dyn Fn(u16) -> Result<(), String> + Sync + 'a;

/// What is known of a machine without asking it.
pub(super) struct Seen {
    state: &'static str,
    ssh: Option<u16>,
    clients: Option<u16>,
}

impl Seen {
    /// With what `ask` finds out.
    pub(super) fn status(&self, node: Node, ask: &Ask<'_>) -> NodeStatus {
        let health = match (self.state, self.clients) {
            ("running", Some(port)) => ask(port),
            (state, _) => Err(state.to_owned()),
        };
        NodeStatus {
            name: node.name(),
            state: self.state.to_owned(),
            healthy: health.is_ok(),
            reason: health.err(),
            address: node.address().to_string(),
            ssh_port: self.ssh,
            client_port: self.clients,
        }
    }
}

impl Machine {
    pub(super) fn look(&self) -> Seen {
        let state = match (&self.vm, self.paused) {
            (None, _) => "off",
            (Some(_), true) => "paused",
            (Some(_), false) => "running",
        };
        let port = |guest| self.vm.as_ref().and_then(|vm| vm.forwarded(guest));
        Seen { state, ssh: port(SSH), clients: port(CLIENTS) }
    }

    /// Puts what the console printed into the timeline, and notices the end.
    pub(super) fn follow(&mut self, node: Node, timeline: &mut Timeline) {
        let Some(vm) = &mut self.vm else { return };
        let ended = vm.wait_exit(Duration::ZERO).is_ok();
        let new = vm.console().since(self.seen);
        self.seen += new.len();
        timeline.console(node.index(), &node.name(), &qemu::plain(&new));
        if ended {
            timeline.line("cluster", &format!("{node}: off"));
            self.vm = None;
        }
    }
}
