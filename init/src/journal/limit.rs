//! How much one service may log: `LogRateLimitIntervalSec=` and `LogRateLimitBurst=` of systemd.exec(5).

use std::collections::BTreeMap;

/// Levels that share a burst, so that a flood of chatter does not drown an error.
const POOLS: [usize; 8] = [0, 0, 0, 1, 2, 3, 3, 4];
/// Services that are remembered at once; beyond it the one whose interval began first is forgotten.
const MOST_SOURCES: usize = 1024;

/// A limit: at most `burst` messages within `interval` microseconds. Either at 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Microseconds.
    pub interval: u64,
    /// Messages.
    pub burst: u32,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept.
    Keep,
    /// It is dropped.
    Drop,
}

/// Messages that were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// The service.
    pub source: String,
    /// How many.
    pub count: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pool {
    since: u64,
    ends: u64,
    count: u32,
    dropped: u32,
}

/// Counts the messages of all services.
#[derive(Debug, Default)]
pub struct RateLimiter {
    sources: BTreeMap<String, [Pool; 5]>,
    /// The earliest end of an interval in which something was dropped.
    next: Option<u64>,
}

impl RateLimiter {
    /// Whether a message of `source` may be kept at `now` (microseconds of the monotonic clock).
    pub fn admit(&mut self, now: u64, source: &str, level: u8, limit: Limit) -> Verdict {
        if limit.interval == 0 || limit.burst == 0 {
            return Verdict::Keep;
        }
        if !self.sources.contains_key(source) {
            self.make_room();
            self.sources.insert(source.to_owned(), [Pool::default(); 5]);
        }
        let pool = POOLS.get(usize::from(level)).copied().unwrap_or(4);
        let Some(pool) = self.sources.get_mut(source).and_then(|pools| pools.get_mut(pool)) else {
            return Verdict::Keep;
        };
        // What was dropped is told when the interval ends, by `ended`.
        if pool.dropped == 0 && now >= pool.ends {
            *pool = Pool { since: now, ends: now.saturating_add(limit.interval), ..Pool::default() };
        }
        if pool.count < limit.burst {
            pool.count += 1;
            return Verdict::Keep;
        }
        pool.dropped = pool.dropped.saturating_add(1);
        self.next = Some(self.next.map_or(pool.ends, |next| next.min(pool.ends)));
        Verdict::Drop
    }

    /// When [`RateLimiter::ended`] has something to say.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// What was dropped in intervals that have ended.
    pub fn ended(&mut self, now: u64) -> Vec<Suppressed> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        self.next = None;
        let mut told = Vec::new();
        for (source, pools) in &mut self.sources {
            let mut count: u32 = 0;
            for pool in pools.iter_mut().filter(|pool| pool.dropped > 0) {
                if now >= pool.ends {
                    count = count.saturating_add(pool.dropped);
                    *pool = Pool::default();
                } else {
                    self.next = Some(self.next.map_or(pool.ends, |next| next.min(pool.ends)));
                }
            }
            if count > 0 {
                told.push(Suppressed { source: source.clone(), count });
            }
        }
        told
    }

    fn make_room(&mut self) {
        if self.sources.len() < MOST_SOURCES {
            return;
        }
        let age = |pools: &[Pool; 5]| pools.iter().map(|pool| pool.since).max();
        let oldest =
            self.sources.iter().min_by_key(|(_, pools)| age(pools)).map(|(source, _)| source.clone());
        oldest.and_then(|source| self.sources.remove(&source));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { interval: 100, burst: 3 };

    #[test]
    fn a_flood_is_cut_and_told_when_its_interval_ends() {
        let mut limiter = RateLimiter::default();
        let kept = (0..10).filter(|at| limiter.admit(*at, "a", 6, LIMIT) == Verdict::Keep).count();
        assert_eq!(kept, 3);
        // An error has room of its own, and so has another service.
        assert_eq!(limiter.admit(10, "a", 3, LIMIT), Verdict::Keep);
        assert_eq!(limiter.admit(10, "b", 6, LIMIT), Verdict::Keep);
        assert_eq!(limiter.ended(99), []);
        assert_eq!(limiter.next(), Some(100));
        assert_eq!(limiter.ended(100), [Suppressed { source: "a".to_owned(), count: 7 }]);
        assert_eq!((limiter.next(), limiter.ended(101)), (None, vec![]));
        assert_eq!(limiter.admit(101, "a", 6, LIMIT), Verdict::Keep);
    }

    #[test]
    fn no_limit_is_none_and_many_services_are_forgotten() {
        let mut limiter = RateLimiter::default();
        for at in 0..1000 {
            assert_eq!(limiter.admit(at, "a", 6, Limit { interval: 0, burst: 1 }), Verdict::Keep);
            assert_eq!(limiter.admit(at, "a", 6, Limit { interval: 9, burst: 0 }), Verdict::Keep);
        }
        for at in 0..3000_u64 {
            limiter.admit(at, &format!("s{at}"), 6, LIMIT);
        }
        assert!(limiter.sources.len() <= MOST_SOURCES);
    }
}
