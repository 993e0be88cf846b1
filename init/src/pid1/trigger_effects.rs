//! Effects of units that start others, and of those that take the machine down, into deeds.

use super::shell::Shell;
use crate::supervisor::{Action, Effect, Level, PowerAction};

impl Shell {
    pub(super) fn execute_for_trigger(&mut self, effect: Effect) {
        match effect {
            Effect::Listen { unit } => self.open_sockets(unit),
            Effect::WatchSocket { unit, watch } => self.watch_sockets(unit, watch),
            Effect::CloseSocket { unit } => self.close_sockets(unit),
            Effect::DropConnection { service } => self.drop_connection(service),
            Effect::ArmTimer { unit } => self.arm_timer(unit),
            Effect::TimerElapsed { unit } => self.note_timer(unit),
            Effect::WatchPath { unit, first } => self.watch_paths(unit, first),
            Effect::UnwatchPath { unit } => self.unwatch_paths(unit),
            Effect::Act { action, reason } => self.act(action, &reason),
            _ => {}
        }
    }

    /// `FailureAction=` and its kin.
    fn act(&mut self, action: Action, reason: &str) {
        let text = format!("{reason}: taking the machine down, as the unit's file asks");
        match action {
            Action::Nothing => return,
            Action::Orderly(how) => self.orders.push(how),
            Action::Force(how) => self.power = Some(how),
            Action::Immediate(how) => crate::power::immediately(how),
        }
        self.console.bad(&text);
        self.say(Level::Error, &text);
    }

    /// Begins the shutdowns that were ordered while effects were carried out.
    pub(super) fn obey_orders(&mut self) {
        for how in std::mem::take(&mut self.orders) {
            self.begin_power(match how {
                PowerAction::Reboot => "reboot.target",
                PowerAction::PowerOff => "poweroff.target",
                PowerAction::Halt => "halt.target",
            });
        }
    }
}
