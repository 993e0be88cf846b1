//! Which writes of a window survive a power cut (SAFETY 26). Pure: numbers and seeds in, choices out.
//!
//! A window is what lies between two flushes. Any subset of its writes may be lost, and the one that was under way may be torn; a cache
//! is free to write them in any order, so that may be any of them. In windows of a few writes, two are torn as well: a cache may have
//! begun with both. Small windows
//! are enumerated whole; of large ones all prefixes, all single losses, all single survivors, and random subsets by seed.

/// Places of a window at which a loss begins, in windows with more writes.
pub const MOST_PLACES: usize = 256;

/// How much of a window is tried.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Windows of at most so many writes: every subset. At most 16.
    pub exhaustive: usize,
    /// Random subsets of larger ones.
    pub random: usize,
    /// Places at which one write is torn, for each size of unit: all of them, if there are no more.
    pub tears: usize,
    /// With what of the other writes a torn one is tried: 1 all earlier ones, 2 none too, 3 all others too, 4 a random half too.
    pub with: usize,
    /// Windows of at most so many writes: two are torn at once.
    pub pairs: usize,
    /// For random choices.
    pub seed: u64,
}

/// Units of a torn write that hold the new bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Others {
    /// Those before the place of the tear.
    Before,
    /// Those behind it.
    Behind,
    /// All.
    All,
    /// None.
    None,
}

/// A write that reached the disk in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tear {
    /// Sectors of a unit that the disk writes at once: 1 (512 bytes) or 8 (4096).
    pub unit: u64,
    /// The unit, from the start of the write, at which it was cut.
    pub at: u64,
    /// Which of the other units were written: a disk has an order of its own.
    pub others: Others,
    /// What the unit itself holds.
    pub middle: Left,
}

/// What is left of a window.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Choice {
    /// Numbers of the writes that survive whole, in order.
    pub kept: Vec<usize>,
    /// Those that reached the disk in part.
    pub torn: Vec<(usize, Tear)>,
}

/// A generator of random numbers that is the same everywhere (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// All choices of a window whose writes have these first sectors and numbers of sectors; each once, in a fixed order.
pub fn choices(writes: &[(u64, u64)], limits: &Limits) -> Vec<Choice> {
    let count = writes.len();
    let mut random = Random(limits.seed ^ (count as u64).rotate_left(32));
    let mut all = Vec::new();
    let whole = |kept: Vec<usize>| Choice { kept, torn: Vec::new() };
    if count <= limits.exhaustive.min(16) {
        for bits in 0_u32..1 << count {
            all.push(whole((0..count).filter(|index| bits >> index & 1 == 1).collect()));
        }
    } else {
        for cut in places(count) {
            all.push(whole((0..cut).collect()));
            all.push(whole((0..count).filter(|index| *index != cut).collect()));
            all.push(whole((0..count).filter(|index| *index == cut).collect()));
        }
        for _ in 0..limits.random {
            let likelihood = 1 + random.below(7);
            all.push(whole((0..count).filter(|_| random.below(8) < likelihood).collect()));
        }
    }
    for index in places(count) {
        let Some((first, sectors)) = writes.get(index) else { continue };
        for tear in tears(*first, *sectors, limits.tears, &mut random) {
            let others = |index: &usize, other: &usize| other != index;
            let mut with = vec![(0..index).collect(), Vec::new()];
            with.push((0..count).filter(|other| others(&index, other)).collect());
            with.push((0..count).filter(|other| others(&index, other) && random.below(2) == 0).collect());
            with.truncate(limits.with);
            all.extend(with.into_iter().map(|kept| Choice { kept, torn: vec![(index, tear)] }));
        }
    }
    if count <= limits.pairs {
        all.extend(pairs(writes, &mut random));
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The places of a window at which something is lost: all of them, or [`MOST_PLACES`] at equal distances.
fn places(count: usize) -> Vec<usize> {
    if count < MOST_PLACES {
        return (0..=count).collect();
    }
    (0..=MOST_PLACES).map(|place| place * count / MOST_PLACES).collect()
}

/// Two writes of a window torn at once, the others whole or lost.
fn pairs(writes: &[(u64, u64)], random: &mut Random) -> Vec<Choice> {
    let mut all = Vec::new();
    for (second, (second_first, second_sectors)) in writes.iter().enumerate() {
        for (first, (first_first, first_sectors)) in writes.iter().enumerate().take(second) {
            let one = tears(*first_first, *first_sectors, 3, random);
            let other = tears(*second_first, *second_sectors, 3, random);
            for (one, other) in one.iter().flat_map(|one| other.iter().map(move |other| (*one, *other))) {
                let kept = (0..writes.len()).filter(|index| *index != first && *index != second);
                for kept in [kept.collect(), Vec::new()] {
                    all.push(Choice { kept, torn: vec![(first, one), (second, other)] });
                }
            }
        }
    }
    all
}

/// The ways in which one write is torn. Units of 4096 bytes lie where the disk has them, not where the write begins.
pub fn tears(first: u64, sectors: u64, most: usize, random: &mut Random) -> Vec<Tear> {
    let mut all = Vec::new();
    for unit in [1, 8] {
        let units = (first + sectors).div_ceil(unit) - first / unit;
        let mut places: Vec<u64> = if units <= most as u64 {
            (0..units).collect()
        } else {
            let mut some = vec![0, units - 1, units / 2, 1, units.saturating_sub(2)];
            some.truncate(most);
            while some.len() < most {
                some.push(random.below(units));
            }
            some
        };
        places.sort_unstable();
        places.dedup();
        for at in places {
            for middle in [Left::Old, Left::Garbage, Left::Zeroes] {
                let mut put = |others| all.push(Tear { unit, at, others, middle });
                put(Others::Before);
                put(Others::Behind);
                put(Others::All);
                // With the old unit in the middle nothing would be left of the write.
                if middle != Left::Old {
                    put(Others::None);
                }
            }
        }
    }
    all
}

/// What a torn write leaves in one of its sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Left {
    /// What was there.
    Old,
    /// What was written.
    New,
    /// Neither.
    Garbage,
    /// Nothing but zeroes.
    Zeroes,
}

impl Tear {
    /// What is in sector number `index` of a write whose first sector is `first` on the disk.
    pub const fn left(&self, first: u64, index: u64) -> Left {
        let unit = (first + index) / self.unit - first / self.unit;
        if unit == self.at {
            self.middle
        } else {
            let new = match self.others {
                Others::Before => unit < self.at,
                Others::Behind => unit > self.at,
                Others::All => true,
                Others::None => false,
            };
            if new { Left::New } else { Left::Old }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn torn(choice: &Choice) -> Vec<usize> {
        choice.torn.iter().map(|(torn, _)| *torn).collect()
    }

    const LIMITS: Limits = Limits { exhaustive: 6, random: 20, tears: 16, with: 4, pairs: 3, seed: 1 };

    #[test]
    fn a_small_window_is_enumerated_whole() {
        let found = choices(&[(0, 1), (10, 1), (20, 1)], &LIMITS);
        let whole: Vec<_> = found.iter().filter(|choice| choice.torn.is_empty()).collect();
        assert_eq!(whole.len(), 8);
        assert!(found.iter().any(|choice| choice.kept == [0, 2] && choice.torn.is_empty()));
        assert!(found.iter().any(|choice| choice.kept.is_empty() && torn(choice) == [2]));
        assert!(found.iter().any(|choice| choice.kept == [1] && torn(choice) == [0, 2]), "two at once");
    }

    #[test]
    fn a_tear_leaves_old_new_and_garbage_where_it_says() {
        // A write of 12 sectors from sector 6 on: units of 8 begin at its sectors 2 and 10.
        let tear = Tear { unit: 8, at: 1, others: Others::Before, middle: Left::Garbage };
        let left: Vec<_> = (0..12).map(|index| tear.left(6, index)).collect();
        assert_eq!(left[..2], [Left::New; 2]);
        assert_eq!(left[2..10], [Left::Garbage; 8]);
        assert_eq!(left[10..], [Left::Old; 2]);
        let back = Tear { unit: 1, at: 1, others: Others::Behind, middle: Left::Old };
        assert_eq!([0, 1, 2].map(|index| back.left(0, index)), [Left::Old, Left::Old, Left::New]);
        let one = Tear { others: Others::All, ..back };
        assert_eq!([0, 1, 2].map(|index| one.left(0, index)), [Left::New, Left::Old, Left::New]);
    }

    proptest! {
        #[test]
        fn a_large_window_has_all_prefixes_losses_and_survivors(count in 7_usize..40, seed: u64) {
            let writes: Vec<_> = (0..count as u64).map(|index| (index * 8, 8)).collect();
            let found = choices(&writes, &Limits { seed, ..LIMITS });
            for cut in 0..count {
                prop_assert!(found.iter().any(|choice| choice.kept == (0..cut).collect::<Vec<_>>() && choice.torn.is_empty()));
                prop_assert!(found.iter().any(|choice| choice.kept == [cut] && choice.torn.is_empty()));
                prop_assert!(found.iter().any(|choice| choice.kept.len() == count - 1 && !choice.kept.contains(&cut)));
                prop_assert!(found.iter().any(|choice| torn(choice) == [cut]));
            }
            prop_assert_eq!(&choices(&writes, &Limits { seed, ..LIMITS }), &found, "the same every time");
        }

        #[test]
        fn a_write_is_kept_or_torn_or_lost(count in 1_usize..12, seed: u64) {
            let writes: Vec<_> = (0..count as u64).map(|index| (index * 40, 33)).collect();
            for choice in choices(&writes, &Limits { seed, ..LIMITS }) {
                prop_assert!(choice.kept.is_sorted());
                for (torn, tear) in &choice.torn {
                    prop_assert!(*torn < count && !choice.kept.contains(torn));
                    prop_assert!(tear.at < 33);
                }
            }
        }
    }
}
