//! What clients of etcd did and were told, and whether one store that never forgets could have told them that.
//!
//! etcd numbers its writes: each answer carries the revision of the store. That makes the check exact and cheap: the order in which the
//! writes took effect need not be searched for, it is claimed by the answers, and [`check`] looks whether the claims agree with each
//! other, with the clock, and with what is there in the end. Pure; [`run`] makes histories.

pub mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A key, by number.
pub type Key = u64;
/// What is written: no two writes write the same.
pub type Value = u64;
/// A revision of the store.
pub type Revision = u64;

/// What was asked and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A write; the revision that it got, or `None` when no answer came: it took effect at some time since, or never.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
        /// The write's own revision.
        revision: Option<Revision>,
    },
    /// A linearizable read that was answered.
    Get {
        /// The key.
        key: Key,
        /// The revision of the store that was read.
        revision: Revision,
        /// The value and the revision of the write that wrote it.
        found: Option<(Value, Revision)>,
    },
}

/// A call with its times, on one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was sent.
    pub begun: Duration,
    /// When the answer was there.
    pub ended: Duration,
    /// What it was.
    pub call: Call,
}

/// What etcd did that it must not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A write was acknowledged, and a later read of its key saw an older value or none.
    Lost {
        /// The key.
        key: Key,
        /// The write's revision.
        write: Revision,
        /// The revision of the store that was read.
        read: Revision,
    },
    /// A value was read that nobody wrote to that key, or under another revision than its write was told.
    Invented {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
    },
    /// Two writes have one revision.
    Shared(Revision),
    /// Something that ended before something else began is numbered as if it came after it.
    Backwards {
        /// The revision of what came first.
        first: Revision,
        /// The revision of what came later.
        later: Revision,
    },
}

/// Everything that is wrong with a history; reads at the end belong to it.
#[must_use]
pub fn check(events: &[Event]) -> BTreeSet<Violation> {
    let mut wrong = BTreeSet::new();
    let order = revisions(events, &mut wrong);
    // The writes of each key whose place is known, in order of their revisions.
    let mut placed: BTreeMap<Key, BTreeMap<Revision, Value>> = BTreeMap::new();
    for event in events {
        if let Call::Put { key, value, .. } = event.call
            && let Some(revision) = order.get(&value)
        {
            placed.entry(key).or_default().insert(*revision, value);
        }
    }
    let none = BTreeMap::new();
    for event in events {
        let Call::Get { key, revision, found } = event.call else { continue };
        let writes = placed.get(&key).unwrap_or(&none);
        if let Some((value, at)) = found
            && (writes.get(&at) != Some(&value) || at > revision)
        {
            wrong.insert(Violation::Invented { key, value });
        }
        let seen = found.map_or(0, |(_, at)| at);
        // The newest write that the read had to see.
        if let Some((newest, _)) = writes.range(..=revision).next_back()
            && *newest > seen
        {
            wrong.insert(Violation::Lost { key, write: *newest, read: revision });
        }
    }
    backwards(events, &order, &mut wrong);
    wrong
}

/// The revision of each write that has one: as it was acknowledged, or as a read saw it.
fn revisions(events: &[Event], wrong: &mut BTreeSet<Violation>) -> BTreeMap<Value, Revision> {
    let mut order: BTreeMap<Value, Revision> = BTreeMap::new();
    let mut attempted: BTreeMap<Value, Key> = BTreeMap::new();
    for event in events {
        if let Call::Put { key, value, revision } = event.call {
            attempted.insert(value, key);
            order.extend(revision.map(|revision| (value, revision)));
        }
    }
    for event in events {
        let Call::Get { key, found: Some((value, at)), .. } = event.call else { continue };
        if attempted.get(&value) != Some(&key) || *order.entry(value).or_insert(at) != at {
            wrong.insert(Violation::Invented { key, value });
        }
    }
    let mut taken = BTreeSet::new();
    for revision in order.values() {
        if !taken.insert(*revision) {
            wrong.insert(Violation::Shared(*revision));
        }
    }
    order
}

/// Compares revisions with the clock: by the time that a call begins, the store has at least the revision of every call that has ended, and
/// a write gets a new one.
fn backwards(events: &[Event], order: &BTreeMap<Value, Revision>, wrong: &mut BTreeSet<Violation>) {
    let mut ends: Vec<(Duration, Revision)> = Vec::new();
    // What began when, and the least revision that the store may have had before.
    let mut begins: Vec<(Duration, Revision, Revision)> = Vec::new();
    for event in events {
        match event.call {
            Call::Put { value, revision, .. } => {
                if let Some(revision) = revision {
                    ends.push((event.ended, revision));
                }
                if let Some(revision) = order.get(&value) {
                    begins.push((event.begun, revision.saturating_sub(1), *revision));
                }
            }
            Call::Get { revision, .. } => {
                ends.push((event.ended, revision));
                begins.push((event.begun, revision, revision));
            }
        }
    }
    ends.sort_unstable();
    begins.sort_unstable();
    let mut ended = ends.into_iter().peekable();
    let mut newest = 0;
    for (begun, most, own) in begins {
        while let Some((_, revision)) = ended.next_if(|(at, _)| *at < begun) {
            newest = newest.max(revision);
        }
        if newest > most {
            wrong.insert(Violation::Backwards { first: newest, later: own });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(begun: u64, ended: u64, call: Call) -> Event {
        Event { begun: Duration::from_millis(begun), ended: Duration::from_millis(ended), call }
    }

    fn put(begun: u64, ended: u64, key: Key, value: Value, revision: Option<Revision>) -> Event {
        event(begun, ended, Call::Put { key, value, revision })
    }

    fn get(begun: u64, ended: u64, key: Key, revision: Revision, found: Option<(Value, Revision)>) -> Event {
        event(begun, ended, Call::Get { key, revision, found })
    }

    fn wrong(events: &[Event]) -> Vec<Violation> {
        check(events).into_iter().collect()
    }

    #[test]
    fn a_history_of_one_store_is_fine() {
        let history = [
            put(0, 10, 1, 100, Some(2)),
            put(5, 15, 2, 101, Some(3)),
            put(20, 90, 1, 102, None),
            get(30, 35, 1, 4, Some((102, 4))),
            put(40, 95, 1, 103, None),
            get(50, 55, 2, 4, Some((101, 3))),
            get(100, 110, 1, 4, Some((102, 4))),
            get(100, 110, 3, 4, None),
        ];
        assert_eq!(wrong(&history), []);
    }

    #[test]
    fn lost_writes_are_found() {
        let lost = [put(0, 10, 1, 100, Some(2)), get(20, 30, 1, 2, None)];
        assert_eq!(wrong(&lost), [Violation::Lost { key: 1, write: 2, read: 2 }]);
        let old =
            [put(0, 10, 1, 100, Some(2)), put(11, 20, 1, 101, Some(3)), get(30, 40, 1, 5, Some((100, 2)))];
        assert_eq!(wrong(&old), [Violation::Lost { key: 1, write: 3, read: 5 }]);
    }

    #[test]
    fn stale_reads_are_found() {
        let stale = [put(0, 10, 1, 100, Some(7)), get(20, 30, 1, 6, None)];
        assert_eq!(wrong(&stale), [Violation::Backwards { first: 7, later: 6 }]);
        let allowed = [put(0, 25, 1, 100, Some(7)), get(20, 30, 1, 6, None)];
        assert_eq!(wrong(&allowed), [], "the two overlap");
    }

    #[test]
    fn forks_and_inventions_are_found() {
        let fork = [put(0, 10, 1, 100, Some(2)), put(0, 10, 2, 101, Some(2))];
        assert_eq!(wrong(&fork), [Violation::Shared(2)]);
        assert_eq!(wrong(&[get(0, 10, 1, 3, Some((9, 3)))]), [Violation::Invented { key: 1, value: 9 }]);
        let moved = [put(0, 10, 1, 100, Some(2)), get(20, 30, 1, 4, Some((100, 3)))];
        assert!(check(&moved).contains(&Violation::Invented { key: 1, value: 100 }));
        let elsewhere = [put(0, 10, 1, 100, Some(2)), get(20, 30, 2, 4, Some((100, 2)))];
        assert!(check(&elsewhere).contains(&Violation::Invented { key: 2, value: 100 }));
        let twice =
            [put(0, 10, 1, 100, None), get(20, 30, 1, 2, Some((100, 2))), get(40, 50, 1, 3, Some((100, 3)))];
        assert!(check(&twice).contains(&Violation::Invented { key: 1, value: 100 }));
    }

    #[test]
    fn order_against_the_clock_is_found() {
        let order = [put(0, 10, 1, 100, Some(3)), put(20, 30, 2, 101, Some(2))];
        assert_eq!(wrong(&order), [Violation::Backwards { first: 3, later: 2 }]);
    }

    /// What a store does: calls overlap, each takes effect at a moment of its own, some answers never come.
    fn lived(plan: &[(bool, u8, u8, u8, bool)]) -> Vec<Event> {
        let mut moments: Vec<(u64, usize)> = Vec::new();
        for (index, (_, _, before, _, _)) in plan.iter().enumerate() {
            moments.push((index as u64 * 10 + u64::from(before % 60), index));
        }
        moments.sort_unstable();
        let mut store: BTreeMap<Key, (Value, Revision)> = BTreeMap::new();
        let mut revision = 1;
        let mut events = vec![None; plan.len()];
        for (moment, index) in moments {
            let (is_put, key, before, after, answered) = plan[index];
            let (begun, ended) = (moment - u64::from(before % 60), moment + u64::from(after));
            let key = Key::from(key % 3);
            events[index] = Some(if is_put {
                revision += 1;
                store.insert(key, (index as Value, revision));
                put(begun, ended, key, index as Value, answered.then_some(revision))
            } else {
                get(begun, ended, key, revision, store.get(&key).copied())
            });
        }
        events.into_iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn what_one_store_tells_is_never_wrong_and_a_write_that_it_forgets_is(
            plan in proptest::collection::vec(any::<(bool, u8, u8, u8, bool)>(), 1..60),
            victim in any::<prop::sample::Index>(),
        ) {
            let mut events = lived(&plan);
            prop_assert_eq!(check(&events), BTreeSet::new());
            // An acknowledged write to a key of its own, which is not there in the end.
            let at = victim.index(events.len());
            let end = events.iter().map(|event| event.ended).max().unwrap_or_default();
            if let Call::Put { key, revision: Some(_), .. } = &mut events[at].call {
                *key = 99;
                events.push(Event {
                    begun: end + Duration::from_millis(1),
                    ended: end + Duration::from_millis(2),
                    call: Call::Get { key: 99, revision: 10_000, found: None },
                });
                let found = check(&events);
                prop_assert!(found.iter().any(|it| matches!(it, Violation::Lost { key: 99, .. })), "{:?}", found);
            }
        }
    }
}
