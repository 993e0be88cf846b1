//! Watches that miss nothing: resumed at a revision when a stream breaks, begun anew when that revision has been compacted.
//!
//! [`Watcher`] decides; [`Watch`] is the thread around it. Whoever watches keeps a picture of a range: an [`Update::Snapshot`]
//! replaces it, [`Update::Events`] changes it, and at the end of each it is what the range was at [`Update::revision`].

mod thread;

use crate::message::{Event, KeyRange, KeyValue, Revision, WatchMessage};

pub use self::thread::Watch;

/// News of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All that there is: at the beginning, and whenever changes in between cannot be had any more.
    Snapshot {
        /// The keys.
        kvs: Vec<KeyValue>,
        /// When they were so.
        revision: Revision,
    },
    /// Changes, in their order; those of one revision are never in two updates.
    Events {
        /// At least one.
        events: Vec<Event>,
        /// The last one's.
        revision: Revision,
    },
}

impl Update {
    /// The revision that the picture is of afterwards.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        match self {
            Self::Snapshot { revision, .. } | Self::Events { revision, .. } => *revision,
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read all of the range.
    Read,
    /// Open a stream from this revision on.
    Open(Revision),
}

/// What a message of the stream came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new.
    Nothing,
    /// Changes.
    News(Update),
    /// The stream is of no use any more: [`Watcher::step`] says how it goes on.
    Over,
}

/// Where a watch stands: a state machine without I/O.
#[derive(Debug, Clone)]
pub struct Watcher {
    range: KeyRange,
    /// The first revision that was not seen; `None`: nothing was.
    next: Option<Revision>,
    /// The cluster that the revisions are of.
    cluster: u64,
}

impl Watcher {
    /// A watch that begins with a snapshot.
    #[must_use]
    pub const fn new(range: KeyRange) -> Self {
        Self { range, next: None, cluster: 0 }
    }

    /// A watch of all changes from a revision on; a snapshot comes only when they cannot be had any more. The first one to answer says
    /// which cluster it is.
    #[must_use]
    pub const fn from(range: KeyRange, revision: Revision) -> Self {
        Self { range, next: Some(revision), cluster: 0 }
    }

    /// The range.
    #[must_use]
    pub const fn range(&self) -> &KeyRange {
        &self.range
    }

    /// How it goes on: at the beginning, and whenever a stream is over or broken.
    #[must_use]
    pub fn step(&self) -> Step {
        self.next.map_or(Step::Read, Step::Open)
    }

    /// All of the range was read.
    pub fn read(&mut self, kvs: Vec<KeyValue>, revision: Revision, cluster: u64) -> Update {
        self.next = Some(revision.saturating_add(1));
        self.cluster = cluster;
        Update::Snapshot { kvs, revision }
    }

    /// A message of the stream.
    pub fn heard(&mut self, message: WatchMessage) -> Heard {
        let WatchMessage { header, created, canceled, compact_revision, mut events, .. } = message;
        let periodic = events.is_empty() && !created;
        let Some(next) = self.next else { return Heard::Over };
        // Revisions of another cluster (one restored from a snapshot is another one) mean nothing here. Cancellations say no id
        // when there is nothing else to say.
        if self.cluster == 0 {
            self.cluster = header.cluster_id;
        }
        if header.cluster_id != 0 && header.cluster_id != self.cluster {
            self.next = None;
            return Heard::Over;
        }
        if compact_revision > 0 {
            self.next = None;
            return Heard::Over;
        }
        if canceled {
            return Heard::Over;
        }
        // A member that lags behind may repeat what another one has told already.
        events.retain(|event| event.kv.mod_revision >= next && self.range.contains(&event.kv.key));
        let Some(last) = events.last() else {
            if periodic {
                // All changes up to its revision were told. Keeps a quiet watch from falling behind compactions.
                self.next = Some(next.max(header.revision.saturating_add(1)));
            }
            return Heard::Nothing;
        };
        let revision = last.kv.mod_revision;
        self.next = Some(revision.saturating_add(1));
        Heard::News(Update::Events { events, revision })
    }

    /// A stream could not even be opened at the revision, because it is compacted, or what came since is too much for one message.
    pub fn compacted(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests;
