//! When a lease is renewed, and when it must be taken for lost: a state machine without I/O.
//!
//! The holder's reckoning is the careful one: a lease ends [`Keeper::ttl`] after the *sending* of the last request that was
//! answered, which is never later than the server's own end of it.

use crate::backoff::Backoff;

/// Pauses after failures; a third of the time to live is the most.
const FIRST_RETRY: u64 = 250;

/// What to do with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing for so many milliseconds.
    Rest(u64),
    /// Renew it.
    Renew,
    /// It may be gone: whatever rests on it must stop.
    Lost,
}

/// One lease and its renewals. Times are milliseconds of a clock that does not go back and that counts sleep of the machine.
#[derive(Debug, Clone)]
pub struct Keeper {
    ttl: u64,
    ends: u64,
    next: u64,
    failures: u32,
    parts: u64,
}

impl Keeper {
    /// A lease of `ttl` milliseconds whose grant was asked for at `sent`.
    #[must_use]
    pub const fn new(ttl: u64, sent: u64) -> Self {
        Self::in_parts(ttl, sent, 3)
    }

    /// The same, renewed after one of `parts` (at least one) of its time instead of a third.
    #[must_use]
    pub const fn in_parts(ttl: u64, sent: u64, parts: u64) -> Self {
        let parts = if parts == 0 { 1 } else { parts };
        Self {
            ttl,
            ends: sent.saturating_add(ttl),
            next: sent.saturating_add(ttl / parts),
            failures: 0,
            parts,
        }
    }

    /// When it ends unless it is renewed.
    #[must_use]
    pub const fn ends(&self) -> u64 {
        self.ends
    }

    /// Its time to live in milliseconds.
    #[must_use]
    pub const fn ttl(&self) -> u64 {
        self.ttl
    }

    /// What to do now.
    #[must_use]
    pub const fn next(&self, now: u64) -> Keep {
        if now >= self.ends {
            Keep::Lost
        } else if now >= self.next {
            Keep::Renew
        } else if self.next < self.ends {
            Keep::Rest(self.next - now)
        } else {
            Keep::Rest(self.ends - now)
        }
    }

    /// A renewal that was sent at `sent` was answered with a time to live, 0 when the server knows the lease no more.
    pub fn answered(&mut self, sent: u64, ttl: u64) {
        if ttl == 0 {
            self.ends = 0;
            return;
        }
        if sent >= self.ends {
            // Too late: whatever rested on it has been told that it is lost.
            return;
        }
        *self = Self::in_parts(ttl, sent, self.parts);
    }

    /// A renewal was not answered.
    pub fn failed(&mut self, now: u64, random: u64) {
        self.failures = self.failures.saturating_add(1);
        let most = (self.ttl / 3).max(1);
        let pauses = Backoff { first: FIRST_RETRY.min(most), most };
        self.next = now.saturating_add(pauses.pause(self.failures, random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The server forgets the lease `ttl` after it has handled the last renewal, which is at or after its sending. Then the
        /// keeper has said so before; and as long as renewals are answered in time it never does.
        #[test]
        fn the_holder_stops_before_the_server_forgets(
            ttl in 3_u64..60_000,
            steps in proptest::collection::vec((any::<bool>(), 0_u64..5_000, 0_u64..5_000, any::<u64>()), 1..80),
        ) {
            let mut now = 100_u64;
            let mut keeper = Keeper::new(ttl, now);
            // The server took the grant a little later.
            let mut forgotten = now + 7 + ttl;
            let mut lost = false;
            for (works, way_there, way_back, random) in steps {
                match keeper.next(now) {
                    Keep::Rest(pause) => now += pause,
                    Keep::Lost => {
                        lost = true;
                        prop_assert!(now < forgotten + ttl + 10_000);
                        break;
                    }
                    Keep::Renew => {
                        let sent = now;
                        let handled = sent + way_there;
                        now = handled + way_back;
                        let known = handled < forgotten;
                        if known && works {
                            forgotten = handled + ttl;
                        }
                        if works {
                            keeper.answered(sent, if known { ttl } else { 0 });
                        } else {
                            keeper.failed(now, random);
                        }
                    }
                }
                if !matches!(keeper.next(now), Keep::Lost) {
                    prop_assert!(now < forgotten, "the holder believes in a lease that is gone");
                }
            }
            prop_assert!(lost || keeper.next(keeper.ends) == Keep::Lost);
        }

        #[test]
        fn prompt_answers_keep_it_for_ever(ttl in 30_u64..60_000, rounds in 1_usize..50) {
            let mut now = 0;
            let mut keeper = Keeper::new(ttl, now);
            for _ in 0..rounds {
                match keeper.next(now) {
                    Keep::Rest(pause) => now += pause,
                    Keep::Renew => { keeper.answered(now, ttl); now += ttl / 10; }
                    Keep::Lost => prop_assert!(false, "lost at {now}"),
                }
            }
        }
    }
}
