//! What machines will see: the releases of each channel, and for each version that a machine may run what it is offered.
//! By the same rule that machines go by ([`offer`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use update_engine::channel::metadata::{Date, Root};
use update_engine::channel::release::{PLACES, Unreadable};
use update_engine::channel::sign::Edition;
use update_engine::channel::{ChannelName, Machine, Release, Rollout, Verdict, Version, Withdrawal, offer};

/// What a channel folder says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The product; none as long as there is no release.
    pub product: Option<String>,
    /// As in `uname -m`.
    pub architecture: Option<String>,
    /// The metadata, by role.
    pub metadata: BTreeMap<&'static str, Metadata>,
    /// The channels.
    pub channels: Vec<Channel>,
    /// Releases in no channel.
    pub elsewhere: Vec<Version>,
    /// What a publisher should look at.
    pub warnings: Vec<String>,
}

/// A metadata file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Its version.
    pub version: u64,
    /// When machines stop to believe it.
    pub expires: Date,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Channel {
    /// Its name.
    pub name: ChannelName,
    /// Its releases, newest first.
    pub releases: Vec<Placed>,
    /// What machines are offered, by what they run, newest first. `before` stands for anything older than the channel has.
    pub machines: Vec<Seen>,
}

/// A release in a channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Placed {
    /// Its version.
    pub version: Version,
    /// How it spreads.
    pub rollout: Rollout,
    /// Machines of a hundred that have it by now.
    pub share_now: f64,
    /// Whether and why it was withdrawn.
    pub withdrawn: Option<Withdrawal>,
    /// Bytes of index and payload.
    pub payload_bytes: u64,
    /// Of the slot.
    pub rollback_index: u64,
    /// The loader that it needs.
    pub minimum_loader: u32,
    /// Least version to come from.
    pub minimum_version: Option<Version>,
    /// Whether machines may go back by themselves.
    pub automatic_rollback: bool,
    /// What is new.
    pub notes: String,
}

/// What a machine is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// What it runs; none is older than everything here.
    pub runs: Option<Version>,
    /// What it is offered when its turn comes; none if nothing.
    pub offered: Option<Version>,
    /// Why it is not offered the newest.
    pub why_not_newest: Option<String>,
}

impl View {
    /// Looks at a folder's content at a moment (Unix seconds).
    pub fn new(
        root: &Root,
        edition: &Edition,
        releases: &[Release],
        unreadable: &[Unreadable],
        now: u64,
    ) -> Self {
        let entry = |version, expires| Metadata { version, expires };
        let metadata = BTreeMap::from([
            ("root", entry(root.version, root.expires)),
            ("targets", entry(edition.targets.version, edition.targets.expires)),
            ("snapshot", entry(edition.snapshot.version, edition.snapshot.expires)),
            ("timestamp", entry(edition.timestamp.version, edition.timestamp.expires)),
        ]);
        let names: BTreeSet<&ChannelName> =
            releases.iter().flat_map(|release| release.channels.keys()).collect();
        let mut view = Self {
            product: releases.first().map(|release| release.product.clone()),
            architecture: releases.first().map(|release| release.architecture.clone()),
            channels: names.into_iter().map(|name| channel(name, releases, now)).collect(),
            elsewhere: releases
                .iter()
                .filter(|release| release.channels.is_empty())
                .map(|release| release.version.clone())
                .collect(),
            warnings: Vec::new(),
            metadata,
        };
        view.warn(unreadable, now);
        view
    }

    fn warn(&mut self, unreadable: &[Unreadable], now: u64) {
        for (role, metadata) in &self.metadata {
            let left = metadata.expires.unix().saturating_sub(now);
            // A timestamp lives for days and is renewed by a timer, the others live for months.
            let soon = if *role == "timestamp" { 86_400 } else { 14 * 86_400 };
            if left == 0 {
                let text = format!("the {role} metadata has expired: machines refuse this channel folder");
                self.warnings.push(text);
            } else if left < soon {
                self.warnings.push(format!("the {role} metadata expires in {}", duration(left)));
            }
        }
        for target in unreadable {
            self.warnings.push(format!("{} is not readable: {}", target.path, target.reason));
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let machine = match (&self.product, &self.architecture) {
            (Some(product), Some(architecture)) => format!("{product} on {architecture}"),
            _ => "no release yet".to_owned(),
        };
        line(&mut text, &machine);
        for (role, metadata) in &self.metadata {
            line(
                &mut text,
                &format!("  {role:<9} version {:<5} until {}", metadata.version, metadata.expires),
            );
        }
        for channel in &self.channels {
            line(&mut text, &format!("\nchannel {}", channel.name));
            table(&mut text, &channel.release_rows());
            text.push('\n');
            table(&mut text, &channel.machine_rows());
        }
        if !self.elsewhere.is_empty() {
            let versions: Vec<_> = self.elsewhere.iter().map(Version::as_str).collect();
            line(&mut text, &format!("\nin no channel: {}", versions.join(", ")));
        }
        text
    }
}

impl Channel {
    fn release_rows(&self) -> Vec<[String; 5]> {
        let mut rows = vec![["RELEASE", "FOR", "FROM", "PAYLOAD", "ROLLBACK INDEX"].map(str::to_owned)];
        rows.extend(self.releases.iter().map(|placed| {
            let whom = match &placed.withdrawn {
                Some(withdrawal) => format!("nobody: withdrawn, {}", withdrawal.reason),
                None => spread(&placed.rollout, placed.share_now),
            };
            let from = placed.minimum_version.as_ref().map_or("any".to_owned(), ToString::to_string);
            [
                placed.version.to_string(),
                whom,
                from,
                format!("{:.1} MB", placed.payload_bytes as f64 / 1e6),
                placed.rollback_index.to_string(),
            ]
        }));
        rows
    }

    fn machine_rows(&self) -> Vec<[String; 3]> {
        let mut rows = vec![["A MACHINE WITH", "IS OFFERED", ""].map(str::to_owned)];
        rows.extend(self.machines.iter().map(|seen| {
            [
                seen.runs.as_ref().map_or("older ones".to_owned(), ToString::to_string),
                seen.offered.as_ref().map_or("nothing".to_owned(), ToString::to_string),
                seen.why_not_newest.clone().unwrap_or_default(),
            ]
        }));
        rows
    }
}

fn spread(rollout: &Rollout, share_now: f64) -> String {
    let end = Date::from_unix(rollout.start.unix().saturating_add(rollout.duration_seconds))
        .unwrap_or(rollout.start);
    let whole = f64::from(rollout.percentage);
    match (share_now >= whole, rollout.percentage) {
        (true, 100) => "everybody".to_owned(),
        (true, percentage) => format!("{percentage} %"),
        (false, percentage) => format!("{share_now:.1} % now, {percentage} % on {end}"),
    }
}

fn channel(name: &ChannelName, releases: &[Release], now: u64) -> Channel {
    let mut placed: Vec<(&Release, Placed)> = releases
        .iter()
        .filter_map(|release| {
            let placement = release.channels.get(name)?;
            let entry = Placed {
                version: release.version.clone(),
                rollout: placement.rollout,
                share_now: placement.rollout.share(now) as f64 * 100.0 / PLACES as f64,
                withdrawn: placement.withdrawn.clone(),
                payload_bytes: release.index.length.saturating_add(release.payload.length),
                rollback_index: release.rollback_index,
                minimum_loader: release.minimum_loader,
                minimum_version: release.minimum_version.clone(),
                automatic_rollback: release.automatic_rollback,
                notes: release.notes.clone(),
            };
            Some((release, entry))
        })
        .collect();
    placed.sort_by(|(a, _), (b, _)| b.version.cmp(&a.version));
    let mut machines: Vec<Seen> = placed
        .iter()
        .map(|(release, _)| seen(name, release, Some(&release.version), releases, now))
        .collect();
    machines.extend(placed.last().map(|(oldest, _)| seen(name, oldest, None, releases, now)));
    Channel { name: name.clone(), releases: placed.into_iter().map(|(_, entry)| entry).collect(), machines }
}

/// What a machine of a release's kind is offered that runs a version, or one older than all.
fn seen(name: &ChannelName, like: &Release, runs: Option<&Version>, releases: &[Release], now: u64) -> Seen {
    let oldest = Version::parse("0~").ok();
    let unknown = like.version.clone();
    let machine = Machine {
        product: &like.product,
        architecture: &like.architecture,
        channel: name,
        version: runs.or(oldest.as_ref()).unwrap_or(&unknown),
        id: "",
        rollback_floor: 0,
        loader_version: slots::LOADER_VERSION,
        pinned: None,
        denied: &BTreeSet::new(),
        // Turns are told beside each release.
        waits_its_turn: false,
    };
    let found = offer(releases, &machine, now);
    let why = found.considered.last().and_then(|(_, verdict)| match verdict {
        Verdict::Fits | Verdict::Running | Verdict::Older => None,
        other => Some(other.to_string()),
    });
    Seen {
        runs: runs.cloned(),
        offered: found.release.map(|release| release.version.clone()),
        why_not_newest: why,
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut out = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing into a String cannot fail.
            let _ = write!(out, "  {cell:<width$}");
        }
        line(text, &out);
    }
}

/// `3 d 4 h`, for people.
pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}
