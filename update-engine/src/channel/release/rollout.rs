//! Which machines get a release when: decided on the machine, from signed metadata.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Release;
use crate::channel::metadata::Date;

/// A machine's place among a million, for one release.
pub const PLACES: u64 = 1_000_000;

/// How a release spreads: from nobody at `start`, evenly, to `percentage` of the machines `duration_seconds` later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How many machines of a hundred get it in the end: 0 to 100.
    pub percentage: u8,
    /// When it begins.
    pub start: Date,
    /// How long it takes; 0 is at once.
    pub duration_seconds: u64,
}

impl Rollout {
    /// Everybody, from a moment on.
    pub fn everybody(start: Date) -> Self {
        Self { percentage: 100, start, duration_seconds: 0 }
    }

    /// How many of [`PLACES`] have it at a moment (Unix seconds).
    pub fn share(&self, now: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start.unix()) else { return 0 };
        let whole = self.whole();
        if elapsed >= self.duration_seconds {
            return whole;
        }
        // Below `whole`, since elapsed is below the duration.
        let share = u128::from(whole) * u128::from(elapsed) / u128::from(self.duration_seconds);
        u64::try_from(share).unwrap_or(whole)
    }

    /// When a machine's turn comes (Unix seconds); `None` if it never does as things are.
    pub fn turn(&self, place: u64) -> Option<u64> {
        let whole = self.whole();
        if place >= whole {
            return None;
        }
        // The first moment at which share > place; `whole` is above 0 here.
        let needed = (u128::from(place) + 1) * u128::from(self.duration_seconds);
        let elapsed = u64::try_from(needed.div_ceil(u128::from(whole))).unwrap_or(u64::MAX);
        Some(self.start.unix().saturating_add(elapsed))
    }

    fn whole(&self) -> u64 {
        u64::from(self.percentage.min(100)) * (PLACES / 100)
    }
}

/// A machine's place for a release, below [`PLACES`]: stable for the two of them, so that a growing share only ever
/// adds machines, and different from release to release, so that not always the same machines go first.
pub fn place(machine: &str, release: &Release) -> u64 {
    let mut hash = Sha256::new();
    for part in ["ferrite-rollout-1", machine, &release.product, release.version.as_str()] {
        hash.update(part);
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    // Scaled down, not the remainder: the leading digits decide.
    u64::try_from((u128::from(number) * u128::from(PLACES)) >> 64).unwrap_or(PLACES - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel::release::tests::release;

    fn rollout(percentage: u8, start: u64, duration_seconds: u64) -> Rollout {
        Rollout { percentage, start: Date::from_unix(start).unwrap(), duration_seconds }
    }

    #[test]
    fn the_share_grows_evenly_from_nobody_to_the_percentage() {
        let rollout = rollout(40, 1000, 100);
        for (now, share) in
            [(0, 0), (999, 0), (1000, 0), (1025, 100_000), (1050, 200_000), (1100, 400_000), (9000, 400_000)]
        {
            assert_eq!(rollout.share(now), share, "at {now}");
        }
        let at_once = Rollout::everybody(Date::from_unix(1000).unwrap());
        assert_eq!((at_once.share(999), at_once.share(1000)), (0, PLACES));
    }

    #[test]
    fn machines_are_spread_evenly_and_differently_for_each_release() {
        let (one, other) = (release("1.1.0"), release("1.2.0"));
        let machines: Vec<String> = (0..10_000).map(|number| format!("{number:032x}")).collect();
        let first = |release: &Release| -> Vec<bool> {
            machines.iter().map(|machine| place(machine, release) < PLACES / 10).collect()
        };
        let (a, b) = (first(&one), first(&other));
        let count = |chosen: &[bool]| chosen.iter().filter(|chosen| **chosen).count();
        assert!(
            (900..1100).contains(&count(&a)) && (900..1100).contains(&count(&b)),
            "{} {}",
            count(&a),
            count(&b)
        );
        let both = a.iter().zip(&b).filter(|(a, b)| **a && **b).count();
        assert!((60..140).contains(&both), "{both} go first twice");
        assert_eq!(first(&one), a, "a machine's place is stable");
    }

    proptest! {
        #[test]
        fn a_machine_is_in_from_its_turn_on_and_not_before(
            percentage in 0..=100u8, start in 0..1_000_000u64, duration in 0..10_000_000u64, place in 0..PLACES,
        ) {
            let rollout = rollout(percentage, start, duration);
            match rollout.turn(place) {
                None => prop_assert!(rollout.share(u64::MAX) <= place),
                Some(turn) => {
                    prop_assert!(rollout.share(turn) > place);
                    prop_assert!(turn == 0 || rollout.share(turn - 1) <= place);
                }
            }
        }

        #[test]
        fn whoever_is_in_stays_in_when_time_passes_or_the_percentage_is_raised(
            percentage in 0..100u8, more in 0..=100u8, now in 0..5000u64, later in 0..5000u64,
        ) {
            let rollout = rollout(percentage, 1000, 3000);
            prop_assert!(rollout.share(now) <= rollout.share(now + later));
            let raised = Rollout { percentage: percentage.max(more), ..rollout };
            prop_assert!(rollout.share(now) <= raised.share(now));
        }
    }
}
