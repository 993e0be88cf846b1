//! Which endpoint is asked next: a state machine without I/O.
//!
//! It stays with an endpoint that works. One that failed is left alone for a pause that doubles with each failure in a row; while
//! all of them are paused the caller waits for the first to be due.

use crate::backoff::Backoff;

/// Pauses between attempts at one endpoint: short enough that an election of etcd (a second or two) costs few of them, long enough
/// that a cluster that is down is not hammered.
pub const PAUSES: Backoff = Backoff { first: 100, most: 10_000 };

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask this one.
    Ask(usize),
    /// All of them have failed: wait so many milliseconds and ask again.
    Wait(u64),
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    failures: u32,
    /// Milliseconds of the caller's clock before which it is left alone.
    not_before: u64,
}

/// The endpoints of one cluster.
#[derive(Debug, Clone)]
pub struct Failover {
    endpoints: Vec<State>,
    current: usize,
}

impl Failover {
    /// `count` endpoints, in order of preference: a machine's own member comes first, if it has one.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { endpoints: vec![State::default(); count], current: 0 }
    }

    /// The endpoint for the next request. `now` is in milliseconds of a clock that does not go back.
    ///
    /// Without endpoints: an endless wait.
    #[must_use]
    pub fn next(&self, now: u64) -> Next {
        let count = self.endpoints.len();
        let order = (0..count).map(|step| (self.current + step) % count);
        let mut soonest = u64::MAX;
        for index in order {
            let due = self.endpoints.get(index).map_or(u64::MAX, |state| state.not_before);
            if due <= now {
                return Next::Ask(index);
            }
            soonest = soonest.min(due);
        }
        Next::Wait(soonest.saturating_sub(now))
    }

    /// It has answered: it is the one to ask from now on.
    pub fn answered(&mut self, index: usize) {
        if let Some(state) = self.endpoints.get_mut(index) {
            *state = State::default();
            self.current = index;
        }
    }

    /// It has not, or not as a member with a quorum would: the next one is asked.
    pub fn failed(&mut self, index: usize, now: u64, random: u64) {
        let count = self.endpoints.len();
        if let Some(state) = self.endpoints.get_mut(index) {
            state.failures = state.failures.saturating_add(1);
            state.not_before = now.saturating_add(PAUSES.pause(state.failures, random));
            self.current = (index + 1) % count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_stays_with_what_works() {
        let mut failover = Failover::new(3);
        assert_eq!(failover.next(0), Next::Ask(0));
        failover.failed(0, 0, 7);
        assert_eq!(failover.next(0), Next::Ask(1));
        failover.answered(1);
        assert_eq!(failover.next(1_000_000), Next::Ask(1));
        assert_eq!(Failover::new(0).next(5), Next::Wait(u64::MAX - 5));
    }

    proptest! {
        /// However the past was, one endpoint that works is found within one round and its pauses, and no endpoint is asked
        /// during its pause.
        #[test]
        fn a_working_endpoint_is_found(
            count in 1_usize..6,
            past in proptest::collection::vec((0_usize..6, any::<bool>(), 0_u64..20_000, any::<u64>()), 0..60),
            good in 0_usize..6,
        ) {
            let (mut failover, mut now) = (Failover::new(count), 0);
            for (index, works, later, random) in past {
                now += later;
                if works { failover.answered(index % count) } else { failover.failed(index % count, now, random) }
            }
            let (good, begun, mut asked) = (good % count, now, 0);
            loop {
                match failover.next(now) {
                    Next::Ask(index) if index == good => break,
                    Next::Ask(index) => {
                        failover.failed(index, now, 0);
                        prop_assert!(failover.endpoints[index].not_before > now);
                        asked += 1;
                    }
                    Next::Wait(pause) => {
                        prop_assert!(pause > 0);
                        now += pause;
                    }
                }
                prop_assert!(asked < 20_000);
            }
            prop_assert!(now - begun <= PAUSES.most * 3 / 2 + 1);
        }
    }
}
