//! One transaction in the making, with what v2 would say of it.

use super::{Content, Fault, MOST};
use crate::ctl::path::Path;
use crate::ctl::tree::{Facts, Node, Response};
use crate::message::{Compare, KeyRange, KeyValue, LeaseId, Op, Revision, Transaction};

/// The lease of a key that is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    None,
    /// That of the directory around it.
    Inherited(LeaseId),
    /// The one that is granted for this change.
    Granted,
}

/// One transaction: what it rests on and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    guards: Vec<Compare>,
    puts: Vec<(Vec<u8>, Vec<u8>, Lease)>,
    removals: Vec<KeyRange>,
    action: &'static str,
    node: Node,
    /// The node before.
    pub previous: Option<Node>,
    /// Seconds of the lease that has to be granted first.
    pub ttl: Option<i64>,
}

impl Change {
    /// Nothing so far.
    pub fn new(action: &'static str, path: &Path) -> Self {
        Self {
            guards: Vec::new(),
            puts: Vec::new(),
            removals: Vec::new(),
            action,
            node: Node { key: path.key().to_vec(), ..Node::default() },
            previous: None,
            ttl: None,
        }
    }

    /// The transaction; `granted` is the lease, 0 without one.
    pub fn transaction(&self, granted: LeaseId) -> Transaction {
        let puts = self.puts.iter().map(|(key, value, lease)| Op::Put {
            key: key.clone(),
            value: value.clone(),
            lease: match lease {
                Lease::None => 0,
                Lease::Inherited(id) => *id,
                Lease::Granted => granted,
            },
        });
        let removals = self.removals.iter().cloned().map(Op::Delete);
        Transaction {
            compare: self.guards.clone(),
            success: removals.chain(puts).collect(),
            failure: Vec::new(),
        }
    }

    /// What v2 would say of it, once it is done at `revision` with a lease of `granted` seconds.
    pub fn response(&self, revision: Revision, granted: Option<i64>) -> Response {
        let created = if self.node.created == 0 { revision } else { self.node.created };
        let ttl = self.node.ttl.map(|ttl| granted.unwrap_or(ttl));
        let node = Node { created, modified: revision, ttl, ..self.node.clone() };
        Response { action: self.action, node, previous: self.previous.clone(), index: revision }
    }

    /// What cannot be seen cannot be compared either.
    fn guard(&mut self, facts: &Facts, key: &[u8], revision: Revision) {
        if !facts.is_unseen(key) {
            self.guards.push(Compare::unchanged(key, revision));
        }
    }

    fn guard_as_it_is(&mut self, facts: &Facts, key: &[u8]) {
        let revision = facts.keys.get(key).map_or(0, |kv| kv.mod_revision);
        self.guard(facts, key, revision);
    }

    /// Nothing must have come into a directory since.
    pub fn nothing_newer(&mut self, facts: &Facts, path: &Path) {
        if !facts.is_unseen(&path.marker()) {
            self.guards.push(Compare::none_newer(path.below(), facts.revision));
        }
    }

    /// The lease that something at `path` gets: its own, unless a directory around it goes earlier.
    fn lease(&mut self, facts: &Facts, path: &Path, ttl: Option<i64>) -> Lease {
        let inherited = facts.inherited(path);
        for above in path.ancestors() {
            self.guard_as_it_is(facts, &above.marker());
        }
        match (ttl, inherited) {
            (None, None) => Lease::None,
            (Some(ttl), Some((id, left))) if ttl >= left => Lease::Inherited(id),
            (None, Some((id, _))) => Lease::Inherited(id),
            (Some(ttl), _) => {
                self.ttl = Some(ttl);
                Lease::Granted
            }
        }
    }

    /// A directory outlives what is in it: something in it must last as long as it does, or it gets a marker. `path` is what goes.
    fn keep_directory_of(&mut self, facts: &Facts, path: &Path) {
        let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else { return };
        let marker = parent.marker();
        if facts.is_unseen(&marker) {
            return;
        }
        if facts.marker(&parent).is_some() {
            return self.guard_as_it_is(facts, &marker);
        }
        let inherited = facts.inherited(path).map_or(0, |(id, _)| id);
        let lasts = |kv: &&KeyValue| !path.holds(&kv.key) && (kv.lease == 0 || kv.lease == inherited);
        if let Some(kv) = facts.below(&parent).find(lasts) {
            let (key, revision) = (kv.key.clone(), kv.mod_revision);
            return self.guard(facts, &key, revision);
        }
        let lease = if inherited == 0 { Lease::None } else { Lease::Inherited(inherited) };
        self.guard(facts, &marker, 0);
        self.puts.push((marker, Vec::new(), lease));
    }

    /// Makes a node, or puts another in its place.
    pub fn put(&mut self, facts: &Facts, path: &Path, content: &Content, ttl: Option<i64>) {
        let before = facts.value(path);
        for above in path.ancestors() {
            if facts.value(&above).is_none() {
                self.guard(facts, above.key(), 0);
            }
        }
        self.guard_as_it_is(facts, path.key());
        if !facts.is_directory(path) && !facts.is_unseen(&path.marker()) {
            self.guards.push(Compare::none_newer(path.below(), 0));
        }
        let lease = self.lease(facts, path, ttl);
        if lease == Lease::Granted {
            self.keep_directory_of(facts, path);
        }
        self.node.ttl = ttl;
        match content {
            Content::Value(value) => {
                self.node.value.clone_from(value);
                self.node.created = before.map_or(0, |kv| kv.create_revision);
                self.puts.push((path.key().to_vec(), value.clone(), lease));
            }
            Content::Directory => {
                self.node.dir = true;
                if before.is_some() {
                    self.removals.push(KeyRange::key(path.key()));
                }
                self.puts.push((path.marker(), Vec::new(), lease));
            }
        }
    }

    /// Gives a directory another time to live, or none: so get all keys in it that share its fate.
    ///
    /// # Errors
    /// There are too many of them.
    pub fn renew_directory(&mut self, facts: &Facts, path: &Path, ttl: Option<i64>) -> Result<(), Fault> {
        let before = facts.directory(path);
        self.node = Node { dir: true, ttl, created: before.created, ..self.node.clone() };
        self.previous = Some(before);
        let marker = facts.marker(path);
        let old = marker.map_or(0, |kv| kv.lease);
        let lease = self.lease(facts, path, ttl);
        if lease == Lease::Granted {
            self.keep_directory_of(facts, path);
        }
        self.guard_as_it_is(facts, &path.marker());
        self.puts.push((path.marker(), marker.map(|kv| kv.value.clone()).unwrap_or_default(), lease));
        let stays = matches!(lease, Lease::None) && old == 0 || lease == Lease::Inherited(old);
        if stays {
            // One that nothing but the keys in it made a directory may be gone by now.
            if marker.is_none()
                && let Some(kv) = facts.below(path).next()
            {
                self.guard(facts, &kv.key, kv.mod_revision);
            }
            return Ok(());
        }
        if facts.below(path).count() > MOST as usize {
            return Err(Fault::TooLarge(path.clone()));
        }
        self.nothing_newer(facts, path);
        for kv in facts.below(path).filter(|kv| kv.key != path.marker()) {
            self.guard(facts, &kv.key, kv.mod_revision);
            if kv.lease == old || kv.lease == 0 {
                self.puts.push((kv.key.clone(), kv.value.clone(), lease));
            }
        }
        Ok(())
    }

    /// Removes a value.
    pub fn remove_value(&mut self, facts: &Facts, path: &Path, kv: &KeyValue) {
        self.previous = Some(facts.leaf(path, kv));
        self.node.created = kv.create_revision;
        self.guard(facts, path.key(), kv.mod_revision);
        self.keep_directory_of(facts, path);
        self.removals.push(KeyRange::key(path.key()));
    }

    /// Removes a directory, `recursive` with all that is in it.
    pub fn remove_directory(&mut self, facts: &Facts, path: &Path, recursive: bool) {
        let before = facts.directory(path);
        self.node = Node { dir: true, created: before.created, ..self.node.clone() };
        self.previous = Some(before);
        // It is there as long as this is.
        if let Some(kv) = facts.below(path).next() {
            self.guard(facts, &kv.key, kv.mod_revision);
        }
        self.keep_directory_of(facts, path);
        if recursive {
            self.removals.push(path.below());
            if facts.value(path).is_some() {
                self.removals.push(KeyRange::key(path.key()));
            }
        } else {
            self.guards.push(Compare::none_newer(path.inside(), 0));
            self.removals.push(KeyRange::key(path.marker()));
        }
    }
}
