//! What keeps services going while there is no journal: nobody is to wait for his own log.
//!
//! A journal that is restarted finds everything in the sockets. One that does not come back would let them fill up, and whoever writes
//! to them wait; after a while PID 1 therefore reads them itself, throws away what it reads, and says so.

use super::journal;
use super::shell::{Shell, now};
use crate::supervisor::{Level, Monotonic, SubState};

/// How long the journal may be away before what is logged is thrown away. A service that logs without end is held up for no longer
/// than this; a boot on a busy machine, whose first lines are worth keeping, has its journal by then.
const PATIENCE: Monotonic = Monotonic::seconds(30);
/// How often is read: what a socket holds (8 MiB) lasts longer than this for all but the worst.
const PAUSE: Monotonic = Monotonic(100_000);

/// Whether the journal is away, and since when.
#[derive(Debug, Default)]
pub struct Relief {
    since: Option<Monotonic>,
    active: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// To throw away what was logged; the first time, to say so.
    Drain {
        first: bool,
    },
    /// To say that the journal is back.
    Over,
}

impl Relief {
    fn step(&mut self, now: Monotonic, runs: bool) -> Step {
        if runs {
            self.since = None;
            return if std::mem::take(&mut self.active) { Step::Over } else { Step::Nothing };
        }
        if now < self.since.get_or_insert(now).after(PATIENCE) {
            return Step::Nothing;
        }
        Step::Drain { first: !std::mem::replace(&mut self.active, true) }
    }

    /// When to look again.
    pub fn next(&self, now: Monotonic) -> Option<Monotonic> {
        let since = self.since?;
        Some(if self.active { now.after(PAUSE) } else { since.after(PATIENCE) })
    }
}

impl Shell {
    /// Reads what nobody else does.
    pub(super) fn relieve_services(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let unit = self.sup.lookup(journal::UNIT).and_then(|id| self.sup.unit(id));
        let runs = unit.is_some_and(|unit| unit.sub == SubState::Running);
        let news = match self.relief.step(now(), runs) {
            Step::Nothing => return,
            Step::Drain { first } => {
                journal.drain();
                if !first {
                    return;
                }
                "the journal does not run: what is logged meanwhile is lost"
            }
            Step::Over => "the journal runs again",
        };
        self.console.bad(news);
        self.say(Level::Error, news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_loses_nothing_and_a_journal_that_stays_away_holds_nobody_up() {
        let mut relief = Relief::default();
        let at = Monotonic::seconds;
        assert_eq!((relief.step(at(1), true), relief.next(at(1))), (Step::Nothing, None));
        assert_eq!((relief.step(at(2), false), relief.next(at(2))), (Step::Nothing, Some(at(32))));
        assert_eq!(relief.step(at(5), true), Step::Nothing);
        assert_eq!(relief.step(at(10), false), Step::Nothing);
        assert_eq!(relief.step(at(39), false), Step::Nothing);
        assert_eq!(relief.step(at(40), false), Step::Drain { first: true });
        assert_eq!(relief.next(at(40)), Some(at(40).after(PAUSE)));
        assert_eq!(relief.step(at(41), false), Step::Drain { first: false });
        assert_eq!(relief.step(at(42), true), Step::Over);
        assert_eq!((relief.step(at(43), true), relief.next(at(43))), (Step::Nothing, None));
    }
}
