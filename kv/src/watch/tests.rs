//! A watcher against a model of a cluster whose members lag, whose streams break, and that compacts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::message::{EventKind, Header};

/// What happens to the cluster or the stream.
#[derive(Debug, Clone)]
enum Happening {
    /// A key is set or removed.
    Change { key: u8, put: bool },
    /// The stream delivers up to so many revisions in one message.
    Deliver(usize),
    /// It reports progress.
    Progress,
    /// It breaks; the next one is at a member that is so many revisions behind.
    Break { lag: i64 },
    /// History up to here is thrown away.
    Compact,
    /// The store is restored from a snapshot that is so many revisions old, as another cluster.
    Restore { back: i64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0_u8..4, any::<bool>()).prop_map(|(key, put)| Happening::Change { key, put }),
        4 => (1_usize..5).prop_map(Happening::Deliver),
        1 => Just(Happening::Progress),
        2 => (0_i64..4).prop_map(|lag| Happening::Break { lag }),
        1 => Just(Happening::Compact),
        1 => (0_i64..3).prop_map(|back| Happening::Restore { back }),
    ]
}

/// The store with its history: one event a revision, revisions from 2 on.
struct Store {
    cluster: u64,
    history: Vec<Event>,
    compacted: i64,
}

impl Store {
    fn revision(&self) -> i64 {
        i64::try_from(self.history.len()).unwrap() + 1
    }

    fn change(&mut self, key: u8, put: bool) {
        let exists = self.state(self.revision()).contains_key(&vec![b'k', key]);
        if !put && !exists {
            return;
        }
        let revision = self.revision() + 1;
        let kv = KeyValue {
            key: vec![b'k', key],
            value: if put { revision.to_string().into_bytes() } else { Vec::new() },
            mod_revision: revision,
            ..KeyValue::default()
        };
        self.history.push(Event { kind: if put { EventKind::Put } else { EventKind::Delete }, kv });
    }

    fn state(&self, revision: i64) -> BTreeMap<Vec<u8>, KeyValue> {
        let mut state = BTreeMap::new();
        for event in self.history.iter().filter(|event| event.kv.mod_revision <= revision) {
            match event.kind {
                EventKind::Put => state.insert(event.kv.key.clone(), event.kv.clone()),
                EventKind::Delete => state.remove(&event.kv.key),
            };
        }
        state
    }

    fn message(&self, revision: i64) -> WatchMessage {
        WatchMessage { header: Header { cluster_id: self.cluster, revision }, ..WatchMessage::default() }
    }
}

/// What the watcher's owner believes.
#[derive(Default)]
struct Picture {
    state: BTreeMap<Vec<u8>, KeyValue>,
    revision: i64,
}

impl Picture {
    fn update(&mut self, update: Update) {
        let revision = update.revision();
        match update {
            Update::Snapshot { kvs, .. } => {
                self.state = kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
            }
            Update::Events { events, .. } => {
                for event in events {
                    assert!(event.kv.mod_revision > self.revision, "an event came twice or too late");
                    match event.kind {
                        EventKind::Put => self.state.insert(event.kv.key.clone(), event.kv),
                        EventKind::Delete => self.state.remove(&event.kv.key),
                    };
                }
            }
        }
        self.revision = revision;
    }
}

/// A stream that is open: what it has delivered up to, and what its member knows.
struct Stream {
    at: i64,
    known: i64,
    cluster: u64,
}

/// Opens whatever the watcher asks for.
fn open(watcher: &mut Watcher, store: &Store, picture: &mut Picture, lag: i64) -> Stream {
    loop {
        match watcher.step() {
            Step::Read => {
                let (kvs, revision) =
                    (store.state(store.revision()).into_values().collect(), store.revision());
                picture.update(watcher.read(kvs, revision, store.cluster));
            }
            Step::Open(from) => {
                let known = (store.revision() - lag).max(store.compacted);
                let created = WatchMessage { created: true, ..store.message(known) };
                if watcher.heard(created) == Heard::Over {
                    continue;
                }
                if from <= store.compacted {
                    let gone = WatchMessage {
                        canceled: true,
                        compact_revision: store.compacted,
                        header: Header { cluster_id: store.cluster, revision: 0 },
                        ..WatchMessage::default()
                    };
                    assert_eq!(watcher.heard(gone), Heard::Over);
                    continue;
                }
                return Stream { at: from - 1, known, cluster: store.cluster };
            }
        }
    }
}

fn deliver(
    watcher: &mut Watcher,
    store: &Store,
    picture: &mut Picture,
    stream: &mut Stream,
    revisions: usize,
) {
    let events: Vec<Event> = store
        .history
        .iter()
        .filter(|event| event.kv.mod_revision > stream.at && event.kv.mod_revision <= stream.known)
        .take(revisions)
        .cloned()
        .collect();
    let Some(last) = events.last() else { return };
    stream.at = last.kv.mod_revision;
    // The header tells the member's revision, not the last event's.
    let message = WatchMessage { events, ..store.message(stream.known) };
    if let Heard::News(update) = watcher.heard(message) {
        picture.update(update);
    }
}

proptest! {
    #[test]
    fn the_picture_is_always_one_that_there_was_and_in_the_end_the_last_one(happenings in proptest::collection::vec(happening(), 1..120)) {
        let mut store = Store { cluster: 7, history: Vec::new(), compacted: 0 };
        let mut watcher = Watcher::new(KeyRange::prefix("k"));
        let mut picture = Picture::default();
        let mut stream = open(&mut watcher, &store, &mut picture, 0);
        for happening in happenings {
            match happening {
                Happening::Change { key, put } => store.change(key, put),
                Happening::Deliver(revisions) => {
                    stream.known = store.revision();
                    deliver(&mut watcher, &store, &mut picture, &mut stream, revisions);
                }
                Happening::Progress => {
                    // Told only when the member has delivered all that it knows.
                    deliver(&mut watcher, &store, &mut picture, &mut stream, usize::MAX);
                    let message = store.message(stream.known);
                    watcher.heard(message);
                }
                Happening::Break { lag } => stream = open(&mut watcher, &store, &mut picture, lag),
                Happening::Compact => store.compacted = store.revision(),
                Happening::Restore { back } => {
                    let keep = store.history.len().saturating_sub(usize::try_from(back).unwrap());
                    store.history.truncate(keep);
                    store.compacted = store.compacted.min(store.revision());
                    store.cluster += 1;
                    stream = open(&mut watcher, &store, &mut picture, 0);
                }
            }
            prop_assert_eq!(stream.cluster, store.cluster);
            prop_assert_eq!(&picture.state, &store.state(picture.revision), "at {}", picture.revision);
        }
        // Whatever was: once the stream is whole again, the picture is the store.
        stream = open(&mut watcher, &store, &mut picture, 0);
        deliver(&mut watcher, &store, &mut picture, &mut stream, usize::MAX);
        prop_assert_eq!(&picture.state, &store.state(store.revision()));
    }
}
