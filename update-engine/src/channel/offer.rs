//! Which release a machine takes: the one rule for the machine, and for the publisher who asks what machines will see.

use std::collections::BTreeSet;

use super::metadata::Date;
use super::release::{ChannelName, Release, Version, place};

/// What is known about a machine.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    /// The product that it runs.
    pub product: &'a str,
    /// As in `uname -m`.
    pub architecture: &'a str,
    /// The channel that it follows (`GROUP=`).
    pub channel: &'a ChannelName,
    /// The version that it runs.
    pub version: &'a Version,
    /// Its id (`/etc/machine-id`): decides its place in rollouts.
    pub id: &'a str,
    /// Least rollback index that its loader starts (SAFETY 12).
    pub rollback_floor: u64,
    /// Its loader's version (SAFETY 11).
    pub loader_version: u32,
    /// The only version that it may go to, if its owner pinned one.
    pub pinned: Option<&'a Version>,
    /// Root hashes of slots that failed here (SAFETY 17).
    pub denied: &'a BTreeSet<[u8; 32]>,
    /// Whether its place in rollouts counts; an operator who asks for an update by hand need not wait.
    pub waits_its_turn: bool,
}

/// Why a release is or is not for a machine. The first reason that holds, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The machine can take it.
    Fits,
    /// Of another product or architecture.
    OtherMachine,
    /// Not in the machine's channel.
    OtherChannel,
    /// The machine runs it.
    Running,
    /// Older than what the machine runs.
    Older,
    /// The machine is pinned to another version.
    Pinned,
    /// Withdrawn, with the publisher's reason.
    Withdrawn(String),
    /// It failed on this machine before.
    Failed,
    /// Its rollback index is below the machine's floor.
    BelowFloor {
        /// The machine's floor.
        floor: u64,
    },
    /// The machine's loader is too old.
    NeedsLoader(u32),
    /// The machine must take a release in between first.
    StepTooFar {
        /// Oldest version that can take this one.
        minimum: Version,
    },
    /// It does not read state that the running release writes.
    CannotRead {
        /// Kinds and formats, such as `etcd 3.4`.
        state: Vec<String>,
    },
    /// The machine's turn comes later, or not as things are.
    NotYet {
        /// Unix seconds.
        turn: Option<u64>,
    },
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fits => f.write_str("offered"),
            Self::OtherMachine => f.write_str("of another product or architecture"),
            Self::OtherChannel => f.write_str("not in this channel"),
            Self::Running => f.write_str("running"),
            Self::Older => f.write_str("older"),
            Self::Pinned => f.write_str("the machine is pinned to another version"),
            Self::Withdrawn(reason) => write!(f, "withdrawn: {reason}"),
            Self::Failed => f.write_str("it failed on this machine"),
            Self::BelowFloor { floor } => {
                write!(f, "its rollback index is below the machine's floor, {floor}")
            }
            Self::NeedsLoader(version) => write!(f, "needs loader >= {version}"),
            Self::StepTooFar { minimum } => write!(f, "needs {minimum} or later first"),
            Self::CannotRead { state } => {
                write!(f, "does not read the machine's state: {}", state.join(", "))
            }
            Self::NotYet { turn } => match turn.and_then(Date::from_unix) {
                Some(turn) => write!(f, "the machine's turn comes at {turn}"),
                None => f.write_str("the machine is not among those that get it"),
            },
        }
    }
}

/// What a channel has for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<'a> {
    /// The newest release that fits.
    pub release: Option<&'a Release>,
    /// Every release of the machine's product and channel with what became of it, oldest first.
    pub considered: Vec<(&'a Release, Verdict)>,
}

/// Chooses the newest release that a machine can take at a moment (Unix seconds). Never an older one than it runs: going
/// back is a decision of the machine or its owner, not of a channel.
pub fn offer<'a>(releases: &'a [Release], machine: &Machine<'_>, now: u64) -> Offer<'a> {
    let same = |release: &&Release| {
        release.product == machine.product && release.architecture == machine.architecture
    };
    let running = releases.iter().filter(same).find(|release| release.version == *machine.version);
    let mut considered: Vec<_> =
        releases.iter().map(|release| (release, judge(release, running, machine, now))).collect();
    considered.retain(|(_, verdict)| !matches!(verdict, Verdict::OtherMachine | Verdict::OtherChannel));
    considered.sort_by(|(a, _), (b, _)| a.version.cmp(&b.version));
    let release =
        considered.iter().rev().find(|(_, verdict)| *verdict == Verdict::Fits).map(|(release, _)| *release);
    Offer { release, considered }
}

/// What one release is to a machine that runs another.
fn judge(release: &Release, running: Option<&Release>, machine: &Machine<'_>, now: u64) -> Verdict {
    if release.product != machine.product || release.architecture != machine.architecture {
        return Verdict::OtherMachine;
    }
    let Some(placement) = release.channels.get(machine.channel) else { return Verdict::OtherChannel };
    if release.version == *machine.version {
        return Verdict::Running;
    }
    if release.version < *machine.version {
        return Verdict::Older;
    }
    if machine.pinned.is_some_and(|pinned| *pinned != release.version) {
        return Verdict::Pinned;
    }
    if let Some(withdrawal) = &placement.withdrawn {
        return Verdict::Withdrawn(withdrawal.reason.clone());
    }
    if machine.denied.contains(&release.root_hash) {
        return Verdict::Failed;
    }
    if release.rollback_index < machine.rollback_floor {
        return Verdict::BelowFloor { floor: machine.rollback_floor };
    }
    if release.minimum_loader > machine.loader_version {
        return Verdict::NeedsLoader(release.minimum_loader);
    }
    if let Some(minimum) = release.minimum_version.as_ref().filter(|minimum| *machine.version < **minimum) {
        return Verdict::StepTooFar { minimum: minimum.clone() };
    }
    let state = running.map(|running| release.cannot_read_after(running)).unwrap_or_default();
    if !state.is_empty() {
        return Verdict::CannotRead { state };
    }
    let place = place(machine.id, release);
    if machine.waits_its_turn && placement.rollout.share(now) <= place {
        return Verdict::NotYet { turn: placement.rollout.turn(place) };
    }
    Verdict::Fits
}

#[cfg(test)]
mod tests {
    use super::super::release::tests::{release, state};
    use super::super::release::{Rollout, Withdrawal};
    use super::*;

    struct World {
        releases: Vec<Release>,
        channel: ChannelName,
        version: Version,
        denied: BTreeSet<[u8; 32]>,
    }

    impl World {
        fn new(versions: &[&str]) -> Self {
            Self {
                releases: versions.iter().map(|version| release(version)).collect(),
                channel: ChannelName::parse("stable").unwrap(),
                version: Version::parse("1.0.0").unwrap(),
                denied: BTreeSet::new(),
            }
        }

        fn machine(&self) -> Machine<'_> {
            Machine {
                product: "ferrite",
                architecture: "x86_64",
                channel: &self.channel,
                version: &self.version,
                id: "00112233445566778899aabbccddeeff",
                rollback_floor: 0,
                loader_version: 1,
                pinned: None,
                denied: &self.denied,
                waits_its_turn: true,
            }
        }

        fn offered(&self, machine: &Machine<'_>) -> Option<&str> {
            offer(&self.releases, machine, 1000).release.map(|release| release.version.as_str())
        }

        /// What becomes of the last release when it is changed.
        fn verdict(mut self, change: impl FnOnce(&mut Release)) -> Verdict {
            change(self.releases.last_mut().unwrap());
            let offer = offer(&self.releases, &self.machine(), 1000);
            offer.considered.last().map_or(Verdict::OtherMachine, |(_, verdict)| verdict.clone())
        }
    }

    #[test]
    fn the_newest_release_is_taken_and_never_an_older_one() {
        let mut world = World::new(&["0.9.0", "1.0.0", "1.2.0", "1.10.0"]);
        assert_eq!(world.offered(&world.machine()), Some("1.10.0"));
        world.version = Version::parse("2.0.0").unwrap();
        assert_eq!(world.offered(&world.machine()), None);
    }

    #[test]
    fn stepping_stones_are_taken_one_after_the_other() {
        let mut world = World::new(&["1.0.0", "2.0.0", "3.0.0"]);
        world.releases[2].minimum_version = Some(Version::parse("2.0.0").unwrap());
        assert_eq!(world.offered(&world.machine()), Some("2.0.0"));
        world.version = Version::parse("2.0.0").unwrap();
        assert_eq!(world.offered(&world.machine()), Some("3.0.0"));
    }

    #[test]
    fn each_reason_against_a_release_is_given() {
        let world = || World::new(&["1.0.0", "1.1.0"]);
        let placement = |release: &mut Release| release.channels.values_mut().next().unwrap().clone();
        assert_eq!(world().verdict(|_| {}), Verdict::Fits);
        assert_eq!(world().verdict(|release| release.rollback_index = 5), Verdict::Fits);
        assert_eq!(world().verdict(|release| release.minimum_loader = 2), Verdict::NeedsLoader(2));
        let at = Date::from_unix(5).unwrap();
        let withdrawn = world().verdict(|release| {
            let withdrawn = Some(Withdrawal { at, reason: "bad".to_owned() });
            let placement = super::super::Placement { withdrawn, ..placement(release) };
            release.channels.insert(ChannelName::parse("stable").unwrap(), placement);
        });
        assert_eq!(withdrawn, Verdict::Withdrawn("bad".to_owned()));
        let later = world().verdict(|release| {
            let start = Date::from_unix(5000).unwrap();
            let placement = super::super::Placement { rollout: Rollout::everybody(start), withdrawn: None };
            release.channels.insert(ChannelName::parse("stable").unwrap(), placement);
        });
        assert_eq!(later, Verdict::NotYet { turn: Some(5000) });
        let mut state_world = world();
        state_world.releases[0].state.insert("etcd".to_owned(), state(&["3.4"], "3.4"));
        let unread = state_world
            .verdict(|release| drop(release.state.insert("etcd".to_owned(), state(&["3.6"], "3.6"))));
        assert_eq!(unread, Verdict::CannotRead { state: vec!["etcd 3.4".to_owned()] });
    }

    #[test]
    fn what_the_machine_knows_stands_against_a_release() {
        let mut world = World::new(&["1.0.0", "1.1.0", "1.2.0"]);
        let pinned = Version::parse("1.1.0").unwrap();
        assert_eq!(world.offered(&Machine { pinned: Some(&pinned), ..world.machine() }), Some("1.1.0"));
        assert_eq!(world.offered(&Machine { rollback_floor: 1, ..world.machine() }), None);
        assert_eq!(world.offered(&Machine { architecture: "aarch64", ..world.machine() }), None);
        assert_eq!(world.offered(&Machine { product: "other", ..world.machine() }), None);
        let beta = ChannelName::parse("beta").unwrap();
        assert_eq!(world.offered(&Machine { channel: &beta, ..world.machine() }), None);
        world.releases[2].root_hash = [7; 32];
        world.denied.insert([7; 32]);
        assert_eq!(world.offered(&world.machine()), Some("1.1.0"));
    }

    #[test]
    fn an_operator_need_not_wait_for_the_machines_turn() {
        let mut world = World::new(&["1.0.0", "1.1.0"]);
        let start = Date::from_unix(0).unwrap();
        for placement in world.releases[1].channels.values_mut() {
            placement.rollout = Rollout { percentage: 0, start, duration_seconds: 0 };
        }
        assert_eq!(world.offered(&world.machine()), None);
        assert_eq!(world.offered(&Machine { waits_its_turn: false, ..world.machine() }), Some("1.1.0"));
    }
}
