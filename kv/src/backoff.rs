//! How long to wait after failures in a row.

/// Pauses that double from `first` to `most`, each drawn from half of it to one and a half, so that machines that failed together
/// do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Milliseconds after the first failure.
    pub first: u64,
    /// Milliseconds that the doubling stops at; jitter may add half of it.
    pub most: u64,
}

impl Backoff {
    /// Milliseconds to wait after `failures` failures in a row (0 counts as 1). `random` is any number.
    ///
    /// Invariant: at least 1, at most `most * 3 / 2`.
    #[must_use]
    pub const fn pause(self, failures: u32, random: u64) -> u64 {
        let doublings = if failures > 32 { 32 } else { failures.saturating_sub(1) };
        let middle = self.first.saturating_mul(1 << doublings);
        let middle = if middle > self.most { self.most } else { middle };
        let least = middle / 2;
        let pause = least + random % (middle + 1);
        if pause == 0 { 1 } else { pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_and_stay_within_their_bounds(first in 1_u64..10_000, factor in 1_u64..1000, failures in 0_u32..1000, random: u64) {
            let backoff = Backoff { first, most: first * factor };
            let pause = backoff.pause(failures, random);
            prop_assert!(pause >= 1 && pause <= backoff.most * 3 / 2 + 1);
            prop_assert!(backoff.pause(failures + 1, random % (first + 1)) >= backoff.pause(failures, 0));
        }

        #[test]
        fn chance_spreads_them(random: u64) {
            let backoff = Backoff { first: 1000, most: 60_000 };
            prop_assert!((500..=1500).contains(&backoff.pause(1, random)));
        }
    }
}
