//! v2's tree as the keys of v3 show it.

use std::collections::BTreeMap;

use super::path::Path;
use crate::message::{KeyRange, KeyValue, LeaseId, Revision, TimeToLive};

/// A node as v2 told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name; empty for the root.
    pub key: Vec<u8>,
    /// Whether it is a directory.
    pub dir: bool,
    /// What it holds.
    pub value: Vec<u8>,
    /// What is in it and not hidden, in order; only of what was asked for.
    pub nodes: Vec<Self>,
    /// Since which revision it is there; of a directory without a marker, the oldest key in it.
    pub created: Revision,
    /// When it was last changed.
    pub modified: Revision,
    /// Seconds until it goes, if it goes by itself.
    pub ttl: Option<i64>,
}

/// What an operation came to, as v2 told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What was done: `get`, `set`, `create`, `update`, `compareAndSwap`, `delete`, `compareAndDelete`, `expire`.
    pub action: &'static str,
    /// The node afterwards.
    pub node: Node,
    /// The node before.
    pub previous: Option<Node>,
    /// The store's revision.
    pub index: Revision,
}

/// What is known of the store at one revision: the keys of all ranges that a request reads.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The revision.
    pub revision: Revision,
    /// The keys.
    pub keys: BTreeMap<Vec<u8>, KeyValue>,
    /// How long leases last; those that nobody asked for are missing.
    pub leases: BTreeMap<LeaseId, TimeToLive>,
    /// What this user may not see. It counts as a directory above what it may see, and for the rest as not there.
    pub unseen: Vec<KeyRange>,
    /// What it may see, if not all.
    pub seen: Vec<KeyRange>,
}

impl Facts {
    /// The key with a node's value.
    pub fn value(&self, path: &Path) -> Option<&KeyValue> {
        self.keys.get(path.key())
    }

    /// The key that keeps a directory.
    pub fn marker(&self, path: &Path) -> Option<&KeyValue> {
        self.keys.get(&path.marker())
    }

    /// The known keys below a node, its marker included.
    pub fn below(&self, path: &Path) -> impl Iterator<Item = &KeyValue> {
        let marker = path.marker();
        let from = self.keys.range(marker.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&marker)).map(|(_, kv)| kv)
    }

    /// Whether a node is a directory.
    pub fn is_directory(&self, path: &Path) -> bool {
        path.is_root() || self.below(path).next().is_some() || self.is_unseen(path.key())
    }

    /// Whether a key may be there without this user's seeing it.
    pub fn is_unseen(&self, key: &[u8]) -> bool {
        let has = |ranges: &[KeyRange]| ranges.iter().any(|range| range.contains(key));
        has(&self.unseen) && !has(&self.seen)
    }

    /// The lease of the directories around a node that ends first, with its seconds; the innermost of equals.
    pub fn inherited(&self, path: &Path) -> Option<(LeaseId, i64)> {
        let around = path.ancestors();
        let leases = around.iter().rev().filter_map(|path| self.marker(path)).map(|kv| kv.lease);
        let leases = leases.filter(|lease| *lease != 0);
        leases.map(|lease| (lease, self.seconds(lease).unwrap_or(i64::MAX))).min_by_key(|(_, left)| *left)
    }

    /// Seconds that a lease lasts, rounded up.
    fn seconds(&self, lease: LeaseId) -> Option<i64> {
        let TimeToLive { left, granted } = self.leases.get(&lease)?;
        (*left >= 0).then(|| left.saturating_add(1).min(*granted))
    }

    /// The time to live that a key has by itself, not as part of a directory.
    fn own_ttl(&self, path: &Path, lease: LeaseId) -> Option<i64> {
        let around = path.ancestors();
        let mut markers = around.iter().filter_map(|path| self.marker(path));
        if markers.any(|kv| kv.lease == lease) { None } else { self.seconds(lease) }
    }

    /// A node with a value.
    pub fn leaf(&self, path: &Path, kv: &KeyValue) -> Node {
        Node {
            key: path.key().to_vec(),
            value: kv.value.clone(),
            created: kv.create_revision,
            modified: kv.mod_revision,
            ttl: self.own_ttl(path, kv.lease),
            ..Node::default()
        }
    }

    /// A directory without what is in it.
    pub fn directory(&self, path: &Path) -> Node {
        let marker = self.marker(path);
        let oldest = || self.below(path).map(|kv| kv.create_revision).min().unwrap_or(0);
        let created = if path.is_root() { 0 } else { marker.map_or_else(oldest, |kv| kv.create_revision) };
        Node {
            key: path.key().to_vec(),
            dir: true,
            created,
            modified: marker.map_or(created, |kv| kv.mod_revision),
            ttl: marker.and_then(|kv| self.own_ttl(path, kv.lease)),
            ..Node::default()
        }
    }

    /// A directory with what is in it, all the way down if `recursive`.
    pub fn listing(&self, path: &Path, recursive: bool) -> Node {
        let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        let marker = path.marker();
        for kv in self.below(path).filter(|kv| Path::of_key(&kv.key).is_some()) {
            let rest = kv.key.strip_prefix(marker.as_slice()).unwrap_or_default();
            let mut parts = rest.splitn(2, |byte| *byte == b'/');
            let name = parts.next().unwrap_or_default();
            if name.is_empty() || name.starts_with(b"_") {
                continue;
            }
            *names.entry(name.to_vec()).or_default() |= parts.next().is_some();
        }
        let nodes = names.into_iter().map(|(name, is_directory)| {
            let path = path.child(&name);
            match self.value(&path) {
                Some(kv) if !is_directory => self.leaf(&path, kv),
                _ if recursive => self.listing(&path, true),
                _ => self.directory(&path),
            }
        });
        let nodes = nodes.collect();
        Node { nodes, ..self.directory(path) }
    }

    /// The leases of all keys that are known.
    pub fn all_leases(&self) -> Vec<LeaseId> {
        let mut all: Vec<LeaseId> =
            self.keys.values().map(|kv| kv.lease).filter(|lease| *lease != 0).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The leases of directories alone.
    pub fn leases_of_markers(&self) -> Vec<LeaseId> {
        let markers = self.keys.values().filter(|kv| kv.lease != 0 && kv.key.ends_with(b"/"));
        let mut all: Vec<LeaseId> = markers.map(|kv| kv.lease).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}
