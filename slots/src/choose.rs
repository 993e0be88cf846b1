//! Which slot boots next (SAFETY 7).

use crate::flags::SlotFlags;
use crate::table::{Table, types};

/// Slots that one disk can have; Ferrite's own images have two.
pub const MAX_SLOTS: usize = 8;

/// A slot in the order of boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its entry in the partition table, from 0.
    pub entry: usize,
    /// Its flags as read.
    pub flags: SlotFlags,
}

/// True when a slot may boot in the ordinary way: priority above 0, and a try left or known to be good.
pub const fn is_candidate(flags: SlotFlags) -> bool {
    flags.priority() > 0 && (flags.tries() > 0 || flags.successful())
}

/// The slots of a table in the order in which a boot tries them.
///
/// First the candidates: those with a try left before those that are only known to be good, within each group by
/// higher priority, then by lower number. (So an update on trial goes before the slot that it replaces, and a good
/// slot that used up its tries goes behind the other.) After them, as the last resort of SAFETY 9, every other slot
/// with a priority above 0; whoever takes one of those must have verified all of it.
#[derive(Debug, Clone, Copy)]
pub struct BootOrder {
    slots: [Option<Candidate>; MAX_SLOTS],
    candidates: usize,
}

impl BootOrder {
    /// Orders the slots of a table; entries of other types and slots with priority 0 are left out.
    pub fn of(table: &Table) -> Self {
        let found = table.entries().filter(|(_, entry)| entry.type_guid() == types::USR_X86_64);
        Self::from_slots(found.map(|(index, entry)| Candidate { entry: index, flags: entry.flags() }))
    }

    /// Orders slots that are given by hand; at most [`MAX_SLOTS`] are looked at.
    pub fn from_slots(slots: impl Iterator<Item = Candidate>) -> Self {
        let mut order = Self { slots: [None; MAX_SLOTS], candidates: 0 };
        let bootable = slots.filter(|slot| slot.flags.priority() > 0);
        for (place, slot) in order.slots.iter_mut().zip(bootable) {
            *place = Some(slot);
        }
        order.slots.sort_unstable_by_key(|slot| slot.map_or((4, 0, 0), sort_key));
        order.candidates = order.slots.iter().flatten().filter(|slot| is_candidate(slot.flags)).count();
        order
    }

    /// The slots that may boot in the ordinary way, first choice first.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.slots.iter().flatten().take(self.candidates).copied()
    }

    /// The slots that only the last resort may start, first choice first.
    pub fn last_resort(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.slots.iter().flatten().skip(self.candidates).copied()
    }
}

/// Smaller boots first: group, then inverted priority, then number.
fn sort_key(slot: Candidate) -> (u8, u8, usize) {
    let group = match (is_candidate(slot.flags), slot.flags.tries() > 0) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    };
    (group, u8::MAX - slot.flags.priority(), slot.entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(entry: usize, priority: u8, tries: u8, successful: bool) -> Candidate {
        let flags = SlotFlags::EMPTY.with_priority(priority).unwrap().with_tries(tries).unwrap();
        Candidate { entry, flags: flags.with_successful(successful) }
    }

    fn order(slots: &[Candidate]) -> (Vec<usize>, Vec<usize>) {
        let order = BootOrder::from_slots(slots.iter().copied());
        (order.candidates().map(|s| s.entry).collect(), order.last_resort().map(|s| s.entry).collect())
    }

    #[test]
    fn the_cases_of_an_update_boot_in_the_right_order() {
        type Case = (&'static str, [Candidate; 2], &'static [usize], &'static [usize]);
        let cases: &[Case] = &[
            ("fresh image", [slot(1, 2, 7, true), slot(2, 0, 0, false)], &[1], &[]),
            ("update on trial", [slot(1, 1, 7, true), slot(2, 2, 1, false)], &[2, 1], &[]),
            ("trial used up", [slot(1, 1, 7, true), slot(2, 2, 0, false)], &[1], &[2]),
            ("good slot rots", [slot(1, 2, 0, true), slot(2, 1, 7, true)], &[2, 1], &[]),
            ("same priority, lower number first", [slot(2, 1, 7, true), slot(1, 1, 7, true)], &[1, 2], &[]),
            ("nothing may boot", [slot(1, 0, 7, true), slot(2, 0, 7, true)], &[], &[]),
            ("only the last resort", [slot(1, 1, 0, false), slot(2, 2, 0, false)], &[], &[2, 1]),
        ];
        for (name, slots, candidates, last) in cases {
            assert_eq!(order(slots), (candidates.to_vec(), last.to_vec()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_slot_with_a_priority_appears_once(words in proptest::collection::vec(any::<u64>(), 0..MAX_SLOTS)) {
            let slots: Vec<_> = words.iter().enumerate()
                .map(|(entry, word)| Candidate { entry, flags: SlotFlags::from_attributes(*word) }).collect();
            let (candidates, last) = order(&slots);
            let mut all: Vec<_> = candidates.iter().chain(&last).copied().collect();
            all.sort_unstable();
            let expected: Vec<_> = slots.iter().filter(|s| s.flags.priority() > 0).map(|s| s.entry).collect();
            prop_assert_eq!(all, expected);
            prop_assert!(candidates.iter().all(|entry| is_candidate(slots[*entry].flags)));
        }
    }
}
