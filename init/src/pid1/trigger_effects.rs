//! Effects of sockets, timers and path units into deeds.

use super::shell::Shell;
use crate::supervisor::Effect;

impl Shell {
    pub(super) fn execute_for_trigger(&mut self, effect: Effect) {
        drop(effect);
    }
}
