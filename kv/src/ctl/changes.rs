//! Changes of v3's keys as what v2's watches told of them. No I/O.
//!
//! A change of v3's says less: a key was put, or is gone. So a put is `set`, whether it was `mk`, `update` or a swap; a key that is
//! gone was removed, or went with its lease if that is gone as well.

use std::collections::BTreeMap;

use super::path::Path;
use super::tree::{Node, Response};
use crate::message::{Event, EventKind, KeyValue, LeaseId, Revision};

/// All changes of one revision that belong to a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The revision.
    pub revision: Revision,
    /// The changes.
    pub events: Vec<Event>,
}

/// What the changes alone do not say.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The keys before, where they are known.
    pub before: BTreeMap<Vec<u8>, KeyValue>,
    /// Leases that have ended.
    pub ended: Vec<LeaseId>,
    /// Directories in which there is nothing any more.
    pub empty: Vec<Path>,
}

impl Circumstances {
    /// Whether a key that is gone went with its lease.
    fn has_expired(&self, key: &[u8]) -> bool {
        self.before.get(key).is_some_and(|kv| self.ended.contains(&kv.lease))
    }
}

impl Group {
    /// Changes in groups of one revision each, in their order.
    pub fn of_events(events: Vec<Event>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for event in events {
            let revision = event.kv.mod_revision;
            match groups.last_mut().filter(|group| group.revision == revision) {
                Some(group) => group.events.push(event),
                None => groups.push(Self { revision, events: vec![event] }),
            }
        }
        groups
    }

    /// The directory that all removed keys are in, if there are several: it may have been removed with them.
    pub fn common_directory(&self) -> Option<Path> {
        let mut removed = self.events.iter().filter(|event| event.kind == EventKind::Delete);
        let mut paths = removed.by_ref().filter_map(|event| Path::of_key(&event.kv.key));
        let (first, is_marker) = paths.next()?;
        let mut common = if is_marker { Some(first) } else { first.parent() };
        let mut several = false;
        for (path, _) in paths {
            several = true;
            while common.as_ref().is_some_and(|common| !common.holds(path.key())) {
                common = common.and_then(|common| common.parent());
            }
        }
        common.filter(|common| several && !common.is_root())
    }

    /// Leases that the removed keys had.
    pub fn leases(&self, before: &BTreeMap<Vec<u8>, KeyValue>) -> Vec<LeaseId> {
        let removed = self.events.iter().filter(|event| event.kind == EventKind::Delete);
        let leases = removed.filter_map(|event| before.get(&event.kv.key)).map(|kv| kv.lease);
        let mut leases: Vec<LeaseId> = leases.filter(|lease| *lease != 0).collect();
        leases.sort_unstable();
        leases.dedup();
        leases
    }

    /// What v2 would have told of it to a watch of `watched`, `recursive` or not.
    pub fn told(&self, watched: &Path, recursive: bool, known: &Circumstances) -> Vec<Response> {
        let nodes: Vec<(Path, bool, &Event)> = self
            .events
            .iter()
            .filter_map(|event| Path::of_key(&event.kv.key).map(|(path, marker)| (path, marker, event)))
            .filter(|(path, ..)| watched.holds(path.key()) && (recursive || path == watched))
            .filter(|(path, ..)| !path.is_hidden_from(watched))
            .collect();
        let markers = || nodes.iter().filter(|(_, marker, _)| *marker);
        let removed_directory = self.common_directory().filter(|path| known.empty.contains(path));
        let mut told = Vec::new();
        for (path, _, event) in nodes.iter().filter(|(_, marker, _)| !*marker) {
            // Put again with the lease of its directory, or gone with it: v2 told of the directory alone.
            let with_directory = markers().any(|(directory, _, other)| {
                let same_lease = match event.kind {
                    EventKind::Put => other.kv.lease == event.kv.lease,
                    EventKind::Delete => true,
                };
                directory != path && directory.holds(path.key()) && other.kind == event.kind && same_lease
            });
            let replaced =
                markers().any(|(directory, _, other)| directory == path && other.kind == EventKind::Put);
            let removed = event.kind == EventKind::Delete
                && !known.has_expired(&event.kv.key)
                && removed_directory.as_ref().is_some_and(|directory| directory.holds(path.key()));
            if !with_directory && !replaced && !removed {
                told.push(self.response(path, false, event, known));
            }
        }
        // Markers that come and go beside values keep directories; v2 had no need of them.
        if told.is_empty() {
            let gone = markers().find(|(.., event)| event.kind == EventKind::Delete);
            if let Some((path, _, event)) = gone.or_else(|| markers().next()) {
                told.push(self.response(path, true, event, known));
            } else if let (Some(directory), Some((.., event))) = (&removed_directory, nodes.first())
                && recursive
            {
                told.push(self.response(directory, true, event, known));
            }
        }
        told
    }

    fn response(&self, path: &Path, dir: bool, event: &Event, known: &Circumstances) -> Response {
        let before = known.before.get(&event.kv.key);
        let previous = before.map(|kv| Node {
            key: path.key().to_vec(),
            dir,
            value: kv.value.clone(),
            created: kv.create_revision,
            modified: kv.mod_revision,
            ..Node::default()
        });
        let (action, created) = match event.kind {
            EventKind::Put => ("set", event.kv.create_revision),
            EventKind::Delete => {
                let created = before.map_or(0, |kv| kv.create_revision);
                (if known.has_expired(&event.kv.key) { "expire" } else { "delete" }, created)
            }
        };
        let node = Node {
            key: path.key().to_vec(),
            dir,
            value: event.kv.value.clone(),
            created,
            modified: self.revision,
            ..Node::default()
        };
        Response { action, node, previous, index: self.revision }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, key: &str, lease: LeaseId) -> Event {
        let value = if kind == EventKind::Put { b"v".to_vec() } else { vec![] };
        let kv = KeyValue { key: key.into(), value, mod_revision: 7, lease, ..KeyValue::default() };
        Event { kind, kv }
    }

    /// What happened to which key, and with which lease.
    type Change = (EventKind, &'static str, LeaseId);
    /// Action, node, whether it is a directory.
    type Told = (&'static str, &'static str, bool);

    #[test]
    fn changes_are_told_as_v2_told_them() {
        use EventKind::{Delete, Put};
        let known = Circumstances {
            before: [("/d/k", 5), ("/d/l", 0), ("/d/", 6), ("/e/x", 9)]
                .into_iter()
                .map(|(key, lease)| {
                    let kv =
                        KeyValue { key: key.into(), value: b"old".to_vec(), lease, ..KeyValue::default() };
                    (key.as_bytes().to_vec(), kv)
                })
                .collect(),
            ended: vec![5, 6],
            empty: vec![Path::root().child(b"d")],
        };
        // The changes of a revision, and what a watch of the root tells: action, node, whether a directory.
        let cases: &[(&[Change], &[Told])] = &[
            (&[(Put, "/d/k", 0)], &[("set", "/d/k", false)]),
            // With a time to live: the directory is kept.
            (&[(Put, "/d/k", 5), (Put, "/d/", 0)], &[("set", "/d/k", false)]),
            (&[(Delete, "/d/l", 0), (Put, "/d/", 0)], &[("delete", "/d/l", false)]),
            (&[(Delete, "/d/k", 0)], &[("expire", "/d/k", false)]),
            (&[(Delete, "/e/x", 0)], &[("delete", "/e/x", false)]),
            (&[(Put, "/m/", 0)], &[("set", "/m", true)]),
            (&[(Delete, "/m/n/", 0), (Put, "/m/", 0)], &[("delete", "/m/n", true)]),
            // A directory with another time to live, with what is in it.
            (&[(Put, "/d/k", 6), (Put, "/d/l", 6), (Put, "/d/", 6)], &[("set", "/d", true)]),
            (&[(Delete, "/d/", 0), (Delete, "/d/k", 0)], &[("expire", "/d", true)]),
            // Removed with all that was in it, without a marker.
            (&[(Delete, "/d/l", 0), (Delete, "/d/m", 0)], &[("delete", "/d", true)]),
            // Two of several: each by itself.
            (
                &[(Delete, "/e/x", 0), (Delete, "/e/y", 0)],
                &[("delete", "/e/x", false), ("delete", "/e/y", false)],
            ),
            // A value that becomes a directory.
            (&[(Delete, "/d/l", 0), (Put, "/d/l/", 0)], &[("set", "/d/l", true)]),
            (&[(Put, "/_h/x", 0)], &[]),
            (&[(Put, "no/node", 0)], &[]),
        ];
        for (events, want) in cases {
            let events = events.iter().map(|(kind, key, lease)| event(*kind, key, *lease)).collect();
            let group = Group::of_events(events).remove(0);
            let told = group.told(&Path::root(), true, &known);
            let told: Vec<_> = told
                .iter()
                .map(|one| (one.action, String::from_utf8(one.node.key.clone()).unwrap(), one.node.dir))
                .collect();
            let want: Vec<_> =
                want.iter().map(|(action, key, dir)| (*action, (*key).to_owned(), *dir)).collect();
            assert_eq!(told, want, "{group:?}");
        }
    }

    #[test]
    fn a_watch_of_one_key_hears_of_that_key() {
        let watched = Path::root().child(b"d");
        let group = |key| Group { revision: 7, events: vec![event(EventKind::Put, key, 0)] };
        let told = |key, recursive| group(key).told(&watched, recursive, &Circumstances::default()).len();
        assert_eq!(
            (told("/d", false), told("/d/k", false), told("/d/k", true), told("/dk", true)),
            (1, 0, 1, 0)
        );
    }
}
