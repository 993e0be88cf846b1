//! What a slot that was tried and did not become good has against it (SAFETY 17). Pure.

use super::state::{Rearmed, Saved};
use crate::channel::key::hex;

/// Times that a slot gets its try back when nothing is known against it.
pub const MOST_REARMED: u32 = 2;

/// What was found after a trial from which the machine came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What PID 1 wrote down before it gave the boot up: the deadline, with what was missing.
    pub recorded: Option<String>,
    /// A kernel panic that the firmware's store has kept.
    pub panic: Option<String>,
    /// The hardware watchdog has reset the machine.
    pub watchdog: bool,
    /// The initramfs could not open `/usr`, or the loader the slot: it never began.
    pub content: Option<String>,
}

/// What becomes of a failed trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It is held against the release.
    Deny {
        /// Why, for people.
        reason: String,
    },
    /// The power was cut, as far as anybody knows: one more try.
    Rearm {
        /// How many times it has had its try back now.
        times: u32,
    },
}

/// Judges a trial of the slot with `root_hash`.
pub fn judge(evidence: &Evidence, root_hash: &[u8; 32], saved: &Saved) -> Judgement {
    let reason =
        evidence.recorded.clone().or_else(|| evidence.panic.clone()).or_else(|| evidence.content.clone());
    let reason =
        reason.or_else(|| evidence.watchdog.then(|| "the watchdog reset the machine: it hung".to_owned()));
    if let Some(reason) = reason {
        return Judgement::Deny { reason };
    }
    let root_hash = hex(root_hash);
    let before = saved.rearmed.as_ref().filter(|rearmed| rearmed.root_hash == root_hash);
    match before.map_or(0, |rearmed| rearmed.times) {
        times if times >= MOST_REARMED => Judgement::Deny {
            reason: format!("it did not come up in {} tries, and nothing says why", MOST_REARMED + 1),
        },
        times => Judgement::Rearm { times: times + 1 },
    }
}

/// Notes that a slot got its try back.
pub fn note_rearmed(saved: &mut Saved, root_hash: &[u8; 32], times: u32) {
    saved.rearmed = Some(Rearmed { root_hash: hex(root_hash), times });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_innocent_power_cut_gives_the_try_back_twice_at_most_safety_17() {
        let mut saved = Saved::default();
        let root = [5; 32];
        for times in 1..=MOST_REARMED {
            let judged = judge(&Evidence::default(), &root, &saved);
            assert_eq!(judged, Judgement::Rearm { times });
            note_rearmed(&mut saved, &root, times);
        }
        assert!(matches!(judge(&Evidence::default(), &root, &saved), Judgement::Deny { .. }));
        // Another release has tries of its own.
        assert_eq!(judge(&Evidence::default(), &[6; 32], &saved), Judgement::Rearm { times: 1 });
    }

    #[test]
    fn evidence_is_held_against_a_release_at_once_safety_17() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (
                Evidence {
                    recorded: some("not healthy in time: ssh.service has failed"),
                    ..Evidence::default()
                },
                "ssh.service",
            ),
            (Evidence { panic: some("Kernel panic - not syncing"), ..Evidence::default() }, "panic"),
            (Evidence { watchdog: true, ..Evidence::default() }, "watchdog"),
            (Evidence { content: some("dm-verity: corrupted"), ..Evidence::default() }, "verity"),
        ];
        for (evidence, word) in cases {
            let Judgement::Deny { reason } = judge(&evidence, &[5; 32], &Saved::default()) else {
                panic!("{evidence:?} is let off");
            };
            assert!(reason.contains(word), "{reason}");
        }
    }
}
